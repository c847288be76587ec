from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from potstill.config import TASK_KINDS, RunFile, show
from potstill.config.describe import section_notes
from potstill.config.fields import Section, sections_in
from potstill.config.sections import SEQUENCE_MARGIN, SEQUENCE_TRAINING
from potstill.config.training import Training

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "docs_run_file.py"


def sections(top: type[Section]) -> Iterator[type[Section]]:
    yield top
    for field in top.model_fields.values():
        for inner in sections_in(field.annotation):
            yield from sections(inner)


def test_every_key_has_one_sentence() -> None:
    found = set(sections(RunFile))
    assert set(TASK_KINDS.values()) <= found
    for section in found:
        for name, field in section.model_fields.items():
            text = field.description or ""
            assert text.endswith("."), f"{section.__name__}.{name}"
            assert text[0] == text[0].upper() or ":" in text, f"{section.__name__}.{name}"
            assert "\n" not in text


def test_every_key_is_on_the_page() -> None:
    notes = list(section_notes())
    written = {(note.path.split(" ")[0].removesuffix("[]"), key.name) for note in notes
               for key in note.keys}  # fmt: skip
    assert {("", name) for name in RunFile.model_fields} <= written
    for name, field in RunFile.model_fields.items():
        for section in sections_in(field.annotation):
            path = "tasks.<name>" if name == "tasks" else name
            assert {(path, key) for key in section.model_fields} - {(path, "kind")} <= written


def test_the_defaults_of_texts_are_on_the_page() -> None:
    found = {
        f"{note.path}.{key.name}": key.of_texts
        for note in section_notes()
        for key in note.keys
        if key.of_texts is not None
    }
    assert found.pop(".base") == "marian"
    assert found.pop("teachers.members") == "1"
    assert found.pop("teachers.recipe") == "single"
    assert float(found.pop("distill.stop_when_ahead")) == SEQUENCE_MARGIN
    assert found == {
        f"training.{key}": str(value)
        for key, value in SEQUENCE_TRAINING.items()
        if Training.model_fields[key].default != value
    }


def test_the_page_is_not_behind() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("key", ["members: 3", "epochs: 3", "pool_weight: 1.0", "kind: class"])
def test_show_explains_each_key_once(load: Callable[..., RunFile], key: str) -> None:
    one = "{kind: classification, train: t.csv, text: a}"
    lines = show(load(f"tasks: {{a: {one}, b: {one}}}\n")).splitlines()
    at = next(i for i, line in enumerate(lines) if line.strip().startswith(key))
    assert lines[at - 1].strip().startswith("# ")
    assert lines[at - 1].index("#") == len(lines[at]) - len(lines[at].lstrip())
    assert sum(line.strip() == lines[at - 1].strip() for line in lines) == 1
    assert max(map(len, lines)) <= 100
