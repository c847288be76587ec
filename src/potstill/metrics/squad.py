"""Exact match and token F1 of answers in a passage, as SQuAD scores them; knows no task.

The rules are those of the official script of SQuAD 2.0. They give SQuAD 1.1 the scores of its own
script wherever something of every answer is left when it is normalised.

Reference:
    Rajpurkar et al. 2016, https://aclanthology.org/D16-1264; Rajpurkar et al. 2018,
    https://aclanthology.org/P18-2124; their script evaluate-v2.0.py.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from potstill.metrics.metric import Floats, Ints, Metric, Numbers, ratio, resampled_sums

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True, eq=False)
class Passage:
    """What a question is asked of, and its right answers.

    Attributes:
        context: The text.
        starts: (W,) where each word starts, in characters.
        ends: (W,) where it ends: behind its last character.
        answers: Right answers; none where the passage does not answer the question.
    """

    context: str
    starts: np.ndarray
    ends: np.ndarray
    answers: tuple[str, ...]

    def text(self, first: int, last: int) -> str:
        """The context from the first word to the last one, "" where ``first`` is below 0.

        Raises:
            ValueError: Words that the passage does not have, or a last one before the first.
        """
        if first < 0:
            return ""
        if not first <= last < len(self.starts):
            wanted = f"first <= last < {len(self.starts)}"
            raise ValueError(f"words {first} to {last}: wanted {wanted}, or a first below 0")
        return self.context[int(self.starts[first]) : int(self.ends[last])]


def normalise_answer(text: str) -> str:
    r"""Lower case, without punctuation and articles, one space between words.

    Punctuation is ASCII's. It goes before the articles do, so "a-b" becomes "ab".

    Examples:
        >>> normalise_answer("The  U.S.\n(a country)")
        'us country'
    """
    plain = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 if the normalised prediction is one of the normalised answers, else 0.0.

    Args:
        prediction: The text found; "" for no answer.
        answers: Right answers. Those of which nothing is left when normalised do not count; where
            none is left, "" is right.
    """
    return float(normalise_answer(prediction) in _right(answers))


def token_f1(prediction: str, answers: Sequence[str]) -> float:
    """F1 of the prediction's words, with their multiplicities; of several answers the best.

    Args:
        prediction: The text found; "" for no answer.
        answers: Right answers, as for `exact_match`. Where answer or prediction has no words, F1
            is 1.0 if both have none, else 0.0.
    """
    found = normalise_answer(prediction).split()
    return max(_f1(found, answer.split()) for answer in _right(answers))


def _right(answers: Sequence[str]) -> list[str]:
    """The answers, normalised; never an empty list."""
    normalised = [normalise_answer(answer) for answer in answers]
    return [each for each in normalised if each] or [""]


def _f1(found: list[str], right: list[str]) -> float:
    if not found or not right:
        return float(found == right)
    n_common = (Counter(found) & Counter(right)).total()
    return 2 * n_common / (len(found) + len(right))


def _texts(truth: npt.NDArray[Any], output: Numbers) -> list[str]:
    """What the output points at in each passage."""
    if truth.ndim != 1 or output.ndim != 2 or len(truth) != len(output) or output.shape[1] < 2:
        wanted = "(N,) and (N, K), K at least 2"
        raise ValueError(f"truth {truth.shape} and output {output.shape}: wanted {wanted}")
    if not len(truth):
        raise ValueError("no rows: there is nothing to score")
    if not all(isinstance(each, Passage) for each in truth):
        raise ValueError("truth holds values that are not a Passage")
    words = output[:, :2]
    if not np.isfinite(words).all() or (words != np.rint(words)).any():
        raise ValueError("output holds words that are not whole numbers")
    pairs = words.astype(np.int64).tolist()
    return [passage.text(*pair) for passage, pair in zip(truth, pairs, strict=True)]


def _metric(name: str, of_row: Callable[[str, Sequence[str]], float]) -> Metric:
    """The mean over rows of a score of prediction and answers."""

    def rows(truth: npt.NDArray[Any], output: Numbers) -> Floats:
        texts = _texts(truth, output)
        pairs = zip(texts, truth, strict=True)
        return np.array([of_row(text, passage.answers) for text, passage in pairs])

    def score(truth: npt.NDArray[Any], output: Numbers, groups: Ints | None = None) -> float:
        return float(rows(truth, output).mean())

    def resampled(
        truth: npt.NDArray[Any], output: Numbers, groups: Ints | None, counts: Numbers
    ) -> Floats:
        scores = rows(truth, output)
        statistics = np.stack([scores, np.ones_like(scores)], axis=1)
        total, n_rows = resampled_sums(statistics, groups, counts).T
        return ratio(total, n_rows)

    return Metric(name=name, score=score, resampled=resampled, low=0.0, high=1.0)


EXACT_MATCH = _metric("exact_match", exact_match)
"""Share of rows whose text is, normalised, one of the answers.

``truth`` is (N,) of `Passage`, ``output`` (N, K), K at least 2: the first and the last word of the
answer in columns 0 and 1, -1 for no answer."""

TOKEN_F1 = _metric("token_f1", token_f1)
"""Mean over rows of the F1 of words; truth and output as for `EXACT_MATCH`."""
