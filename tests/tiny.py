"""Tiny tasks, settings and stages on top of the toys, for tests of the rooms that train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from potstill.core.device import Device
from potstill.core.progress import Progress
from potstill.core.stages import StageFolder
from potstill.models.encoder import Pooling
from potstill.tasks.load import load_task
from potstill.tasks.predictor import TaskHead
from potstill.tasks.sources import Source
from potstill.tasks.task import Task
from potstill.training.network import Network, new_network
from potstill.training.prepare import NetworkPlan
from potstill.training.settings import TrainSettings
from tests.toys import TOYS, toy_rows

CPU = Device(name="cpu", precision="fp32")


def toy_task(
    kind: str = "classification",
    *,
    name: str | None = None,
    train: Source | int = 24,
    dev: Source | int | None = 8,
    test: Source | int | None = None,
    pool: Sequence[Source] = (),
    rows: int | None = None,
    seed: int = 0,
    key: str | None = None,
    skip_bad_rows: int = 0,
    options: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
    like: Task | None = None,
) -> Task:
    """A toy task; a number of rows stands for that many toy rows of the split."""
    toy = TOYS[kind]
    sources = [
        toy_rows(kind, source, seed=place) if isinstance(source, int) else source
        for place, source in enumerate((train, dev, test))
    ]
    assert sources[0] is not None
    return load_task(
        name or kind,
        kind=toy.kind,
        columns=toy.columns if columns is None else columns,
        label=toy.label,
        group=toy.group,
        options=toy.options if options is None else options,
        metric=None,
        train=sources[0],
        dev=sources[1],
        test=sources[2],
        pool=pool,
        rows=rows,
        seed=seed,
        key=key,
        skip_bad_rows=skip_bad_rows,
        like=like,
    )


def tiny_settings(
    *,
    epochs: int = 2,
    batch: int = 8,
    learning_rate: float = 1e-2,
    optimizer: Literal["adamw", "adamax"] = "adamw",
    accumulate: int = 1,
    dropout: float | None = 0.1,
    patience: int | None = None,
    checkpoint_seconds: float = 1e9,
    max_tokens: int = 32,
) -> TrainSettings:
    """Settings of a training that takes a blink."""
    return TrainSettings(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        optimizer=optimizer,
        accumulate=accumulate,
        dropout=dropout,
        patience=patience,
        checkpoint_seconds=checkpoint_seconds,
        max_tokens=max_tokens,
    )


def tiny_plan(
    base: Path,
    *,
    base_digest: str = "the tiny base",
    task_token: bool = False,
    head_dropout: Mapping[str, float] | None = None,
    pooling: Pooling = "mean",
) -> NetworkPlan:
    """A plan on the tiny base."""
    return NetworkPlan(
        base=str(base),
        base_digest=base_digest,
        task_token=task_token,
        pooling=pooling,
        head_dropout=head_dropout or {},
        task_weights={},
    )


def tiny_network(
    base: Path,
    tasks: Sequence[Task],
    *,
    seed: int = 0,
    pooling: Pooling = "mean",
    dropout: float | None = None,
    task_token: bool = False,
    max_tokens: int = 32,
) -> Network:
    """An untrained network for ``tasks``."""
    return new_network(
        str(base),
        {t.name: TaskHead(kind=t.kind, inputs=t.inputs, metric=t.metric.name) for t in tasks},
        seed=seed,
        max_tokens=max_tokens,
        pooling=pooling,
        dropout=dropout,
        task_token=task_token,
    )


def stage_folder(root: Path) -> StageFolder:
    """An empty folder of stages."""
    return StageFolder(root=root / "stages", progress=Progress())


def flip_byte(path: Path, place: int) -> None:
    """Change one byte of a file; ``place`` may count from the end."""
    data = bytearray(path.read_bytes())
    data[place] ^= 0x01
    path.write_bytes(bytes(data))
