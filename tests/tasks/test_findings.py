"""Each fault of a task's rows gives its finding at its place; sound rows give none."""

from __future__ import annotations

import difflib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.tasks.column_findings import (
    count_classes,
    count_values,
    find_absent_classes,
    find_labels_of_all,
    find_lone_candidates,
)
from potstill.tasks.findings import (
    Finding,
    find_duplicates,
    find_empty_split,
    find_empty_texts,
    find_missing_labels,
    find_non_texts,
    find_shared_rows,
    find_single_value,
    find_unfit_labels,
)
from potstill.tasks.rowids import row_ids
from potstill.tasks.sources import read_rows


def where(i: int) -> str:
    return f"a.csv, line {i + 2}"


def only(findings: list[Finding], severity: str = "error") -> Finding:
    assert len(findings) == 1
    assert findings[0].severity == severity
    assert findings[0].todo
    return findings[0]


def encode(value: object) -> float:
    classes = ["negative", "positive"]
    if str(value) not in classes:
        near = difflib.get_close_matches(str(value), classes, 1)
        raise ValueError(f"label '{value}' does not occur in train; nearest: {near}")
    return classes.index(str(value))


def in_range(value: object) -> float:
    number = float(value)  # type: ignore[arg-type]
    if not 0 <= number <= 5:
        raise ValueError(f"label {number:g} lies outside the range [0, 5]")
    return number


def test_sound_rows_give_no_findings() -> None:
    texts = {"a": ["x", "y"], "b": ["u", "v"]}
    ids = row_ids(list(texts.values()))
    other = row_ids([["z"], ["w"]])
    labels = ["positive", "negative"]
    assert not [
        *find_empty_split(2, "train", "a.csv"),
        *find_empty_texts(texts, where),
        *find_non_texts(texts, where),
        *find_missing_labels("label", labels, where),
        *find_missing_labels("label", ["1", 2, 0.5], where, numeric=True),
        *find_single_value("label", labels, where),
        *find_unfit_labels("label", labels, where, encode),
        *find_absent_classes(["n", "p"], np.array([1, 1]), 2, "dev"),
        *find_duplicates(ids, labels, "train", where),
        *find_shared_rows(("train", "dev"), (ids, other), (where, where)),
    ]


def test_empty_split() -> None:
    finding = only(find_empty_split(0, "dev", "dev.csv"))
    assert finding.what == "dev has no rows"
    assert finding.where == "dev.csv"


def test_empty_texts_per_column() -> None:
    found = find_empty_texts({"a": ["x", " \t", None], "b": ["", "y", "z"], "c": ["1"] * 3}, where)
    assert [f.where for f in found] == ["a.csv, line 3", "a.csv, line 2"]
    assert found[0].what == "column 'a': 2 rows without text (also a.csv, line 4)"
    assert found[1].what == "column 'b': 1 row without text"
    assert only(find_empty_texts({"a": ["x", "\u200b\u00ad"]}, where)).where == "a.csv, line 3"
    many = only(find_empty_texts({"a": [""] * 9}, where))
    assert many.what.endswith("a.csv, line 7; …)")


def test_numbers_are_not_text() -> None:
    finding = only(find_non_texts({"a": ["x", None, 3, ["y"]]}, where))
    assert finding.where == "a.csv, line 4"
    assert "2 rows with a value that is not text, first int 3" in finding.what
    assert "…" in only(find_non_texts({"a": [list(range(1000))]}, where)).what


def test_missing_labels() -> None:
    labels: list[object] = ["a", None, " ", float("nan"), np.float32("inf"), "nan"]
    found = find_missing_labels("label", labels, where)
    assert [f.severity for f in found] == ["error"] * 3
    assert [f.where for f in found] == ["a.csv, line 3", "a.csv, line 5", "a.csv, line 6"]
    assert "2 rows is missing" in found[0].what
    assert "NaN" in found[1].what
    assert "infinite" in found[2].what


def test_missing_numbers() -> None:
    labels: list[object] = ["1.5", "nan", "-inf", "high", 2, [1], ""]
    found = find_missing_labels("score", labels, where, numeric=True)
    assert {f.where: f.what.split(" is ")[1].split(",")[0] for f in found} == {
        "a.csv, line 8": "missing (empty)",
        "a.csv, line 3": "NaN",
        "a.csv, line 4": "infinite",
        "a.csv, line 5": "no number",
    }


def test_one_class() -> None:
    finding = only(find_single_value("label", ["a", "a", " a"], where))
    assert "all 3 rows of train have one class: 'a'" in finding.what
    assert "value" in only(find_single_value("y", [1.0, 1.0], where, thing="value")).what
    assert not find_single_value("label", ["1", 2], where)


def test_unknown_labels_name_place_and_nearest() -> None:
    labels: list[object] = ["positive", "positiv", None, "negativ", "positiv"]
    found = find_unfit_labels("label", labels, where, encode)
    assert [f.where for f in found] == ["a.csv, line 3", "a.csv, line 5"]
    assert "nearest: ['positive']; 2 rows (also a.csv, line 6)" in found[0].what
    assert all(f.severity == "error" for f in found)


def test_many_unknown_labels_are_summed_up() -> None:
    found = find_unfit_labels("label", [f"l{i}" for i in range(30)], where, encode)
    assert len(found) == 21
    assert "10 more kinds of unfit labels in 10 rows" in found[-1].what


def test_labels_out_of_range() -> None:
    labels: list[object] = ["5", 5.1, -1, "nan", None]
    with pytest.raises(TypeError):
        find_unfit_labels("y", labels, where, in_range, numeric=True)  # encode's own bug shows
    found = find_unfit_labels("y", labels[:4], where, in_range, numeric=True)
    assert [f.where for f in found] == ["a.csv, line 3"]  # one fault, whichever the numbers
    assert "5.1 lies outside the range [0, 5]; 2 rows" in found[0].what


def test_lone_candidates() -> None:
    (found,) = find_lone_candidates(["a", "b", "b"], [1.0, 0.0, 0.0], "train", where)
    assert found.severity == "error"
    assert "none of its 2 queries" in found.what
    (found,) = find_lone_candidates(["a", "b", "b"], [1.0, 0.0, 1.0], "dev", where)
    assert found.severity == "note"
    assert "3 rows of 2 queries, 1 to 2 candidates each; in 1 queries" in found.what


def test_values_are_counted() -> None:
    assert (
        "2 rows, labels from 1 to 4, 2.5 on the mean" in count_values(np.array([1, 4]), "dev").what
    )


def test_class_counts() -> None:
    finding = count_classes(["a", "b", "c"], np.array([1, 1, 0]), "train")
    assert finding.severity == "note"
    assert finding.what == "train: 3 rows of 3 classes: b 2, a 1, c 0"
    many = count_classes([str(i) for i in range(60)], np.arange(60), "train")
    assert many.what.endswith("and 10 more")


def test_absent_classes() -> None:
    finding = only(find_absent_classes(["a", "b", "c"], np.array([0, 2, 0]), 2, "dev"), "warning")
    assert finding.what == "dev has no row of 2 of 3 classes: 'a', 'c'"


def test_labels_that_every_row_has() -> None:
    finding = only(find_labels_of_all(["a", "b"], np.array([3, 4]), 4), "warning")
    assert finding.what == "train: every row has 'b'"
    assert find_labels_of_all(["a", "b"], np.array([3, 0]), 4) == []


def test_classes_that_the_share_of_train_lost() -> None:
    finding = only(find_absent_classes(["a", "b"], np.array([0, 2]), 2, "train"), "warning")
    assert "train has no row of 1 of 2 classes: 'a', with 2 rows in use" in finding.what
    assert "rows:" in finding.todo


def test_duplicates_and_conflicting_labels() -> None:
    ids = row_ids([["x", "y", "x", "x", "z", "y"]])
    found = find_duplicates(ids, [0, 1, 0, 1, 0, 1], "train", where)
    assert [f.severity for f in found] == ["warning", "warning"]
    assert "3 rows with the inputs of an earlier row" in found[0].what
    assert "first a.csv, line 4, which repeats a.csv, line 2" in found[0].what
    assert found[0].where == "a.csv, line 4"
    assert "1 input has rows of different labels" in found[1].what
    assert "first a.csv, line 5 (1) and a.csv, line 2 (0)" in found[1].what
    assert len(find_duplicates(ids, None, "pool", where)) == 1
    assert len(find_duplicates(ids, np.array([0, 1, 0, 0, 0, 1]), "train", where)) == 1
    assert find_duplicates(ids[:0], [], "train", where) == []


@given(texts=st.lists(st.sampled_from("abcdef"), max_size=20))
def test_duplicates_are_those_a_set_finds(texts: list[str]) -> None:
    found = find_duplicates(row_ids([texts]), None, "train", where)
    n = len(texts) - len(set(texts))
    assert bool(found) == (n > 0)
    if n:
        assert f"train: {n} row{'s' * (n != 1)} with" in found[0].what
        first = next(i for i, t in enumerate(texts) if t in texts[:i])
        assert found[0].where == where(first)


def test_shared_rows() -> None:
    train, dev = row_ids([["a", "b", "c", "b"]]), row_ids([["z", "b", "q", "c"]])

    def dev_where(i: int) -> str:
        return f"dev.csv, line {i + 2}"

    wheres = (where, dev_where)
    finding = only(find_shared_rows(("train", "dev"), (train, dev), wheres), "warning")
    assert "2 rows of dev (50.0%) stand in train too" in finding.what
    assert "first dev.csv, line 3, which is a.csv, line 3 (also dev.csv, line 5)" in finding.what
    assert finding.where == "dev.csv, line 3"
    for empty in ((train[:0], dev), (train, dev[:0])):
        assert find_shared_rows(("train", "dev"), empty, wheres) == []


def test_findings_take_rows_as_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"two\nlines",a\n,b\n')
    rows = read_rows(path, columns=["text", "label"], what="t")
    finding = only(find_empty_texts({"text": rows.columns["text"]}, rows.where))
    assert finding.where == f"{path}, line 4"
