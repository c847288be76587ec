"""Which rows a bootstrap draws together, for tasks and seeds that report on rows in common."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from potstill.evaluation.compare import Draw
from potstill.tasks.rowids import digest_rows
from potstill.tasks.sources import PYTHON_SOURCE
from potstill.tasks.task import Split


def draws_of(splits: Mapping[str, Sequence[Split]]) -> dict[str, list[Draw]]:
    """What a resample draws, for each task and seed.

    Rows are the same where they are the same row of a file, whatever is read of it (two directions
    of a translation), and where two splits have the same inputs in the same order. Splits that
    share a row are drawn from all rows of both; the candidates of a query are drawn together, and
    so are rows that another task reads as one query.

    Args:
        splits: Task to the reported rows of each seed.
    """
    each = [(task, split) for task, own in splits.items() for split in own]
    inputs = [digest_rows(split.ids, None) for _, split in each]
    family: dict[str, str] = {}  # inputs or file to what stands for all that hang together

    def root(name: str) -> str:
        while (above := family.setdefault(name, name)) != name:
            name = above
        return name

    for own, (_, split) in zip(inputs, each, strict=True):
        if split.source != PYTHON_SOURCE:
            first, last = sorted((root(own), root(f"rows of {split.source}")))  # digits come first
            family[last] = first
    found: dict[str, list[Draw]] = {task: [] for task in splits}
    for name in dict.fromkeys(map(root, inputs)):
        members = [i for i, own in enumerate(inputs) if root(own) == name]
        number = zlib.crc32(name.encode())
        for i, draw in zip(
            members,
            _family([each[i][1] for i in members], [inputs[i] for i in members], number),
            strict=True,
        ):
            found[each[i][0]].append(draw)
    return found


def _family(splits: Sequence[Split], inputs: Sequence[str], number: int) -> list[Draw]:
    """The draws of splits that may share rows."""
    rows: dict[tuple[str, int], int] = {}  # source and place to a number of the row
    own: list[np.ndarray] = []
    for split, digest in zip(splits, inputs, strict=True):
        source = digest if split.source == PYTHON_SOURCE else split.source
        keys = ((source, int(place)) for place in split.places)
        own.append(np.array([rows.setdefault(key, len(rows)) for key in keys], np.int64))
    links = [(numbers, numbers[_first_of_group(s)]) for s, numbers in zip(splits, own, strict=True)]
    alike: dict[str, int] = {}
    for i, digest in enumerate(inputs):
        links.append((own[i], own[alike.setdefault(digest, i)]))
    a, b = (np.concatenate(ends) for ends in zip(*links, strict=True))
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(len(rows), len(rows)))
    size, units = connected_components(graph, directed=False)
    draws = []
    for split, numbers in zip(splits, own, strict=True):
        firsts = np.unique(_first_of_group(split))
        if split.groups is not None:  # a metric's units are in the order of the groups' numbers
            firsts = np.unique(split.groups, return_index=True)[1]
        draws.append(Draw(number=number, size=size, units=units[numbers[firsts]].astype(np.int64)))
    return draws


def _first_of_group(split: Split) -> np.ndarray:
    """(N,) for each row the first one that is drawn with it, within the split."""
    if split.groups is None:
        return np.arange(len(split))
    _, firsts, group = np.unique(split.groups, return_index=True, return_inverse=True)
    return np.asarray(firsts[group])
