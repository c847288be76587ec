"""A base that stands is held against the run file before anything is opened, with the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.config.conftest import Load, Refuse
from tests.config.test_faults import has

TEXTS = "tasks:\n  a: {kind: translation, train: a.jsonl, source: en, target: de}\n"
LABELS = "tasks:\n  a: {kind: classification, train: a.csv, text: text}\n"
SAYS = {"model_type": "marian", "is_encoder_decoder": True}
SAYS |= {"encoder_layers": 3, "decoder_layers": 2}
READS = {"model_type": "bert", "num_hidden_layers": 4}


@pytest.fixture(autouse=True)
def bases(tmp_path: Path) -> None:
    for name, config in (("says", SAYS), ("reads", READS), ("run/student/encoder", SAYS)):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
    (tmp_path / "run" / "student" / "student.json").write_text("{}")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text("[")


@pytest.mark.parametrize("key", ["base", "student.base", "teachers.base", "teachers.each.0.base"])
def test_a_runs_folder_is_no_base_but_its_student_is(load: Load, refuse: Refuse, key: str) -> None:
    teachers = "teachers: {members: 1, each: [{}]}\n"
    said = refuse(TEXTS + teachers, f"{key}=run")
    has(said, f"key '{key}'", "a run's folder", "name the student in it: run/student")
    load(TEXTS + teachers, f"{key}=run/student")


def test_a_base_of_the_other_family_is_named(refuse: Refuse) -> None:
    said = refuse(LABELS + "base: run/student\n")
    has(said, "run.yaml, line 3, column 7, key 'base'", "the folder of an encoder-decoder")
    said = refuse(TEXTS + "student: {base: reads}\n")
    has(said, "run.yaml, line 3, column 17, key 'student.base'", "the folder of an encoder,")
    for base in ("reads", "minilm"):
        said = refuse(TEXTS + f"base: {base}\narchitecture: {{width: 64}}\n")
        has(said, "an encoder")
        assert "own size" not in said


@pytest.mark.parametrize(
    ("text", "key", "most"),
    [
        (TEXTS + "base: says\nstudent: {layers: 3}\n", "student.layers", "1 to 2"),
        (LABELS + "base: reads\nstudent: {layers: 5}\n", "student.layers", "1 to 4"),
        (LABELS + "teachers: {layers: 7}\n", "teachers.layers", "1 to 6, the layers of its base m"),
        (
            LABELS + "teachers: {members: 1, layers: 9, each: [{base: reads, layers: 5}]}\n",
            "teachers.each.0.layers",
            "1 to 4",
        ),
    ],
)
def test_layers_that_a_base_has_not(refuse: Refuse, text: str, key: str, most: str) -> None:
    has(refuse(text), "run.yaml, line ", f"key '{key}'", most)


def test_a_base_that_stands_has_its_own_size(load: Load, refuse: Refuse) -> None:
    size = "architecture: {width: 64}\n"
    has(refuse(TEXTS + "base: says\n" + size), "key 'architecture'", "its own size", "remove it")
    said = refuse(TEXTS + "student: {base: says, architecture: {width: 64}}\n")
    has(said, "key 'student.architecture'", "its own size")
    load(TEXTS + size + "student: {base: says}\n")  # the teachers start from nothing
    load(TEXTS + "base: says\narchitecture: {}\n")


def test_a_folder_that_says_nothing_is_left_to_the_training(load: Load) -> None:
    load(LABELS + "base: odd\nstudent: {layers: 50}\n")
