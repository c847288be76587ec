"""Distil soft targets and labels into one multi-task student.

    L = (1 - a) CE(y, P) + a T^2 CE(Q_T, P_T)        on labelled rows with a soft target
    L = CE(y, P)                                     on labelled rows without one
    L = T^2 CE(Q_T, P_T)                             on pool rows

(Liu et al. 2019, arXiv 1904.09482, eq. 1 to 4; Q is the mean of the members' probabilities.)
Knows the store, never the teachers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from potstill.core.device import Device
from potstill.core.errors import DataError
from potstill.core.stages import Stage, StageFolder
from potstill.kinds import Space
from potstill.students.lesson import Lesson, TaskDistillation
from potstill.students.text_lesson import pool_with_texts, prepare_text_lesson
from potstill.tasks.pools import join_groups, whole_groups
from potstill.tasks.task import Split, Task, shared_texts, slots_of
from potstill.training.checkpoint import SCRATCH
from potstill.training.feed import SoftFeed
from potstill.training.prepare import Extra, NetworkPlan, train_network
from potstill.training.settings import TrainSettings


def distill(
    stages: StageFolder,
    tasks: Sequence[Task],
    plan: NetworkPlan,
    settings: TrainSettings,
    *,
    lessons: Mapping[str, Lesson],
    how: Mapping[str, TaskDistillation],
    seed: int,
    device: Device,
    what: str,
) -> Stage:
    """Train a student on labels and soft targets, or find the one that stands.

    Args:
        stages: Where students stand.
        tasks: All tasks; those without a lesson learn from labels alone.
        plan: What the student starts from.
        settings: How it is trained.
        lessons: Task name to what its teachers say.
        how: Task name to how it is distilled; for every task with a lesson.
        seed: Decides heads, batches and masks.
        device: Where, and in which precision.
        what: How progress names it.

    Raises:
        Stopped: Stop was requested; the same call continues.
        DataError: A task has a pool but no teacher that could label it.
    """
    for task in tasks:
        if task.pool is not None and task.name not in lessons:
            raise DataError(
                f"task '{task.name}', pool",
                got="unlabelled rows, but no teacher for the task",
                wanted="a teacher that can label them",
                todo="name the task under `teachers: {tasks: …}`, or take its pool away",
            )
    shared = shared_texts(tasks, pools=True, task_token=plan.task_token)
    facts = {
        "tasks": {task.name: task.digest for task in tasks},
        "order": [task.name for task in tasks],  # heads and batches are drawn in this order
        "pools": {task.name: task.pool.digest for task in tasks if task.pool is not None},
        "plan": plan.facts(tasks),
        "settings": settings.facts({task.name: task.kind for task in tasks}),
        "lessons": {name: list(lesson.digests) for name, lesson in sorted(lessons.items())},
        # Rounded: the last digits of a score hang on the machine, which is no part of a digest.
        "ahead_of": {
            name: None if lesson.teacher_dev is None else round(lesson.teacher_dev, 9)
            for name, lesson in sorted(lessons.items())
            if how[name].stop_when_ahead is not None
        },
        "how": {name: asdict(how[name]) for name in sorted(lessons)},
        "seed": seed,
        "precision": device.precision,
        **shared,
    }

    def build(folder: Path) -> None:
        extras, cover = {}, {}
        for task in tasks:
            if task.name in lessons:
                prepare = prepare_text_lesson if task.kind.generates else prepare_lesson
                extras[task.name], cover[task.name] = prepare(
                    task, lessons[task.name], how[task.name]
                )
        train_network(
            folder,
            tasks,
            plan,
            settings,
            extras=extras,
            seed=seed,
            device=device,
            progress=stages.progress,
            name=what,
            record={"cover": cover},
            shared=shared.get("shared", ()),
        )

    return stages.make("student", facts, build, what=what, scratch=SCRATCH)


def prepare_lesson(
    task: Task, lesson: Lesson, how: TaskDistillation
) -> tuple[Extra, dict[str, Any]]:
    """Line soft targets up with a task's rows, by row id, and weigh hard against soft.

    Returns:
        What the training takes, and how many rows the teachers cover.
    """
    if lesson.targets is None:
        raise ValueError("a lesson without soft targets")
    pool = taught_pool(task, lesson)
    splits: list[Split] = [task.train] + ([] if pool is None else [pool])
    ids = np.concatenate([split.ids for split in splits])
    counts = [slots for split in splits if (slots := slots_of(task, split)) is not None]
    slots = np.concatenate(counts) if counts else None
    members, cover = lesson.targets.find(ids, slots)
    lists = join_groups(splits)
    if lists is not None:  # an opinion on a part of a list says nothing of its order
        cover = np.stack([whole_groups(own, lists)[lists] for own in cover])
    teacher_rows = np.asarray(cover.any(0))
    has_target = whole_groups(teacher_rows, lists)
    groups = lists
    if slots is not None:
        groups = np.repeat(np.arange(len(slots)), slots)
        cover = cover[:, groups]
    space: Space = "logits" if how.objective == "logit_mse" else "probabilities"
    temperature = 1.0 if how.objective == "annealed" else how.temperature
    combined = task.kind.combine(members, cover, groups, temperature=temperature, space=space)
    n_train = len(task.train) if task.train.groups is None else int(task.train.groups.max()) + 1
    labelled = np.arange(len(has_target)) < n_train
    soft_share = 1.0 if how.objective == "soft_only" else how.soft_weight
    soft = np.where(labelled, soft_share, how.pool_weight) * has_target
    hard = np.where(has_target[:n_train], 1.0 - soft_share, 1.0)
    facts = {
        "train_rows": len(task.train),
        "train_covered": int(teacher_rows[: len(task.train)].sum()),
        "pool_rows": 0 if task.pool is None else len(task.pool),
        "pool_covered": 0 if pool is None else len(pool),
    }
    feed = SoftFeed(
        targets=combined.astype(np.float32),
        weights=soft.astype(np.float32),
        space=space,
        temperature=temperature,
        annealed=how.objective == "annealed",
        teacher_dev=lesson.teacher_dev,
        stop_margin=how.stop_when_ahead,
    )
    return Extra(pool=pool, hard_weights=hard, soft=feed), facts


def taught_pool(task: Task, lesson: Lesson) -> Split | None:
    """The pool rows that some member has labelled; lists only where all their rows are."""
    pool, targets = task.pool, lesson.targets
    if pool is None:
        return None
    if targets is None:
        return pool_with_texts(task, lesson)[0]
    known = np.asarray(targets.covers(pool.ids).any(0))
    if pool.groups is not None:
        known = whole_groups(known, pool.groups)[pool.groups]
    if known.all():
        return pool
    return pool.take(np.flatnonzero(known)) if known.any() else None
