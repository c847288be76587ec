"""What each section of the report shows: results and details in, tables and charts out.

Knows which chart answers which question; the sentences are in ``report_words``, the drawing in
``charts``, the page in ``report_template.html.j2``. A section whose details are missing is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from potstill.evaluation.charts import (
    Line,
    bar,
    forest_axis,
    forest_gap,
    forest_mark,
    forest_ticks,
    line_panel,
    reliability_panel,
    scatter_panel,
    score_dots,
)
from potstill.evaluation.compare import LEAST_UNITS, Interval
from potstill.evaluation.number_words import count, duration, ratio, short_count, signed, size
from potstill.evaluation.run_details import (
    Curve,
    Difference,
    RunDetails,
    Stage,
    TaskDetails,
    read_task,
)
from potstill.evaluation.run_results import BASELINES, SYSTEMS, RunResults, TaskResult

_CURVE_GROUPS = ("student", "multitask", "teacher", "single", "other")

_COSTS = {
    "params": ("parameters", short_count),
    "bytes": ("size of the weights", size),
    "ms_per_text": ("time per text", lambda value: f"{value:.3g} ms"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """One task's section."""

    anchor: str
    result: TaskResult
    details: TaskDetails
    dots: Markup | None
    reliability: Markup | None
    scatter: Sequence[tuple[str, Markup]]
    members: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestCell:
    """A mark with its number; the number is empty where there was no comparison."""

    baseline: str
    mark: Markup
    text: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestRow:
    """One task's differences, or those of the mean."""

    name: str
    anchor: str | None
    cells: Sequence[ForestCell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """The figure of all differences: baselines across, tasks down."""

    heads: Sequence[str]
    rows: Sequence[ForestRow]
    mean: ForestRow | None
    ticks: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLine:
    """One kind of cost of both sides: bars, numbers, and how many times as much."""

    name: str
    bars: Sequence[tuple[str, Markup, str]]
    ratio: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveSet:
    """Panels of training: losses, learning rates, dev scores; and the groups in the legend."""

    legend: Sequence[tuple[str, str]]
    training: Sequence[tuple[str, Markup]]
    dev: Sequence[tuple[str, Markup]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLine:
    """One stage with a bar as long as its share of the longest."""

    stage: Stage
    time: str
    bar: Markup


def task_views(run: RunResults, details: RunDetails) -> list[TaskView]:
    """The sections of all tasks, in their order."""
    empty = read_task({})
    return [
        _task_view(index, task, details.tasks.get(task.name, empty), details)
        for index, task in enumerate(run.tasks, start=1)
    ]


def forest(run: RunResults, anchors: Mapping[str, str]) -> Forest | None:
    """Student minus each baseline; tasks by their difference to the first baseline there is."""
    every = [task.versus for task in run.tasks] + [run.mean_versus]
    shown = [name for name in BASELINES if any(name in versus for versus in every)]
    if not shown:
        return None
    axis = forest_axis([interval for versus in every for interval in versus.values()])

    def row(
        name: str, anchor: str | None, versus: Mapping[str, Interval], *, mean: bool, few: bool
    ) -> ForestRow:
        cells = []
        for baseline in shown:
            short, interval = f"− {SYSTEMS[baseline]}", versus.get(baseline)
            if interval is None:
                cells.append(ForestCell(baseline=short, mark=forest_gap(axis), text="", words=""))
                continue
            mark = forest_mark(interval, axis, f"{name}, student {short}", mean=mean, few=few)
            words = f"[{signed(interval.low)}, {signed(interval.high)}]"
            cells.append(
                ForestCell(baseline=short, mark=mark, text=signed(interval.delta), words=words)
            )
        return ForestRow(name=name, anchor=anchor, cells=cells)

    def few(task: TaskResult) -> bool:
        return task.n is not None and task.n < LEAST_UNITS

    def place(task: TaskResult) -> float:
        return next((-task.versus[name].delta for name in shown if name in task.versus), 9.0)

    return Forest(
        heads=[f"student − {SYSTEMS[baseline]}" for baseline in shown],
        rows=[
            row(task.name, anchors[task.name], task.versus, mean=False, few=few(task))
            for task in sorted(run.tasks, key=place)
        ],
        mean=row("mean", None, run.mean_versus, mean=True, few=any(map(few, run.tasks)))
        if run.mean_versus
        else None,
        ticks=forest_ticks(axis),
    )


def cost_lines(run: RunResults, details: RunDetails) -> list[CostLine]:
    """Parameters, bytes and time of student and ensembles, those that are known of both or one."""
    found = []
    for key, (name, words) in _COSTS.items():
        values = {
            system: details.cost.get(system, {}).get(
                key, run.params.get(system) if key == "params" else None
            )
            for system in ("student", "ensemble")
        }
        known = {system: value for system, value in values.items() if value is not None}
        if not known:
            continue
        most = max(known.values()) or 1.0
        student, ensemble = known.get("student"), known.get("ensemble")
        found.append(
            CostLine(
                name=name,
                bars=[
                    (SYSTEMS[system], bar(value / most, system), words(value))
                    for system, value in known.items()
                ],
                ratio=_ratio_words(student, ensemble),
            )
        )
    return found


def curve_set(run: RunResults, details: RunDetails) -> CurveSet | None:
    """Losses in a panel for each side, dev scores in a panel for each task."""
    groups: dict[str, list[Curve]] = {name: [] for name in _CURVE_GROUPS}
    for curve in details.curves:
        groups[_curve_group(curve)].append(curve)
    present = [name for name in _CURVE_GROUPS if groups[name]]
    training = []
    for name in present:
        lines = [
            Line(name=curve.name, system=name, points=curve.loss, faint=len(groups[name]) > 1)
            for curve in groups[name]
            if curve.loss
        ]
        if lines:
            title = f"loss, {_group_words(name, len(lines))}"
            training.append((title, line_panel(lines, x_name="step", what=title)))
    names = [task.name for task in run.tasks]
    names += sorted({task for curve in details.curves for task in curve.dev} - set(names))
    metrics = {task.name: task.metric for task in run.tasks}
    dev = []
    for task in names:
        # The student's line is drawn last, on top of the others.
        lines = [
            Line(
                name=curve.name,
                system=name,
                points=curve.dev[task],
                faint=name not in {"student", "multitask"},
            )
            for name in reversed(present)
            for curve in groups[name]
            if curve.dev.get(task)
        ]
        if lines:
            what = f"{task}: dev score by epoch"
            panel = line_panel(lines, x_name="epoch", what=what)
            dev.append((f"{task}, {metrics[task]}" if metrics.get(task) else task, panel))
    if not training and not dev:
        return None
    legend = [(name, _group_words(name, len(groups[name]))) for name in present]
    return CurveSet(legend=legend, training=training, dev=dev)


def stage_lines(details: RunDetails) -> list[StageLine]:
    """The stages with bars of their times."""
    longest = max((stage.seconds or 0.0 for stage in details.stages), default=0.0) or 1.0
    return [
        StageLine(
            stage=stage,
            time=duration(stage.seconds),
            bar=bar((stage.seconds or 0.0) / longest, "reused" if stage.reused else "stage"),
        )
        for stage in details.stages
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreLine:
    """The scores of one label, or by one measure, with the number of its rows or spans."""

    name: str
    n: int
    scores: Mapping[str, float]


def score_lines(scores: Mapping[str, Mapping[str, float]], most: int = 40) -> list[ScoreLine]:
    """The labels of a task, or its further measures, the most frequent first."""
    order = sorted(scores.items(), key=lambda item: -item[1].get("n", 0.0))
    return [
        ScoreLine(
            name=label,
            n=int(values.get("n", 0.0)),
            scores={system: values[system] for system in _ordered(set(values) - {"n"})},
        )
        for label, values in order[:most]
    ]


def likeliest(row: Difference, most: int = 3) -> list[str]:
    """The classes to which either side gives most, in one order for both."""
    both = (row.student.scores, row.ensemble.scores)
    names = list(dict.fromkeys([*both[0], *both[1]]))
    return sorted(names, key=lambda name: -max(side.get(name, 0.0) for side in both))[:most]


def _task_view(index: int, task: TaskResult, details: TaskDetails, run: RunDetails) -> TaskView:
    rows = [
        (system, name, task.scores[system])
        for system, name in SYSTEMS.items()
        if system in task.scores
    ]
    seeds = {
        system: [each.scores[system] for each in task.per_seed if system in each.scores]
        for system, _, _ in rows
    }
    bins = {key: details.reliability[key] for key in _ordered(details.reliability)}
    return TaskView(
        anchor=f"task-{index}",
        result=task,
        details=details,
        dots=score_dots(rows, seeds) if rows else None,
        reliability=reliability_panel(bins, f"{task.name}: accuracy by confidence")
        if bins
        else None,
        scatter=_scatter(task.name, details),
        members=_member_words(task.name, run),
    )


def _scatter(task: str, details: TaskDetails) -> list[tuple[str, Markup]]:
    fits = {
        system: values
        for system, values in details.predicted.items()
        if len(values) == len(details.truth)
    }
    if not fits:
        return []
    every = [*details.truth, *(value for values in fits.values() for value in values)]
    axis = (min(every), max(every))
    return [
        (
            SYSTEMS.get(system, system),
            scatter_panel(
                details.truth, fits[system], axis, system, f"{task}: {system} over truth"
            ),
        )
        for system in _ordered(fits)
    ]


def _member_words(task: str, run: RunDetails) -> str:
    members = [member for member in run.members if member.task == task]
    parts = []
    for split in ("dev", "test"):
        values = [member.dev if split == "dev" else member.test for member in members]
        shown = [f"{value:.3f}" for value in values if value is not None]
        if shown:
            parts.append(f"{split} {', '.join(shown)}")
    return "; ".join(parts)


def _ordered(keys: Iterable[str]) -> list[str]:
    """Student first, then ensemble, as in every pair of figures."""
    first = ("student", "ensemble", "multitask")
    return sorted(keys, key=lambda key: (first.index(key) if key in first else 9, key))


def _curve_group(curve: Curve) -> str:
    word = curve.name.replace("-", " ").replace("_", " ").split(" ")[0].lower()
    return {"multi": "multitask", "teachers": "teacher"}.get(
        word, word if word in _CURVE_GROUPS else "other"
    )


def _group_words(name: str, n: int) -> str:
    words = {"multitask": "multi-task", "teacher": "teachers" if n > 1 else "teacher"}
    text = words.get(name, name)
    return f"{text} ({count(n)})" if n > 1 else text


def _ratio_words(student: float | None, ensemble: float | None) -> str:
    if not student or not ensemble:
        return ""
    if ensemble >= student:
        return f"ensemble ÷ student = {ratio(ensemble / student)}"
    return f"student ÷ ensemble = {ratio(student / ensemble)}"
