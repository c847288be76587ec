"""From a run file to tasks with rows: the only place where its ``tasks:`` section is unpacked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, cast

from potstill.config import RunFile
from potstill.config.given import GivenScores
from potstill.config.tasks import Task as Section
from potstill.core.errors import DataError
from potstill.core.progress import Progress
from potstill.kinds import KINDS, Regression
from potstill.models.encoder import Pooling
from potstill.tasks.column_findings import find_constant_split
from potstill.tasks.findings import find_shared_rows
from potstill.tasks.load import load_task
from potstill.tasks.pools import join_pools, pool_of_others
from potstill.tasks.task import Split, Task
from potstill.training.settings import TrainSettings


def load_tasks(
    run: RunFile, *, seed: int, skip_bad_rows: int, progress: Progress
) -> dict[str, Task]:
    """Read all tasks of a run for one seed.

    Raises:
        DataError: A source, a row or a label is faulty.
        Stopped: Stop was requested.
    """
    tasks: dict[str, Task] = {}
    # A pool for all tasks is one for those that read its columns.
    lacking: dict[str, list[DataError]] = {
        name: [] for name, section in run.tasks.items() if section.pool is None
    }
    with progress.bar("reading", len(run.tasks)) as bar:
        for name, section in run.tasks.items():
            progress.stop.check(f"before task '{name}' is read")
            given = section.teachers
            tasks[name] = load_task(
                name,
                kind=section.kind,
                columns=section.inputs,
                label=section.labels,
                group=section.group,
                options=section.space_options,
                metric=str(cast("Any", section).metric),
                train=cast("Any", section.train),
                dev=cast("Any", section.dev),
                test=cast("Any", section.test),
                pool=[p for p in cast("Any", run.pool_of(name)) if not _is(p, "others")],
                rows=section.rows,
                seed=seed,
                key=given.key if isinstance(given, GivenScores) else None,
                skip_bad_rows=skip_bad_rows,
                like=_read_alike(run, section, tasks),
                dev_like=_set_aside_alike(run, section, tasks),
                lacking=lacking[name].append if name in lacking else None,
            )
            bar.advance()
    _tell_lacking(run, lacking, progress)
    with_others = set()
    for name, task in list(tasks.items()):
        if any(_is(p, "others") for p in run.pool_of(name)):
            try:
                others = pool_of_others(task, list(tasks.values()))
            except DataError as error:
                if run.tasks[name].pool is not None:
                    raise
                progress.say(f"task '{name}' has no pool of others: {error.got}")
                continue
            pools = [others] if task.pool is None else [task.pool, others]
            held = [split.ids for split in (task.dev, task.test) if split is not None]
            tasks[name] = replace(task, pool=join_pools(pools, held, [task.train.ids]))
            with_others.add(name)
    for task in tasks.values():
        named = [p for p in run.pool_of(task.name) if not isinstance(p, str)]
        n_read = len(named) - len(lacking.get(task.name, ())) + (task.name in with_others)
        if n_read > 0 and task.pool is None:
            progress.warn(f"task '{task.name}' has no pool: train, dev or test hold all its rows")
        for split in (task.train, task.dev, task.test, task.pool):
            if split is not None and split.skipped:
                why = "faulty rows" if not task.kind.grouped else "rows of faulty lists"
                progress.warn(
                    f"task '{task.name}': {split.skipped} {why} of {split.source} skipped"
                )
    return tasks


def _tell_lacking(run: RunFile, lacking: Mapping[str, list[DataError]], progress: Progress) -> None:
    """Say which tasks a pool for all tasks is none for.

    Raises:
        DataError: It is one for none.
    """
    asked = [n for n in lacking if any(not isinstance(p, str) for p in run.pool_of(n))]
    if asked and all(lacking[name] for name in asked):
        raise lacking[asked[0]][0]
    for name in asked:
        for error in lacking[name]:
            progress.say(f"task '{name}' takes no rows of `distill: pool`: {error.got}")


def _read_alike(run: RunFile, section: Section, tasks: Mapping[str, Task]) -> Task | None:
    """The first task that reads the same rows: same files, column and share."""

    def alike(other: Section) -> bool:
        one, two = KINDS[section.kind], KINDS[other.kind]
        # Directions of one file: a sentence set aside in one is not learned in the other.
        says = one.generates and two.generates
        slotted = one.slotted or two.slotted
        return (
            (slotted or says)  # tasks of single labels keep a stratified share of their own
            and len(section.inputs) == 1
            and section.rows == other.rows
            and (says or section.inputs == other.inputs)
            and all(_same(getattr(section, s), getattr(other, s)) for s in ("train", "dev", "test"))
        )

    return next((task for name, task in tasks.items() if alike(run.tasks[name])), None)


def _set_aside_alike(run: RunFile, section: Section, tasks: Mapping[str, Task]) -> list[Task]:
    """The tasks whose dev is set aside from the same file, by rows."""

    def alike(name: str) -> bool:
        other = run.tasks[name]
        asides = section.dev is None and other.dev is None and _same(section.train, other.train)
        return asides and not tasks[name].kind.grouped

    return [task for name, task in tasks.items() if alike(name)]


def _same(one: object, other: object) -> bool:
    """Whether two sources are one: the same path, or the same object of Python."""
    return one is other or (isinstance(one, Path) and one == other)


def doubts_of(task: Task) -> list[str]:
    """Warnings of scores that say little: two splits share rows, or one has a single value."""
    splits = {"train": task.train, "dev": task.dev, "test": task.test}
    there = {name: split for name, split in splits.items() if split is not None}
    found = [
        finding
        for one, other in combinations(there, 2)
        for finding in find_shared_rows(
            (one, other),
            (there[one].ids, there[other].ids),
            (there[one].where, there[other].where),
        )
    ]
    if isinstance(task.kind, Regression):
        for name, split in there.items():
            if name != "train" and split.labels is not None:
                found += find_constant_split(split.labels, name, split.where)
    return [f"{finding.what}; {finding.todo}" for finding in found]


def settings_for(run: RunFile, side: str) -> TrainSettings:
    """The training settings of ``teachers``, ``student`` or ``single``."""
    return TrainSettings(**run.training_for(cast("Any", side)).keywords())


def head_dropouts(run: RunFile) -> dict[str, float]:
    """Tasks with a head dropout of their own."""
    return {name: t.dropout for name, t in run.tasks.items() if t.dropout is not None}


def task_weights(run: RunFile) -> dict[str, float]:
    """Tasks whose loss has a weight other than 1."""
    return {name: t.weight for name, t in run.tasks.items() if t.weight != 1.0}


def pooling_of(value: str | None) -> Pooling | None:
    """A pooling of the run file as the models name it."""
    return cast("Pooling | None", value)


def reported_counts(task: Task) -> dict[str, int]:
    """Rows of each split, for the report."""

    def size(split: Split | None) -> int:
        return 0 if split is None else len(split)

    return {
        "n_train": len(task.train),
        "n_dev": len(task.dev),
        "n_test": size(task.test),
        "n_pool": size(task.pool),
    }


def _is(source: object, word: str) -> bool:
    return isinstance(source, str) and source == word
