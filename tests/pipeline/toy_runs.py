"""Run files over toy tasks, and what a run leaves, as the tests of the pipeline need them."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.toys import TOYS, toy_rows, write_rows

Keys = dict[str, Any]

COLUMNS: Mapping[str, Keys] = {
    "classification": {"text": "text", "label": "label"},
    "pair": {"text": ["first", "second"], "label": "label"},
    "regression": {"text": "text", "label": "score", "range": [0, 5]},
    "ranking": {"query": "query", "text": "candidate", "label": "relevance"},
    "multilabel": {"text": "remark", "label": "labels"},
    "tagging": {"tokens": "tokens", "tags": "tags"},
    "span": {"question": "question", "context": "context"},
    "unanswerable": {"question": "question", "context": "context"},
}
SPLITS = ("train", "dev", "test", "pool")


def toy_task(kind: str = "classification", *, train: int = 16, held: int = 8) -> Keys:
    """A task with ``train`` rows to learn from and ``held`` rows each of dev and test."""
    return {
        "kind": TOYS[kind].kind,
        "train": toy_rows(kind, train, 0),
        "dev": toy_rows(kind, held, 1),
        "test": toy_rows(kind, held, 2),
        **COLUMNS[kind],
    }


def toy_run(output: Path, base: Path, tasks: Mapping[str, Keys] | None = None) -> Keys:
    """The smallest run with all stages: seconds on one core."""
    if tasks is None:
        tasks = {"mood": toy_task(), "stars": toy_task("regression")}
    return {
        "name": "toy",
        "output": str(output),
        "base": str(base),
        "precision": "fp32",
        "device": "cpu",
        "tasks": copy.deepcopy(dict(tasks)),
        "training": {"epochs": 1, "learning_rate": 5e-3, "batch": 8},
        # Not the student's own pooling: else the multi-task baseline is the first teacher, which
        # stands already, and nobody could see that it was made.
        "teachers": {"members": 2, "pooling": "mean"},
        "evaluate": {"resamples": 200, "match_steps": False},
    }


def with_key(run: Keys, key: str, value: object) -> Keys:
    """A copy of the run with a dotted key set."""
    changed = copy.deepcopy(run)
    *path, last = key.split(".")
    place = changed
    for part in path:
        place = place.setdefault(part, {})
    place[last] = value
    return changed


def write_run(
    folder: Path, run: Keys, write: Callable[[Path, list[Keys]], Path] | None = None
) -> Path:
    """Write rows and run file; returns the run file. JSON is YAML, so no writer is needed."""
    on_disk = copy.deepcopy(run)
    for name, task in on_disk["tasks"].items():
        for split in SPLITS:
            if isinstance(task.get(split), list):
                file = folder / "data" / name / f"{split}.jsonl"
                file.parent.mkdir(parents=True, exist_ok=True)
                made = (write or write_rows)(file, task[split])
                task[split] = str(made.relative_to(folder))
    file = folder / "run.yaml"
    file.write_text(json.dumps(on_disk, indent=1), encoding="utf-8")
    return file


def weight_digests(output: Path) -> dict[str, str]:
    """SHA-256 of every network and every soft-target shard under a folder of runs."""
    return {
        path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*.safetensors"))
    }


def stage_names(output: Path) -> set[str]:
    """Names of the finished stages."""
    return {p.name for p in (output / "stages").iterdir() if (p / "manifest.json").is_file()}


def made_stages(run_folder: Path) -> list[str]:
    """What the runs that wrote this folder's log made, in their own words and order."""
    lines = (run_folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    return [event["what"] for event in events if event["event"] == "stage"]


def kinds_of(made: list[str]) -> set[str]:
    """The made stages by what they are for; labels that only scoring needs are ``score``."""
    kinds = set()
    for what in made:
        if what.startswith("teacher"):
            kinds.add("teach")
        elif what.startswith("labelling"):
            kinds.add("label")
        elif " on " in what and "fine-tuned" not in what:
            kinds.add("score")
        else:
            kinds.add(what.split()[0])  # student, single, multi-task
    return kinds
