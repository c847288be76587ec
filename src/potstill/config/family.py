"""Which family of networks a run file asks for, and which keys each family has.

Tasks that say texts (generation, translation) make an encoder-decoder, all others an encoder with
heads. One student is one network, so a run file holds tasks of one family.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from potstill.config.bases import check_bases
from potstill.config.checks import Errors
from potstill.config.faults import KeyPath
from potstill.config.fields import BUNDLED_BASE, SEQUENCE_BASE, refusal
from potstill.config.given import GivenModels
from potstill.config.guess_texts import LANGUAGE
from potstill.config.sections import PAPER_RECIPE, Distill, Student, Teachers
from potstill.config.tasks import Task
from potstill.config.training import Architecture, Training
from potstill.kinds import KINDS
from potstill.models.base_folder import STUDENT_FILE, student_of_run

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check_family(
    tasks: Mapping[str, Task],
    teachers: Teachers,
    student: Student,
    distill: Distill,
    *,
    base: object,
    architecture: Architecture,
    trainings: Mapping[str, Training],
    given: Collection[str],
) -> Errors:
    """One student is one network: an encoder with heads, or an encoder-decoder.

    Args:
        tasks: All tasks.
        teachers: Their section.
        student: Its section.
        distill: Its section.
        base: The run's base.
        architecture: Of both sides, where they do not differ.
        trainings: Every section of training by its path, as the run file sets it.
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
    found = check_bases(
        teachers,
        student,
        base=str(base) if "base" in given else SEQUENCE_BASE if saying else BUNDLED_BASE,
        architecture=architecture,
        given=given,
        says=bool(saying),
    )
    if not saying:
        return (
            found
            + _check_encoders(sides, distill, given)
            + [
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
        )
    errors = found + _check_tokens(tasks)
    wanted = "`marian` (starts from nothing), or a folder of an encoder-decoder"
    for path, own in bases:
        if own == BUNDLED_BASE:
            errors.append((path, refusal(wanted, got=f"{own}, which is an encoder")))
    if student.task_token:
        wanted = "no such key: a token stands before every source already"
        errors.append((("student", "task_token"), refusal(wanted, todo="remove it")))
    errors += _check_sizes(architecture, sides)
    for name, side in sides.items():
        if side.layers is not None and "layers" in side.architecture.given():
            error = refusal("no second number of layers", todo="remove it, or that of architecture")
            errors.append(((name, "layers"), error))
    for place, section in trainings.items():
        for key in ("head_dropout", "head_learning_rate"):
            default = Training.model_fields[key].default  # a shown run file has it
            if section.given().get(key, default) != default:
                refused = refusal("no such key: a decoder has no heads", todo="remove it")
                errors.append(((*place.split("."), key), refused))
    return errors + _check_sequences(tasks, sides, distill)


def _check_sizes(architecture: Architecture, sides: Mapping[str, Teachers | Student]) -> Errors:
    """Sizes that the settled sections of each side say."""
    paths: dict[str, Architecture] = {"architecture": architecture}
    for name, section in sides.items():
        if section.architecture.given():
            own = architecture.changed_by(section.architecture.given())
            paths[f"{name}.architecture"] = own
    return [
        (
            (*path.split("."), "width"),
            refusal(
                "an even multiple of `heads`",
                got=f"width {size.width} for {size.heads} heads",
                todo="change `width` or `heads`",
            ),
        )
        for path, size in paths.items()
        if size.width % size.heads or (size.width // size.heads) % 2
    ]


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
    for key, own in (("architecture", todo), ("decoding", "remove it: encoders say no texts")):
        if key in given:
            got = "a section of generation and translation"
            errors.append(((key,), refusal("no such section", got=got, todo=own)))
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
    if distill.objective == "sequence" and distill.stop_when_ahead is not None:
        wanted = "no such key with the objective sequence: its targets are texts, all training long"
        errors.append((("distill", "stop_when_ahead"), refusal(wanted, todo="remove it")))
    teachers = sides["teachers"]
    if isinstance(teachers, Teachers) and teachers.recipe == PAPER_RECIPE:
        wanted = "single, multitask or finetuned: that recipe's settings are of encoders"
        errors.append((("teachers", "recipe"), refusal(wanted)))
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
            wanted = "the objective `sequence`: teachers of others teach by their texts"
            got = f"teachers that exist already, with the objective {distill.objective}"
            todo = "write `distill: {objective: sequence}` at the top of the file"
            error = refusal(wanted, got=got, todo=todo)
            errors.append((("tasks", name, "teachers"), error))
        if task.dropout is not None:
            wanted = "no such key: a decoder has no heads"
            errors.append((("tasks", name, "dropout"), refusal(wanted, todo="remove it")))
        if isinstance(task.teachers, GivenModels) and task.teachers.labels is not None:
            wanted = "no such key: texts have no labels"
            path = ("tasks", name, "teachers", "labels")
            errors.append((path, refusal(wanted, todo="remove it")))
        models = task.teachers.models if isinstance(task.teachers, GivenModels) else ()
        if len(models) > 1 and not all(map(_is_student, models)):
            wanted = "one model, or several students of potstill: texts of others have no mean"
            got = f"{len(models)} models"
            errors.append((("tasks", name, "teachers", "models"), refusal(wanted, got=got)))
    return errors


def _is_student(folder: str) -> bool:
    """Whether a student's folder, or a run's folder with one."""
    return (Path(folder) / STUDENT_FILE).is_file() or student_of_run(folder) is not None


def _check_tokens(tasks: Mapping[str, Task]) -> Errors:
    """Tasks of generation that no token tells apart, from one another or from a direction."""
    errors: Errors = []
    seen: dict[str, str] = {}
    directions: dict[tuple[str, tuple[str, ...]], str] = {}
    for name, task in tasks.items():
        options = task.space_options
        key = "token" if "token" in options else "language"
        word = str(options[key])
        if _NAME.fullmatch(word) is None:
            error = refusal(
                "a name of letters, digits, '_', '.' and '-'",
                got=f"'{word}', the name of the target's column",
                todo=f"set `{key}:`",
            )
            errors.append((("tasks", name, key), error))
        if key == "language":
            seen[word] = name
            (target,) = task.labels
            if word in task.inputs and target != word and LANGUAGE.fullmatch(target):
                error = refusal(
                    "the language of the target, which stands before its source",
                    got=f"'{word}', the name of the source's column",
                    todo=f"say `language: {target}`, or leave it out",
                )
                errors.append((("tasks", name, key), error))
            first = directions.setdefault((word, task.inputs), name)
            if first != name and not (_is_language(tasks[first]) and _is_language(task)):
                error = refusal(
                    "a `language:` of each: the token before the source is all that tells them "
                    "apart",
                    got=f"'{word}', the name of the target's column, as for task '{first}'",
                    todo="set it for both tasks; to the same where both are one language",
                )
                errors.append((("tasks", name, key), error))
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


def _is_language(task: Task) -> bool:
    """Whether the run file names the language, or the target's column is called by one."""
    word = str(task.space_options["language"])
    return getattr(task, "language", None) is not None or LANGUAGE.fullmatch(word) is not None
