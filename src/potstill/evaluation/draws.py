"""Which rows a bootstrap draws together, for tasks and seeds that report on rows in common."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from potstill.evaluation.compare import Draw
from potstill.tasks.rowids import digest_rows
from potstill.tasks.sources import PYTHON_SOURCE
from potstill.tasks.task import Split

_LEAST_DRAWN = 30
"""Of so few draws, or of their number by size, an interval says little: a split has its own."""


def draws_of(splits: Mapping[str, Sequence[Split]]) -> dict[str, list[Draw]]:
    """What a resample draws, for each task and seed.

    Rows are the same where they are the same row of a file, whatever is read of it (two directions
    of a translation), or have the same inputs. Splits that share a row are drawn from all rows of
    both, and what another task reads as one query is drawn together. Where that would leave few
    draws (two rankings that turn each other's queries round), a split is drawn on its own.

    Args:
        splits: Task to the reported rows of each seed; their groups are those that are scored.
    """
    each = [split for own in splits.values() for split in own]
    rows, n_rows, links = _rows(each)
    _, part = connected_components(_graph(links, n_rows), directed=False)
    units = [part[own[_firsts(split)]] for split, own in zip(each, rows, strict=True)]
    apart = [_n_effective(own) >= min(len(own), _LEAST_DRAWN) for own in units]
    joins = [
        np.stack([own, np.full(len(own), n_rows + i)]) for i, own in enumerate(units) if apart[i]
    ]
    _, family = connected_components(_graph(joins, n_rows + len(each)), directed=False)
    numbers = [zlib.crc32(digest_rows(split.ids, None).encode()) for split in each]
    draws = []
    for i, own in enumerate(units):
        if not apart[i]:
            draws.append(Draw(number=numbers[i], size=len(own)))
            continue
        others = [
            k for k in range(len(each)) if apart[k] and family[n_rows + k] == family[n_rows + i]
        ]
        drawn = np.unique(np.concatenate([units[k] for k in others]))
        number = min(numbers[k] for k in others)
        draws.append(Draw(number=number, size=len(drawn), units=np.searchsorted(drawn, own)))
    found = iter(draws)
    return {task: [next(found) for _ in own] for task, own in splits.items()}


def _n_effective(units: np.ndarray) -> float:
    """How many draws of equal size would be as good: Kish's number."""
    _, sizes = np.unique(units, return_counts=True)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def _rows(each: Sequence[Split]) -> tuple[list[np.ndarray], int, list[np.ndarray]]:
    """A number of each row of each split, how many there are, and which of them are one."""
    known: dict[Hashable, int] = {}
    rows, links = [], []
    for split in each:
        seen: Counter[bytes] = Counter()
        texts, places = [], []
        for row_id, place in zip(split.ids, split.places.tolist(), strict=True):
            text = row_id.tobytes()
            texts.append(known.setdefault((text, seen[text]), len(known)))
            seen[text] += 1  # a text that stands twice is two rows
            if split.source != PYTHON_SOURCE:
                places.append(known.setdefault((split.source, place), len(known)))
        own = np.array(texts, np.int64)
        rows.append(own)
        if places:
            links.append(np.stack([own, np.array(places)]))
        if split.groups is not None:
            _, first, group = np.unique(split.groups, return_index=True, return_inverse=True)
            links.append(np.stack([own, own[first[group]]]))
    return rows, len(known), links


def _firsts(split: Split) -> np.ndarray:
    """(U,) the first row of each unit, in the order of metrics' units."""
    if split.groups is None:
        return np.arange(len(split))
    return np.asarray(np.unique(split.groups, return_index=True)[1])


def _graph(links: Sequence[np.ndarray], size: int) -> coo_array:
    a, b = np.concatenate(links, axis=1) if links else np.empty((2, 0), np.int64)
    return coo_array((np.ones(len(a), np.int8), (a, b)), shape=(size, size))
