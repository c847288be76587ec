"""Train one network on labels: a teacher's member, or a baseline, which is the same thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from potstill.core.device import Device
from potstill.core.errors import DataError
from potstill.core.files import digest_json
from potstill.core.stages import Stage, StageFolder
from potstill.tasks.task import Task, folds, shared_texts
from potstill.training.checkpoint import SCRATCH
from potstill.training.prepare import Extra, NetworkPlan, train_network
from potstill.training.settings import TrainSettings


def finetune(
    stages: StageFolder,
    tasks: Sequence[Task],
    plan: NetworkPlan,
    settings: TrainSettings,
    *,
    seed: int,
    device: Device,
    what: str,
    fold: tuple[int, int] | None = None,
) -> Stage:
    """Train a network on the labels of one or more tasks, or find the one that stands.

    Args:
        stages: Where networks stand.
        tasks: What it learns.
        plan: What to start from.
        settings: How to train.
        seed: Decides heads, batches and masks.
        device: Where, and in which precision.
        what: How progress names it.
        fold: (k, n): leave out the k-th of n folds of every task's train rows.

    Raises:
        Stopped: Stop was requested; the same call continues.
        ArtefactError: The network stands but is damaged.
    """
    shared = shared_texts(tasks, pools=False, task_token=plan.task_token)
    facts = {
        "tasks": {task.name: task.digest for task in tasks},
        "order": [task.name for task in tasks],  # heads and batches are drawn in this order
        "plan": plan.facts(tasks),
        "settings": settings.facts({task.name: task.kind for task in tasks}),
        "seed": seed,
        "precision": device.precision,
        "fold": None if fold is None else list(fold),
        **({} if fold is None else {"folds": _folds_digest(tasks, fold[1])}),
        **shared,
    }

    def build(folder: Path) -> None:
        train_network(
            folder,
            tasks,
            plan,
            settings,
            extras=without_fold(tasks, fold),
            seed=seed,
            device=device,
            progress=stages.progress,
            name=what,
            record={"fold": facts["fold"]},
            shared=shared.get("shared", ()),
        )

    return stages.make("network", facts, build, what=what, scratch=SCRATCH)


def _folds_digest(tasks: Sequence[Task], n_folds: int) -> str:
    """Which rows share a fold; how that is decided may change, and networks with it."""
    return digest_json({task.name: folds(task, n_folds).tolist() for task in tasks})


def without_fold(tasks: Sequence[Task], fold: tuple[int, int] | None) -> Mapping[str, Extra]:
    """Which train rows a network learns from that leaves out fold (k, n).

    Raises:
        DataError: All rows of a task are in that fold.
    """
    if fold is None:
        return {}
    k, n = fold
    extras = {t.name: Extra(rows=np.flatnonzero(folds(t, n) != k)) for t in tasks}
    for name, extra in extras.items():
        if extra.rows is not None and not len(extra.rows):
            raise DataError(
                f"task '{name}', train",
                got=f"all rows in fold {k + 1} of {n}: they belong together, such as the "
                "candidates of one query or the questions on one passage",
                wanted="rows that can be parted, so that each network learns from some",
                todo="give more queries or passages, or set `teachers: {cross_fit: false}`",
            )
    return extras
