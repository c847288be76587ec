"""A tiny student with tasks of each toy kind, and its bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from potstill.core.files import seal
from potstill.core.progress import Progress
from potstill.export import choose
from potstill.export.engines import ENGINES, engines_here
from potstill.export.write import Exported, write_bundle
from potstill.kinds import Multilabel, Span
from potstill.models.encoder import Pooling
from potstill.students.student import Student
from potstill.tasks.task import Task
from potstill.training.network import Network, save_network
from tests.tiny import tiny_network, toy_task
from tests.toys import TOYS, toy_rows


@contextmanager
def quick_measuring() -> Iterator[None]:
    """Time engines once and briefly: tests do not ask which is the fastest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "_ROUNDS", 1)
        patch.setattr(choose, "_SECONDS", 0.0)
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyBundle:
    """A student and what was exported of it."""

    student: Student
    tasks: dict[str, Task]
    done: Exported


def network_of(student: Student) -> Network:
    """Its encoder with heads."""
    assert isinstance(student.network, Network)
    return student.network


def make_student(
    base: Path,
    folder: Path,
    pooling: Pooling = "mean",
    *,
    tasks: Mapping[str, Task] | None = None,
    max_tokens: int = 32,
    task_token: bool = False,
) -> tuple[Student, dict[str, Task]]:
    """An untrained student whose heads answer differently for every row; by default of all toys."""
    if tasks is None:
        tasks = {kind: toy_task(kind, train=16, dev=8) for kind in TOYS}
    network = tiny_network(
        base,
        list(tasks.values()),
        seed=3,
        pooling=pooling,
        max_tokens=max_tokens,
        task_token=task_token,
    )
    torch.manual_seed(4)
    for task in network.tasks:
        for parameter in network.model.head(task).parameters():
            torch.nn.init.normal_(parameter)
    save_network(network, folder)
    seal(folder, {"stage": "student", "digest": "a student"})
    return Student.load(folder, device="cpu", precision="fp32"), dict(tasks)


def make_bundle(base: Path, folder: Path, **how: Any) -> ToyBundle:
    """Export a toy student with the engines that are here and compute what it computes."""
    student, tasks = make_student(base, folder / "student", **how)
    with quick_measuring():
        done = write_bundle(
            student.network,
            folder / "bundle",
            name="toys",
            student=student.folder,
            splits={name: task.dev for name, task in tasks.items()},
            engines=[name for name in engines_here() if ENGINES[name].exact],
            max_drop=1.0,
            threads=1,
            packed=folder / "bundle.zip",
            progress=Progress(quiet=True),
        )
    return ToyBundle(student=student, tasks=tasks, done=done)


def word_tasks() -> dict[str, Task]:
    """A class and tags for the same words, and tasks with several labels and with passages."""
    rows = toy_rows("tagging", 24)
    marked = [{**row, "label": str(row["tags"][0] != "O")} for row in rows]  # type: ignore[index]
    return {
        "opening": toy_task(
            name="opening", train=marked[:16], dev=marked[16:], columns=("tokens",)
        ),
        "tags": toy_task("tagging", name="tags", train=rows[:16], dev=rows[16:]),
        "topics": replace(
            toy_task("multilabel", name="topics", train=16, dev=8),
            kind=Multilabel(classes=("animal", "blame", "praise"), thresholds=(0.3, 0.6, 0.9)),
        ),
        "answer": replace(
            toy_task("unanswerable", name="answer", train=16, dev=8),
            kind=Span(unanswerable=True, margin=-0.5),
        ),
    }
