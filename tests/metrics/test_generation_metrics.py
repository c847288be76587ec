"""BLEU and chrF against sacrebleu's public functions."""

from __future__ import annotations

import logging
import sys
import time
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from potstill.core.errors import ResourceError
from potstill.kinds import Translation
from potstill.metrics.generation import BLEU, CHRF, sentence_chrf, signature
from potstill.metrics.metric import Metric

BOTH = (BLEU, CHRF)
WORDS = ["a", "the", "Dog", "dog", "žába", "läuft", "l'eau", "1,5", "&amp;", "U.S.", "-", "!", "😀"]
sentences = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
texts = st.one_of(sentences, sentences, st.text(max_size=20))
pairs = st.lists(st.tuples(texts, texts), min_size=1, max_size=12)
seeds = st.integers(0, 2**16)

REFERENCES = [
    "The dog bit the man, and it wasn't funny.",
    "Zwei junge Männer sind im Freien in der Nähe vieler Büsche.",
    "Dvě malé děti si hrají na zelené trávě.",
    "Un homme conduit une voiture.",
]
HYPOTHESES = [
    "The dog bit the man, it was not funny.",
    "Zwei Männer sind draußen in der Nähe vieler Büsche.",
    "",
    "Un homme conduit une voiture.",
]


def rows(strings: list[str]) -> npt.NDArray[Any]:
    """(N,) of objects."""
    array = np.empty(len(strings), dtype=object)
    array[:] = strings
    return array


def official(metric: Metric, hypotheses: list[str], references: list[str]) -> float:
    """The score of sacrebleu's public function, of texts in NFC."""
    hypotheses, references = (
        [unicodedata.normalize("NFC", text) for text in texts] for texts in (hypotheses, references)
    )
    if metric is BLEU:
        return float(sacrebleu.corpus_bleu(hypotheses, [references]).score) / 100
    return float(sacrebleu.corpus_chrf(hypotheses, [references]).score) / 100


def make_rows(seed: int, n_rows: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """References of up to 14 words, and copies of them without some of their words."""
    rng = np.random.default_rng(seed)
    references = [rng.choice(WORDS, size=rng.integers(1, 15)).tolist() for _ in range(n_rows)]
    copies = [[word for word in words if rng.random() < 0.9] for words in references]
    return rows([" ".join(words) for words in references]), rows([" ".join(w) for w in copies])


@pytest.mark.parametrize("metric", BOTH, ids=lambda metric: metric.name)
def test_scores_equal_sacrebleu(metric: Metric) -> None:
    score = metric.score(rows(REFERENCES), rows(HYPOTHESES))
    assert score == pytest.approx(official(metric, HYPOTHESES, REFERENCES), abs=1e-12)
    assert 0.4 < score < 0.9


@given(pairs)
def test_scores_of_any_texts_equal_sacrebleu(drawn: list[tuple[str, str]]) -> None:
    references, hypotheses = map(list, zip(*drawn, strict=True))
    for metric in BOTH:
        score = metric.score(rows(references), rows(hypotheses))
        assert score == pytest.approx(official(metric, hypotheses, references), abs=1e-12)
        assert metric.low <= score <= metric.high


@pytest.mark.parametrize("text", ["Tôi đã uống một tách cà phê sữa đá", "বাড়ি যায় বড় পাহাড়ের পথে"])
def test_the_form_in_which_accents_are_stored_does_not_count(text: str) -> None:
    """A student says NFC, in which two Bengali letters are two signs each; files say either."""
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    for metric in BOTH:
        for truth in (text, *forms):
            assert all(metric.score(rows([truth]), rows([said])) == 1 for said in forms)
    assert sentence_chrf(forms[0], forms[1]) == sentence_chrf(text, text) == 1


@given(texts, texts)
def test_chrf_of_a_sentence_equals_sacrebleu(hypothesis: str, reference: str) -> None:
    composed = [unicodedata.normalize("NFC", text) for text in (hypothesis, reference)]
    wanted = sacrebleu.sentence_chrf(composed[0], composed[1:]).score / 100
    assert sentence_chrf(hypothesis, reference) == pytest.approx(wanted, abs=1e-12)
    assert 0 <= sentence_chrf(hypothesis, reference) <= 1


@given(seeds, st.integers(1, 12), st.booleans())
def test_resamples_equal_rows_written_out(
    check_resampled: Callable[..., None], seed: int, n_rows: int, grouped: bool
) -> None:
    truth, output = make_rows(seed, n_rows)
    rng = np.random.default_rng(seed)
    groups = rng.integers(4, size=n_rows) if grouped else None
    for metric in BOTH:
        check_resampled(metric, truth, output, groups, rng)


@given(st.lists(sentences, max_size=8))
def test_equal_texts_score_one(strings: list[str]) -> None:
    strings = [*strings, REFERENCES[0]]  # BLEU wants four words in a row
    for metric in BOTH:
        assert metric.score(rows(strings), rows(strings)) == pytest.approx(1, abs=1e-12)
        assert metric.score(rows(strings), rows(strings)) <= 1
    assert sentence_chrf(REFERENCES[0], REFERENCES[0]) == 1


def test_empty_texts_score_nothing() -> None:
    nothing = rows([""] * len(REFERENCES))
    for metric in BOTH:
        assert metric.score(rows(REFERENCES), nothing) == 0
        assert metric.score(nothing, nothing) == 0
        none_drawn = np.zeros((1, len(REFERENCES)))
        assert metric.resampled(rows(REFERENCES), rows(HYPOTHESES), None, none_drawn) == [0]
        best = metric.score(rows(REFERENCES), rows(REFERENCES))
        assert metric.score(rows(REFERENCES), rows(["", *REFERENCES[1:]])) < best
    assert sentence_chrf("", "a") == sentence_chrf("a", "") == 0


def test_signatures_are_those_of_sacrebleu() -> None:
    version = sacrebleu.__version__
    assert signature("bleu") == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}"
    assert signature("chrf") == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}"
    with pytest.raises(ValueError, match="metric 'ter': wanted 'bleu' or 'chrf'"):
        signature("ter")


CHINESE = ["北京是中国的首都，它很大。", "我喜欢学习机器学习。"]
WRONG = ["北京是中国的首都，他很大。", "我喜欢学习机器学刁。"]


@pytest.mark.parametrize(
    ("language", "tokenizer"), [("zh", "zh"), ("zh-CN", "zh"), ("ja", "char"), ("th", "char")]
)
def test_languages_without_blanks_have_words_of_their_own(language: str, tokenizer: str) -> None:
    kind = Translation(language=language)
    wanted = sacrebleu.corpus_bleu(WRONG, [CHINESE], tokenize=tokenizer).score / 100
    assert kind.metric("bleu").score(rows(CHINESE), rows(WRONG)) == pytest.approx(wanted)
    assert wanted > 0.5
    assert f"|tok:{tokenizer}|" in str(kind.signature("bleu"))
    assert kind.metric("chrf") is CHRF
    counts = np.ones((1, 2))
    resampled = kind.metric("bleu").resampled(rows(CHINESE), rows(WRONG), None, counts)
    assert resampled[0] == pytest.approx(wanted)


def test_all_others_have_the_words_of_13a() -> None:
    for language in ("de", "pt-br", "zhx", "ko"):
        assert Translation(language=language).metric("bleu") is BLEU
        assert "|tok:13a|" in str(Translation(language=language).signature("bleu"))


def test_tokenised_texts_cause_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        BLEU.score(rows(["a ."] * 200), rows(["a ."] * 200))
    assert not caplog.records


def test_two_thousand_resamples_are_quick() -> None:
    truth, output = make_rows(0, 1000)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(1000, np.full(1000, 1 / 1000), size=2000)
    for metric in BOTH:
        start = time.perf_counter()
        assert metric.resampled(truth, output, None, counts).std() > 0
        # A tenth of it is usual; written out, they take minutes.
        assert time.perf_counter() - start < 10


def test_faulty_input_is_refused() -> None:
    truth, output = rows(REFERENCES), rows(HYPOTHESES)
    for metric in BOTH:
        with pytest.raises(ValueError, match=r"wanted \(N,\) and \(N,\)"):
            metric.score(truth[:2], output)
        with pytest.raises(ValueError, match=r"wanted \(N,\) and \(N,\)"):
            metric.score(truth, output[:, None])
        with pytest.raises(ValueError, match="no rows"):
            metric.score(truth[:0], output[:0])
        with pytest.raises(ValueError, match="truth holds values that are not strings"):
            metric.score(np.zeros(4), output)
        with pytest.raises(ValueError, match="output holds values that are not strings"):
            metric.resampled(truth, np.array(["a", "b", "c", None]), None, np.ones((1, 4)))
        with pytest.raises(ValueError, match="wanted \\(R, 4\\)"):
            metric.resampled(truth, output, None, np.ones((2, 5)))


def test_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    for metric in BOTH:
        with pytest.raises(ResourceError, match="wanted: sacrebleu") as caught:
            metric.score(rows(REFERENCES), rows(HYPOTHESES))
        assert caught.value.todo == "pip install 'potstill[translation]'"
    with pytest.raises(ResourceError):
        signature("bleu")
    with pytest.raises(ResourceError):
        sentence_chrf("a", "a")
