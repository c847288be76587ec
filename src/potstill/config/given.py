"""Teachers of a task that exist already: models, or what somebody's models said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, WrapValidator

from potstill.config.faults import nearest
from potstill.config.fields import Bases, ClassNames, Column, Form, Section, Source, refusal


class GivenModels(Section):
    """Teachers that exist already, in the transformers format of the task's kind."""

    models: Bases = Field(
        min_length=1,
        description="Folders or hub ids, one for each member; of texts also a student's folder.",
    )
    labels: ClassNames | None = Field(
        default=None,
        description="Labels in the order of the models' outputs; null: as their config.json says.",
    )

    @classmethod
    def fits(cls, data: Mapping[Any, Any]) -> bool:
        return "models" in data


class GivenScores(Section):
    """The opinions of teachers that somebody else has run."""

    scores: Source = Field(
        description=(
            "File with a score per class (regression, ranking: `value`; tagging: `scores`; span: "
            "`start_scores` and `end_scores`; generation and translation: a text, `prediction`) "
            "for each row."
        )
    )
    key: Column | None = Field(
        default=None,
        description=(
            "Column that joins scores and rows; null: the task's input columns. Rows of equal "
            "inputs are taught the mean of their scores."
        ),
    )

    @classmethod
    def fits(cls, data: Mapping[Any, Any]) -> bool:
        return not GivenModels.fits(data)


def _task_teachers(value: object, handler: Any, info: ValidationInfo) -> object:
    if value is None or value is False:
        return False
    if value is True or isinstance(value, GivenModels | GivenScores):
        return value
    wanted = "{models: [...]}, {scores: FILE}, false for none, or true for those of this run"
    if not isinstance(value, Mapping):
        raise refusal(wanted)
    if "models" in value and "scores" in value:
        raise refusal(
            wanted, got="both `models` and `scores`", todo="keep the one that you trust more"
        )
    if "models" not in value and "scores" not in value:
        near = [word for key in value if (word := nearest(str(key), ("models", "scores")))]
        hint = f"; nearest: '{near[0]}'" if near else ""
        raise refusal(wanted + hint)
    given = GivenModels if GivenModels.fits(value) else GivenScores
    return given.model_validate(value, context=info.context)


TaskTeachers = Annotated[
    GivenModels | GivenScores | bool,
    WrapValidator(_task_teachers),
    Form("true, false, {models: ...} or {scores: ...}"),
]
"""Where a task's teachers come from; false: it has none."""
