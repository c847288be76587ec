"""``results.json`` held against its contract, version 1: which keys, when, and what they mean."""

from __future__ import annotations

import math
from typing import Any

import pytest

Document = dict[str, Any]

SYSTEMS = ("single", "multitask", "teacher_best", "ensemble", "student", "student_finetuned")
RIVALS = ("single", "multitask", "ensemble")
SIGNED = {"matthews", "pearson", "spearman"}
METRICS = {
    "classification": {"accuracy", "f1", "matthews"},
    "regression": {"pearson", "spearman"},
    "ranking": {"mrr", "ndcg"},
    "multilabel": {"micro_f1", "macro_f1"},
    "tagging": {"span_f1", "accuracy"},
    "span": {"token_f1", "exact_match"},
    "generation": {"bleu", "chrf"},
    "translation": {"bleu", "chrf"},
}
ROUNDING = 2e-6


def check_results(document: Document) -> None:
    """Every rule of the contract; fails at the first that does not hold."""
    several = "student_seed" in document
    assert set(document) - {"student_seed"} == {"version", "tasks", "mean", "cost"}
    assert document["version"] == 1
    assert document["tasks"]
    for task in document["tasks"].values():
        _check_task(task, several)
    _check_mean(document["mean"], document["tasks"])
    _check_cost(document["cost"], document["tasks"])
    if several:
        seeds = [each["seed"] for each in next(iter(document["tasks"].values()))["per_seed"]]
        assert document["student_seed"] in seeds


def _check_task(task: Document, several: bool) -> None:
    scores = task["scores"]
    always = {"kind", "metric", "split", "n", "scores", "calibration", "verdict"}
    compared = {f"student_vs_{rival}" for rival in RIVALS if rival in scores}
    agreed = {"agreement_with_ensemble"} if "ensemble" in scores else set()
    repeated = {"per_seed"} if several else set()
    signed = {"signature"} if METRICS[task["kind"]] == {"bleu", "chrf"} else set()
    assert set(task) == always | compared | agreed | repeated | signed
    assert not signed or task["signature"].startswith("nrefs:1|case:mixed|")
    assert task["metric"] in METRICS[task["kind"]]
    assert task["split"] in {"dev", "test"}
    assert type(task["n"]) is int
    assert task["n"] > 0
    assert "student" in scores
    assert set(scores) <= set(SYSTEMS)
    assert list(scores) == [system for system in SYSTEMS if system in scores]
    assert ("ensemble" in scores) == ("teacher_best" in scores)
    for score in scores.values():
        _check_number(score, -1 if task["metric"] in SIGNED else 0, 1)
    for rival in RIVALS:
        if rival in scores:
            interval = task[f"student_vs_{rival}"]
            _check_interval(interval)
            delta = scores["student"] - scores[rival]
            assert interval["delta"] == pytest.approx(delta, abs=ROUNDING)
    _check_calibration(task)
    if "ensemble" in scores:
        _check_number(task["agreement_with_ensemble"], -1, 1)
    _check_verdict(task)
    if several:
        assert len(task["per_seed"]) > 1
        for each in task["per_seed"]:
            assert set(each) == {"seed", "scores"}
            assert set(each["scores"]) == set(scores)
        for system, score in scores.items():
            own = [each["scores"][system] for each in task["per_seed"]]
            assert score == pytest.approx(sum(own) / len(own), abs=ROUNDING)


def _check_calibration(task: Document) -> None:
    if task["kind"] != "classification":
        assert task["calibration"] == {}
        return
    assert "student" in task["calibration"]
    assert set(task["calibration"]) <= set(task["scores"])
    for measures in task["calibration"].values():
        assert set(measures) == {"nll", "ece"}
        _check_number(measures["nll"], 0, math.inf)
        _check_number(measures["ece"], 0, 1)


def _check_verdict(task: Document) -> None:
    interval = task.get("student_vs_multitask")
    if task["kind"] == "ranking" and task["verdict"] == "no difference":
        return  # there may be fewer than ten queries, which the document does not count
    if interval is None:
        wanted = None
    elif task["n"] < 10:
        wanted = "no difference"
    elif interval["low"] > 0:
        wanted = "helped"
    else:
        wanted = "hurt" if interval["high"] < 0 else "no difference"
    assert task["verdict"] == wanted


def _check_mean(mean: Document, tasks: Document) -> None:
    names = mean["tasks"]
    taught = [name for name, task in tasks.items() if "ensemble" in task["scores"]]
    assert names == (taught or list(tasks))
    systems = {s for s in SYSTEMS if all(s in tasks[name]["scores"] for name in names)}
    intervals = {f"student_vs_{rival}" for rival in RIVALS if rival in systems}
    assert set(mean) == systems | intervals | {"gain_kept", "tasks"}
    for system in systems:
        own = [tasks[name]["scores"][system] for name in names]
        assert mean[system] == pytest.approx(sum(own) / len(own), abs=ROUNDING)
    for interval in intervals:
        _check_interval(mean[interval])
    gain = mean["ensemble"] - mean["multitask"] if {"ensemble", "multitask"} <= systems else 0
    if gain >= 0.0005 and mean["ensemble"] >= mean.get("teacher_best", -1.0):
        kept = (mean["student"] - mean["multitask"]) / gain
        # Rounded parts of a small quotient.
        assert mean["gain_kept"] == pytest.approx(kept, rel=4e-6 / gain, abs=4e-6 / gain)
    else:
        assert mean["gain_kept"] is None


def _check_cost(cost: Document, tasks: Document) -> None:
    known = {"student_params", "ensemble_params", "student_finetuned_params", "train_seconds"}
    tuned = any("student_finetuned" in task["scores"] for task in tasks.values())
    assert {"student_params", "train_seconds"} <= set(cost) <= known
    assert ("student_finetuned_params" in cost) == tuned
    for key in set(cost) - {"train_seconds"}:
        assert type(cost[key]) is int
        assert cost[key] > 0
    assert set(cost["train_seconds"]) == {"teach", "label", "distill"}
    for seconds in cost["train_seconds"].values():
        _check_number(seconds, 0, math.inf)


def _check_interval(interval: Document) -> None:
    assert list(interval) == ["delta", "low", "high"]
    assert interval["low"] <= interval["high"]
    for value in interval.values():
        _check_number(value, -2, 2)


def _check_number(value: object, low: float, high: float) -> None:
    assert isinstance(value, int | float)
    assert not isinstance(value, bool)
    assert math.isfinite(value)
    assert low <= value <= high
