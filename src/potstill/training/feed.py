"""What one task brings to a training: rows as tokens, labels, soft targets and their weights.

Whoever trains (a teacher on labels, a student on both) builds feeds; the loop only consumes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from potstill.core.arrays import ranges
from potstill.kinds import Kind, Space
from potstill.losses.mixing import anneal, mix
from potstill.metrics.metric import Metric
from potstill.models.token_rows import TokenRows, padded_lengths
from potstill.tasks.batches import UnitLengths


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DevFeed:
    """The rows that choose the best epoch.

    Attributes:
        tokens: N rows.
        truth: Labels as metrics read them.
        groups: (S,) group of each slot for grouped and slotted kinds.
        metric: The task's metric.
    """

    tokens: TokenRows
    truth: Any
    groups: np.ndarray | None
    metric: Metric

    def score(self, kind: Kind, outputs: np.ndarray) -> float:
        """The metric of outputs (S, C), with thresholds tuned where the kind has some."""
        tuned = self.tuned(kind, outputs)
        predictions = tuned.predict(outputs, self.groups)
        return self.metric.score(self.truth, predictions, kind.score_groups(self.groups))

    def tuned(self, kind: Kind, outputs: np.ndarray) -> Kind:
        """The kind with thresholds that suit these outputs."""
        if not kind.tunes:
            return kind
        return kind.tune(kind.predict(outputs, self.groups), self.truth, self.groups)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SoftFeed:
    """A task's soft targets in a training.

    Attributes:
        targets: (S, C) combined targets; slots without one are 0.
        weights: (U,) weight of each unit's soft loss; 0 where it has no target.
        space: What the targets are.
        temperature: T of probabilities.
        annealed: Weights of units with both targets move from soft to hard (BAM,
            arXiv 1907.04829) instead of standing still.
        teacher_dev: The ensemble's dev score, where known.
        stop_margin: Switch the soft loss off when the student's dev score passes the
            ensemble's by this much; None never does.
        rechecked: Switch it on again when the score falls back (Tan et al. 2019, arXiv 1902.10461).
    """

    targets: np.ndarray
    weights: np.ndarray
    space: Space
    temperature: float
    annealed: bool = False
    teacher_dev: float | None = None
    stop_margin: float | None = None
    rechecked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Feed:
    """One task in a training.

    Attributes:
        task: Its name.
        kind: Its kind and label space.
        tokens: N rows, labelled ones first, then pool rows.
        labels: (S,) or (S, K) labels of the slots; anything for pool rows.
        groups: (S,) group of each slot, for grouped and slotted kinds.
        labelled: (U,) true for units with labels, false for pool units.
        hard_weights: (U,) fp32 weight of each unit's hard loss; 0 for pool units.
        soft: Soft targets, or None.
        weight: Weight of the task's loss.
        dev: Rows that choose the best epoch.
        targets: N texts that a decoder is to say, each piece a slot; None for other kinds.
        sizes: (U,) fp32 what each unit weighs, where units do not weigh alike; the weights above
            hold it already.
    """

    task: str
    kind: Kind
    tokens: TokenRows
    labels: np.ndarray
    groups: np.ndarray | None
    labelled: np.ndarray
    hard_weights: np.ndarray
    soft: SoftFeed | None = None
    weight: float = 1.0
    dev: DevFeed
    targets: TokenRows | None = None
    sizes: np.ndarray | None = None

    @property
    def units(self) -> UnitLengths:
        """Sizes of the units: rows, with all their windows, or the lists of a grouped kind."""
        lengths, windows = padded_lengths(self.tokens.lengths), self.tokens.windows
        if self.targets is not None:
            return UnitLengths.of(np.maximum(lengths, padded_lengths(self.targets.lengths)), None)
        if windows is None or not self.kind.slotted:
            return UnitLengths.of(lengths[self.tokens.first_texts], self.groups)
        return UnitLengths.of(np.add.reduceat(lengths, windows[:-1]), None)

    @property
    def truncated_inputs(self) -> float:
        """Share of the rows whose inputs lost their end."""
        return float(self.tokens.truncated.mean())

    @property
    def truncated_targets(self) -> float:
        """Share of the targets that lost their end; 0 for tasks without."""
        return 0.0 if self.targets is None else float(self.targets.truncated.mean())

    def texts_of(self, units: np.ndarray) -> np.ndarray:
        """The texts of some units."""
        windows = self.tokens.windows
        if windows is not None and not self.kind.slotted:
            return np.asarray(windows[units])
        if windows is not None:
            return ranges(windows[units], windows[units + 1] - windows[units])
        return self.slots_of(units)[0]

    def slots_of(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The slots of units, and with groups the place (0..) of each slot's unit."""
        if self.groups is None:
            return units, None
        starts = np.searchsorted(self.groups, units)
        counts = np.searchsorted(self.groups, units, side="right") - starts
        return ranges(starts, counts), np.repeat(np.arange(len(units)), counts)

    def teaching(self, units: np.ndarray, *, soft_on: bool) -> np.ndarray:
        """(G,) true for units whose loss counts: not for pool rows once soft losses are off.

        Args:
            units: (G,) unit indices.
            soft_on: As for :meth:`loss`.
        """
        if self.soft is not None and not soft_on:
            return np.asarray(self.labelled[units])
        soft = np.zeros(1) if self.soft is None else self.soft.weights[units]
        return np.asarray((self.hard_weights[units] > 0) | (soft > 0))

    def loss(
        self,
        outputs: Tensor,
        units: np.ndarray,
        *,
        step: int,
        n_steps: int,
        soft_on: bool,
    ) -> Tensor:
        """Summed loss of a batch.

        Args:
            outputs: (B, C) of the units' slots.
            units: (G,) unit indices.
            step: Optimiser steps done, for annealing.
            n_steps: Optimiser steps of the whole training.
            soft_on: False once the task stopped distilling.
        """
        device = outputs.device
        slots, places = self.slots_of(units)
        groups = None if places is None else torch.from_numpy(places).to(device)
        labels = torch.from_numpy(self.labels[slots]).to(device, torch.float32)
        hard_weights = self.hard_weights[units]
        soft = self.soft
        if soft is None or not soft_on:
            hard = self.kind.hard_loss(outputs, labels, groups)
            if soft is not None:
                hard_weights = (self.labelled[units] * self._sizes(units)).astype(np.float32)
            return (hard * torch.from_numpy(hard_weights).to(device)).sum()
        soft_weights = soft.weights[units]
        if soft.annealed:
            both = self.labelled[units] & (soft_weights > 0)
            share = np.float32(anneal(step, n_steps))
            size = self._sizes(units)
            hard_weights = np.where(both, share * size, hard_weights)
            soft_weights = np.where(both, (1 - share) * size, soft_weights)
        hard, losses = self.kind.losses(
            outputs,
            labels,
            torch.from_numpy(soft.targets[slots]).to(device),
            groups,
            temperature=soft.temperature,
            space=soft.space,
        )
        to = torch.from_numpy
        return mix(hard, losses, to(hard_weights).to(device), to(soft_weights).to(device)).sum()

    def _sizes(self, units: np.ndarray) -> np.ndarray | np.float32:
        """What each unit weighs beside the others; they weigh alike but for their ``sizes``."""
        return np.float32(1) if self.sizes is None else self.sizes[units]
