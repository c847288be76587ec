"""The leaderboard: tasks down, systems across, verdicts at the end.

Knows ``results.json`` and two ways to print a table; the report has its own page for the same
rows. A system that was not asked for is a dash, never a zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from potstill.core.characters import printable
from potstill.evaluation.compare import Interval
from potstill.evaluation.number_words import ABSENT, bracket, count, score, signed
from potstill.evaluation.run_results import (
    LEAST_GAIN,
    SYSTEMS,
    RunResults,
    TaskResult,
    read_results,
)

_VERDICT_STYLES = {"helped": "green", "hurt": "red"}

MOST_GAIN_KEPT = 2.0
"""Above this share the ensembles' gain is so small that a share of it misleads."""

_NARROW_HEADS = {"multitask": "multi-\ntask", "teacher_best": "best\nteacher"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardRow:
    """One line of the leaderboard.

    Args:
        name: The task, or ``mean``.
        metric: What is scored; empty in the line of means.
        n: Number of scored rows.
        scores: By system; absent ones are absent.
        best: The systems whose score, as it is shown, is the best of the line.
        delta: Student minus multi-task, where both are there.
        interval: The same with its 95 % interval, where computed.
        verdict: Of the task, or None.
        is_mean: Whether it is the line of means.
    """

    name: str
    metric: str
    n: int | None
    scores: Mapping[str, float]
    best: frozenset[str]
    delta: float | None
    interval: Interval | None
    verdict: str | None
    is_mean: bool


def board_rows(run: RunResults) -> tuple[list[BoardRow], BoardRow | None]:
    """The lines of the tasks, and the line of means unless there are none."""
    rows = [_row(run, task.name, task.scores, task.versus, task) for task in run.tasks]
    return rows, _row(run, "mean", run.mean, run.mean_versus) if run.mean else None


def gain_words(run: RunResults, *, plain: bool = False) -> str:
    """The share of the ensembles' gain that the student kept, in one line; empty if unknown.

    Args:
        run: The results.
        plain: Minus signs for terminals, as in :mod:`potstill.evaluation.number_words`.
    """
    if not {"multitask", "ensemble", "student"} <= set(run.mean):
        return ""
    if run.gain_kept is None:
        return f"gain kept: not claimed, {why_no_gain(run, plain=plain)}"
    whose = "the ensembles'" if len(run.mean_tasks) > 1 else "the ensemble's"
    gain = run.mean["ensemble"] - run.mean["multitask"]
    if run.gain_kept > MOST_GAIN_KEPT:
        share = f"more than twice {whose} gain"
    elif run.gain_kept < 0:
        share = f"none of {whose} gain"
    else:
        share = f"{percent_of_gain(run.gain_kept)} of {whose} gain"
    own = run.mean["student"] - run.mean["multitask"]
    student = f"; the student is {signed(own, plain=plain)}" if run.gain_kept < 0 else ""
    return f"gain kept: {share} over multi-task training ({signed(gain, plain=plain)}{student})"


def luck_words(run: RunResults) -> str:
    """What the intervals of one seed leave out; empty where there are several, or no intervals."""
    if run.n_seeds > 1 or not any(task.versus for task in run.tasks):
        return ""
    return "one seed: intervals cover the choice of rows, not the luck of training"


def why_no_gain(run: RunResults, *, plain: bool = False) -> str:
    """Why no share of the ensembles' gain is claimed, where ``gain_kept`` is null."""
    several = len(run.mean_tasks) > 1
    ensembles = "the ensembles" if several else "the ensemble"
    gain = run.mean["ensemble"] - run.mean["multitask"]
    if gain < LEAST_GAIN:
        return f"{ensembles} did not gain over multi-task training ({signed(gain, plain=plain)})"
    best = run.mean.get("teacher_best")
    if best is not None and run.mean["ensemble"] < best:
        whose = "their best members on the mean" if several else "its best member"
        below = signed(run.mean["ensemble"] - best, plain=plain)
        return f"{ensembles} did not beat {whose} ({below})"
    return f"{ensembles} gained {signed(gain, plain=plain)} over multi-task training"


def percent_of_gain(gain_kept: float) -> str:
    """``gain_kept`` in whole per cent."""
    return f"{100 * gain_kept:.0f} %".replace("-0 %", "0 %")


class _Board(Table):
    """A table that gives way to a narrower one where the terminal cannot hold it."""

    narrower: Sequence[Table] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unbound = options.update(max_width=10_000)
        choice: Table = self
        for table in (self, *self.narrower):
            choice = table
            if Table.__rich_measure__(table, console, unbound).maximum <= options.max_width:
                break
        yield from Table.__rich_console__(choice, console, options)


def leaderboard(results: Mapping[str, Any]) -> Table:
    """The leaderboard for a terminal.

    It takes the form that the terminal has room for: about 105 columns hold everything in one
    line for each task, 75 in two lines; below that the systems other than multi-task, ensemble
    and student are left out, and the caption says so.

    Args:
        results: The document of ``results.json``.

    Raises:
        ArtefactError: Another version of the layout.

    Examples:
        >>> from rich.console import Console
        >>> task = {"metric": "accuracy", "n": 277, "scores": {"student": 0.75}, "verdict": None}
        >>> table = leaderboard({"version": 1, "tasks": {"rte": task}, "mean": {}, "cost": {}})
        >>> [str(column.header) for column in table.columns][:2]
        ['task', 'metric']
    """
    run = read_results(results)
    few = tuple(system for system in run.systems if system in {"multitask", "ensemble", "student"})
    wide = _table(run, run.systems)
    wide.narrower = tuple(_table(run, each, lines=2) for each in (run.systems, few, ("student",)))
    return wide


def _table(run: RunResults, systems: tuple[str, ...], lines: int = 1) -> _Board:
    rows, mean = board_rows(run)
    notes = [gain_words(run, plain=True), printable(run.mean_words), luck_words(run)]
    if systems != run.systems:
        rest = ", ".join(SYSTEMS[each] for each in run.systems if each not in systems)
        notes.append(f"no room here for: {rest}")
    caption = "\n".join(note for note in notes if note)
    table = _Board(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0) if lines == 1 else 0,
        pad_edge=False,
        caption=Text(caption) if caption else None,
        caption_justify="left",
    )
    table.add_column("task" if lines == 1 else "task\nmetric, n", overflow="fold")
    if lines == 1:
        table.add_column("metric", overflow="fold")
        table.add_column("n", justify="right", no_wrap=True)
    for system in systems:
        head = _NARROW_HEADS.get(system, SYSTEMS[system].replace(", ", ",\n"))
        table.add_column(head, justify="right", no_wrap=True)
    if lines == 1:
        table.add_column("student - multi-task", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
    else:
        table.add_column("verdict, student\n- multi-task", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, systems, lines))
    if mean is not None:
        table.add_section()
        table.add_row(*_cells(mean, systems, lines))
    return table


def leaderboard_markdown(results: Mapping[str, Any]) -> str:
    """The leaderboard as a Markdown table, with a closing line break.

    Args:
        results: The document of ``results.json``.

    Raises:
        ArtefactError: Another version of the layout.
    """
    run = read_results(results)
    rows, mean = board_rows(run)
    heads = ["task", "metric", "n", *(SYSTEMS[system] for system in run.systems)]
    heads += ["student - multi-task", "verdict"]
    rules = ["---", "---", *["--:"] * (1 + len(run.systems)), "---", "---"]
    lines = [heads, rules]
    for row in [*rows, *([mean] if mean else [])]:
        name = "**mean**" if row.is_mean else _markdown(row.name)
        scores = [
            f"**{score(row.scores[system], plain=True)}**"
            if system in row.best
            else score(row.scores.get(system), plain=True)
            for system in run.systems
        ]
        metric = ABSENT if row.is_mean else _markdown(row.metric)
        lines.append([name, metric, _n(row), *scores, _difference(row), row.verdict or ABSENT])
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    means = _markdown(run.mean_words) if run.mean_words else ""
    notes = [note for note in (gain_words(run, plain=True), means, luck_words(run)) if note]
    return text + "".join(f"\n{note[0].upper()}{note[1:]}.\n" for note in notes)


def _row(
    run: RunResults,
    name: str,
    scores: Mapping[str, float],
    versus: Mapping[str, Interval],
    task: TaskResult | None = None,
) -> BoardRow:
    shown = {system: scores[system] for system in run.systems if system in scores}
    # By the text: what the reader sees as equal is equally best.
    top = score(max(shown.values())) if shown else ""
    best = frozenset(system for system, value in shown.items() if score(value) == top)
    interval = versus.get("multitask")
    delta = interval.delta if interval else None
    if delta is None and {"student", "multitask"} <= set(scores):
        delta = scores["student"] - scores["multitask"]
    return BoardRow(
        name=name,
        metric=task.metric if task else "",
        n=task.n if task else None,
        scores=shown,
        best=best if len(shown) > 1 else frozenset(),
        delta=delta,
        interval=interval,
        verdict=task.verdict if task else None,
        is_mean=task is None,
    )


def _cells(row: BoardRow, systems: tuple[str, ...], lines: int) -> list[Text]:
    name = Text(printable(row.name), style="bold" if row.is_mean else "")
    metric = "" if row.is_mean else printable(row.metric) or ABSENT
    n = "" if row.is_mean else _n(row)
    scores = [
        Text(
            score(row.scores.get(system), plain=True),
            style="bold" if system in row.best else "dim" if system not in row.scores else "",
        )
        for system in systems
    ]
    unjudged = "" if row.is_mean else ABSENT
    verdict = Text(row.verdict or unjudged, style=_VERDICT_STYLES.get(row.verdict or "", ""))
    if lines == 1:
        return [name, Text(metric), Text(n), *scores, Text(_difference(row)), verdict]
    if not row.is_mean:
        name = Text.assemble(name, "\n", (f"{metric}, {n}", "dim"))
    delta = signed(row.delta, plain=True)
    first = Text.assemble(verdict, " ", delta) if row.verdict else Text(delta)
    interval = bracket(row.interval, plain=True) if row.interval else ""
    return [name, *scores, Text.assemble(first, "\n", interval) if interval else first]


def _difference(row: BoardRow) -> str:
    if row.interval is None:
        return signed(row.delta, plain=True)
    return f"{signed(row.delta, plain=True)} {bracket(row.interval, plain=True)}"


def _n(row: BoardRow) -> str:
    return ABSENT if row.n is None else count(row.n)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*\[\]|<>])", r"\\\1", printable(text)) or ABSENT
