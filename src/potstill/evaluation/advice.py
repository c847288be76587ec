"""What a user can try next, from what came out: the part of a report that a colleague would say.

Knows results, no page. Verdicts and intervals decide whether something is said; what is said may
compare scores, which it quotes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from potstill.evaluation.number_words import from_to, score, signed
from potstill.evaluation.run_details import RunDetails
from potstill.evaluation.run_results import LEAST_GAIN, RunResults, TaskResult

_LONGER = "`teachers: {training: {epochs: …}}`"
_TUNE = ", fine-tune them per task (`teachers: {recipe: finetuned}`)"
_BRING = "`models:`"
_GIVEN = "given"  # what the names of members that were not trained begin with
_MOST_NAMED = 3
_TUNED = ("finetuned", "mt-dnn-kd")
"""Recipes whose members were trained on their task last."""
_UNWEIGHED = ("soft_only", "annealed")
"""Objectives that read no `soft_weight`."""


def advice(run: RunResults, details: RunDetails | None = None) -> list[str]:
    """A sentence or two for each finding that asks for something; often none.

    Args:
        run: The results; without a student and the multi-task baseline there is no advice.
        details: What the run was asked for: nobody is told to do what was done.
    """
    if nothing := _nothing_learned(run):
        return nothing
    tasks = {} if details is None else details.tasks
    undistilled = {name for name, task in tasks.items() if task.soft_weight == 0}
    settings = {} if details is None else details.settings
    members = () if details is None else details.members
    trained = {each.task for each in members if not each.member.startswith(_GIVEN)}
    given = {each.task for each in members} - trained
    tune = "" if settings.get("teachers.recipe", "") in _TUNED else _TUNE
    return [
        *_hurt(run, undistilled, settings.get("distill.objective", "average"), given),
        *_nothing_to_pass_on(run, given, tune),
        *_behind(run),
        *_unclear(run),
    ]


def _nothing_learned(run: RunResults) -> list[str]:
    """Every score of every system is nothing: what differs between them is not the question."""
    scores = [value for task in run.tasks for value in task.scores.values()]
    if "multitask" not in run.mean or any(abs(value) >= LEAST_GAIN for value in scores):
        return []
    return [
        "No system has learned anything: all scores are 0.000. Train longer (`training: {epochs: "
        "…}`), with a higher `learning_rate`, or on more rows."
    ]


def _hurt(
    run: RunResults, undistilled: Collection[str], objective: str, given: Collection[str]
) -> list[str]:
    """Tasks that distilling hurt: by teachers that know no more, or in spite of better ones."""
    hurt = [
        task
        for task in run.tasks
        if task.verdict == "hurt" and "ensemble" in task.scores and task.name not in undistilled
    ]
    weak = [task for task in hurt if _gain(task) <= 0]
    strong = [task for task in hurt if _gain(task) > 0]
    weighs = objective not in _UNWEIGHED
    off = "teachers: false" if objective == "soft_only" else "soft_weight: 0"
    trust = "the task's `soft_weight`" if weighs else "`distill: {objective: average}`"
    found = []
    if weak:
        found.append(
            f"Distilling hurt {_named(weak)}: the teachers know no more there than multi-task "
            f"training does ({_scores(weak)}). {_better(weak, given)}, or learn from labels alone "
            f"there (the task's `{off}` and `pool: false`)."
        )
    if strong:
        found.append(
            f"Distilling hurt {_named(strong)} although the teachers are better there "
            f"({_scores(strong)}). Train the student longer (`student: {{training: {{epochs: "
            f"…}}}}`), or trust the labels more ({trust})."
        )
    return found


def _better(tasks: Sequence[TaskResult], given: Collection[str]) -> str:
    """How to get teachers that know more: those that were given are trained elsewhere."""
    if all(task.name in given for task in tasks):
        return f"Bring better ones ({_BRING})"
    return f"Train them longer ({_LONGER})"


def _nothing_to_pass_on(run: RunResults, given: Collection[str], tune: str) -> list[str]:
    if not {"multitask", "ensemble"} <= set(run.mean) or "multitask" not in run.mean_versus:
        return []
    gain = run.mean["ensemble"] - run.mean["multitask"]
    if gain >= LEAST_GAIN or run.mean_versus["multitask"].low > 0:
        return []
    taught = [task for task in run.tasks if "ensemble" in task.scores]
    better = _better(taught, given)
    if not all(task.name in given for task in taught):
        better += f"{tune} or bring better ones ({_BRING})"
    return [
        f"The ensembles are no better than multi-task training ({signed(gain)} on the mean), so "
        f"they had nothing to pass on. {better}."
    ]


def _behind(run: RunResults) -> list[str]:
    """The student lags teachers that are worth following."""
    versus = run.mean_versus.get("ensemble")
    if versus is None or versus.high >= 0:
        return []
    if run.mean.get("multitask", -math.inf) >= run.mean["ensemble"]:
        return []
    return [
        f"The student stands {score(-versus.delta)} below its ensembles on the mean "
        f"({from_to(versus)}). More epochs (`student: {{training: {{epochs: …}}}}`) and rows "
        "without labels (`pool:`) bring it nearer; so does a larger student."
    ]


def _unclear(run: RunResults) -> list[str]:
    versus = run.mean_versus.get("multitask")
    unclear = versus is not None and versus.low <= 0 <= versus.high and versus.low < versus.high
    if versus is None or run.n_seeds > 1 or not unclear:
        return []
    return [
        f"One seed does not tell student and multi-task training apart ({from_to(versus)}). With "
        "`seed: [0, 1, 2]` the intervals cover the chances of training, too; more test rows "
        "narrow them."
    ]


def _gain(task: TaskResult) -> float:
    """Over multi-task training, which a task with a verdict has a score of."""
    return task.scores["ensemble"] - task.scores["multitask"]


def _named(tasks: Sequence[TaskResult]) -> str:
    names = [f"'{task.name}'" for task in tasks[:_MOST_NAMED]]
    rest = len(tasks) - len(names)
    return ", ".join(names) + (f" and {rest} more" if rest else "")


def _scores(tasks: Sequence[TaskResult]) -> str:
    """Ensemble against multi-task, of the tasks that are named."""
    return ", ".join(
        f"{score(task.scores['ensemble'])} against {score(task.scores['multitask'])}"
        for task in tasks[:_MOST_NAMED]
    )
