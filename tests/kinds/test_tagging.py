"""A tag a word: what may be a tag, what a sentence weighs, which spans are read out."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from potstill.kinds import Tagging, kind_from_json
from potstill.tasks.load import label_array

KIND = Tagging(tags=("O", "B-loc", "I-loc", "B-per", "I-per"))
WORDS = [["Ada", "Byron", "left"], ["for", "Ökö-Straße", "🙂"]]
GROUPS = np.array([0, 0, 0, 1, 1, 1])


def of_tags(*tags: str, sure: float = 0.9) -> np.ndarray:
    """Probabilities whose largest are these tags'."""
    rest = (1 - sure) / (len(KIND.tags) - 1)
    return np.array([[sure if tag == own else rest for own in KIND.tags] for tag in tags])


# -- labels -------------------------------------------------------------------------------------


def test_tags_are_learned_in_a_fixed_order() -> None:
    labels: list[object] = [["B-per", "I-per"], "O O B-loc", ("O",)]
    kind = Tagging.learn(labels, {})
    assert kind.tags == KIND.tags  # I-loc is there though no row has it
    assert Tagging.learn(labels[::-1], {}) == kind
    assert kind.encode_label("O B-loc I-loc") == (0, 1, 2)
    assert kind.encode(("B-per", "B-per", "O"), [WORDS[0]]) == (3, 3, 0)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the tags are None, not a list of tags"),
        (3, "the tags are 3, not a list of tags"),
        (["O", 3, "O"], "not a list of tags"),
        (["O", None, "O"], "not a list of tags"),
        ([["O"], ["O"], ["O"]], "not a list of tags"),
        (["O", "O"], "2 tags for 3 words"),
        (["O"] * 4, "4 tags for 3 words"),
        ("O O", "2 tags for 3 words"),
        ([], "0 tags for 3 words"),
        (["O", "I-per", "O"], "tag 2 is 'I-per' but tag 1 is 'O': a span begins with B-"),
        (["I-per", "O", "O"], "tag 1 is 'I-per': a span begins with B-"),
        (["B-per", "I-loc", "O"], "tag 2 is 'I-loc' but tag 1 is 'B-per': a span begins with B-"),
        (["per", "O", "O"], "tag 1 is 'per': wanted 'O', 'B-<type>' or 'I-<type>'"),
        (["B-", "O", "O"], "tag 1 is 'B-'"),
        (["o", "O", "O"], "tag 1 is 'o'"),
        (["B-org", "O", "O"], "tag 'B-org' does not occur in train (known types: loc, per)"),
    ],
)
def test_faulty_labels_say_why(value: object, reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the reason is compared below)
        KIND.encode(value, [WORDS[0]])
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([], "mark nothing"),
        ([["O", "O"], "O"], "the training tags mark nothing: all are 'O'"),
        ([["per", "O"], ["O"]], "tag 1 is 'per': wanted 'O', 'B-<type>' or 'I-<type>'"),
        ([["O", "I-per"]], "tag 2 is 'I-per' but tag 1 is 'O': a span begins with B-"),
        ([[1, 2], [0]], "the tags are [1, 2], not a list of tags"),
    ],
)
def test_labels_that_make_no_task(labels: list[object], reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the reason is compared below)
        Tagging.learn(labels, {})
    assert reason in str(caught.value)


def test_faulty_labels_do_not_spoil_the_label_space() -> None:
    odd: list[object] = [None, 3, ["I-x"], ["B-y", "I-z"], ["B-"], [None], [["B-q"]]]
    assert Tagging.learn([["B-per"], *odd, ["B-loc"]], {}) == KIND


def test_labels_of_sentences_stand_one_after_the_other() -> None:
    labels = label_array([(3, 4, 0), (0, 1, 2)])  # of equal length: no table
    assert KIND.flat(labels, np.array([3, 3])).tolist() == [3, 4, 0, 0, 1, 2]
    truth = KIND.truth(labels, [WORDS])
    assert truth.tolist() == [3, 4, 0, 0, 1, 2]
    assert truth.dtype == np.int64
    assert KIND.describe(labels) == "6 words; spans: loc 1, per 1"
    assert KIND.label_in_words(labels[0], [WORDS[0]]) == ["per: Ada Byron"]
    assert KIND.label_in_words(labels[1], [WORDS[1]]) == ["loc: Ökö-Straße 🙂"]


def test_sentences_with_as_many_spans_are_one_stratum() -> None:
    labels = label_array([(0,), (1, 2, 2), (1, 1), (1, 3, 1, 3, 1), (3, 4, 3, 0, 1)])
    assert KIND.strata(labels).tolist() == [0, 1, 2, 3, 3]


# -- losses -------------------------------------------------------------------------------------


def test_hard_loss_is_the_mean_over_a_sentences_words() -> None:
    outputs = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (6, 5)).astype(np.float32))
    labels, groups = torch.tensor([3.0, 4, 0, 0, 1, 2]), torch.tensor([0, 0, 0, 0, 1, 1])
    by_word = torch.nn.functional.cross_entropy(outputs, labels.long(), reduction="none")
    wanted = torch.stack([by_word[:4].mean(), by_word[4:].mean()])
    torch.testing.assert_close(KIND.hard_loss(outputs, labels, groups), wanted)
    knowing_nothing = KIND.hard_loss(torch.zeros(6, 5), labels, groups)
    torch.testing.assert_close(knowing_nothing, torch.full((2,), float(np.log(5))))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_a_sentences_loss_does_not_hang_on_its_neighbours(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    own = torch.from_numpy(rng.normal(0, 2, (len(groups), 5)).astype(np.float32))
    teacher = rng.normal(0, 2, (1, len(groups), 5)).astype(np.float32)
    cover = np.ones((1, len(groups)), bool)
    labels = torch.from_numpy(rng.integers(0, 5, len(groups)).astype(np.float32))
    targets = torch.from_numpy(
        KIND.combine(teacher, cover, groups, temperature=2.0, space="probabilities")
    )

    def losses(at: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        of = torch.from_numpy(groups[at] - groups[at][0])
        soft = KIND.soft_loss(own[at], targets[at], of, temperature=2.0, space="probabilities")
        return KIND.hard_loss(own[at], labels[at], of), soft

    hard, soft = losses(np.arange(len(groups)))
    assert len(hard) == len(soft) == len(sizes)
    for g in range(len(sizes)):
        alone = losses(np.flatnonzero(groups == g))
        torch.testing.assert_close(torch.stack(alone)[:, 0], torch.stack([hard[g], soft[g]]))


def test_words_need_their_rows() -> None:
    one = torch.zeros(2, 5)
    with pytest.raises(ValueError, match="groups are missing"):
        KIND.hard_loss(one, torch.zeros(2), None)
    with pytest.raises(ValueError, match="groups are missing"):
        KIND.soft_loss(one, one, None, temperature=1.0, space="logits")
    with pytest.raises(ValueError, match="groups are missing"):
        KIND.distance(np.zeros((2, 5)), np.zeros((2, 5)), np.zeros(2), None)
    with pytest.raises(ValueError, match="with the words"):
        KIND.decode(np.zeros((2, 5)))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_members_combine_as_the_mean_of_their_probabilities(temperature: float) -> None:
    members = np.random.default_rng(1).normal(0, 3, (3, 6, 5)).astype(np.float32)
    cover = np.ones((3, 6), bool)
    got = KIND.combine(members, cover, GROUPS, temperature=temperature, space="probabilities")
    np.testing.assert_allclose(got, softmax(members / temperature, axis=-1).mean(0), rtol=1e-5)
    wrong = softmax(members.mean(0) / temperature, axis=-1)
    assert np.abs(wrong - got).max() > 0.01  # averaging logits is another thing
    np.testing.assert_allclose(
        KIND.predict_ensemble(members, GROUPS), softmax(members, axis=-1).mean(0), rtol=1e-5
    )
    even = KIND.combine(members, cover, GROUPS, temperature=1e5, space="probabilities")
    np.testing.assert_allclose(even, 1 / 5, atol=1e-3)


# -- answers ------------------------------------------------------------------------------------


def test_decoding() -> None:
    tags = ["B-per", "I-per", "O", "O", "B-loc", "I-loc"]
    answers = KIND.decode(of_tags(*tags), [WORDS], GROUPS)
    assert answers == [
        {
            "prediction": ["B-per", "I-per", "O"],
            "spans": [{"type": "per", "first": 0, "last": 1, "text": "Ada Byron"}],
        },
        {
            "prediction": ["O", "B-loc", "I-loc"],
            "spans": [{"type": "loc", "first": 1, "last": 2, "text": "Ökö-Straße 🙂"}],
        },
    ]
    for answer in answers:
        jsonschema.validate(json.loads(json.dumps(answer)), KIND.answer_schema())


def test_spans_end_with_their_sentence_and_odd_tags_are_read_as_conlleval_reads_them() -> None:
    tags = ["O", "I-per", "I-loc", "I-loc", "B-loc", "I-loc"]
    first, second = KIND.decode(of_tags(*tags), [WORDS], GROUPS)
    assert first["prediction"] == ["O", "B-per", "B-loc"]  # which is IOB2, with the same spans
    assert second["prediction"] == ["B-loc", "B-loc", "I-loc"]
    assert [(s["type"], s["first"], s["last"]) for s in first["spans"]] == [
        ("per", 1, 1),
        ("loc", 2, 2),
    ]
    assert [(s["type"], s["first"], s["last"]) for s in second["spans"]] == [
        ("loc", 0, 0),
        ("loc", 1, 2),
    ]


def test_sentences_of_unequal_length() -> None:
    rows = [["a"], ["b", "c", "d"], ["e", "f"]]
    tags = ["B-per", "O", "O", "B-loc", "B-per", "I-per"]
    answers = KIND.decode(of_tags(*tags), [rows], np.array([0, 1, 1, 1, 2, 2]))
    assert [answer["prediction"] for answer in answers] == [tags[:1], tags[1:4], tags[4:]]
    assert [[s["text"] for s in answer["spans"]] for answer in answers] == [["a"], ["d"], ["e f"]]


@pytest.mark.parametrize(
    "answer",
    [
        {"prediction": ["B-org"], "spans": []},
        {"prediction": ["O"]},
        {"prediction": "O", "spans": []},
        {"prediction": [], "spans": [{"type": "org", "first": 0, "last": 0, "text": "a"}]},
        {"prediction": [], "spans": [{"type": "per", "first": -1, "last": 0, "text": "a"}]},
    ],
)
def test_other_answers_do_not_fit_the_schema(answer: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(answer, KIND.answer_schema())


def test_what_is_restored_is_the_same() -> None:
    assert kind_from_json(json.loads(json.dumps(KIND.to_json()))) == KIND
    assert KIND.n_outputs == 5
    assert KIND.class_names == KIND.tags


# -- what the report shows ----------------------------------------------------------------------


def test_agreement_is_of_words_and_distance_of_sentences() -> None:
    a, b = of_tags("O", "O", "B-per", "O", "O", "O"), of_tags("O", "O", "B-loc", "O", "O", "B-per")
    assert KIND.agreement(a, b, GROUPS) == pytest.approx(4 / 6)
    uneven = np.array([0, 0, 0, 0, 0, 1])
    found = KIND.distance(a, b, None, uneven)
    assert found is not None
    apart = 0.9 - 0.025  # of two words that get another tag, in total variation
    np.testing.assert_allclose(found, [apart / 5, apart])


def test_details_have_each_types_f1() -> None:
    truth = np.array([3, 4, 0, 0, 1, 2])
    said = of_tags("B-per", "I-per", "B-loc", "O", "B-loc", "O")
    found = KIND.details(truth, {"student": said}, GROUPS)
    assert found == {"by_label": {"loc": {"n": 1, "student": 0.0}, "per": {"n": 1, "student": 1.0}}}
    perfect = KIND.details(truth, {"s": np.eye(5)[truth]}, GROUPS)["by_label"]
    assert {entry["s"] for entry in perfect.values()} == {1.0}
    assert KIND.metric("span_f1").score(truth, said, GROUPS) == pytest.approx(2 / 5)
    assert KIND.metric("accuracy").score(truth, said) == pytest.approx(4 / 6)


# -- scores of others ---------------------------------------------------------------------------


def test_scores_of_others() -> None:
    rows: list[dict[str, object]] = [
        {"scores": [[0.6, 0.1, 0.1, 0.1, 0.1], [1, 0, 0, 0, 0]]},
        {"scores": [["0.2"] * 5]},
    ]
    got = KIND.from_scores(rows)
    wanted = [[0.6, 0.1, 0.1, 0.1, 0.1], [1.0, 0, 0, 0, 0], [0.2] * 5]
    np.testing.assert_allclose(softmax(got, -1), wanted, atol=1e-5)
    np.testing.assert_allclose(got.mean(1), 0.0, atol=1e-5)  # as logits that are compared are
    logits = KIND.from_scores([{"scores": [[1.0, -2, 3, 0, 0.5]]}])
    np.testing.assert_allclose(logits, np.array([[1.0, -2, 3, 0, 0.5]]) - 0.5, rtol=1e-6)
    assert KIND.score_columns == ("scores",)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "'scores' is None, not a list of a list a word"),
        ("0.1 0.9", "not a list of a list a word"),
        ([0.1, 0.9], "not a list of a list a word"),
        ([], "'scores' holds no word"),
        ([[0.2] * 5, [0.5, 0.5]], "2 scores of a word for 5 tags"),
        ([[0.2] * 4 + ["x"]], "a score is 'x', not a number"),
        ([[0.2] * 4 + [None]], "a score is missing"),
        ([[0.2] * 4 + [float("nan")]], "not a finite number"),
    ],
)
def test_faulty_scores_say_why(value: object, reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the reason is compared below)
        KIND.from_scores([{"scores": value}])
    assert reason in str(caught.value)
