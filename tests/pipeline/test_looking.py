"""What `check` says of labels before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from potstill.config import load_run_file
from potstill.core.progress import Progress
from potstill.pipeline.looking import look
from potstill.tasks.findings import Finding
from tests.pipeline.toy_runs import Keys, toy_run, toy_task, write_run


def found(task: Keys, base: Path, folder: Path) -> list[Finding]:
    """What is found in a task; a second one is faulty, so that nothing is tried."""
    stop = toy_task()
    stop["train"][0]["label"] = None
    run = toy_run(folder / "runs", base, {"task": task, "stop": stop})
    looked = look(load_run_file(write_run(folder, run)), Progress(quiet=True))
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
