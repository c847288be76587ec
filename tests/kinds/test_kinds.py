"""The laws that every kind keeps: labels, losses, soft targets, storage."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from potstill.kinds import (
    KINDS,
    Classification,
    Kind,
    Multilabel,
    Ranking,
    Regression,
    Space,
    Span,
    Tagging,
    kind_from_json,
)
from potstill.kinds.base import covered_mean
from potstill.kinds.classification import label_order
from potstill.kinds.scores import MixedScores

CAFE = Classification(classes=("caf\u00e9", "the"))
UNSEEN = Classification(classes=("a\ufeff", "c"))
THREE = Classification(classes=("a", "b", "c"), positive_class="b")
SCORE = Regression(low=0.0, high=5.0, mean=0.6, spread=0.25)
LISTS = Ranking(highest=1.0)
LABELS = Multilabel(classes=("a", "b", "c"), thresholds=(0.3, 0.5, 0.9))
TAGS = Tagging(tags=("O", "B-x", "I-x"))
SPANS = Span(unanswerable=True, margin=0.25)
ALL: tuple[Kind, ...] = (THREE, SCORE, LISTS, LABELS, TAGS, SPANS)
N = 6
GROUPS = np.array([0, 0, 0, 1, 1, 2])

every_kind = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
both_spaces = pytest.mark.parametrize("space", ["probabilities", "logits"])
seeds = st.integers(0, 2**32 - 1)


def groups_of(kind: Kind) -> np.ndarray | None:
    return GROUPS if kind.grouped or kind.slotted else None


def outputs_of(kind: Kind, seed: int, n_members: int | None = None) -> np.ndarray:
    lead = () if n_members is None else (n_members,)
    draw = np.random.default_rng(seed).normal(0, 2, (*lead, N, kind.n_outputs))
    return draw.astype(np.float32)


def combined(
    kind: Kind, members: np.ndarray, temperature: float = 1.0, space: Space = "probabilities"
) -> np.ndarray:
    cover = np.ones(members.shape[:2], bool)
    return kind.combine(members, cover, groups_of(kind), temperature=temperature, space=space)


def soft_loss(
    kind: Kind, outputs: torch.Tensor, targets: np.ndarray, temperature: float, space: Space
) -> torch.Tensor:
    groups = None if groups_of(kind) is None else torch.from_numpy(GROUPS)
    return kind.soft_loss(
        outputs, torch.from_numpy(targets), groups, temperature=temperature, space=space
    )


# -- soft targets -------------------------------------------------------------------------------


@every_kind
@both_spaces
@settings(max_examples=10, deadline=None)
@given(seed=seeds, temperature=st.sampled_from([0.5, 1.0, 4.0]))
def test_who_agrees_with_the_teacher_has_nothing_to_learn(
    kind: Kind, space: Space, seed: int, temperature: float
) -> None:
    own = outputs_of(kind, seed)
    targets = combined(kind, own[None], temperature, space)
    outputs = torch.from_numpy(own).requires_grad_()
    loss = soft_loss(kind, outputs, targets, temperature, space)
    torch.autograd.backward(loss.sum())
    assert outputs.grad is not None
    assert outputs.grad.abs().max() < 2e-5
    moved = own + np.random.default_rng(seed + 1).normal(0, 1, own.shape).astype(np.float32)
    other = soft_loss(kind, torch.from_numpy(moved), targets, temperature, space)
    assert (other >= loss.detach() - 1e-4).all()
    if space == "logits" or kind is SCORE:
        torch.testing.assert_close(loss.detach(), torch.zeros_like(loss))


@every_kind
@both_spaces
@settings(max_examples=10, deadline=None)
@given(seed=seeds, temperature=st.sampled_from([1.0, 3.0]))
def test_ensemble_of_one_is_its_member_and_order_changes_nothing(
    kind: Kind, space: Space, seed: int, temperature: float
) -> None:
    members = outputs_of(kind, seed, 3)
    one = combined(kind, members[:1], temperature, space)
    np.testing.assert_allclose(
        combined(kind, members[[0, 0]], temperature, space), one, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        combined(kind, members[[2, 0, 1]], temperature, space),
        combined(kind, members, temperature, space),
        rtol=1e-5,
        atol=1e-6,
    )
    if space == "logits":
        np.testing.assert_allclose(one, members[0], rtol=1e-6)
    groups = groups_of(kind)
    single = kind.predict_ensemble(members[:1], groups)
    if not kind.grouped:  # a list's ensemble gives probabilities, a single net scores
        np.testing.assert_allclose(single, kind.predict(members[0], groups), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        kind.predict_ensemble(members[::-1], groups),
        kind.predict_ensemble(members, groups),
        rtol=1e-5,
        atol=1e-6,  # of values near 0, which are sums of larger ones
    )


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_classes_combine_as_the_mean_of_probabilities(temperature: float) -> None:
    members = outputs_of(THREE, 1, 3)
    got = combined(THREE, members, temperature)
    wanted = softmax(members / temperature, axis=-1).mean(0)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    wrong = softmax(members.mean(0) / temperature, axis=-1)
    assert np.abs(wrong - wanted).max() > 0.01  # averaging logits is another thing
    np.testing.assert_allclose(
        THREE.predict_ensemble(members, None), softmax(members, axis=-1).mean(0), rtol=1e-5
    )


def test_a_high_temperature_is_uniform_and_its_loss_keeps_a_scale() -> None:
    members = outputs_of(THREE, 2, 2)
    np.testing.assert_allclose(combined(THREE, members, 1e5), 1 / 3, atol=1e-3)
    lists = combined(LISTS, outputs_of(LISTS, 2, 2), 1e5)[:, 0]
    np.testing.assert_allclose(lists, [1 / 3] * 3 + [1 / 2] * 2 + [1], atol=1e-3)
    # T² keeps the gradient: at a high T it is (z - t) / C, centred (Hinton et al. 2015, 2.1).
    student, teacher = outputs_of(THREE, 3), outputs_of(THREE, 4)
    z = torch.from_numpy(student).requires_grad_()
    torch.autograd.backward(
        soft_loss(THREE, z, combined(THREE, teacher[None], 1e3), 1e3, "probabilities").sum()
    )
    assert z.grad is not None
    centred = (student - student.mean(1, keepdims=True)) - (
        teacher - teacher.mean(1, keepdims=True)
    )
    np.testing.assert_allclose(z.grad.numpy(), centred / 3, atol=0.05)


def test_covered_mean_counts_only_who_has_an_opinion() -> None:
    members = np.array([[[1.0], [2.0], [7.0]], [[3.0], [9.0], [7.0]]])
    cover = np.array([[True, True, False], [True, False, False]])
    got = covered_mean(members, cover)
    np.testing.assert_array_equal(got, np.array([[2.0], [2.0], [0.0]], np.float32))
    assert got.dtype == np.float32


@every_kind
@both_spaces
def test_partial_cover(kind: Kind, space: Space) -> None:
    members = outputs_of(kind, 5, 2)
    cover = np.ones((2, N), bool)
    cover[1, :3] = False  # member 1 does not know the first list
    cover[:, 5] = False  # nobody knows the last row
    members[~cover] = 0
    got = kind.combine(members, cover, groups_of(kind), temperature=1.0, space=space)
    alone = combined(kind, members[:1], space=space)
    both = combined(kind, members, space=space)
    np.testing.assert_allclose(got[:3], alone[:3], rtol=1e-5)
    np.testing.assert_allclose(got[3:5], both[3:5], rtol=1e-5)
    assert (got[5] == 0).all()


@every_kind
@given(seed=seeds, scale=st.sampled_from([1e-2, 1.0, 30.0]))
@settings(max_examples=20, deadline=None)
def test_storage_round_trip(kind: Kind, seed: int, scale: float) -> None:
    outputs = outputs_of(kind, seed) * np.float32(scale)
    stored = kind.to_store(outputs)
    assert stored.dtype == np.dtype(kind.storage)
    back = kind.from_store(stored)
    assert back.dtype == np.float32
    if kind.storage == "float16":  # 11 bits; below 6e-5 the steps are 6e-8
        assert (np.abs(back - outputs) <= np.abs(outputs) * 2**-11 + 2**-24).all()
    else:
        np.testing.assert_allclose(back, outputs, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(kind.to_store(back), stored)


def test_stored_values_do_not_hang_on_the_training_labels() -> None:
    other = Regression(low=0.0, high=5.0, mean=0.1, spread=0.5)
    outputs = outputs_of(SCORE, 6)
    carried = other.from_store(SCORE.to_store(outputs))
    np.testing.assert_allclose(other.predict(carried), SCORE.predict(outputs), atol=1e-5)


# -- losses -------------------------------------------------------------------------------------


def test_hard_loss_of_knowing_nothing_is_about_one() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(1, 4, 500)
    kind = Regression.learn(list(values), {"range": (0, 5)})
    mean = torch.zeros(500, 1)  # outputs are standardised: 0 is the mean label
    loss = kind.hard_loss(mean, torch.from_numpy(kind.flat(values, None)).float(), None)
    assert loss.mean() == pytest.approx(1.0, rel=1e-3)
    assert kind.predict(mean.numpy())[0] == pytest.approx(values.mean())
    labels = torch.tensor([0.0, 1, 2, 0, 1, 2])
    classes = THREE.hard_loss(torch.zeros(6, 3), labels, None)
    torch.testing.assert_close(classes, torch.full((6,), math.log(3)))


def test_hard_losses_against_torch() -> None:
    outputs = torch.from_numpy(outputs_of(THREE, 7))
    labels = torch.tensor([0.0, 1, 2, 2, 1, 0])
    torch.testing.assert_close(
        THREE.hard_loss(outputs, labels, None),
        torch.nn.functional.cross_entropy(outputs, labels.long(), reduction="none"),
    )
    scores = torch.from_numpy(outputs_of(LISTS, 7))
    relevance = torch.tensor([0.0, 1, 0, 2, 2, 0])
    got = LISTS.hard_loss(scores, relevance, torch.from_numpy(GROUPS))
    logs = [torch.log_softmax(scores[g == GROUPS, 0], 0) for g in range(3)]
    wanted = [-logs[0][1], -(logs[1][0] + logs[1][1]) / 2, torch.tensor(0.0)]
    torch.testing.assert_close(got, torch.stack(wanted))


@both_spaces
@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(N)), seed=seeds)
def test_the_order_of_rows_within_lists_changes_nothing(
    space: Space, order: list[int], seed: int
) -> None:
    own, teacher = outputs_of(LISTS, seed), outputs_of(LISTS, seed + 1, 2)
    labels = torch.tensor([0.0, 1, 0, 2, 1, 1])
    cover = np.ones((2, N), bool)

    def losses(at: list[int]) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
        groups = torch.from_numpy(GROUPS[at])
        targets = LISTS.combine(teacher[:, at], cover, GROUPS[at], temperature=2.0, space=space)
        outputs = torch.from_numpy(own[at])
        hard = LISTS.hard_loss(outputs, labels[at], groups)
        soft = LISTS.soft_loss(
            outputs, torch.from_numpy(targets), groups, temperature=2.0, space=space
        )
        return hard, soft, LISTS.predict_ensemble(teacher[:, at], GROUPS[at])

    hard, soft, predicted = losses(list(range(N)))
    hard_moved, soft_moved, predicted_moved = losses(order)
    torch.testing.assert_close(hard_moved, hard)
    torch.testing.assert_close(soft_moved, soft)
    np.testing.assert_allclose(predicted_moved, predicted[order], rtol=1e-5)


def test_a_constant_on_a_list_changes_nothing() -> None:
    own, teacher = outputs_of(LISTS, 8), outputs_of(LISTS, 9, 1)
    shift = np.array([5, 5, 5, -3, -3, 1], np.float32)[:, None]
    spaces: tuple[Space, ...] = ("probabilities", "logits")
    for space in spaces:
        targets = combined(LISTS, teacher, space=space)
        shifted = combined(LISTS, teacher + shift, space=space)
        torch.testing.assert_close(
            soft_loss(LISTS, torch.from_numpy(own + shift), shifted, 1.0, space),
            soft_loss(LISTS, torch.from_numpy(own), targets, 1.0, space),
            rtol=1e-4,
            atol=1e-4,
        )


def test_an_ensemble_of_lists_keeps_the_order_far_behind_the_first() -> None:
    scores = np.array([200.0, 5, 4, 3, 1, 1], np.float32)[:, None]
    mean = LISTS.predict_ensemble(np.stack([scores, scores]), np.zeros(6, np.int64))
    assert np.isfinite(mean).all()
    assert (np.diff(mean)[:4] < 0).all()
    np.testing.assert_allclose(mean, np.log(softmax(scores[:, 0].astype(np.float64))))


def test_lists_need_their_groups() -> None:
    one = torch.zeros(2, 1)
    with pytest.raises(ValueError, match="group"):
        LISTS.hard_loss(one, torch.zeros(2), None)
    with pytest.raises(ValueError, match="group"):
        LISTS.soft_loss(one, one, None, temperature=1.0, space="logits")
    with pytest.raises(ValueError, match="group"):
        LISTS.predict_ensemble(np.zeros((1, 2, 1)), None)


# -- labels -------------------------------------------------------------------------------------


@every_kind
def test_json_round_trip(kind: Kind) -> None:
    facts = json.loads(json.dumps(kind.to_json()))
    assert facts["kind"] == kind.name
    assert kind_from_json(facts) == kind
    assert KINDS[kind.name] is type(kind)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["b", "a", "b"], ("a", "b")),
        ([1, 0, 10, 2], ("0", "1", "2", "10")),  # numbers by value, not by alphabet
        ([1.0, "0", True], ("0", "1", "true")),
        (["10", "9", "x"], ("9", "10", "x")),
        ([" a ", "a", "b"], ("a", "b")),
    ],
)
def test_classes_are_learned_in_a_fixed_order(
    labels: list[object], classes: tuple[str, ...]
) -> None:
    kind = Classification.learn(labels, {})
    assert kind.classes == classes
    assert Classification.learn(labels[::-1], {}) == kind
    assert {kind.encode_label(label) for label in labels} <= set(range(len(classes)))


def test_classes_named_nan_or_inf_are_words_in_one_order() -> None:
    names = ("9", "10", "-inf", "inf", "nan", "x")
    for order in permutations(names):  # what a set gives, whatever the hashes are
        assert sorted(order, key=label_order) == list(names)
    assert Classification.learn(["nan", 10, "inf", "x", 9.0, "-inf"], {}).classes == names


@pytest.mark.parametrize(
    ("train", "classes"),
    [
        ([False, True], ("false", "true")),  # of JSON lines or parquet
        (["False", "True"], ("False", "True")),  # of a csv file that Python wrote
        (["FALSE", "TRUE"], ("FALSE", "TRUE")),  # of a spreadsheet
    ],
)
def test_booleans_of_different_file_types_agree(
    train: list[object], classes: tuple[str, ...]
) -> None:
    learned = Classification.learn(train, {"positive": True})
    assert learned.classes == classes
    assert learned.positive == 1
    several = Multilabel.learn([[label] for label in train], {})
    named = Classification.learn(train, {"classes": ["true", "false"]})
    for label in (True, "true", "True", " TRUE "):
        assert learned.encode_label(label) == 1
        assert several.encode_label([label]) == (0, 1)
        assert named.encode_label(label) == 0


@pytest.mark.parametrize("train", [["0.0", "1.0"], ["0", "1"], [0.0, 1.0], [Decimal("0.0"), 1]])
def test_whole_numbers_of_different_file_types_agree(train: list[object]) -> None:
    learned = Classification.learn(train, {})
    for label in (1, 1.0, "1", "1.0", " 1.00 ", Decimal("1.0"), np.float32(1)):
        assert learned.encode_label(label) == 1
    with pytest.raises(ValueError, match="'01' is none of the classes"):
        learned.encode_label("01")
    assert Classification.learn([Decimal("0.5"), 1], {}).classes == ("0.5", "1")


def test_spellings_of_true_may_be_classes_of_their_own() -> None:
    kind = Classification.learn(["True", "true", "x"], {})
    assert kind.classes == ("True", "true", "x")
    assert [kind.encode_label(label) for label in ("True", "true", True)] == [0, 1, 1]
    with pytest.raises(ValueError, match="label 'TRUE' is none of the classes"):
        kind.encode_label("TRUE")


def test_given_classes_keep_their_order() -> None:
    kind = Classification.learn(["no", "yes"], {"classes": ["yes", "no", "maybe"]})
    assert kind.classes == ("yes", "no", "maybe")
    assert kind.encode_label("no") == 1
    assert kind.positive is None
    chosen = Classification.learn(["0", "1"], {"positive": 1})
    assert chosen.positive == 1
    with pytest.raises(ValueError, match="positive class 'ye'"):
        Classification.learn(["no", "yes"], {"positive": "ye"})


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (THREE, None, "missing"),
        (THREE, float("nan"), "missing"),
        (THREE, "  ", "empty"),
        (THREE, "\u200b", "empty"),
        (THREE, b"a", "the label is bytes b'a', not text or a number"),
        (THREE, "aa", "'aa' is none of the classes (known: a, b, c; nearest: 'a')"),
        (CAFE, "cafe\u0301", "nearest: 'caf\u00e9', which differs in blanks, in unseen characters"),
        (CAFE, "the\u200b", "label 'the\\u200b' is none of the classes"),
        (UNSEEN, "b", "known: a\\ufeff, c"),
        (SCORE, None, "missing"),
        (SCORE, "", "missing"),
        (SCORE, "high", "'high', not a number"),
        (SCORE, float("nan"), "not a finite number"),
        (SCORE, float("inf"), "not a finite number"),
        (SCORE, [1], "not a number"),
        (SCORE, "1_5", "'1_5', not a number"),
        (SCORE, "\u0663", "not a number"),
        pytest.param(SCORE, 10**400, "000, not a finite number", id="401 digits"),
        (SCORE, 5.1, "outside the range [0, 5]"),
        (SCORE, -0.1, "outside the range"),
        (LISTS, -1, "negative"),
        (LISTS, None, "missing"),
        (LISTS, "yes", "not a number"),
        pytest.param(LISTS, -(10**400), "not a finite number", id="minus 401 digits"),
    ],
)
def test_faulty_labels_say_why(kind: Kind, value: object, reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the reason is compared below)
        kind.encode_label(value)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("cls", "labels", "options", "reason"),
    [
        (Classification, ["a", "a"], {}, "one class only (a)"),
        (Classification, [], {}, "one class only (none)"),
        (Classification, ["a", "a"], {"classes": ["a", "b"]}, "one class only"),
        (Classification, [["a"], ["b"]], {}, "one class only (none); the label is a list"),
        (Classification, [b"a", b"b"], {}, "one class only (none); the label is bytes b'a'"),
        (Regression, [2.0, 2.0], {"range": (0, 5)}, "one value only"),
        (Regression, [], {"range": (0, 5)}, "one value only"),
        (
            Classification,
            ["neg", "pos"],
            {"classes": ["negative", "positive"]},
            "fewer than two of `classes:` (negative, positive) occur among the training labels "
            "(neg, pos)",
        ),
        (Ranking, [1, 1, 1], {}, "one relevance only"),
        (Ranking, ["no", "yes", 1], {}, "2 are no numbers, the first of them 'no'"),
        (Ranking, [1, -1, -2], {}, "2 lie outside 0 to inf, the first of them -1"),
        (
            Regression,
            ["3,5", 1.0, 4.0, 5.0],
            {"range": (0, 1)},
            "hold fewer than two values that can be learned; 1 are no numbers, the first of them "
            "'3,5'; 2 lie outside 0 to 1, the first of them 4.0",
        ),
    ],
)
def test_labels_that_make_no_task(
    cls: type[Kind], labels: list[object], options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the reason is compared below)
        cls.learn(labels, options)
    assert reason in str(caught.value)


def test_faulty_labels_do_not_spoil_the_label_space() -> None:
    """They are left to ``encode_label``, whose caller knows the row."""
    odd: list[object] = [None, float("nan"), "", 10**400]
    classes = Classification.learn(["b", *odd[:3], ["c"], {"d": 1}, ("e",), "a"], {}).classes
    assert classes == ("a", "b")
    clean = Regression.learn([1, 2], {"range": (0, 5)})
    assert Regression.learn([1, *odd, "x", 99, 2], {"range": (0, 5)}) == clean
    assert Ranking.learn([0, *odd, "x", -7, 2], {}) == Ranking(highest=2.0)


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e6])
def test_numbers_keep_their_digits_in_any_unit(unit: float) -> None:
    kind = Regression(low=0.0, high=5 * unit, mean=0.6, spread=0.25)
    values = np.array([1.23456, 4.32109]) * unit
    answers = [answer["prediction"] for answer in kind.decode(values)]
    assert answers == pytest.approx(values, rel=1e-6)
    shown = kind.details(values, {"student": values}, None)["scatter"]["student"]
    assert shown == pytest.approx(values, rel=1e-4)


# -- what people read ---------------------------------------------------------------------------


def test_decoding() -> None:
    probabilities = THREE.predict(np.array([[0.0, 2.0, 0.0]], np.float32))
    (answer,) = THREE.decode(probabilities)
    assert answer["prediction"] == "b"
    assert list(answer["scores"]) == ["a", "b", "c"]
    assert sum(answer["scores"].values()) == pytest.approx(1, abs=1e-5)
    assert SCORE.decode(SCORE.predict(np.array([[0.0], [100.0], [-100.0]]))) == [
        {"prediction": 3.0},
        {"prediction": 5.0},
        {"prediction": 0.0},
    ]
    assert LISTS.decode(LISTS.predict(np.array([[0.5]]))) == [{"prediction": 0.5}]


def test_output_line_says_what_predict_does() -> None:
    scale, shift = SCORE.output_line()
    outputs = np.array([[-0.3], [0.0], [0.7]], np.float32)
    np.testing.assert_allclose(SCORE.predict(outputs), outputs[:, 0] * scale + shift, rtol=1e-6)
    assert LISTS.output_line() == (1.0, 0.0)


def test_scores_of_others() -> None:
    table: list[dict[str, object]] = [
        {"c": 0.2, "a": "0.5", "b": 0.3, "note": "x"},
        {"a": 1.0, "b": 0.0, "c": 0.0},
    ]
    got = THREE.from_scores(table)  # they sum to 1: probabilities
    np.testing.assert_allclose(softmax(got, -1), [[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]], atol=1e-5)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got.mean(1), 0.0, atol=1e-5)  # as logits that are compared are
    logits = THREE.from_scores([{"a": -1.0, "b": 2.0, "c": 0.0}])
    np.testing.assert_allclose(logits, np.array([[-1.0, 2.0, 0.0]]) - 1 / 3, rtol=1e-6)
    values = SCORE.from_scores([{"value": 0.0}, {"value": 4.25}])
    np.testing.assert_allclose(SCORE.predict(values), [0.0, 4.25], atol=1e-5)
    np.testing.assert_array_equal(LISTS.from_scores([{"value": 3}]), [[3.0]])
    for kind, row in ((THREE, {"a": 1, "b": 2}), (SCORE, {}), (LISTS, {"value": "x"})):
        with pytest.raises(ValueError, match="missing|not a number"):
            kind.from_scores([row])


def test_likelihoods_of_a_language_model_survive_the_store() -> None:
    """Far from 0 a step of fp16 is a half and more."""
    given = np.array([[-1002.3, -1003.9, -1003.1], [-3001.0, -3000.4, -3000.9]])
    rows = [dict(zip(THREE.classes, map(float, row), strict=True)) for row in given]
    kept = THREE.from_store(THREE.to_store(THREE.from_scores(rows)))
    np.testing.assert_allclose(softmax(kept, -1), softmax(given, -1), atol=1e-3)


def test_large_labels_are_not_rounded() -> None:
    seconds = 1_700_000_000 + np.arange(200)
    kind = Regression.learn(list(seconds), {"range": (1_700_000_000, 1_700_000_200)})
    labels = np.array([kind.encode_label(value) for value in seconds])
    taught = kind.flat(labels, None).astype(np.float32)
    assert len(np.unique(taught)) == 200
    assert taught.std() == pytest.approx(1.0, rel=1e-4)
    loss = kind.hard_loss(torch.zeros(200, 1), torch.from_numpy(taught), None)
    assert loss.mean() == pytest.approx(1.0, rel=1e-3)
    outputs = kind.from_scores([{"value": float(value)} for value in seconds])
    np.testing.assert_allclose(outputs[:, 0], taught, atol=1e-5)


def test_rounded_probabilities_are_not_taken_for_logits() -> None:
    fine: list[dict[str, object]] = [{"a": 0.333, "b": 0.333, "c": 0.333}] * 3
    assert THREE.space_of_scores(fine) == "probabilities"
    rough: list[dict[str, object]] = [{"a": 0.3, "b": 0.3, "c": 0.3}] * 3
    with pytest.raises(MixedScores, match=r"sum to 0\.9, where all lie in 0 to 1"):
        THREE.space_of_scores(rough)
    assert THREE.space_of_scores([*rough, {"a": -0.1, "b": 2.0, "c": 0.0}]) == "logits"
