"""From tasks to a finished network folder: feeds, the loop, and what is written afterwards.

Shared by everything that trains: teachers and baselines on labels, students on labels and soft
targets. Where soft targets come from is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from potstill.core.device import Device
from potstill.core.errors import DataError
from potstill.core.files import changed, read_json, write_json
from potstill.core.progress import Progress
from potstill.models.base_folder import find_base
from potstill.models.encoder import Pooling
from potstill.models.token_rows import TokenRows
from potstill.tasks.batches import UnitLengths
from potstill.tasks.predictor import TaskHead
from potstill.tasks.task import Split, Task, groups_of, slots_of, truth_of
from potstill.training.feed import DevFeed, Feed, SoftFeed
from potstill.training.learner import EncoderLearner, Learner, SequenceLearner
from potstill.training.loop import fit
from potstill.training.network import AnyNetwork, Network, new_network, save_network
from potstill.training.sequence_network import SequenceNetwork, new_sequence_network
from potstill.training.settings import TrainSettings

TRAINING_FILE = "training.json"
_MOST_WINDOWS = 64
_MOST_LIST_TOKENS = 1 << 16  # of a query: minilm takes some 12 GB to learn from them


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """What network to start from.

    Attributes:
        base: ``minilm``, a folder, or a hub id.
        base_digest: Digest of the base's files, or of the stage that made it.
        named: The base as it was named, where it is no stage: its files can change.
        layers: Keep this many evenly spaced layers.
        pooling: None takes the base's own.
        task_token: A task-identifier token before each text.
        head_dropout: Task to dropout on its head's features, where it differs from the settings.
        task_weights: Task to weight of its loss, where it is not 1.
    """

    base: str
    base_digest: str
    named: str = ""
    layers: int | None = None
    pooling: Pooling | None = None
    task_token: bool = False
    head_dropout: Mapping[str, float]
    task_weights: Mapping[str, float]

    def facts(self, tasks: Sequence[Task]) -> dict[str, Any]:
        """What a stage's digest holds of this plan, for these tasks."""
        names = {task.name for task in tasks}
        return {
            "base": self.base_digest,
            "layers": self.layers,
            "pooling": self.pooling,
            "task_token": self.task_token,
            "head_dropout": {k: v for k, v in self.head_dropout.items() if k in names},
            "task_weights": {k: v for k, v in self.task_weights.items() if k in names},
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Extra:
    """What a task brings to a training beside its labelled rows.

    Attributes:
        pool: Unlabelled rows that follow the labelled ones.
        hard_weights: (U,) weight of each labelled unit's hard loss; of pool rows too, where
            teachers said ``texts`` to them.
        soft: Soft targets of labelled and pool rows.
        texts: Targets of labelled and pool rows, where teachers said them; None: as labelled.
        rows: Use only these labelled rows (cross-fitting); None uses all.
    """

    pool: Split | None = None
    hard_weights: np.ndarray | None = None
    soft: SoftFeed | None = None
    texts: Sequence[str] | None = None
    rows: np.ndarray | None = None


def train_network(
    folder: Path,
    tasks: Sequence[Task],
    plan: NetworkPlan,
    settings: TrainSettings,
    *,
    extras: Mapping[str, Extra],
    seed: int,
    device: Device,
    progress: Progress,
    name: str,
    record: Mapping[str, object],
    shared: Sequence[Sequence[str]] = (),
) -> None:
    """Train a network on tasks and write it to ``folder``; continues where an attempt broke off.

    Args:
        folder: Checkpoints while it runs (``checkpoint.SCRATCH``: they stay, it is its owner's to
            remove them), the network's files at the end.
        tasks: What it learns.
        plan: What to start from.
        settings: How to train.
        extras: What tasks bring beside their labelled rows.
        seed: Decides heads, batches and masks.
        device: Where.
        progress: Where to report.
        name: What progress calls it.
        record: Facts for ``training.json``.
        shared: Tasks that may learn from one encoder pass: ``tasks.task.shared_texts``.

    Raises:
        DataError: Every row of a task is too long to read.
        Stopped: Stop was requested; the same call continues.
    """
    network = start_network(tasks, plan, settings, seed=seed)
    learner: Learner
    if isinstance(network, SequenceNetwork):
        learner = SequenceLearner(network, device)
    else:
        learner = EncoderLearner(network.model, device, network.tokenizer.padding)
    feeds = [
        make_feed(network, t, extras.get(t.name, Extra()), plan.task_weights.get(t.name, 1.0))
        for t in tasks
    ]
    if isinstance(network, SequenceNetwork):
        longest = max(int(f.targets.lengths.max()) for f in feeds if f.targets is not None)
        network.decoding = replace(network.decoding, longest=longest)
    result = fit(
        learner,
        feeds,
        settings=settings,
        seed=seed,
        folder=folder,
        progress=progress,
        name=name,
        shared=shared,
    )
    for feed in feeds:
        if feed.kind.tunes and isinstance(network, Network):
            found = network.outputs(feed.dev.tokens, (feed.task,), device)[feed.task]
            head = network.tasks[feed.task]
            network.tasks[feed.task] = replace(head, kind=feed.dev.tuned(feed.kind, found))
    save_network(network, folder)
    write_json(
        folder / TRAINING_FILE,
        {
            "name": name,
            "settings": settings.facts({task.name: task.kind for task in tasks}),
            "seconds": round(result.state.seconds, 3),
            "max_tokens": network.max_tokens,
            "truncated": {f.task: f.truncated_inputs for f in feeds},
            "truncated_targets": {f.task: f.truncated_targets for f in feeds},
            **record,
            **result.to_json(),
        },
    )


def start_network(
    tasks: Sequence[Task], plan: NetworkPlan, settings: TrainSettings, *, seed: int
) -> AnyNetwork:
    """The network of a plan before its training.

    Raises:
        BaseModelError: The base is missing or unsafe.
        ArtefactError: Its files have changed since the plan was made.
    """
    network = _start_network(tasks, plan, settings, seed=seed)
    if plan.named and find_base(plan.named).digest != plan.base_digest:
        raise changed(f"base '{plan.named}'")
    return network


def _start_network(
    tasks: Sequence[Task], plan: NetworkPlan, settings: TrainSettings, *, seed: int
) -> AnyNetwork:
    heads = {t.name: TaskHead(kind=t.kind, inputs=t.inputs, metric=t.metric.name) for t in tasks}
    if tasks[0].kind.generates:
        return new_sequence_network(
            plan.base,
            heads,
            seed=seed,
            max_tokens=settings.max_tokens,
            layers=plan.layers,
            dropout=settings.dropout,
        )
    network = new_network(
        plan.base,
        heads,
        seed=seed,
        max_tokens=settings.max_tokens,
        layers=plan.layers,
        pooling=plan.pooling,
        dropout=settings.dropout,
        task_token=plan.task_token,
    )
    network.model.set_head_dropout(
        {t.name: plan.head_dropout.get(t.name, settings.head_dropout) for t in tasks}
    )
    return network


def make_feed(network: AnyNetwork, task: Task, extra: Extra, weight: float) -> Feed:
    """Tokenise a task's rows for a network.

    Raises:
        DataError: Every row is too long to read, or one has too many windows.
    """
    train = task.train if extra.rows is None else task.train.take(extra.rows)
    if train.labels is None:
        raise ValueError(f"task {task.name}: train rows without labels")
    if isinstance(network, SequenceNetwork):
        return _sequence_feed(network, task, train, extra, weight)
    labels = task.kind.flat(train.labels, slots_of(task, train))
    groups, inputs = groups_of(task, train), dict(train.inputs)
    n_units = len(train) if train.groups is None else int(train.groups.max()) + 1
    labelled = np.ones(n_units, bool)
    hard = np.ones(n_units) if extra.hard_weights is None else extra.hard_weights
    pool = extra.pool
    if pool is not None:
        inputs = {name: values + pool.inputs[name] for name, values in inputs.items()}
        more = groups_of(task, pool)
        n_slots, n_pool = len(pool) if more is None else len(more), len(pool)
        labels = np.concatenate([labels, np.zeros((n_slots, *labels.shape[1:]))])
        if groups is not None and more is not None:
            groups = np.concatenate([groups, more + n_units])
            n_pool = int(more.max()) + 1
        labelled = np.concatenate([labelled, np.zeros(n_pool, bool)])
        hard = np.concatenate([hard, np.zeros(n_pool)])
    tokens = network.tokenise(task.name, inputs)
    _refuse_too_long(task, tokens, network.max_tokens)
    refuse_unlearnable(task, tokens, groups, network.max_tokens, lambda i: _place(i, train, pool))
    return Feed(
        task=task.name,
        kind=task.kind,
        tokens=tokens,
        labels=labels,
        groups=groups,
        labelled=labelled,
        hard_weights=hard.astype(np.float32),
        soft=extra.soft,
        weight=weight,
        dev=DevFeed(
            tokens=network.tokenise(task.name, task.dev.inputs),
            truth=truth_of(task, task.dev),
            groups=groups_of(task, task.dev),
            metric=task.metric,
        ),
    )


def _sequence_feed(
    network: SequenceNetwork, task: Task, train: Split, extra: Extra, weight: float
) -> Feed:
    """Sources and targets; a target's pieces are its slots, and a row weighs as it has pieces."""
    inputs, n_train = dict(train.inputs), len(train)
    said = list(extra.texts or map(str, [] if train.labels is None else train.labels))
    if extra.pool is not None:
        inputs = {name: values + extra.pool.inputs[name] for name, values in inputs.items()}
    n_rows = len(said)
    hard = np.ones(n_rows) if extra.hard_weights is None else extra.hard_weights
    tokens, targets = network.tokenise(task.name, inputs), network.tokenise_targets(said)
    _refuse_too_long(task, tokens, network.max_tokens)
    # A row's loss is the mean over its pieces: so every piece weighs the same.
    by_length = (targets.lengths / targets.lengths.mean()).astype(np.float32)
    soft = extra.soft
    if soft is not None:
        n_places = int(targets.offsets[n_train])
        if len(soft.targets) != n_places:
            raise DataError(
                f"task '{task.name}', soft targets",
                got=f"opinions on {len(soft.targets):,} pieces",
                wanted=f"the student's {n_places:,}: the same vocabulary and `max_tokens`",
                todo="give both sides the same, or set `distill: {objective: sequence}`",
            )
        padding = np.zeros((len(targets.ids) - n_places, soft.targets.shape[1]), np.float32)
        everything = np.concatenate([soft.targets, padding])
        soft = replace(soft, targets=everything, weights=soft.weights * by_length)
    return Feed(
        task=task.name,
        kind=task.kind,
        tokens=tokens,
        targets=targets,
        sizes=by_length,
        labels=targets.ids.astype(np.int64),
        groups=np.repeat(np.arange(len(targets)), targets.lengths),
        labelled=np.arange(n_rows) < n_train,
        hard_weights=hard.astype(np.float32) * by_length,
        soft=soft,
        weight=weight,
        dev=DevFeed(
            tokens=network.tokenise(task.name, task.dev.inputs),
            truth=truth_of(task, task.dev),
            groups=None,
            metric=task.metric,
        ),
    )


def refuse_unlearnable(
    task: Task,
    tokens: TokenRows,
    groups: np.ndarray | None,
    max_tokens: int,
    where: Callable[[int], str],
) -> None:
    """Refuse rows that no batch can hold: texts of very many windows, very long lists.

    Args:
        task: Whose rows.
        tokens: N rows.
        groups: (N,) list of each row, 0.. in order; None for kinds without lists.
        max_tokens: Width of a window.
        where: Where a row stands, for the message.

    Raises:
        DataError: There is such a row.
    """
    if tokens.windows is not None and task.kind.slotted:
        n_windows = np.diff(tokens.windows)
        if n_windows.max() > _MOST_WINDOWS:
            i = int(n_windows.argmax())
            raise DataError(
                f"task '{task.name}', {where(i)}",
                got=f"a text of {n_windows[i]} windows of {max_tokens} tokens",
                wanted=f"at most {_MOST_WINDOWS}: all windows of a row are learned in one batch",
                todo="part the text, or raise `training: {max_tokens: …}`",
            )
    if task.kind.grouped and groups is not None:
        lists = UnitLengths.of(tokens.lengths, groups)
        sizes = lists.tokens * lists.rows
        if sizes.max() > _MOST_LIST_TOKENS:
            own = int(sizes.argmax())
            raise DataError(
                f"task '{task.name}', {where(int((groups == own).argmax()))}",
                got=f"a list of {lists.rows[own]:,} candidates of up to {lists.tokens[own]} tokens",
                wanted=f"at most {_MOST_LIST_TOKENS:,} tokens: a list is learned in one batch",
                todo="leave candidates out of long lists, or lower `training: {max_tokens: …}`",
            )


def _place(i: int, train: Split, pool: Split | None) -> str:
    """Where a row of a feed comes from; pool rows follow those of train."""
    return train.where(i) if pool is None or i < len(train) else pool.where(i - len(train))


def _refuse_too_long(task: Task, tokens: TokenRows, max_tokens: int) -> None:
    if tokens.truncated.all():
        raise DataError(
            f"task '{task.name}', train",
            got=f"every row is longer than {max_tokens} tokens",
            wanted="rows of which the model can read the whole",
            todo="raise `training: {max_tokens: …}` as far as the base goes, or shorten the texts",
        )


def training_record(folder: Path) -> dict[str, Any]:
    """What :func:`train_network` noted of a finished network."""
    record: dict[str, Any] = read_json(folder / TRAINING_FILE)
    return record


def best_dev(folder: Path, task: str) -> float:
    """The dev score of a task in the epoch whose weights were kept."""
    record = training_record(folder)
    scores = dict(record["dev"][task])
    return float(scores[record["best_epoch"]])
