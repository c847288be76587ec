"""What the student could not learn from is said before its teachers are trained."""

from __future__ import annotations

from pathlib import Path

import pytest

import potstill
from potstill.config import load_run_file
from potstill.core.errors import DataError
from potstill.core.progress import Progress
from potstill.pipeline.looking import look
from tests.pipeline.toy_runs import Keys, toy_run, toy_task, write_run


def long_passage() -> tuple[Keys, str, str]:
    task = toy_task("span")
    pool = [{"question": "cat", "context": "a good day"} for _ in range(40)]
    pool[25]["context"] = "a very bad day " * 400  # 1,600 words; windows of 16 - overlap tokens
    return task | {"pool": pool}, "line 26", "windows of 16 tokens"


def long_list() -> tuple[Keys, str, str]:
    task = toy_task("ranking")
    lists = [("short", 40, "good"), ("long", 5000, "good day " * 20), ("last", 3, "bad")]
    pool = [{"query": q, "candidate": f"{text} {i}"} for q, n, text in lists for i in range(n)]
    return task | {"pool": pool}, "line 41", "a list of 5,000 candidates of up to 16 tokens"


def no_fold() -> tuple[Keys, str, str]:
    task = toy_task("span")
    for row in task["train"]:  # the questions on one passage stay together
        row.update(task["train"][0])
        row["question"] = f"{row['question']} {id(row)}"
    return task, "'words', train", "all rows in fold"


@pytest.mark.parametrize("faulty", [long_passage, long_list, no_fold])
def test_it_is_refused_before_anything_is_trained(
    base: Path, tmp_path: Path, faulty: object
) -> None:
    task, place, what = faulty()  # type: ignore[operator]
    run = toy_run(tmp_path / "runs", base, {"words": task})
    run["training"]["max_tokens"] = 16
    run["teachers"]["cross_fit"] = faulty is no_fold
    file = write_run(tmp_path, run)
    with pytest.raises(DataError) as refused:
        potstill.run(file, quiet=True)
    assert place in refused.value.thing
    assert what in refused.value.got
    assert not (tmp_path / "runs" / "stages").exists()
    (found,) = look(load_run_file(file), Progress(quiet=True)).findings["run"]
    assert found.severity == "error"
    assert place in found.what
    assert what in found.what
