"""What must agree between the sections of a run file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pydantic_core import PydanticCustomError

from potstill.config.faults import KeyPath, choices
from potstill.config.fields import refusal
from potstill.config.given import GivenModels
from potstill.config.sections import PAPER_RECIPE, Distill, Evaluate, Student, Teachers
from potstill.config.tasks import Task

Errors = list[tuple[KeyPath, PydanticCustomError]]


def check_across(
    tasks: Mapping[str, Task],
    teachers: Teachers,
    student: Student,
    distill: Distill,
    evaluate: Evaluate,
) -> Errors:
    """All contradictions between the sections, each with its key path."""
    errors: Errors = []
    taught = {
        name
        for name, task in tasks.items()
        if task.teachers is not False
        and (task.teachers is not True or teachers.tasks is None or name in teachers.tasks)
    }
    errors += _check_names("tasks", teachers.tasks, tasks)
    errors += _check_names("select_on", teachers.select_on, tasks)
    errors += _check_teachers(tasks, teachers)
    errors += _check_pools(tasks, taught, distill)
    errors += _check_unread(tasks, taught, student, evaluate)
    errors += _check_objective(tasks, distill)
    return errors


def _check_names(key: str, names: Iterable[str] | None, tasks: Mapping[str, Task]) -> Errors:
    return [
        (
            ("teachers", key, i),
            refusal(choices(tasks, name), got=f"'{name}', which is no task of this run"),
        )
        for i, name in enumerate(names or ())
        if name not in tasks
    ]


def _check_teachers(tasks: Mapping[str, Task], teachers: Teachers) -> Errors:
    errors: Errors = []
    if teachers.tasks is None:
        return errors
    for i, name in enumerate(teachers.tasks):
        if name in tasks and tasks[name].teachers is not True:
            has = "no teacher" if tasks[name].teachers is False else "teachers that exist already"
            errors.append(
                (
                    ("teachers", "tasks", i),
                    refusal(
                        "tasks whose teachers this run trains",
                        got=f"'{name}', which has {has} (tasks.{name}.teachers)",
                        todo=f"take '{name}' out of this list, or remove tasks.{name}.teachers",
                    ),
                )
            )
    for name, task in tasks.items():
        asked = task.teachers is True and "teachers" in task.model_fields_set
        if asked and name not in teachers.tasks:
            errors.append(
                (
                    ("tasks", name, "teachers"),
                    refusal(
                        f"'{name}' in teachers.tasks, which names the tasks with trained teachers",
                        got="true, but teachers.tasks leaves this task out",
                        todo="add it there, or remove this key",
                    ),
                )
            )
    return errors


def check_members(teachers: Teachers) -> Errors:
    """Numbers of networks that do not fit; ``teachers`` with the defaults of its tasks' kinds."""
    errors: Errors = []
    if teachers.cross_fit and teachers.members < 2:
        error = refusal(
            "members of 2 or more: with one, no member has not seen a row",
            got=f"cross_fit with {teachers.members} member",
            todo="set `members: 3`, or remove cross_fit",
        )
        errors.append((("teachers", "cross_fit"), error))
    if teachers.each and len(teachers.each) != teachers.n_nets:
        name = "nets" if teachers.recipe == PAPER_RECIPE else "members"
        error = refusal(
            f"as many as {name}, {teachers.n_nets}",
            got=f"{len(teachers.each)} entries",
            todo=f"list every network, or set `{name}`",
        )
        errors.append((("teachers", "each"), error))
    return errors


_UNLABELLED = ("regression", "ranking", "span")
"""Kinds whose models have no outputs that could be named."""


def _check_unread(
    tasks: Mapping[str, Task], taught: Collection[str], student: Student, evaluate: Evaluate
) -> Errors:
    """Keys that nothing would read."""
    errors: Errors = []

    def unread(path: KeyPath, wanted: str, todo: str = "remove it") -> None:
        errors.append((path, refusal(wanted, todo=todo)))

    for name, task in tasks.items():
        for key in ("soft_weight", "temperature"):
            if getattr(task, key) is not None and name not in taught:
                unread(("tasks", name, key), "no such key for a task without teachers")
        if task.kind == "regression" and task.temperature is not None:
            unread(("tasks", name, "temperature"), "no such key: an amount has no temperature")
        given = task.teachers
        if isinstance(given, GivenModels) and given.labels and task.kind in _UNLABELLED:
            unread(
                ("tasks", name, "teachers", "labels"),
                f"no such key: outputs of a model for {task.kind} have no names",
            )
    if student.generations > 1 and not taught:
        wanted = "1 where no task has teachers: there is nothing that later ones could learn"
        unread(("student", "generations"), wanted)
    if evaluate.training.given() and "single" not in evaluate.baselines:
        wanted = "`single` among the baselines, the only one that this training is of"
        unread(("evaluate", "training"), wanted, "add it there, or remove this key")
    return errors


def _check_pools(tasks: Mapping[str, Task], taught: Collection[str], distill: Distill) -> Errors:
    errors: Errors = []
    for name, task in tasks.items():
        if not task.pool:
            continue
        path: KeyPath = ("tasks", name, "pool")
        if name not in taught:
            wanted = "a teacher for this task: nobody else can say what pool rows mean"
            todo = "give the task teachers, or remove its pool"
            errors.append((path, refusal(wanted, got="a pool, and no teacher", todo=todo)))
        elif "rest" in _words(task.pool) and task.rows is None:
            errors.append((path, _nothing_left("this task has")))
        if "others" in _words(task.pool) and len(tasks) == 1:
            errors.append((path, _no_others()))
    if distill.pool:
        path = ("distill", "pool")
        if not taught:
            wanted = "a task with teachers: nobody else can say what pool rows mean"
            errors.append((path, refusal(wanted, got="a pool, and no teacher", todo="remove it")))
        elif "rest" in _words(distill.pool) and not any(tasks[name].rows for name in taught):
            errors.append((path, _nothing_left("the tasks with teachers have")))
        if "others" in _words(distill.pool) and len(tasks) == 1:
            errors.append((path, _no_others()))
    return errors


_WITHOUT: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "annealed": {"temperature": (1.0,), "soft_weight": (0.5, 0.0)},
    "logit_mse": {"temperature": (1.0,)},
    "soft_only": {"soft_weight": (0.5,)},
    "sequence": {"temperature": (1.0,)},
}
"""Keys that an objective does not read, with the values that ask for nothing (0 switches off)."""


def _check_objective(tasks: Mapping[str, Task], distill: Distill) -> Errors:
    errors: Errors = []
    for key, harmless in _WITHOUT.get(distill.objective, {}).items():
        asked: dict[KeyPath, float | None] = {("distill", key): getattr(distill, key)}
        asked |= {("tasks", name, key): getattr(task, key) for name, task in tasks.items()}
        for path, value in asked.items():
            if value is not None and value not in harmless:
                wanted = f"no `{key}` with the objective {distill.objective}, which has none"
                todo = "remove the key, or choose the objective `average`"
                errors.append((path, refusal(wanted, got=f"{value:g}", todo=todo)))
    return errors


def _words(pool: tuple[object, ...]) -> list[str]:
    # Not `in pool`: comparing a table with a word gives a table.
    return [item for item in pool if isinstance(item, str)]


def _nothing_left(who: str) -> PydanticCustomError:
    return refusal(
        "`rows:` beside `pool: rest`: the rest is what `rows` leaves out of train",
        got=f"'rest', but {who} no `rows`",
        todo="set `rows`, or name a file as pool",
    )


def _no_others() -> PydanticCustomError:
    return refusal(
        "a second task, whose texts could be the pool",
        got="'others', but there is one task only",
        todo="name a file as pool",
    )
