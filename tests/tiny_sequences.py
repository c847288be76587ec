"""A tiny encoder-decoder that says something, as student and as bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from potstill.core.files import seal
from potstill.core.progress import Progress
from potstill.export.write import Exported, write_bundle
from potstill.models.pieces import Decoding
from potstill.models.sequence import Architecture
from potstill.students.student import Student
from potstill.tasks.task import Task
from potstill.training.network import save_network
from potstill.training.sequence_network import SequenceNetwork, forced
from tests.sequences import sequence_base, sequence_network, sequence_task
from tests.tiny import CPU

ARCHITECTURE = Architecture(
    width=16, layers=2, heads=2, feed_forward=32, dropout=0.0, max_tokens=64
)
_STEPS = 150


def teach(network: SequenceNetwork, tasks: Sequence[Task], *, seed: int) -> None:
    """Some steps on the tasks' rows: from then on texts differ, and end.

    Fresh weights say one piece for ever, that whose vector happens to be liked best.
    """
    torch.manual_seed(seed)
    model = network.model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batches = []
    for task in tasks:
        sources = network.tokenise(task.name, task.train.inputs)
        assert task.train.labels is not None
        targets = network.tokenise_targets(task.train.labels.tolist())
        rows = np.arange(len(sources))
        wanted = torch.from_numpy(targets.ids.astype(np.int64))
        batches.append((forced(network, sources, targets, rows, CPU), wanted))
    for step in range(_STEPS):
        inputs, wanted = batches[step % len(batches)]
        loss = functional.cross_entropy(model(*inputs), wanted)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    model.eval()


def tiny_sequence_network(
    folder: Path,
    tasks: Sequence[Task],
    *,
    seed: int = 0,
    decoding: Decoding | None = None,
    max_tokens: int = 32,
) -> SequenceNetwork:
    """A network that was taught a little; ``folder`` becomes its base."""
    base = sequence_base(folder, architecture=ARCHITECTURE)
    network = sequence_network(base, tasks, seed=seed, max_tokens=max_tokens, decoding=decoding)
    teach(network, tasks, seed=seed)
    return network


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceBundle:
    """A student and what was exported of it."""

    student: Student
    network: SequenceNetwork
    tasks: dict[str, Task]
    done: Exported


def make_sequence_student(
    folder: Path, *, decoding: Decoding | None = None
) -> tuple[Student, SequenceNetwork, dict[str, Task]]:
    """A student of two directions in ``folder/student``."""
    tasks = {language: sequence_task(language) for language in ("de", "fr")}
    network = tiny_sequence_network(
        folder / "base", list(tasks.values()), decoding=decoding or Decoding(beams=1)
    )
    save_network(network, folder / "student")
    seal(folder / "student", {"stage": "student", "digest": "a student"})
    student = Student.load(folder / "student", device="cpu", precision="fp32")
    assert isinstance(student.network, SequenceNetwork)
    return student, student.network, tasks


def make_sequence_bundle(
    folder: Path, *, decoding: Decoding | None = None, engines: Sequence[str] | None = None
) -> SequenceBundle:
    """Export such a student; by default greedy, with the engine that computes what it computes."""
    student, network, tasks = make_sequence_student(folder, decoding=decoding)
    done = write_bundle(
        network,
        folder / "bundle",
        name="toys",
        student=student.folder,
        splits={name: task.dev for name, task in tasks.items()},
        engines=["ctranslate2-fp32"] if engines is None else engines,
        max_drop=1.0,
        threads=1,
        packed=folder / "bundle.zip",
        progress=Progress(quiet=True),
    )
    return SequenceBundle(student=student, network=network, tasks=tasks, done=done)
