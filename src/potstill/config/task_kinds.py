"""All kinds of tasks: those written out, and those made from the keys that a kind names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, get_args

from pydantic import Field, ValidationInfo, WrapValidator, create_model, model_validator

from potstill.config.faults import choices
from potstill.config.fields import ClassName, ClassNames, Column, Slug, refusal, refusals
from potstill.config.tasks import ClassificationTask, RankingTask, RegressionTask, Task, Texts
from potstill.kinds import BROKEN, KINDS, Kind
from potstill.kinds.base import Form as KeyForm
from potstill.kinds.base import Key
from potstill.tasks.inputs import READERS


class KeyedTask(Task):
    """A task of a kind that says itself which keys it has."""

    of: ClassVar[type[Kind]]

    @property
    def inputs(self) -> tuple[str, ...]:
        given = [getattr(self, key.name) for key in self.of.keys if key.use == "input"]
        columns = [[value] if isinstance(value, str) else list(value) for value in given]
        return tuple(column for part in columns for column in part)

    @property
    def group(self) -> str | None:
        return self.inputs[0] if self.of.grouped else None

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
    if kind.generates and not {"token", "language"} & {key.name for key in kind.keys}:
        raise ValueError("it says texts and names no key `token` or `language`")
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
"""Every kind; one that names its keys needs no class of its own."""


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
        raise refusal(
            choices(TASK_KINDS, kind),
            got=got,
            todo="set the kind; one of another package is there once that is installed",
            at=("kind",),
        )
    return TASK_KINDS[kind].model_validate(value, context=info.context)


if TYPE_CHECKING:
    AnyTask = Task
else:
    AnyTask = Union[tuple(TASK_KINDS.values())]  # noqa: UP007 (made from what is listed)

TaskOfAnyKind = Annotated[AnyTask, WrapValidator(_pick)]
