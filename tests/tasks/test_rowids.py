"""Row ids tell rows apart and nothing else; folds and samples are fair and repeatable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from potstill.tasks.rowids import (
    digest_rows,
    fold_of,
    row_id,
    row_ids,
    sample_groups,
    sort_keys,
    stratified_groups,
    stratified_sample,
)

atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text("abs0\0", max_size=4),
    st.binary(max_size=4),
)
inputs = st.lists(st.one_of(atoms, st.lists(atoms, max_size=3)), max_size=4)


def typed(value: object) -> object:
    """A form under which two values are equal only if they are the same in type and bits."""
    if isinstance(value, list):
        return ("list", tuple(map(typed, value)))
    return (type(value), repr(value))


@given(a=inputs, b=inputs)
@example(a=["ab", "c"], b=["a", "bc"])
@example(a=["a", "b"], b=["b", "a"])
@example(a=["a"], b=["a", ""])
@example(a=["a"], b=["a", None])
@example(a=[[], "a"], b=[["a"]])
@example(a=[1], b=[True])
@example(a=[1], b=[1.0])
@example(a=["1"], b=[b"1"])
@example(a=["é"], b=["e\u0301"])  # as they are: no normalisation
def test_ids_are_equal_only_for_equal_inputs(a: list[object], b: list[object]) -> None:
    assert (row_id(a) == row_id(b)) == (typed(a) == typed(b))


def test_id_is_stable_and_blind_to_numpy() -> None:
    assert row_id(["A warm, funny film."]).hex() == "8742a3c6f60b3a9d5fdfdf1083bc1e5e"
    values = [np.str_("a"), np.int64(1), np.float64(2), np.bool_(True)]
    assert row_id(values) == row_id(["a", 1, 2.0, True])
    assert row_id([float("nan")]) == row_id([-float("nan")])
    assert row_id([("a", 1)]) == row_id([["a", 1]])
    assert row_id(["\ud800"]) != row_id(["\ud801"])
    with pytest.raises(TypeError, match="set"):
        row_id([{1}])


@given(rows=st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=9))
def test_ids_of_columns_are_ids_of_rows(rows: list[tuple[str, str]]) -> None:
    ids = row_ids([[a for a, _ in rows], [b for _, b in rows]])
    assert ids.shape == (len(rows), 16)
    assert ids.dtype == np.uint8
    assert ids.flags.c_contiguous
    assert ids.flags.writeable
    assert [i.tobytes() for i in ids] == [row_id(row) for row in rows]
    keys = sort_keys(ids)
    assert [k.tobytes() for k in np.sort(keys)] == sorted(i.tobytes() for i in ids)
    assert len(np.unique(keys)) == len(set(rows))
    assert np.isin(keys, keys).all()


def test_wrong_columns_and_ids() -> None:
    with pytest.raises(ValueError, match="column"):
        row_ids([])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        row_ids([["a"], ["a", "b"]])
    for wrong in (np.zeros((2, 8), np.uint8), np.zeros((2, 16)), np.zeros(16, np.uint8)):
        with pytest.raises(ValueError, match="16"):
            sort_keys(wrong)


def test_digest_follows_ids_labels_and_order() -> None:
    ids = row_ids([["a", "b", "c"]])
    digests = [
        digest_rows(ids, [0, 1, 2]),
        digest_rows(ids, [0, 1, 1]),
        digest_rows(ids, [0.0, 1.0, 2.0]),
        digest_rows(ids, ["0", "1", "2"]),
        digest_rows(ids[::-1], [0, 1, 2]),
        digest_rows(ids[:2], [0, 1]),
        digest_rows(ids, None),
        digest_rows(ids[:0], []),
        digest_rows(ids[:0], None),
    ]
    assert len(set(digests)) == len(digests)
    assert len(digests[0]) == 64
    assert digest_rows(ids, np.array([0, 1, 2])) == digests[0]
    with pytest.raises(ValueError, match="2 labels for 3 rows"):
        digest_rows(ids, [0, 1])


@settings(max_examples=20)
@given(n_folds=st.integers(1, 10), start=st.integers(0, 10**6))
def test_folds_are_balanced_and_follow_the_id(n_folds: int, start: int) -> None:
    ids = row_ids([list(range(start, start + 2000))])
    folds = fold_of(ids, n_folds)
    assert folds.dtype == np.int64
    sizes = np.bincount(folds, minlength=n_folds)
    expected = 2000 / n_folds
    assert np.all(np.abs(sizes - expected) <= 6 * np.sqrt(expected))  # about 6 deviations
    order = np.random.default_rng(0).permutation(2000)
    assert np.array_equal(fold_of(ids[order], n_folds), folds[order])
    assert np.array_equal(fold_of(np.concatenate([ids, ids[:5]]), n_folds)[-5:], folds[:5])


def test_no_fold_at_all() -> None:
    with pytest.raises(ValueError, match="n_folds"):
        fold_of(row_ids([["a"]]), 0)


classes = st.lists(
    st.sampled_from("aaaaaabbbc") | st.sampled_from("defgh"), min_size=1, max_size=99
)


@given(labels=classes, share=st.floats(0.01, 1), seed=st.integers(0, 3))
def test_classes_keep_their_share(labels: list[str], share: float, seed: int) -> None:
    n = max(1, int(share * len(labels)))
    chosen = stratified_sample(labels, n, seed)
    assert len(chosen) == n
    assert np.all(np.diff(chosen) > 0)
    assert np.array_equal(chosen, stratified_sample(labels, n, seed))
    whole, part = Counter(labels), Counter(labels[i] for i in chosen)
    exact = {label: count * n / len(labels) for label, count in whole.items()}
    if n >= len(whole):
        assert set(part) == set(whole)
    for label, wanted in exact.items():
        assert part[label] <= whole[label]
        assert part[label] - wanted < 1 + 1e-9
        if min(exact.values()) >= 1 or n < len(whole):
            assert abs(part[label] - wanted) < 1 + 1e-9


def test_rare_classes_are_paid_for_by_those_above_their_share() -> None:
    labels = ["big"] * 97 + ["x", "y", "z"]
    part = Counter(labels[i] for i in stratified_sample(labels, 10, 0))
    assert part == {"big": 7, "x": 1, "y": 1, "z": 1}


@pytest.mark.parametrize("groups", [False, True])
def test_strata_of_equal_size_are_drawn_by_the_seed_not_by_the_file(groups: bool) -> None:
    labels = np.repeat(np.arange(150), 5)

    def draw(seed: int) -> np.ndarray:
        if groups:
            return stratified_groups(labels, np.arange(len(labels)), 75, seed)
        return stratified_sample(labels, 75, seed)

    first, second = (set(labels[draw(seed)].tolist()) for seed in (0, 1))
    assert len(first) == len(second) == 75
    assert first != second
    for drawn in (first, second):
        assert 20 < sum(label < 75 for label in drawn) < 55
    assert np.array_equal(draw(0), draw(0))


def test_forms_of_labels_agree_and_seeds_differ() -> None:
    numbers = np.random.default_rng(0).integers(0, 3, 200)
    drawn = stratified_sample(numbers, 50, 0)
    for same in (numbers.tolist(), numbers.astype(np.int32)):
        assert np.array_equal(stratified_sample(same, 50, 0), drawn)
    assert not np.array_equal(stratified_sample(numbers, 50, 1), drawn)
    assert stratified_sample(numbers, 500, 0).tolist() == list(range(200))
    # Few distinct floats are classes, too.
    part = np.bincount(numbers[stratified_sample(numbers.astype(float), 50, 0)])
    assert np.all(np.abs(part - np.bincount(numbers) / 4) < 1)


def test_larger_samples_mostly_keep_the_smaller_one() -> None:
    labels = ["a", "b"] * 500
    samples = [set(stratified_sample(labels, n, 0).tolist()) for n in (50, 100, 400)]
    assert all(small <= large for small, large in pairwise(samples))


@given(seed=st.integers(0, 50), n=st.integers(10, 300))
def test_float_labels_are_drawn_from_all_quantiles(seed: int, n: int) -> None:
    values = np.random.default_rng(seed).normal(size=300)
    chosen = stratified_sample(values, n, seed)
    assert len(chosen) == n
    tenths = np.argsort(np.argsort(values)) // 30
    part = np.bincount(tenths[chosen], minlength=10)
    assert np.all(np.abs(part - n / 10) <= 2)


def test_float_labels_with_ties_few_rows_and_nan() -> None:
    values = np.array([0.0] * 90 + list(np.linspace(1, 5, 30)))
    assert len(stratified_sample(values, 12, 0)) == 12
    assert len(stratified_sample(values, 1, 0)) == 1
    with pytest.raises(ValueError, match="finite"):
        stratified_sample([0.0, float("nan"), 1.0], 2, 0)
    with pytest.raises(ValueError, match="1 row"):
        stratified_sample(values, 0, 0)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    n_rows=st.integers(1, 200),
    seed=st.integers(0, 3),
)
def test_groups_are_drawn_whole(sizes: Sequence[int], n_rows: int, seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)) * 7, sizes)
    groups = np.random.default_rng(seed).permutation(groups)
    chosen = sample_groups(groups, n_rows, seed)
    assert np.all(np.diff(chosen) > 0)
    assert np.array_equal(chosen, sample_groups(groups, n_rows, seed))
    drawn = set(groups[chosen].tolist())
    assert drawn
    assert np.array_equal(chosen, np.flatnonzero(np.isin(groups, list(drawn))))
    if n_rows >= len(groups):
        assert len(chosen) == len(groups)
    elif len(drawn) > 1:
        assert abs(len(chosen) - n_rows) <= max(sizes)


def test_groups_need_rows() -> None:
    with pytest.raises(ValueError, match="rows"):
        sample_groups(np.array([], np.int64), 3, 0)
    with pytest.raises(ValueError, match="rows"):
        sample_groups(np.array([0]), 0, 0)
