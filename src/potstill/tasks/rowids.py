"""Stable identities of rows, and what is drawn by them: folds, stratified shares, digests.

A row's id is a digest of its inputs, never of its place or label: the same text has the same id
in every file and task, and soft targets find their row after files were sorted or joined.
Strings are taken as they are, without any normalisation.
"""

from __future__ import annotations

import hashlib
import math
import operator
import struct
from collections.abc import Hashable, Sequence

import numpy as np

from potstill.core.characters import is_unseen

ID_BYTES = 16
QUANTILE_BINS = 10


def row_id(inputs: Sequence[object]) -> bytes:
    """The id of one row: a 16-byte BLAKE2b digest of its inputs in order.

    Each value enters with its type and length, so that no two different rows share an encoding:
    ``("ab", "c")`` and ``("a", "bc")`` differ, and so do ``1``, ``1.0``, ``True`` and ``"1"``.

    Args:
        inputs: str, bytes, bool, int, float or None, or sequences of these.

    Raises:
        TypeError: A value is of another type.

    Examples:
        >>> row_id(["A warm, funny film."]).hex()
        '8742a3c6f60b3a9d5fdfdf1083bc1e5e'
    """
    return hashlib.blake2b(b"".join(map(_encode, inputs)), digest_size=ID_BYTES).digest()


def row_ids(columns: Sequence[Sequence[object]]) -> np.ndarray:
    """The ids of N rows, (N, 16) uint8, contiguous.

    Args:
        columns: The input columns in order, N values each; at least one.

    Raises:
        TypeError: A value cannot be encoded; see :func:`row_id`.
        ValueError: There is no column, or they differ in length.
    """
    if not columns:
        raise ValueError("row_ids needs at least one column")
    joined = b"".join([row_id(row) for row in zip(*columns, strict=True)])
    return np.frombuffer(joined, np.uint8).reshape(-1, ID_BYTES).copy()


def sort_keys(ids: np.ndarray) -> np.ndarray:
    """Ids (N, 16) as N scalars of dtype V16, in byte order: for sort, unique, isin, searchsorted.

    Raises:
        ValueError: ``ids`` is not (N, 16) uint8.
    """
    if ids.dtype != np.uint8 or ids.ndim != 2 or ids.shape[1] != ID_BYTES:
        raise ValueError(f"ids must be (N, 16) uint8, not {ids.shape} {ids.dtype}")
    return np.ascontiguousarray(ids).view(f"V{ID_BYTES}").reshape(-1)


def join_key(value: object) -> str | None:
    """The key that joins a row with rows of another table, as text; None where it has none.

    One missing key turns a DataFrame's whole column into floats, so 7 and 7.0 are one key.

    Examples:
        >>> join_key(7), join_key("7"), join_key(7.0), join_key(" "), join_key(float("nan"))
        ('7', '7', '7', None, None)
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value)
    return None if is_unseen(text) else text


def digest_rows(ids: np.ndarray, labels: Sequence[object] | np.ndarray | None) -> str:
    """SHA-256 (hex) over ids and labels in order; without labels it differs from any with.

    Args:
        ids: (N, 16) uint8.
        labels: N labels, or None. Their types count: ``1`` and ``1.0`` differ.

    Raises:
        TypeError: A label cannot be encoded; see :func:`row_id`.
        ValueError: ``labels`` are not N.
    """
    digest = hashlib.sha256(b"rows" + len(ids).to_bytes(8, "big"))
    digest.update(sort_keys(ids).tobytes())
    if labels is not None:
        if len(labels) != len(ids):
            raise ValueError(f"{len(labels)} labels for {len(ids)} rows")
        values = labels.tolist() if isinstance(labels, np.ndarray) else labels
        digest.update(b"labels")
        digest.update(b"".join(map(_encode, values)))
    return digest.hexdigest()


def fold_of(ids: np.ndarray, n_folds: int) -> np.ndarray:
    """The fold of each row, (N,) int64 in 0 … ``n_folds`` - 1, by its id alone.

    Equal rows share a fold wherever they stand, and adding rows moves none. Sizes are equal in
    expectation only.

    Raises:
        ValueError: ``n_folds`` is below 1, or ``ids`` is not (N, 16) uint8.
    """
    if n_folds < 1:
        raise ValueError(f"n_folds must be 1 or more, not {n_folds}")
    # The last 8 bytes, so that the order of ids says nothing about folds.
    words = np.frombuffer(sort_keys(ids).tobytes(), ">u8").reshape(-1, 2)[:, 1]
    return (words % np.uint64(n_folds)).astype(np.int64)


def stratified_sample(labels: Sequence[Hashable] | np.ndarray, n: int, seed: int) -> np.ndarray:
    """Draw ``n`` of N rows so that the sample's labels are shared out as those of all rows.

    Classes get their share by largest remainder, so within one row of it; where ``n`` allows,
    each class keeps at least one row, taken from the class that is most above its share. Float
    labels are classes by value where there are few values, otherwise ten bins of equal size.

    Args:
        labels: N classes (strings, ints) or N floats.
        n: Rows to draw; N or more gives all.
        seed: Seed of the draw. The same seed and a larger ``n`` mostly keep the drawn rows.

    Returns:
        Indices of the drawn rows, sorted, int64.

    Raises:
        ValueError: ``n`` is below 1, or a float label is not finite.
    """
    if n < 1:
        raise ValueError(f"a sample needs 1 row or more, not {n}")
    if n >= len(labels):
        return np.arange(len(labels))
    strata = _strata(labels, n)
    sizes = np.bincount(strata)
    chosen = [
        np.random.default_rng([seed, stratum]).permutation(np.flatnonzero(strata == stratum))[:k]
        for stratum, k in enumerate(_shares(sizes, n, seed))
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def stratified_groups(
    labels: Sequence[Hashable] | np.ndarray, groups: np.ndarray, n: int, seed: int
) -> np.ndarray:
    """As :func:`stratified_sample`, but all or none of the rows of a group.

    A class takes groups in turn while they bring it nearer to its share: one that is too large for
    it is passed over. Where every row is its own group, the sample is the same.

    Args:
        labels: N classes or N floats.
        groups: (N,) group of each row, such as rows of one text.
        n: Rows wanted.
        seed: Seed of the draw.

    Returns:
        Indices of the drawn rows, sorted, int64; they may be fewer than ``n``, or a few more.
    """
    strata = _strata(labels, n)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    drawn = np.zeros(len(sizes), bool)
    for stratum, share in enumerate(_shares(np.bincount(strata), n, seed)):
        rng = np.random.default_rng([seed, stratum])
        left = int(share)
        for g in group[rng.permutation(np.flatnonzero(strata == stratum))]:
            if left <= 0:
                break
            if not drawn[g] and sizes[g] < 2 * left:
                drawn[g] = True
                left -= int(sizes[g])
    return np.flatnonzero(drawn[group]).astype(np.int64)


def sample_groups(groups: np.ndarray, n_rows: int, seed: int) -> np.ndarray:
    """Draw whole groups until there are about ``n_rows`` rows; at least one group.

    Args:
        groups: (N,) group of each row.
        n_rows: Rows wanted; the draw stops where it is nearest to this.
        seed: Seed of the draw.

    Returns:
        Indices of the rows of the drawn groups, sorted, int64.

    Raises:
        ValueError: ``n_rows`` is below 1, or there is no group.
    """
    if n_rows < 1 or not len(groups):
        raise ValueError("sample_groups needs rows, and n_rows of 1 or more")
    _, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(sizes))
    n_drawn = 1 + int(np.argmin(np.abs(np.cumsum(sizes[order]) - n_rows)))
    drawn = np.zeros(len(sizes), bool)
    drawn[order[:n_drawn]] = True
    return np.flatnonzero(drawn[index]).astype(np.int64)


def _encode(value: object) -> bytes:
    """A value as bytes that say where they end, so that joined values stay apart."""
    if isinstance(value, str):
        # surrogatepass: an odd string has an id too; refusing it is the reader's business.
        payload = value.encode("utf-8", "surrogatepass")
        return b"s" + len(payload).to_bytes(8, "big") + payload
    if value is None:
        return b"n"
    if isinstance(value, bool | np.bool_):
        return b"t" if value else b"f"
    if isinstance(value, int | np.integer):
        digits = str(operator.index(value)).encode()
        return b"i" + len(digits).to_bytes(8, "big") + digits
    if isinstance(value, float | np.floating):
        number = float(value)
        return b"d" + struct.pack(">d", math.nan if math.isnan(number) else number)
    if isinstance(value, bytes | bytearray | memoryview):
        payload = bytes(value)
        return b"b" + len(payload).to_bytes(8, "big") + payload
    if isinstance(value, list | tuple):
        return b"l" + len(value).to_bytes(8, "big") + b"".join(map(_encode, value))
    raise TypeError(f"a row id is made of text and numbers, not of {type(value).__name__}")


def _strata(labels: Sequence[Hashable] | np.ndarray, n: int) -> np.ndarray:
    """(N,) stratum of each row, 0.. without gaps."""
    values = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    if all(isinstance(value, float | np.floating) for value in values):
        numbers = np.array(values, np.float64)
        if not np.isfinite(numbers).all():
            raise ValueError("labels must be finite numbers")
        bins = min(QUANTILE_BINS, n)
        if len(np.unique(numbers)) > bins:
            edges = np.quantile(numbers, np.linspace(0, 1, bins + 1)[1:-1])
            return np.unique(np.digitize(numbers, edges), return_inverse=True)[1]
        return np.unique(numbers, return_inverse=True)[1]
    strata = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return np.array([strata[value] for value in values], np.int64)


def _shares(sizes: np.ndarray, n: int, seed: int) -> np.ndarray:
    """How many of ``n`` rows each stratum gives: largest remainder, then one each if it goes.

    Where remainders are equal the seed decides: the order of strata is that of the file.
    """
    total = int(sizes.sum())
    shares, remainders = np.divmod(sizes.astype(np.int64) * n, total)  # in integers: exact ties
    exact = sizes * (n / total)
    chance = np.random.default_rng([seed, len(sizes)]).permutation(len(sizes))
    shares[np.lexsort((chance, -remainders))[: n - int(shares.sum())]] += 1
    if n >= len(sizes):
        for empty in np.flatnonzero(shares == 0):
            excess = np.where(shares > 1, shares - exact, -np.inf)
            shares[np.argmax(excess)] -= 1
            shares[empty] = 1
    return np.asarray(shares)
