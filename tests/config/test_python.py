"""Runs that are given in Python, with rows in memory; and what the package must not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from potstill.config import GivenScores, Training, parse_run, show
from potstill.core.errors import RunFileError

ROWS = [{"text": "good", "label": 1}, {"text": "bad", "label": 0}]


def run_of(**task: object) -> dict[str, Any]:
    facts = {"kind": "classification", "train": ROWS, "text": "text", **task}
    return {"tasks": {"mood": facts}}


@pytest.mark.parametrize("rows", [ROWS, pa.Table.from_pylist(ROWS), pd.DataFrame(ROWS)])
def test_rows_pass_untouched(rows: object) -> None:
    run = parse_run(
        run_of(train=rows, dev=rows, test=rows, pool=rows, teachers={"scores": rows, "key": "text"})
        | {"distill": {"pool": [rows, "pool.csv"]}},
        folder="/data",
    )
    task = run.tasks["mood"]
    assert task.train is rows
    assert task.dev is rows
    assert task.test is rows
    assert task.pool
    assert task.pool[0] is rows
    assert isinstance(task.teachers, GivenScores)
    assert task.teachers.scores is rows
    pool = run.distill.pool or ()
    assert pool[0] is rows
    assert pool[1] == Path("/data/pool.csv")
    again = parse_run(run.dump())
    assert again.tasks["mood"].train is rows
    assert again.dump().keys() == run.dump().keys()
    record = run.record()
    assert json.loads(json.dumps(record)) == record
    assert record["tasks"]["mood"]["train"] == "<rows given in Python>"
    assert record["distill"]["pool"] == ["<rows given in Python>", "/data/pool.csv"]
    assert "<rows given in Python>" in show(run)


def test_empty_rows_as_pool_are_refused() -> None:
    with pytest.raises(RunFileError, match="a list of these, or false"):
        parse_run(run_of(pool=[]))


def test_paths_and_defaults(tmp_path: Path) -> None:
    run = parse_run(run_of(train="a.csv", dev=Path("b.csv")) | {"base": Path("x")}, folder=tmp_path)
    task = run.tasks["mood"]
    assert (task.train, task.dev) == (tmp_path / "a.csv", tmp_path / "b.csv")
    assert (run.name, run.output) == ("run", tmp_path / "runs")
    assert run.base == str(tmp_path / "x")


def test_tuples_and_other_mappings_will_do() -> None:
    run = parse_run(
        MappingProxyType(
            {
                "tasks": MappingProxyType({"mood": MappingProxyType(run_of()["tasks"]["mood"])}),
                "seed": (0, 1),
                "teachers": MappingProxyType({"tasks": ("mood",)}),
                "training": Training(epochs=7),
                "student": {"training": Training(batch=8)},
            }
        )
    )
    assert run.seeds == (0, 1)
    assert run.trained_tasks == ("mood",)
    assert (run.student.training.epochs, run.student.training.batch) == (7, 8)


@pytest.mark.parametrize(
    "rows",
    [None, 3, b"x", {"text": ["a"]}, True, pd.Series(["a"]), np.array(["a"]), iter([])],
)
def test_what_is_no_data(rows: object) -> None:
    with pytest.raises(RunFileError) as caught:
        parse_run(run_of(train=rows))
    said = str(caught.value)
    assert "the run given in Python, key 'tasks.mood.train'" in said
    assert "a list of dicts, an Arrow table or a DataFrame" in said


def test_all_faults_at_once() -> None:
    bad: dict[Any, Any] = run_of(txt="a", rows=pd.DataFrame(ROWS)) | {"sed": 1, 3: 4}
    with pytest.raises(RunFileError) as caught:
        parse_run(bad)
    said = str(caught.value)
    assert "4 faults" in said
    assert "an object of type DataFrame" in said
    assert "key 'tasks.mood.txt'" in said
    assert "key '3'" in said


def test_a_run_is_a_mapping() -> None:
    with pytest.raises(TypeError):
        parse_run([("tasks", {})])  # type: ignore[arg-type]


def test_it_starts_without_the_heavy_packages() -> None:
    code = (
        "import sys, potstill.config; "
        "print([m for m in ('torch', 'transformers', 'pandas', 'pyarrow')"
        " if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
