"""A metric by the name that the run file gives it."""

from __future__ import annotations

from potstill.metrics.calibration import ECE, NLL
from potstill.metrics.classification import ACCURACY, MATTHEWS, f1
from potstill.metrics.correlation import PEARSON, SPEARMAN
from potstill.metrics.metric import Metric
from potstill.metrics.ranking import MRR, NDCG

_PLAIN = {each.name: each for each in (ACCURACY, MATTHEWS, PEARSON, SPEARMAN, MRR, NDCG, NLL, ECE)}

NAMES = tuple(sorted([*_PLAIN, "f1"]))
"""Every name that `metric` knows."""


def metric(name: str, positive: int | None = None) -> Metric:
    """The metric of that name.

    Args:
        name: One of `NAMES`.
        positive: Only for ``f1``: index of the positive class; None for the mean over classes.

    Raises:
        ValueError: The name is unknown.

    Examples:
        >>> import numpy as np
        >>> metric("accuracy").score(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]))
        0.5
    """
    if name == "f1":
        return f1(positive)
    if name not in _PLAIN:
        raise ValueError(f"unknown metric {name!r}: known are {', '.join(NAMES)}")
    return _PLAIN[name]
