"""Asking a student, and refusing one that is not whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import potstill
from potstill.core.errors import ArtefactError, DataError, UsageError
from potstill.students.student import Student
from potstill.training.network import load_encoder_network
from tests.tiny import CPU, flip_byte
from tests.toys import TOYS, toy_rows

GOLDEN = Path(__file__).parents[1] / "golden" / "student-v1"


@pytest.fixture
def student(student_folder: Path) -> Student:
    """The student in fp32."""
    return Student.load(student_folder, device="cpu", precision="fp32")


@pytest.fixture
def copy(student_folder: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copytree(student_folder, tmp_path / "student"))


def test_one_row(student: Student) -> None:
    answer = student.predict({"text": "good film", "note": 7})
    assert list(answer) == ["classification", "regression"]
    scores = answer["classification"]["scores"]
    assert list(scores) == ["bad", "good"]
    assert sum(scores.values()) == pytest.approx(1, abs=1e-5)
    assert answer["classification"]["prediction"] == max(scores, key=scores.get)
    assert 0 <= answer["regression"]["prediction"] <= 5
    assert student.predict({"text": "good film"}, tasks=["regression"]) == {
        "regression": answer["regression"]
    }


def test_many_rows_are_answered_in_order_as_one_by_one(student: Student) -> None:
    rows = toy_rows("classification", 12)
    answers = student.predict(rows)
    assert [a["row"] for a in answers] == list(range(12))
    for row, answer in zip(rows, answers, strict=True):
        alone = student.predict(row)
        assert (
            alone["classification"]["prediction"] == answer["tasks"]["classification"]["prediction"]
        )
        assert alone["regression"]["prediction"] == pytest.approx(
            answer["tasks"]["regression"]["prediction"], abs=1e-4
        )
    assert student.predict([]) == []


def test_answers_are_those_of_the_network(student: Student, student_folder: Path) -> None:
    rows = toy_rows("pair", 5)
    network = load_encoder_network(student_folder)
    texts = {c: [str(row[c]) for row in rows] for c in ("first", "second")}
    outputs = network.outputs(network.tokenise("pair", texts), ("pair",), CPU)["pair"]
    wanted = network.tasks["pair"].kind.predict(outputs)
    got = [a["tasks"]["pair"]["scores"] for a in student.predict(rows, tasks=["pair"])]
    np.testing.assert_allclose([[g["no"], g["yes"]] for g in got], wanted, atol=1e-5)


def test_all_tasks_of_a_row_with_all_columns(student: Student) -> None:
    row = {"text": "a", "first": "b", "second": "c", "query": "d", "candidate": "e"}
    row |= {"remark": "f", "tokens": "g h", "question": "i", "context": "j"}
    assert list(student.predict(row)) == list(student.tasks)
    assert list(student.predict(row, tasks=["ranking", "pair"])) == ["ranking", "pair"]


@pytest.mark.parametrize("kind", ["multilabel", "tagging", "span", "unanswerable"])
def test_answers_of_rows_with_several_parts(student: Student, kind: str) -> None:
    rows = toy_rows(kind, 12)
    answers = [one["tasks"][kind] for one in student.predict(rows, tasks=[kind])]
    schema = student.heads[kind].kind.answer_schema()
    for row, answer in zip(rows, answers, strict=True):
        jsonschema.validate(json.loads(json.dumps(answer)), schema)
        alone = student.predict(row, tasks=[kind])[kind]
        assert alone["prediction"] == answer["prediction"]
        if kind == "tagging":
            words = row["tokens"]
            assert isinstance(words, list)
            assert len(answer["prediction"]) == len(words)
            for span in answer["spans"]:
                assert span["text"] == " ".join(words[span["first"] : span["last"] + 1])
            # A text is its words.
            assert student.predict({"tokens": "  ".join(words)}, tasks=[kind])[kind] == alone
        elif kind != "multilabel" and answer["start"] is not None:
            part = str(row["context"])[answer["start"] : answer["end"]]
            assert answer["prediction"] == part


def test_words_may_be_too_many_for_one_pass(student: Student) -> None:
    words = ["good", "film", "never"] * 40
    (answer,) = student.predict([{"tokens": words}])
    assert len(answer["tasks"]["tagging"]["prediction"]) == 120
    context = "A film. " * 60
    rows = [{"question": "which film?", "context": context}]
    found = student.predict(rows)[0]["tasks"]["span"]
    assert context[found["start"] : found["end"]] == found["prediction"] != ""
    table: dict[str, list[object]] = {
        "tokens": [words, ["a"]],
        "question": ["a", "b"],
        "context": [context, "c"],
    }
    n_cut = student.answer(table, ["tagging", "span"], numbers=range(2))[1]
    assert n_cut == 0


def test_a_passage_without_words_has_no_answer(student: Student) -> None:
    row = {"question": "who?", "context": " "}
    for task in ("span", "unanswerable"):
        answer = student.predict(row, tasks=[task])[task]
        assert (answer["prediction"], answer["start"], answer["end"]) == ("", None, None)
        jsonschema.validate(answer, student.heads[task].kind.answer_schema())


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (None, "no value"),
        (3, "int 3"),
        (["a", 3], "int 3 as word 2"),
        (["a", None], "no value as word 2"),
        (["a", ""], "an empty word 2"),
        (["a b"], "word 1 with a blank in it, 'a b'"),
        (["a", "b\0"], "a NUL character, the sign of binary data as word 2"),
        ({"a": 1}, "dict"),
    ],
)
def test_words_that_are_none_name_their_row(student: Student, value: object, got: str) -> None:
    with pytest.raises(DataError, match="row 1, column 'tokens'") as refused:
        student.predict([{"tokens": ["a"]}, {"tokens": value}])
    assert got in refused.value.got
    assert refused.value.wanted == "a list of words"


def test_wrong_questions(student: Student) -> None:
    with pytest.raises(UsageError, match="'nobody'") as unknown:
        student.predict({"text": "a"}, tasks=["nobody"])
    assert "classification" in unknown.value.wanted
    with pytest.raises(UsageError, match="first, second"):
        student.predict({"text": "a", "first": "b"}, tasks=["pair"])
    with pytest.raises(UsageError, match="no task can be answered"):
        student.predict({"txt": "a"})
    with pytest.raises(UsageError, match="the columns 0, txt"):
        student.predict({0: "a", "txt": "b"})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="no task can be answered"):
        student.predict({})


@pytest.mark.parametrize("value", [None, 3, ["a", 3]])
def test_values_that_are_no_text_name_their_row(student: Student, value: object) -> None:
    with pytest.raises(DataError, match="row 1, column 'text'"):
        student.predict([{"text": "a"}, {"text": value}])


def test_rows_are_answered_for_the_tasks_whose_columns_they_have(student: Student) -> None:
    rows: list[dict[str, object]] = [
        {"text": "good"},
        {"tokens": ["a"], "note": 1},
        {"text": "bad", "tokens": ["b"]},
    ]
    answers = student.predict(rows)
    assert [list(a["tasks"]) for a in answers] == [
        ["classification", "regression"],
        ["tagging"],
        ["classification", "regression", "tagging"],
    ]
    for row, answer in zip(rows, answers, strict=True):
        alone = student.predict(row)
        assert alone.get("tagging") == answer["tasks"].get("tagging")
        if "text" in row:
            wanted = answer["tasks"]["classification"]["scores"]
            assert alone["classification"]["scores"] == pytest.approx(wanted, abs=1e-4)
    with pytest.raises(UsageError, match="row 1: no task can be answered"):
        student.predict([{"text": "a"}, {"note": "a"}])
    with pytest.raises(UsageError, match="row 2: task 'tagging'"):
        student.predict(rows[1:] + rows[:1], tasks=["tagging"])


def test_facts(student: Student, student_folder: Path) -> None:
    assert student.tasks == tuple(TOYS)
    assert student.n_parameters == sum(
        p.numel() for p in load_encoder_network(student_folder).model.parameters()
    )


def test_a_runs_folder_leads_to_its_student(copy: Path) -> None:
    assert Student.load(copy.parent, device="cpu").folder == copy
    for wrong, got in ((copy / "encoder", "no student there"), (copy / "x", "no such folder")):
        with pytest.raises(ArtefactError, match=got) as refused:
            potstill.load(wrong)
        assert "a run's folder, or a student's" in refused.value.wanted
        assert "a bundle, as `potstill export` writes it" in refused.value.todo


def test_without_a_manifest_it_is_refused(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    with pytest.raises(ArtefactError, match="manifest"):
        Student.load(copy)


def test_a_flipped_byte_in_any_file_is_named_and_refused(copy: Path) -> None:
    paths = [p for p in sorted(copy.rglob("*")) if p.is_file()]
    assert len(paths) == 6
    for path in paths:
        sound = path.read_bytes()
        for place in (0, len(sound) // 2, len(sound) - 1):
            flip_byte(path, place)
            with pytest.raises(ArtefactError) as refused:
                Student.load(copy)
            assert str(path) in str(refused.value)
            path.write_bytes(sound)
        path.unlink()
        with pytest.raises(ArtefactError):
            Student.load(copy)
        path.write_bytes(sound)
    Student.load(copy)


def test_wrong_precision_is_the_callers_fault(student_folder: Path) -> None:
    with pytest.raises(UsageError, match="int3"):
        Student.load(student_folder, precision="int3")


def test_nothing_is_unpickled(student_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("torch.load was called")

    monkeypatch.setattr(torch, "load", refuse)
    Student.load(student_folder, device="cpu").predict({"text": "a"})


def test_golden_student_of_version_1() -> None:
    """A promise: what this version wrote stays readable. The folder was written once."""
    student = Student.load(GOLDEN, device="cpu", precision="fp32")
    answer = student.predict(
        {
            "text": "a good film with a dull road",
            "first": "the cat",
            "second": "a warm day",
            "query": "river song",
            "candidate": "bright river",
        }
    )
    assert answer["classification"]["scores"] == pytest.approx(
        {"bad": 0.866529, "good": 0.133471}, abs=1e-4
    )
    assert answer["pair"]["scores"] == pytest.approx({"no": 0.480547, "yes": 0.519453}, abs=1e-4)
    assert answer["regression"]["prediction"] == pytest.approx(5.0, abs=1e-3)
    assert answer["ranking"]["prediction"] == pytest.approx(-4.17895, abs=1e-3)


def test_tables_are_answered_as_lists_of_dicts(student: Student) -> None:
    rows = [{"text": "good film"}, {"text": "bad film"}]
    wanted = student.predict(rows)
    assert student.predict(pd.DataFrame(rows)) == wanted
    assert student.predict(pa.Table.from_pylist(rows)) == wanted
    assert student.predict(pd.DataFrame({"text": []})) == []


def test_cells_of_a_frame_may_hold_anything(student: Student) -> None:
    frame = pd.DataFrame({"text": ["good film", 3]})
    with pytest.raises(DataError, match="column 'text'") as caught:
        student.predict(frame)
    assert "3" in caught.value.got
    frame = pd.DataFrame({"text": ["good film", None]})
    with pytest.raises(DataError, match="row 1"):
        student.predict(frame)


def test_of_tables_only_what_tasks_read_is_looked_at(student: Student) -> None:
    rows = [{"text": "good film"}, {"text": "bad film"}]
    wanted = student.predict(rows)
    frame = pd.DataFrame({"meta": [1, "x"], "text": [row["text"] for row in rows]})
    assert student.predict(frame) == wanted
    assert student.predict(frame.iloc[1]) == wanted[1]["tasks"]  # one row of it
    with pytest.raises(UsageError, match="several columns 'text'"):
        student.predict(pd.concat([frame, frame], axis=1))
    with pytest.raises(UsageError, match="meta"):
        student.predict(frame[["meta"]])
    with pytest.raises(UsageError, match="parted by semicolons"):
        student.predict({"id;text": "1;good film"})


def test_tables_with_lists_are_answered_too(student: Student) -> None:
    rows = [{"tokens": ["good", "film"]}, {"tokens": ["a", "cold", "day"]}]
    wanted = student.predict(rows)
    table = pa.Table.from_pylist(rows)
    for one in (table, table.to_pandas(), pd.DataFrame(rows)):
        assert student.predict(one) == wanted
    frame = table.to_pandas()  # whose lists are arrays
    assert student.predict(frame.iloc[1]) == wanted[1]["tasks"]
    assert student.predict(frame.to_dict("records")) == wanted


@pytest.mark.parametrize("rows", [5, "good film", ["good film"], [{"text": "a"}, 3]])
def test_rows_that_are_none(student: Student, rows: object) -> None:
    with pytest.raises(UsageError, match="rows to predict"):
        student.predict(rows)  # type: ignore[call-overload]
