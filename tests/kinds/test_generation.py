"""A text for a text: labels, the pieces that teachers keep, and how ensembles become one target."""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from potstill.kinds import KINDS, Generation, Translation, kind_from_json
from potstill.kinds.generation import N_KEPT
from potstill.metrics.generation import sentence_chrf, signature
from potstill.tasks.load import label_array

KIND = Translation(language="de")
V = 40  # pieces of the vocabulary here
seeds = st.integers(0, 2**16)


def opinions(seed: int, n_slots: int = 5, *, k: int = N_KEPT, v: int = V) -> np.ndarray:
    """(S, 2 K) the K likeliest of V pieces with their log-probabilities, likeliest first."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n_slots, v))
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    best = np.argsort(-logs, axis=1)[:, :k]
    return np.concatenate([np.take_along_axis(logs, best, 1), best], axis=1, dtype=np.float32)


def combine(members: np.ndarray, cover: np.ndarray | None = None, t: float = 1.0) -> np.ndarray:
    if cover is None:
        cover = np.ones(members.shape[:2], bool)
    return KIND.combine(members, cover, None, temperature=t, space="probabilities")


def as_dicts(targets: np.ndarray) -> list[dict[int, float]]:
    """Each place's pieces and their probabilities, those of nothing left out."""
    k = targets.shape[1] // 2
    return [
        {int(p): float(v) for v, p in zip(row[:k], row[k:], strict=True) if v > 0}
        for row in targets
    ]


# -- labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the target is missing"),
        (float("nan"), "the target is missing"),
        ("", "the target is empty text"),
        (" \n\t ", "the target is empty text"),
        ("\u200b\ufeff \u2800", "the target is text of characters that cannot be seen"),
        (3, "the target is int 3, not text"),
        (["a"], "not text"),
        (b"a", "not text"),
        ("a\0b", "the target is text with a NUL character"),
        ("a\ud800", "half a character"),
    ],
)
def test_faulty_targets_say_why(value: object, reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the reason is compared below)
        KIND.encode_label(value)
    assert reason in str(caught.value)
    with pytest.raises(ValueError, match="no training row has a target text"):
        Translation.learn([value, None], {"language": "de"})
    # One sound row makes a task: the others are refused, or skipped, one by one.
    assert Translation.learn([value, "x"], {"language": "de"}).language == "de"


def test_no_rows_make_no_task() -> None:
    with pytest.raises(ValueError, match="no training row"):
        Generation.learn([], {"token": "x"})


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 2.0, math.nan])
def test_smoothing_has_limits(smoothing: float) -> None:
    with pytest.raises(ValueError, match="label_smoothing is"):
        Translation.learn(["x"], {"language": "de", "label_smoothing": smoothing})


def test_targets_stay_as_they_are() -> None:
    assert KIND.encode_label(" Ein  Satz. ") == " Ein  Satz. "
    labels = label_array(["ein Satz", "noch einer mehr"])
    assert KIND.describe(labels) == "targets of 2.5 words on average"
    assert KIND.strata(labels).tolist() == [0, 0]
    assert KIND.label_in_words(labels[0], ["a sentence"]) == "ein Satz"


def test_the_token_names_language_or_task() -> None:
    assert Translation.learn(["x"], {"language": "de"}).token == "<2de>"
    assert Generation.learn(["x"], {"token": "summary"}).token == "<2summary>"


@pytest.mark.parametrize("cls", [Generation, Translation])
def test_what_is_restored_is_the_same(cls: type[Generation]) -> None:
    kind = cls(language="de", label_smoothing=0.25)
    assert kind_from_json(json.loads(json.dumps(kind.to_json()))) == kind
    assert KINDS[cls.name] is cls
    assert kind.generates
    assert kind.n_outputs == 2 * N_KEPT


# -- the store ----------------------------------------------------------------------------------


@given(seeds, st.integers(1, 9))
def test_the_store_keeps_pieces_exactly_and_probabilities_as_fp16(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    pieces = rng.choice([0, 1, 255, 256, 32767, 32768, 65534, 65535], (4, k))
    logs = -rng.exponential(5, (4, k))
    outputs = np.concatenate([logs, pieces], axis=1).astype(np.float32)
    stored = KIND.to_store(outputs)
    assert stored.dtype == np.uint16
    back = KIND.from_store(stored)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back[:, k:], pieces)
    np.testing.assert_allclose(back[:, :k], logs, rtol=2**-11, atol=1e-7)
    np.testing.assert_array_equal(KIND.to_store(back), stored)


def test_a_probability_of_nothing_can_be_stored() -> None:
    outputs = np.array([[0.0, -1e30, -np.inf, 7, 65535, 3]], np.float32)
    back = KIND.from_store(KIND.to_store(outputs))
    assert back.tolist() == [[0.0, -65504.0, -65504.0, 7, 65535, 3]]
    combined = combine(back[None])
    assert as_dicts(combined) == [{7: 1.0}]
    assert np.isfinite(combine(back[None], t=3.0)).all()


# -- ensembles ----------------------------------------------------------------------------------


def test_low_temperatures_leave_the_likeliest_piece() -> None:
    own = opinions(0)
    found = combine(own[None], t=0.001)[:, :N_KEPT]
    assert np.isfinite(found).all()
    kept = np.exp(own[:, :N_KEPT])
    every = np.sort(np.concatenate([kept, 1 - kept.sum(1, keepdims=True)], 1), 1)
    clear = (every[:, -1] - every[:, -2] > 0.05) & (kept.max(1) == every[:, -1])
    np.testing.assert_allclose(found[clear].max(1), 1.0, atol=1e-5)
    np.testing.assert_allclose(found.sum(1).max(), 1.0, atol=1e-5)


@given(seeds, st.sampled_from([1.0, 2.0, 5.0]))
def test_an_ensemble_of_one_is_its_member(seed: int, temperature: float) -> None:
    own = opinions(seed)
    alone = combine(own[None], t=temperature)
    twice = combine(np.stack([own, own]), t=temperature)
    np.testing.assert_array_equal(alone[:, N_KEPT:], own[:, N_KEPT:])
    np.testing.assert_allclose(twice[:, :N_KEPT], alone[:, :N_KEPT], rtol=1e-5)
    np.testing.assert_array_equal(twice[:, N_KEPT:], alone[:, N_KEPT:])
    if temperature == 1:
        np.testing.assert_allclose(alone[:, :N_KEPT], np.exp(own[:, :N_KEPT]), rtol=1e-5)


def brute_force(members: np.ndarray, cover: np.ndarray, t: float) -> list[dict[int, float]]:
    """The K likeliest of the mean over the covering members, one dictionary a place."""
    k = members.shape[-1] // 2
    found = []
    for s in range(members.shape[1]):
        sums: dict[int, float] = {}
        n = max(int(cover[:, s].sum()), 1)
        for m in range(len(members)):
            logs = members[m, s, :k].astype(np.float64)
            rest = math.log(max(1 - np.exp(logs).sum(), 1e-9))
            powers = np.exp(np.array([*logs, rest]) / t)
            powers /= powers.sum()
            for p, value in zip(members[m, s, k:], powers[:-1], strict=True):
                sums[int(p)] = sums.get(int(p), 0.0) + float(value) * cover[m, s] / n
        best = sorted(sums.items(), key=lambda item: -item[1])[:k]
        found.append({p: value for p, value in best if value > 0})
    return found


@given(seeds, st.integers(2, 4), st.integers(1, 6), st.sampled_from([1.0, 2.0, 0.5]))
def test_members_combine_as_sums_of_dictionaries_do(
    seed: int, n_members: int, k: int, temperature: float
) -> None:
    """Also with pieces that only some kept, and with members that have not seen a row."""
    members = np.stack([opinions(seed + m, k=k, v=8) for m in range(n_members)])
    cover = np.random.default_rng(seed).random((n_members, members.shape[1])) < 0.7
    found = combine(members, cover, temperature)
    assert found.shape == (5, 2 * k)
    assert found.dtype == np.float32
    for own, wanted in zip(as_dicts(found), brute_force(members, cover, temperature), strict=True):
        assert sorted(own.values()) == pytest.approx(sorted(wanted.values()), abs=1e-5)
        least = min(wanted.values(), default=0.0)
        for piece, value in wanted.items():
            if value > least + 1e-5:  # of ties at the border either may stay
                assert own[piece] == pytest.approx(value, abs=1e-5)


@given(seeds, st.permutations([0, 1, 2]), st.sampled_from([1.0, 2.0]))
def test_the_order_of_members_changes_nothing(
    seed: int, order: list[int], temperature: float
) -> None:
    members = np.stack([opinions(seed + m) for m in range(3)])
    cover = np.random.default_rng(seed).random((3, 5)) < 0.7
    one = combine(members, cover, temperature)
    other = combine(members[order], cover[order], temperature)
    np.testing.assert_allclose(one[:, :N_KEPT], other[:, :N_KEPT], atol=1e-6)
    for a, b in zip(as_dicts(one), as_dicts(other), strict=True):
        near = min(a.values()) if a else 0.0
        assert {p for p, v in a.items() if v > near + 1e-6} <= set(b)


@given(seeds, st.integers(1, 4), st.sampled_from([0.3, 1.0, 4.0]))
def test_the_mass_is_never_above_one(seed: int, n_members: int, temperature: float) -> None:
    """Not even after the rounding of fp16, with nearly all of the probability kept."""
    sharp = [opinions(seed + m, 40, v=N_KEPT + 1) for m in range(n_members)]
    members = np.stack([KIND.from_store(KIND.to_store(own)) for own in sharp])
    found = combine(members, t=temperature)
    assert (found[:, :N_KEPT] >= 0).all()
    assert (found[:, :N_KEPT].sum(1) <= 1 + 1e-6).all()


def test_rows_that_nobody_covers_are_nothing() -> None:
    members = np.stack([opinions(0), opinions(1)])
    cover = np.ones((2, 5), bool)
    cover[:, 2] = False
    cover[0, 3] = False
    found = combine(members, cover)
    assert (found[2, :N_KEPT] == 0).all()
    assert as_dicts(found[3:4])[0].keys() == set(members[1, 3, N_KEPT:].astype(int))
    assert (combine(members[:1], cover[:1])[2, :N_KEPT] == 0).all()


def test_temperature_makes_even_and_keeps_the_order() -> None:
    own = opinions(3)[None]
    hot, cold = combine(own, t=50.0)[:, :N_KEPT], combine(own, t=0.2)[:, :N_KEPT]
    assert (np.diff(hot, axis=1) <= 1e-7).all()
    np.testing.assert_allclose(hot, 1 / (N_KEPT + 1), atol=0.03)
    # The rest is one class, with its whole mass: it wins where it is likelier than the first piece.
    warm = combine(own)[:, :N_KEPT]
    first_wins = warm[:, 0] > 1 - warm.sum(1)
    assert first_wins.any()
    assert (cold[first_wins, 0] > warm[first_wins, 0]).all()


def test_logits_of_a_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="are probabilities"):
        KIND.combine(
            opinions(0)[None], np.ones((1, 5), bool), None, temperature=1.0, space="logits"
        )


# -- losses -------------------------------------------------------------------------------------


@given(seeds, st.sampled_from([1.0, 2.0]))
def test_both_losses_in_one_pass_are_the_two(seed: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    outputs = torch.from_numpy(rng.normal(0, 2, (7, V)).astype(np.float32)).requires_grad_()
    labels = torch.from_numpy(rng.integers(0, V, 7).astype(np.float32))
    groups = torch.tensor([0, 0, 0, 1, 2, 2, 2])
    targets = torch.from_numpy(combine(opinions(seed, 7)[None], t=temperature))
    both = KIND.losses(
        outputs, labels, targets, groups, temperature=temperature, space="probabilities"
    )
    hard = KIND.hard_loss(outputs, labels, groups)
    soft = KIND.soft_loss(outputs, targets, groups, temperature=temperature, space="probabilities")
    assert hard.shape == soft.shape == (3,)
    torch.testing.assert_close(both[0], hard)
    torch.testing.assert_close(both[1], soft)
    gradients = [
        torch.autograd.grad((2 * a + b).sum(), outputs, retain_graph=True)[0]
        for a, b in (both, (hard, soft))
    ]
    torch.testing.assert_close(*gradients)


def test_hard_loss_is_the_mean_over_a_targets_pieces() -> None:
    rng = np.random.default_rng(0)
    outputs = torch.from_numpy(rng.normal(0, 2, (6, V)).astype(np.float32))
    labels, groups = torch.tensor([3.0, 4, 0, 9, 1, 2]), torch.tensor([0, 0, 0, 0, 1, 1])
    by_piece = torch.nn.functional.cross_entropy(
        outputs, labels.long(), reduction="none", label_smoothing=0.1
    )
    wanted = torch.stack([by_piece[:4].mean(), by_piece[4:].mean()])
    torch.testing.assert_close(KIND.hard_loss(outputs, labels, groups), wanted)


def test_losses_need_the_rows() -> None:
    outputs, labels = torch.zeros(2, V), torch.zeros(2)
    targets = torch.from_numpy(combine(opinions(0, 2)[None]))
    for call in (
        lambda: KIND.hard_loss(outputs, labels, None),
        lambda: KIND.soft_loss(outputs, targets, None, temperature=1.0, space="probabilities"),
        lambda: KIND.losses(outputs, labels, targets, None, temperature=1.0, space="probabilities"),
    ):
        with pytest.raises(ValueError, match="groups are missing"):
            call()


# -- answers ------------------------------------------------------------------------------------


def texts(*values: str) -> np.ndarray:
    return np.array(values, np.dtypes.StringDType())


def test_decoding() -> None:
    answers = KIND.decode(KIND.predict(texts("ein Satz", "", 'mit "Zeichen" 🙂')))
    assert answers == [
        {"prediction": "ein Satz"},
        {"prediction": ""},
        {"prediction": 'mit "Zeichen" 🙂'},
    ]
    for answer in answers:
        assert type(answer["prediction"]) is str
        jsonschema.validate(json.loads(json.dumps(answer)), KIND.answer_schema())


@pytest.mark.parametrize(
    "answer", [{}, {"prediction": 3}, {"prediction": "a", "scores": {}}, {"prediction": None}]
)
def test_other_answers_do_not_fit_the_schema(answer: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(answer, KIND.answer_schema())


def test_ensembles_and_scores_of_others_are_refused() -> None:
    with pytest.raises(ValueError, match="says one text"):
        KIND.predict_ensemble(np.zeros((2, 1, 1)), None)
    with pytest.raises(ValueError, match="by their texts"):
        KIND.from_scores([{"prediction": "x"}])
    assert KIND.score_columns == ("prediction",)


# -- what the report shows ----------------------------------------------------------------------


def test_agreement_and_distance() -> None:
    a, b = texts("the old cat sang", "a road"), texts("the old bird sang", "a road")
    assert KIND.agreement(a, a, None) == pytest.approx(1.0)
    assert 0 < KIND.agreement(a, b, None) < 1
    found = KIND.distance(a, b, None, None)
    assert found is not None
    wanted = [1 - sentence_chrf(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    np.testing.assert_allclose(found, wanted)
    assert found[1] == pytest.approx(0.0)


def test_details_name_the_metrics_signatures() -> None:
    truth, said = texts("the old cat sang here", "a road"), texts("the old cat sang here", "a way")
    found = KIND.details(truth, {"student": said, "ensemble": truth}, None)["measures"]
    assert list(found) == [f"{name}, {signature(name)}" for name in ("bleu", "chrf")]
    for entry in found.values():
        assert entry["n"] == 2
        assert entry["ensemble"] == pytest.approx(1.0)
        assert 0 < entry["student"] < 1


def test_the_first_metric_is_the_default() -> None:
    assert Translation.metric_names == ("bleu", "chrf")
    assert Generation.metric_names == ("chrf", "bleu")
    for name in ("bleu", "chrf"):
        assert KIND.metric(name).name == name
