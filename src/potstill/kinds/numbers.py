"""Numbers of labels and outputs, the same for every kind."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeVar

import numpy as np

from potstill.core.characters import number_in

_Groups = TypeVar("_Groups")


def need_groups(groups: _Groups | None) -> _Groups:
    """The groups, for kinds that compute over the slots of a row or the candidates of a query."""
    if groups is None:
        raise ValueError("groups are missing: the row, or the query, of each slot")
    return groups


def finite_number(value: object, what: str) -> float:
    """``value`` as a float.

    Raises:
        ValueError: It is missing, not a number, or not finite; the text starts with ``what``.
    """
    if value is None or value == "":
        raise ValueError(f"{what} is missing")
    try:
        number = number_in(value)
    except (TypeError, ValueError):
        raise ValueError(f"{what} is {value!r:.60}, not a number") from None
    except OverflowError:  # an integer of hundreds of digits, which JSON may hold
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{what} is {value!r:.60}, not a finite number")
    return number


def finite_numbers(values: Iterable[object]) -> list[float]:
    """The values that :func:`finite_number` takes; the others are left out."""
    numbers = []
    for value in values:
        try:
            numbers.append(finite_number(value, ""))
        except ValueError:
            continue
    return numbers


def too_few_numbers(values: Iterable[object], low: float, high: float) -> str:
    """How many values are no numbers or lie outside a range, each with the first; may be empty.

    Args:
        values: Labels of which too few can be learned from.
        low: The least that is allowed.
        high: The most.
    """
    odd: dict[str, list[object]] = {"are no numbers": [], f"lie outside {low:g} to {high:g}": []}
    no_numbers, outside = odd.values()
    for value in values:
        numbers = finite_numbers([value])
        if not numbers:
            no_numbers.append(value)
        elif not low <= numbers[0] <= high:
            outside.append(value)
    return "".join(
        f"; {len(found)} {what}, the first of them {found[0]!r:.60}"
        for what, found in odd.items()
        if found
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis, in the precision of ``logits``."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of yes, elementwise, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


def logit(probabilities: np.ndarray) -> np.ndarray:
    """The inverse of :func:`sigmoid`, for probabilities above 0 and below 1."""
    return np.asarray(np.log(probabilities) - np.log1p(-probabilities))


def group_log_softmax(scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Log-probabilities (S, C) over the slots of each group, column by column.

    Args:
        scores: (S, C).
        groups: (S,) group of each slot; slots of a group stand together.
    """
    if not len(groups):
        return scores
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    sizes = np.diff(np.r_[starts, len(groups)])
    shifted = scores - np.repeat(np.maximum.reduceat(scores, starts), sizes, axis=0)
    sums = np.add.reduceat(np.exp(shifted), starts)
    return np.asarray(shifted - np.repeat(np.log(sums), sizes, axis=0))
