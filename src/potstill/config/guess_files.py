"""Which files of data belong together: splits of one task, by their names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from potstill.core.stages import STAGES_FOLDER

SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson")
_SPLITS = {
    "train": ("train", "training"),
    "dev": ("dev", "validation", "valid", "val", "eval", "development"),
    "test": ("test", "testing"),
    "pool": ("pool", "unlabelled", "unlabeled", "unsupervised"),
}
_SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words}
_WORD = "|".join(sorted(_SPLIT_OF, key=len, reverse=True))
_NAME = re.compile(
    rf"(?:(?P<before>.+?)[-_.])?(?P<split>{_WORD})(?:[-_.](?P<after>.+))?", re.IGNORECASE
)
_SHARD = re.compile(r"-\d+-of-\d+$")


@dataclass(slots=True, kw_only=True)
class Group:
    """The files of one task.

    Attributes:
        name: Name of the task.
        files: File of each split.
        notes: What the user should know of the choice.
    """

    name: str
    files: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_files(data: Sequence[Path]) -> list[Path]:
    """Data files among files and folders, in order; folders are searched to the bottom.

    What is hidden in a folder is passed over, and what runs have written there; the folder itself
    may be hidden, or lie at ``..``.
    """
    found: list[Path] = []
    for place in data:
        if place.is_dir():
            inside = [p for p in place.rglob("*") if p.is_file() and bare_name(p) is not None]
            seen = (p for p in inside if not _is_hidden(p.relative_to(place)))
            found += sorted(p for p in seen if not _is_of_a_run(p, place))
        else:
            found.append(place)
    return list(dict.fromkeys(found))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_of_a_run(path: Path, place: Path) -> bool:
    """Whether a file under ``place`` lies in a run's folder: beside its log, next to the stages."""
    folders = [folder for folder in path.parents if folder.is_relative_to(place)]
    return any((f / "log.jsonl").is_file() and (f.parent / STAGES_FOLDER).is_dir() for f in folders)


def bare_name(path: Path) -> str | None:
    """A data file's name without its endings; None for other files."""
    name = path.name.removesuffix(".gz")
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return None


def group_files(files: Sequence[Path]) -> tuple[list[Group], list[str]]:
    """Files that belong to one task, and notes on files that belong to none."""
    groups: dict[tuple[Path, str], Group] = {}
    left: list[str] = []
    plain_folders = {path.parent for path in files if _SPLIT_OF.get(_stem(path).lower()) == "train"}
    for path in files:
        stem, folder = _stem(path), path.parent
        match = _NAME.fullmatch(stem)
        if match is None:
            name, split = stem, "train"
        else:
            split = _SPLIT_OF[match["split"].lower()]
            name = match["before"] or match["after"] or ""
            if match["before"] is None and folder in plain_folders:
                name = ""  # test_2016 beside train belongs to the same task
        key = (folder, name.lower())
        group = groups.setdefault(key, Group(name=name or folder.resolve().name))
        if split in group.files:
            group.notes.append(f"not used: {path.name}; {split} is {group.files[split].name}")
        else:
            group.files[split] = path
    whole = []
    for group in groups.values():
        if "train" in group.files:
            whole.append(group)
        else:
            names = ", ".join(str(path) for path in group.files.values())
            left.append(f"{names}: no train file beside it")
    taken: set[str] = set()
    for group in whole:
        group.name = _free_name(group.name, taken)
        taken.add(group.name.lower())
    return whole, left


def _stem(path: Path) -> str:
    return _SHARD.sub("", bare_name(path) or path.stem)


def _free_name(name: str, taken: set[str]) -> str:
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-_.")[:90] or "task"
    free, number = name, 2
    while free.lower() in taken:
        free, number = f"{name}-{number}", number + 1
    return free
