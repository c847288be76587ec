"""``potstill check``: everything that can be known of a run before it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from potstill.config import RunFile
from potstill.config.tasks import RankingTask
from potstill.config.tasks import Task as TaskSection
from potstill.core.device import resolve_device
from potstill.core.errors import DataError, PotstillError, UsageError
from potstill.core.places import free_bytes, need_folder_place
from potstill.core.progress import Progress
from potstill.core.stages import STAGES_FOLDER
from potstill.kinds import KINDS, Classification, Kind, Multilabel
from potstill.pipeline.bases import bases_that_cut
from potstill.pipeline.early import refuse_early
from potstill.pipeline.estimate import Estimate, Trial, estimate, try_steps
from potstill.pipeline.given import given_members, look_at_given
from potstill.pipeline.loading import load_tasks
from potstill.pipeline.look import Look
from potstill.tasks.column_findings import (
    count_classes,
    count_values,
    find_absent_classes,
    find_alike_classes,
    find_constant_split,
    find_cut_texts,
    find_doubtful_labels,
    find_labels_of_all,
    find_lone_candidates,
    find_no_task,
    find_small_split,
)
from potstill.tasks.findings import (
    Finding,
    find_duplicates,
    find_empty_split,
    find_empty_texts,
    find_faulty_labels,
    find_missing_labels,
    find_non_texts,
    find_shared_rows,
    find_single_value,
    find_unfit_labels,
    in_rows,
)
from potstill.tasks.inputs import READERS, Reader
from potstill.tasks.load import label_array
from potstill.tasks.records import how_to_mend
from potstill.tasks.sources import Rows, read_labelled
from potstill.tasks.task import Task

_ALL = 10**9  # faulty rows that `check` lists rather than stops at
_SHOWN_BAD_ROWS = 5
_LABELS = {"classification": "class", "regression": "value", "ranking": "relevance"}


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
            findings[name] = list(_task_findings(name, section, skip_bad_rows))
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


def _task_findings(name: str, section: TaskSection, allowed: int) -> Iterator[Finding]:
    reader = READERS[KINDS[section.kind].reads](columns=section.inputs)
    ids: dict[str, tuple[np.ndarray, Callable[[int], str]]] = {}
    kind = None
    for split in ("train", "dev", "test"):
        source = getattr(section, split)
        if source is None:
            continue
        try:
            rows = read_labelled(
                source,
                inputs=section.inputs,
                labels=section.labels,
                nested=KINDS[section.kind].nested,
                what=f"task '{name}', {split}",
                skip_bad_rows=_ALL,
            )
        except PotstillError as error:
            text = f"{error.thing}: {error.got}; wanted {error.wanted}"
            yield Finding(severity="error", what=text, where=None, todo=error.todo)
            continue
        inputs = {c: rows.columns[c] for c in section.inputs}
        of_rows = [
            *find_empty_texts(inputs, rows.where, reader.nothing),
            *find_non_texts(inputs, rows.where, reader.value_fault, reader.wanted),
        ]
        table = enumerate(zip(*inputs.values(), strict=True))
        bad = {i for i, values in table if reader.faults(values) is not None}
        n_faulty = len(rows.skipped) + len(bad)
        skips = 0 < n_faulty <= allowed
        if skips:  # as the run does, before it looks at labels
            rows, bad = rows.take([i for i in range(rows.n_rows) if i not in bad]), set()
        if not rows.n_rows:
            yield from _of_rows(of_rows, rows, split, n_faulty, skips)
            yield from find_empty_split(rows.n_rows, split, rows.source)
            continue
        if split == "train":
            kind, problems = _learned(section, rows)
            yield from problems
        kept = {c: [_kept(reader, v) for v in rows.columns[c]] for c in section.inputs}
        values, own = reader.in_order(kept), reader.ids(kept)
        encoded, faults = _encoded(kind, _labels_of(section, rows), values)
        of_rows += _label_faults(kind, section, rows, faults)
        if kind is not None:
            yield from _label_findings(kind, section, split, rows, encoded, values)
        n_faulty += len(faults.keys() - bad)
        skips = 0 < n_faulty <= allowed
        yield from _of_rows(of_rows, rows, split, n_faulty, skips)
        labels = _comparable(kind, _labels_of(section, rows), encoded, values)
        if skips and kind is not None:
            rows, own = rows.take([*encoded]), own[[*encoded]]
            labels = None if labels is None else [labels[i] for i in encoded]
        ids[split] = (own, rows.where)
        yield from find_duplicates(own, labels, split, rows.where)
    for one, other in combinations(ids, 2):
        yield from find_shared_rows(
            (one, other), (ids[one][0], ids[other][0]), (ids[one][1], ids[other][1])
        )


def _labels_of(section: TaskSection, rows: Rows) -> list[object]:
    """A label a row; a tuple where a kind has several label columns."""
    parts = [rows.columns[name] for name in section.labels]
    return parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))


def _comparable(
    kind: Kind | None,
    labels: Sequence[object],
    encoded: Mapping[int, Any],
    inputs: Sequence[Sequence[object]],
) -> list[str] | None:
    """A label a row, equal where they mean the same; None where several are right for one input."""
    if kind is not None and kind.generates:
        return None
    return [
        str(kind.label_in_words(encoded[i], [column[i] for column in inputs]))
        if kind is not None and i in encoded
        else str(label)
        for i, label in enumerate(labels)
    ]


def _learned(section: TaskSection, rows: Rows) -> tuple[Kind | None, list[Finding]]:
    """The kind with the label space of train, or why there is none."""
    label, labels = " and ".join(section.labels), _labels_of(section, rows)
    thing = _LABELS.get(section.kind)
    if thing and (single := find_single_value(label, labels, rows.where, thing=thing)):
        return None, single
    known = [v for v in labels if v is not None and v != ""]
    try:
        return KINDS[section.kind].learn(known, section.space_options), []
    except ValueError as error:
        return None, [find_no_task(label, labels, str(error), rows.where)]


def _encoded(
    kind: Kind | None, labels: Sequence[object], inputs: Sequence[Sequence[object]]
) -> tuple[dict[int, Any], dict[int, str]]:
    """The sound labels by row, and what is wrong with the others; none without a kind."""
    sound: dict[int, Any] = {}
    faults: dict[int, str] = {}
    if kind is None:
        return sound, faults
    for i, label in enumerate(labels):
        try:
            sound[i] = kind.encode(label, [column[i] for column in inputs])
        except ValueError as error:
            faults[i] = str(error)
    return sound, faults


def _label_faults(
    kind: Kind | None, section: TaskSection, rows: Rows, faults: Mapping[int, str]
) -> list[Finding]:
    """Errors for labels of single rows."""
    label = " and ".join(section.labels)
    if section.kind not in _LABELS:
        return find_faulty_labels(label, faults, rows.where)
    labels, numeric = _labels_of(section, rows), section.kind != "classification"
    found = find_missing_labels(label, labels, rows.where, numeric=numeric)
    if kind is not None:
        found += find_unfit_labels(label, labels, rows.where, kind.encode_label, numeric=numeric)
    return found


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
    todo = "give scores of all rows that are meant to have some"
    return [
        *(Finding(severity="warning", what=w, where=None, todo=todo) for w in warnings),
        *(Finding(severity="note", what=n, where=None, todo="") for n in notes),
    ]


def _label_findings(
    kind: Kind,
    section: TaskSection,
    split: str,
    rows: Rows,
    encoded: Mapping[int, Any],
    inputs: Sequence[Sequence[object]],
) -> Iterator[Finding]:
    """What the sound labels of a split hold."""
    if section.kind not in _LABELS:
        yield from _list_findings(kind, split, encoded, inputs, rows.where)
        return
    values = np.array([*encoded.values()])
    if isinstance(kind, Classification):
        classes = values.astype(np.int64)
        yield count_classes(kind.classes, classes, split)
        if split != "train":
            counts = np.bincount(classes, minlength=len(kind.classes))
            yield from find_absent_classes(kind.classes, counts, len(classes), split)
        else:
            named = {i: kind.classes_in(c) for i, c in zip(encoded, classes, strict=True)}
            yield from find_alike_classes(named, rows.where)
    elif isinstance(section, RankingTask) and encoded:
        queries = [rows.columns[section.query][i] for i in encoded]
        yield from find_lone_candidates(queries, values, split, rows.where)
    elif encoded:
        yield count_values(values, split)
        if section.kind == "regression" and split != "train":
            yield from find_constant_split(values, split, lambda i: rows.where([*encoded][i]))


def _kept(reader: Reader, value: object) -> object:
    """A value as rows keep it; one that cannot be read is text, to tell it from others."""
    return reader.value(value if reader.value_fault(value) is None else repr(value))


def _list_findings(
    kind: Kind,
    split: str,
    encoded: Mapping[int, Any],
    inputs: Sequence[Sequence[object]],
    where: Callable[[int], str],
) -> Iterator[Finding]:
    """What labels hold of which a row has several."""
    doubts: dict[int, str] = {}
    for i, label in encoded.items():
        if (doubt := kind.doubt(label, [column[i] for column in inputs])) is not None:
            doubts[i] = doubt
    yield from find_doubtful_labels(doubts, split, where)
    if split == "train":
        named = {i: kind.classes_in(label) for i, label in encoded.items()}
        yield from find_alike_classes(named, where)
    if encoded and isinstance(kind, Multilabel) and split != "train":
        counts = np.array([*encoded.values()]).sum(0)
        yield from find_absent_classes(kind.classes, counts, len(encoded), split)
    if encoded:
        holds = kind.describe(label_array([*encoded.values()]))
        what = f"{split}: {in_rows(len(encoded))}" + (f"; {holds}" if holds else "")
        yield Finding(severity="note", what=what, where=None, todo="")


def _of_rows(
    found: Sequence[Finding], rows: Rows, split: str, n_faulty: int, skips: bool
) -> Iterator[Finding]:
    """What is wrong with single rows: errors, or warnings where the run skips the rows.

    Args:
        found: Errors of rows that could be read.
        rows: These rows, with those that could not be read.
        split: The split's name.
        n_faulty: All faulty rows of the split.
        skips: They are as many as may be skipped.
    """
    bad = rows.skipped
    if bad:
        first = "; ".join(f"{rows.unit} {b.place}: {b.reason}" for b in bad[:_SHOWN_BAD_ROWS])
        yield Finding(
            severity="warning" if skips else "error",
            what=f"{split}: {len(bad)} faulty row(s): {first}",
            where=rows.source,
            todo="left out; mend them"
            if skips
            else f"{how_to_mend(b.reason for b in bad)}, or leave them out with "
            f"--skip-bad-rows {n_faulty}",
        )
    for finding in found:
        yield (
            replace(finding, severity="warning", todo=f"left out; {finding.todo}")
            if skips
            else finding
        )
