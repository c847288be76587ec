"""What must agree between the sections of a run file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pydantic_core import PydanticCustomError

from potstill.config.faults import KeyPath, choices
from potstill.config.fields import BUNDLED_BASE, SEQUENCE_BASE, refusal
from potstill.config.sections import Distill, Student, Teachers
from potstill.config.tasks import GivenModels, Task
from potstill.kinds import KINDS

Errors = list[tuple[KeyPath, PydanticCustomError]]


def check_across(tasks: Mapping[str, Task], teachers: Teachers, distill: Distill) -> Errors:
    """All contradictions between tasks, teachers and distilling, each with its key path."""
    errors: Errors = []
    errors += _check_names("tasks", teachers.tasks, tasks)
    errors += _check_names("select_on", teachers.select_on, tasks)
    errors += _check_teachers(tasks, teachers)
    errors += _check_pools(tasks, teachers, distill)
    return errors


def check_family(
    tasks: Mapping[str, Task],
    teachers: Teachers,
    student: Student,
    distill: Distill,
    *,
    base: object,
    given: Collection[str],
) -> Errors:
    """One student is one network: an encoder with heads, or an encoder-decoder.

    Args:
        tasks: All tasks.
        teachers: Their section.
        student: Its section.
        distill: Its section.
        base: The run's base.
        given: The top keys that the run file sets.
    """
    saying = [name for name, task in tasks.items() if KINDS[task.kind].generates]
    if saying and len(saying) < len(tasks):
        other = next(name for name in tasks if name not in saying)
        first = tasks[other].kind
        error = refusal(
            "tasks of one family: those that say texts (generation, translation) make an "
            "encoder-decoder, all others an encoder with heads",
            got=f"'{tasks[saying[0]].kind}' beside '{first}' (task '{other}')",
            todo="make two run files, one a family: their students are two networks anyhow",
        )
        return [(("tasks", saying[0], "kind"), error)]
    sides: dict[str, Teachers | Student] = {"teachers": teachers, "student": student}
    bases = _bases(teachers, student, base if "base" in given else None)
    if not saying:
        return _check_encoders(sides, distill, given) + [
            (
                path,
                refusal(
                    "`minilm`, a folder of an encoder, or its hub id",
                    got=f"{SEQUENCE_BASE}, which is of generation and translation",
                    todo=f"for a folder of that name write ./{SEQUENCE_BASE}",
                ),
            )
            for path, own in bases
            if own == SEQUENCE_BASE
        ]
    errors = _check_tokens(tasks)
    wanted = "`marian` (starts from nothing), or a folder of an encoder-decoder"
    for path, own in bases:
        if own == BUNDLED_BASE:
            errors.append((path, refusal(wanted, got=f"{own}, which is an encoder")))
    if student.task_token:
        wanted = "no such key: a token stands before every source already"
        errors.append((("student", "task_token"), refusal(wanted, todo="remove it")))
    return errors + _check_sequences(tasks, sides, distill)


def _bases(teachers: Teachers, student: Student, base: object) -> list[tuple[KeyPath, object]]:
    """Every base that the run file names, with its key path."""
    bases: list[tuple[KeyPath, object]] = [
        (("base",), base),
        (("teachers", "base"), teachers.base),
        (("student", "base"), student.base),
    ]
    bases += [(("teachers", "each", i, "base"), own.base) for i, own in enumerate(teachers.each)]
    return bases


def _check_encoders(
    sides: Mapping[str, Teachers | Student], distill: Distill, given: Collection[str]
) -> Errors:
    errors: Errors = []
    if distill.objective == "sequence":
        wanted = "an objective of tasks that have classes or numbers"
        got = "sequence, which is for generation and translation"
        errors.append((("distill", "objective"), refusal(wanted, got=got)))
    todo = "remove it: an encoder has the size of its base"
    for key in ("architecture", "decoding"):
        if key in given:
            got = "a section of generation and translation"
            errors.append(((key,), refusal("no such section", got=got, todo=todo)))
    for name, section in sides.items():
        if "architecture" in section.model_fields_set:
            got = "a key of generation and translation"
            errors.append(((name, "architecture"), refusal("no such key", got=got, todo=todo)))
    return errors


def _check_sequences(
    tasks: Mapping[str, Task], sides: Mapping[str, Teachers | Student], distill: Distill
) -> Errors:
    errors: Errors = []
    if distill.objective == "logit_mse":
        wanted = "average, annealed, soft_only or sequence: teachers keep a few likely pieces only"
        errors.append((("distill", "objective"), refusal(wanted)))
    for name, section in sides.items():
        if section.pooling is not None:
            wanted = "no such key: a decoder reads every token"
            errors.append(((name, "pooling"), refusal(wanted, todo="remove it")))
        if "vocabulary" in section.architecture.model_fields_set:
            wanted = "one vocabulary for all networks, so that teachers can teach its pieces"
            todo = "set `vocabulary` in `architecture:` itself"
            path: KeyPath = (name, "architecture", "vocabulary")
            errors.append((path, refusal(wanted, todo=todo)))
    for name, task in tasks.items():
        given = not isinstance(task.teachers, bool)
        if given and distill.objective != "sequence":
            wanted = "`distill: {objective: sequence}`: teachers of others teach by their texts"
            errors.append((("tasks", name, "teachers"), refusal(wanted)))
        models = task.teachers.models if isinstance(task.teachers, GivenModels) else ()
        if len(models) > 1:
            wanted = "one model: texts of several have no mean"
            got = f"{len(models)} models"
            errors.append((("tasks", name, "teachers", "models"), refusal(wanted, got=got)))
    return errors


def _check_tokens(tasks: Mapping[str, Task]) -> Errors:
    """Tasks of generation that no token tells apart, from one another or from a direction."""
    errors: Errors = []
    seen = {
        str(options["language"]): name
        for name, task in tasks.items()
        if "language" in (options := task.space_options)
    }
    for name, task in tasks.items():
        token = task.space_options.get("token")
        if token is not None and token in seen:
            error = refusal(
                "a token for each task: it is all that tells them apart",
                got=f"'{token}', which stands before the sources of '{seen[token]}' too",
                todo=f"set `token: {name}`",
            )
            errors.append((("tasks", name, "token"), error))
        elif token is not None:
            seen[token] = name
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
        if task.pool is None:
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
    if distill.pool is not None:
        path = ("distill", "pool")
        if "rest" in _words(distill.pool) and not any(tasks[name].rows for name in taught):
            errors.append((path, _nothing_left("the tasks with teachers have")))
        if "others" in _words(distill.pool) and len(tasks) == 1:
            errors.append((path, _no_others()))
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
