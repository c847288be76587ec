"""Answers in a passage against the logic of SQuAD's official script."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.metrics.metric import Ints
from potstill.metrics.squad import (
    EXACT_MATCH,
    TOKEN_F1,
    Passage,
    exact_match,
    normalise_answer,
    token_f1,
)

seeds = st.integers(0, 2**16)
PIECES = ["a", "an", "the", "The", "A-B", "Theatre", "cat", "Cat's", "U.S.", "1,000", "–", "…", "é"]
texts = st.one_of(
    st.text(max_size=12),
    st.lists(st.sampled_from([*PIECES, " ", "\t", ".", "(", "a.n"]), max_size=6).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=5).map(" ".join),
)


def official_normal(text: str) -> str:
    """Step by step as evaluate-v2.0.py does it."""
    text = text.lower()
    text = "".join(letter for letter in text if letter not in set(string.punctuation))
    text = re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text)
    return " ".join(text.split())


def official_f1(answer: str, prediction: str) -> float:
    right, found = official_normal(answer).split(), official_normal(prediction).split()
    if len(right) == 0 or len(found) == 0:
        return float(int(right == found))
    same = sum((Counter(right) & Counter(found)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(found), same / len(right)
    return 2 * precision * recall / (precision + recall)


def official_scores(prediction: str, answers: list[str]) -> tuple[float, float]:
    """Exact match and F1 of version 2.0."""
    right = [answer for answer in answers if official_normal(answer)] or [""]
    exact = max(int(official_normal(each) == official_normal(prediction)) for each in right)
    return float(exact), max(official_f1(each, prediction) for each in right)


def first_version_scores(prediction: str, answers: list[str]) -> tuple[float, float]:
    """Exact match and F1 of version 1.1, which has no questions without an answer."""
    exact, best = 0.0, 0.0
    found = official_normal(prediction).split()
    for answer in answers:
        right = official_normal(answer).split()
        exact = max(exact, float(right == found))
        same = sum((Counter(right) & Counter(found)).values())
        if same:
            precision, recall = same / len(found), same / len(right)
            best = max(best, 2 * precision * recall / (precision + recall))
    return exact, best


def make_passage(context: str, *answers: str) -> Passage:
    """Words are what stands between spaces."""
    words = list(re.finditer(r"\S+", context))
    return Passage(
        context,
        np.array([word.start() for word in words], dtype=np.int64),
        np.array([word.end() for word in words], dtype=np.int64),
        answers,
    )


def make_rows(seed: int, n_rows: int) -> tuple[Any, Ints]:
    """Passages with one to three answers or none, and words near the first one; some columns
    behind the first two."""
    rng = np.random.default_rng(seed)
    truth = np.empty(n_rows, dtype=object)
    output = np.full((n_rows, 4), 99)
    for row in range(n_rows):
        words = rng.choice(PIECES, size=rng.integers(2, 9)).tolist()
        first, last = sorted(rng.integers(len(words), size=2).tolist())
        right = [" ".join(words[first : last + 1]), *rng.choice(PIECES, size=2).tolist()]
        truth[row] = make_passage("  ".join(words), *right[: rng.integers(4)])
        last = min(last + int(rng.integers(2)), len(words) - 1)
        output[row, :2] = (-1, -1) if rng.random() < 0.3 else (first, last)
    return truth, output


@given(texts)
def test_normal_form_equals_official_script(text: str) -> None:
    assert normalise_answer(text) == official_normal(text)


@given(texts, st.lists(texts, max_size=3))
def test_scores_equal_official_script(prediction: str, answers: list[str]) -> None:
    exact, f1 = official_scores(prediction, answers)
    assert exact_match(prediction, answers) == exact
    assert token_f1(prediction, answers) == pytest.approx(f1)


@given(texts, st.lists(texts.filter(official_normal), min_size=1, max_size=3))
def test_scores_equal_first_official_script(prediction: str, answers: list[str]) -> None:
    exact, f1 = first_version_scores(prediction, answers)
    assert exact_match(prediction, answers) == exact
    assert token_f1(prediction, answers) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("the Cat", ["cat."], 1, 1),
        ("black cat", ["cat"], 0, 2 / 3),
        ("black cat", ["cat", "a black cat", "dog"], 1, 1),
        ("cat cat", ["cat"], 0, 2 / 3),  # the second cat has no partner
        ("cat cat", ["cat cat dog"], 0, 4 / 5),
        ("U.S.", ["us"], 1, 1),
        ("A-B", ["AB"], 1, 1),
        ("A B", ["B"], 1, 1),
        ("dog", ["cat"], 0, 0),
        ("", ["cat"], 0, 0),
        ("", [], 1, 1),
        ("the", [], 1, 1),
        ("cat", [], 0, 0),
        ("", [""], 1, 1),
        ("", ["The", "cat"], 0, 0),  # an answer of which nothing is left does not count
        ("", ["The"], 1, 1),
        ("cat", ["The"], 0, 0),
    ],
)
def test_known_values(prediction: str, answers: list[str], exact: float, f1: float) -> None:
    assert exact_match(prediction, answers) == exact
    assert token_f1(prediction, answers) == pytest.approx(f1)
    assert official_scores(prediction, answers) == pytest.approx((exact, f1))


def test_text_is_the_context_between_words() -> None:
    passage = make_passage(" The  cat,\nsat. ")
    assert passage.text(0, 0) == "The"
    assert passage.text(0, 2) == "The  cat,\nsat."
    assert passage.text(-1, 2) == passage.text(-1, -1) == ""
    for first, last in ((1, 0), (0, 3), (3, 3), (0, -1)):
        with pytest.raises(ValueError, match="wanted first <= last < 3"):
            passage.text(first, last)


@given(seeds, st.integers(1, 12))
def test_metrics_are_means_of_the_official_scores(seed: int, n_rows: int) -> None:
    truth, output = make_rows(seed, n_rows)
    rows = []
    for passage, (first, last) in zip(truth, output[:, :2].tolist(), strict=True):
        words = passage.context.split()
        prediction = "" if first < 0 else " ".join(words[first : last + 1])
        rows.append(official_scores(prediction, list(passage.answers)))
    exact, f1 = np.array(rows).mean(axis=0)
    assert EXACT_MATCH.score(truth, output) == pytest.approx(exact)
    assert TOKEN_F1.score(truth, output.astype(np.float32)) == pytest.approx(f1)


@given(seeds, st.integers(1, 12), st.booleans())
def test_resamples_equal_rows_written_out(
    check_resampled: Callable[..., None], seed: int, n_rows: int, grouped: bool
) -> None:
    truth, output = make_rows(seed, n_rows)
    rng = np.random.default_rng(seed)
    groups = rng.integers(4, size=n_rows) if grouped else None
    for each in (EXACT_MATCH, TOKEN_F1):
        check_resampled(each, truth, output, groups, rng)


def test_faulty_input_is_refused() -> None:
    truth, output = make_rows(0, 3)
    for each in (EXACT_MATCH, TOKEN_F1):
        with pytest.raises(ValueError, match="K at least 2"):
            each.score(truth, output[:, :1])
        with pytest.raises(ValueError, match=r"wanted \(N,\) and \(N, K\)"):
            each.score(truth[:2], output)
        with pytest.raises(ValueError, match="no rows"):
            each.score(truth[:0], output[:0])
        with pytest.raises(ValueError, match="not a Passage"):
            each.score(np.zeros(3), output)
        with pytest.raises(ValueError, match="not whole numbers"):
            each.score(truth, output + 0.5)
        with pytest.raises(ValueError, match="not whole numbers"):
            each.score(truth, np.full((3, 2), np.nan))
        with pytest.raises(ValueError, match="words 99 to 99: wanted first"):
            each.score(truth, np.full((3, 2), 99))
        with pytest.raises(ValueError, match="wanted \\(R, 3\\)"):
            each.resampled(truth, output, None, np.ones((2, 4)))
