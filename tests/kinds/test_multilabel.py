"""Several labels a row: lists in, lists out, thresholds in between."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from potstill.kinds import Multilabel, kind_from_json
from potstill.metrics.multilabel import MACRO_F1

KIND = Multilabel(classes=("a", "b", "c"))
seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and outputs that know a little of them."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, 3)) < [0.5, 0.2, 0.8]).astype(np.float64)
    outputs = 1.5 * truth + rng.normal(-2, 1.5, truth.shape)
    return truth, outputs.astype(np.float32)


# -- labels -------------------------------------------------------------------------------------


def test_labels_are_learned_in_a_fixed_order() -> None:
    labels: list[object] = [["b", 10], [], ("9", "b"), [9.0]]
    kind = Multilabel.learn(labels, {})
    assert kind.classes == ("9", "10", "b")
    assert Multilabel.learn(labels[::-1], {}) == kind
    assert kind.encode_label(["b", 9]) == (1.0, 0.0, 1.0)
    assert kind.encode_label([]) == (0.0, 0.0, 0.0)
    assert kind.encode_label(("10",)) == (0.0, 1.0, 0.0)
    given_order = Multilabel.learn(labels, {"classes": ["b", "x", "10", "9"]})
    assert given_order.classes == ("b", "x", "10", "9")
    assert given_order.thresholds is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the labels are missing; an empty list means none"),
        ("a", "the labels are 'a', not a list (csv files hold no lists: use jsonl or parquet)"),
        ({"a": 1}, "not a list"),
        (3.0, "the labels are 3.0, not a list"),
        (["bb", "a"], "label 'bb' is none of the classes (known: a, b, c; nearest: 'b')"),
        (["x"], "label 'x' is none of the classes (known: a, b, c)"),
        (["a", "b", "a"], "label 'a' stands in the list twice"),
        (["a", " a"], "label 'a' stands in the list twice"),
        (["a", None], "missing or empty"),
        (["  "], "missing or empty"),
        ([["a"]], "the label is a list, not one class"),
        ([b"a"], "the label is bytes b'a', not text"),
    ],
)
def test_faulty_labels_say_why(value: object, reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the reason is compared below)
        KIND.encode(value, ["some text"])
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([], "name no label at all"),
        ([[], []], "name no label at all: their lists are empty, or missing"),
        ([[["a"]], [["b"]]], "name no label at all: the label is a list, not one class"),
        ([["a"], ["a"]], "all training rows have the same labels"),
        ([["a", "b"], ["b", "a"]], "all training rows have the same labels"),
        (["a", "b", "a b"], "the labels are 'a', not a list (csv files hold no lists"),
    ],
)
def test_labels_that_make_no_task(labels: list[object], reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the reason is compared below)
        Multilabel.learn(labels, {})
    assert reason in str(caught.value)


def test_faulty_labels_do_not_spoil_the_label_space() -> None:
    odd: list[object] = [None, "x", 3, ["b", None, ""], [["y"]], [{"z": 1}]]
    assert Multilabel.learn([["b"], *odd, ["a"]], {}).classes == ("a", "b")


def test_labels_in_words_and_in_counts() -> None:
    rows = np.array([[1.0, 0, 1], [0, 0, 0], [1, 0, 0], [1, 1, 0]])
    assert KIND.label_in_words(rows[0], ["text"]) == ["a", "c"]
    assert KIND.label_in_words(rows[1], ["text"]) == []
    assert KIND.describe(rows) == "1.25 labels a row, 1 rows without; a 3, b 1, c 1"
    np.testing.assert_array_equal(KIND.flat(rows, None), rows)
    np.testing.assert_array_equal(KIND.truth(rows, [["text"] * 4]), rows)


def test_the_rarest_label_decides_a_rows_stratum() -> None:
    rows = np.array([[1.0, 0, 1], [0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 0, 1]])  # a 4, b 1, c 2
    assert KIND.strata(rows).tolist() == [1, 3, 2, 0, 1]


# -- losses -------------------------------------------------------------------------------------


def test_hard_loss_is_that_of_c_questions_of_their_own() -> None:
    truth, outputs = drawn(0)
    z, y = torch.from_numpy(outputs), torch.from_numpy(truth).float()
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(z, y, reduction="none").mean(1)
    torch.testing.assert_close(KIND.hard_loss(z, y, None), wanted)
    knowing_nothing = KIND.hard_loss(
        torch.zeros(2, 3), torch.tensor([[0.0] * 3, [1.0, 0, 1]]), None
    )
    torch.testing.assert_close(knowing_nothing, torch.full((2,), np.log(2.0)).float())


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_members_combine_as_the_mean_of_their_probabilities(temperature: float) -> None:
    members = np.random.default_rng(1).normal(0, 3, (3, 5, 3)).astype(np.float32)
    cover = np.ones((3, 5), bool)
    got = KIND.combine(members, cover, None, temperature=temperature, space="probabilities")
    np.testing.assert_allclose(got, expit(members / temperature).mean(0), rtol=1e-5)
    assert np.abs(got.sum(1) - 1).max() > 0.1  # labels do not share one sum
    mean = KIND.combine(members, cover, None, temperature=temperature, space="logits")
    np.testing.assert_allclose(mean, members.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        KIND.predict_ensemble(members, None), expit(members.astype(np.float64)).mean(0), rtol=1e-6
    )


def test_a_high_temperature_is_even_and_its_loss_keeps_a_scale() -> None:
    members = np.random.default_rng(2).normal(0, 2, (1, 6, 3)).astype(np.float32)
    soft = KIND.combine(
        members, np.ones((1, 6), bool), None, temperature=1e5, space="probabilities"
    )
    np.testing.assert_allclose(soft, 0.5, atol=1e-3)
    # T² keeps the gradient: at a high T that of T² times the cross entropy is (z - t) / 4 C.
    z = torch.zeros(6, 3, requires_grad=True)
    targets = KIND.combine(
        members, np.ones((1, 6), bool), None, temperature=1e3, space="probabilities"
    )
    loss = KIND.soft_loss(
        z, torch.from_numpy(targets), None, temperature=1e3, space="probabilities"
    )
    torch.autograd.backward(loss.sum())
    assert z.grad is not None
    np.testing.assert_allclose(z.grad.numpy(), -members[0] / 12, atol=5e-3)


# -- thresholds ---------------------------------------------------------------------------------


@settings(max_examples=30)
@given(seed=seeds)
def test_tuned_thresholds_are_the_best_that_there_are(seed: int) -> None:
    truth, outputs = drawn(seed)
    tuned = KIND.tune(KIND.predict(outputs), truth, None)
    assert tuned.thresholds is not None
    found = MACRO_F1.score(truth, tuned.predict(outputs))
    assert found >= MACRO_F1.score(truth, KIND.predict(outputs))
    probabilities = expit(outputs.astype(np.float64))
    for c in range(3):
        said = tuned.predict(outputs)[:, c] > 0.5
        np.testing.assert_array_equal(said, probabilities[:, c] > tuned.thresholds[c])
        best = max(
            f1(truth[:, c], probabilities[:, c] >= cut) for cut in [*probabilities[:, c], 2.0]
        )
        assert f1(truth[:, c], said) == pytest.approx(best)


def f1(truth: np.ndarray, said: np.ndarray) -> float:
    return 2 * float(truth @ said) / max(float(truth.sum() + said.sum()), 1.0)


@given(seed=seeds)
@settings(max_examples=10)
def test_tuning_again_and_an_ensemble_of_one_change_nothing(seed: int) -> None:
    truth, outputs = drawn(seed)
    tuned = KIND.tune(KIND.predict(outputs), truth, None)
    again = tuned.tune(tuned.predict(outputs), truth, None)
    assert again.thresholds == pytest.approx(tuned.thresholds, abs=1e-6)
    of_one = KIND.tune(KIND.predict_ensemble(outputs[None], None), truth, None)
    assert of_one.thresholds == pytest.approx(tuned.thresholds, abs=1e-6)


def test_thresholds_are_kept() -> None:
    truth, outputs = drawn(5)
    tuned = KIND.tune(KIND.predict(outputs), truth, None)
    assert tuned != KIND
    restored = kind_from_json(json.loads(json.dumps(tuned.to_json())))
    assert restored == tuned
    np.testing.assert_array_equal(restored.predict(outputs), tuned.predict(outputs))
    assert "thresholds" not in KIND.to_json()


def test_thresholds_move_decisions_and_leave_scores_alone() -> None:
    outputs = np.array([[-1.0, 0.5, 3.0], [40.0, -40.0, 0.0]], np.float32)
    tuned = Multilabel(classes=KIND.classes, thresholds=(0.2, 0.9, 0.5))
    for kind, said in ((KIND, [["b", "c"], ["a"]]), (tuned, [["a", "c"], ["a"]])):
        answers = kind.decode(kind.predict(outputs))
        assert [answer["prediction"] for answer in answers] == said
        for answer, row in zip(answers, outputs, strict=True):
            jsonschema.validate(json.loads(json.dumps(answer)), kind.answer_schema())
            wanted = dict(zip("abc", expit(row.astype(np.float64)), strict=True))
            assert answer["scores"] == pytest.approx(wanted, abs=2e-6)


@pytest.mark.parametrize(
    "answer",
    [
        {"prediction": ["x"], "scores": {"a": 0.1, "b": 0.1, "c": 0.1}},
        {"prediction": "a", "scores": {"a": 0.1, "b": 0.1, "c": 0.1}},
        {"prediction": [], "scores": {"a": 0.1, "b": 0.1}},
        {"prediction": []},
    ],
)
def test_other_answers_do_not_fit_the_schema(answer: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(answer, KIND.answer_schema())


# -- what the report shows ----------------------------------------------------------------------


def test_agreement_and_distance() -> None:
    a = np.array([[0.9, 0.1, 0.1], [0.6, 0.6, 0.1], [0.1, 0.1, 0.1]])
    b = np.array([[0.6, 0.2, 0.1], [0.6, 0.4, 0.1], [0.1, 0.1, 0.1]])
    assert KIND.agreement(a, b, None) == pytest.approx(2 / 3)
    found = KIND.distance(a, b, None, None)
    assert found is not None
    np.testing.assert_allclose(found, [0.3, 0.2, 0.0])


def test_details_have_each_labels_f1() -> None:
    truth = np.array([[1.0, 0, 0], [1, 1, 0], [0, 0, 0]])
    said = {"student": np.array([[0.9, 0.1, 0.9], [0.2, 0.8, 0.1], [0.1, 0.1, 0.1]])}
    assert KIND.details(truth, said, None) == {
        "by_label": {
            "a": {"n": 2, "student": pytest.approx(2 / 3)},
            "b": {"n": 1, "student": 1.0},
            "c": {"n": 0, "student": 0.0},
        }
    }


# -- scores of others ---------------------------------------------------------------------------


def test_scores_of_others() -> None:
    table: list[dict[str, object]] = [{"a": 0.0, "b": "0.5", "c": 1.0}, {"a": 0.9, "b": 0, "c": 1}]
    got = KIND.from_scores(table)
    np.testing.assert_allclose(expit(got), [[0, 0.5, 1], [0.9, 0, 1]], atol=2e-6)
    assert np.isfinite(got).all()
    logits = KIND.from_scores([{"a": -3.0, "b": 0.5, "c": 7}])
    np.testing.assert_array_equal(logits, np.array([[-3.0, 0.5, 7.0]], np.float32))
    with pytest.raises(ValueError, match="the score of 'c' is missing"):
        KIND.from_scores([{"a": 1, "b": 2}])
    assert KIND.score_columns == ("a", "b", "c")
