"""Index arithmetic on ranges of unequal lengths."""

from __future__ import annotations

import numpy as np


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The numbers from each start on, ``counts`` of them, one range after the other.

    Examples:
        >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
        [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total) + np.repeat(starts - ends + counts, counts))


def parts_of(counts: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    """Where the slots of some rows stand: ``counts[i]`` of them belong to row i, in order.

    Without counts every row is one slot.
    """
    if counts is None:
        return rows
    return ranges((np.cumsum(counts) - counts)[rows], counts[rows])
