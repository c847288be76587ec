"""The keys of the run file in words: for `check --show` and for the documentation's page.

Everything comes from the sections' own fields, so that no text can fall behind the code.
"""

from __future__ import annotations

import io
import re
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import BaseRepresenter

from potstill.config.fields import Form, Section, plain, sections_in
from potstill.config.given import GivenModels, GivenScores
from potstill.config.run_file import RunFile
from potstill.config.task_kinds import TASK_KINDS
from potstill.config.tasks import Task
from potstill.config.training import Layered

_WIDTH = 100
_BARE = re.compile(r"[\w./](?:[\w./ +-]*[\w./+-])?")
_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyNote:
    """One key in words.

    Attributes:
        name: The key.
        form: How its value is written.
        default: Its default as YAML; None where the key must be given, empty where it is derived.
        meaning: One sentence, with unit or range.
        of_texts: Its default where tasks say texts, if that is another one.
    """

    name: str
    form: str
    default: str | None
    meaning: str
    of_texts: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionNote:
    """One section in words.

    Attributes:
        path: Where it stands, such as ``tasks.<name>``; empty for the top of the file.
        meaning: One sentence.
        keys: Its keys, in reading order.
    """

    path: str
    meaning: str
    keys: tuple[KeyNote, ...]


def section_notes() -> Iterator[SectionNote]:
    """Every section of the run file, in reading order."""
    yield _note("", RunFile)
    shared = [name for name in Task.order() if name != "kind"]
    yield _note("tasks.<name>", Task, shared)
    for kind, task in TASK_KINDS.items():
        own = [name for name in task.order() if name not in shared and name != "kind"]
        yield _note(f"tasks.<name> with kind: {kind}", task, own)
    yield _note("tasks.<name>.teachers with models", GivenModels)
    yield _note("tasks.<name>.teachers with scores", GivenScores)
    for name, field in RunFile.model_fields.items():
        if name == "tasks":
            continue
        for section in sections_in(field.annotation):
            yield _note(name, section)
            for key, inner in section.model_fields.items():
                for part in sections_in(inner.annotation):
                    if not issubclass(part, Layered):  # has a section of its own
                        yield _note(f"{name}.{key}[]", part)


def _note(path: str, section: type[Section], names: list[str] | None = None) -> SectionNote:
    keys = []
    others = _defaults_of_texts().get(path, {})
    for name in section.order() if names is None else names:
        field = section.model_fields[name]
        keys.append(
            KeyNote(
                name=name,
                form=_form_of(field),
                default=_default_of(field),
                meaning=field.description or "",
                of_texts=_yaml(others[name], flow=True) if name in others else None,
            )
        )
    meaning = (section.__doc__ or "").strip().splitlines()[0]
    return SectionNote(path=path, meaning=meaning, keys=tuple(keys))


@cache
def _defaults_of_texts() -> dict[str, dict[str, Any]]:
    """Section to the keys whose default is another one where tasks say texts, and that default.

    Found by filling in two run files that say nothing but a task.
    """
    columns = {"classification": {"text": "a"}, "translation": {"source": "a", "target": "b"}}
    plain, saying = (
        RunFile.model_validate({"tasks": {"a": {"kind": kind, "train": [], **keys}}}).plain()
        for kind, keys in columns.items()
    )
    both = {"": (plain, saying)} | {
        name: (value, saying[name])
        for name, value in plain.items()
        if isinstance(value, dict) and name != "tasks"
    }
    return {
        name: {
            key: value
            for key, value in ours.items()
            if not isinstance(value, dict) and key in theirs and theirs[key] != value
        }
        for name, (theirs, ours) in both.items()
    }


def _form_of(field: FieldInfo) -> str:
    own = [part.words for part in field.metadata if isinstance(part, Form)]
    return own[0] if own else _form(field.annotation)


def _form(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        own = [part.words for part in parts[1:] if isinstance(part, Form)]
        return own[-1] if own else _form(parts[0])
    if origin is Literal:
        return ", ".join(map(str, parts))
    if origin in (Union, types.UnionType):
        return " or ".join(_form(part) for part in parts if part is not type(None))
    if any(True for _ in sections_in(annotation)):
        return "section" if origin is None else "sections by name"
    return _WORDS.get(annotation, "value")


def _default_of(field: FieldInfo) -> str | None:
    if field.default_factory is not None:
        return "{}"
    if field.default is PydanticUndefined:
        return None
    if field.default == "":
        return ""  # derived: the meaning says from what
    return _yaml(plain(field.default), flow=True)


# -- check --show --------------------------------------------------------------------------------


def show(run: RunFile, *, comments: bool = True) -> str:
    """The run file with every default, as YAML that `load_run_file` reads again.

    Args:
        run: Rows that were given in Python appear as a note, which no longer loads.
        comments: Whether to explain each key, once, in a comment above it.
    """
    values = run.record()
    return _yaml(_explained(run, values, 0, set()) if comments else values, flow=False)


def _explained(
    section: Section, values: Mapping[str, Any], depth: int, told: set[tuple[str, str]]
) -> CommentedMap:
    """Put each key's meaning above it, where it has not been told yet."""
    result = CommentedMap()
    for name, value in values.items():
        inner = getattr(section, name)
        if isinstance(inner, Section):
            result[name] = _explained(inner, value, depth + 1, told)
        elif isinstance(section, RunFile) and name == "tasks":
            result[name] = CommentedMap(
                {
                    task: _explained(section.tasks[task], value[task], depth + 2, told)
                    for task in value
                }
            )
        else:
            result[name] = _flow(value)
        meaning = type(section).model_fields[name].description or ""
        if (name, meaning) not in told:
            told.add((name, meaning))
            indent = 2 * depth
            lines = textwrap.wrap(meaning, _WIDTH - indent - len("# "))
            result.yaml_set_comment_before_after_key(name, before="\n".join(lines), indent=indent)
    return result


def _flow(value: Any) -> Any:
    """Lists and small mappings in one line."""
    if isinstance(value, list):
        listed = CommentedSeq([_flow(item) for item in value])
        listed.fa.set_flow_style()
        return listed
    if isinstance(value, dict):
        mapped = CommentedMap({key: _flow(item) for key, item in value.items()})
        mapped.fa.set_flow_style()
        return mapped
    return value


def _yaml(value: Any, *, flow: bool) -> str:
    yaml = YAML(typ="rt", pure=True)
    yaml.width = _WIDTH
    yaml.allow_unicode = True
    yaml.representer.add_representer(type(None), _represent_null)
    yaml.representer.add_representer(str, _represent_text)
    buffer = io.StringIO()
    yaml.dump(_flow(value) if flow else value, buffer)
    return buffer.getvalue().removesuffix("...\n").strip() + ("" if flow else "\n")


def _represent_null(out: BaseRepresenter, _: None) -> ScalarNode:
    return out.represent_scalar("tag:yaml.org,2002:null", "null")


def _represent_text(out: BaseRepresenter, text: str) -> ScalarNode:
    # What ruamel leaves bare or in single quotes is not always what it reads again ('?0', NEL).
    style = None if _BARE.fullmatch(text) else '"'
    return out.represent_scalar("tag:yaml.org,2002:str", text, style=style)
