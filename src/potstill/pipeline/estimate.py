"""What a run will take: time, memory and disk, from its plan and a few real steps."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from potstill.config import RunFile
from potstill.config.fields import SEQUENCE_BASE
from potstill.config.training import Architecture
from potstill.core.device import Device
from potstill.core.progress import Progress
from potstill.core.stages import StageFolder
from potstill.models.base_folder import find_base
from potstill.pipeline.bases import architecture_of, longest, need_agreement, resolve_base
from potstill.pipeline.loading import settings_for
from potstill.tasks.task import Task
from potstill.training.prepare import NetworkPlan, train_network, training_record

_BYTES = 4
"""Of a weight. A training writes its weights, two moments each, the best weights and the result."""
_COPIES_WHILE_TRAINING = 5
_CHARACTERS_A_PIECE, _BYTES_A_PIECE = 3, 32
_SLACK_BYTES = 64 << 20
_TRIAL_ROWS = 256  # of each task, for a few real steps
_FIRST_TRIAL_ROWS = 32
_TRIAL_SECONDS = 15.0  # for those of one network
_TRIAL_DEV_ROWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run will take.

    Attributes:
        n_networks: Networks to train.
        rows: Rows to pass through training, epochs counted.
        teacher_rows: Those of them that teachers learn from.
        disk_bytes: Disk for everything that stays, and the largest checkpoint.
    """

    n_networks: int
    rows: int
    teacher_rows: int
    disk_bytes: int


def estimate(run: RunFile, tasks: Mapping[str, Task]) -> Estimate:
    """Count networks, rows and bytes of a run, all seeds, nothing reused."""
    train = sum(len(t.train) for t in tasks.values())
    pool = sum(len(t.pool) for t in tasks.values() if t.pool is not None)
    taught = sum(len(tasks[n].train) for n in run.trained_tasks)
    teachers, student = run.training_for("teachers"), run.training_for("student")
    n_nets, n_kept, n_taught = len(run.teacher_nets()), run.teachers.members, len(run.trained_tasks)
    n_networks, rows = 0, 0
    if run.trained_tasks:
        times = 2 if run.teachers.cross_fit else 1  # the plain ensemble is the rival
        if run.teachers.recipe == "single":
            n_networks += times * n_nets * n_taught
            rows += times * n_nets * taught * teachers.epochs
        else:
            n_networks += times * n_nets
            rows += times * n_nets * train * teachers.epochs
        if run.teachers.recipe in ("finetuned", "mt-dnn-kd"):
            n_networks += times * n_kept * n_taught
            rows += times * n_kept * taught * teachers.epochs
    teacher_rows = rows
    n_networks += run.student.generations
    rows += run.student.generations * (train + pool) * student.epochs
    if "multitask" in run.evaluate.baselines:
        if not _is_made_anyway(run, pool):
            n_networks += 1
            rows += train * student.epochs
        if run.evaluate.match_steps and pool:
            n_networks += 1
            rows += (train + pool) * student.epochs
    single = run.training_for("single")
    both = {"single", "multitask"} <= {*run.evaluate.baselines} and single == student
    alone = len(tasks) == 1 and not run.student.task_token
    if "single" in run.evaluate.baselines and not (both and alone):
        n_networks += len(tasks)
        rows += train * single.epochs
    if run.student.finetune:
        n_networks += len(tasks)
        rows += train * student.epochs
    size = base_parameters(run) * _BYTES
    disk = (
        len(run.seeds) * (n_networks * size + _store_bytes(run, tasks))
        + _COPIES_WHILE_TRAINING * size
        + _SLACK_BYTES
    )
    n_seeds = len(run.seeds)
    return Estimate(
        n_networks=n_networks * n_seeds,
        rows=rows * n_seeds,
        teacher_rows=teacher_rows * n_seeds,
        disk_bytes=disk,
    )


def _is_made_anyway(run: RunFile, pool: int) -> bool:
    """Whether the multi-task baseline is a teacher too or, where nobody teaches, the student."""
    if not run.taught_tasks:
        return not pool
    if not run.trained_tasks or run.teachers.recipe == "single" or run.student.task_token:
        return False
    net, teachers, student = run.teacher_nets()[0], run.teachers, run.student
    return (
        run.training_for("teachers") == run.training_for("student")
        and (net.base or run.base) == (student.base or run.base)
        and (net.layers, net.dropout, net.seed) == (student.layers, None, None)
        and (teachers.pooling, teachers.architecture) == (student.pooling, student.architecture)
    )


def _store_bytes(run: RunFile, tasks: Mapping[str, Task]) -> int:
    """Of soft targets that have some for each piece of a text; others are small beside networks."""
    taught = [tasks[name].train for name in run.trained_tasks if tasks[name].kind.generates]
    characters = sum(
        len(str(text)) for rows in taught if rows.labels is not None for text in rows.labels
    )
    return characters // _CHARACTERS_A_PIECE * _BYTES_A_PIECE * run.teachers.members


def base_parameters(run: RunFile) -> int:
    """Parameters of the largest base, from the size of its weight files, or as it will have."""
    sizes = []
    for base in run.bases:
        if base == SEQUENCE_BASE:
            sides = (run.teachers.architecture, run.student.architecture)
            sizes += [architecture_of(s, longest(run)).n_parameters(s.vocabulary) for s in sides]
        else:
            weights = find_base(base).path.glob("*.safetensors")
            sizes.append(sum(path.stat().st_size for path in weights) // _BYTES)
    return max(sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a few real steps showed.

    Attributes:
        rows_per_second: Rows through a step of the student.
        teacher_rows_per_second: Rows through a step of its teachers, on the mean of their networks.
        memory_bytes: Peak memory of this process.
        max_tokens: What the student reads of a text: what was asked, or what its base can.
        truncated: Task to the share of rows whose inputs lose their end.
        truncated_targets: Task to the share of targets that do.
    """

    rows_per_second: float
    teacher_rows_per_second: float
    memory_bytes: int
    max_tokens: int
    truncated: dict[str, float]
    truncated_targets: dict[str, float]

    def seconds(self, cost: Estimate) -> float:
        """How long the training will take."""
        others = (cost.rows - cost.teacher_rows) / self.rows_per_second
        return others + cost.teacher_rows / self.teacher_rows_per_second


def try_steps(run: RunFile, tasks: Mapping[str, Task], device: Device, progress: Progress) -> Trial:
    """Train on a few rows of every task, throw the result away, and say how fast it went."""
    own = _Side(run.student.base or run.base, run.student.architecture, run.student.layers)
    nets = run.teacher_nets() if run.trained_tasks else ()
    sides = {("student", own): 1}
    for net in nets:
        architecture = run.teachers.architecture
        theirs = "teachers", _Side(net.base or run.base, architecture, net.layers)
        sides[theirs] = sides.get(theirs, 0) + 1
    alike = _pace(run, "teachers") == _pace(run, "student")
    records: dict[tuple[str, _Side], dict[str, Any]] = {}
    with TemporaryDirectory() as folder, progress.bar("a few real steps", len(sides)) as bar:
        stages = StageFolder(root=Path(folder) / "stages", progress=Progress(stop=progress.stop))
        if run.generates:
            need_agreement(run, tasks, stages)
        for name, side in sides:
            known = records.get(("student", side)) if alike else None
            records[name, side] = known or _try(run, name, side, tasks, stages, device)
            bar.advance()
    pace = {key: max(record["seconds"], 1e-3) / record["rows"] for key, record in records.items()}
    taught = sum(pace[key] * n for key, n in sides.items() if key[0] == "teachers")
    record = records["student", own]
    unit = 1 if sys.platform == "darwin" else 1024
    rate = 1 / pace["student", own]
    return Trial(
        rows_per_second=rate,
        teacher_rows_per_second=len(nets) / taught if nets else rate,
        memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        max_tokens=record["max_tokens"],
        truncated=record["truncated"],
        truncated_targets=record["truncated_targets"],
    )


def _pace(run: RunFile, side: str) -> tuple[object, ...]:
    """Settings that a row's time hangs on."""
    settings = settings_for(run, side)
    return settings.batch, settings.max_tokens, settings.tasks_per_step, settings.balance


class _Side(NamedTuple):
    """What a network starts from."""

    base: str
    architecture: Architecture
    layers: int | None


def _try(
    run: RunFile,
    name: str,
    side: _Side,
    tasks: Mapping[str, Task],
    stages: StageFolder,
    device: Device,
) -> dict[str, Any]:
    """The record of a training that is thrown away.

    A first one of a few rows pays for what is set up once, and says how many rows of the second
    the time allows: networks may be large, and processors busy.
    """
    settings = replace(settings_for(run, name), epochs=1, accumulate=1)
    base, *_ = resolve_base(side.base, side.architecture, tasks, stages, "", longest(run))
    plan = NetworkPlan(
        base=base, base_digest="", layers=side.layers, head_dropout={}, task_weights={}
    )
    record: dict[str, Any] = {}
    n_rows = _FIRST_TRIAL_ROWS
    for _ in range(2):
        few = [_few(task, n_rows) for task in tasks.values()]
        rows = sum(len(task.train) for task in few)
        with TemporaryDirectory() as folder:
            train_network(
                Path(folder),
                few,
                plan,
                settings,
                extras={},
                seed=0,
                device=device,
                progress=stages.progress,
                name="trial",
                record={},
            )
            record = training_record(Path(folder)) | {"rows": rows}
        allowed = int(n_rows * _TRIAL_SECONDS / max(record["seconds"], 1e-3))
        n_rows = min(max(allowed, _FIRST_TRIAL_ROWS), _TRIAL_ROWS)
    return record


def _few(task: Task, n_rows: int) -> Task:
    if task.train.groups is not None:
        few = task.train.groups < max(1, n_rows // 8)
        largest = np.bincount(task.train.groups).argmax()  # what the most memory goes to
        rows = np.flatnonzero(few | (task.train.groups == largest))
        dev = np.flatnonzero(task.dev.groups == 0) if task.dev.groups is not None else rows[:0]
    else:
        rows = np.random.default_rng(0).permutation(len(task.train))[:n_rows]
        dev = np.arange(min(_TRIAL_DEV_ROWS, len(task.dev)))
    return replace(task, train=task.train.take(rows), dev=task.dev.take(dev))
