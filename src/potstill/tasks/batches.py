"""Which rows make which batch: one task a batch, token budgets, length buckets, task mixing.

Pure arithmetic on lengths: knows no text, no tensors, no model. Everything is a function of the
seed and the epoch, so an interrupted run finds its place by counting.

A *unit* is what must stay together: a row, or all candidates of a query.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Mixing = Literal["proportional", "equal", "sqrt", "annealed"] | float
"""How often tasks are visited; a number is the temperature t of shares n^(1/t)."""

_LEAST_ROWS = 16  # a part of a step: smaller ones waste the processor
_BUCKET_BATCHES = 32  # batches sorted by length together: enough to pack well, few enough to mix


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitLengths:
    """The sizes of a task's units.

    Attributes:
        tokens: (U,) tokens of each unit's longest row.
        rows: (U,) rows of each unit.
    """

    tokens: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, tokens: np.ndarray, groups: np.ndarray | None) -> UnitLengths:
        """From row lengths (N,) and, for grouped kinds, the unit (N,) of each row."""
        if groups is None:
            return cls(tokens=np.asarray(tokens), rows=np.ones(len(tokens), np.int64))
        rows = np.bincount(groups)
        longest = np.zeros(len(rows), np.int64)
        np.maximum.at(longest, groups, tokens)
        return cls(tokens=longest, rows=rows)

    def budget(self, batch: float) -> float:
        """Padded tokens of a batch that has ``batch`` rows of the mean length."""
        return batch * float((self.tokens * self.rows).sum() / self.rows.sum())

    def padded(self, units: np.ndarray) -> int:
        """Tokens of a batch of these units, each row as long as the longest."""
        return int(self.rows[units].sum() * self.tokens[units].max())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlannedBatch:
    """A batch of one task; an optimiser step sums one or several.

    Attributes:
        task: The task.
        units: Indices of the units.
    """

    task: str
    units: np.ndarray


def task_shares(
    n_units: Mapping[str, int], mixing: Mixing, epoch: int, n_epochs: int
) -> dict[str, float]:
    """The share of each task in an epoch; sums to 1.

    ``proportional`` is Algorithm 1 of Liu et al. 2019 (arXiv 1901.11504): every row once an
    epoch. ``equal`` gives every task the same share (the patent's translation set-up), ``sqrt``
    and a temperature t lie between. ``annealed`` goes from proportional towards equal, shares
    n^a with a = 1 - 0.8 e / (E - 1) (Stickland and Murray 2019, arXiv 1902.02671).
    """
    if mixing == "proportional":
        power = 1.0
    elif mixing == "equal":
        power = 0.0
    elif mixing == "sqrt":
        power = 0.5
    elif mixing == "annealed":
        power = 1.0 - 0.8 * epoch / max(n_epochs - 1, 1)
    else:
        power = 1.0 / float(mixing)
    largest = max(n_units.values())  # powers of large numbers overflow
    weights = {task: (n / largest) ** power for task, n in n_units.items()}
    total = sum(weights.values())
    return {task: weight / total for task, weight in weights.items()}


def units_of_epoch(
    n_units: Mapping[str, int], mixing: Mixing, epoch: int, n_epochs: int
) -> dict[str, int]:
    """How many units of each task an epoch has: of all tasks together as many as there are."""
    if mixing == "proportional":
        return dict(n_units)
    total = sum(n_units.values())
    shares = task_shares(n_units, mixing, epoch, n_epochs)
    return {task: max(1, round(share * total)) for task, share in shares.items()}


def plan_epochs(
    units: Mapping[str, UnitLengths],
    *,
    batch: float,
    mixing: Mixing,
    n_epochs: int,
    seed: int,
) -> list[list[PlannedBatch]]:
    """Plan every batch of a training run.

    A batch is filled up to a budget of tokens, ``batch`` times the task's mean tokens a row, so
    that it holds ``batch`` rows on average, more short ones or fewer long ones. Rows of similar
    length share a batch; which ones is drawn anew each epoch. Batches of all tasks are shuffled
    together. An epoch has as many units as all tasks together, whatever the mixing.

    Args:
        units: Sizes of the units of each task.
        batch: Rows a batch, on average.
        mixing: How often tasks are visited.
        n_epochs: Number of epochs.
        seed: Seed of every draw.

    Returns:
        The batches of each epoch.
    """
    n_units = {task: len(sizes.rows) for task, sizes in units.items()}
    taken = dict.fromkeys(units, 0)
    epochs = []
    for epoch in range(n_epochs):
        drawn = units_of_epoch(n_units, mixing, epoch, n_epochs)
        planned: list[PlannedBatch] = []
        for task, sizes in units.items():
            n = drawn[task]
            chosen = _draw(n_units[task], taken[task], n, _seeds(seed, task))
            taken[task] += n
            rng = np.random.default_rng([*_seeds(seed, task), 1, epoch])
            planned += [PlannedBatch(task=task, units=u) for u in _cut(chosen, sizes, batch, rng)]
        order = np.random.default_rng([seed, 2, epoch]).permutation(len(planned))
        epochs.append([planned[i] for i in order])
    return epochs


def joined(
    batches: Sequence[PlannedBatch],
    keep: Callable[[PlannedBatch], np.ndarray],
    units: Mapping[str, UnitLengths],
    *,
    batch: float,
) -> Iterator[list[PlannedBatch]]:
    """Planned batches without some of their units; what is left is joined up to the usual size.

    Args:
        batches: Of an epoch.
        keep: The units of a batch that stay.
        units: As for :func:`plan_epochs`.
        batch: As for :func:`plan_epochs`.

    Yields:
        For each of ``batches`` those that are full then, one at most; with the last all others. A
        batch that keeps its units is given as it is.
    """
    held: dict[str, np.ndarray] = {}
    for number, planned in enumerate(batches, 1):
        task, ready = planned.task, []
        kept, before = keep(planned), held.pop(planned.task, None)
        if before is None and len(kept) == len(planned.units):
            ready.append(planned)
        elif before is None:
            held[task] = kept
        else:
            both, sizes = np.concatenate([before, kept]), units[task]
            full = len(before) and len(kept) and sizes.padded(both) > sizes.budget(batch)
            if full:
                ready.append(PlannedBatch(task=task, units=before))
            held[task] = kept if full else both
        if number == len(batches):
            ready += [PlannedBatch(task=t, units=u) for t, u in held.items() if len(u)]
        yield ready


def token_batches(tokens: np.ndarray, budget: int) -> list[np.ndarray]:
    """Batches for inference: rows by falling length, each at most ``budget`` padded tokens."""
    order = np.argsort(-np.asarray(tokens), kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, budget // max(int(tokens[order[start]]), 1))
        batches.append(order[start : start + size])
        start += size
    return batches


def parts_of_step(n_tasks: int, batch: int, most: int) -> int:
    """In how many batches, each of one task, the ``batch`` rows of an optimiser step come.

    Steps that see several tasks have steadier gradients than steps of one (``docs/log.md`` has the
    numbers). With ``most`` 1 every step learns one task: Algorithm 1 of Liu et al. 2019.
    """
    return max(1, min(n_tasks, most, batch // _LEAST_ROWS))


def rows_per_batch(sizes: UnitLengths, batch: int) -> float:
    """Mean units a batch: the constant that a batch's summed loss is divided by."""
    return batch / float(sizes.rows.mean())


def _seeds(seed: int, task: str) -> list[int]:
    return [seed, zlib.crc32(task.encode())]


def _draw(n_units: int, start: int, n: int, seeds: list[int]) -> np.ndarray:
    """Units ``start`` to ``start + n`` of an endless row of fresh permutations."""
    first, last = start // n_units, (start + n - 1) // n_units
    endless = np.concatenate(
        [np.random.default_rng([*seeds, 0, k]).permutation(n_units) for k in range(first, last + 1)]
    )
    offset = start - first * n_units
    return endless[offset : offset + n]


def _cut(
    chosen: np.ndarray, sizes: UnitLengths, batch: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """Cut units into batches of similar length within the token budget."""
    tokens, rows = sizes.tokens, sizes.rows
    budget = sizes.budget(batch)
    mean_rows = float(rows.mean())
    bucket = max(1, round(_BUCKET_BATCHES * batch / mean_rows))
    n_buckets = max(1, math.ceil(len(chosen) / bucket))
    batches = []
    for part in np.array_split(chosen, n_buckets):
        # Ties in length are broken at random, so that equal lengths still mix.
        order = part[np.lexsort((rng.random(len(part)), -tokens[part]))]
        start = 0
        while start < len(order):
            longest = int(tokens[order[start]])
            filled = np.cumsum(rows[order[start:]]) * longest
            size = max(1, int(np.searchsorted(filled, budget, side="right")))
            batches.append(order[start : start + size])
            start += size
    return batches
