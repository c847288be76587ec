"""Lessons in saying texts: teachers' texts as targets, and what they think of each piece.

    word level       L = (1 - a) NLL(target) + a KD(pieces that the teachers kept)
    sequence level   L = NLL(target), the teachers' text being the target of a share a of the rows
    pool rows        L = NLL(the teachers' text)

(Kim and Rush 2016, arXiv 1606.07947; Tan et al. 2019, arXiv 1902.10461.) Knows the store, never
the teachers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from potstill.students.lesson import Lesson, TaskDistillation
from potstill.tasks.rowids import fold_of
from potstill.tasks.task import Split, Task, pair_ids
from potstill.training.feed import SoftFeed
from potstill.training.prepare import Extra

_SHARES = 1000


def prepare_text_lesson(
    task: Task, lesson: Lesson, how: TaskDistillation
) -> tuple[Extra, dict[str, Any]]:
    """Line up with a task's rows what its teachers say, and weigh hard against soft.

    Returns:
        What the training takes, and how many rows the teachers cover.
    """
    train = task.train
    labels = [] if train.labels is None else [str(text) for text in train.labels]
    pool, said = pool_with_texts(task, lesson)
    hard, soft, texts = np.ones(len(train)), None, labels
    if lesson.pieces is not None:
        soft, covered = _pieces(task, lesson, how, len(said))
        share = 1.0 if how.objective == "soft_only" else how.soft_weight
        hard = np.where(covered, 1.0 - share, 1.0)
    else:
        own = lesson.texts[: len(train)]
        covered = np.array([bool(text) for text in own], bool)  # to say nothing is no target
        # Which rows is a matter of their ids: the same in every run and epoch.
        taken = covered & (fold_of(train.ids, _SHARES) < round(how.soft_weight * _SHARES))
        texts = [
            text if take and text is not None else label
            for label, text, take in zip(labels, own, taken, strict=True)
        ]
    facts = {
        "train_rows": len(train),
        "train_covered": int(covered.sum()),
        "pool_rows": 0 if task.pool is None else len(task.pool),
        "pool_covered": 0 if pool is None else len(pool),
    }
    weights = np.concatenate([hard, np.full(len(said), how.pool_weight)])
    return Extra(pool=pool, hard_weights=weights, soft=soft, texts=[*texts, *said]), facts


def _pieces(
    task: Task, lesson: Lesson, how: TaskDistillation, n_pool: int
) -> tuple[SoftFeed, np.ndarray]:
    """Soft targets of the training targets' places, and which rows have them."""
    if lesson.pieces is None:
        raise ValueError("a lesson without pieces")
    ids, targets = pair_ids(task.train), lesson.pieces()
    slots = targets.slots_at(ids)
    members, cover = targets.find(ids, slots)
    covered = np.asarray(cover.any(0))
    rows = np.repeat(np.arange(len(slots)), slots)
    temperature = 1.0 if how.objective == "annealed" else how.temperature
    combined = task.kind.combine(
        members, cover[:, rows], rows, temperature=temperature, space="probabilities"
    )
    share = 1.0 if how.objective == "soft_only" else how.soft_weight
    return SoftFeed(
        targets=combined,
        weights=np.concatenate([share * covered, np.zeros(n_pool)]).astype(np.float32),
        space="probabilities",
        temperature=temperature,
        annealed=how.objective == "annealed",
        teacher_dev=lesson.teacher_dev,
        stop_margin=how.stop_when_ahead,
        rechecked=True,
    ), covered


def pool_with_texts(task: Task, lesson: Lesson) -> tuple[Split | None, Sequence[str]]:
    """The pool rows to which teachers say something, and what."""
    pool = task.pool
    if pool is None:
        return None, []
    said = lesson.texts[len(lesson.texts) - len(pool) :]
    known = [i for i, text in enumerate(said) if text]
    if not known:
        return None, []
    return pool.take(np.array(known)), [str(said[i]) for i in known]
