"""``details.json`` as typed values: what the report shows beside the results.

Knows the layout of the file, version 1, in which everything but the name is optional: what is
not there is empty here, and the report leaves its section out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from potstill.evaluation.run_results import is_number, number_or_none

Points: TypeAlias = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One bin of a reliability diagram: mean confidence, accuracy, rows."""

    confidence: float
    accuracy: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one system said about a row; ``scores`` are class probabilities, where there are any.

    Args:
        right: It is the label; never said of an amount, which is more or less near.
    """

    prediction: str
    scores: Mapping[str, float]
    right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A row on which student and ensemble differ."""

    row: str
    inputs: Mapping[str, str]
    truth: str
    student: Answer
    ensemble: Answer
    divergence: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillingStop:
    """Where a task's soft loss was switched off: epoch, dev scores of student and teacher."""

    epoch: float
    student: float | None
    teacher: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDetails:
    """One task's data and errors.

    Args:
        labels: Class names in the order of the confusion tables.
        n_rows: Rows by split: ``train``, ``dev``, ``test``, ``pool``.
        covered: Share of the rows of train and pool that have a soft target.
        soft_weight: Weight of the soft loss on labelled rows.
        confusion: By system, for each of C true classes, the counts of the predicted ones.
        truth: (N,) values of the rows drawn in the scatter.
        predicted: (N,) the same by system.
        reliability: Bins by system.
        by_label: Label to its number of rows or spans, ``n``, and to each system's score.
        measures: The same for further measures of the whole split.
        differences: Rows on which student and ensemble differ most, the largest first.
    """

    labels: tuple[str, ...]
    n_rows: Mapping[str, int]
    covered: float | None
    soft_weight: float | None
    confusion: Mapping[str, Sequence[Mapping[int, int]]]
    truth: tuple[float, ...]
    predicted: Mapping[str, tuple[float, ...]]
    reliability: Mapping[str, tuple[Bin, ...]]
    by_label: Mapping[str, Mapping[str, float]]
    measures: Mapping[str, Mapping[str, float]]
    differences: tuple[Difference, ...]
    stop: DistillingStop | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One training: (step, loss) and, by task, (epoch, dev score)."""

    name: str
    loss: Points
    dev: Mapping[str, Points]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of the run; ``seconds`` is what it took when it was made."""

    name: str
    digest: str
    seconds: float | None
    reused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """The scores of one teacher of one task."""

    task: str
    member: str
    dev: float | None
    test: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetails:
    """Everything that the report shows beside the results.

    Args:
        cost: By system, ``params``, ``bytes`` and ``ms_per_text``, those that were measured.
    """

    name: str
    created: str
    run_id: str
    hardware: Mapping[str, str]
    settings: Mapping[str, str]
    tasks: Mapping[str, TaskDetails]
    curves: tuple[Curve, ...]
    cost: Mapping[str, Mapping[str, float]]
    stages: tuple[Stage, ...]
    members: tuple[Member, ...]
    warnings: tuple[str, ...]


def read_details(document: Mapping[str, Any]) -> RunDetails:
    """Read the document of ``details.json``; absent or null entries come out empty."""
    return RunDetails(
        name=str(document.get("name", "run")),
        created=str(document.get("created") or ""),
        run_id=str(document.get("run_id") or ""),
        hardware=_texts(document.get("hardware")),
        settings=_texts(document.get("settings")),
        tasks={name: read_task(entry) for name, entry in _map(document.get("tasks")).items()},
        curves=tuple(
            Curve(
                name=str(curve.get("name", "")),
                loss=_points(curve.get("loss")),
                dev={task: _points(dev) for task, dev in _map(curve.get("dev")).items()},
            )
            for curve in document.get("curves") or ()
        ),
        cost={
            system: {key: float(value) for key, value in _map(entry).items() if is_number(value)}
            for system, entry in _map(document.get("cost")).items()
        },
        stages=tuple(
            Stage(
                name=str(stage.get("name", "")),
                digest=str(stage.get("digest", "")),
                seconds=number_or_none(stage.get("seconds")),
                reused=bool(stage.get("reused")),
            )
            for stage in document.get("stages") or ()
        ),
        members=tuple(
            Member(
                task=str(member.get("task", "")),
                member=str(member.get("member", "")),
                dev=number_or_none(member.get("dev")),
                test=number_or_none(member.get("test")),
            )
            for member in document.get("members") or ()
        ),
        warnings=_strings(document.get("warnings")),
    )


def read_task(entry: Mapping[str, Any]) -> TaskDetails:
    """Read one task's part of ``details.json``; an empty mapping gives empty details."""
    scatter = _map(entry.get("scatter"))
    stop = _map(entry.get("distilling_stopped_at"))
    return TaskDetails(
        labels=_strings(entry.get("labels")),
        n_rows={
            split: int(entry[f"n_{split}"])
            for split in ("train", "dev", "test", "pool")
            if is_number(entry.get(f"n_{split}"))
        },
        covered=number_or_none(entry.get("covered")),
        soft_weight=number_or_none(entry.get("soft_weight")),
        confusion={
            key: tuple(_counts(row) for row in table)
            for key, table in _map(entry.get("confusion")).items()
            if table
        },
        truth=tuple(scatter.get("truth") or ()),
        predicted={
            key: tuple(values) for key, values in scatter.items() if key != "truth" and values
        },
        reliability={
            key: tuple(_bin(each) for each in bins)
            for key, bins in _map(entry.get("reliability")).items()
            if bins
        },
        by_label=_scores_by(entry.get("by_label")),
        measures=_scores_by(entry.get("measures")),
        differences=tuple(_difference(each) for each in entry.get("differences") or ()),
        stop=DistillingStop(
            epoch=float(stop["epoch"]),
            student=number_or_none(stop.get("student")),
            teacher=number_or_none(stop.get("teacher")),
        )
        if is_number(stop.get("epoch"))
        else None,
        warnings=_strings(entry.get("warnings")),
    )


def _counts(row: Mapping[str, int] | Sequence[int]) -> dict[int, int]:
    """A line of a confusion table; earlier versions wrote its zeros too."""
    cells = row.items() if isinstance(row, Mapping) else enumerate(row)
    return {int(column): n for column, n in cells if n}


def _bin(entry: Mapping[str, Any]) -> Bin:
    return Bin(
        confidence=float(entry["confidence"]), accuracy=float(entry["accuracy"]), n=int(entry["n"])
    )


def _difference(entry: Mapping[str, Any]) -> Difference:
    truth = entry.get("truth", "")
    return Difference(
        row=f"{entry.get('unit', 'row')} {_text(entry.get('row', ''))}",
        inputs=_texts(entry.get("inputs")),
        truth=_text(truth),
        student=_answer(_map(entry.get("student")), truth),
        ensemble=_answer(_map(entry.get("ensemble")), truth),
        divergence=number_or_none(entry.get("divergence")),
    )


def _answer(entry: Mapping[str, Any], truth: Any) -> Answer:
    scores = {str(k): float(v) for k, v in _map(entry.get("scores")).items() if is_number(v)}
    said = entry.get("prediction", "")
    if "spans" in entry:  # of words: what they mark says more than a tag a word
        said = [f"{span.get('type')}: {span.get('text')}" for span in entry["spans"]]
    any_of = isinstance(truth, list) and isinstance(said, str)  # one of several right texts
    right = said in truth if any_of else _text(said) == _text(truth)
    right = right and not isinstance(said, float)
    return Answer(prediction=_text(said), scores=scores, right=right)


def _points(entry: Any) -> Points:
    return tuple((float(x), float(y)) for x, y in entry or () if is_number(x) and is_number(y))


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "(none)"
    return f"{value:.7g}" if isinstance(value, float) else str(value) or "(none)"


def _texts(value: Any) -> dict[str, str]:
    return {str(key): _text(each) for key, each in _map(value).items() if each is not None}


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(_text(each) for each in value or ())


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _scores_by(value: Any) -> dict[str, dict[str, float]]:
    return {
        str(name): {str(k): float(v) for k, v in _map(values).items() if is_number(v)}
        for name, values in _map(value).items()
    }
