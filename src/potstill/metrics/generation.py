"""BLEU and chrF of texts that a model writes, as sacrebleu computes them; knows no task.

Both are scores of a corpus: counts of n-grams are summed over sentences, and one score is computed
from the sums. Settings are sacrebleu's defaults: BLEU with case, exponential smoothing and, unless
a language asks for another, the tokenizer 13a; chrF2 of six characters without words.

Reference:
    Papineni et al. 2002, https://aclanthology.org/P02-1040; Popović 2015,
    https://aclanthology.org/W15-3049; Post 2018, https://aclanthology.org/W18-6319.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from potstill.core.errors import ResourceError
from potstill.metrics.metric import Floats, Ints, Metric, Numbers, resampled_sums

_TOKENIZERS = {
    **dict.fromkeys(("zh", "zho", "cmn", "yue"), "zh"),
    **dict.fromkeys(("ja", "jpn", "th", "tha", "lo", "lao", "my", "mya", "km", "khm"), "char"),
}


def tokenizer_of(language: str) -> str:
    """Sacrebleu's tokenizer for a language: 13a needs blanks between words.

    Languages without blanks are scored by characters (Chinese by its own rule), which needs no
    further package.

    Examples:
        >>> tokenizer_of("de"), tokenizer_of("zh-CN"), tokenizer_of("ja")
        ('13a', 'zh', 'char')
    """
    return _TOKENIZERS.get(re.split("[-_]", language.lower())[0], "13a")


def signature(name: str, tokenizer: str = "13a") -> str:
    """How a score was computed, in sacrebleu's words, to be printed beside it.

    Args:
        name: "bleu" or "chrf".
        tokenizer: Of BLEU.

    Raises:
        ValueError: Another name.
        ResourceError: sacrebleu is not installed.

    Examples:
        >>> signature("bleu")
        'nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:...'
    """
    scorer = _scorer(name, tokenizer)
    scorer.corpus_score(["a"], [["a"]])  # it knows the number of references only then
    return str(scorer.get_signature())


def sentence_chrf(hypothesis: str, reference: str) -> float:
    """ChrF of one sentence, from 0 to 1.

    Args:
        hypothesis: The text found; "" scores 0.
        reference: The right text.

    Raises:
        ResourceError: sacrebleu is not installed.
    """
    found, right = _composed([hypothesis, reference])
    return _fraction(_scorer("chrf").sentence_score(found, [right]))


def _scorer(name: str, tokenizer: str = "13a") -> Any:
    """Sacrebleu's metric of that name."""
    try:
        import sacrebleu  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise ResourceError(
            "scores of written texts",
            got=f"a package is missing ({error})",
            wanted="sacrebleu",
            todo="pip install 'potstill[translation]'",
        ) from error
    if name == "bleu":
        # Without force it warns of many texts that end in " .". The score is the same.
        return sacrebleu.BLEU(tokenize=tokenizer, force=True)
    if name == "chrf":
        return sacrebleu.CHRF()
    raise ValueError(f"metric {name!r}: wanted 'bleu' or 'chrf'")


def _fraction(score: Any) -> float:
    """Its percentage as a share: BLEU of equal texts is a rounding error above 100."""
    return min(float(score.score) / 100, 1.0)


def _composed(texts: Iterable[str]) -> list[str]:
    """Texts in NFC: what looks the same is the same, however a file spells its accents."""
    return [unicodedata.normalize("NFC", text) for text in texts]


def _statistics(scorer: Any, truth: npt.NDArray[Any], output: npt.NDArray[Any]) -> Floats:
    """(N, K): each row's counts, of which the score of their sums is the score of the rows."""
    if truth.ndim != 1 or output.ndim != 1 or len(truth) != len(output):
        raise ValueError(f"truth {truth.shape} and output {output.shape}: wanted (N,) and (N,)")
    if not len(truth):
        raise ValueError("no rows: there is nothing to score")
    for what, array in (("truth", truth), ("output", output)):
        if not all(isinstance(each, str) for each in array):
            raise ValueError(f"{what} holds values that are not strings")
    counts = scorer._extract_corpus_statistics(_composed(output), [_composed(truth)])
    return np.array(counts, dtype=np.float64)


def _scores(scorer: Any, sums: Floats) -> Floats:
    """(R, K) summed counts to (R,) scores."""
    whole = np.rint(sums).astype(np.int64).tolist()  # sacrebleu's own are whole numbers
    return np.array([_fraction(scorer._compute_score_from_stats(each)) for each in whole])


def _metric(name: str, tokenizer: str = "13a") -> Metric:
    """Sacrebleu's metric, for rows and for resamples of them."""

    def score(
        truth: npt.NDArray[Any], output: npt.NDArray[Any], groups: Ints | None = None
    ) -> float:
        scorer = _scorer(name, tokenizer)
        return float(_scores(scorer, _statistics(scorer, truth, output).sum(0, keepdims=True))[0])

    def resampled(
        truth: npt.NDArray[Any], output: npt.NDArray[Any], groups: Ints | None, counts: Numbers
    ) -> Floats:
        scorer = _scorer(name, tokenizer)
        return _scores(scorer, resampled_sums(_statistics(scorer, truth, output), groups, counts))

    return Metric(name=name, score=score, resampled=resampled, low=0.0, high=1.0)


@cache
def bleu(tokenizer: str) -> Metric:
    """BLEU with another tokenizer of sacrebleu; else as `BLEU`."""
    return _metric("bleu", tokenizer)


BLEU = bleu("13a")
"""BLEU, as a share: sacrebleu's divided by 100.

``truth`` is (N,) of reference texts, ``output`` (N,) of the texts found, "" for none; each sentence
has one reference. Texts without four words in a row score 0. Needs the package sacrebleu."""

CHRF = _metric("chrf")
"""ChrF, as a share; truth and output as for `BLEU`."""
