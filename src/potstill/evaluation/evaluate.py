"""From what the systems said to ``results.json``: scores, paired intervals, verdicts, means.

Pure: no model, no file. The layout is a contract (version 1) that other tools read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from potstill.evaluation.compare import (
    Comparison,
    Draw,
    SeedPair,
    mean_interval,
    paired_bootstrap,
    verdict,
)
from potstill.evaluation.draws import draws_of
from potstill.evaluation.outcome import SeedOutcome, TaskOutcome
from potstill.evaluation.run_results import BASELINES, LEAST_GAIN, RESULTS_VERSION, SYSTEMS
from potstill.kinds import Classification
from potstill.metrics.named import metric as named_metric
from potstill.tasks.task import Split

_DIGITS = 6


def evaluate(
    seeds: Sequence[SeedOutcome], cost: Mapping[str, Any], *, resamples: int
) -> dict[str, Any]:
    """Score every system and compare the student with its rivals.

    Args:
        seeds: One outcome a seed, all with the same tasks.
        cost: The ``cost`` section.
        resamples: Bootstrap resamples of each interval.

    Returns:
        The content of ``results.json``. Scores are means over seeds; intervals are 95 %, paired,
        over rows and, with several seeds, over seeds.
    """
    tasks: dict[str, Any] = {}
    comparisons: dict[str, dict[str, Comparison]] = {rival: {} for rival in BASELINES}
    by_task = {name: [seed.tasks[name] for seed in seeds] for name in seeds[0].tasks}
    draws = draws_of({name: [_scored_rows(o) for o in own] for name, own in by_task.items()})
    for name, outcomes in by_task.items():
        entry, made = _task(outcomes, resamples, draws[name])
        tasks[name] = entry
        for rival, comparison in made.items():
            comparisons[rival][name] = comparison
        if len(seeds) > 1:
            entry["per_seed"] = [
                {"seed": seed.seed, "scores": _scores([seed.tasks[name]])} for seed in seeds
            ]
    results: dict[str, Any] = {
        "version": RESULTS_VERSION,
        "tasks": tasks,
        "mean": _means(tasks, comparisons),
        "cost": dict(cost),
    }
    if len(seeds) > 1:
        results["student_seed"] = max(seeds, key=lambda seed: seed.dev_mean).seed
    return results


def _scored_rows(outcome: TaskOutcome) -> Split:
    """The reported rows, in the groups that the metric takes."""
    flat = outcome.kind.slotted or outcome.score_groups is None
    return replace(outcome.split, groups=None) if flat else outcome.split


def _task(
    outcomes: Sequence[TaskOutcome], resamples: int, draws: Sequence[Draw]
) -> tuple[dict[str, Any], dict[str, Comparison]]:
    first = outcomes[0]
    n_units = first.n_units
    entry: dict[str, Any] = {
        "kind": first.kind.name,
        "metric": first.metric.name,
        "split": first.split_name,
        "n": n_units,
        "scores": _scores(outcomes),
    }
    if (signature := first.kind.signature(first.metric.name)) is not None:
        entry["signature"] = signature
    made = {}
    for rival in BASELINES:
        if rival not in entry["scores"]:
            continue
        pairs = [
            SeedPair(
                truth=o.truth,
                groups=o.score_groups,
                a=o.predictions["student"],
                b=o.predictions[rival],
                draw=draw,
            )
            for o, draw in zip(outcomes, draws, strict=True)
        ]
        made[rival] = paired_bootstrap(first.metric, pairs, resamples)
        entry[f"student_vs_{rival}"] = _interval(made[rival])
    entry["calibration"] = _calibration(outcomes)
    if "ensemble" in entry["scores"]:
        entry["agreement_with_ensemble"] = _mean(
            o.kind.agreement(o.predictions["student"], o.predictions["ensemble"], o.groups)
            for o in outcomes
        )
    entry["verdict"] = verdict(made["multitask"].interval, n_units) if "multitask" in made else None
    return entry, made


def _scores(outcomes: Sequence[TaskOutcome]) -> dict[str, float]:
    there = _answering(outcomes)
    return {system: _mean(o.score(system) for o in outcomes) for system in there}


def _answering(outcomes: Sequence[TaskOutcome]) -> list[str]:
    """The systems that answered in every seed: given scores may cover the rows of one alone."""
    return [s for s in SYSTEMS if all(s in o.predictions for o in outcomes)]


def _calibration(outcomes: Sequence[TaskOutcome]) -> dict[str, dict[str, float]]:
    """Negative log likelihood (nats) and expected calibration error of class probabilities."""
    if not isinstance(outcomes[0].kind, Classification):
        return {}
    measures = {name: named_metric(name) for name in ("nll", "ece")}
    systems = [s for s in ("student", "multitask", "ensemble") if s in _answering(outcomes)]
    return {
        system: {
            name: _mean(m.score(o.truth, o.predictions[system]) for o in outcomes)
            for name, m in measures.items()
        }
        for system in systems
    }


def _means(
    tasks: Mapping[str, Any], comparisons: Mapping[str, Mapping[str, Comparison]]
) -> dict[str, Any]:
    """Means over the tasks that every system of the table has: comparable with each other."""
    taught = [name for name, task in tasks.items() if "ensemble" in task["scores"]]
    names = taught or list(tasks)
    systems = [s for s in SYSTEMS if all(s in tasks[n]["scores"] for n in names)]
    means: dict[str, Any] = {s: _mean(tasks[n]["scores"][s] for n in names) for s in systems}
    means["gain_kept"] = None
    if "ensemble" in means and "multitask" in means:
        gain = means["ensemble"] - means["multitask"]
        # An ensemble below its best member is no yardstick.
        if gain >= LEAST_GAIN and means["ensemble"] >= means.get("teacher_best", -math.inf):
            means["gain_kept"] = round((means["student"] - means["multitask"]) / gain, _DIGITS)
    means["tasks"] = names
    for rival, made in comparisons.items():
        if all(name in made for name in names):
            interval = mean_interval([made[name] for name in names])
            means[f"student_vs_{rival}"] = {
                key: round(getattr(interval, key), _DIGITS) for key in ("delta", "low", "high")
            }
    return means


def _interval(comparison: Comparison) -> dict[str, float]:
    interval = comparison.interval
    return {key: round(getattr(interval, key), _DIGITS) for key in ("delta", "low", "high")}


def _mean(values: Any) -> float:
    return round(float(np.mean(list(values))), _DIGITS)
