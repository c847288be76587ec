"""Which systems are compared on which rows, from hand-made outcomes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from potstill.evaluation.evaluate import evaluate
from potstill.evaluation.outcome import SeedOutcome, TaskOutcome
from potstill.kinds import Classification
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


def test_an_ensemble_that_is_missing_in_one_seed_is_left_out() -> None:
    whole = outcome("a", systems=("student", "multitask", "ensemble"))
    found = results([whole], [outcome("a")])["tasks"]["a"]
    assert set(found["scores"]) == {"student", "multitask"}
    assert "student_vs_ensemble" not in found
    assert set(found["calibration"]) == {"student", "multitask"}
