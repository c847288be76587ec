"""Which tasks of a training learn from one encoder pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from potstill.models.token_rows import TokenRows
from potstill.training.feed import Feed


def shared_passes(feeds: Sequence[Feed], shared: Sequence[Sequence[str]]) -> dict[str, list[Feed]]:
    """Feeds that learn from one encoder pass, by the name of the first: those of the same texts.

    Where two tasks have labels for the same rows, such as intent and slots of an utterance, a batch
    of the rows is encoded once and both heads learn from it.
    """
    passes: dict[str, list[Feed]] = {}
    together = {name: i for i, names in enumerate(shared) for name in names}
    for feed in feeds:
        group = together.get(feed.task, -1)
        alike = (
            n
            for n, own in passes.items()
            if group >= 0 and together.get(n) == group and _same_texts(own[0], feed)
        )
        name = next(alike, feed.task)
        passes.setdefault(name, []).append(feed)
    return passes


def _same_texts(one: Feed, other: Feed) -> bool:
    return (
        not (one.kind.grouped or other.kind.grouped)
        and not (one.kind.generates or other.kind.generates)
        and np.array_equal(one.labelled, other.labelled)
        and np.array_equal(one.tokens.bounds, other.tokens.bounds)
        and np.array_equal(one.tokens.offsets, other.tokens.offsets)
        and np.array_equal(one.tokens.ids, other.tokens.ids)
        and np.array_equal(one.tokens.types, other.tokens.types)
        # Rows of several windows are read whole by one task, and cut off by the other.
        and (one.kind.slotted == other.kind.slotted or len(one.tokens) == one.tokens.n_rows)
        and _same_slots(one.tokens, other.tokens)
    )


def _same_slots(one: TokenRows, other: TokenRows) -> bool:
    if one.slots is None or other.slots is None:
        return True
    return np.array_equal(one.slots.first, other.slots.first) and np.array_equal(
        one.slots.last, other.slots.last
    )
