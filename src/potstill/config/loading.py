"""From a YAML file or a Python mapping to a checked `RunFile`, or one error with every fault."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, get_origin

from pydantic import ValidationError

from potstill.config.faults import (
    Fault,
    KeyPath,
    choices,
    dotted,
    faults_error,
    named,
    nearest,
)
from potstill.config.fields import FAULT, Context, Section, sections_in
from potstill.config.reading import Document, read_document, set_key
from potstill.config.run_file import RunFile
from potstill.kinds import KINDS

PYTHON = "the run given in Python"

_SURELY = 0.85  # similarity from which a key is another one, misspelt
_OF_TEXTS = ("architecture", "decoding")
_LATER_KEYS = frozenset({"image", "size", "features", "experts", "top_k"})
_MENDED = "mend the value (each key's meaning and default: docs/run-file.md)"
_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "too_short": "at least {min_length}",
}


def load_run_file(path: Path | str, *, overrides: Sequence[str] = ()) -> RunFile:
    """Read and check a run file.

    Args:
        path: The YAML file. Paths in it are relative to its folder.
        overrides: ``key.key=value`` each, with YAML values; they win over the file.

    Raises:
        RunFileError: The file cannot be read or does not fit; the message has every fault.
    """
    path = Path(path)
    document = read_document(path)
    for argument in overrides:
        set_key(document, argument)
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).strip("-_.") or "run"
    context = Context(folder=path.absolute().parent, from_file=True, name=stem[:100])
    return _parse(document, context)


def parse_run(mapping: Mapping[str, Any], *, folder: Path | str = ".") -> RunFile:
    """Check a run that is given as a mapping of the run file's keys.

    Args:
        mapping: As in a run file; train, dev, test, pool and scores may also be rows in memory
            (lists of dicts, Arrow tables, DataFrames), which are passed on untouched.
        folder: Relative paths start here.

    Raises:
        RunFileError: The mapping does not fit; the message has every fault.

    Examples:
        >>> rows = [{"text": "good", "label": "yes"}, {"text": "bad", "label": "no"}]
        >>> task = {"kind": "classification", "train": rows, "text": "text"}
        >>> parse_run({"tasks": {"mood": task}}).trained_tasks
        ('mood',)
    """
    if not isinstance(mapping, Mapping):
        raise TypeError(f"a run is a mapping, not {type(mapping).__name__}")
    context = Context(folder=Path(folder).absolute(), from_file=False)
    return _parse(Document(source=PYTHON, data=dict(mapping)), context)


def _parse(document: Document, context: Context) -> RunFile:
    run, found = _validate(document.data, document, context)
    if found and not any(not fault.path for fault in found):
        # Contradictions between sections show only in a file whose sections are whole.
        _, more = _validate(_without_faulty(document.data, found), document, context)
        known = {fault.path[:2] for fault in found}
        found += [f for f in more if f.path[:2] not in known and f.path[:1] not in known]
    faults = [*document.faults, *found]
    if faults:
        # A value that could not be read is not also of the wrong type.
        seen = {(fault.path, fault.place) for fault in document.faults}
        faults = [*document.faults, *(f for f in found if (f.path, f.place) not in seen)]
        raise faults_error(faults, document.source)
    if run is None:
        raise AssertionError("no run and no fault")
    return run


def _validate(
    data: dict[str, Any], document: Document, context: Context
) -> tuple[RunFile | None, list[Fault]]:
    try:
        return RunFile.model_validate(data, context=context), []
    except ValidationError as error:
        details = error.errors(include_url=False)
        return None, [_fault(dict(detail), data, document) for detail in details]


def _without_faulty(data: dict[str, Any], faults: Sequence[Fault]) -> dict[str, Any]:
    """The data with defaults in place of faulty sections and a plain task for each faulty task."""
    result = dict(data)
    tasks = data.get("tasks")
    for fault in faults:
        top, *rest = fault.path
        if top == "tasks" and rest and isinstance(tasks, Mapping):
            result["tasks"] = {**result["tasks"], rest[0]: _stub(rest[0], tasks)}
        else:
            result.pop(str(top), None)
    return result


def _stub(name: object, tasks: Mapping[Any, Any]) -> dict[str, Any]:
    """A plain task in place of a faulty one, of its family: that of others, where it says none."""
    rows = [task for task in (tasks[name], *tasks.values()) if isinstance(task, Mapping)]
    words = [str(task.get("kind")) for task in rows]
    known = [kind for word in words if (kind := nearest(word, KINDS))]
    says = KINDS[known[0]].generates if known else any("target" in task for task in rows)
    if says:
        return {"kind": "translation", "train": "train", "source": "s", "target": "t", "rows": 1}
    return {"kind": "classification", "train": "train", "text": "text", "label": "label", "rows": 1}


def _fault(detail: dict[str, Any], data: dict[str, Any], document: Document) -> Fault:
    kind, facts = detail["type"], detail.get("ctx") or {}
    path: KeyPath = tuple(part for part in detail["loc"] if part != "[key]")
    path += tuple(facts.get("at", ()))
    of_key = kind == "extra_forbidden" or "[key]" in detail["loc"]
    place = document.place(path, of_key=of_key)
    got, wanted, todo = named(_value_at(data, path, detail["input"])), "", _MENDED
    if kind == "extra_forbidden":
        got, wanted, todo = _unknown_key(path, data)
    elif kind == "missing":
        got, wanted = "no such key", f"the key '{path[-1]}'"
        todo = f"add `{path[-1]}:`"
    elif kind == "literal_error":
        wanted = choices(re.findall(r"'([^']*)'", facts["expected"]), detail["input"])
    elif kind == FAULT:
        got, wanted, todo = facts["got"] or got, facts["wanted"], facts["todo"] or _MENDED
        if "[key]" in detail["loc"]:
            got = f"the name '{path[-1]}'"
    else:
        wanted = _WANTED.get(kind, detail["msg"]).format(**facts)
        if kind in ("float_type", "int_type", "bool_type") and isinstance(detail["input"], str):
            todo = f"write {wanted}, without quotes"
        elif kind == "string_type" and isinstance(detail["input"], bool | int | float):
            todo = "put it in quotes"
    about = _description(path, data)
    if about and (kind == "missing" or kind in _WANTED):
        wanted += f" ({about.rstrip('.')})"
    return Fault(place=place, path=path, got=got, wanted=wanted, todo=todo)


def _value_at(data: object, path: KeyPath, default: object) -> object:
    for key in path:
        if isinstance(data, Mapping):
            items: Mapping[Any, object] = data
        elif isinstance(data, list | tuple):
            items = dict(enumerate(data))
        else:
            return default
        if key not in items:
            return default
        data = items[key]
    return data


def _section_at(path: KeyPath, data: Mapping[str, Any]) -> type[Section] | None:
    """The section whose keys stand at ``path``."""
    section: type[Section] | None = RunFile
    candidates: list[type[Section]] = []
    value: object = data
    for key in path:
        value = _value_at(value, (key,), None)
        if section is not None:
            field = section.model_fields.get(str(key))
            if field is None:
                return None
            candidates = list(sections_in(field.annotation))
            if get_origin(field.annotation) in (dict, tuple):
                section = None  # the next key is the name of a task, the position of a network
                continue
        fitting = [c for c in candidates if isinstance(value, Mapping) and c.fits(value)]
        section = next(iter(fitting or candidates), None)
        if section is None:
            return None
    return section


def _description(path: KeyPath, data: Mapping[str, Any]) -> str | None:
    last = max((i for i, part in enumerate(path) if isinstance(part, str)), default=None)
    section = None if last is None else _section_at(path[:last], data)
    if last is None or section is None:
        return None
    field = section.model_fields.get(str(path[last]))
    return None if field is None else field.description


def _unknown_key(path: KeyPath, data: Mapping[str, Any]) -> tuple[str, str, str]:
    """What was got, what was wanted and what to do for a key that no section has."""
    key = str(path[-1])
    section = _section_at(path[:-1], data)
    known = section.order() if section is not None else []
    near = nearest(key, known)
    if key in _LATER_KEYS:
        return f"the key '{key}', which is not in this version", choices(known), "remove it"
    alike = 0.0 if near is None else SequenceMatcher(None, key, near).ratio()
    own = [] if section is None else _homes(key, section, data)
    if near is not None and (alike > _SURELY or not (own or _homes(key, RunFile, data))):
        todo = f"rename it to '{near}', if that is what you mean"
    elif own:
        todo = "write it under " + " or ".join(f"`{dotted((*path[:-1], name))}:`" for name in own)
    elif key in RunFile.model_fields:
        todo = f"write `{key}:` at the top of the file, not under '{dotted(path[:-1])}'"
    elif homes := _homes(key, RunFile, data):
        todo = "write it under " + " or ".join(f"`{name}:`" for name in homes)
    else:
        todo = "remove it, or choose one of the known keys"
    return f"the unknown key '{key}'", choices(known, key), todo


def _homes(key: str, section: type[Section], data: Mapping[str, Any]) -> list[str]:
    """The sections of a section that have a key; of what only texts need, where nothing else."""
    homes = [
        name
        for name, field in section.model_fields.items()
        if name not in ("tasks", "each")
        and any(key in inner.model_fields for inner in sections_in(field.annotation))
    ]
    return [name for name in homes if name not in _OF_TEXTS or _says(data)] or homes


def _says(data: Mapping[str, Any]) -> bool:
    """Whether some task seems to say texts."""
    tasks = data.get("tasks")
    rows = tasks.values() if isinstance(tasks, Mapping) else ()
    kinds = [str(task.get("kind")) for task in rows if isinstance(task, Mapping)]
    return any(kind in KINDS and KINDS[kind].generates for kind in kinds)
