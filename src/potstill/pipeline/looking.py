"""``potstill check``: everything that can be known of a run before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from potstill.config import RunFile
from potstill.config.given import GivenScores
from potstill.core.device import resolve_device
from potstill.core.errors import DataError, PotstillError, UsageError
from potstill.core.places import free_bytes, need_folder_place
from potstill.core.progress import Progress
from potstill.core.stages import STAGES_FOLDER
from potstill.kinds import Classification, Multilabel
from potstill.pipeline.bases import bases_that_cut
from potstill.pipeline.early import refuse_early
from potstill.pipeline.estimate import Estimate, Trial, estimate, try_steps
from potstill.pipeline.given import given_members, look_at_given
from potstill.pipeline.loading import load_tasks
from potstill.pipeline.look import Look
from potstill.pipeline.row_findings import task_findings
from potstill.tasks.column_findings import (
    find_absent_classes,
    find_cut_texts,
    find_labels_of_all,
    find_small_split,
)
from potstill.tasks.findings import Finding, in_rows
from potstill.tasks.task import Task


def look(run: RunFile, progress: Progress, *, skip_bad_rows: int = 0) -> Look:
    """Read everything once, report what is found, then try a few real steps.

    Args:
        run: The run file.
        progress: Bars.
        skip_bad_rows: How many faulty rows each source may have.

    Raises:
        BaseModelError: The base is missing or unsafe.
        ResourceError: The device that was asked for is not there.
    """
    device = resolve_device(run.device, run.precision)
    findings = {}
    with progress.bar("reading", len(run.tasks)) as bar:
        for name, section in run.tasks.items():
            findings[name] = list(task_findings(name, section, skip_bad_rows))
            bar.advance()
    try:
        need_folder_place(Path(run.output), f"`output: {run.output}`")
    except UsageError as error:
        findings.setdefault("run", []).append(_finding(error))
    free = free_bytes(Path(run.output))
    if any(f.severity == "error" for fs in findings.values() for f in fs):
        return Look(findings=findings, cost=None, trial=None, free_bytes=free)
    try:
        tasks = load_tasks(run, seed=run.seeds[0], skip_bad_rows=skip_bad_rows, progress=Progress())
        refuse_early(run, tasks)
    except DataError as error:  # what only shows when splits and pools are made
        findings.setdefault("run", []).append(_finding(error))
        return Look(findings=findings, cost=None, trial=None, free_bytes=free)
    for name, task in tasks.items():
        findings[name] += _unlearned(task)
        asked = run.tasks[name].rows
        if asked is not None:
            what = f"train: {in_rows(len(task.train))} are learned from (`rows: {asked}`)"
            what += "" if task.rest is not None else ": there are no more"
            findings[name].append(Finding(severity="note", what=what, where=None, todo=""))
        findings[name] += _pool_findings(run, task)
        findings[name] += _small_findings(task)
        findings[name] += _given_findings(run, task)
    if any(f.severity == "error" for fs in findings.values() for f in fs):
        return Look(findings=findings, cost=None, trial=None, free_bytes=free)
    try:
        trial = try_steps(run, tasks, device, progress)
    except DataError as error:  # rows that no batch can hold, which only their tokens show
        findings.setdefault("run", []).append(_finding(error))
        return Look(findings=findings, cost=None, trial=None, free_bytes=free)
    _add_cut_texts(findings, run, tasks, trial)
    cost = estimate(run, tasks)
    if scarce := _disk_findings(run, cost, free):
        findings.setdefault("run", []).extend(scarce)
    return Look(findings=findings, cost=cost, trial=trial, free_bytes=free)


def _add_cut_texts(
    findings: dict[str, list[Finding]], run: RunFile, tasks: Mapping[str, Task], trial: Trial
) -> None:
    """Add what the student does not read."""
    todo = "longer texts lose their end"
    for what in bases_that_cut(run):
        found = Finding(severity="warning", what=what, where=None, todo=todo)
        findings.setdefault("run", []).append(found)
    asked = run.training_for("student").max_tokens
    for name, task in tasks.items():
        findings[name] += find_cut_texts(
            trial.truncated[name],
            trial.truncated_targets[name],
            trial.max_tokens,
            says=task.kind.generates,
            more=trial.max_tokens >= asked,
        )


def _disk_findings(run: RunFile, cost: Estimate, free: int) -> list[Finding]:
    if cost.disk_bytes <= free:
        return []
    what = f"{free / 2**30:.2f} GiB of disk are free, of {cost.disk_bytes / 2**30:.2f} needed"
    todo = "free some (`potstill clean`), or set another `output:`"
    found = Finding(severity="error", what=what, where=str(run.output), todo=todo)
    if (Path(run.output) / STAGES_FOLDER).is_dir():
        less = f"less may do: a run counts what stands; else {todo}"
        found = replace(found, severity="warning", todo=less)
    return [found]


def _finding(error: PotstillError) -> Finding:
    what = f"{error.thing}: {error.got}"
    return Finding(severity="error", what=what, where=None, todo=error.todo)


def _unlearned(task: Task) -> Iterator[Finding]:
    """Classes of which the rows that are learned from say nothing."""
    kind, labels = task.kind, task.train.labels
    if labels is None or not isinstance(kind, Classification | Multilabel):
        return
    several = isinstance(kind, Multilabel)
    n_classes = len(kind.classes)
    counts = labels.sum(0) if several else np.bincount(labels.astype(np.int64), minlength=n_classes)
    more = task.rest is not None
    yield from find_absent_classes(kind.classes, counts, len(labels), "train", more=more)
    if several:
        yield from find_labels_of_all(kind.classes, counts, len(labels))


def _pool_findings(run: RunFile, task: Task) -> Iterator[Finding]:
    """What is left of a pool without repeats, and without rows of other splits."""
    if not run.pool_of(task.name):
        return
    if task.pool is None:
        what = "pool: no row is left of it"
        todo = "name texts that neither repeat train, dev or test nor lack the task's columns"
        yield Finding(severity="warning", what=what, where=None, todo=todo)
    else:
        what = f"pool: {in_rows(len(task.pool))} without a label, each once, of no other split"
        yield Finding(severity="note", what=what, where=None, todo="")


def _small_findings(task: Task) -> Iterator[Finding]:
    for split, rows in (("dev", task.dev), ("test", task.test)):
        if rows is not None:
            n = len(rows) if rows.groups is None else int(rows.groups.max()) + 1
            yield from find_small_split(n, "rows" if rows.groups is None else "queries", split)


def _given_findings(run: RunFile, task: Task) -> list[Finding]:
    notes: list[str] = []
    try:
        warnings = look_at_given(given_members(run, task), task, notes.append)
    except PotstillError as error:
        what = f"{error.thing}: {error.got}; wanted {error.wanted}"
        return [Finding(severity="error", what=what, where=None, todo=error.todo)]
    todo = "look at what it says of some rows, and at the order of its labels"
    if isinstance(run.tasks[task.name].teachers, GivenScores):
        todo = "give scores of all rows that are meant to have some"
    return [
        *(Finding(severity="warning", what=w, where=None, todo=todo) for w in warnings),
        *(Finding(severity="note", what=n, where=None, todo="") for n in notes),
    ]
