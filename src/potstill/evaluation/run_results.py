"""``results.json`` as typed values: the one reader that the leaderboard and the report share.

Knows the layout of the file, version 1. Computes nothing and draws nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from potstill.core.errors import ArtefactError
from potstill.evaluation.compare import Interval

RESULTS_VERSION = 1

SYSTEMS: Mapping[str, str] = {
    "single": "single",
    "multitask": "multi-task",
    "teacher_best": "best teacher",
    "ensemble": "ensemble",
    "student": "student",
    "student_finetuned": "student, fine-tuned",
}
"""Key of each system in ``scores``, in the order of showing, and its name for a reader."""

BASELINES = ("multitask", "single", "ensemble")
"""What the student is compared with; the first one decides the verdict."""

LEAST_GAIN = 0.0005
"""A smaller gain of the ensembles reads 0.000, and no share of it is claimed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedScores:
    """The scores of one seed of one task, by system."""

    seed: int
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """What a run found out about one task.

    Args:
        name: The task's name in the run file.
        kind: Its kind, such as ``classification``.
        metric: What the scores measure; larger is better.
        split: The rows that were scored: ``dev`` or ``test``.
        n: Number of those rows; of the queries of a ranking, whose candidates count together.
        scores: By system; a system that was not asked for is absent.
        versus: Student minus baseline, by baseline, with 95 % intervals.
        calibration: By system, ``nll`` (nats, mean over rows) and ``ece`` (a share of 1).
        agreement: Share of rows, in [0, 1], or correlation, between student and ensemble.
        verdict: ``helped``, ``hurt``, ``no difference``, or None without that baseline.
        per_seed: Where the run was repeated, the scores of each seed.
    """

    name: str
    kind: str
    metric: str
    split: str
    n: int | None
    scores: Mapping[str, float]
    versus: Mapping[str, Interval]
    calibration: Mapping[str, Mapping[str, float]]
    agreement: float | None
    verdict: str | None
    per_seed: tuple[SeedScores, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResults:
    """All tasks of a run, their means and what it cost.

    Args:
        tasks: In the order of the run file.
        mean: Mean score over the tasks, by system.
        mean_tasks: Names of the tasks that all means cover; every task where the file names none.
        mean_versus: Student minus baseline of the means, by baseline, where computed.
        gain_kept: (student - multitask) / (ensemble - multitask) of the means, or None.
        params: Number of parameters by system, the ensembles of all tasks together.
        train_seconds: Wall seconds by stage.
        student_seed: The seed whose student was kept, where there were several.
    """

    tasks: tuple[TaskResult, ...]
    mean: Mapping[str, float]
    mean_tasks: tuple[str, ...]
    mean_versus: Mapping[str, Interval]
    gain_kept: float | None
    params: Mapping[str, int]
    train_seconds: Mapping[str, float]
    student_seed: int | None

    @property
    def systems(self) -> tuple[str, ...]:
        """Systems to show: always the five of the contract, the fine-tuned one where it ran."""
        tuned = any("student_finetuned" in task.scores for task in self.tasks)
        return tuple(name for name in SYSTEMS if name != "student_finetuned" or tuned)

    @property
    def untaught(self) -> bool:
        """No task had teachers: the student is the multi-task network."""
        versus = self.mean_versus.get("multitask")
        alone = not any("ensemble" in task.scores for task in self.tasks)
        return alone and versus is not None and versus.low == versus.high == 0

    @property
    def mean_words(self) -> str:
        """Which tasks the means cover, where it is not all of them; else empty."""
        if len(self.mean_tasks) >= len(self.tasks):
            return ""
        return f"means cover {len(self.mean_tasks)} of {len(self.tasks)} tasks: " + ", ".join(
            self.mean_tasks
        )

    @property
    def n_seeds(self) -> int:
        """How many seeds the scores are means of."""
        return max((len(task.per_seed) for task in self.tasks), default=0) or 1


def read_results(document: Mapping[str, Any]) -> RunResults:
    """Read the document of ``results.json``.

    Args:
        document: As ``json`` reads it; absent or null entries stay absent.

    Raises:
        ArtefactError: Another version of the layout.
    """
    if document.get("version") != RESULTS_VERSION:
        raise ArtefactError(
            "results.json",
            got=f"version {document.get('version')!r}",
            wanted=f"version {RESULTS_VERSION}",
            todo="read it with the potstill that wrote it, or evaluate the run again with this one",
        )
    mean = _mapping(document.get("mean"))
    cost = _mapping(document.get("cost"))
    tasks = tuple(_task(name, entry) for name, entry in _mapping(document.get("tasks")).items())
    return RunResults(
        tasks=tasks,
        mean={name: mean[name] for name in SYSTEMS if is_number(mean.get(name))},
        mean_tasks=tuple(mean.get("tasks") or (task.name for task in tasks)),
        mean_versus=_versus(mean),
        gain_kept=number_or_none(mean.get("gain_kept")),
        params={
            system: int(cost[f"{system}_params"])
            for system in ("student", "ensemble", "student_finetuned")
            if is_number(cost.get(f"{system}_params")) and cost[f"{system}_params"] > 0
        },
        train_seconds=_numbers(_mapping(cost.get("train_seconds"))),
        student_seed=document.get("student_seed"),
    )


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite number, which a truth value is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number_or_none(value: Any) -> float | None:
    """``value`` where it is a finite number, else None."""
    return float(value) if is_number(value) else None


def _task(name: str, entry: Mapping[str, Any]) -> TaskResult:
    scores = _mapping(entry.get("scores"))
    return TaskResult(
        name=name,
        kind=str(entry.get("kind", "")),
        metric=str(entry.get("metric", "")),
        split=str(entry.get("split", "")),
        n=entry.get("n"),
        scores={key: scores[key] for key in SYSTEMS if is_number(scores.get(key))},
        versus=_versus(entry),
        calibration={
            key: _numbers(_mapping(value))
            for key, value in _mapping(entry.get("calibration")).items()
        },
        agreement=number_or_none(entry.get("agreement_with_ensemble")),
        verdict=entry.get("verdict"),
        per_seed=tuple(
            SeedScores(seed=int(each["seed"]), scores=_numbers(_mapping(each.get("scores"))))
            for each in entry.get("per_seed") or ()
        ),
    )


def _versus(entry: Mapping[str, Any]) -> dict[str, Interval]:
    found = {}
    for baseline in BASELINES:
        value = _mapping(entry.get(f"student_vs_{baseline}"))
        if all(is_number(value.get(key)) for key in ("delta", "low", "high")):
            found[baseline] = Interval(
                delta=float(value["delta"]), low=float(value["low"]), high=float(value["high"])
            )
    return found


def _numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    return {str(key): float(value) for key, value in entry.items() if is_number(value)}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
