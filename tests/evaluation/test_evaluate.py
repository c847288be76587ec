"""Which systems are compared on which rows, from hand-made outcomes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from potstill.evaluation.draws import draws_of
from potstill.evaluation.evaluate import evaluate
from potstill.evaluation.outcome import SeedOutcome, TaskOutcome
from potstill.kinds import Classification, Ranking
from potstill.metrics.named import metric
from potstill.tasks.rowids import row_ids
from potstill.tasks.sources import PYTHON_SOURCE
from potstill.tasks.task import Split

N = 400
KIND = Classification(classes=("no", "yes"))
RNG = np.random.default_rng(0)
LUCK = {name: RNG.random(N) < 0.5 + gain for name, gain in (("student", 0.04), ("multitask", 0))}


def outcome(
    name: str,
    *,
    texts: str = "text",
    source: str = PYTHON_SOURCE,
    truth: int = 0,
    systems: tuple[str, ...] = ("student", "multitask"),
) -> TaskOutcome:
    """A task whose systems are right on the rows of ``LUCK``, whatever the labels are."""
    values = [f"{texts} {i}" for i in range(N)]
    right = {s: LUCK["student" if s == "student" else "multitask"] for s in systems}
    return TaskOutcome(
        task=name,
        kind=KIND,
        metric=metric("accuracy"),
        split_name="test",
        split=Split(
            inputs={"text": values},
            labels=None,
            ids=row_ids([values]),
            groups=None,
            places=np.arange(N),
            source=source,
        ),
        groups=None,
        inputs=[values],
        truth=np.full(N, truth),
        predictions={s: np.eye(2)[np.where(own, truth, 1 - truth)] for s, own in right.items()},
        members=[],
    )


def results(*seeds: list[TaskOutcome]) -> dict[str, Any]:
    made = [
        SeedOutcome(seed=i, tasks={o.task: o for o in own}, dev_mean=0.5, train_seconds={})
        for i, own in enumerate(seeds)
    ]
    return evaluate(made, {}, resamples=1000)


def width(entry: dict[str, Any]) -> float:
    versus = entry["student_vs_multitask"]
    return float(versus["high"] - versus["low"])


@pytest.mark.parametrize(
    ("second", "alike"),
    [
        ({}, True),  # two labels for the same texts
        ({"texts": "Satz", "source": "data/de.csv"}, True),  # two columns of the same rows
        ({"texts": "Satz"}, False),
        ({"texts": "Satz", "source": "data/fr.csv"}, False),
    ],
)
def test_the_mean_of_tasks_over_the_same_rows_is_no_surer_than_one(
    second: dict[str, Any], alike: bool
) -> None:
    source = "data/de.csv" if "source" in second else PYTHON_SOURCE
    found = results([outcome("a", source=source), outcome("b", truth=1, **second)])
    one, mean = width(found["tasks"]["a"]), width(found["mean"])
    assert mean == pytest.approx(one if alike else one / np.sqrt(2), rel=0.15)


def test_directions_of_one_text_are_the_same_rows_by_either_sign() -> None:
    """Of three, a and b share the file and b and c the texts: none is a witness of its own."""
    three = [
        outcome("a", texts="Satz", source="data/f1.csv"),
        outcome("b", source="data/f1.csv", truth=1),
        outcome("c", source="data/f2.csv", truth=1),
    ]
    for order in (three, three[::-1], [three[1], three[2], three[0]]):
        found = results(order)
        assert width(found["mean"]) == pytest.approx(width(found["tasks"]["a"]), rel=0.05)


def some_rows(made: TaskOutcome, kept: np.ndarray) -> TaskOutcome:
    return replace(
        made,
        split=made.split.take(kept),
        inputs=[[column[i] for i in kept] for column in made.inputs],
        truth=made.truth[kept],
        predictions={s: p[kept] for s, p in made.predictions.items()},
    )


def test_tasks_that_share_all_but_a_row_are_drawn_alike() -> None:
    """A bad row of one of them was left out: their rows are no longer the same list."""
    a, b = (outcome(name, source="data/de.csv", truth=t) for t, name in enumerate("ab"))
    found = results([a, some_rows(b, np.arange(N - 1))])
    assert width(found["mean"]) == pytest.approx(width(found["tasks"]["a"]), rel=0.05)


@pytest.mark.parametrize("sources", [(PYTHON_SOURCE, PYTHON_SOURCE), ("data/a.csv", "data/b.csv")])
def test_tasks_over_the_same_texts_are_drawn_alike_wherever_they_stand(
    sources: tuple[str, str],
) -> None:
    """Two DataFrames, of which one lacks a row; two files."""
    a, b = (
        outcome(name, source=s, truth=t)
        for t, (name, s) in enumerate(zip("ab", sources, strict=True))
    )
    found = results([a, some_rows(b, np.arange(1, N))])
    assert width(found["mean"]) == pytest.approx(width(found["tasks"]["a"]), rel=0.05)


def test_a_text_that_stands_twice_is_two_rows() -> None:
    made = outcome("a")
    twice = made.split.take(np.arange(N).repeat(2))
    (draw,) = draws_of({"a": [twice]})["a"]
    assert draw.units is not None
    assert draw.size == len(set(draw.units.tolist())) == 2 * N


def test_queries_that_chain_all_rows_are_drawn_on_their_own() -> None:
    """Two rankings of one file of pairs, one from either side: together they would be one unit."""
    n, k = 40, 5
    pairs = outcome("a", source="data/pairs.csv").split.take(np.arange(n * k))
    forth = replace(pairs, groups=np.arange(n).repeat(k))
    back = replace(pairs, groups=np.tile(np.arange(k), n))
    draws = draws_of({"forth": [forth], "back": [back], "rows": [pairs]})
    assert [draws[name][0].size for name in ("forth", "back", "rows")] == [n, k, n * k]


def test_tasks_of_other_rows_of_a_file_are_drawn_on_their_own() -> None:
    a, b = (outcome(name, source="data/de.csv", truth=t) for t, name in enumerate("ab"))
    found = results([some_rows(a, np.arange(0, N, 2)), some_rows(b, np.arange(1, N, 2))])
    assert width(found["mean"]) == pytest.approx(width(found["tasks"]["a"]) / 2**0.5, rel=0.15)


def test_the_candidates_of_a_query_are_drawn_together_in_every_task() -> None:
    """A ranking and a task of its rows: ten rows of a query fail together in both."""
    groups = np.repeat(np.arange(N // 10), 10)[::-1].copy()
    made = outcome("a", source="data/de.csv")
    split = replace(made.split, groups=groups)
    draws = draws_of({"rank": [split], "class": [made.split]})
    rank, flat = draws["rank"][0], draws["class"][0]
    assert rank.units is not None
    assert flat.units is not None
    assert (rank.number, rank.size) == (flat.number, flat.size) == (flat.number, N // 10)
    # The units of a ranking are in the order of the queries' numbers.
    assert rank.units[groups].tolist() == flat.units.tolist()
    assert len(set(rank.units.tolist())) == N // 10


def test_tasks_of_the_same_rows_are_drawn_alike_in_every_seed() -> None:
    """Each seed sets other rows aside as dev: of seed s, both tasks have the same ones."""
    seeds = [
        [outcome(name, texts=f"seed {seed}", truth=t) for t, name in enumerate("ab")]
        for seed in range(2)
    ]
    found = results(*seeds)
    assert width(found["mean"]) == pytest.approx(width(found["tasks"]["a"]), rel=0.05)


@pytest.mark.parametrize(("below", "kept"), [(0, True), (0.004, False)])
def test_no_share_of_a_gain_is_claimed_by_ensembles_below_their_best_member(
    below: float, kept: bool
) -> None:
    made = outcome("a", systems=("student", "multitask", "ensemble", "teacher_best"))
    right = {"multitask": 200, "ensemble": 220, "teacher_best": int(220 + below * N)}
    predictions = {**made.predictions}
    for system, n in right.items():
        predictions[system] = np.eye(2)[(np.arange(N) >= n).astype(int)]
    found = results([replace(made, predictions=predictions)])["mean"]
    assert (found["gain_kept"] is not None) is kept


def test_no_share_is_claimed_of_a_gain_that_reads_nothing() -> None:
    made = outcome("a", systems=("student", "multitask", "ensemble"))
    found = results([made])["mean"]
    assert found["ensemble"] == found["multitask"]
    assert found["gain_kept"] is None


def test_an_ensemble_that_is_missing_in_one_seed_is_left_out() -> None:
    whole = outcome("a", systems=("student", "multitask", "ensemble"))
    found = results([whole], [outcome("a")])["tasks"]["a"]
    assert set(found["scores"]) == {"student", "multitask"}
    assert "student_vs_ensemble" not in found
    assert set(found["calibration"]) == {"student", "multitask"}


def test_queries_without_a_score_are_not_counted() -> None:
    """Twenty queries, five with a relevant candidate: too few for a verdict."""
    n_queries, n_scored = 20, 5
    truth = np.zeros((n_queries, 2))
    truth[:n_scored, 1] = 1.0
    good, bad = np.tile([0.0, 1.0], n_queries), np.tile([1.0, 0.0], n_queries)
    flat = outcome("lists")
    rows = np.arange(2 * n_queries)
    lists = replace(
        flat,
        kind=Ranking(highest=1.0),
        metric=metric("mrr"),
        split=replace(flat.split.take(rows), groups=rows // 2),
        inputs=[flat.inputs[0][: len(rows)]] * 2,
        groups=rows // 2,
        truth=truth.ravel(),
        predictions={"student": good, "multitask": bad},
    )
    entry = results([lists])["tasks"]["lists"]
    assert entry["n"] == n_scored
    assert entry["student_vs_multitask"]["low"] > 0
    assert entry["verdict"] == "no difference"


def test_a_kind_of_lists_that_scores_rows_is_drawn_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranking, "score_groups", lambda _, groups: None)
    flat = outcome("lists")
    groups = np.arange(N) // 10
    lists = replace(
        flat,
        kind=Ranking(highest=1.0),
        metric=metric("pearson"),
        split=replace(flat.split, groups=groups),
        groups=groups,
        truth=RNG.normal(size=N),
        predictions={s: RNG.normal(size=N) for s in flat.predictions},
    )
    assert "student_vs_multitask" in results([lists])["tasks"]["lists"]
