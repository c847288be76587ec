"""The ``tasks:`` section: a class for each kind, all listed in ``TASK_KINDS``.

Knows key names and their types only; what labels mean is the business of the kinds themselves.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, get_args

from pydantic import (
    Field,
    PlainValidator,
    ValidationInfo,
    WrapValidator,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from potstill.config.faults import KeyPath, choices, named, nearest
from potstill.config.fields import (
    Bases,
    ClassName,
    ClassNames,
    Column,
    Form,
    Pool,
    Section,
    Slug,
    Source,
    refusal,
    refusals,
)
from potstill.kinds import BROKEN, KINDS, Kind
from potstill.kinds.base import Form as KeyForm
from potstill.kinds.base import Key
from potstill.tasks.inputs import READERS


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
        description="Column that joins scores and rows; null: the task's input columns.",
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
        description=("Rows that choose weights and members; null: a tenth of train is set aside."),
    )
    test: Source | None = Field(
        default=None, description="Rows whose scores are reported; null: those of dev are."
    )
    rows: int | None = Field(
        default=None,
        ge=1,
        description="Use so many rows of train, drawn by seed and stratified; null: all.",
    )
    pool: Pool = Field(
        default=None,
        description=(
            "Unlabelled rows for the teachers' opinion: a file, `rest` (the train rows that "
            "`rows` left out), `others` (the other tasks' texts), or a list; null: as in distill."
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
    teachers: Annotated[
        GivenModels | GivenScores | bool,
        WrapValidator(_task_teachers),
        Form("true, false, {models: ...} or {scores: ...}"),
    ] = Field(
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
                keys = [k for k in type(self).model_fields if getattr(self, k) == label]
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
        if self.classes is None:
            return self
        errors: list[tuple[KeyPath, PydanticCustomError]] = []
        if self.positive is not None and self.positive not in self.classes:
            wanted = choices(self.classes, self.positive)
            error = refusal(wanted, got=f"'{self.positive}', which is not among `classes`")
            errors.append((("positive",), error))
        given = self.teachers.labels if isinstance(self.teachers, GivenModels) else None
        if given is not None and set(given) != set(self.classes):
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
    low, high = float(value[0]), float(value[1])
    if not -1e300 < low < high < 1e300:
        raise refusal("two finite numbers with low < high", got=f"[{low:g}, {high:g}]")
    return (low, high)


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

    @model_validator(mode="after")
    def _two_columns(self) -> RankingTask:
        if self.query == self.text:
            error = refusal("two different columns", got=f"'{self.text}' as query and as text")
            raise refusals("task", [(("text",), error)])
        return self


class KeyedTask(Task):
    """A task of a kind that says itself which keys it has."""

    of: ClassVar[type[Kind]]

    @property
    def inputs(self) -> tuple[str, ...]:
        given = [getattr(self, key.name) for key in self.of.keys if key.use == "input"]
        columns = [[value] if isinstance(value, str) else list(value) for value in given]
        return tuple(column for part in columns for column in part)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(getattr(self, key.name) for key in self.of.keys if key.use == "label")

    @property
    def space_options(self) -> dict[str, Any]:
        return {key.name: self._option(key) for key in self.of.keys if key.use == "option"}

    def _option(self, key: Key) -> Any:
        value = getattr(self, key.name)
        return getattr(self, key.default_of) if value is None and key.default_of else value

    @model_validator(mode="after")
    def _columns_differ(self) -> KeyedTask:
        for use in ("input", "label"):
            seen: dict[str, str] = {}
            for key in self.of.keys:
                column = getattr(self, key.name)
                if key.use != use or not isinstance(column, str):
                    continue
                if column in seen:
                    got = f"'{column}' as {seen[column]} and as {key.name}"
                    error = refusal("two different columns", got=got)
                    raise refusals("task", [((key.name,), error)])
                seen[column] = key.name
        return self


_FORMS: dict[KeyForm, Any] = {
    "column": Column,
    "columns": Texts,
    "classes": Annotated[ClassNames, Field(min_length=1)],
    "class": ClassName,
    "word": Slug,
    "number": float,
    "flag": bool,
}


def _section(kind: type[Kind]) -> type[KeyedTask]:
    """The section of a kind, from the keys that it names.

    Raises:
        ValueError: They are not what a section can be made of.
    """
    taken = {*Task.model_fields, "metric"} & {key.name for key in kind.keys}
    if taken:
        raise ValueError(f"its key '{min(taken)}' is one that every task has")
    if {"input", "label"} - {key.use for key in kind.keys}:
        raise ValueError("it names no key for an input column, or none for a label column")
    if kind.reads not in READERS:
        raise ValueError(f"it reads '{kind.reads}', which is none of {', '.join(READERS)}")
    unknown = {key.form for key in kind.keys} - set(_FORMS)
    if unknown:
        raise ValueError(f"a key has the form '{min(unknown)}': wanted {', '.join(_FORMS)}")
    fields: dict[str, Any] = {
        "kind": (Literal[kind.name], Field(description="What sort of task it is."))
    }
    for key in kind.keys:
        form = _FORMS[key.form]
        fields[key.name] = (
            form | None if key.default is None else form,
            Field(
                default=key.default,
                description=key.meaning,
                ge=key.at_least,
                lt=key.below,
            ),
        )
    fields["metric"] = (
        Literal[kind.metric_names],
        Field(default=kind.metric_names[0], description="The score that chooses and is reported."),
    )
    made = create_model(
        f"{kind.name.capitalize()}Task",
        __base__=KeyedTask,
        __doc__=kind.summary,
        __module__=__name__,
        **fields,
    )
    made.of = kind
    globals()[made.__name__] = made  # worker processes get run files, and look their classes up
    return made


def _sections() -> Iterator[tuple[str, type[Task]]]:
    for task in (ClassificationTask, RegressionTask, RankingTask):
        yield get_args(task.model_fields["kind"].annotation)[0], task
    for name, kind in KINDS.items():
        if not kind.keys:
            continue
        try:
            yield name, _section(kind)
        except (AttributeError, TypeError, ValueError) as error:
            if kind.__module__.startswith("potstill."):
                raise
            BROKEN[name] = f"{kind.__module__}:{kind.__name__} cannot be used ({error})"


TASK_KINDS: dict[str, type[Task]] = dict(_sections())
"""Every kind; one that names its keys needs no class above."""


def _pick(value: object, handler: Any, info: ValidationInfo) -> object:
    if isinstance(value, Task):
        return value
    value = {} if value is None else value
    if not isinstance(value, Mapping):
        raise refusal("a mapping with kind, train, ...", todo="see the kinds in the documentation")
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in TASK_KINDS:
        got = None
        if kind is None:
            got = "no `kind`"
        elif isinstance(kind, str) and kind in BROKEN:
            got = f"'{kind}', but {BROKEN[str(kind)]}"
        raise refusal(choices(TASK_KINDS, kind), got=got, todo="set the kind", at=("kind",))
    return TASK_KINDS[kind].model_validate(value, context=info.context)


if TYPE_CHECKING:
    AnyTask = Task
else:
    AnyTask = Union[tuple(TASK_KINDS.values())]  # noqa: UP007 (made from what is listed)

TaskOfAnyKind = Annotated[AnyTask, WrapValidator(_pick)]
