"""A first run file from data files: short, commented, and ready for `potstill check`.

Opens no data itself: the caller passes in how to read the first rows of a file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from potstill.config.guess import Guess, Head, guess_task, is_unlabelled, lacks
from potstill.config.guess_files import SUFFIXES, Group, find_files, group_files
from potstill.config.guess_texts import guess_texts
from potstill.core.errors import PotstillError, UsageError
from potstill.kinds import KINDS

ReadHead = Callable[[Path], dict[str, list[object]]]

_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", ".inf", ".nan", ".", "y", "n"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaffold:
    """A first run file.

    Attributes:
        text: What `load_run_file` accepts from its folder.
        left_out: Files without a task in it, and why; comments of the text say so too.
    """

    text: str
    left_out: tuple[str, ...]


def scaffold(data: Sequence[Path], *, read_head: ReadHead, folder: Path | None = None) -> Scaffold:
    """Write a run file for data files.

    Args:
        data: Data files, or folders that are searched for them. Files of one task stand in one
            folder (``rte/train.parquet``) or share a prefix (``rte_train.csv``).
        read_head: Gives the first rows of a file, by column.
        folder: Where the run file will stand; its paths are relative to it. Default: here.

    Raises:
        UsageError: A file is not there, or no task could be made out.
    """
    for place in data:
        if not place.exists():
            raise UsageError(
                f"DATA: {place}",
                got="no such file or folder",
                wanted="data files, or folders that are searched for them",
                todo="check the path",
            )
    folder = (Path.cwd() if folder is None else folder).absolute()
    files = find_files(data)
    groups, left = group_files(files)
    taken: set[str] = set()
    blocks: dict[bool, list[str]] = {False: [], True: []}  # by whether the task says texts
    for group in groups:
        try:
            heads: dict[str, Head] = {s: read_head(path) for s, path in group.files.items()}
        except PotstillError as error:
            left.append(f"{error.thing}: {error.got}")
            continue
        saying = guess_texts(heads, group.name)
        for direction, guess in saying.items():
            name = f"{group.name}-{direction}" if direction in taken else direction
            taken.add(name)
            # The first one has its column's name for a token.
            own = guess.kind == "generation" and blocks[True]
            keys = {**guess.keys, "token": _slug(name)} if own else guess.keys
            asked = replace(guess, keys=keys)
            blocks[True].append(_task(replace(group, name=name), asked, heads, folder))
        guessed = None if saying else guess_task(heads)
        if isinstance(guessed, str):
            left.append(f"{group.files['train']}: {guessed}")
        elif guessed is not None:
            blocks[False].append(_task(group, guessed, heads, folder))
    says = bool(blocks[True]) and not blocks[False]
    if blocks[True] and not says:
        left.append("texts for texts, which need a run file of their own: call init on each kind")
    if not any(blocks.values()):
        raise UsageError(
            "DATA: " + (", ".join(map(str, data)) or "none given"),
            got="; ".join(left) if left else "no data file there",
            wanted=f"files of {', '.join(SUFFIXES)} (or .gz) with a text and a label column",
            todo="name your files, or write the run file by hand",
        )
    lines = [
        "# A run file for potstill. Guessed from names and first rows: read the comments, correct",
        "# what is wrong, then `potstill check` it. `check --show` prints every key and default.",
        *(f"# Left out: {_one_line(note)}" for note in left),
        "",
        f"name: {_scalar(_run_name(groups, data))}",
        "base: marian                 # an encoder-decoder from nothing, or a local folder"
        if says
        else "base: minilm                 # or a local folder, or a hub id",
        "",
        "tasks:",
        *blocks[says],
        "",
        *(_SAYING if says else _ANSWERING),
    ]
    return Scaffold(text="\n".join(lines) + "\n", left_out=tuple(map(_one_line, left)))


_ANSWERING = (
    "training: {epochs: 3, learning_rate: 1.0e-4, batch: 32, max_tokens: 128}",
    "teachers: {members: 3}       # an ensemble of so many networks teaches each task",
    "distill: {soft_weight: 0.5, temperature: 1.0}",
)
_SAYING = (
    "architecture: {width: 256, layers: 3, vocabulary: 8000}   # of teachers and student",
    "training: {epochs: 8, learning_rate: 1.0e-3, batch: 64, max_tokens: 128}",
    "teachers: {members: 1}       # networks of one task each, that decide together",
    "distill: {soft_weight: 0.5}  # or objective: sequence, the teachers' texts as targets",
)


def _task(group: Group, guess: Guess, heads: dict[str, Head], folder: Path) -> str:
    uses = {key.name: key.use for key in KINDS[guess.kind].keys} or {
        "query": "input",
        "text": "input",
        "label": "label",
    }
    inputs = [
        c for key, use in uses.items() if use == "input" for c in _listed(guess.keys.get(key))
    ]
    labels = [
        c for key, use in uses.items() if use == "label" for c in _listed(guess.keys.get(key))
    ]
    columns = [*inputs, *labels]
    lines = [f"  {_scalar(group.name)}:"]
    notes = [*guess.notes, *group.notes]
    keys: dict[str, object] = {"kind": guess.kind}
    for split in ("train", "dev", "test", "pool"):
        path = group.files.get(split)
        if path is None:
            continue
        missing = lacks(heads[split], inputs if split == "pool" else columns)
        hidden = [c for c in labels if is_unlabelled(heads[split], heads["train"], c)]
        if missing and split != "train":
            notes.append(f"not used as {split}: {path.name} lacks {', '.join(missing)}")
        elif hidden and split in ("dev", "test"):
            notes.append(f"not used as {split}: every {hidden[0]} of {path.name} is -1, no label")
        else:
            keys[split] = _relative(path, folder)
    if "dev" not in keys:
        notes.append("no dev: a tenth of train is set aside")
    lines += [f"    # {_one_line(note)}" for note in notes]
    lines += [f"    {key}: {_scalar(value)}" for key, value in {**keys, **guess.keys}.items()]
    return "\n".join(lines)


def _listed(value: object) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]


def _relative(path: Path, folder: Path) -> str:
    full = path.absolute()
    if full.is_relative_to(folder):
        return full.relative_to(folder).as_posix()
    near = Path(os.path.relpath(full.resolve(), folder.resolve()))
    return near.as_posix() if near.parts.count("..") <= 2 else str(full)


def _run_name(groups: Sequence[Group], data: Sequence[Path]) -> str:
    name = groups[0].name if len(groups) == 1 else data[0].resolve().name
    if len(groups) > 1 and not data[0].is_dir():
        name = data[0].resolve().parent.name
    return _slug(name) or "run"


def _slug(name: str) -> str:
    """A name of letters, digits and the signs that names may have."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-_.")[:90]


def _scalar(value: object) -> str:
    """A value as YAML on one line."""
    if isinstance(value, list):
        return "[" + ", ".join(_scalar(item) for item in value) + "]"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)


def _one_line(text: str) -> str:
    """Text for a comment: data may hold line breaks and worse."""
    flat = "".join(c if c.isprintable() else " " for c in text)
    return flat if len(flat) <= 200 else flat[:199] + "…"
