"""Teachers that exist already, as the run file names them: tried before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from potstill.config import RunFile
from potstill.config.given import GivenModels, GivenScores
from potstill.tasks.sources import Source
from potstill.tasks.task import Task
from potstill.teachers.external import look_at
from potstill.teachers.given_models import classifier_member
from potstill.teachers.given_scores import scores_member
from potstill.teachers.given_texts import try_together
from potstill.teachers.member import Member


def given_members(run: RunFile, task: Task) -> list[Member]:
    """The given teachers of a task; none where its teachers are trained.

    Raises:
        BaseModelError: A model is missing.
        DataError: The scores cannot be read.
    """
    section = run.tasks[task.name].teachers
    if isinstance(section, GivenModels):
        return [
            classifier_member(
                str(model), section.labels, f"given {i + 1}", says=task.kind.generates
            )
            for i, model in enumerate(section.models)
        ]
    if isinstance(section, GivenScores):
        return [scores_member(task, cast("Source", section.scores), section.key, "given scores")]
    return []


def look_at_given(
    members: Sequence[Member], task: Task, note: Callable[[str], object]
) -> list[str]:
    """Try the given teachers of a task.

    Args:
        members: Its given teachers, if it has any.
        task: The task.
        note: Called with what is worth knowing of them.

    Returns:
        Warnings, such as of rows that they do not cover.

    Raises:
        PotstillError: One of them cannot teach this task.
    """
    found = [warning for member in members for warning in look_at(member, task, note)]
    try_together(members, task)
    return found
