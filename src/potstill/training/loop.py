"""The one training loop: teachers, baselines and students all pass through :func:`fit`.

It knows feeds and a model. What the rows are, where soft targets come from and what becomes of
the weights is its callers' business.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from potstill.core.device import keep_freed_memory
from potstill.core.errors import PotstillError
from potstill.core.progress import Progress
from potstill.tasks.batches import (
    PlannedBatch,
    joined,
    parts_of_step,
    plan_epochs,
    rows_per_batch,
)
from potstill.training.balance import GradientBalance, last_weight
from potstill.training.checkpoint import (
    TrainState,
    load_best,
    load_checkpoint,
    save_best,
    save_checkpoint,
)
from potstill.training.feed import Feed
from potstill.training.learner import Learner
from potstill.training.optimiser import build_optimiser, learning_rate_at, set_learning_rate
from potstill.training.passes import shared_passes
from potstill.training.settings import TrainSettings

_LOSS_EVERY = 10  # steps a point of the recorded loss curve


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """What a training leaves beside the weights.

    Attributes:
        state: History, best epoch and score, time.
        n_steps: Optimiser steps of the whole plan.
        n_rows: Rows of the whole plan, epochs counted.
    """

    state: TrainState
    n_steps: int
    n_rows: int

    def to_json(self) -> dict[str, object]:
        """The record that goes beside the weights; free of timings, which are no result."""
        facts = self.state.to_json()
        del facts["seconds"], facts["recent"]
        return {**facts, "n_steps": self.n_steps, "n_rows": self.n_rows}


def fit(
    learner: Learner,
    feeds: Sequence[Feed],
    *,
    settings: TrainSettings,
    seed: int,
    folder: Path,
    progress: Progress,
    name: str,
    shared: Sequence[Sequence[str]] = (),
) -> FitResult:
    """Train a model in place; afterwards it holds the weights of its best epoch on dev.

    The best epoch is the one with the highest mean dev score over the feeds' tasks.

    Args:
        learner: The model, with the means to answer all feeds' tasks.
        feeds: One a task.
        settings: How to train.
        seed: Decides batches and dropout masks.
        folder: Checkpoints live here, one every ``checkpoint_seconds`` or, at the end of an
            epoch, a quarter of it; a training that finds one continues from it. The last one
            stays: ``checkpoint.SCRATCH`` names what to remove when the weights are safe elsewhere.
        progress: Bar, log, and the request to stop.
        name: What the bar and the log call this training.
        shared: Tasks that learn from one encoder pass, where their tokens are the same.

    Raises:
        Stopped: Stop was requested; a checkpoint is saved.
        ResourceError: The disk is full; the last checkpoint stands.
        ArtefactError: The checkpoint to continue from is damaged.
        PotstillError: The loss is no longer a finite number.
    """
    keep_freed_memory()
    feeds = learner.begin(feeds)
    passes = shared_passes(feeds, shared)
    n_parts = parts_of_step(len(passes), settings.batch, settings.tasks_per_step)
    plan = plan_epochs(
        {name: own[0].units for name, own in passes.items()},
        batch=settings.batch / n_parts,
        mixing=settings.mixing,
        n_epochs=settings.epochs,
        seed=seed,
    )
    run = _Fit(learner, feeds, passes, plan, n_parts, settings, seed, folder, progress, name)
    run.train()
    run.restore_best()
    learner.end()
    learner.model.eval()
    sizes = {feed.task: feed.units.rows for feed in feeds}
    n_rows = sum(int(sizes[b.task][b.units].sum()) for epoch in plan for b in epoch)
    return FitResult(state=run.state, n_steps=run.n_steps, n_rows=n_rows)


class _Fit:
    """The state of one call of :func:`fit`."""

    def __init__(
        self,
        learner: Learner,
        feeds: Sequence[Feed],
        passes: Mapping[str, Sequence[Feed]],
        plan: list[list[PlannedBatch]],
        n_parts: int,
        settings: TrainSettings,
        seed: int,
        folder: Path,
        progress: Progress,
        name: str,
    ) -> None:
        self.learner = learner
        self.model = model = learner.model
        self.feeds = {feed.task: feed for feed in feeds}
        self.passes = passes
        self.plan = plan
        self.settings = settings
        self.seed = seed
        self.folder = folder
        self.progress = progress
        self.name = name
        self.optimiser = build_optimiser(
            model, settings, learner.never_decayed(), learner.head_rates(feeds, settings)
        )
        self.sizes = {name: own[0].units for name, own in passes.items()}
        self.batch = settings.batch / n_parts
        self.step_batches = n_parts * settings.accumulate
        self.step_rows = {  # units of a task that weigh as much as a whole step
            t: rows_per_batch(f.units, settings.batch) * settings.accumulate
            for t, f in self.feeds.items()
        }
        self.epoch_steps = [math.ceil(len(epoch) / self.step_batches) for epoch in plan]
        self.n_steps = sum(self.epoch_steps)
        self.state = load_checkpoint(folder, model, self.optimiser) or TrainState()
        self._recent = [
            (torch.tensor(loss, device=learner.device.torch), n) for loss, n in self.state.recent
        ]
        self.balance = (
            GradientBalance(last_weight(learner.shared), self.state.balance)
            if settings.balance == "gradients" and len(feeds) > 1
            else None
        )
        self._best: dict[str, Tensor] | None = None  # weights that are on no disk yet
        self._tick = time.monotonic()  # up to when the state's seconds count

    def train(self) -> None:
        """Run what is left of the plan."""
        state, settings = self.state, self.settings
        done_before = state.batches_done
        last_save = self._tick = time.monotonic()
        total = sum(len(epoch) for epoch in self.plan)
        if done_before:
            self.progress.log("continue", training=self.name, batches_done=done_before)
        with self.progress.bar(self.name, total, done_before) as bar:
            seen, step, nth = 0, -1, 0
            for epoch, batches in enumerate(self.plan):
                if self._out_of_patience(epoch):
                    break
                self.model.train()
                group: list[PlannedBatch] = []
                first, steps_before = seen, sum(self.epoch_steps[:epoch])
                for ready in joined(batches, self._teaching, self.sizes, batch=self.batch):
                    seen, group = seen + 1, group + ready
                    if len(group) < self.step_batches and seen < first + len(batches):
                        continue
                    group, step_of = [], group
                    # Where steps are fewer than planned, each stands where its last batch did.
                    last, step = step, steps_before + (seen - first - 1) // self.step_batches
                    nth = nth + 1 if step == last else 0  # the end of an epoch may stand there too
                    if seen <= state.batches_done:
                        continue
                    stop = self.progress.stop.reason
                    if stop or time.monotonic() - last_save > settings.checkpoint_seconds:
                        self._save()
                        last_save = time.monotonic()
                    if stop:
                        self.progress.stop.check(
                            f"{self.name}, {state.batches_done} of {total} batches"
                        )
                    self._step(step_of, step, nth)
                    bar.advance(seen - state.batches_done)
                    state.batches_done = seen
                if epoch >= state.epochs_done:
                    self._end_epoch(epoch + 1)
                    # Epochs of seconds are many; a file for each would take longer than they do.
                    if time.monotonic() - last_save > settings.checkpoint_seconds / 4:
                        self._save()
                        last_save = time.monotonic()
            self._count_time()

    def restore_best(self) -> None:
        """Put the weights of the best epoch into the model."""
        if self._best is not None:
            self.model.load_state_dict(self._best)
        elif self.state.best_epoch:
            load_best(self.folder, self.model, self.state.best_epoch)

    def _count_time(self) -> None:
        now = time.monotonic()
        self.state.seconds, self._tick = self.state.seconds + now - self._tick, now

    def _save(self) -> None:
        self._count_time()
        if self._best is not None:
            save_best(self.folder, self._best, self.state.best_epoch)
            self._best = None
        self.state.recent = [(float(loss), n) for loss, n in self._recent]
        self._note_balance()
        if self.state.recent:
            self._refuse_nan(self._recent_mean())
        save_checkpoint(self.folder, self.model, self.optimiser, self.state)

    def _note_balance(self) -> None:
        if self.balance is not None:
            self.state.balance = self.balance.to_json()

    def _step(self, group: Sequence[PlannedBatch], step: int, nth: int) -> None:
        """One optimiser step over the batches of ``group``, the ``nth`` of this number."""
        # Seeded by the step alone: a continued run draws the same masks.
        entropy = [self.seed, step, *([nth] if nth else [])]
        seed = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
        self.learner.noise.reseed(int(seed >> 1))
        rate = learning_rate_at(step, self.n_steps, self.settings)
        set_learning_rate(self.optimiser, rate)
        with self.learner.device.casting_once():
            for batch in group:
                self._backward(batch, step)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip, foreach=True)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self._recent and ((step + 1) % _LOSS_EVERY == 0 or step + 1 == self.n_steps):
            self._record_loss(step + 1)

    def _backward(self, batch: PlannedBatch, step: int) -> None:
        """Add the gradients of one pass."""
        feeds = self.passes[batch.task]
        outputs = self.learner.outputs(feeds, batch.units)
        # Divided by the mean rows of a step, not by its own: every row weighs the same.
        losses = {
            feed.task: feed.loss(
                outputs[feed.task],
                batch.units,
                step=step,
                n_steps=self.n_steps,
                soft_on=feed.task not in self.state.stopped,
            )
            * (1.0 / self.step_rows[feed.task])
            for feed in feeds
        }
        whole = self._sum(losses, feeds).detach() * self.step_rows[batch.task]
        self._recent.append((whole, len(batch.units)))
        if self.balance is not None:
            losses = self.balance.scale(losses)
        torch.autograd.backward(self._sum(losses, feeds))

    def _teaching(self, batch: PlannedBatch) -> np.ndarray:
        """Those of a batch's units from which some task learns: others need no pass."""
        stopped = self.state.stopped
        teach = [
            feed.teaching(batch.units, soft_on=feed.task not in stopped)
            for feed in self.passes[batch.task]
        ]
        return np.asarray(batch.units[np.logical_or.reduce(teach)])

    @staticmethod
    def _sum(losses: Mapping[str, Tensor], feeds: Sequence[Feed]) -> Tensor:
        """The losses with the weights of their tasks."""
        weighted = [losses[feed.task] * feed.weight for feed in feeds]
        return weighted[0] if len(weighted) == 1 else torch.stack(weighted).sum()

    def _record_loss(self, step: int) -> None:
        mean = self._recent_mean()
        self._recent.clear()
        self._refuse_nan(mean)
        self.state.loss.append((step, mean))
        rate = learning_rate_at(step - 1, self.n_steps, self.settings)
        self.progress.log("loss", training=self.name, step=step, loss=mean, learning_rate=rate)

    def _recent_mean(self) -> float:
        """Mean loss of a row since the last point, whatever batches it came in."""
        whole = torch.stack([loss for loss, _ in self._recent]).sum()
        return float(whole) / sum(n for _, n in self._recent)

    def _refuse_nan(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise PotstillError(
                f"training '{self.name}', batch {self.state.batches_done}",
                got=f"a loss of {loss}",
                wanted="a finite number",
                todo="lower `learning_rate:` or set `precision: fp32` in the run file",
            )

    def _end_epoch(self, epoch: int) -> None:
        """Score the dev rows, keep the best weights, switch off soft losses that are overtaken."""
        state = self.state
        scores = {task: self._score_dev(feed) for task, feed in self.feeds.items()}
        for task, score in scores.items():
            if not math.isfinite(score):
                raise PotstillError(
                    f"training '{self.name}', dev score of task '{task}'",
                    got=str(score),
                    wanted="a finite number",
                    todo="choose another `metric:` for the task, or look at its dev labels",
                )
        for task, score in scores.items():
            state.dev.setdefault(task, []).append((epoch, score))
            soft = self.feeds[task].soft
            if soft is None or soft.stop_margin is None or soft.teacher_dev is None:
                continue
            # Not where both are equal: neither may have learned anything yet.
            ahead = score > soft.teacher_dev and score >= soft.teacher_dev + soft.stop_margin
            if soft.rechecked and not ahead:
                state.stopped.pop(task, None)
            elif task not in state.stopped and ahead:
                state.stopped[task] = {
                    "epoch": epoch,
                    "student": score,
                    "teacher": soft.teacher_dev,
                }
        mean = sum(scores.values()) / len(scores)
        # Where no score has moved yet (no tag found, BLEU of 0), later weights have learned more.
        unmoved = all(score == own[0][1] for own in state.dev.values() for _, score in own)
        if unmoved or mean > state.best_score:
            self._best = {
                name: tensor.detach().to("cpu", copy=True)
                for name, tensor in self.model.state_dict().items()
            }
            state.best_score, state.best_epoch = mean, epoch
        state.epochs_done = epoch
        self._note_balance()
        self.progress.log("dev", training=self.name, epoch=epoch, mean=mean, scores=scores)

    def _score_dev(self, feed: Feed) -> float:
        outputs = self.learner.dev_outputs(feed, self._stop_while_scoring)
        if not feed.kind.generates and not np.isfinite(outputs).all():
            self._refuse_nan(math.nan)
        return feed.dev.score(feed.kind, outputs)

    def _stop_while_scoring(self, n_rows: int) -> None:
        """Saying texts takes minutes; what was learned before them is saved."""
        if self.progress.stop.reason:
            self._save()
            self.progress.stop.check(f"{self.name}, scoring dev rows")

    def _out_of_patience(self, epoch: int) -> bool:
        patience = self.settings.patience
        if patience is None or not self.state.epochs_done:
            return False
        scores = np.array([[score for _, score in own] for own in self.state.dev.values()])
        risen = 1 + int(scores.mean(0).argmax())  # of equals the first, whichever is kept
        return epoch - risen >= patience > 0
