"""What is worth knowing of a task's columns as a whole: their labels, the length of their texts.

Single rows that are faulty are in :mod:`potstill.tasks.findings`. Values in, findings out, as
there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from potstill.tasks.findings import Finding, Where, in_rows

_SHOWN_PLACES = 3
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
    """A warning where classes differ in case or blanks only: one class by a slip, as a rule.

    Args:
        classes: Row of train to the classes that its label names.
        where: Place of a row.
    """
    counts = Counter(name for names in classes.values() for name in names)
    alike: dict[str, list[str]] = {}
    for name, _ in counts.most_common():
        alike.setdefault("".join(name.casefold().split()), []).append(name)
    groups = [names for names in alike.values() if len(names) > 1]
    if not groups:
        return []
    shown = "; ".join(
        " and ".join(f"'{name}' ({counts[name]})" for name in names)
        for names in groups[:_SHOWN_GROUPS]
    )
    more = f"; and {len(groups) - _SHOWN_GROUPS} more" if len(groups) > _SHOWN_GROUPS else ""
    rarest = groups[0][-1]
    return [
        Finding(
            severity="warning",
            what=f"train has classes that differ in case or blanks only: {shown}{more}",
            where=where(next(row for row, names in classes.items() if rarest in names)),
            todo="write them alike, unless they are meant to be classes of their own",
        )
    ]


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
