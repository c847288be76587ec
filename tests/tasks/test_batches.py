"""The plan of a training: every row counts, budgets hold, and the seed decides all."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.tasks.batches import (
    Mixing,
    PlannedBatch,
    UnitLengths,
    joined,
    parts_of_step,
    plan_epochs,
    rows_per_batch,
    task_shares,
    token_batches,
)

lengths = st.lists(st.integers(2, 60), min_size=1, max_size=80)
MIXINGS: list[Mixing] = ["proportional", "equal", "sqrt", "annealed", 3.0]


def rows(tokens: list[int]) -> UnitLengths:
    return UnitLengths.of(np.array(tokens), None)


@st.composite
def lists_of_rows(draw: st.DrawFn) -> UnitLengths:
    """Units of one to seven rows, as ranking has them."""
    sizes = draw(st.lists(st.integers(1, 7), min_size=1, max_size=30))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    tokens = draw(st.lists(st.integers(2, 60), min_size=len(groups), max_size=len(groups)))
    return UnitLengths.of(np.array(tokens), groups)


units_of_any_task = st.one_of(lengths.map(rows), lists_of_rows())
tasks = st.dictionaries(st.sampled_from(["a", "b", "c"]), units_of_any_task, min_size=1)


def drawn(plan: list[PlannedBatch]) -> dict[str, Counter[int]]:
    counts: dict[str, Counter[int]] = {}
    for batch in plan:
        counts.setdefault(batch.task, Counter()).update(batch.units.tolist())
    return counts


@settings(max_examples=60, deadline=None)
@given(units=tasks, batch=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_proportional_sees_every_unit_once_an_epoch(
    units: dict[str, UnitLengths], batch: int, seed: int
) -> None:
    for epoch in plan_epochs(units, batch=batch, mixing="proportional", n_epochs=2, seed=seed):
        assert all(len(b.units) for b in epoch)
        wanted = {task: Counter(range(len(sizes.rows))) for task, sizes in units.items()}
        assert drawn(epoch) == wanted


@pytest.mark.parametrize(
    ("n_tasks", "batch", "most", "parts"),
    [(1, 64, 4, 1), (2, 64, 4, 2), (9, 64, 4, 4), (9, 64, 1, 1), (9, 32, 4, 2), (9, 8, 4, 1)],
)
def test_a_step_has_parts_of_sixteen_rows_or_more(
    n_tasks: int, batch: int, most: int, parts: int
) -> None:
    assert parts_of_step(n_tasks, batch, most) == parts


@settings(max_examples=60, deadline=None)
@given(
    units=tasks, batch=st.integers(1, 40), seed=st.integers(0, 99), mixing=st.sampled_from(MIXINGS)
)
def test_budgets_hold(units: dict[str, UnitLengths], batch: int, seed: int, mixing: Mixing) -> None:
    (epoch,) = plan_epochs(units, batch=batch, mixing=mixing, n_epochs=1, seed=seed)
    for planned in epoch:
        sizes = units[planned.task]
        padded = sizes.tokens[planned.units].max() * sizes.rows[planned.units].sum()
        budget = batch * (sizes.tokens * sizes.rows).sum() / sizes.rows.sum()
        assert padded <= budget * (1 + 1e-9) or len(planned.units) == 1


@settings(max_examples=60, deadline=None)
@given(units=tasks, batch=st.integers(1, 40), seed=st.integers(0, 99), share=st.floats(0, 1))
def test_what_is_left_of_batches_is_joined_within_the_budget(
    units: dict[str, UnitLengths], batch: int, seed: int, share: float
) -> None:
    (epoch,) = plan_epochs(units, batch=batch, mixing="proportional", n_epochs=1, seed=seed)
    rng = np.random.default_rng(seed)
    stays = {task: rng.random(len(sizes.rows)) < share for task, sizes in units.items()}

    def keep(planned: PlannedBatch) -> np.ndarray:
        return np.asarray(planned.units[stays[planned.task][planned.units]])

    steps = list(joined(epoch, keep, units, batch=batch))
    assert len(steps) == len(epoch)
    assert all(len(ready) <= 1 for ready in steps[:-1])
    made = [planned for ready in steps for planned in ready]
    assert all(len(planned.units) for planned in made)
    for planned in made:
        sizes = units[planned.task]
        padded = sizes.tokens[planned.units].max() * sizes.rows[planned.units].sum()
        budget = batch * (sizes.tokens * sizes.rows).sum() / sizes.rows.sum()
        assert padded <= budget * (1 + 1e-9) or len(planned.units) == 1
    left = {t: Counter(np.flatnonzero(flags).tolist()) for t, flags in stays.items() if flags.any()}
    assert drawn(made) == left


def test_batches_that_keep_all_stay_as_they_are_and_halves_are_joined() -> None:
    units = {"one": rows([7] * 64), "two": rows(list(range(2, 66)))}
    (epoch,) = plan_epochs(units, batch=8, mixing="proportional", n_epochs=1, seed=0)
    whole = list(joined(epoch, lambda planned: planned.units, units, batch=8))
    assert [ready[0] for ready in whole] == epoch
    assert all(len(ready) == 1 for ready in whole)

    def keep(planned: PlannedBatch) -> np.ndarray:
        return planned.units if planned.task == "two" else planned.units[::2]

    halves = [b for ready in joined(epoch, keep, units, batch=8) for b in ready]
    assert [b for b in halves if b.task == "two"] == [b for b in epoch if b.task == "two"]
    assert [len(b.units) for b in halves if b.task == "one"] == [8] * 4


@settings(max_examples=40, deadline=None)
@given(tokens=lengths, batch=st.integers(1, 20))
def test_equal_lengths_fill_batches_and_keep_the_last_short_one(
    tokens: list[int], batch: int
) -> None:
    n = len(tokens)
    (epoch,) = plan_epochs(
        {"t": rows([7] * n)}, batch=batch, mixing="proportional", n_epochs=1, seed=0
    )
    sizes = sorted((len(b.units) for b in epoch), reverse=True)
    assert sum(sizes) == n
    assert sizes == [batch] * (n // batch) + [n % batch] * (n % batch > 0)


def test_unequal_tasks() -> None:
    units = {"one": rows([9]), "many": rows(list(range(2, 42)) * 25)}
    for mixing in MIXINGS:
        plan = plan_epochs(units, batch=16, mixing=mixing, n_epochs=3, seed=1)
        for epoch in plan:
            seen = drawn(epoch)
            assert seen["one"][0] >= 1
            assert abs(seen["one"].total() + seen["many"].total() - 1001) <= 1
    equal = drawn(plan_epochs(units, batch=16, mixing="equal", n_epochs=1, seed=1)[0])
    assert abs(equal["one"].total() - equal["many"].total()) <= 1


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    mixing=st.sampled_from(MIXINGS),
    n_epochs=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_over_many_epochs_units_of_a_task_are_seen_equally_often(
    sizes: list[int], mixing: Mixing, n_epochs: int, seed: int
) -> None:
    units = {f"t{i}": rows([5] * n) for i, n in enumerate(sizes)}
    plan = plan_epochs(units, batch=8, mixing=mixing, n_epochs=n_epochs, seed=seed)
    seen = drawn([batch for epoch in plan for batch in epoch])
    for task, sizes_of_task in units.items():
        counts = [seen[task][i] for i in range(len(sizes_of_task.rows))]
        assert max(counts) - min(counts) <= 1


def test_the_seed_decides_and_epochs_differ() -> None:
    units = {"a": rows([5] * 40), "b": rows([9] * 40)}

    def plan(seed: int) -> list[list[tuple[str, tuple[int, ...]]]]:
        made = plan_epochs(units, batch=8, mixing="proportional", n_epochs=3, seed=seed)
        return [[(b.task, tuple(b.units.tolist())) for b in epoch] for epoch in made]

    assert plan(1) == plan(1)
    first, second, third = plan(1)
    assert len({tuple(first), tuple(second), tuple(third)}) == 3
    assert {frozenset(units) for _, units in first} != {frozenset(units) for _, units in second}
    assert [task for task, _ in first] != [task for task, _ in second]
    assert plan(2) != plan(1)


def test_a_longer_training_begins_as_a_shorter_one() -> None:
    units = {"a": rows(list(range(2, 30))), "b": rows([9] * 11)}
    for mixing in ("proportional", "equal", "sqrt"):
        short = plan_epochs(units, batch=4, mixing=mixing, n_epochs=2, seed=3)
        long = plan_epochs(units, batch=4, mixing=mixing, n_epochs=4, seed=3)
        for a, b in zip(short, long, strict=False):
            assert [x.task for x in a] == [x.task for x in b]
            assert all(np.array_equal(x.units, y.units) for x, y in zip(a, b, strict=True))


def test_another_task_does_not_move_the_rows_of_this_one() -> None:
    alone = {"a": rows(list(range(2, 30)))}
    both = {**alone, "b": rows([9] * 11)}
    plans = [
        plan_epochs(units, batch=4, mixing="proportional", n_epochs=1, seed=3)[0]
        for units in (alone, both)
    ]
    batches = [{tuple(b.units.tolist()) for b in plan if b.task == "a"} for plan in plans]
    assert batches[0] == batches[1]


def test_rows_of_similar_length_share_a_batch() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 100, 600)
    units = {"t": rows(tokens.tolist())}
    (epoch,) = plan_epochs(units, batch=16, mixing="proportional", n_epochs=1, seed=0)
    padded = sum(len(b.units) * tokens[b.units].max() for b in epoch)
    assert padded < 1.15 * tokens.sum()
    assert len(epoch) == pytest.approx(600 / 16, rel=0.2)


@pytest.mark.parametrize(
    ("mixing", "epoch", "wanted"),
    [
        ("proportional", 0, [100 / 125, 25 / 125]),
        ("equal", 0, [0.5, 0.5]),
        ("sqrt", 0, [10 / 15, 5 / 15]),
        (2.0, 0, [10 / 15, 5 / 15]),
        (1, 3, [100 / 125, 25 / 125]),
        ("annealed", 0, [100 / 125, 25 / 125]),
        ("annealed", 4, [100**0.2 / (100**0.2 + 25**0.2), 25**0.2 / (100**0.2 + 25**0.2)]),
    ],
)
def test_shares(mixing: Mixing, epoch: int, wanted: list[float]) -> None:
    shares = task_shares({"big": 100, "small": 25}, mixing, epoch, 5)
    assert list(shares.values()) == pytest.approx(wanted)


def test_shares_of_a_low_temperature_do_not_overflow() -> None:
    shares = task_shares({"big": 5000, "small": 4000}, 0.01, 0, 1)
    assert shares["big"] == pytest.approx(1.0)
    assert 0 < shares["small"] < 1e-9


def test_annealing_over_one_epoch_is_proportional() -> None:
    assert task_shares({"a": 3, "b": 1}, "annealed", 0, 1) == {"a": 0.75, "b": 0.25}


@settings(max_examples=50, deadline=None)
@given(tokens=st.lists(st.integers(0, 60), max_size=80), budget=st.integers(1, 200))
def test_inference_batches(tokens: list[int], budget: int) -> None:
    batches = token_batches(np.array(tokens, np.int64), budget)
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(tokens)))
    longest = [max(tokens[i] for i in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    for batch, length in zip(batches, longest, strict=True):
        assert len(batch) * length <= budget or len(batch) == 1


def test_units_of_lists() -> None:
    sizes = UnitLengths.of(np.array([4, 9, 3, 5, 5, 6]), np.array([0, 0, 1, 2, 2, 2]))
    assert sizes.rows.tolist() == [2, 1, 3]
    assert sizes.tokens.tolist() == [9, 3, 6]
    assert rows_per_batch(sizes, 8) == 4.0  # lists a batch: each has two rows on average
    assert rows_per_batch(rows([4, 9]), 8) == 8.0
