"""The bundle: a student as one folder, or one zip file of it, that answers without torch.

    bundle.json      tasks with label spaces and columns, limits, the engine that was chosen and
                     all that were measured
    model.onnx       encoder and all heads in one graph (model.int8.onnx where int8 was chosen)
    tokenizer.json   with the task tokens, where the student uses them
    README.md        the model card
    manifest.json    size and SHA-256 of every file

An encoder-decoder has in the place of the graph ``model.bin``, ``config.json`` and
``shared_vocabulary.json``, the files of a CTranslate2 model.

A bundle is data: no file of it is code or names code, its graph may not reach outside its own
file, and a zip file is read without unpacking it. Knows no engine.
"""

from __future__ import annotations

import json
import re
import stat
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from potstill.core.errors import ArtefactError
from potstill.core.files import MANIFEST, atomic_writer, digest_json, verify_bytes
from potstill.export.onnx_file import reaches_outside
from potstill.kinds import UnknownKindError
from potstill.models.base_folder import STUDENT_FILE
from potstill.models.pieces import Decoding
from potstill.tasks.predictor import TaskHead, heads_from_json, heads_to_json

FORMAT = "potstill bundle"
VERSION = 1
BUNDLE_FILE = "bundle.json"
TOKENIZER_FILE = "tokenizer.json"
CARD_FILE = "README.md"

MOST_FILES = 256
MOST_BYTES = 4 << 30  # of all files; a graph in one file is below 2 GiB anyway
MOST_BEAMS = 64  # of a search: memory grows with them
MOST_EXPANSION = 100  # times the packed size; what an export packs shrinks by a few per cent

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_WHAT_NEXT = "export the student again: potstill export RUN --out FOLDER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle in memory, checked.

    Attributes:
        name: Name of the run that the student comes from.
        heads: The tasks in the order of the graph's outputs.
        padding: Id of the padding token.
        max_tokens: Longer texts lose their end.
        task_token: A task-identifier token stands before each text.
        engine: The engine that was chosen, a key of ``engines.ENGINES`` or ``decoders.DECODERS``.
        engines: What was measured, one entry an engine.
        tokenizer: Content of ``tokenizer.json``.
        files: The engine's files, name to content.
        decoding: How an encoder-decoder looks for texts; None for encoders, whose one file is an
            ONNX graph.
        digest: SHA-256 of the manifest, so of all files.
    """

    name: str
    heads: Mapping[str, TaskHead]
    padding: int
    max_tokens: int
    task_token: bool
    engine: str
    engines: tuple[Mapping[str, Any], ...]
    tokenizer: str
    files: Mapping[str, bytes]
    decoding: Decoding | None
    digest: str

    @property
    def graph(self) -> bytes:
        """The ONNX graph of an encoder and its heads."""
        if self.decoding is not None:
            raise ValueError("the bundle of an encoder-decoder has no graph")
        (graph,) = self.files.values()
        return graph


def bundle_facts(
    *,
    name: str,
    heads: Mapping[str, TaskHead],
    padding: int,
    max_tokens: int,
    task_token: bool,
    files: Sequence[str],
    decoding: Decoding | None,
    engine: str,
    engines: Sequence[Mapping[str, Any]],
    made: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of ``bundle.json``, as :func:`read_bundle` reads it.

    Args:
        name: Name of the run that the student comes from.
        heads: The tasks in the order of the graph's outputs.
        padding: Id of the padding token.
        max_tokens: Longer texts lose their end.
        task_token: A task-identifier token stands before each text.
        files: Names of the engine's files; one, its graph, for an encoder.
        decoding: How an encoder-decoder looks for texts; None for encoders.
        engine: The engine that was chosen.
        engines: What was measured.
        made: When, where and from what; for people.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "tasks": heads_to_json(heads),
        "padding": padding,
        "max_tokens": max_tokens,
        "task_token": task_token,
        **_engine_facts(files, decoding),
        "engine": engine,
        "engines": list(engines),
        "made": dict(made),
    }


def _engine_facts(files: Sequence[str], decoding: Decoding | None) -> dict[str, Any]:
    if decoding is None:
        (graph,) = files
        return {"graph": graph}
    return {"files": list(files), "decoding": asdict(decoding)}


def is_bundle(path: Path) -> bool:
    """Whether a path can only be meant as a bundle: a file, or a folder made by an export."""
    if path.is_file() or (path / BUNDLE_FILE).exists():
        return True
    if not (path / MANIFEST).is_file():
        return False
    try:
        return bool(json.loads((path / MANIFEST).read_bytes())["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and check every byte of it.

    Args:
        path: The folder, or the zip file of it.

    Raises:
        ArtefactError: There is none; a file is missing, damaged, or not of a bundle; the format
            is newer than this potstill; the zip file holds what a bundle never holds (absolute
            paths, ``..``, links, encrypted or repeated entries, more than it may expand to).
    """
    there = _read_zip(path) if path.is_file() else _read_folder(path)
    manifest = verify_bytes(there, path, todo=_WHAT_NEXT)
    files = {name: there[name] for name in manifest["files"]}  # nothing else is looked at
    facts = _json(files, BUNDLE_FILE, path)
    if facts.get("format") != FORMAT or facts.get("version") != VERSION:
        raise _fault(
            path / BUNDLE_FILE,
            got=f"{facts.get('format')!r}, version {facts.get('version')!r}",
            wanted=f"{FORMAT!r}, version {VERSION}",
            todo="update potstill, or export the student again with this one",
        )
    try:
        decoding = _decoding(facts.get("decoding"))
        names = [facts["graph"]] if decoding is None else facts["files"]
        own = {str(name): files[str(name)] for name in names}
        for name in own if decoding is None else ():
            if reaches_outside(own[name]):
                raise _fault(
                    path / name, got="a graph that keeps weights in other files", wanted="one file"
                )
        return Bundle(
            name=str(facts["name"]),
            heads=heads_from_json(facts["tasks"]),
            padding=int(facts["padding"]),
            max_tokens=int(facts["max_tokens"]),
            task_token=bool(facts["task_token"]),
            engine=str(facts["engine"]),
            engines=tuple(facts["engines"]),
            tokenizer=files[TOKENIZER_FILE].decode(),
            files=own,
            decoding=decoding,
            digest=digest_json(manifest),
        )
    except UnknownKindError as error:
        raise _fault(
            path / BUNDLE_FILE,
            got=str(error),
            wanted="kinds that are installed here",
            todo="install in this environment the package whose kind was trained",
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _fault(
            path / BUNDLE_FILE,
            got=f"not what an export writes ({type(error).__name__}: {error})",
            wanted="the facts of a bundle",
        ) from error


def _decoding(facts: Any) -> Decoding | None:
    """How an encoder-decoder looks for texts.

    Raises:
        ValueError: No such number of beams.
    """
    if facts is None:
        return None
    found = Decoding(
        beams=int(facts["beams"]),
        length_penalty=float(facts["length_penalty"]),
        longest=int(facts.get("longest", 0)),
    )
    if not 1 <= found.beams <= MOST_BEAMS:
        raise ValueError(f"{found.beams} beams")
    return found


def pack(folder: Path, target: Path) -> None:
    """Pack a bundle's folder into one zip file, whole or not at all.

    The same folder gives the same bytes: entries are sorted and carry no time.
    """
    with atomic_writer(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            packed.writestr(entry, path.read_bytes())


def _read_folder(path: Path) -> dict[str, bytes]:
    if not (path / BUNDLE_FILE).is_file():
        student = any((path / part / STUDENT_FILE).is_file() for part in (".", "student"))
        there = "a student, not a bundle of it" if student else "no bundle there"
        raise _fault(
            path,
            got=there if path.is_dir() else "no such file or folder",
            wanted=f"a folder with {BUNDLE_FILE}, or a zip file of it",
            todo=f"export it first: potstill export {quote(str(path))} --out FOLDER"
            if student
            else _WHAT_NEXT,
        )
    if (path / MANIFEST).exists() and not (path / MANIFEST).is_file():
        raise _fault(path / MANIFEST, got="a folder, pipe or device", wanted="a plain file")
    try:
        listed = {MANIFEST, *json.loads((path / MANIFEST).read_bytes())["files"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        listed = {MANIFEST}  # what is wrong with it is said where it is checked
    files: dict[str, bytes] = {}
    total = 0
    for file in (p for p in path.rglob("*") if p.relative_to(path).as_posix() in listed):
        if not file.is_file():
            raise _fault(file, got="a folder, pipe or device", wanted="a plain file")
        total += file.stat().st_size
        if len(files) >= MOST_FILES or total > MOST_BYTES:
            raise _too_much(path)
        files[file.relative_to(path).as_posix()] = file.read_bytes()
    return files


def _read_zip(path: Path) -> dict[str, bytes]:
    """The files of a zip file, in memory: nothing is written anywhere."""
    try:
        with zipfile.ZipFile(path) as packed:
            entries = packed.infolist()
            _check_entries(path, entries)
            return {entry.filename: _expand(path, packed, entry) for entry in entries}
    except ArtefactError:
        raise
    except Exception as error:  # of zipfile, zlib and struct: any of them for damaged bytes
        raise _fault(
            path, got=f"not a zip file that can be read ({error})", wanted="a bundle"
        ) from error


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MOST_FILES or sum(e.file_size for e in entries) > MOST_BYTES:
        raise _too_much(path)
    seen: set[str] = set()
    for entry in entries:
        mode = stat.S_IFMT(entry.external_attr >> 16)  # 0 where the writer noted no type
        fault = None
        if _NAME.fullmatch(entry.filename) is None:
            fault = "a name that leads elsewhere or is no plain file's"
        elif entry.filename in seen:
            fault = "the same name twice"
        elif mode not in (0, stat.S_IFREG):
            fault = "a link or device"
        elif entry.flag_bits & 0x1:
            fault = "an encrypted file"
        elif entry.file_size > MOST_EXPANSION * max(entry.compress_size, 1):
            fault = f"a file that expands to {entry.file_size:,} bytes"
        if fault is not None:
            raise _fault(
                f"{path}, entry {entry.filename!r:.80}", got=fault, wanted="the files of a bundle"
            )
        seen.add(entry.filename)


def _expand(path: Path, packed: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with packed.open(entry) as file:
        data = file.read(entry.file_size + 1)  # what the directory says may not be true
    if len(data) != entry.file_size:
        raise _fault(
            f"{path}, entry '{entry.filename}'",
            got="another size than the zip file's directory says",
            wanted=f"{entry.file_size:,} bytes",
        )
    return data


def _json(files: Mapping[str, bytes], name: str, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(files[name])
    except (KeyError, ValueError, RecursionError) as error:
        raise _fault(path / name, got=f"no JSON ({error})", wanted="the facts of a bundle") from (
            error
        )
    return found if isinstance(found, dict) else {}


def _too_much(path: Path) -> ArtefactError:
    return _fault(
        path,
        got=f"more than {MOST_FILES} files or {MOST_BYTES >> 30} GiB",
        wanted="a bundle: a handful of files",
    )


def _fault(thing: Path | str, *, got: str, wanted: str, todo: str = _WHAT_NEXT) -> ArtefactError:
    return ArtefactError(str(thing), got=got, wanted=wanted, todo=todo)
