"""A task of the ``tasks:`` section: what all have, and the kinds whose keys are written here.

Knows key names and their types only; what labels mean is the business of the kinds themselves.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from potstill.config.faults import KeyPath, choices, named
from potstill.config.fields import (
    ClassName,
    ClassNames,
    Column,
    Form,
    Pool,
    Section,
    Source,
    refusal,
    refusals,
)
from potstill.config.given import GivenModels, TaskTeachers
from potstill.kinds.classification import as_spelled


def _texts(value: object) -> object:
    columns = [value] if isinstance(value, str) else value
    if not isinstance(columns, list | tuple) or not 1 <= len(columns) <= 2:
        raise refusal("one column name, or a list of two")
    for i, column in enumerate(columns):
        if not isinstance(column, str) or not column.strip():
            at = (i,) if columns is value else ()
            raise refusal("a column name", got=named(column), at=at)
    if len(columns) == 1:
        return columns[0]
    if columns[0] == columns[1]:
        raise refusal("two different columns", got=f"'{columns[0]}' twice")
    return tuple(columns)


Texts = Annotated[
    str | tuple[str, str], PlainValidator(_texts), Form("column, or [column, column]")
]


class Task(Section):
    """What the tasks of every kind have."""

    kind: str = Field(description="What sort of task it is.")
    train: Source = Field(description="Rows to learn from: a parquet, csv, tsv or jsonl file.")
    dev: Source | None = Field(
        default=None,
        description=(
            "Rows that choose weights and members; null: a tenth of all of train, whatever `rows` "
            "says, the same in all tasks of one file (but lists and passages stay in one piece)."
        ),
    )
    test: Source | None = Field(
        default=None, description="Rows whose scores are reported; null: those of dev are."
    )
    rows: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Learn from so many rows of train, drawn by seed and stratified, dev set aside "
            "before; null: all."
        ),
    )
    pool: Pool = Field(
        default=None,
        description=(
            "Unlabelled rows for the teachers' opinion: a file, `rest` (the train rows that "
            "`rows` left out), `others` (the other tasks' texts), or a list; false: none; null: as "
            "in distill."
        ),
    )
    soft_weight: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Weight of the soft loss, 0 to 1; null: that of distill.",
    )
    temperature: float | None = Field(
        default=None,
        gt=0,
        description="Temperature of the soft targets, above 0; null: that of distill.",
    )
    dropout: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Dropout before this task's head, 0 to below 1; null: `head_dropout`.",
    )
    weight: float = Field(default=1.0, gt=0, description="Weight of this task's loss, above 0.")
    teachers: TaskTeachers = Field(
        default=True,
        description=(
            "Where this task's teachers come from: true: this run trains them; models or scores "
            "that exist already; false or null: none, the task learns from its labels alone."
        ),
    )

    @classmethod
    def fits(cls, data: Mapping[Any, Any]) -> bool:
        return data.get("kind") in get_args(cls.model_fields["kind"].annotation)

    @classmethod
    def order(cls) -> list[str]:
        names = list(cls.model_fields)
        shared = list(Task.model_fields)
        own = [name for name in names if name not in shared]
        return [*shared[:4], *own, *shared[4:]]

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The columns of the input text or pair."""

    @property
    def group(self) -> str | None:
        """The column of the query, where rows of one query form a list."""
        return None

    @property
    def space_options(self) -> dict[str, Any]:
        """What the kind needs besides the labels to fix its label space."""
        return {}

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns of the labels."""
        return (str(self.label),)  # type: ignore[attr-defined]

    @model_validator(mode="after")
    def _label_is_no_input(self) -> Task:
        for label in self.labels:
            if label in self.inputs:
                error = refusal(
                    "a column that is not an input",
                    got=f"'{label}', which is an input too",
                    todo="name the column that holds the labels",
                )
                values = {k: getattr(self, k) for k in type(self).model_fields}
                keys = [k for k, v in values.items() if isinstance(v, str) and v == label]
                at = next((k for k in keys if k == "label"), keys[-1])
                raise refusals("task", [((at,), error)])
        return self


class ClassificationTask(Task):
    """One of several classes for a text or a pair."""

    kind: Literal["classification"] = Field(description="What sort of task it is.")
    text: Texts = Field(description="Column of the text, or the two columns of a pair.")
    label: Column = Field(default="label", description="Column of the class.")
    metric: Literal["accuracy", "f1", "matthews"] = Field(
        default="accuracy", description="The score that chooses and is reported."
    )
    positive: ClassName | None = Field(
        default=None, description="The class whose F1 counts; null: the mean over all classes."
    )
    classes: Annotated[ClassNames | None, Field(min_length=2)] = Field(
        default=None, description="All labels in a fixed order; null: those of train, sorted."
    )

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def space_options(self) -> dict[str, Any]:
        return {"classes": self.classes, "positive": self.positive}

    @model_validator(mode="after")
    def _labels_agree(self) -> ClassificationTask:
        errors: list[tuple[KeyPath, PydanticCustomError]] = []
        if self.positive is not None and self.metric != "f1":
            wanted = "`metric: f1`, the only one that has a positive class"
            todo = "set it, or remove `positive`"
            error = refusal(wanted, got=f"the metric {self.metric}", todo=todo)
            errors.append((("positive",), error))
        given = self.teachers.labels if isinstance(self.teachers, GivenModels) else None
        if self.classes is None:
            if errors:
                raise refusals("task", errors)
            return self
        positive = None if self.positive is None else as_spelled(self.positive, self.classes)
        if positive is not None and positive not in self.classes:
            wanted = choices(self.classes, positive)
            error = refusal(wanted, got=f"'{self.positive}', which is not among `classes`")
            errors.append((("positive",), error))
        if given is not None and {as_spelled(g, self.classes) for g in given} != set(self.classes):
            error = refusal(
                "the same labels as `classes`: " + ", ".join(self.classes), got=", ".join(given)
            )
            errors.append((("teachers", "labels"), error))
        if errors:
            raise refusals("task", errors)
        return self


def _range(value: object) -> object:
    if (
        not isinstance(value, list | tuple)
        or len(value) != 2
        or any(isinstance(v, bool) or not isinstance(v, int | float) for v in value)
    ):
        raise refusal("two numbers, [low, high]")
    low, high = value
    if not -1e300 < low < high < 1e300:  # before float(), which an integer may be too large for
        raise refusal("two finite numbers with low < high", got=f"[{low!r:.60}, {high!r:.60}]")
    return (float(low), float(high))


class RegressionTask(Task):
    """A number for a text or a pair."""

    kind: Literal["regression"] = Field(description="What sort of task it is.")
    text: Texts = Field(description="Column of the text, or the two columns of a pair.")
    label: Column = Field(default="label", description="Column of the number.")
    range: Annotated[tuple[float, float], PlainValidator(_range), Form("[low, high]")] = Field(
        description="Smallest and largest value that a label can have."
    )
    metric: Literal["pearson", "spearman"] = Field(
        default="pearson", description="The score that chooses and is reported."
    )

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def space_options(self) -> dict[str, Any]:
        return {"range": self.range}


class RankingTask(Task):
    """The candidates of a query, put in order; rows of one query form a list."""

    kind: Literal["ranking"] = Field(description="What sort of task it is.")
    query: Column = Field(description="Column of the query.")
    text: Column = Field(description="Column of the candidate.")
    label: Column = Field(default="label", description="Column of the relevance, 0 or more.")
    metric: Literal["mrr", "ndcg"] = Field(
        default="mrr", description="The score that chooses and is reported."
    )

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.query, self.text)

    @property
    def group(self) -> str:
        return self.query

    @model_validator(mode="after")
    def _two_columns(self) -> RankingTask:
        if self.query == self.text:
            error = refusal("two different columns", got=f"'{self.text}' as query and as text")
            raise refusals("task", [(("text",), error)])
        return self
