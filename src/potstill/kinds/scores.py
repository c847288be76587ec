"""Somebody else's scores: probabilities or logits, told by the values themselves.

One stray value must not turn a table of probabilities into logits unseen, so what is nearly all
probabilities is refused, and so are rows of rounded ones that no longer sum to 1.
"""

from __future__ import annotations

import numpy as np

from potstill.kinds.base import Space

MANY_DISTRIBUTIONS = 0.5  # of rows: logits that sum to 1 are chance, one row in hundreds
MANY_SHARES = 0.95  # of values: a logit may well lie in 0 to 1, but not nearly all of them
_SLACK_OF_SUMS = 1e-2
_SLACK = 1e-6  # of a probability: means and sums in fp32 leave its range by as much


class MixedScores(ValueError):
    """Scores that are nearly all probabilities.

    Attributes:
        row: The first row that holds none.
    """

    def __init__(self, text: str, row: int) -> None:
        super().__init__(text)
        self.row = row


def are_distributions(values: np.ndarray) -> np.ndarray:
    """(S,) which rows of (S, C) are probabilities of classes: 0 or more, and sum to 1."""
    sums = np.isclose(values.sum(1), 1.0, atol=_SLACK_OF_SUMS)
    return np.asarray((values >= -_SLACK).all(1) & sums)


def centred(logits: np.ndarray) -> np.ndarray:
    """Logits (S, C) of mean 0 a row.

    A softmax forgets a row's mean; logits compared one by one do not, nor does fp16, in which the
    log-likelihoods of a language model lose what they differ by.
    """
    return np.asarray(logits - logits.mean(1, keepdims=True))


def are_shares(values: np.ndarray) -> np.ndarray:
    """Which values are probabilities of their own, elementwise."""
    return np.asarray((values >= -_SLACK) & (values <= 1 + _SLACK))


def one_space(values: np.ndarray, fits: np.ndarray, rows: np.ndarray | None = None) -> Space:
    """What all scores of a table are.

    Args:
        values: (S, C) scores.
        fits: (S,) of :func:`are_distributions`, or (S, C) of :func:`are_shares`.
        rows: (S,) row of each; None where each has one of its own.

    Raises:
        MixedScores: They are nearly all probabilities, or look like some that do not sum to 1.
    """
    if fits.all():
        return "probabilities"
    whole = fits.ndim == 1
    share = float(fits.mean())
    rounded = whole and bool(are_shares(values).all())  # no logits: nearly half would be negative
    if share <= (MANY_DISTRIBUTIONS if whole else MANY_SHARES) and not rounded:
        return "logits"
    at = int(np.flatnonzero(~fits if whole else ~fits.all(1))[0])
    if whole:
        shown = ", ".join(f"{v:.9g}" for v in values[at][:8])
        shown += ", …" if values.shape[1] > 8 else ""
        got = f"scores {shown}, which sum to {values[at].sum():.9g}"
        others = f"{share:.1%} of all rows are 0 or more and sum to 1"
        if rounded and share <= MANY_DISTRIBUTIONS:
            others = "all lie in 0 to 1: probabilities of classes sum to 1"
    else:
        got = f"a score of {values[at][~fits[at]][0]:.9g}"
        others = f"{share:.1%} of all scores lie in 0 to 1"
    raise MixedScores(f"{got}, where {others}", at if rows is None else int(rows[at]))
