"""What must agree between the sections of a run file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic_core import PydanticCustomError

from potstill.config.faults import KeyPath, choices
from potstill.config.fields import refusal
from potstill.config.sections import Distill, Teachers
from potstill.config.tasks import Task

Errors = list[tuple[KeyPath, PydanticCustomError]]


def check_across(tasks: Mapping[str, Task], teachers: Teachers, distill: Distill) -> Errors:
    """All contradictions between tasks, teachers and distilling, each with its key path."""
    errors: Errors = []
    errors += _check_names("tasks", teachers.tasks, tasks)
    errors += _check_names("select_on", teachers.select_on, tasks)
    errors += _check_teachers(tasks, teachers)
    errors += _check_pools(tasks, teachers, distill)
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


def _check_pools(tasks: Mapping[str, Task], teachers: Teachers, distill: Distill) -> Errors:
    errors: Errors = []
    taught = {
        name
        for name, task in tasks.items()
        if task.teachers is not False
        and (task.teachers is not True or teachers.tasks is None or name in teachers.tasks)
    }
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
        if "rest" in _words(distill.pool) and not any(tasks[name].rows for name in taught):
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
