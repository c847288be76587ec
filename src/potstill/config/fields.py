"""The types that the run file's keys share: paths, data, columns, names; and the base of sections.

Knows no section. Paths are resolved here, where the validation context says against which folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    Strict,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from potstill.config.faults import KeyPath, choices, nearest
from potstill.core.places import resolved

FAULT = "run_file"
"""Type of the errors that this package's own checks raise."""

BUNDLED_BASE, SEQUENCE_BASE = "minilm", "marian"
IN_MEMORY = "<rows given in Python>"
"""What stands in a record for rows that were given as Python objects."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What validation knows of where the run file came from.

    Attributes:
        folder: Paths are relative to this folder.
        from_file: Whether it came from YAML: then data can only be named by path.
        name: The run's name where the run file gives none.
    """

    folder: Path
    from_file: bool
    name: str = "run"


@dataclass(frozen=True, slots=True)
class Form:
    """How a value is written, for the documentation."""

    words: str


def refusal(
    wanted: str, *, got: str | None = None, todo: str | None = None, at: KeyPath = ()
) -> PydanticCustomError:
    """An error in the words of the user.

    Args:
        wanted: What would have been right.
        got: What was found; None lets the value speak.
        todo: What to do next; None for the general advice.
        at: Where inside the value.
    """
    # Braces in a template are fields, so the texts travel beside it.
    facts = {"wanted": wanted, "got": got or "", "todo": todo or "", "at": list(at)}
    return PydanticCustomError(FAULT, "wanted: {wanted}", facts)


def refusals(title: str, errors: list[tuple[KeyPath, PydanticCustomError]]) -> ValidationError:
    """Several errors at once, each with its key path from here."""
    details = [InitErrorDetails(type=error, loc=path, input=None) for path, error in errors]
    return ValidationError.from_exception_data(title, details)


def as_dict(data: object) -> object:
    """Any mapping as a dict, and anything else as it is."""
    return dict(data) if isinstance(data, Mapping) and not isinstance(data, dict) else data


class Section(BaseModel):
    """A mapping of the run file: fixed keys, exact types, frozen."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        validate_default=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _open(cls, data: Any) -> Any:
        """A key without a value is an empty section; any mapping will do."""
        if data is None:
            return {}
        return as_dict(data)

    @classmethod
    def fits(cls, data: Mapping[Any, Any]) -> bool:
        """Whether ``data`` means this section, where a key may hold one of several."""
        return True

    @classmethod
    def order(cls) -> list[str]:
        """The keys in the order in which people read them."""
        return list(cls.model_fields)

    def plain(self) -> dict[str, Any]:
        """Plain values with every default; rows that were given in Python stay objects."""
        return {name: plain(getattr(self, name)) for name in self.order()}

    def complete(self, **values: object) -> None:
        """Fill in derived defaults; only validators call it, before anybody sees the section."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def changed(self, **values: object) -> Self:
        """A copy with other values, not validated."""
        return self.model_copy(update=values)


def plain(value: object) -> Any:
    """Plain values of a section's value."""
    if isinstance(value, Section):
        return value.plain()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def sections_in(annotation: object) -> Iterator[type[Section]]:
    """The sections that a type can hold."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    else:
        for part in getattr(annotation, "__args__", ()):
            yield from sections_in(part)


# -- names ---------------------------------------------------------------------------------------


def _slug(value: str) -> str:
    if not _NAME.fullmatch(value) or len(value) > 100:
        raise refusal(
            "letters, digits, '_', '.' and '-', the first a letter or digit, at most 100",
            todo="choose a name that can be a folder's name",
        )
    return value


Slug = Annotated[str, AfterValidator(_slug), Form("name")]


def _not_empty(value: str) -> str:
    if not value.strip():
        raise refusal("a text that is not empty")
    return value


Column = Annotated[str, AfterValidator(_not_empty), Form("column")]


def _class_name(value: object) -> object:
    """Labels are compared as text, as `label_text` of the kinds reads them from data: 1, 1.0, "1".

    True is the class `true`; where train spells it otherwise, `as_spelled` finds it.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return value.strip() if isinstance(value, str) else value


ClassName = Annotated[str, BeforeValidator(_class_name), AfterValidator(_not_empty), Form("label")]


def unique(values: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a list that holds an item twice."""
    for i, value in enumerate(values):
        if value in values[:i]:
            raise refusal(
                "every item once", got=f"'{value}' twice", todo="remove one of them", at=(i,)
            )
    return values


Names = Annotated[tuple[str, ...], Strict(False), AfterValidator(unique), Form("list of tasks")]
ClassNames = Annotated[
    tuple[ClassName, ...], Strict(False), AfterValidator(unique), Form("list of labels")
]


def one_of(known: tuple[str, ...], later: tuple[str, ...] = ()) -> BeforeValidator:
    """Refuse a word that is not ``known`` and say when it belongs to a later version."""

    def check(value: object) -> object:
        if isinstance(value, str) and value in later:
            raise refusal(
                choices(known), got=f"'{value}', which is not in this version", todo="use another"
            )
        if value not in known:
            raise refusal(choices(known, value))
        return value

    return BeforeValidator(check)


# -- paths and data ------------------------------------------------------------------------------


def _resolve(value: str | Path, info: ValidationInfo) -> Path:
    try:
        path = Path(value).expanduser()
    except RuntimeError:
        raise refusal("a path", got=f"'{value}', whose home folder is not known") from None
    if isinstance(info.context, Context):
        path = resolved(info.context.folder / path)
    return path


def _folder(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str | Path) or not str(value).strip():
        raise refusal("a path")
    return _resolve(value, info)


def _file(value: object, info: ValidationInfo) -> Path:
    """As :func:`_folder`, but a link whose target has another ending, or none, keeps its own."""
    found = _folder(value, info)
    given = Path(str(value)).expanduser()
    if isinstance(info.context, Context) and found.suffix != given.suffix:
        link = info.context.folder / given
        return resolved(link.parent) / link.name if link.is_symlink() else found
    return found


def _output(value: object, info: ValidationInfo) -> Path:
    """As :func:`_folder`, where weights can stand: safetensors opens no other names."""
    folder = _folder(value, info)
    if "\ufffd" in os.fsencode(folder).decode("utf-8", "replace"):
        raise refusal("a path in UTF-8", todo="set an `output:` whose folders have such names")
    return folder


Folder = Annotated[Path, PlainValidator(_output), Form("path")]


_ROWS = "a path, a list of dicts, an Arrow table or a DataFrame"


def _source(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str | Path):
        return _file(value, info)
    if isinstance(info.context, Context) and info.context.from_file:
        raise refusal("the path of a parquet, csv, tsv or jsonl file")
    if value is None or isinstance(value, bool | int | float | bytes | Mapping):
        raise refusal(_ROWS)
    if hasattr(value, "read_all"):  # an Arrow stream, of which rows can be read once only
        return value.read_all()
    tables = ("__arrow_c_stream__", "to_pandas", "iloc")
    series = hasattr(value, "iloc") and not hasattr(value, "columns")
    if series or not (isinstance(value, Sequence) or any(hasattr(value, t) for t in tables)):
        raise refusal(_ROWS, got=f"a {type(value).__name__}")
    return list(value) if isinstance(value, tuple) else value


Source = Annotated[object, PlainValidator(_source), Form("file")]
"""A data file, resolved to an absolute path; from Python also rows in memory, passed through."""

POOL_WORDS = ("rest", "others")


def _pool(value: object, info: ValidationInfo) -> object:
    if value is None or value is False:
        return value
    several = isinstance(value, list | tuple) and not any(isinstance(v, Mapping) for v in value)
    items = list(value) if several else [value]  # type: ignore[call-overload]
    if not items:
        wanted = "a file, 'rest', 'others', a list of these, or false for none"
        raise refusal(wanted, todo="remove the key, or write false")
    found: list[object] = []
    for i, item in enumerate(items):
        if isinstance(item, str) and item in POOL_WORDS:
            found.append(item)
            continue
        near = nearest(item, POOL_WORDS) if isinstance(item, str) else None
        if near and near == str(item).lower():
            raise refusal(f"'{near}' in small letters, or a path", at=(i,) if several else ())
        try:
            found.append(_source(item, info))
        except PydanticCustomError as error:
            facts = error.context or {}
            raise refusal(
                f"'rest', 'others', or {facts['wanted']}", at=(i,) if several else ()
            ) from None
    return tuple(found)


Pool = Annotated[
    tuple[object, ...] | Literal[False] | None,
    PlainValidator(_pool),
    Form("file, rest, others, a list of these, or false"),
]


def _base(value: object, info: ValidationInfo) -> str:
    if not isinstance(value, str | Path) or not str(value).strip():
        raise refusal(f"'{BUNDLED_BASE}', '{SEQUENCE_BASE}', a folder, or a hub id")
    text = str(value)
    if text in (BUNDLED_BASE, SEQUENCE_BASE):
        return text
    is_path = isinstance(value, Path) or text in (".", "..", "~")
    is_path = is_path or text.startswith(("./", "../", "/", "~/"))
    if not is_path and isinstance(info.context, Context):
        is_path = os.path.exists(info.context.folder / text)  # noqa: PTH110 (never raises)
        if not is_path and os.path.isdir(text):  # noqa: PTH112 (likewise)
            raise refusal(
                "a folder, named from the run file's, or a hub id",
                got=f"'{text}', which is no folder of {info.context.folder}, but one of the "
                "working directory",
                todo=f"write {Path(text).resolve()}",
            )
    return str(_resolve(text, info)) if is_path else text


Base = Annotated[str, PlainValidator(_base), Form("minilm, marian, folder or hub id")]
"""``minilm``, ``marian`` and hub ids as they are, folders as absolute paths."""

Bases = Annotated[tuple[Base, ...], Strict(False), Form("list of folders or hub ids")]
