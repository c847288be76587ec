"""A run's results in sentences: the headline of the report and what must be said beside it.

Knows results, no page. The words claim what the numbers carry: a gain that the ensembles did not
have is not "kept", and a difference whose interval holds zero is not called one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from potstill.evaluation.leaderboard import (
    MOST_GAIN_KEPT,
    luck_words,
    percent_of_gain,
    why_no_gain,
)
from potstill.evaluation.number_words import count, from_to, ratio, score, short_count, signed
from potstill.evaluation.run_results import RunResults, TaskResult, read_results

VERDICT_MARKS: Mapping[str | None, str] = {
    "helped": "▲",
    "hurt": "▼",
    "no difference": "○",
    None: "·",
}
"""A shape for each verdict, so that colour is never the only sign."""


def headline(results: Mapping[str, Any]) -> str:
    """One sentence that says what came out, for a terminal or a page.

    Args:
        results: The document of ``results.json``.

    Raises:
        ArtefactError: Another version of the layout.
    """
    return headline_of(read_results(results))


def headline_of(run: RunResults) -> str:
    """The same from results that are read already."""
    params = run.params.get("student")
    subject = f"One student of {short_count(params)} parameters" if params else "One student"
    return f"{subject} {_gain_clause(run)}{_task_clause(run)}."


def remarks(run: RunResults) -> list[str]:
    """What a fair reader wants to know next to the headline, a sentence or two each."""
    found = []
    interval = run.mean_versus.get("multitask")
    if run.untaught:
        found.append("No task has teachers: the student is the multi-task network itself.")
    elif interval is not None:
        tail = "."
        if interval.low <= 0 <= interval.high:
            tail = ", which holds zero: these rows do not tell the two apart on the mean."
        found.append(
            f"Mean of student − multi-task{_of_tasks(run)}: {signed(interval.delta)}, "
            f"95 % interval {from_to(interval)}{tail}"
        )
    elif {"student", "multitask", "ensemble"} <= set(run.mean):
        found.append(
            f"Gain over multi-task training, on the mean: student "
            f"{signed(run.mean['student'] - run.mean['multitask'])}, ensembles "
            f"{signed(run.mean['ensemble'] - run.mean['multitask'])}."
        )
    versus = run.mean_versus.get("ensemble")
    if versus is not None:
        found.append(
            f"Mean of student − ensembles{_of_tasks(run)}: {signed(versus.delta)}, "
            f"95 % interval {from_to(versus)}."
        )
    student, ensemble = run.params.get("student"), run.params.get("ensemble")
    if student and ensemble:
        found.append(_cost_sentence(student, ensemble))
    tuned = run.params.get("student_finetuned")
    if tuned:
        found.append(
            f"The fine-tuned students are one encoder per task, {short_count(tuned)} parameters "
            "together, and stand apart from the one student."
        )
    if run.n_seeds > 1:
        kept = (
            ""
            if run.student_seed is None
            else f" The student kept is that of seed {run.student_seed}."
        )
        found.append(
            f"Scores are means over {run.n_seeds} seeds; intervals cover seeds and rows.{kept}"
        )
    elif luck := luck_words(run):
        found.append(f"{luck[0].upper()}{luck[1:]}; with `seed: [0, 1, 2]` they cover both.")
    on_dev = [task.name for task in run.tasks if task.split == "dev"]
    if on_dev:
        which = "All scores" if len(on_dev) == len(run.tasks) else _listed("Scores of", on_dev)
        found.append(
            f"{which} are of the dev rows, which also chose the weights: "
            "expect them to be a little high for every system."
        )
    return found


def task_sentence(task: TaskResult) -> str:
    """One task's verdict in a sentence."""
    interval = task.versus.get("multitask")
    unit = "queries" if task.kind == "ranking" else "rows"
    rows = f" over {count(task.n)} {task.split} {unit}" if task.n is not None else ""
    if interval is None:
        if "student" not in task.scores:
            return "No score of the student was recorded."
        return (
            f"The student scores {score(task.scores['student'])}{rows}. Without the multi-task "
            "baseline there is no verdict on distilling."
        )
    said = {
        "helped": "Distilling helped",
        "hurt": "Distilling hurt",
        "no difference": "No difference at all"
        if interval.low == interval.high == 0
        else "No difference that these rows can show",
    }.get(task.verdict or "", "No verdict was recorded")
    return (
        f"{said}: student − multi-task is {signed(interval.delta)}, "
        f"95 % interval {from_to(interval)}{rows}."
    )


def _of_tasks(run: RunResults) -> str:
    n, of = len(run.mean_tasks), len(run.tasks)
    return f" over {n} of {of} tasks" if n < of else ""


def _gain_clause(run: RunResults) -> str:
    several = len(run.mean_tasks) > 1
    mean, on_mean = run.mean, _on_mean(run)
    ensembles, whose = (
        ("the ensembles", "the ensembles'")
        if several
        else (
            "the ensemble",
            "the ensemble's",
        )
    )
    if "student" not in mean:
        return "has no score yet"
    own = mean["student"]
    if {"multitask", "ensemble"} <= set(mean):
        delta, gain = own - mean["multitask"], mean["ensemble"] - mean["multitask"]
        if run.gain_kept is None:
            against = _against(delta)
            return (
                f"scores {score(own)}{on_mean}, {against} multi-task training; {why_no_gain(run)}"
            )
        if run.gain_kept > MOST_GAIN_KEPT:
            return (
                f"gains {signed(delta)}{on_mean} over multi-task training, more than twice "
                f"{whose} {signed(gain)}"
            )
        if run.gain_kept < 0:
            return (
                f"keeps none of {whose} gain: it scores {score(own)}{on_mean}, "
                f"{_against(delta)} multi-task training"
            )
        kept = percent_of_gain(run.gain_kept)
        return (
            f"keeps {'none' if kept == '0 %' else kept} of {whose} gain over multi-task training"
            f"{on_mean if run.mean_words else ''}"
        )
    for baseline, name in (("multitask", "multi-task training"), ("ensemble", ensembles)):
        if baseline in mean:
            return f"scores {score(own)}{on_mean}, {_against(own - mean[baseline])} {name}"
    return f"scores {score(own)}{on_mean}"


def _on_mean(run: RunResults) -> str:
    """Of which tasks a mean is: those without it could turn its sign."""
    left_out = [task.name for task in run.tasks if task.name not in run.mean_tasks]
    if left_out:
        counts = f"{len(run.mean_tasks)} of {len(run.tasks)} tasks"
        return f" on the mean of {counts} ({_listed('without', left_out)})"
    return " on the mean" if len(run.tasks) > 1 else ""


def _against(delta: float) -> str:
    text = score(abs(delta))
    if text == "0.000":
        return "level with"
    return f"{text} {'above' if delta > 0 else 'below'}"


def _task_clause(run: RunResults) -> str:
    judged = [task for task in run.tasks if task.verdict is not None]
    helped = [task.name for task in judged if task.verdict == "helped"]
    hurt = [task.name for task in judged if task.verdict == "hurt"]
    if not judged:
        return ""
    if len(judged) == 1:
        said = {"helped": "distilling helped", "hurt": "distilling hurt"}
        return f"; {said.get(judged[0].verdict or '', 'no clear difference')} on its one task"
    if not helped and not hurt:
        return f"; no clear difference on any of {len(judged)} tasks"
    losses = "none" if not hurt else _listed(f"{len(hurt)}:", hurt)
    gains = len(helped) if helped else "none"
    return f"; helped on {gains} of {len(judged)} tasks, hurt on {losses}"


def _cost_sentence(student: int, ensemble: int) -> str:
    sizes = f"{short_count(student)} parameters, the ensembles together {short_count(ensemble)}"
    if ensemble > student:
        return f"The student has {sizes}: {ratio(ensemble / student)} times as many."
    return f"The student has {sizes}: it is not the smaller one."


def _listed(start: str, names: list[str], most: int = 3) -> str:
    rest = len(names) - most
    shown = ", ".join(names[:most])
    return f"{start} {shown} and {rest} more" if rest > 0 else f"{start} {shown}"
