"""YAML text to plain values, with the place of every key and value; and ``--set`` arguments.

Only the plain types of YAML 1.2 are read: no tag makes an object, ``no`` is text and so is a
date. Knows nothing of the run file's keys.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from potstill.config.faults import (
    Fault,
    KeyPath,
    Place,
    dotted,
    faults_error,
    named,
    nearest,
    shortened,
)
from potstill.config.guess_files import bare_name

_MOST_NODES = 100_000  # after aliases are followed: a few lines can stand for billions
_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = {f"{_TAG}str", f"{_TAG}timestamp", f"{_TAG}value"}
_TRUE, _FALSE = {"true", "True", "TRUE"}, {"false", "False", "FALSE"}


@dataclass(slots=True, kw_only=True)
class Document:
    """A run file's plain values and where they stand.

    Attributes:
        source: Name of the file in messages.
        data: The values: mappings, lists, text, numbers, true, false, None.
        keys: Place of each key.
        values: Place of each value.
        faults: What was wrong with the YAML itself and did not stop the reading.
    """

    source: str
    data: dict[str, Any] = field(default_factory=dict)
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    values: dict[KeyPath, Place] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def place(self, path: KeyPath, *, of_key: bool) -> Place | None:
        """Place of a key or value, else of the nearest thing above it that has one."""
        if of_key and path in self.keys:
            return self.keys[path]
        while path:
            if path in self.values:
                return self.values[path]
            path = path[:-1]
            if path in self.keys:
                return self.keys[path]
        return None


def read_document(path: Path) -> Document:
    """Read a YAML file whose top is a mapping.

    Raises:
        RunFileError: The file is missing, not UTF-8, not YAML, empty, or not a mapping.
    """
    source = str(path)
    if bare_name(path) is not None and path.is_file():  # it may be gigabytes: not read
        todo = f"write a run file from it with `potstill init {shlex.quote(source)}`"
        raise faults_error([_whole(source, "a file of data", "a run file in YAML", todo)], source)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise faults_error([_missing(path)], source) from None
    except OSError as error:
        why = "a folder" if path.is_dir() else f"unreadable: {error.strerror}"
        wanted, todo = "a run file in YAML", "give the path of the run file itself"
        own = sorted(found.name for found in path.glob("*.yaml")) if path.is_dir() else []
        if own:
            todo += f", here {path / own[0]}"
        elif path.is_dir():
            todo += f"; `potstill init {shlex.quote(source)}` writes one from files of data"
        raise faults_error([_whole(source, why, wanted, todo)], source) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        fault = Fault(
            place=Place(source=source, line=line, column=column),
            path=(),
            got=f"the byte 0x{raw[error.start]:02x}, which is not UTF-8",
            wanted="a text file in UTF-8",
            todo="save the file as UTF-8 in your editor",
        )
        raise faults_error([fault], source) from None
    document = Document(source=source)
    node = _compose(text, document, None)
    if not isinstance(node, MappingNode):
        if node is None or node.value == "":
            got = "an empty file"
        elif isinstance(node, SequenceNode):
            got = "a list"
        else:
            got = named(str(node.value))
        todo = "write one with `potstill init DATA...`"
        wanted = "a mapping with at least the key `tasks:`"
        raise faults_error([_whole(source, got, wanted, todo)], source)
    document.data = _Reader(document, None).value(node, ())
    return document


def set_key(document: Document, argument: str) -> None:
    """Apply one ``--set a.b=value`` to a document; the value is YAML.

    Raises:
        RunFileError: The argument is not ``key=value``, or its path runs through a plain value.
    """
    place = Place(source=f"--set {shortened(argument)}")
    name, equals, text = argument.partition("=")
    name = name.strip()
    if not equals or not name or not all(name.split(".")):
        todo = "write, for example, --set teachers.members=5"
        fault = Fault(place=place, path=(), got=named(argument), wanted="key.key=value", todo=todo)
        raise faults_error([fault], str(place))
    target: Any = document.data
    path: KeyPath = ()
    rest = name
    while True:
        key, rest = _next_key(target, rest)
        if isinstance(key, str) and not isinstance(target, dict):
            fault = Fault(
                place=place,
                path=(*path, key),
                got=f"'{dotted(path)}' is {named(target)}",
                wanted="a mapping there, or the position of an item (from 0) if it is a list",
                todo=f"set '{dotted(path)}' itself",
            )
            raise faults_error([fault], str(place))
        path = (*path, key)
        if not rest:
            break
        if isinstance(target, dict) and target.get(key) is None:
            target[key] = {}
            document.keys.setdefault(path, place)
        target = target[key]
    for places in (document.keys, document.values):
        for known in [known for known in places if known[: len(path)] == path]:
            del places[known]
    document.keys[path] = document.values[path] = place
    # What the new value takes away can no longer be at fault.
    document.faults = [f for f in document.faults if f.path[: len(path)] != path]
    node = _compose(text, document, place)
    target[key] = None if node is None else _Reader(document, place).value(node, path)


def _next_key(target: object, rest: str) -> tuple[str | int, str]:
    """The next key of a dotted path; names of tasks may themselves hold dots."""
    if isinstance(target, dict):
        known = [k for k in target if rest == k or rest.startswith(f"{k}.")]
        key = max(known, key=len) if known else rest.split(".", 1)[0]
        return key, rest[len(key) + 1 :]
    key, _, rest = rest.partition(".")
    if isinstance(target, list) and key.isdecimal() and int(key) < len(target):
        return int(key), rest
    return key, rest


def _compose(text: str, document: Document, place: Place | None) -> Node | None:
    try:
        # ruamel marks columns from 0 and counts lines from 0
        node: Node | None = YAML(typ="rt", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or "a syntax error"
        if problem.startswith("but "):
            problem = f"{error.context}, {problem}"
        if place is None and mark is not None:
            place = Place(source=document.source, line=mark.line + 1, column=mark.column + 1)
        todo = "mend the syntax; indent with spaces, two a level"
        if "'\\t'" in problem or _line_has_tab(text, mark.line if mark is not None else None):
            todo = "replace the tab by spaces: YAML does not indent with tabs"
        fault = Fault(
            place=place or Place(source=document.source),
            path=(),
            got=f"not YAML: {problem.strip()}",
            wanted="YAML",
            todo=todo,
        )
        raise faults_error([fault], document.source) from None
    except (YAMLError, RecursionError, ValueError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else "too deep"
        fault = Fault(
            place=place or Place(source=document.source),
            path=(),
            got=f"not YAML: {why}",
            wanted="YAML",
            todo="remove what is not plain text, or write the file anew with `potstill init`",
        )
        raise faults_error([fault], document.source) from None
    return node


def _line_has_tab(text: str, line: int | None) -> bool:
    lines = text.splitlines()
    near = [] if line is None else lines[max(line - 1, 0) : line + 1]
    return any(re.match(r"\s*\t", one) for one in near)


class _Reader:
    """Turns nodes into plain values and notes their places."""

    def __init__(self, document: Document, place: Place | None) -> None:
        self._document = document
        self._place = place  # of everything, where the text is an argument
        self._n_nodes = 0
        self._open: set[int] = set()

    def value(self, node: Node, path: KeyPath) -> Any:
        self._n_nodes += 1
        if self._n_nodes > _MOST_NODES or id(node) in self._open:
            fault = self._fault(
                node,
                path,
                got="aliases that repeat without end, or far too often",
                wanted=f"at most {_MOST_NODES} values",
                todo="write the values out",
            )
            raise faults_error([fault], self._document.source)
        self._document.values[path] = self._at(node)
        self._open.add(id(node))
        try:
            if isinstance(node, ScalarNode):
                return self._scalar(node, path)
            if isinstance(node, SequenceNode):
                self._check_tag(node, path, "seq")
                return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: Node, path: KeyPath) -> dict[str, Any]:
        self._check_tag(node, path, "map")
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                merged |= self._merged(value_node, path)
        self._document.values[path] = self._at(node)  # a merged mapping has left its own
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                todo = "write a plain word before the colon"
                self._add(key_node, path, "a list or mapping as a key", "a word as a key", todo)
                continue
            key = str(key_node.value)
            inner = (*path, key)
            if key in found:
                first = self._document.keys[inner]
                self._add(
                    key_node,
                    inner,
                    f"a second '{key}' (the first stands in line {first.line})",
                    "every key once",
                    "remove or rename one of them",
                )
            elif key_node.tag != f"{_TAG}merge":
                self._document.keys[inner] = self._at(key_node)
                found[key] = self.value(value_node, inner)
        return {**merged, **found}

    def _merged(self, node: Node, path: KeyPath) -> dict[str, Any]:
        """What ``<<: *other`` brings in; of a list the earlier mappings win."""
        result: dict[str, Any] = {}
        for one in reversed(node.value) if isinstance(node, SequenceNode) else [node]:
            if isinstance(one, MappingNode):
                result |= self.value(one, path)
            else:
                got, todo = "'<<' with a plain value", "name a mapping's anchor"
                self._add(one, path, got, "'<<: *name'", todo)
        return result

    def _scalar(self, node: ScalarNode, path: KeyPath) -> object:
        tag, text = str(node.tag), str(node.value)
        if tag in _TEXT_TAGS:
            return text
        try:
            if tag == f"{_TAG}null":
                return None
            if tag == f"{_TAG}bool" and text in _TRUE | _FALSE:
                return text in _TRUE
            if tag == f"{_TAG}int":
                return _whole_number(text)
            if tag == f"{_TAG}float":
                return float(re.sub(r"\.(inf|nan)$", r"\1", text.replace("_", "").lower()))
        except ValueError:
            short = tag.removeprefix(_TAG)
            todo = "remove the tag, or mend the value"
            self._add(
                node, path, f"{named(text)} marked as !!{short}", f"a value of !!{short}", todo
            )
            return None
        if tag == f"{_TAG}bool":
            return text
        self._refuse_tag(node, path)
        return None

    def _check_tag(self, node: Node, path: KeyPath, plain: str) -> None:
        if str(node.tag) != _TAG + plain:
            self._refuse_tag(node, path)

    def _refuse_tag(self, node: Node, path: KeyPath) -> None:
        tag = str(node.tag)
        shown = "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
        self._add(
            node,
            path,
            f"the tag {shown}, which would make an object",
            "plain values: text, numbers, true, false, lists, mappings",
            "remove the tag",
        )

    def _at(self, node: Node) -> Place:
        if self._place is not None:
            return self._place
        mark = node.start_mark
        return Place(source=self._document.source, line=mark.line + 1, column=mark.column + 1)

    def _fault(self, node: Node, path: KeyPath, *, got: str, wanted: str, todo: str) -> Fault:
        return Fault(place=self._at(node), path=path, got=got, wanted=wanted, todo=todo)

    def _add(self, node: Node, path: KeyPath, got: str, wanted: str, todo: str) -> None:
        self._document.faults.append(self._fault(node, path, got=got, wanted=wanted, todo=todo))


def _whole_number(text: str) -> int:
    plain = text.replace("_", "").lower()
    sign, digits = (plain[0], plain[1:]) if plain[:1] in ("+", "-") else ("", plain)
    base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2], 10)
    return int(sign + (digits[2:] if base != 10 else digits), base)


def _whole(source: str, got: str, wanted: str, todo: str) -> Fault:
    return Fault(place=Place(source=source), path=(), got=got, wanted=wanted, todo=todo)


def _missing(path: Path) -> Fault:
    folder = path.absolute().parent
    while not folder.is_dir():
        folder = folder.parent
    names = sorted(p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml"))
    near = nearest(path.name, names)
    if names:
        listed = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
        todo = f"in {folder} there are: {listed}" + (f"; nearest: '{near}'" if near else "")
    else:
        todo = f"no *.yaml file is in {folder}; write one with `potstill init DATA...`"
    return _whole(str(path), "no such file", "a run file in YAML", todo)
