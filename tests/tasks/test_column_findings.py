"""Findings of columns as a whole: what is said, of which rows, and when nothing is."""

from __future__ import annotations

import pytest

from potstill.tasks.column_findings import (
    find_alike_classes,
    find_cut_texts,
    find_doubtful_labels,
    find_no_task,
    find_quoted_classes,
    find_small_split,
)


def where(i: int) -> str:
    return f"a.jsonl, line {i + 1}"


def test_no_task_points_at_the_first_row_with_a_label() -> None:
    finding = find_no_task("label", [None, "", "a", "b"], "not a list", where)
    assert (finding.severity, finding.where) == ("error", "a.jsonl, line 3")
    assert finding.what == "column 'label' of train: not a list (4 rows)"
    assert find_no_task("label", [None], "no label", where).where == "a.jsonl, line 1"


def test_classes_that_differ_are_no_finding() -> None:
    assert find_alike_classes({0: ["art"], 1: ["arts"], 2: ["art", "Zart"]}, where) == []


def test_alike_classes_have_counts_and_the_rarest_has_a_place() -> None:
    rows = {0: ["art", "New York"], 1: ["art"], 3: ["Art", "new york"], 4: ["NewYork"]}
    (finding,) = find_alike_classes(rows, where)
    assert "'art' (2) and 'Art' (1)" in finding.what
    assert "'New York' (1) and 'new york' (1) and 'NewYork' (1)" in finding.what
    assert finding.where == "a.jsonl, line 4"
    many = {i: [f"c{i}", f"C{i}"] for i in range(12)}
    assert find_alike_classes(many, where)[0].what.endswith("; and 2 more")


def test_classes_that_look_the_same_are_shown_with_what_cannot_be_seen() -> None:
    (finding,) = find_alike_classes({0: ["pos"], 1: ["pos\ufeff"], 2: ["neg"]}, where)
    assert "in characters that cannot be seen: 'pos' (1) and 'pos\\ufeff' (1)" in finding.what


def test_classes_that_are_one_number_are_alike() -> None:
    (finding,) = find_alike_classes({0: ["1"], 1: ["1.0"], 2: ["1.5"], 3: ["v1"]}, where)
    assert finding.what.endswith("or in how a number is written: '1' (1) and '1.0' (1)")


def test_classes_in_quotes_are_said() -> None:
    assert find_quoted_classes(["a", 'say "a"', '"'], "a.csv") == []
    (finding,) = find_quoted_classes(["a", '"b"'], "a.csv")
    assert finding.what.endswith('which predictions will have: "b"')
    assert finding.where == "a.csv"


def test_doubts_are_counted_and_the_first_speaks() -> None:
    assert find_doubtful_labels({}, "dev", where) == []
    (finding,) = find_doubtful_labels({2: "this", 5: "that"}, "dev", where)
    assert finding.what == "dev: 2 rows with this (also a.jsonl, line 6)"
    assert finding.where == "a.jsonl, line 3"
    (many,) = find_doubtful_labels(dict.fromkeys(range(9), "this"), "dev", where)
    assert many.what.endswith("a.jsonl, line 4; …)")


@pytest.mark.parametrize("says", [True, False])
def test_a_few_cut_texts_are_a_note_and_more_a_warning(says: bool) -> None:
    assert find_cut_texts(0.0, 0.0, 128, says=says) == []
    (few,) = find_cut_texts(0.01, 0.0, 128, says=says)
    assert (few.severity, few.todo) == ("note", "")
    (many,) = find_cut_texts(0.05, 0.0, 128, says=says)
    assert many.severity == "warning"
    assert "max_tokens" in many.todo
    texts = "sources" if says else "texts"
    assert many.what == f"5.0% of the tried {texts} are longer than 128 tokens and lose their end"


def test_cut_targets_are_counted_apart() -> None:
    sources, targets = find_cut_texts(0.01, 1.0, 64, says=True)
    assert (sources.severity, targets.severity) == ("note", "warning")
    assert targets.what.startswith("100.0% of the tried targets are longer than 64 tokens")
    assert "not to come to an end" in targets.what


def test_a_handful_of_rows_is_a_shaky_judge() -> None:
    assert find_small_split(50, "rows", "dev") == []
    (dev,) = find_small_split(8, "rows", "dev")
    assert dev.severity == "warning"
    assert dev.what == "dev: 8 rows, a score of which chooses epochs: one is 12% of it"
    assert dev.todo == "give dev 100 or more"
    (test,) = find_small_split(49, "queries", "test")
    assert test.what == "test: 49 queries, a score of which judges the student: one is 2% of it"


def test_classes_that_look_the_same_are_alike() -> None:
    cafes = {0: ["café"], 1: ["cafe\u0301"]}
    (finding,) = find_alike_classes(cafes, where)
    assert "or in how accents are stored: 'café' (1) and 'cafe\u0301' (1)" in finding.what
    assert "accents" not in find_alike_classes({0: ["a"], 1: ["A"]}, where)[0].what
