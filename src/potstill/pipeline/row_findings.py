"""What `check` finds in the rows of a task's splits, before dev is set aside or pools are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from potstill.config.tasks import RankingTask
from potstill.config.tasks import Task as TaskSection
from potstill.core.errors import PotstillError
from potstill.kinds import KINDS, Classification, Kind, Multilabel
from potstill.tasks.column_findings import (
    count_classes,
    count_values,
    find_absent_classes,
    find_alike_classes,
    find_constant_split,
    find_doubtful_labels,
    find_lone_candidates,
    find_no_task,
    find_quoted_classes,
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

_ALL = 10**9  # faulty rows that `check` lists rather than stops at
_SHOWN_BAD_ROWS = 5
_LABELS = {"classification": "class", "regression": "value", "ranking": "relevance"}


def task_findings(name: str, section: TaskSection, allowed: int) -> Iterator[Finding]:
    """What is wrong with the rows of a task, and what they hold.

    Args:
        name: The task.
        section: What the run file says of it.
        allowed: How many faulty rows each source may have.
    """
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
            yield from find_quoted_classes(kind.classes, rows.source)
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
