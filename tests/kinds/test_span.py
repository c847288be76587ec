"""Answers in a passage: where they stand, which pair of words is best, when there is none."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from potstill.core.characters import is_unseen
from potstill.kinds import Span, kind_from_json
from potstill.kinds.passage import word_bounds
from potstill.kinds.span import _MOST_WORDS
from potstill.metrics.squad import Passage
from potstill.tasks.load import label_array

KIND = Span()
OR_NONE = Span(unanswerable=True)
PASSAGE = "Ada Byron (1815–52) wrote “Note G”; 🙂 naïve readers — O'Neill, 3.5%."
WORDS = ["Ada", "Byron", "(", "1815", "–", "52", ")", "wrote", "“", "Note", "G", "”", ";", "🙂"]
WORDS += ["naïve", "readers", "—", "O", "'", "Neill", ",", "3", ".", "5", "%", "."]
seeds = st.integers(0, 2**32 - 1)


def answer(*texts: str, context: str = PASSAGE) -> tuple[list[str], list[int]]:
    """A label: texts, and where they stand."""
    return list(texts), [context.index(text) for text in texts]


# -- words --------------------------------------------------------------------------------------


def test_words_of_a_passage() -> None:
    starts, ends = word_bounds(PASSAGE)
    assert [PASSAGE[a:b] for a, b in zip(starts, ends, strict=True)] == WORDS
    for empty in ("", " \n\t"):
        assert [part.tolist() for part in word_bounds(empty)] == [[], []]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("北京 is big.", ["北", "京", "is", "big", "."]),
        ("東京タワー、333m", ["東", "京", "タ", "ワ", "ー", "、", "333m"]),
        ("यह एक किताब है", ["यह", "एक", "किताब", "है"]),
        ("cafe\u0301 noir", ["cafe\u0301", "noir"]),
        ("naïve (x)", ["naïve", "(", "x", ")"]),
    ],
)
def test_words_of_other_scripts(text: str, words: list[str]) -> None:
    starts, ends = word_bounds(text)
    assert [text[a:b] for a, b in zip(starts, ends, strict=True)] == words


def test_an_answer_in_a_script_without_blanks() -> None:
    passage = "北京是中国的首都"
    texts, firsts, lasts = KIND.encode((["中国"], [np.int64(3)]), ["?", passage])
    assert (texts, firsts, lasts) == (("中国",), (3,), (4,))


@given(st.text(max_size=60))
def test_words_are_in_order_and_leave_out_blanks_alone(text: str) -> None:
    starts, ends = word_bounds(text)
    assert (starts < ends).all()
    assert (ends[:-1] <= starts[1:]).all()
    inside = np.zeros(len(text), bool)
    for a, b in zip(starts, ends, strict=True):
        inside[a:b] = True
    wanted = [True] * len(text) if is_unseen(text) else [c.isspace() for c in text]
    assert wanted == (~inside).tolist()


def test_a_passage_of_nothing_to_see_has_no_words() -> None:
    assert word_bounds("\u200b \ufeff")[0].tolist() == []
    assert word_bounds("a\u200b")[0].tolist() == [0, 1]


# -- labels -------------------------------------------------------------------------------------


def test_an_answer_is_its_first_and_its_last_word() -> None:
    texts, firsts, lasts = KIND.encode(answer("Ada Byron", "Note G", "5%"), ["who?", PASSAGE])
    assert texts == ("Ada Byron", "Note G", "5%")
    assert [WORDS[a] for a in firsts] == ["Ada", "Note", "5"]
    assert [WORDS[b] for b in lasts] == ["Byron", "G", "%"]
    assert KIND.encode(([], []), ["who?", PASSAGE]) == ((), (), ())


def test_an_answer_that_cuts_a_word_gets_the_whole_word() -> None:
    _, firsts, lasts = KIND.encode(answer("yron (18"), ["who?", PASSAGE])
    assert (firsts, lasts) == ((1,), (3,))
    _, firsts, lasts = KIND.encode((["aï"], [PASSAGE.index("aï")]), ["?", PASSAGE])
    assert WORDS[firsts[0]] == WORDS[lasts[0]] == "naïve"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "wanted a list of texts and a list of numbers; empty lists mean no answer"),
        ("Ada", "wanted a list of texts and a list of numbers"),
        (("Ada", 0), "answers 'Ada' and their places 0: wanted a list of texts"),
        ((["Ada"], 0), "wanted a list of texts and a list of numbers"),
        ((["Ada"], None), "wanted a list of texts and a list of numbers"),
        ((["Ada", "Byron"], [0]), "2 answers with 1 places"),
        (([], [0]), "0 answers with 1 places"),
        ((["Ada"], []), "1 answers with 0 places"),
        (([""], [0]), "answer '' is no text"),
        ((["  "], [3]), "answer '  ' is no text"),
        (([3], [0]), "answer 3 is no text"),
        (([None], [0]), "answer None is no text"),
        ((["Ada"], ["0"]), "the place of answer 'Ada' is '0', no whole number"),
        ((["Ada"], [0.5]), "is 0.5, no whole number"),
        ((["Ada"], [True]), "is True, no whole number"),
        ((["Ada"], [None]), "is None, no whole number"),
        (
            (["Byron"], [3]),
            "answer 'Byron' is not at character 3 of the passage, where ' Byro' stands; it stands "
            "at 4",
        ),
        ((["Ada"], [-3]), "is not at character -3 of the passage, where '' stands; it stands at 0"),
        ((["Ada"], [999]), "where '' stands; it stands at 0"),
        ((["ada"], [0]), "where 'Ada' stands; it stands nowhere in it"),
        ((["."], [len(PASSAGE)]), "where '' stands; it stands at"),
    ],
)
def test_faulty_labels_say_why(value: object, reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the reason is compared below)
        KIND.encode(value, ["who?", PASSAGE])
    assert reason in str(caught.value)


def test_a_label_alone_says_nothing() -> None:
    with pytest.raises(ValueError, match="use `encode`"):
        KIND.encode_label(([], []))


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([], "no training row has an answer"),
        ([([], []), ([], [])], "no training row has an answer"),
        ([("Ada", "0"), ("Byron", "4")], "wanted a list of texts and a list of numbers"),
        ([(["Ada"], 0)], "wanted a list of texts and a list of numbers"),
    ],
)
def test_labels_that_make_no_task(labels: list[object], reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the reason is compared below)
        Span.learn(labels, {})
    assert reason in str(caught.value)


def test_no_answer_is_learned_from_rows_without_one() -> None:
    assert Span.learn([(["Ada"], [0]), (["a", "b"], [1, 2])], {}) == KIND
    assert Span.learn([(["Ada"], [0]), ([], [])], {}) == OR_NONE
    odd: list[object] = [None, "x", ("Ada", 0), (None, None)]
    assert Span.learn([*odd, (["Ada"], [0])], {}) == KIND


def encoded(*labels: tuple[list[str], list[int]], context: str = PASSAGE) -> np.ndarray:
    return label_array([KIND.encode(label, ["?", context]) for label in labels])


def test_flat_labels_are_probabilities_of_each_row() -> None:
    labels = encoded(answer("Ada Byron"), ([], []), answer("Note", "Note G", "G", "Note"))
    slots = np.full(3, 1 + len(WORDS))
    marks = KIND.flat(labels, slots).reshape(3, -1, 2)
    np.testing.assert_allclose(marks.sum(1), 1.0)
    assert np.argwhere(marks[0] == 1).tolist() == [[1, 0], [2, 1]]  # Ada, Byron
    assert marks[1, 0].tolist() == [1.0, 1.0]  # the slot of no answer
    note, g = 1 + WORDS.index("Note"), 1 + WORDS.index("G")
    np.testing.assert_allclose(marks[2, [note, g], 0], [2 / 3, 1 / 3])  # the same twice is once
    np.testing.assert_allclose(marks[2, [note, g], 1], [1 / 3, 2 / 3])
    with pytest.raises(ValueError, match="slots"):
        KIND.flat(labels, None)


def test_labels_in_words_and_in_counts() -> None:
    labels = encoded(answer("Ada Byron", "Ada"), ([], []), answer("Note G"))
    assert [KIND.label_in_words(label, ["?", PASSAGE]) for label in labels] == [
        ["Ada Byron", "Ada"],
        "",
        "Note G",
    ]
    assert KIND.strata(labels).tolist() == [1, 0, 1]
    assert KIND.describe(labels) == "1 rows without an answer, answers of 1.7 words on the mean"
    long = " ".join(["word"] * 40)
    assert KIND.describe(encoded(([long], [0]), context=long)).endswith(
        "1 are longer than 30 and cannot be found"
    )
    truth = KIND.truth(labels, [["?"] * 3, [PASSAGE] * 3])
    assert [passage.answers for passage in truth] == [("Ada Byron", "Ada"), (), ("Note G",)]
    assert truth[0].text(0, 1) == "Ada Byron"


# -- losses -------------------------------------------------------------------------------------

SIZES = np.array([4, 1, 3])
GROUPS = np.repeat(np.arange(3), SIZES)


def test_hard_loss_is_that_of_two_softmaxes_over_a_row() -> None:
    outputs = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (8, 2)).astype(np.float32))
    labels = torch.zeros(8, 2)
    labels[1, 0] = labels[3, 1] = 1  # words 1 to 3 of the first row
    labels[4] = 1  # no words at all: no answer
    labels[6, 0] = labels[6, 1] = labels[7, 0] = labels[7, 1] = 0.5  # either word of the last row
    got = KIND.hard_loss(outputs, labels, torch.from_numpy(GROUPS))
    first, last = (torch.log_softmax(outputs[:4, c], 0) for c in range(2))
    end = torch.log_softmax(outputs[5:], 0)
    wanted = [-(first[1] + last[3]) / 2, torch.tensor(0.0), -end[1:].mean()]
    torch.testing.assert_close(got, torch.stack(wanted))
    even = KIND.hard_loss(torch.zeros(8, 2), labels, torch.from_numpy(GROUPS))
    torch.testing.assert_close(even, torch.tensor(np.log([4.0, 1.0, 3.0]), dtype=torch.float32))


def test_a_constant_on_a_row_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    own, teacher = rng.normal(0, 2, (8, 2)), rng.normal(0, 2, (1, 8, 2))
    shift = np.array([[5.0, -2], [0, 3], [-7, 1]])[GROUPS]
    cover, groups = np.ones((1, 8), bool), torch.from_numpy(GROUPS)
    for space in ("probabilities", "logits"):
        losses = []
        for moved in (0.0, shift):
            targets = KIND.combine(
                (teacher + moved).astype(np.float32), cover, GROUPS, temperature=2.0, space=space
            )
            outputs = torch.from_numpy((own - moved).astype(np.float32))
            losses.append(
                KIND.soft_loss(
                    outputs, torch.from_numpy(targets), groups, temperature=2.0, space=space
                )
            )
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_members_combine_as_the_mean_of_their_probabilities(temperature: float) -> None:
    members = np.random.default_rng(2).normal(0, 3, (3, 8, 2)).astype(np.float32)
    cover = np.ones((3, 8), bool)
    got = KIND.combine(members, cover, GROUPS, temperature=temperature, space="probabilities")
    for g in range(3):
        own = softmax(members[:, g == GROUPS] / temperature, axis=1)
        np.testing.assert_allclose(got[g == GROUPS], own.mean(0), rtol=1e-5)
    even = KIND.combine(members, cover, GROUPS, temperature=1e5, space="probabilities")
    np.testing.assert_allclose(even, 1 / np.repeat(SIZES, SIZES)[:, None] * [1, 1], atol=1e-3)


def test_words_need_their_rows() -> None:
    one = torch.zeros(2, 2)
    with pytest.raises(ValueError, match="groups are missing"):
        KIND.hard_loss(one, one, None)
    with pytest.raises(ValueError, match="groups are missing"):
        KIND.soft_loss(one, one, None, temperature=1.0, space="logits")
    with pytest.raises(ValueError, match="groups are missing"):
        KIND.predict(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="groups are missing"):
        KIND.predict_ensemble(np.zeros((1, 2, 2)), None)
    with pytest.raises(ValueError, match="with their passages"):
        KIND.decode(np.zeros((2, 6)))


# -- the best answer ----------------------------------------------------------------------------


def best_by_hand(logs: np.ndarray) -> tuple[tuple[int, int], float]:
    """Over all pairs of words of a row, and by how much no answer beats it."""
    words = logs[1:]
    pairs = [
        (float(words[a, 0] + words[b, 1]), (a, b))
        for a in range(len(words))
        for b in range(a, min(a + _MOST_WORDS, len(words)))
    ]
    score, pair = max(pairs, key=lambda found: found[0])
    return pair, float(logs[0].sum()) - score


@settings(max_examples=60)
@example([2], 0)
@example([45, 1, 2, 33], 1)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), seeds)
def test_the_best_answer_is_the_best_of_all_pairs(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    outputs = rng.normal(0, 3, (len(groups), 2)).astype(np.float32)
    for kind in (KIND, OR_NONE, Span(unanswerable=True, margin=-3.0)):
        found = kind.predict(outputs, groups)
        assert found.shape == (len(sizes), 6)
        for row in range(len(sizes)):
            logs = log_softmax(outputs[groups == row].astype(np.float64), axis=0)
            if len(logs) == 1:  # a passage without words has no answer to give
                assert found[row, :4].tolist() == [-1.0] * 4
                continue
            pair, margin = best_by_hand(logs)
            assert tuple(found[row, 2:4]) == pair
            assert found[row, 5] - found[row, 4] == pytest.approx(margin)
            none = kind.unanswerable and margin > kind.margin
            assert tuple(found[row, :2]) == ((-1, -1) if none else pair)


def test_an_ensemble_is_the_mean_of_probabilities() -> None:
    members = np.random.default_rng(3).normal(0, 3, (3, 8, 2)).astype(np.float32)
    found = OR_NONE.predict_ensemble(members, GROUPS)
    for g in (0, 2):
        mean = softmax(members[:, g == GROUPS].astype(np.float64), axis=1).mean(0)
        pair, margin = best_by_hand(np.log(mean))
        assert tuple(found[g, 2:4]) == pair
        assert found[g, 5] - found[g, 4] == pytest.approx(margin)


def test_certainty_does_not_overflow() -> None:
    outputs = np.array([[0, 0], [1e4, -1e4], [-1e4, 1e4]], np.float32)
    for found in (
        OR_NONE.predict(outputs, np.zeros(3, int)),
        OR_NONE.predict_ensemble(outputs[None], np.zeros(3, int)),
    ):
        assert found[0, :2].tolist() == [0.0, 1.0]
        assert np.isfinite(found).all()


# -- no answer ----------------------------------------------------------------------------------


def rows_of(seed: int, n: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Predictions whose margin knows a little of which rows have an answer; some tie."""
    rng = np.random.default_rng(seed)
    context = "good film bad song"
    truth, found = np.empty(n, object), np.empty((n, 6))
    for i in range(n):
        has = rng.random() < 0.6
        truth[i] = Passage(context, *word_bounds(context), ("good film",) if has else ())
        first = int(rng.integers(0, 3))
        margin = round(float(rng.normal(-3.0 if has else 1.0, 3.0)))  # whole numbers: they tie
        found[i] = [first, first + 1, first, first + 1, -margin, 0.0]
    return truth, found


def with_margin(found: np.ndarray, margin: float) -> np.ndarray:
    """The predictions of a kind with another margin."""
    answers = found.copy()
    answers[found[:, 5] - found[:, 4] > margin, :2] = -1
    return answers


@settings(max_examples=60)
@given(seed=seeds, n=st.integers(1, 30))
def test_the_tuned_margin_is_the_best_that_there_is(seed: int, n: int) -> None:
    truth, found = rows_of(seed, n)
    tuned = OR_NONE.tune(found, truth, None)
    score = KIND.metric("token_f1").score
    cuts = [-1e9, 0.0, *(found[:, 5] - found[:, 4]), 1e9]
    best = max(score(truth, with_margin(found, cut)) for cut in cuts)
    assert score(truth, with_margin(found, tuned.margin)) == pytest.approx(best)


def test_a_margin_is_tuned_only_where_rows_may_have_no_answer() -> None:
    truth, found = rows_of(0)
    assert KIND.tune(found, truth, None) is KIND
    assert OR_NONE.tune(found, truth, None).margin != 0.0


def test_a_tuned_margin_decides_and_is_kept() -> None:
    groups = np.zeros(3, int)
    outputs = np.array([[1.0, 1], [0.5, 0], [0, 0.5]], np.float32)
    assert OR_NONE.predict(outputs, groups)[0, :2].tolist() == [-1, -1]
    assert KIND.predict(outputs, groups)[0, :2].tolist() == [0, 1]
    bold = Span(unanswerable=True, margin=1.5)
    assert bold.predict(outputs, groups)[0, :2].tolist() == [0, 1]
    restored = kind_from_json(json.loads(json.dumps(bold.to_json())))
    assert restored == bold
    assert "margin" not in OR_NONE.to_json()


# -- answers ------------------------------------------------------------------------------------


def test_decoding_gives_the_text_as_it_stands() -> None:
    found = np.array(
        [
            [0, 1, 0, 1, -0.5, -1.5],
            [13, 13, 13, 13, -1, -1],
            [17, 19, 0, 0, -2, -2],
            [-1, -1, 0, 0, -9, 0],
        ]
    )
    answers = OR_NONE.decode(found, [["?"] * 4, [PASSAGE] * 4])
    assert [a["prediction"] for a in answers] == ["Ada Byron", "🙂", "O'Neill", ""]
    assert answers[-1] == {
        "prediction": "",
        "start": None,
        "end": None,
        "score": pytest.approx(np.exp(-9), abs=1e-6),
        "no_answer_score": 1.0,
    }
    assert "no_answer_score" not in KIND.decode(found[:1], [["?"], [PASSAGE]])[0]
    for one in answers:
        jsonschema.validate(json.loads(json.dumps(one)), OR_NONE.answer_schema())
        if one["start"] is not None:
            assert PASSAGE[one["start"] : one["end"]] == one["prediction"]


@given(st.text("ab .,é🙂\n", min_size=1, max_size=30), st.data())
def test_what_is_encoded_is_decoded_again(context: str, data: st.DataObject) -> None:
    starts, ends = word_bounds(context)
    if not len(starts):
        return
    first = data.draw(st.integers(0, len(starts) - 1))
    last = data.draw(st.integers(first, len(starts) - 1))
    text, start = context[starts[first] : ends[last]], int(starts[first])
    _, firsts, lasts = KIND.encode(([text], [start]), ["?", context])
    assert (firsts, lasts) == ((first,), (last,))
    found = np.array([[firsts[0], lasts[0], firsts[0], lasts[0], 0.0, 0.0]])
    (one,) = KIND.decode(found, [["?"], [context]])
    assert (one["prediction"], one["start"]) == (text, start)
    truth = KIND.truth(label_array([((text,), firsts, lasts)]), [["?"], [context]])
    assert KIND.metric("exact_match").score(truth, found) == 1.0


@pytest.mark.parametrize(
    "one",
    [
        {"prediction": None, "start": None, "end": None},
        {"prediction": "a", "start": -1, "end": 1},
        {"prediction": "a", "start": 0.5, "end": 1},
        {"prediction": "a"},
    ],
)
def test_other_answers_do_not_fit_the_schema(one: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(one, KIND.answer_schema())


# -- what the report shows ----------------------------------------------------------------------


def test_agreement_and_distance() -> None:
    a = np.array([[0, 1], [2, 5], [-1, -1], [-1, -1], [3, 3], [0, 0]], float)
    b = np.array([[0, 1], [4, 7], [-1, -1], [0, 4], [3, 4], [9, 9]], float)
    assert KIND.agreement(a, b, None) == pytest.approx(2 / 6)
    found = KIND.distance(a, b, None, None)
    assert found is not None
    # Two of six words; none against some; one of two; nothing in common.
    np.testing.assert_allclose(found, [0, 1 - 2 / 6, 0, 1, 0.5, 1])
    back = KIND.distance(b, a, None, None)
    assert back is not None
    np.testing.assert_allclose(back, found)
    assert KIND.details(None, {}, None) == {}
    assert KIND.score_groups(np.arange(3)) is None


# -- scores of others ---------------------------------------------------------------------------


def test_scores_of_others() -> None:
    rows: list[dict[str, object]] = [
        {"start_scores": [0.1, 0.9, 0.0], "end_scores": [0.1, 0, "0.9"]},
        {"start_scores": [1], "end_scores": [1]},
    ]
    got = KIND.from_scores(rows)
    assert got.shape == (4, 2)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(
        softmax(got[:3], axis=0), [[0.1, 0.1], [0.9, 0], [0, 0.9]], atol=1e-6
    )
    logits = KIND.from_scores([{"start_scores": [2, -1], "end_scores": [0.0, 5]}])
    np.testing.assert_array_equal(logits, np.array([[2, 0], [-1, 5]], np.float32))
    assert KIND.score_columns == ("start_scores", "end_scores")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"start_scores": [1.0, 2]}, "'end_scores' is None, not a list of numbers"),
        ({"start_scores": "1 2", "end_scores": [1, 2]}, "'start_scores' is '1 2', not a list"),
        ({"start_scores": [1, 2], "end_scores": [1]}, "2 start scores and 1 end scores"),
        ({"start_scores": [1, "x"], "end_scores": [1, 2]}, "a score is 'x', not a number"),
        ({"start_scores": [1, None], "end_scores": [1, 2]}, "a score is missing"),
    ],
)
def test_faulty_scores_say_why(row: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the reason is compared below)
        KIND.from_scores([row])
    assert reason in str(caught.value)
