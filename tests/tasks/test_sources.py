"""Rows in: every format round trips, and every fault names its file, line, column and reason."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import os
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from potstill.core.errors import DataError
from potstill.tasks import lines
from potstill.tasks.sources import PYTHON_SOURCE, Rows, column_names, read_rows
from potstill.tasks.stream import read_head, stream_rows

TEXT_SUFFIXES = [".csv", ".tsv", ".jsonl", ".ndjson"]
ALL_SUFFIXES = [".parquet", *TEXT_SUFFIXES, *(s + ".gz" for s in TEXT_SUFFIXES)]


def save(path: Path, data: bytes | str) -> Path:
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write(path: Path, columns: dict[str, list[str]]) -> Path:
    """A table of strings in the format that the name says, by an independent writer."""
    rows = list(zip(*columns.values(), strict=True))
    suffix = path.name.removesuffix(".gz").rpartition(".")[2]
    if suffix == "parquet":
        pq.write_table(pa.table(columns), path)
        return path
    if suffix in ("jsonl", "ndjson"):
        objects = (dict(zip(columns, row, strict=True)) for row in rows)
        return save(path, "".join(json.dumps(row) + "\n" for row in objects))
    with tempfile.TemporaryFile("w+", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t" if suffix == "tsv" else ",").writerows([columns, *rows])
        file.seek(0)
        return save(path, file.read())


def read(path: Path, *columns: str, skip: int = 0) -> Rows:
    return read_rows(path, columns=columns or ("text", "label"), what="rte", skip_bad_rows=skip)


def fault(action: Callable[[], object]) -> DataError:
    with pytest.raises(DataError) as caught:
        action()
    return caught.value


def streamed(path: Path, chunk_rows: int = 3) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {name: [] for name in column_names(path)}
    for places, chunk in stream_rows(path, chunk_rows=chunk_rows):
        assert len(places) == len(next(iter(chunk.values())))
        for name, values in chunk.items():
            assert 0 < len(values) <= chunk_rows
            columns[name] += values
    return columns


# -- round trips ----------------------------------------------------------------------------------

whole_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
tricky_text = st.text("\",\t a'é😀\u2028\x0b\x85\x1c", max_size=6)
line_text = st.one_of(whole_text, tricky_text).map(lambda s: s.replace("\r", "").replace("\n", ""))
quoted_text = st.one_of(whole_text, st.text('"\n\r, a', max_size=6))


def tables(texts: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, list[str]]]:
    pairs = st.lists(st.tuples(texts, texts), min_size=1, max_size=8)
    return pairs.map(lambda rows: {"text": [a for a, _ in rows], "label": [b for _, b in rows]})


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_rows_round_trip_through_every_format(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    texts = line_text if ".tsv" in suffix else quoted_text
    table = data.draw(tables(texts))
    path = write(tmp_path_factory.mktemp("t") / f"rows{suffix}", table)
    rows = read(path)
    assert rows.columns == table
    assert rows.n_rows == len(table["text"])
    assert not rows.skipped
    assert rows.places.dtype == np.int64
    assert np.all(np.diff(rows.places) >= 1)
    assert streamed(path) == table


@settings(max_examples=60, deadline=None)
@given(table=tables(quoted_text), block=st.integers(1, 40))
@example(table={"text": ["a" * 50, "b"], "label": ["1", "2"]}, block=7)
def test_block_borders_change_nothing(table: dict[str, list[str]], block: int) -> None:
    before = lines.BLOCK_BYTES
    lines.BLOCK_BYTES = block
    try:
        with tempfile.TemporaryDirectory() as folder:
            for suffix in (".csv", ".jsonl"):
                path = write(Path(folder) / f"t{suffix}", table)
                assert read(path).columns == table
                damaged = path.read_bytes() + b"\xff\n"
                path.write_bytes(damaged)
                error = fault(lambda path=path: read(path))  # type: ignore[misc]
                n_lines = damaged.count(b"\n")
                assert f"line {n_lines}" in error.thing
                assert f"byte offset {len(damaged) - 2}" in error.got
    finally:
        lines.BLOCK_BYTES = before


def test_json_and_parquet_keep_types(tmp_path: Path) -> None:
    values: list[object] = [1, 2.5, None, True, ["a", "b"], "x"]
    path = save(tmp_path / "a.jsonl", "".join(json.dumps({"v": v}) + "\n" for v in values))
    assert read(path, "v").columns["v"] == values
    pq.write_table(
        pa.table({"v": [1, None, 3], "w": [0.5, float("nan"), None]}), tmp_path / "a.parquet"
    )
    rows = read(tmp_path / "a.parquet", "w", "v")
    assert list(rows.columns) == ["w", "v"]
    assert rows.columns["v"] == [1, None, 3]
    assert rows.columns["w"][2] is None
    assert np.isnan(rows.columns["w"][1])  # type: ignore[call-overload]


# -- places ---------------------------------------------------------------------------------------


def test_places_are_the_lines_where_records_start(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", 'text,label\r\n"one\r\ntwo",1\r\n\r\nthree,2\r\n')
    rows = read(path)
    assert rows.places.tolist() == [2, 5]
    assert rows.columns["text"] == ["one\r\ntwo", "three"]
    assert rows.where(1) == f"{path}, line 5"
    path = save(tmp_path / "a.jsonl", '{"text": 1}\n\n{"text": 2}')
    assert read(path, "text").places.tolist() == [1, 3]


def test_parquet_places_are_rows_from_1(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"text": ["a", "b"]})
    assert read(path, "text").where(1) == f"{path}, row 2"


def test_python_places_are_indices_from_0() -> None:
    rows = read_rows([{"text": "a"}, {"text": "b"}], columns=["text"], what="t")
    assert rows.where(1) == f"{PYTHON_SOURCE}, row 1"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_byte_order_mark_is_no_text(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", {"text": ["x"], "label": ["1"]})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(path).columns == {"text": ["x"], "label": ["1"]}
    assert column_names(path) == ["text", "label"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_crlf_and_a_missing_last_line_end(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", {"text": ["x", "y"], "label": ["1", "2"]})
    unix = path.read_bytes().replace(b"\r\n", b"\n")
    for data in (unix, unix.replace(b"\n", b"\r\n"), unix.rstrip(b"\n"), unix + b"\n\n"):
        assert read(save(path, data)).columns == {"text": ["x", "y"], "label": ["1", "2"]}


# -- faults of rows -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz"])
def test_bad_utf8_names_line_column_and_byte(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", b"text,label\nok,1\nb\xc3(d,2\n".replace(
        b",", b"\t" if "tsv" in suffix else b","))  # fmt: skip
    error = fault(lambda: read(path))
    assert error.thing == f"rte: {path}, line 3, column 'text'"
    assert "byte 0xc3 at byte offset 17" in error.got
    assert "--skip-bad-rows" in error.todo
    rows = read(path, skip=1)
    assert rows.columns["text"] == ["ok"]
    assert [(b.place, b.column) for b in rows.skipped] == [(3, "text")]


def test_bad_utf8_inside_a_quoted_row_keeps_the_rows_after_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", b'text,label\n"a\n\xff\nb",1\nok,2\n')
    rows = read(path, skip=3)
    assert rows.columns == {"text": ["ok"], "label": ["2"]}
    assert rows.skipped[0].place == 2
    assert "line 3: not UTF-8" in rows.skipped[0].reason
    assert rows.places.tolist() == [5]


def test_bad_utf8_in_jsonl(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n')
    error = fault(lambda: read(path, "text"))
    assert error.thing.endswith(", line 2")
    assert "byte offset 24" in error.got


def test_bad_utf8_in_parquet(tmp_path: Path) -> None:
    offsets = pa.py_buffer(np.array([0, 2, 4], np.int32))
    bad = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"ab\xff\xfe"))
    table = pa.table({"text": bad, "label": ["1", "2"]})
    pq.write_table(table, tmp_path / "a.parquet")
    error = fault(lambda: read(tmp_path / "a.parquet"))
    assert error.thing.endswith("row 2, column 'text'")
    assert "byte 0xff at byte offset 0 of the value" in error.got
    assert read(tmp_path / "a.parquet", skip=1).columns == {"text": ["ab"], "label": ["1"]}
    assert read_rows(table, columns=["text"], what="", skip_bad_rows=1).columns == {"text": ["ab"]}


@pytest.mark.parametrize(("suffix", "comma"), [(".csv", ","), (".tsv", "\t")])
def test_nul_bytes(tmp_path: Path, suffix: str, comma: str) -> None:
    path = save(tmp_path / f"a{suffix}", f"text{comma}label\nok{comma}1\nx\0y{comma}2\n")
    error = fault(lambda: read(path))
    assert error.thing.endswith("line 3, column 'text'")
    assert "NUL byte at byte offset 17" in error.got


def test_nul_in_jsonl(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", '{"text": "a\0"}\n')
    assert "NUL byte at byte offset 11" in fault(lambda: read(path, "text")).got


@pytest.mark.parametrize(("suffix", "comma"), [(".csv", ","), (".tsv", "\t")])
def test_ragged_rows(tmp_path: Path, suffix: str, comma: str) -> None:
    path = save(tmp_path / f"a{suffix}", f"text{comma}label\na\nb{comma}1{comma}2\nc{comma}3\n")
    error = fault(lambda: read(path))
    assert error.thing == f"rte: {path}, line 2"
    assert error.got == "1 field, wanted 2"
    rows = read(path, skip=2)
    assert [b.reason for b in rows.skipped] == ["1 field, wanted 2", "3 fields, wanted 2"]
    assert rows.places.tolist() == [4]


def test_a_ragged_row_of_many_lines_counts_each_line(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", 'text,label\n"a,1\nb,2\nc",3,4\nd,5\n')
    error = fault(lambda: read(path, skip=2))
    assert "3 faulty rows or more" in error.got
    rows = read(path, skip=3)
    assert [b.place for b in rows.skipped] == [2, 3, 4]
    assert "runs to line 4" in rows.skipped[0].reason
    assert rows.columns["label"] == ["5"]


def test_text_after_a_closing_quote(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", 'text,label\n"a" b,1\nc,2\n')
    error = fault(lambda: read(path))
    assert error.thing.endswith("line 2")
    assert "text after a closing quote" in error.got
    assert read(path, skip=1).columns["text"] == ["c"]


def test_a_blank_before_a_quote_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", 'label,text\n1, "a, b"\n2,"c, d"\n')
    assert "a blank stands before a quote" in fault(lambda: read(path)).got


def test_a_pipe_is_no_missing_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    error = fault(lambda: read(tmp_path / "a.csv"))
    assert "a pipe" in error.got
    assert "read more than once" in error.todo
    loop = tmp_path / "b.csv"
    loop.symlink_to(loop)
    assert fault(lambda: read(loop)).got == "no such file"


def test_rows_of_python_that_are_gone(tmp_path: Path) -> None:
    assert "from Python again" in fault(lambda: read(tmp_path / PYTHON_SOURCE)).todo


def test_a_quote_that_never_closes_cannot_be_skipped(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", 'text,label\na,1\n"b,2\nc,3\n')
    error = fault(lambda: read(path, skip=100))
    assert error.thing.endswith("line 3")
    assert "not closed" in error.got


def test_lone_carriage_returns(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", "text,label\na,1\rb,2\nc,3\n")
    assert "carriage return" in fault(lambda: read(path)).got
    assert read(path, skip=1).columns["text"] == ["c"]
    assert "header" in fault(lambda: read(save(path, "text,label\ra,1\r"))).got


def test_blank_line_in_a_table_of_one_column_is_a_fault(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", "text\na\n\nb\n\n")
    error = fault(lambda: read(path, "text"))
    assert error.thing.endswith("line 3, column 'text'")
    assert read(save(path, 'text\na\n""\nb\n\n'), "text").columns["text"] == ["a", "", "b"]


def test_tsv_quotes_are_text_unless_they_wrap_the_field(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.tsv",
        'text\tlabel\n"Hi" he said\t1\n"open\t2\nshut"\t3\n"a ""b"" c"\t4\n"x\ty"\t5\n"\t6\n',
    )
    assert read(path).columns == {
        "text": ['"Hi" he said', '"open', 'shut"', 'a "b" c', "x\ty", '"'],
        "label": ["1", "2", "3", "4", "5", "6"],
    }
    save(path, 'text\tlabel\n"a\nb"\t1\n')
    assert "line break" in fault(lambda: read(path)).got


@pytest.mark.parametrize(("mark", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_another_separator_is_named(tmp_path: Path, mark: str, name: str) -> None:
    path = save(tmp_path / "a.csv", f"text{mark}label\nwarm{mark}a\n")
    error = fault(lambda: read(path, "text"))
    assert f"parted by {name}" in error.todo
    save(path, f'text{mark}label\n"warm, it was"{mark}a\n')  # the quote hides the cause
    assert f"parted by {name}" in fault(lambda: read_head(path)).got


def test_an_escape_beside_deep_nesting_is_looked_at(tmp_path: Path) -> None:
    def line(inmost: str) -> str:
        return '{"text": "\\u00e9", "x": ' + "[" * 600 + inmost + "]" * 600 + "}\n"

    assert read(save(tmp_path / "a.jsonl", line("1")), "text").columns["text"] == ["é"]
    path = save(tmp_path / "b.jsonl", line("1") + line('"\\ud800"'))
    error = fault(lambda: read(path, "text"))
    assert f"{path}, line 2" in error.thing
    assert "half of a surrogate pair" in error.got


@pytest.mark.parametrize(
    ("line", "got"),
    [
        ('{"text": ', "not valid JSON: Expecting value at character"),
        ('{"text": 1} x', "not valid JSON: Extra data at character 13"),
        ('{"text": "a', "not valid JSON: Invalid control character at character 12"),
        ("[1]", "a JSON array, not an object"),
        ('"a"', "a JSON string, not an object"),
        ("3", "a JSON number, not an object"),
        ("null", "a JSON null, not an object"),
        ("true", "a JSON boolean, not an object"),
        ("{}", "no columns"),
        ('{"txt": 1}', "no column 'text'; there are 'txt'; nearest: 'txt'"),
        ('{"text": "\\ud800"}', "half of a surrogate pair"),
        ('{"text": {"a": ["\\udc00"]}}', "half of a surrogate pair"),
        ('{"text": ' + "9" * 5000 + "}", "not usable JSON"),
        ("[" * 200_000, "JSON"),
    ],
)
def test_faulty_json_lines(tmp_path: Path, line: str, got: str) -> None:
    path = save(tmp_path / "a.jsonl", f'{{"text": "a"}}\n{line}\n{{"text": "b"}}\n')
    error = fault(lambda: read(path, "text"))
    assert f"{path}, line 2" in error.thing
    assert got in error.got
    rows = read(path, "text", skip=1)
    assert rows.columns["text"] == ["a", "b"]
    assert [b.place for b in rows.skipped] == [2]


def test_surrogate_pairs_in_json_are_text(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", '{"text": "\\ud83d\\ude00"}\n')
    assert read(path, "text").columns["text"] == ["😀"]


def test_a_json_array_is_not_json_lines(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", '[\n{"text": "a"}\n]\n')
    assert "one JSON array" in fault(lambda: read(path, "text")).got
    assert "one JSON array" in fault(lambda: column_names(path)).got


@pytest.mark.parametrize("skip", [0, 2, 10**9])
def test_a_column_that_no_json_row_has_is_one_fault_of_the_file(tmp_path: Path, skip: int) -> None:
    path = save(tmp_path / "a.jsonl", '{"words": ["a"], "label": 1}\n' * 4)
    error = fault(lambda: read(path, "label", "tokens", skip=skip))
    assert error.thing == f"rte: {path}, column 'tokens'"
    assert error.got == "no column 'tokens'; there are 'words', 'label'"
    assert "name a column that is there" in error.todo
    rows = [{"words": ["a"], "label": 1}] * 4
    given = fault(lambda: read_rows(rows, columns=["tokens"], what="rte", skip_bad_rows=skip))
    assert given.got == error.got


def test_a_column_that_some_json_row_has_is_a_fault_of_the_others(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", '{"txt": 1}\n' * 3 + '{"text": "a"}\n')
    rows = read(path, "text", skip=3)
    assert rows.columns["text"] == ["a"]
    assert [b.place for b in rows.skipped] == [1, 2, 3]


def test_first_json_row_without_the_column_is_a_missing_column(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", '{"text": "a"}\n{"txet": "b", "label": 1}\n')
    error = fault(lambda: read(path, "label"))
    assert error.thing == f"rte: {path}, column 'label'"
    assert read(path, "label", skip=1).columns["label"] == [1]


# -- how many may be skipped ----------------------------------------------------------------------


def test_one_bad_row_more_than_allowed_raises_with_the_first_ones(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", "text,label\n" + "x\n" * 9 + "a,1\n")
    assert len(read(path, skip=9).skipped) == 9
    error = fault(lambda: read(path, skip=8))
    assert "9 faulty rows or more: line 2: 1 field, wanted 2; line 3" in error.got
    assert error.got.endswith("…; line 10: 1 field, wanted 2")
    assert "--skip-bad-rows" in error.todo
    assert "8" in error.todo


def test_faults_of_files_are_never_skipped(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", "")
    assert "empty file" in fault(lambda: read(path, skip=99)).got


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="column"):
        read_rows([], columns=[], what="")
    with pytest.raises(ValueError, match="skip"):
        read_rows([], columns=["a"], what="", skip_bad_rows=-1)
    wrong: list[Any] = [3, {"a": [1]}, b"abc", iter([])]
    for source in wrong:
        with pytest.raises(TypeError, match="list of dicts"):
            read_rows(source, columns=["a"], what="")


# -- faults of files ------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_missing_column_names_those_there_and_the_nearest(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", {"Sentence1": ["a"], "label": ["b"]})
    error = fault(lambda: read(path, "label", "sentence"))
    assert error.thing == f"rte: {path}, column 'sentence'"
    assert "'Sentence1', 'label'" in error.got
    assert "nearest: 'Sentence1'" in error.got
    assert "'Sentence1' is nearest" in error.todo
    assert "column 'x'" in fault(lambda: stream_rows(path, columns=["x"])).thing


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_column_that_is_there_twice(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_arrays([pa.array(["x"])] * 3, names=["t", "t", "u"]), path)
    else:
        save(path, "t,t,u\nx,x,x\n".replace(",", "\t" if suffix == ".tsv" else ","))
    assert "2 columns of that name" in fault(lambda: read(path, "t")).got
    assert read(path, "u").columns == {"u": ["x"]}  # the double is no concern of others
    assert "2 columns" in fault(lambda: stream_rows(path)).got


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    save(tmp_path / "train.csv", "a\n")
    error = fault(lambda: read(tmp_path / "trian.csv"))
    assert error.got == "no such file"
    assert "'train.csv'" in error.todo
    assert "no such folder" in fault(lambda: read(tmp_path / "no" / "a.csv")).got
    assert fault(lambda: read(tmp_path)).got == "a folder"
    assert fault(lambda: column_names(tmp_path / "zzzz.jsonl")).todo == "check the path"


@pytest.mark.parametrize("name", ["a.txt", "a", "a.gz", "a.parquet.gz", "a.xlsx"])
def test_unknown_formats(tmp_path: Path, name: str) -> None:
    error = fault(lambda: read(save(tmp_path / name, "text\nx\n")))
    assert ".parquet, .csv" in error.wanted


def test_suffixes_in_capitals_and_names_with_dots(tmp_path: Path) -> None:
    assert read(save(tmp_path / "a.v1.CSV", "text\nx\n"), "text").columns == {"text": ["x"]}


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_empty_file(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", b"")
    for action in (lambda: read(path), lambda: column_names(path), lambda: stream_rows(path)):
        assert str(path) in fault(action).thing


@pytest.mark.parametrize("suffix", TEXT_SUFFIXES)
def test_file_of_blank_lines(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", b"\n\r\n\n")
    assert fault(lambda: column_names(path)).got == "blank lines only"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_header_without_rows_is_a_table_of_none(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    else:
        save(path, "text\n")
    rows = read(path, "text")
    assert (rows.n_rows, rows.columns) == (0, {"text": []})
    assert list(stream_rows(path)) == []


def test_a_header_may_be_long(tmp_path: Path) -> None:
    name = "x" * 200_000
    (tmp_path / "a.csv").write_text(f"text,{name}\ngood,1\n", encoding="utf-8")
    assert read_rows(tmp_path / "a.csv", columns=["text", name], what="").columns[name] == ["1"]


def test_damaged_header(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", b"te\xffxt,label\na,1\n")
    assert "faulty header: not UTF-8" in fault(lambda: read(path, skip=9)).got
    assert "faulty header" in fault(lambda: read(save(path, '"a"b,c\n1,2\n'))).got


def test_truncated_gz(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    text = "text,label\n" + "".join(f"{x},1\n" for x in rng.integers(0, 1 << 60, 20_000))
    packed = gzip.compress(text.encode())
    path = tmp_path / "a.csv.gz"
    for size in (len(packed) // 2, len(packed) - 4, 5):
        path.write_bytes(packed[:size])
        assert "ends too early" in fault(lambda: read(path)).got
        assert "ends too early" in fault(lambda: list(stream_rows(path, columns=["text"]))).got
    broken = bytearray(packed)
    broken[len(packed) // 2] ^= 0xFF
    path.write_bytes(broken)
    assert str(path) in fault(lambda: read(path)).thing
    path.write_bytes(text.encode())
    assert "not a sound gz file" in fault(lambda: read(path)).got


@pytest.mark.parametrize(
    ("data", "got"),
    [
        ("text\n".encode("utf-16"), "UTF-16 text"),
        (gzip.compress(b"text\nx\n", mtime=0), "gzip data"),
        (b"PK\x03\x04abc", "a zip or Excel file"),
        (b"PAR1abc", "a parquet file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_other_formats_under_a_text_name(tmp_path: Path, data: bytes, got: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    assert fault(lambda: read(path)).got == got


def test_damaged_parquet(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"text": [f"text {i}" for i in range(5000)]})
    whole = path.read_bytes()
    for data in (
        whole[: len(whole) // 2],
        whole[:-1],
        whole[4:],
        b"text,label\na,1\n",
        b"PAR1PAR1",
    ):
        path.write_bytes(data)
        assert "parquet" in fault(lambda: read(path, "text")).got
        assert "parquet" in fault(lambda: list(stream_rows(path))).got


def test_flipped_bytes_of_parquet_never_end_in_another_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"text": [f"text {i % 50}" for i in range(300)]})
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :])
        with contextlib.suppress(DataError):
            read(path, "text")


# -- Python sources -------------------------------------------------------------------------------


def test_python_rows_and_their_faults() -> None:
    rows: list[object] = [{"t": "a", "n": np.float64(1.5)}, {"t": "b"}, 3, {"t": "\ud800", "n": 1}]
    got = read_rows(rows, columns=["t", "n"], what="w", skip_bad_rows=3)  # type: ignore[arg-type]
    assert got.columns == {"t": ["a"], "n": [1.5]}
    assert type(got.columns["n"][0]) is float
    assert [(b.place, b.column) for b in got.skipped] == [(1, "n"), (2, None), (3, "t")]
    for n, place in enumerate(["row 1, column 'n'", "2 faulty rows", "3 faulty rows"]):
        error = fault(
            lambda n=n: read_rows(rows, columns=["t", "n"], what="w", skip_bad_rows=n)  # type: ignore[misc,arg-type]
        )
        assert place in str(error)
    error = fault(lambda: read_rows([{"t": 1}], columns=["T"], what="w"))
    assert error.thing == f"w: {PYTHON_SOURCE}, column 'T'"
    assert "nearest: 't'" in error.got
    assert read_rows([], columns=["t"], what="w").n_rows == 0


def test_arrow_tables() -> None:
    table = pa.table({"t": pa.chunked_array([["a"], ["b", None]]), "n": [1, 2, 3]})
    for source in (table, table.combine_chunks().to_batches()[0], _Stream(table)):
        rows = read_rows(source, columns=["t", "n"], what="w")
        assert rows.columns == {"t": ["a", "b", None], "n": [1, 2, 3]}
        assert rows.places.tolist() == [0, 1, 2]
    assert "no column 'x'" in fault(lambda: read_rows(table, columns=["x"], what="w")).got
    words = pa.table({"t": pa.array(["a", "b", "a"]).dictionary_encode()})
    assert read_rows(words, columns=["t"], what="w").columns == {"t": ["a", "b", "a"]}


class _Stream:
    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


class _Convertible:
    def __init__(self, frame: object) -> None:
        self._frame = frame

    def to_pandas(self) -> object:
        return self._frame


def test_data_frames() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "text": ["a", None, "c"],
            "label": [1.0, float("nan"), 2.0],
            "count": pandas.array([1, None, 3], dtype="Int64"),
            "mixed": np.array(["x", float("nan"), 3], dtype=object),
            "class": pandas.Categorical(["u", "v", None]),
            "time": pandas.to_datetime(["2020-01-01", None, "2020-01-02"]),
        },
        index=[7, 7, 9],
    )
    for source in (frame, _Convertible(frame)):
        rows = read_rows(source, columns=list(frame.columns), what="w")
        assert rows.columns["text"] == ["a", None, "c"]
        assert rows.columns["label"][::2] == [1.0, 2.0]
        assert np.isnan(rows.columns["label"][1])  # type: ignore[call-overload]
        assert rows.columns["count"] == [1, None, 3]
        assert rows.columns["mixed"] == ["x", None, 3]
        assert rows.columns["class"] == ["u", "v", None]
        assert rows.columns["time"][1] is None
        assert rows.places.tolist() == [0, 1, 2]
    assert "nearest: 'text'" in fault(lambda: read_rows(frame, columns=["tekst"], what="w")).got


def test_columns_with_numbers_as_names_are_found_by_text() -> None:
    pandas = pytest.importorskip("pandas")
    scores = pandas.DataFrame([[0.25, 0.75], [1.0, 0.0]])  # as predict_proba gives them
    scores.insert(0, "text", ["a", "b"])
    for source in (scores, scores.to_dict("records")):
        rows = read_rows(source, columns=["text", "0", "1"], what="w")
        assert rows.columns == {"text": ["a", "b"], "0": [0.25, 1.0], "1": [0.75, 0.0]}
        assert "there are 'text', '0', '1'" in str(
            fault(lambda source=source: read_rows(source, columns=["2"], what="w"))  # type: ignore[misc]
        )
    scores["1"] = 0
    assert "2 columns" in fault(lambda: read_rows(scores, columns=["1"], what="w")).got


# -- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_streams_in_chunks(tmp_path: Path, suffix: str) -> None:
    table = {"text": [f"t{i}" for i in range(100)], "label": [str(i) for i in range(100)]}
    path = write(tmp_path / f"a{suffix}", table)
    for chunk_rows in (1, 17, 99, 100, 101):
        assert streamed(path, chunk_rows) == table
    chunks = list(stream_rows(path, columns=["label"], chunk_rows=40))
    first = 1 + (path.suffixes[0] in (".csv", ".tsv"))  # the header is a line too
    assert [(places[0] - first, len(chunk["label"])) for places, chunk in chunks] == [
        (0, 40),
        (40, 40),
        (80, 20),
    ]
    assert list(chunks[0][1]) == ["label"]
    next(stream_rows(path))  # a stream that is dropped leaves no open file behind


def test_a_head_has_the_columns_that_most_rows_have(tmp_path: Path) -> None:
    objects = [
        {"note": "first only", "text": "a", "label": 1},
        {"text": "b", "label": 2, "more": [1]},
        {"label": 3, "more": [2]},
        *[{"text": f"t{i}", "label": i} for i in range(300)],
    ]
    path = save(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in objects))
    head = read_head(path)
    assert list(head) == ["text", "label"]
    assert head["text"][:4] == ["a", "b", None, "t0"]
    assert head["label"][:4] == [1, 2, 3, 0]
    assert {len(values) for values in head.values()} == {200}


@pytest.mark.parametrize(("suffix", "comma"), [(".csv", ","), (".tsv", "\t")])
def test_a_head_has_no_column_whose_name_stands_twice(
    tmp_path: Path, suffix: str, comma: str
) -> None:
    path = save(tmp_path / f"a{suffix}", "text,label,,\na,1,,\n".replace(",", comma))
    assert read_head(path) == {"text": ["a"], "label": ["1"]}


@pytest.mark.parametrize(
    ("name", "data", "got"),
    [
        ("a.csv", "text,text\na,b\n", "2 columns of that name"),
        ("a.jsonl", "{}\n{}\n", "no columns"),
        ("a.jsonl", '{"a": 1}\n{"b": 1}\n{"c": 1}\n', "no column 'a'"),
        ("a.jsonl", "\n", "blank lines only"),
        ("a.jsonl", "", "an empty file"),
    ],
)
def test_a_head_without_columns_says_why(tmp_path: Path, name: str, data: str, got: str) -> None:
    path = save(tmp_path / name, data)
    assert got in fault(lambda: read_head(path)).got


def test_a_stream_stops_at_the_first_fault(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", "text\n" + "a\n" * 50 + "b,c\n")
    stream = stream_rows(path, chunk_rows=10, what="rows to label")
    for _ in range(5):
        next(stream)
    error = fault(lambda: next(stream))
    assert error.thing == f"rows to label: {path}, line 52"
    with pytest.raises(ValueError, match="chunk_rows"):
        stream_rows(path, chunk_rows=0)


def test_long_rows_make_small_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(lines, "CHUNK_BYTES", 1 << 16)
    table = {"text": ["x" * 5000] * 100, "label": ["1"] * 100}
    for suffix in (".csv", ".jsonl"):
        sizes = [len(c["text"]) for _, c in stream_rows(write(tmp_path / f"a{suffix}", table))]
        assert sum(sizes) == 100
        assert max(sizes) <= 48


@pytest.mark.parametrize(("suffix", "size"), [(".csv", 100), (".tsv", 20), (".jsonl", 100)])
def test_a_row_of_100_mb(tmp_path: Path, suffix: str, size: int) -> None:
    table = {"text": ["a", "b" * (size * 1_000_000), "c"], "label": ["1", "2", "3"]}
    before = csv.field_size_limit()
    path = write(tmp_path / f"a{suffix}", table)
    rows = [text for _, chunk in stream_rows(path) for text in chunk["text"]]
    assert rows == table["text"]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_line_without_end_is_a_fault(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE_BYTES", 3 << 20)
    path = write(tmp_path / f"a{suffix}", {"text": ["b" * (6 << 20)], "label": ["1"]})
    assert (
        "a line of more than 3 MiB" in fault(lambda: list(stream_rows(path, columns=["text"]))).got
    )


@pytest.mark.parametrize("suffix", [".csv.gz", ".jsonl", ".parquet"])
def test_streams_take_little_memory(tmp_path: Path, suffix: str) -> None:
    table = {"text": ["some words of text " * 20] * 60_000}
    path = write(tmp_path / f"a{suffix}", table)  # 23 MB
    del table
    tracemalloc.start()
    n_rows = sum(len(chunk["text"]) for _, chunk in stream_rows(path, chunk_rows=1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_rows == 60_000
    assert peak < 12 << 20
