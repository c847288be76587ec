"""Teachers that exist already: transformers models, and scores that somebody computed.

classifier   a folder or hub id in the transformers format of the task's kind: see
             ``given_classifiers``
scores       a table with a score per class (or ``value``), joined by inputs or by a key:
             see ``given_scores``
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from potstill.core.errors import DataError
from potstill.tasks.pools import whole_groups
from potstill.tasks.task import Task
from potstill.teachers.given_classifiers import try_classifier
from potstill.teachers.given_scores import read_scores, scores_outputs
from potstill.teachers.given_texts import texts_of_file, try_speaker
from potstill.teachers.member import Member


def look_at(
    member: Member, task: Task, note: Callable[[str], object] = lambda _: None
) -> list[str]:
    """Try a given teacher on a task: ask a classifier of a few texts, look through all scores.

    Args:
        member: The teacher.
        task: The task.
        note: Called with what is worth knowing: as what scores are read.

    Returns:
        Warnings: splits that its scores do not cover, outputs of an odd scale or trained as
        something else, equal rows of several scores.

    Raises:
        BaseModelError: It is no classifier that transformers can load, or one that breaks when it
            is asked, or whose answers depend on the texts beside a text.
        MismatchError: Its labels are not the task's.
        DataError: A score is missing or no number, nearly all are probabilities, or rows of one
            text differ.
    """
    if member.source == "classifier":
        if task.kind.generates:
            try_speaker(member, task)
            return []
        return try_classifier(member, task)
    found: list[str] = []
    splits = {"train": task.train, "pool": task.pool, "dev": task.dev, "test": task.test}
    there = {name: split for name, split in splits.items() if split is not None}
    if task.kind.generates:
        cover = np.array([text is not None for text in texts_of_file(member, task, there.values())])
    else:
        scores = read_scores(member, task)
        if scores.space is not None:
            note(f"its scores are read as {scores.space}")
        outputs, cover = scores_outputs(member, task, list(there.values()), scores, found.append)
        taught = np.flatnonzero(cover[: len(task.train)])
        # Scores without a space are one a row, so that outputs are rows.
        odd = task.kind.odd_scores(outputs[taught]) if len(taught) and not scores.space else None
        found += [] if odd is None else [f"its scores look odd: {odd}"]
    start = n_taught = 0
    for name, split in there.items():
        own = cover[start : start + len(split)]
        start += len(split)
        if split.groups is None:
            n, of, what = int(own.sum()), len(split), "rows"
        else:  # an opinion on a part of a list says nothing of its order
            whole = whole_groups(own, split.groups)
            n, of, what = int(whole.sum()), len(whole), "whole lists"
        if n < of:
            then = _then(task, name, covered=n)
            found.append(f"its scores cover {n} of {of} {what} of {name}: {then}")
        n_taught += n if name in ("train", "pool") else 0
    if not n_taught:
        raise DataError(
            f"task '{task.name}', scores",
            got="no list of train or pool whose rows all have a score",
            wanted="a score for every candidate of a query",
            todo="score the other candidates too, or leave their rows out",
        )
    return found


def _then(task: Task, split: str, *, covered: int) -> str:
    """What follows where scores cover a split in part, or not at all."""
    if split == "train":
        return "the others learn from their labels alone"
    if split == "pool":
        return "the others teach nothing"
    if split == "test" or task.test is None or (task.kind.tunes and not covered):
        return "the ensemble has no score"
    if not covered:
        return "no member can be chosen by it"
    return f"members {'and thresholds ' if task.kind.tunes else ''}are chosen by these"
