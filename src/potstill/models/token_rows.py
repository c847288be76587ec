"""Token ids of many rows: padded, joined, made distinct. Knows neither text nor tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from potstill.core.arrays import ranges

LENGTH_STEP = 8
"""Tokens by which the widths of batches differ.

A CPU's matrix units run products that are compiled for each shape, and compiling one can take
longer than running it: batches must have few shapes.
"""


def padded_lengths(lengths: np.ndarray, most: int | None = None) -> np.ndarray:
    """Lengths rounded up to a multiple of ``LENGTH_STEP``, but not above ``most``.

    Examples:
        >>> padded_lengths(np.array([1, 8, 9, 49]), most=50).tolist()
        [8, 8, 16, 50]
    """
    padded: np.ndarray = -(-np.asarray(lengths) // LENGTH_STEP) * LENGTH_STEP
    return padded if most is None else np.maximum(np.minimum(padded, most), lengths)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slots:
    """Places in tokenised texts that heads answer at, such as words.

    Attributes:
        offsets: (R + 1,) int64; the slots of text r are ``offsets[r]`` to ``offsets[r + 1]``.
        first: (S,) int32 each slot's first token in its text.
        last: (S,) int32 its last token.
    """

    offsets: np.ndarray
    first: np.ndarray
    last: np.ndarray

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The slots of some texts in their order, (B,), and the place of each one's text (B,)."""
        counts = self.offsets[rows + 1] - self.offsets[rows]
        return ranges(self.offsets[rows], counts), np.repeat(np.arange(len(rows)), counts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenRows:
    """R tokenised texts, one after the other: those of N rows of data.

    A row is one text, unless it is too long and is read in several windows, which then follow each
    other.

    Attributes:
        ids: (sum of T,) int32 token ids of all texts.
        types: (sum of T,) uint8, 1 in the second text of a pair.
        offsets: (R + 1,) int64; text i is ``ids[offsets[i]:offsets[i + 1]]``.
        truncated: (N,) bool: the row was longer than the limit and lost its end.
        windows: (N + 1,) int64; row i is the texts ``windows[i]`` to ``windows[i + 1]``. None where
            every row is one text.
        slots: Where heads answer; None where they answer once a text.
    """

    ids: np.ndarray
    types: np.ndarray
    offsets: np.ndarray
    truncated: np.ndarray
    windows: np.ndarray | None = None
    slots: Slots | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_rows(self) -> int:
        """N, rows of data."""
        return len(self) if self.windows is None else len(self.windows) - 1

    @property
    def bounds(self) -> np.ndarray:
        """(N + 1,) the texts of row i are ``bounds[i]`` to ``bounds[i + 1]``."""
        return np.arange(len(self) + 1) if self.windows is None else self.windows

    @property
    def first_texts(self) -> np.ndarray:
        """(N,) the text that each row begins with."""
        return self.bounds[:-1]

    @property
    def lengths(self) -> np.ndarray:
        """(N,) tokens a text."""
        return np.diff(self.offsets)

    def pad(
        self, rows: np.ndarray, padding: int, width: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids, mask and types of the texts ``rows``, each (B, T).

        Args:
            rows: (B,) which texts.
            padding: Id of the padding token.
            width: T; None: the tokens of the longest.
        """
        starts, lengths = self.offsets[rows], self.lengths[rows]
        columns = np.arange(int(lengths.max()) if width is None else width)
        mask = columns < lengths[:, None]
        places = np.where(mask, starts[:, None] + columns, 0)
        ids = np.where(mask, self.ids[places], padding).astype(np.int64)
        types = np.where(mask, self.types[places], 0).astype(np.int64)
        return ids, mask, types


def pick_slots(
    outputs: np.ndarray,
    texts: np.ndarray,
    slots: Slots,
    places: np.ndarray,
    at_last: Sequence[int] = (),
) -> np.ndarray:
    """Outputs of slots from those of all tokens of a batch.

    Args:
        outputs: (B, T, C) outputs at every token.
        texts: (P,) place in the batch of each slot's text.
        slots: Where the slots of all texts are.
        places: (P,) which of them are asked for; see :meth:`Slots.of`.
        at_last: Outputs that are read at a slot's last token; the others at its first.

    Returns:
        (P, C).
    """
    columns = np.arange(outputs.shape[-1])
    tokens = np.where(
        np.isin(columns, list(at_last)), slots.last[places, None], slots.first[places, None]
    )
    return np.asarray(outputs[texts[:, None], tokens, columns])


def join_rows(parts: Sequence[tuple[TokenRows, np.ndarray]]) -> TokenRows:
    """Some texts of several sets as one set, in which each text is a row of its own."""
    lengths = np.concatenate([tokens.lengths[rows] for tokens, rows in parts])
    places = [
        slice(tokens.offsets[i], tokens.offsets[i + 1]) for tokens, rows in parts for i in rows
    ]
    owners = [tokens for tokens, rows in parts for _ in rows]
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    none = [np.empty(0, np.int32)]
    pairs = list(zip(owners, places, strict=True))
    return TokenRows(
        ids=np.concatenate([owner.ids[p] for owner, p in pairs] or none),
        types=np.concatenate([owner.types[p] for owner, p in pairs] or none).astype(np.uint8),
        offsets=offsets,
        truncated=np.concatenate(
            [
                tokens.truncated[rows] if tokens.windows is None else np.zeros(len(rows), bool)
                for tokens, rows in parts
            ]
        ),
        slots=_join_slots(parts),
    )


def _join_slots(parts: Sequence[tuple[TokenRows, np.ndarray]]) -> Slots | None:
    """The slots of the same texts; texts of sets without slots have none."""
    if all(tokens.slots is None for tokens, _ in parts):
        return None
    counts, first, last = [], [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    for tokens, rows in parts:
        if tokens.slots is None:
            counts.append(np.zeros(len(rows), np.int64))
            continue
        own, _ = tokens.slots.of(rows)
        counts.append(tokens.slots.offsets[rows + 1] - tokens.slots.offsets[rows])
        first.append(tokens.slots.first[own])
        last.append(tokens.slots.last[own])
    return Slots(
        offsets=np.r_[0, np.cumsum(np.concatenate(counts))],
        first=np.concatenate(first),
        last=np.concatenate(last),
    )


def distinct_rows(tokens: TokenRows) -> tuple[np.ndarray, np.ndarray]:
    """First row of each distinct text (D,), and each row's place among them (N,)."""
    first: dict[bytes, int] = {}
    kept: list[int] = []
    place = np.empty(len(tokens), np.int64)
    for i in range(len(tokens)):
        part = slice(tokens.offsets[i], tokens.offsets[i + 1])
        key = tokens.ids[part].tobytes() + tokens.types[part].tobytes()
        if tokens.slots is not None:
            own = slice(tokens.slots.offsets[i], tokens.slots.offsets[i + 1])
            key += tokens.slots.first[own].tobytes() + tokens.slots.last[own].tobytes()
        if key not in first:
            first[key] = len(kept)
            kept.append(i)
        place[i] = first[key]
    return np.array(kept, np.int64), place
