"""What `check` says of labels before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import potstill
from potstill.config import load_run_file, parse_run
from potstill.core.progress import Progress
from potstill.pipeline import estimate
from potstill.pipeline.estimate import base_parameters
from potstill.pipeline.loading import doubts_of, load_tasks
from potstill.pipeline.look import Look
from potstill.pipeline.looking import look
from potstill.tasks.findings import Finding
from potstill.tasks.task import Task
from potstill.training.prepare import train_network
from tests.pipeline.toy_runs import Keys, toy_run, toy_task, with_key, write_run
from tests.toys import make_base, write_rows


def found(task: Keys, base: Path, folder: Path, skip_bad_rows: int = 0) -> list[Finding]:
    """What is found in a task; a second one has one class, so that nothing is tried."""
    stop = toy_task()
    for row in stop["train"]:
        row["label"] = "good"
    run = toy_run(folder / "runs", base, {"task": task, "stop": stop})
    file = load_run_file(write_run(folder, run))
    looked = look(file, Progress(quiet=True), skip_bad_rows=skip_bad_rows)
    assert looked.trial is None
    return looked.findings["task"]


def only(findings: list[Finding], severity: str) -> Finding:
    (finding,) = [finding for finding in findings if finding.severity == severity]
    return finding


def set_labels(task: Keys, column: str, value: Any, row: int | None = None) -> None:
    for i, each in enumerate(task["train"]):
        if row is None or i == row:
            each[column] = value


@pytest.mark.parametrize(
    ("kind", "column", "value", "what"),
    [
        ("multilabel", "labels", "praise", "the labels are 'praise', not a list"),
        ("multilabel", "labels", [], "name no label at all"),
        ("multilabel", "labels", ["praise"], "all training rows have the same labels, praise"),
        ("tagging", "tags", None, "all are 'O'"),
        ("span", "answers", [], "no training row has an answer"),
    ],
)
def test_a_column_without_a_task_is_named_with_file_and_row(
    base: Path, tmp_path: Path, kind: str, column: str, value: Any, what: str
) -> None:
    task = toy_task(kind)
    for row in task["train"]:
        row[column] = ["O"] * len(row["tokens"]) if kind == "tagging" else value
        if kind == "span":
            row["answer_starts"] = []
    error = only(found(task, base, tmp_path), "error")
    assert what in error.what
    assert f"column '{column}" in error.what
    assert "of train" in error.what
    assert "(16 rows)" in error.what
    assert error.where is not None
    assert error.where.endswith("train.jsonl, line 1")


@pytest.mark.parametrize("kind", ["classification", "multilabel", "tagging"])
def test_classes_that_differ_in_case_only(base: Path, tmp_path: Path, kind: str) -> None:
    task = toy_task(kind)
    if kind == "classification":
        task["train"][5]["label"] = task["train"][5]["label"].upper()
    elif kind == "multilabel":
        i = next(i for i, row in enumerate(task["train"]) if row["labels"])
        task["train"][i]["labels"][0] = task["train"][i]["labels"][0].upper()
    else:
        i = next(i for i, row in enumerate(task["train"]) if set(row["tags"]) != {"O"})
        upper = [tag[:2] + tag[2:].swapcase() for tag in task["train"][i]["tags"]]
        task["train"][i]["tags"] = upper
    warnings = [f for f in found(task, base, tmp_path) if f.severity == "warning"]
    alike = next(f for f in warnings if "differ in case or blanks only" in f.what)
    assert "(1)" in alike.what
    assert alike.where is not None
    assert "train.jsonl, line" in alike.where


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_split_of_one_value_has_no_correlation(base: Path, tmp_path: Path, split: str) -> None:
    task = toy_task("regression") | {"range": [-1, 5]}
    for row in task[split]:
        row["score"] = -1.0
    error = only(found(task, base, tmp_path), "error")
    assert error.what == f"{split}: all 8 rows have the value -1"
    assert error.where is not None
    assert error.where.endswith(f"{split}.jsonl, line 1")


def test_a_run_says_that_a_split_has_one_value(base: Path, tmp_path: Path) -> None:
    run = toy_run(tmp_path / "runs", base, {"task": toy_task("regression") | {"range": [-1, 5]}})
    for row in run["tasks"]["task"]["test"]:
        row["score"] = 2.0
    (task,) = load_tasks(parse_run(run), seed=0, skip_bad_rows=0, progress=Progress()).values()
    (doubt,) = doubts_of(task)
    assert doubt.startswith("test: all 8 rows have the value 2")


def test_an_answer_inside_a_word(base: Path, tmp_path: Path) -> None:
    task = toy_task("span")
    row = next(row for row in task["train"] if len(row["answers"][0]) > 3)
    row["answers"] = [text[1:] for text in row["answers"]]
    row["answer_starts"] = [start + 1 for start in row["answer_starts"]]
    warning = only(found(task, base, tmp_path), "warning")
    assert warning.what.startswith("train: 1 row with an answer that starts or ends inside a word")
    assert repr(row["answers"][0]) in warning.what
    assert warning.where is not None
    assert warning.where.endswith(f"line {task['train'].index(row) + 1}")


@pytest.mark.parametrize(
    ("kind", "text", "label"), [("regression", "text", "score"), ("tagging", "tokens", "tags")]
)
def test_rows_that_a_run_skips_are_warnings(
    base: Path, tmp_path: Path, kind: str, text: str, label: str
) -> None:
    task = toy_task(kind)
    task["train"][2][text] = ""
    task["train"][3][label] = None
    for allowed in (0, 1, 2):
        findings = found(task, base, tmp_path / str(allowed), allowed)
        rows = [f for f in findings if f.where and f.where.endswith((", line 3", ", line 4"))]
        assert {f.severity for f in rows} == {"warning" if allowed == 2 else "error"}
        assert all(f.todo.startswith("left out; ") == (allowed == 2) for f in rows)
        assert len({f.where for f in rows}) == 2


def test_a_file_in_another_encoding_is_to_be_saved_anew(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    rows = "".join(f"ein schöner Tag {i},{('good', 'bad')[i % 2]}\n" for i in range(6))
    file.write_bytes(f"text,label\nplain,good\n{rows}".encode("cp1252"))
    task = {**toy_task(), "train": str(file)}
    refused = [f for f in found(task, base, tmp_path) if "faulty row" in f.what]
    assert refused[0].severity == "error"
    assert refused[0].todo.startswith("save the file as UTF-8, or leave them out with --skip-bad")
    # Left out they are a warning, and what is left over has one class: that is the error now.
    skipped = found(task, base, tmp_path, skip_bad_rows=6)
    only([f for f in skipped if "faulty row" in f.what], "warning")
    assert "'good'" in only(skipped, "error").what


def looked_at(run: Keys, folder: Path) -> Look:
    return look(load_run_file(write_run(folder, run)), Progress(quiet=True))


def test_an_output_that_cannot_be_made_is_an_error(base: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    seen = looked_at(toy_run(tmp_path / "taken" / "runs", base), tmp_path)
    assert seen.n_errors == 1
    assert "nothing can be written" in seen.findings["run"][0].what
    assert seen.trial is None


def test_a_task_may_be_called_run(base: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    run = toy_run(tmp_path / "taken" / "runs", base, {"run": toy_task()})
    run["tasks"]["run"]["train"][2]["text"] = 5
    errors = [f.what for f in looked_at(run, tmp_path).findings["run"] if f.severity == "error"]
    assert len(errors) == 2
    assert any("nothing can be written" in what for what in errors)


def test_a_limit_beyond_the_base_is_named_as_it_is(
    base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = toy_run(tmp_path / "runs", base)
    limit = json.loads((base / "config.json").read_text())["max_position_embeddings"]
    for row in run["tasks"]["mood"]["train"][::2]:
        row["text"] += " good day" * limit
    run["training"]["max_tokens"] = 10 * limit
    seen = looked_at(run, tmp_path)
    assert seen.trial is not None
    assert seen.trial.max_tokens == limit
    (cut,) = [f for f in seen.findings["mood"] if "lose their end" in f.what]
    assert f"longer than {limit} tokens" in cut.what
    assert "base that reads longer ones" in cut.todo
    said = f"reads {limit} tokens, not `max_tokens: {10 * limit}`"
    assert said in only(seen.findings["run"], "warning").what
    potstill.run(run)
    assert said in " ".join(capfd.readouterr().err.split())


def test_how_many_rows_are_learned_from_is_said(base: Path, tmp_path: Path) -> None:
    run = toy_run(tmp_path / "runs", base)
    run["tasks"]["mood"]["rows"], run["tasks"]["stars"]["rows"] = 5, 5000
    notes = {name: [f.what for f in fs] for name, fs in looked_at(run, tmp_path).findings.items()}
    assert "train: 5 rows are learned from (`rows: 5`)" in notes["mood"]
    assert "train: 16 rows are learned from (`rows: 5000`): there are no more" in (notes["stars"])


def test_faulty_rows_are_counted_as_a_run_counts_them(base: Path, tmp_path: Path) -> None:
    task = toy_task()
    task["dev"][1] |= {"text": " ", "label": None}  # a row counts once
    task["dev"][5]["label"] = "god"

    def write(path: Path, rows: list[Keys]) -> Path:
        write_rows(path, rows)
        if path.name == "dev.jsonl":
            path.write_text(path.read_text(encoding="utf-8") + '{"text": "cut', encoding="utf-8")
        return path

    run = toy_run(tmp_path / "runs", base, {"task": task})
    file = load_run_file(write_run(tmp_path, run, write))
    for allowed in (0, 2):
        few = look(file, Progress(), skip_bad_rows=allowed).findings["task"]
        (bad,) = [f for f in few if "faulty row" in f.what]
        assert bad.todo == "mend the rows, or leave them out with --skip-bad-rows 3"
        assert bad.severity == "error"
    enough = look(file, Progress(), skip_bad_rows=3)
    assert enough.n_errors == 0
    assert enough.cost is not None
    warnings = [f.todo for f in enough.findings["task"] if f.severity == "warning"]
    assert sum(todo.startswith("left out; ") for todo in warnings) == 3


def test_what_only_a_skipped_row_holds_is_not_learned(base: Path, tmp_path: Path) -> None:
    task = toy_task()
    task["train"][4] |= {"text": None, "label": "other"}
    task["dev"][0]["label"] = "other"
    warnings = [f.what for f in found(task, base, tmp_path, 1) if f.severity == "warning"]
    assert any("label 'other' is none of the classes" in what for what in warnings)


def test_one_label_in_another_order_is_the_same_label(base: Path, tmp_path: Path) -> None:
    task = toy_task("multilabel")
    several = next(row for row in task["train"] if len(row["labels"]) > 1)
    copy = {**several, "labels": several["labels"][::-1]}
    task["train"].append(copy)
    warnings = [f.what for f in found(task, base, tmp_path) if f.severity == "warning"]
    assert any("with the inputs of an earlier row" in what for what in warnings)
    assert not any("different labels" in what for what in warnings)
    copy["labels"] = several["labels"][:1]
    warnings = [f.what for f in found(task, base, tmp_path / "2") if f.severity == "warning"]
    assert any("1 input has rows of different labels" in what for what in warnings)


def test_teachers_of_another_base_are_timed_on_their_own(base: Path, tmp_path: Path) -> None:
    large = make_base(tmp_path / "large", width=256, layers=8)
    run = toy_run(tmp_path / "runs", base)
    run.pop("base")
    run["student"] = {"base": str(base)}
    run["teachers"] |= {"base": str(large)}
    looked = look(load_run_file(write_run(tmp_path, run)), Progress(quiet=True))
    assert looked.trial is not None
    assert looked.cost is not None
    # Nothing looks at the bundled base, which is named nowhere.
    weights = [sum(f.stat().st_size for f in p.glob("*.safetensors")) for p in (base, large)]
    assert weights[1] > 2 * weights[0]
    assert base_parameters(load_run_file(tmp_path / "run.yaml")) == weights[1] // 4
    assert looked.trial.teacher_rows_per_second < looked.trial.rows_per_second
    assert 0 < looked.cost.teacher_rows < looked.cost.rows
    by_hand = (looked.cost.rows - looked.cost.teacher_rows) / looked.trial.rows_per_second
    by_hand += looked.cost.teacher_rows / looked.trial.teacher_rows_per_second
    assert looked.seconds == pytest.approx(by_hand)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"teachers.pooling": None},  # the first teacher is the multi-task baseline
        {"teachers.pooling": None, "student.layers": 1},
        {"tasks.mood.teachers": False},
        {"tasks.mood.teachers": False, "tasks.stars.teachers": False},
        {
            "tasks.mood.teachers": False,
            "tasks.stars.teachers": False,
            "evaluate.baselines": ["single"],
        },
        {"student.generations": 2, "student.finetune": True},
        {"tasks": {"mood": toy_task()}},
    ],
)
def test_networks_are_counted_as_they_are_made(
    base: Path, tmp_path: Path, keys: Mapping[str, Any]
) -> None:
    run = toy_run(tmp_path / "runs", base)
    for key, value in keys.items():
        run = with_key(run, key, value)
    looked = look(load_run_file(write_run(tmp_path, run)), Progress(quiet=True))
    potstill.run(tmp_path / "run.yaml")
    made = [
        stage
        for stage in (tmp_path / "runs" / "stages").iterdir()
        if stage.name.startswith(("network-", "student-")) and stage.is_dir()
    ]
    assert looked.cost is not None
    assert looked.cost.n_networks == len(made)


@pytest.mark.parametrize(("seconds", "rows"), [(1e-6, 32), (1e6, 60)])
def test_slow_networks_try_fewer_rows(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, rows: int
) -> None:
    tried: list[int] = []

    def watched(folder: Path, few: Sequence[Task], *args: Any, **keys: Any) -> None:
        tried.append(sum(len(task.train) for task in few))
        train_network(folder, few, *args, **keys)

    monkeypatch.setattr(estimate, "train_network", watched)
    monkeypatch.setattr(estimate, "_TRIAL_SECONDS", seconds)
    run = toy_run(tmp_path / "runs", base, {"mood": toy_task("classification", train=60)})
    looked = look(load_run_file(write_run(tmp_path, run)), Progress(quiet=True))
    assert tried == [32, rows]
    assert looked.trial is not None
    assert looked.trial.rows_per_second > 0
