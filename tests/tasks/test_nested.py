"""Answers and places in one column: the same task as with a column each, whatever the source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from potstill.core.errors import DataError
from potstill.tasks.load import load_task
from potstill.tasks.nested import is_nest
from potstill.tasks.sources import Source, read_labelled
from potstill.tasks.task import Task
from tests.toys import toy_rows, write_rows

Rows = list[dict[str, Any]]
FLAT: Rows = [dict(row) for row in toy_rows("unanswerable", 16)]
NESTED: Rows = [
    {
        "question": row["question"],
        "context": row["context"],
        "answers": {"text": row["answers"], "answer_start": row["answer_starts"]},
    }
    for row in FLAT
]
LISTED: Rows = [
    row
    | {
        "answers": [
            {"text": text, "answer_start": start}
            for text, start in zip(*row["answers"].values(), strict=True)
        ]
    }
    for row in NESTED
]


def load(source: Source, skip: int = 0) -> Task:
    return load_task(
        "where",
        kind="span",
        columns=("question", "context"),
        label=("answers", "answer_starts"),
        options={},
        metric=None,
        train=source,
        dev=FLAT[:4],
        test=None,
        pool=[],
        rows=None,
        seed=0,
        skip_bad_rows=skip,
    )


def parquet(path: Path, rows: Rows) -> Source:
    file = path.with_suffix(".parquet")
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


SOURCES: dict[str, Callable[[Path, Rows], Source]] = {
    "jsonl": write_rows,
    "parquet": parquet,
    "pandas of parquet": lambda path, rows: pd.read_parquet(parquet(path, rows)),
    "arrow": lambda _, rows: pa.Table.from_pylist(rows),
    "pandas": lambda _, rows: pd.DataFrame(rows),
    "list": lambda _, rows: rows,
}


@pytest.mark.parametrize("source", list(SOURCES))
@pytest.mark.parametrize("rows", [NESTED, LISTED])
def test_one_column_makes_the_task_of_two(tmp_path: Path, source: str, rows: Rows) -> None:
    found, wanted = load(SOURCES[source](tmp_path / "train.jsonl", rows)), load(FLAT)
    assert found.kind == wanted.kind
    assert found.train.digest == wanted.train.digest


def test_a_column_of_its_own_is_stronger(tmp_path: Path) -> None:
    rows = [row | {"answer_starts": []} for row in NESTED]
    with pytest.raises(DataError, match="wanted a list of texts and a list of numbers"):
        load(write_rows(tmp_path / "train.jsonl", rows))


def test_flat_answers_without_places_lack_a_column(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "answer_starts"} for row in FLAT]
    with pytest.raises(DataError, match="column 'answer_starts'") as refused:
        load(write_rows(tmp_path / "train.jsonl", rows))
    assert "{'text': […], 'answer_start': […]}" in refused.value.wanted
    assert refused.value.todo.startswith("add the column to the data")


def test_a_first_row_without_places_can_be_left_out(tmp_path: Path) -> None:
    """What columns there are is read of the first object."""
    rows = [{k: v for k, v in FLAT[0].items() if k != "answer_starts"}, *FLAT[1:]]
    file = write_rows(tmp_path / "train.jsonl", rows)
    read = read_labelled(
        file,
        inputs=["question", "context"],
        labels=["answers", "answer_starts"],
        nested=["text", "answer_start"],
        what="train",
        skip_bad_rows=1,
    )
    assert (read.n_rows, len(read.skipped)) == (len(FLAT) - 1, 1)


@pytest.mark.parametrize("value", [{"text": ["a"]}, None, [{"text": "a"}], {"text": "a"}])
def test_a_row_without_places_is_a_faulty_row(tmp_path: Path, value: object) -> None:
    rows = [dict(row) for row in NESTED]
    rows[6]["answers"] = value
    with pytest.raises(DataError, match="line 7") as refused:
        load(write_rows(tmp_path / "train.jsonl", rows))
    assert "answer_start: [...]}" in refused.value.got


def test_a_faulty_first_line_may_be_left_out(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "train.jsonl", NESTED)
    file.write_text("{\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(DataError, match="line 1") as refused:
        load(file)
    assert "--skip-bad-rows" in refused.value.todo
    assert len(load(file, skip=1).train) == len(NESTED)


def test_what_is_a_nest() -> None:
    names = ("text", "answer_start")
    assert is_nest([None, {"text": [], "answer_start": []}], names)
    assert is_nest([[{"text": "a", "answer_start": 0}], []], names)
    assert not is_nest([{"text": []}], names)
    assert not is_nest([["a"]], names)
    assert not is_nest([None, []], names)


@pytest.mark.parametrize("source", ["jsonl", "list"])
def test_a_first_row_without_answers_is_a_row_at_fault(tmp_path: Path, source: str) -> None:
    rows: Rows = [{"question": "who?", "context": "a"}, *NESTED]
    with pytest.raises(DataError, match="column 'answers'"):
        load(SOURCES[source](tmp_path / "a.jsonl", rows))
    assert load(SOURCES[source](tmp_path / "b.jsonl", rows), skip=1).train.ids.shape[0] == len(
        NESTED
    )


def test_no_answer_at_all_is_a_nest_too(tmp_path: Path) -> None:
    rows = read_labelled(
        write_rows(tmp_path / "dev.jsonl", [row | {"answers": []} for row in LISTED]),
        inputs=["question"],
        labels=["answers", "answer_starts"],
        nested=["text", "answer_start"],
        what="",
    )
    assert rows.columns["answers"] == rows.columns["answer_starts"] == [[]] * len(LISTED)


@pytest.mark.parametrize("answers", [{"texts": ["a"], "starts": [0]}, {}])
def test_a_value_with_other_names_is_quoted(answers: object) -> None:
    rows = [NESTED[0] | {"answers": answers}, *NESTED[1:]]
    with pytest.raises(DataError) as caught:
        load(rows)
    assert repr(answers)[:40] in str(caught.value)
    assert "`{text: [...], answer_start: [...]}`" in str(caught.value)
