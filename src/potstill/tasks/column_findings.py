"""What is worth knowing of a task's columns as a whole: their labels, the length of their texts.

Single rows that are faulty are in :mod:`potstill.tasks.findings`. Values in, findings out, as
there.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from potstill.core.characters import as_integer, folded, made_visible
from potstill.tasks.findings import Finding, Where, an_error, in_rows

_SHOWN_PLACES = 3
_SHOWN_CLASSES = 50
_FEW_UNITS = 50
_SHOWN_GROUPS = 10
_MANY = 0.02  # cut texts, above which they are no stray long ones


def find_no_task(column: str, labels: Sequence[object], why: str, where: Where) -> Finding:
    """The error for train labels that leave nothing to learn.

    Args:
        column: The label column's name, or the names of several.
        labels: Those of train, a value a row.
        why: What the kind says of them.
        where: Place of a row.
    """
    there = (i for i, label in enumerate(labels) if label is not None and label != "")
    return Finding(
        severity="error",
        what=f"column '{column}' of train: {why} ({in_rows(len(labels))})",
        where=where(next(there, 0)),
        todo="check that the run file names the column of the labels, and what its rows hold",
    )


def find_alike_classes(classes: Mapping[int, Sequence[str]], where: Where) -> list[Finding]:
    """A warning where classes differ in case, blanks or what cannot be seen: by a slip, as a rule.

    Args:
        classes: Row of train to the classes that its label names.
        where: Place of a row.
    """
    counts = Counter(name for names in classes.values() for name in names)
    alike: dict[str, list[str]] = {}
    for name, _ in counts.most_common():
        alike.setdefault(as_integer(folded(name)), []).append(name)
    groups = [names for names in alike.values() if len(names) > 1]
    if not groups:
        return []
    shown = "; ".join(
        " and ".join(f"'{made_visible(name)}' ({counts[name]})" for name in names)
        for names in groups[:_SHOWN_GROUPS]
    )
    more = f"; and {len(groups) - _SHOWN_GROUPS} more" if len(groups) > _SHOWN_GROUPS else ""
    rarest = groups[0][-1]
    every = [name for names in groups for name in names]
    composed = all(unicodedata.is_normalized("NFC", name) for name in every)
    spelled = "" if composed else ", or in how accents are stored"
    if any(made_visible(name) != name for name in every):
        spelled += ", or in characters that cannot be seen"
    if any(as_integer(name) != name for name in every):
        spelled += ", or in how a number is written"
    return [
        Finding(
            severity="warning",
            what=f"train has classes that differ in case or blanks only{spelled}: {shown}{more}",
            where=where(next(row for row, names in classes.items() if rarest in names)),
            todo="write them alike, unless they are meant to be classes of their own",
        )
    ]


def find_quoted_classes(classes: Iterable[str], where: str) -> list[Finding]:
    """A warning where classes stand in quotes: in csv a blank before a quote makes it a letter."""
    quoted = [name for name in classes if len(name) > 2 and name[0] == name[-1] == '"']
    if not quoted:
        return []
    what = f"train has classes with quotes around them, which predictions will have: {quoted[0]}"
    todo = "in csv no blank may stand before a quote"
    return [Finding(severity="warning", what=what, where=where, todo=todo)]


def find_doubtful_labels(doubts: Mapping[int, str], split: str, where: Where) -> list[Finding]:
    """A warning of sound labels that a kind has doubts about.

    Args:
        doubts: Row to what is doubtful; the first row's words stand for all.
        split: The split's name.
        where: Place of a row.
    """
    if not doubts:
        return []
    first, *others = doubts
    also = "; ".join(where(i) for i in others[:_SHOWN_PLACES])
    dots = "; …" if len(others) > _SHOWN_PLACES else ""
    return [
        Finding(
            severity="warning",
            what=f"{split}: {in_rows(len(doubts))} with {doubts[first]}"
            + (f" (also {also}{dots})" if also else ""),
            where=where(first),
            todo="correct the labels, or leave the rows out",
        )
    ]


def find_cut_texts(
    inputs: float, targets: float, max_tokens: int, *, says: bool, more: bool = True
) -> list[Finding]:
    """A warning of texts that the limit cuts, or a note where they are few.

    Args:
        inputs: Share of the rows that were tried whose inputs lose their end.
        targets: Share of the targets that do.
        max_tokens: The limit.
        says: The task has targets.
        more: The base may read more.
    """
    shares = {"sources" if says else "texts": inputs, "targets": targets}
    found = []
    for texts, share in shares.items():
        if not share:
            continue
        many = share > _MANY
        taught = "; a student learns from such targets not to come to an end"
        todo = (
            "raise `training: {max_tokens: …}` as far as the base goes, or shorten the texts"
            if more
            else "shorten the texts, or choose a base that reads longer ones"
        )
        found.append(
            Finding(
                severity="warning" if many else "note",
                what=f"{share:.1%} of the tried {texts} are longer than {max_tokens} tokens and "
                f"lose their end{taught if texts == 'targets' else ''}",
                where=None,
                todo=todo if many else "",
            )
        )
    return found


def find_constant_split(labels: np.ndarray, split: str, where: Where) -> list[Finding]:
    """An error where all values of dev or test are the same: every correlation with them is 0."""
    if len(labels) < 2 or len(np.unique(labels)) > 1:
        return []
    what = f"{split}: all {in_rows(len(labels))} have the value {labels[0]:g}"
    todo = "tests whose labels are kept secret have one value: take another split, or none"
    return [an_error(what, where(0), todo)]


def find_lone_candidates(
    queries: Sequence[object], labels: Sequence[float] | np.ndarray, split: str, where: Where
) -> list[Finding]:
    """An error where no query has two candidates of different relevance; else a note with counts.

    Args:
        queries: The query of each row.
        labels: Its relevance.
        split: The split's name.
        where: Place of a row.
    """
    relevances: dict[object, list[float]] = {}
    for query, label in zip(queries, labels, strict=True):
        relevances.setdefault(query, []).append(float(label))
    rankable = sum(len(set(values)) > 1 for values in relevances.values())
    if not rankable:
        what = (
            f"{split}: none of its {len(relevances)} queries has two candidates of different "
            "relevance, so there is nothing to rank"
        )
        return [an_error(what, where(0), "check the query column, and give each query candidates")]
    sizes = sorted(map(len, relevances.values()))
    what = (
        f"{split}: {in_rows(len(labels))} of {len(relevances)} queries, {sizes[0]} to {sizes[-1]} "
        f"candidates each; in {rankable} queries their relevance differs"
    )
    return [Finding(severity="note", what=what, where=None, todo="")]


def count_values(labels: np.ndarray, split: str) -> Finding:
    """A note with the range of a regression's labels."""
    what = (
        f"{split}: {in_rows(len(labels))}, labels from {labels.min():g} to {labels.max():g}, "
        f"{labels.mean():.3g} on the mean"
    )
    return Finding(severity="note", what=what, where=None, todo="")


def count_classes(classes: Sequence[str], labels: np.ndarray, split: str) -> Finding:
    """A note with the rows of each class, most frequent first.

    Args:
        classes: The C classes.
        labels: (N,) class index of each row.
        split: The split's name.
    """
    counts = _counts(classes, labels)
    order = np.argsort(-counts, kind="stable")
    shown = ", ".join(f"{classes[c]} {counts[c]}" for c in order[:_SHOWN_CLASSES])
    dots = f", and {len(order) - _SHOWN_CLASSES} more" if len(order) > _SHOWN_CLASSES else ""
    what = f"{split}: {in_rows(len(labels))} of {len(classes)} classes: {shown}{dots}"
    return Finding(severity="note", what=what, where=None, todo="")


def find_absent_classes(
    classes: Sequence[str], counts: np.ndarray, n_rows: int, split: str, *, more: bool = True
) -> list[Finding]:
    """A warning where a split has no row of some classes.

    Args:
        classes: The C classes of train.
        counts: (C,) rows of the split that have each.
        n_rows: Rows of the split.
        split: The split's name; ``train`` is what `rows:` left of it.
        more: The file of train has further rows.
    """
    absent = np.flatnonzero(counts == 0)
    if not len(absent):
        return []
    names = ", ".join(f"'{classes[c]}'" for c in absent[:_SHOWN_CLASSES])
    dots = ", …" if len(absent) > _SHOWN_CLASSES else ""
    what = f"{split} has no row of {len(absent)} of {len(classes)} classes: {names}{dots}"
    todo = f"the score of {split} says nothing about them; a stratified {split} would"
    if split == "train":
        what += f", with {in_rows(n_rows)} in use"
        todo = "no teacher and no student learns them: " + (
            "raise `rows:`, or take them out"
            if more
            else "add rows that have them, or take them out"
        )
    return [Finding(severity="warning", what=what, where=None, todo=todo)]


def find_labels_of_all(classes: Sequence[str], counts: np.ndarray, n_rows: int) -> list[Finding]:
    """A warning of labels that every row of train has, of which there is nothing to learn.

    Args:
        classes: The C labels.
        counts: (C,) rows that have each.
        n_rows: Rows of train.
    """
    names = [f"'{classes[int(c)]}'" for c in np.flatnonzero(counts == n_rows)]
    if not names:
        return []
    dots = ", …" if len(names) > _SHOWN_CLASSES else ""
    what = f"train: every row has {', '.join(names[:_SHOWN_CLASSES])}{dots}"
    todo = "rows without them would tell what they mean; or leave the labels out"
    return [Finding(severity="warning", what=what, where=None, todo=todo)]


def _counts(classes: Sequence[str], labels: np.ndarray) -> np.ndarray:
    return np.bincount(np.asarray(labels, np.int64), minlength=len(classes))


def find_small_split(n_units: int, units: str, split: str) -> list[Finding]:
    """A warning where so little is scored that one row more or less moves every score.

    Args:
        n_units: Rows, or queries of a ranking, of the split.
        units: What they are, in the plural.
        split: ``dev`` or ``test``.
    """
    if n_units >= _FEW_UNITS:
        return []
    use = "chooses epochs" if split == "dev" else "judges the student"
    what = f"{split}: {n_units} {units}, a score of which {use}: one is {1 / n_units:.0%} of it"
    return [Finding(severity="warning", what=what, where=None, todo=f"give {split} 100 or more")]
