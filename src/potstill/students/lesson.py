"""What a task's teachers have to teach, and how it is taught."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from potstill.targets.store import SoftTargets

Objective = Literal["average", "annealed", "logit_mse", "soft_only", "sequence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDistillation:
    """How one task is distilled.

    Attributes:
        objective: ``average`` mixes with fixed weights; ``annealed`` moves from soft to hard
            (BAM, arXiv 1907.04829); ``logit_mse`` compares logits (Kim et al. 2021, arXiv
            2105.08919); ``soft_only`` ignores the labels of rows that have a soft target;
            ``sequence`` takes the teachers' texts as targets (Kim and Rush 2016, arXiv 1606.07947).
        soft_weight: a, the weight of the soft loss on labelled rows; for ``sequence`` the share of
            rows whose target is the teachers' text.
        temperature: T.
        pool_weight: Weight of a pool row; a labelled row has 1.
        stop_when_ahead: Switch the soft loss off once the student's dev score passes the
            ensemble's by this margin; None never does.
    """

    objective: Objective = "average"
    soft_weight: float = 0.5
    temperature: float = 1.0
    pool_weight: float = 1.0
    stop_when_ahead: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesson:
    """What a task's teachers have to teach.

    Attributes:
        targets: The opinions of the ensemble on train and pool rows; None of teachers that say
            texts.
        digests: Digests of the stages that the opinions came from.
        teacher_dev: The ensemble's dev score, where known.
        pieces: Opens what teachers that say texts think of each piece of the training targets; None
            where they teach by their texts alone.
        texts: What teachers that say texts say to train rows, where it is taught, then to pool
            rows; None where they say nothing.
    """

    targets: SoftTargets | None
    digests: Sequence[str]
    teacher_dev: float | None = None
    pieces: Callable[[], SoftTargets] | None = None
    texts: Sequence[str | None] = ()
