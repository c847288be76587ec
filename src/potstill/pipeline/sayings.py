"""Tasks that say texts, in a seed's run: what their teachers teach, and what systems say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from potstill.config import RunFile
from potstill.core.device import Device
from potstill.core.stages import Stage, StageFolder
from potstill.evaluation.outcome import TaskOutcome
from potstill.models.pieces import GREEDY, Decoding
from potstill.pipeline.loading import settings_for
from potstill.students.lesson import Lesson
from potstill.targets.store import SoftTargets
from potstill.targets.texts import Engine, label_pieces, quick_engine, say
from potstill.tasks.task import Split, Task, truth_of
from potstill.teachers.member import Member
from potstill.training.sequence_network import as_texts


class Repetition(Protocol):
    """What is asked of a seed's run."""

    run: RunFile
    stages: StageFolder
    device: Device

    @property
    def prefix(self) -> str:
        """What progress puts before a stage's name."""


def decoding_of(run: RunFile) -> Decoding:
    """How a run file asks texts to be looked for."""
    section = run.decoding
    return Decoding(beams=section.beams, length_penalty=section.length_penalty)


def text_lesson(
    run: Repetition, task: Task, members: Sequence[Member], judges: Sequence[Member]
) -> Lesson:
    """What an ensemble teaches of a task: pieces of targets, or its own texts.

    Args:
        run: The repetition.
        task: The task.
        members: Whose opinions are taught.
        judges: Whose dev score the student is compared with.
    """
    what = f"{run.prefix}labelling {task.name}"
    pieces: Callable[[], SoftTargets] | None = None
    digests: list[str] = []
    texts: list[str | None] = []
    rows: list[Split] = []
    if run.run.distill.objective == "sequence":
        rows.append(task.train)
    else:
        pieces, digests = label_pieces(run.stages, members, task, device=run.device, what=what)
    if task.pool is not None:
        rows.append(task.pool)
    if rows:
        engine = quick_engine()
        if engine == "torch":
            run.stages.progress.say(
                "ctranslate2 is not installed: teachers say their texts in torch, which is slower "
                "(pip install 'potstill[translation]')",
                once=True,
            )
        texts, digest = _say(
            run, members, task, rows, decoding_of(run.run), f"{what} (texts)", engine
        )
        digests.append(digest)
    score = None
    if pieces is not None:
        # Greedy, as the student's dev texts are while it learns: they decide when it is ahead.
        dev, _ = _say(run, judges, task, [task.dev], GREEDY, f"{what} (dev)")
        if all(text is not None for text in dev):
            score = task.metric.score(truth_of(task, task.dev), as_texts([str(t) for t in dev]))
    return Lesson(targets=None, digests=digests, teacher_dev=score, pieces=pieces, texts=texts)


def said(
    run: Repetition, members: Sequence[Member], task: Task, split: Split, what: str
) -> np.ndarray | None:
    """(N,) what members together say to a split; None where they do not answer every row."""
    texts, _ = _say(run, members, task, [split], decoding_of(run.run), what)
    if any(text is None for text in texts):
        return None
    return as_texts([str(text) for text in texts])


def text_outcome(
    run: Repetition, task: Task, systems: Mapping[str, Stage], ensemble: Sequence[Member]
) -> TaskOutcome:
    """What every system says to one task's reported rows."""
    split = task.reported
    predictions: dict[str, np.ndarray] = {}
    for name, stage in systems.items():
        member = Member(name=name, folder=stage.folder, digest=stage.digest)
        texts = said(run, [member], task, split, f"{run.prefix}{name} on {task.name}")
        if texts is None:
            raise ValueError(f"{name} says nothing to rows of {task.name}")
        predictions[name] = texts
    members: list[dict[str, object]] = []
    if ensemble:
        together = said(run, ensemble, task, split, f"{run.prefix}ensemble on {task.name}")
        if together is not None:  # else the run said so when it looked at the given texts
            predictions["ensemble"] = together
            truth = truth_of(task, split)
            texts_of = {}
            several = len(ensemble) > 1
            dev = {m.name: _dev_score(run, m, task) if several else m.dev for m in ensemble}
            for member in ensemble:
                own = said(run, [member], task, split, f"{run.prefix}{member.name} on {task.name}")
                if own is not None:
                    texts_of[member.name] = own
                    score = task.metric.score(truth, own)
                    members.append(
                        {
                            "task": task.name,
                            "member": member.name,
                            "dev": dev[member.name],
                            "test": None if task.test is None else score,
                        }
                    )
            best = max(texts_of, key=lambda name: dev[name] or 0.0)
            predictions["teacher_best"] = texts_of[best]
    return TaskOutcome(
        task=task.name,
        kind=task.kind,
        metric=task.metric,
        split_name="dev" if task.test is None else "test",
        split=split,
        groups=None,
        inputs=task.inputs.in_order(split.inputs),
        truth=truth_of(task, split),
        predictions=predictions,
        members=members,
    )


def _dev_score(run: Repetition, member: Member, task: Task) -> float | None:
    """A member's score on dev, said anew for one that was given; None where it covers not all."""
    if member.dev is not None:
        return member.dev
    own = said(run, [member], task, task.dev, f"{run.prefix}{member.name} on {task.name} (dev)")
    return None if own is None else task.metric.score(truth_of(task, task.dev), own)


def _say(
    run: Repetition,
    members: Sequence[Member],
    task: Task,
    rows: Sequence[Split],
    decoding: Decoding,
    what: str,
    engine: Engine = "torch",
) -> tuple[list[str | None], str]:
    return say(
        run.stages,
        members,
        task,
        rows,
        decoding=decoding,
        device=run.device,
        max_tokens=settings_for(run.run, "teachers").max_tokens,
        what=what,
        engine=engine,
    )
