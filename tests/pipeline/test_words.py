"""A run whose tasks answer at words, in passages and with several labels, from check to service."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner, Result

import potstill
from potstill import cli
from potstill.core.errors import DataError, RunFileError
from potstill.core.progress import Progress
from potstill.metrics.squad import token_f1
from potstill.metrics.tagging import spans
from potstill.pipeline.loading import load_tasks
from potstill.serving.app import create_app
from potstill.serving.predictor import BundlePredictor
from potstill.serving.settings import ServeSettings
from tests.bundles import quick_measuring
from tests.pipeline.contract import check_results
from tests.pipeline.toy_runs import Keys, stage_names, toy_run, toy_task, with_key, write_run
from tests.toys import toy_rows, write_rows

Rows = list[dict[str, Any]]
TASKS = ("opening", "tags", "topics", "answer")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def good(*arguments: object) -> Result:
    result = call(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def word_rows(n: int, seed: int) -> Rows:
    """Sentences with tags, and whether the first word is marked."""
    rows: Rows = [dict(row) for row in toy_rows("tagging", n, seed)]
    return [{**row, "label": "no" if row["tags"][0] == "O" else "yes"} for row in rows]


def word_run(folder: Path, base: Path) -> Keys:
    """The run, with the files of the two tasks that read the same words."""
    files = {
        split: str(write_rows(folder / f"words-{split}.jsonl", word_rows(n, seed)))
        for split, n, seed in (("train", 30, 0), ("dev", 16, 1), ("test", 16, 2))
    }
    run = toy_run(
        folder / "runs",
        base,
        {
            "opening": {"kind": "classification", "text": "tokens", **files},
            "tags": {"kind": "tagging", **files},
            "topics": toy_task("multilabel", train=30, held=16),
            "answer": toy_task("unanswerable", train=30, held=16),
        },
    )
    for name in ("opening", "tags", "topics", "answer"):
        run["tasks"][name] |= {"rows": 20, "pool": "rest"}
    run["training"] |= {"max_tokens": 16, "epochs": 2}
    run["evaluate"]["baselines"] = ["multitask"]
    return run


@pytest.fixture(scope="module")
def place(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run file, its data, its finished run and its bundle."""
    folder = tmp_path_factory.mktemp("words")
    file = write_run(folder, word_run(folder, base))
    potstill.run(file)
    with quick_measuring():
        good(
            *("export", run_folder_of(folder), "--out", folder / "bundle", "--quiet"),
            *("--engines", "onnxruntime-fp32"),
        )
    return folder


def run_folder_of(place: Path) -> Path:
    return next((place / "runs").glob("toy-*"))


@pytest.fixture
def questions(place: Path) -> Rows:
    """Rows of test with the columns of every task; one of them too long for one window."""
    words, notes = word_rows(16, 2), toy_rows("multilabel", 16, 2)
    rows = [
        {**a, **b, **c}
        for a, b, c in zip(words, notes, toy_rows("unanswerable", 16, 2), strict=True)
    ]
    rows[3]["tokens"] = ["good", "film", "bad"] * 10
    rows[5]["context"] = "a cold song under the bright house " * 4
    return rows


def test_only_the_tasks_that_answer_judge_a_value(place: Path, tmp_path: Path) -> None:
    """Of a column that is read as text here and as words there."""
    file = write_rows(tmp_path / "rows.jsonl", [{"tokens": '["good", "film"]'}])
    refused = call("predict", run_folder_of(place), file, "--quiet")
    assert refused.exit_code == 1
    assert "a list of words" in refused.stderr
    answered = good("predict", run_folder_of(place), file, "--tasks", "opening", "--quiet")
    assert "opening" in answered.stdout


# -- what it leaves -----------------------------------------------------------------------------


def test_results_are_those_of_the_contract(place: Path) -> None:
    results = read(run_folder_of(place) / "results.json")
    check_results(results)
    tasks = results["tasks"]
    assert tuple(tasks) == TASKS
    assert [task["metric"] for task in tasks.values()] == [
        "accuracy",
        "span_f1",
        "micro_f1",
        "token_f1",
    ]
    assert {task["n"] for task in tasks.values()} == {16}
    assert all("ensemble" in task["scores"] for task in tasks.values())


def test_the_student_answers_as_it_was_scored(place: Path) -> None:
    """The thresholds that the report scores with are those that the student answers with."""
    student = potstill.load(run_folder_of(place), device="cpu", precision="fp32")
    scores = read(run_folder_of(place) / "results.json")["tasks"]

    def of(task: str, rows: Rows) -> list[dict[str, Any]]:
        return [one["tasks"][task] for one in student.predict(rows, [task])]

    words = word_rows(16, 2)
    right = [
        answer["prediction"] == row["label"]
        for answer, row in zip(of("opening", words), words, strict=True)
    ]
    assert np.mean(right) == pytest.approx(scores["opening"]["scores"]["student"], abs=1e-6)
    found = [set(spans(answer["prediction"])) for answer in of("tags", words)]
    true = [set(spans(row["tags"])) for row in words]
    hits = sum(len(a & b) for a, b in zip(found, true, strict=True))
    f1 = 2 * hits / max(sum(map(len, found)) + sum(map(len, true)), 1)
    assert f1 == pytest.approx(scores["tags"]["scores"]["student"], abs=1e-6)
    notes: Rows = toy_rows("multilabel", 16, 2)
    said = [set(answer["prediction"]) for answer in of("topics", notes)]
    labels = [set(row["labels"]) for row in notes]
    hits = sum(len(a & b) for a, b in zip(said, labels, strict=True))
    f1 = 2 * hits / max(sum(map(len, said)) + sum(map(len, labels)), 1)
    assert f1 == pytest.approx(scores["topics"]["scores"]["student"], abs=1e-6)
    passages: Rows = toy_rows("unanswerable", 16, 2)
    each = [
        token_f1(answer["prediction"], row["answers"])
        for answer, row in zip(of("answer", passages), passages, strict=True)
    ]
    assert np.mean(each) == pytest.approx(scores["answer"]["scores"]["student"], abs=1e-6)


def test_what_was_tuned_is_written_down(place: Path) -> None:
    facts = read(run_folder_of(place) / "student" / "student.json")["tasks"]
    bundle = read(place / "bundle" / "bundle.json")["tasks"]
    assert len(facts["topics"]["space"]["thresholds"]) == 3
    assert facts["answer"]["space"]["unanswerable"] is True
    assert {name: task["space"] for name, task in bundle.items()} == {
        name: task["space"] for name, task in facts.items()
    }


def test_the_report_shows_types_and_labels(place: Path) -> None:
    details = read(run_folder_of(place) / "details.json")["tasks"]
    tags, topics = details["tags"]["by_label"], details["topics"]["by_label"]
    assert set(tags) == {"bad", "good"}
    assert set(topics) == {"animal", "blame", "praise"}
    rows = toy_rows("multilabel", 16, 2)
    assert topics["animal"]["n"] == sum("animal" in str(row["labels"]) for row in rows)
    assert {"student", "ensemble", "multitask"} <= set(topics["animal"])
    for name in TASKS:
        differences = details[name]["differences"]
        assert len(differences) == 10
        assert all({"inputs", "truth", "student", "ensemble"} <= set(one) for one in differences)
    assert isinstance(details["tags"]["differences"][0]["inputs"]["tokens"], str)
    page = (run_folder_of(place) / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in (*TASKS, "praise"))
    card = (run_folder_of(place) / "student" / "README.md").read_text(encoding="utf-8")
    assert "**tags** (tagging): reads `tokens`" in card
    assert "**answer** (span): reads `question`, `context`" in card


def test_tasks_on_the_same_words_take_the_same_rows(place: Path) -> None:
    run = potstill.config.load_run_file(place / "run.yaml")
    tasks = load_tasks(run, seed=0, skip_bad_rows=0, progress=Progress())
    for split in ("train", "dev", "test", "pool"):
        one, other = (getattr(tasks[name], split) for name in ("opening", "tags"))
        assert one.places.tolist() == other.places.tolist()
        assert [" ".join(words) for words in other.inputs["tokens"]] == one.inputs["tokens"]
    assert len(tasks["tags"].train) == 20


def test_rows_of_two_tasks_are_encoded_once(place: Path) -> None:
    student = read(run_folder_of(place) / "student" / "training.json")
    n_epochs, n_tasks_apart = 2, 3  # the words, the notes, the passages
    assert student["n_rows"] == n_epochs * n_tasks_apart * 30
    assert set(student["dev"]) == set(TASKS)
    assert student["cover"]["tags"] == {
        "train_rows": 20,
        "train_covered": 20,
        "pool_rows": 10,
        "pool_covered": 10,
    }


def test_the_same_run_again_does_nothing(place: Path) -> None:
    before = stage_names(place / "runs")
    potstill.run(place / "run.yaml")
    assert stage_names(place / "runs") == before


# -- ways in ------------------------------------------------------------------------------------


def to_parquet(path: Path, rows: Rows) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def as_tuples(rows: Rows) -> Rows:
    return [{k: tuple(v) if isinstance(v, list) else v for k, v in r.items()} for r in rows]


def as_large_lists(rows: Rows) -> pa.Table:
    """As polars and datasets hand lists out."""
    table = pa.Table.from_pylist(rows)
    large = [
        pa.large_list(pa.int64() if "starts" in field.name else pa.large_string())
        if pa.types.is_list(field.type)
        else field.type
        for field in table.schema
    ]
    return table.cast(pa.schema(list(zip(table.column_names, large, strict=True))))


def as_frame_of_arrays(rows: Rows) -> pd.DataFrame:
    """As pandas reads a parquet file."""
    frame: pd.DataFrame = pa.Table.from_pylist(rows).to_pandas()
    assert any(isinstance(value, np.ndarray) for value in frame.iloc[0])
    return frame


@pytest.mark.parametrize(
    "convert",
    [list, pa.Table.from_pylist, pd.DataFrame, as_tuples, as_large_lists, as_frame_of_arrays],
)
def test_lists_of_every_table_are_the_same_rows(
    base: Path, tmp_path: Path, convert: Callable[[Rows], Any]
) -> None:
    names = ("multilabel", "tagging", "unanswerable")
    plain = {name: toy_task(name) for name in names}
    files = write_run(tmp_path, toy_run(tmp_path / "runs", base, plain), to_parquet)
    tables = {
        name: {k: convert(v) if k in ("train", "dev", "test") else v for k, v in task.items()}
        for name, task in plain.items()
    }
    run = potstill.config.parse_run({**toy_run(tmp_path / "runs", base), "tasks": tables})
    loaded = [
        load_tasks(one, seed=0, skip_bad_rows=0, progress=Progress())
        for one in (run, potstill.config.load_run_file(files))
    ]
    for name in names:
        assert loaded[0][name].digest == loaded[1][name].digest
        assert len(loaded[0][name].train) == 16


def test_words_and_tags_of_a_csv_file_are_text_with_blanks(base: Path, tmp_path: Path) -> None:
    task = toy_task("tagging")

    def to_csv(path: Path, rows: Rows) -> Path:
        flat = [{name: " ".join(value) for name, value in row.items()} for row in rows]
        pd.DataFrame(flat).to_csv(path.with_suffix(".csv"), index=False)
        return path.with_suffix(".csv")

    run = toy_run(tmp_path / "runs", base, {"tags": task})
    loaded = [
        load_tasks(one, seed=0, skip_bad_rows=0, progress=Progress())["tags"]
        for one in (
            potstill.config.parse_run(run),
            potstill.config.load_run_file(write_run(tmp_path, run, to_csv)),
        )
    ]
    assert loaded[0].digest == loaded[1].digest


def test_rows_that_choose_in_one_task_of_a_file_are_learned_in_no_other(
    base: Path, tmp_path: Path
) -> None:
    rows = [{"text": f"text {i}", "fine": f"c{i % 5}", "coarse": f"d{i % 2}"} for i in range(120)]
    file = str(write_rows(tmp_path / "both.jsonl", rows))
    tasks: dict[str, Keys] = {
        name: {"kind": "classification", "train": file, "text": "text", "label": name}
        for name in ("coarse", "fine")
    }
    tasks["fine"]["rows"] = 60
    run = potstill.config.parse_run(toy_run(tmp_path / "runs", base, tasks))
    loaded = load_tasks(run, seed=0, skip_bad_rows=0, progress=Progress())
    fine, coarse = loaded["fine"], loaded["coarse"]
    assert len(fine.dev) == 12
    assert np.array_equal(fine.dev.places, coarse.dev.places)
    assert not set(fine.train.places) & set(coarse.dev.places)
    assert (len(fine.train), len(coarse.train)) == (60, 108)


# -- rows in, rows out --------------------------------------------------------------------------


def wanted_answers(place: Path, rows: Rows) -> list[dict[str, Any]]:
    student = potstill.load(run_folder_of(place), device="cpu", precision="fp32")
    return [one["tasks"] for one in student.predict(rows)]


def alike(found: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key, value in wanted.items():
            alike(found[key], value)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=2e-4)
    else:
        assert found == wanted


@pytest.mark.parametrize("source", ["student", "bundle"])
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_predict_writes_json_lines(
    place: Path, questions: Rows, tmp_path: Path, source: str, suffix: str
) -> None:
    file = write_rows(tmp_path / "in.jsonl", questions)
    if suffix == ".parquet":
        file = to_parquet(tmp_path / "in", questions)
    out = tmp_path / "out.jsonl"
    where = run_folder_of(place) if source == "student" else place / "bundle"
    exact = ("--precision", "fp32") if source == "student" else ()
    result = good("predict", where, file, "--out", out, *exact)
    # The class of a sentence is read from its beginning, tags and answers from all of it.
    assert "1 of 16 rows are longer than the 16 tokens" in " ".join(result.stderr.split())
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [line["row"] for line in lines] == list(range(16))
    for line, wanted in zip(lines, wanted_answers(place, questions), strict=True):
        alike(line["tasks"], wanted)


def test_predict_writes_tables(place: Path, questions: Rows, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "in.jsonl", questions)
    for out in ("out.parquet", "out.csv"):
        good(
            *("predict", run_folder_of(place), file, "--out", tmp_path / out),
            *("--precision", "fp32", "--quiet"),
        )
    wanted = wanted_answers(place, questions)
    table = pq.read_table(tmp_path / "out.parquet")
    scored = {"opening", "topics", "answer"}  # tags say no probability
    names = ["row", *(n for t in TASKS for n in (t, f"{t}_score") if n == t or t in scored)]
    assert table.column_names == names
    assert table.schema.field("tags").type == table.schema.field("topics").type
    for row, answers in zip(table.to_pylist(), wanted, strict=True):
        assert {task: row[task] for task in TASKS} == {
            task: answers[task]["prediction"] for task in TASKS
        }
        topics, answer = answers["topics"], answers["answer"]
        assert row["topics_score"] == pytest.approx([topics["scores"][t] for t in row["topics"]])
        none = not row["answer"]
        assert row["answer_score"] == pytest.approx(answer["no_answer_score" if none else "score"])
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == names
    for line, answers in zip(rows, wanted, strict=True):
        assert json.loads(line["tags"]) == answers["tags"]["prediction"]
        assert json.loads(line["topics"]) == answers["topics"]["prediction"]
        assert line["answer"] == answers["answer"]["prediction"]
        assert len(json.loads(line["topics_score"])) == len(json.loads(line["topics"]))


def test_predict_reads_words_from_csv(place: Path, questions: Rows, tmp_path: Path) -> None:
    flat = [{"tokens": " ".join(row["tokens"])} for row in questions]
    pd.DataFrame(flat).to_csv(tmp_path / "in.csv", index=False)
    out = tmp_path / "out.jsonl"
    result = good("predict", place / "bundle", tmp_path / "in.csv", "--out", out)
    assert "task 'answer' is left out: no column question, context" in result.stderr
    lines = [json.loads(line)["tasks"] for line in out.read_text(encoding="utf-8").splitlines()]
    for found, wanted in zip(lines, wanted_answers(place, questions), strict=True):
        alike(found, {task: wanted[task] for task in ("opening", "tags")})


@pytest.mark.parametrize(
    ("name", "place_in_file"),
    [("in.jsonl", "line 2"), ("in.parquet", "row 2 (the first is 1)")],
)
def test_a_row_that_cannot_be_read_is_named(
    place: Path, tmp_path: Path, name: str, place_in_file: str
) -> None:
    file, rows = tmp_path / name, [{"tokens": ["a"]}, {"tokens": ["a", "b c"]}]
    if name == "in.jsonl":
        write_rows(file, rows)
    else:
        pd.DataFrame(rows).to_parquet(file)
    out = tmp_path / "out.jsonl"
    for where in (run_folder_of(place), place / "bundle"):
        result = call("predict", where, file, "--out", out, "--quiet")
        assert result.exit_code == 1
        assert f"error: {file}, {place_in_file}, column 'tokens'" in result.stderr
        assert "word 2 with a blank in it" in result.stderr
        assert not out.exists()


def test_blank_rows_are_said(place: Path, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "in.jsonl", [{"tokens": []}, {"tokens": ["a"]}])
    result = good("predict", place / "bundle", file, "--out", tmp_path / "out.jsonl")
    assert "1 texts are blank" in " ".join(result.stderr.split())


def test_the_service_answers_from_the_bundle(place: Path, questions: Rows) -> None:
    loaded = BundlePredictor.load(place / "bundle", threads=1)
    settings = ServeSettings(bundle=str(place / "bundle"), deadline=30.0)
    with TestClient(create_app(loaded, settings)) as client:
        answer = client.post("/predict", json={"rows": questions}, params={"truncate": "true"})
        assert answer.status_code == 200, answer.text
        told = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]
    schema = told["200"]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator(schema).validate(answer.json())
    for found, wanted in zip(answer.json()["rows"], wanted_answers(place, questions), strict=True):
        alike(found["tasks"], wanted)


# -- check --------------------------------------------------------------------------------------


def findings_of(result: Result) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads(result.stdout)["findings"]
    return found


def test_check_says_what_the_labels_hold(place: Path) -> None:
    result = good("check", place / "run.yaml", "--json", "--quiet")
    found = findings_of(result)
    notes = {
        task: [one["what"] for one in own if one["severity"] == "note"]
        for task, own in found.items()
    }
    assert not any(one["severity"] == "error" for own in found.values() for one in own)
    assert any(what.startswith("train: 30 rows; ") and "spans: " in what for what in notes["tags"])
    assert any("labels a row, " in what and "praise" in what for what in notes["topics"])
    assert any("rows without an answer, answers of" in what for what in notes["answer"])
    assert not any("lose their end" in what for what in notes["tags"] + notes["answer"])
    assert json.loads(result.stdout)["trial"]["rows_per_second"] > 0


@pytest.fixture
def small(base: Path, tmp_path: Path) -> Callable[..., Path]:
    """A run file of one task of a kind with changed train rows."""

    def write(kind: str, rows: Rows, write: Callable[[Path, Rows], Path] | None = None) -> Path:
        task = toy_task(kind) | {"train": rows}
        return write_run(tmp_path, toy_run(tmp_path / "runs", base, {"task": task}), write)

    return write


def tokens_of(row: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**row, **changes}


FAULTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "too few tags": ("tagging", {"tags": ["O"]}, "1 tags for"),
    "I first": (
        "tagging",
        {"tokens": ["a", "b"], "tags": ["O", "I-good"]},
        "a span begins with B-",
    ),
    "numbers": (
        "tagging",
        {"tokens": ["a", "b"], "tags": [0, 1]},
        "the tags are [0, 1], not a list",
    ),
    "no tags": ("tagging", {"tags": None}, "the tags are None"),
    "blank in a word": ("tagging", {"tokens": ["a b"], "tags": ["O"]}, "word 1 with a blank in it"),
    "empty word": ("tagging", {"tokens": ["a", ""], "tags": ["O", "O"]}, "an empty word 2"),
    "no words": ("tagging", {"tokens": [], "tags": []}, "1 row without text"),
    "twice": ("multilabel", {"labels": ["praise", "praise"]}, "stands in the list twice"),
    "no list": ("multilabel", {"labels": "praise"}, "the labels are 'praise', not a list"),
    "no labels": ("multilabel", {"labels": None}, "an empty list means none"),
    "nested": ("multilabel", {"labels": [["praise"]]}, "the label is a list, not one class"),
    "place": ("span", {"answer_starts": [1]}, "it stands at"),
    "places": ("span", {"answer_starts": []}, "1 answers with 0 places"),
    "text": ("span", {"answers": "good", "answer_starts": 3}, "wanted a list of texts"),
    "no answers": ("span", {"answers": None, "answer_starts": None}, "wanted a list of texts"),
    "empty answer": ("span", {"answers": [""]}, "answer '' is no text"),
    "no passage": ("span", {"context": None}, "1 row without text"),
}


@pytest.mark.parametrize("name", list(FAULTS))
def test_faulty_rows_have_file_and_line(small: Callable[..., Path], name: str) -> None:
    kind, changes, says = FAULTS[name]
    rows: Rows = [dict(row) for row in toy_rows(kind, 16)]
    rows[6] |= changes
    file = small(kind, rows)
    result = call("check", file, "--json", "--quiet")
    assert result.exit_code == 1, result.stderr
    errors = [one for one in findings_of(result)["task"] if one["severity"] == "error"]
    told = [one for one in errors if says in one["what"]]
    assert told, errors
    assert "train.jsonl, line 7" in told[0]["where"]
    assert told[0]["todo"]
    with pytest.raises(DataError, match="train.jsonl, line 7") as refused:
        potstill.run(file)
    assert "--skip-bad-rows 1" in refused.value.todo
    if says != "1 row without text":
        assert says in refused.value.got
    good("check", file, "--skip-bad-rows", 1, "--quiet")


def test_faulty_rows_may_be_left_out(small: Callable[..., Path]) -> None:
    for kind, changes in (
        ("tagging", {"tags": ["O"]}),
        ("multilabel", {"labels": None}),
        ("span", {"answer_starts": [-1]}),
    ):
        rows: Rows = [dict(row) for row in toy_rows(kind, 16)]
        rows[6] |= changes
        run = potstill.config.load_run_file(small(kind, rows))
        task = load_tasks(run, seed=0, skip_bad_rows=1, progress=Progress())["task"]
        assert (len(task.train), task.train.skipped) == (15, 1)
        assert task.train.labels is not None
        assert len(task.train.labels) == 15
        assert 6 not in (task.train.places - 1).tolist()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("multilabel", "csv files hold no lists: use jsonl or parquet"),
        ("span", "wanted a list of texts and a list of numbers"),
    ],
)
def test_lists_from_csv_are_told_as_text(small: Callable[..., Path], kind: str, says: str) -> None:
    def to_csv(path: Path, rows: Rows) -> Path:
        pd.DataFrame(rows).to_csv(path.with_suffix(".csv"), index=False)
        return path.with_suffix(".csv")

    file = small(kind, [dict(row) for row in toy_rows(kind, 16)], to_csv)
    result = call("check", file, "--json", "--quiet")
    assert result.exit_code == 1
    errors = [f["what"] for f in findings_of(result)["task"] if f["severity"] == "error"]
    assert any(says in what for what in errors), errors
    with pytest.raises(DataError) as refused:
        potstill.run(file)
    assert says in refused.value.got


def test_labels_of_dev_that_train_does_not_know(base: Path, tmp_path: Path) -> None:
    tags, topics = toy_task("tagging"), toy_task("multilabel")
    tags["dev"][2] = {"tokens": ["a"], "tags": ["B-odd"]}
    topics["dev"][3]["labels"] = ["prais"]
    file = write_run(tmp_path, toy_run(tmp_path / "runs", base, {"tags": tags, "topics": topics}))
    found = findings_of(call("check", file, "--json", "--quiet"))
    (one,) = [f for f in found["tags"] if f["severity"] == "error"]
    assert "tag 'B-odd' does not occur in train (known types: bad, good)" in one["what"]
    assert "dev.jsonl, line 3" in one["where"]
    (one,) = [f for f in found["topics"] if f["severity"] == "error"]
    assert "nearest: 'praise'" in one["what"]


@pytest.mark.parametrize(
    ("kind", "key", "value", "says"),
    [
        ("span", "context", "question", "two different columns"),
        ("span", "answer_starts", "answers", "two different columns"),
        ("span", "answers", "context", "a column that is not an input"),
        ("tagging", "tags", "tokens", "a column that is not an input"),
        ("tagging", "metric", "f1", "span_f1"),
        ("multilabel", "metric", "accuracy", "micro_f1"),
        ("tagging", "text", "tokens", "tokens"),
        ("multilabel", "classes", [], "classes"),
    ],
)
def test_faulty_keys(
    base: Path, tmp_path: Path, kind: str, key: str, value: object, says: str
) -> None:
    run = with_key(toy_run(tmp_path, base, {"task": toy_task(kind)}), f"tasks.task.{key}", value)
    with pytest.raises(RunFileError) as refused:
        potstill.run(run)
    assert says in str(refused.value)


# -- given teachers -----------------------------------------------------------------------------


def test_scores_of_others_are_tried_first_and_then_taught(base: Path, tmp_path: Path) -> None:
    tags = toy_task("tagging")
    scores = [
        {
            "tokens": row["tokens"],
            "scores": [[5.0 * (name == tag) for name in NAMES] for tag in row["tags"]],
        }
        for split in ("train", "dev", "test")
        for row in tags[split]
    ]
    path = write_rows(tmp_path / "scores.jsonl", scores)
    run = toy_run(tmp_path / "runs", base, {"tags": tags | {"teachers": {"scores": str(path)}}})
    run["evaluate"]["baselines"] = []
    results = potstill.run(run).results
    check_results(results)
    assert results["tasks"]["tags"]["scores"]["ensemble"] == 1.0
    short = [dict(scores[0], scores=[[0.0] * 5]), *scores[1:]]
    for n_scores in (short, [dict(scores[0], scores=[[1.0, 2.0]]), *scores[1:]]):
        write_rows(path, n_scores)
        with pytest.raises(DataError, match="scores.jsonl, line 1"):
            potstill.run(run)


NAMES = ("O", "B-bad", "I-bad", "B-good", "I-good")


def test_models_of_others_teach(base: Path, tmp_path: Path) -> None:
    """A student's own tasks, saved as transformers models, are teachers of the next one."""
    kinds = {"tags": "tagging", "topics": "multilabel", "answer": "unanswerable"}
    tasks = {name: toy_task(kind) for name, kind in kinds.items()}
    run = toy_run(tmp_path / "runs", base, tasks)
    run["evaluate"]["baselines"] = []
    run["teachers"]["members"] = 1
    first = potstill.run(run)
    for name in kinds:
        folder = first.student.save_task(name, tmp_path / name)
        run["tasks"][name]["teachers"] = {"models": [str(folder)]}
    results = potstill.run(run).results
    check_results(results)
    for name in kinds:
        wanted = first.results["tasks"][name]["scores"]["student"]
        assert results["tasks"][name]["scores"]["ensemble"] == pytest.approx(wanted, abs=1e-6)


# -- every choice -------------------------------------------------------------------------------


def small_run(folder: Path, base: Path) -> Keys:
    """Tasks that answer at several places, as small as they can be."""
    kinds = {"tags": "tagging", "topics": "multilabel", "answer": "unanswerable"}
    run = toy_run(folder, base, {name: toy_task(kind) for name, kind in kinds.items()})
    run["training"]["max_tokens"] = 12
    run["evaluate"]["baselines"] = []
    run["teachers"]["training"] = {"epochs": 1}
    return run


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("teachers", {"members": 2, "cross_fit": True}),
        ("teachers", {"nets": 2, "keep": 1, "recipe": "mt-dnn-kd"}),
        ("teachers", {"members": 1, "recipe": "single"}),
        ("student.generations", 2),
        ("student.task_token", True),
        ("student.finetune", True),
        ("distill.objective", "logit_mse"),
        ("distill.objective", "annealed"),
        ("distill.objective", "soft_only"),
        ("distill.temperature", 3.0),
        ("evaluate.baselines", ["single", "multitask"]),
        ("evaluate.match_steps", True),
        ("seed", [0, 1]),
        ("tasks.answer.metric", "exact_match"),
        ("tasks.tags.metric", "accuracy"),
        ("tasks.topics.metric", "macro_f1"),
        ("tasks.topics.classes", ["praise", "blame", "animal", "nothing"]),
        ("tasks.tags.pool", "others"),
    ],
)
def test_every_choice_ends_in_results(base: Path, tmp_path: Path, key: str, value: object) -> None:
    run = with_key(small_run(tmp_path, base), key, value)
    result = potstill.run(run)
    check_results(result.results)
    row: dict[str, Any] = {"tokens": ["good", "film"], "remark": "a good dog"}
    row |= {"question": "good", "context": "a warm film on the road"}
    answers = result.student.predict(row)
    assert set(answers) == {"tags", "topics", "answer"}
    assert len(answers["tags"]["prediction"]) == 2
    assert len(answers["topics"]["scores"]) == (4 if key.endswith("classes") else 3)


@pytest.mark.timeout(240)
def test_workers_know_the_kinds(base: Path, tmp_path: Path) -> None:
    """Run files travel to other processes with the sections that the kinds' keys make."""
    alone = potstill.run(small_run(tmp_path / "alone", base))
    two = potstill.run(small_run(tmp_path / "two", base), jobs=2)
    assert two.results["tasks"] == alone.results["tasks"]
