"""F1 of spans against conlleval's rules, written by hand and as its two tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.metrics.metric import Floats, Ints
from potstill.metrics.tagging import span_f1, spans, tag_fault

seeds = st.integers(0, 2**16)
TAGS = ["O", "B-per", "I-per", "B-loc", "I-loc", "I-x-y"]
SPAN_F1 = span_f1(TAGS)
sentences = st.lists(st.sampled_from(TAGS), max_size=12)


def make_rows(pairs: list[tuple[list[str], list[str]]]) -> tuple[Ints, Floats, Ints]:
    """Truth, output and groups of sentences: the true and the predicted tags of each."""
    truth = [TAGS.index(tag) for true, _ in pairs for tag in true]
    predicted = [TAGS.index(tag) for _, tags in pairs for tag in tags]
    groups = [7 * i - 3 for i, (true, _) in enumerate(pairs) for _ in true]
    output = 0.1 + 0.4 * np.eye(len(TAGS))[predicted]
    return np.array(truth, dtype=np.int64), output, np.array(groups, dtype=np.int64)


def make_pairs(seed: int, n_sentences: int) -> list[tuple[list[str], list[str]]]:
    """Sentences of random tags, valid or not, of which the prediction has some right."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(n_sentences):
        true = rng.choice(TAGS, size=rng.integers(1, 9))
        other = rng.choice(TAGS, size=len(true))
        predicted = np.where(rng.random(len(true)) < 0.7, true, other)
        pairs.append((true.tolist(), predicted.tolist()))
    return pairs


def parts(tag: str) -> tuple[str, str]:
    prefix, _, of_type = tag.partition("-")
    return prefix, of_type


def starts_chunk(before: str, tag: str) -> bool:
    """conlleval's startOfChunk, for the prefixes of IOB2."""
    (old, old_type), (new, new_type) = parts(before), parts(tag)
    if (old, new) in {("B", "B"), ("I", "B"), ("O", "B"), ("O", "I")}:
        return True
    return new != "O" and old_type != new_type


def ends_chunk(before: str, tag: str) -> bool:
    """conlleval's endOfChunk, for the prefixes of IOB2."""
    (old, old_type), (new, new_type) = parts(before), parts(tag)
    if (old, new) in {("B", "B"), ("B", "O"), ("I", "B"), ("I", "O")}:
        return True
    return old != "O" and old_type != new_type


def conlleval(pairs: list[tuple[list[str], list[str]]]) -> tuple[int, int, int]:
    """Chunks right, true and found, by conlleval's pass over the words with its one flag."""
    n_right = n_true = n_found = 0
    open_and_right = False
    last_true = last_found = "O"
    # A blank line between sentences is read as a word outside in both columns.
    words = [word for each in pairs for word in [*zip(*each, strict=True), ("O", "O")]]
    for true, found in words:
        end_true, end_found = ends_chunk(last_true, true), ends_chunk(last_found, found)
        if open_and_right and end_true and end_found:
            if parts(last_true)[1] == parts(last_found)[1]:
                n_right += 1
            open_and_right = False
        elif open_and_right and (end_true != end_found or parts(true)[1] != parts(found)[1]):
            open_and_right = False
        start_true, start_found = starts_chunk(last_true, true), starts_chunk(last_found, found)
        if start_true and start_found and parts(true)[1] == parts(found)[1]:
            open_and_right = True
        n_true += start_true
        n_found += start_found
        last_true, last_found = true, found
    return n_right, n_true, n_found


def f1_of(n_right: int, n_true: int, n_found: int) -> float:
    """As conlleval divides: over precision and recall."""
    precision = n_right / n_found if n_found else 0.0
    recall = n_right / n_true if n_true else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize(
    ("true", "predicted", "precision", "recall", "f1"),
    [
        # Two of two found, and one too many.
        ("B-per I-per O B-loc", "B-per I-per B-loc B-loc", 2 / 3, 1, 4 / 5),
        # The first is too short, so it is wrong; the second is right.
        ("B-per I-per O B-loc", "B-per O O B-loc", 1 / 2, 1 / 2, 1 / 2),
        # The right words of the wrong type.
        ("B-per I-per O", "B-loc I-loc O", 0, 0, 0),
        # An I at the start and after an O begins a span.
        ("B-per I-per O B-loc", "I-per I-per O I-loc", 1, 1, 1),
        # An I of another type ends a span and begins one.
        ("B-per B-loc I-loc O", "B-per I-loc I-loc O", 1, 1, 1),
        # A B in the middle of a span cuts it in two.
        ("B-per I-per I-per O", "B-per I-per B-per O", 0, 0, 0),
        # Two spans of one type side by side are not the one long span.
        ("B-loc B-loc", "B-loc I-loc", 0, 0, 0),
        # The prediction goes on behind the true span, which ends at the last but one word.
        ("O B-per O", "O B-per I-per", 0, 0, 0),
        # The last span ends with the sentence in both.
        ("O B-per I-per", "O B-per I-per", 1, 1, 1),
        # Nothing found; nothing there; neither.
        ("B-per O", "O O", 0, 0, 0),
        ("O O", "B-per O", 0, 0, 0),
        ("O O", "O O", 0, 0, 0),
        # The type is all that follows the first dash.
        ("I-x-y I-x-y O", "I-x-y I-x-y B-per", 1 / 2, 1, 2 / 3),
    ],
)
def test_known_values(
    true: str, predicted: str, precision: float, recall: float, f1: float
) -> None:
    pair = (true.split(), predicted.split())
    truth, output, _ = make_rows([pair])
    assert SPAN_F1.score(truth, output) == pytest.approx(f1)
    there, found = set(spans(pair[0])), set(spans(pair[1]))
    assert len(there & found) / max(len(found), 1) == pytest.approx(precision)
    assert len(there & found) / max(len(there), 1) == pytest.approx(recall)


def test_spans_do_not_cross_sentences() -> None:
    truth, output, groups = make_rows(
        [(["O", "B-per"], ["O", "B-per"]), (["I-per", "O"], ["B-per", "O"])]
    )
    assert SPAN_F1.score(truth, output, groups) == 1.0
    # As one sentence the I goes on with the span that the prediction cuts in two.
    assert SPAN_F1.score(truth, output) == 0.0


@given(seeds, st.integers(1, 6))
def test_scores_equal_conlleval(seed: int, n_sentences: int) -> None:
    pairs = make_pairs(seed, n_sentences)
    truth, output, groups = make_rows(pairs)
    assert SPAN_F1.score(truth, output, groups) == pytest.approx(f1_of(*conlleval(pairs)))
    joined = [[tag for each in pairs for tag in each[column]] for column in (0, 1)]
    wanted = f1_of(*conlleval([(joined[0], joined[1])]))
    assert SPAN_F1.score(truth, output) == pytest.approx(wanted)


@given(sentences)
def test_spans_equal_conlleval(tags: list[str]) -> None:
    wanted = []
    before = "O"
    for i, tag in enumerate([*tags, "O"]):
        if ends_chunk(before, tag):
            first = max(j for j in range(i) if starts_chunk(tags[j - 1] if j else "O", tags[j]))
            wanted.append((parts(before)[1], first, i))
        before = tag
    assert spans(tags) == wanted


@given(seeds, st.integers(1, 6))
def test_resamples_equal_sentences_written_out(
    check_resampled: Callable[..., None], seed: int, n_sentences: int
) -> None:
    truth, output, groups = make_rows(make_pairs(seed, n_sentences))
    check_resampled(SPAN_F1, truth, output, groups, np.random.default_rng(seed))
    check_resampled(SPAN_F1, truth, output, -groups, np.random.default_rng(seed))


def test_no_groups_are_one_unit() -> None:
    truth, output, _ = make_rows(make_pairs(0, 5))
    counts = np.array([[1], [3], [0]])
    score = SPAN_F1.score(truth, output)
    assert SPAN_F1.resampled(truth, output, None, counts).tolist() == [score, score, 0.0]


@given(sentences)
def test_valid_tags_are_those_that_spans_write(tags: list[str]) -> None:
    written = ["O"] * len(tags)
    for of_type, first, behind in spans(tags):
        written[first:behind] = [f"B-{of_type}", *[f"I-{of_type}"] * (behind - first - 1)]
    assert (tag_fault(tags) is None) == (written == tags)
    assert tag_fault(written) is None
    assert spans(written) == spans(tags)


@pytest.mark.parametrize(
    ("tags", "fault"),
    [
        ("", None),
        ("O B-per I-per I-per B-per O", None),
        ("B-per O I-loc", "tag 3 is 'I-loc' but tag 2 is 'O': a span begins with B-"),
        ("B-per I-loc", "tag 2 is 'I-loc' but tag 1 is 'B-per': a span begins with B-"),
        ("I-loc O", "tag 1 is 'I-loc': a span begins with B-"),
        ("O B-", "tag 2 is 'B-': wanted 'O', 'B-<type>' or 'I-<type>'"),
        ("o", "tag 1 is 'o': wanted 'O', 'B-<type>' or 'I-<type>'"),
        ("O-per", "tag 1 is 'O-per': wanted 'O', 'B-<type>' or 'I-<type>'"),
    ],
)
def test_faults_of_tags(tags: str, fault: str | None) -> None:
    assert tag_fault(tags.split()) == fault


def test_an_empty_sentence_has_no_spans() -> None:
    assert spans([]) == []


def test_faulty_input_is_refused() -> None:
    truth, output, groups = make_rows([(["O", "B-per"], ["O", "O"]), (["O"], ["O"])])
    with pytest.raises(ValueError, match="'E-per' is no tag"):
        span_f1(["O", "E-per"])
    with pytest.raises(ValueError, match="'I-' is no tag"):
        spans(["O", "I-"])
    with pytest.raises(ValueError, match=r"wanted \(N,\) and \(N, C\)"):
        SPAN_F1.score(truth, output[:, 0], groups)
    with pytest.raises(ValueError, match="no rows"):
        SPAN_F1.score(truth[:0], output[:0], groups[:0])
    with pytest.raises(ValueError, match=r"wanted \(S, 6\)"):
        SPAN_F1.score(truth, output[:, :5], groups)
    with pytest.raises(ValueError, match="not one of the 6 tags"):
        SPAN_F1.score(truth - 1, output, groups)
    with pytest.raises(ValueError, match="one for each word"):
        SPAN_F1.score(truth, output, groups[:2])
    with pytest.raises(ValueError, match="do not stand together"):
        SPAN_F1.score(truth, output, np.array([0, 1, 0]))
    with pytest.raises(ValueError, match="wanted \\(R, 2\\)"):
        SPAN_F1.resampled(truth, output, groups, np.ones((4, 3)))
