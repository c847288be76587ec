"""Metrics by name."""

from __future__ import annotations

import pytest

from potstill.metrics.named import NAMES, metric


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_a_metric_of_that_name(name: str) -> None:
    found = metric(name)
    assert found.name == name
    assert found.low < found.high
    assert found.higher_is_better == (name not in {"nll", "ece"})


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"unknown metric 'auc': known are accuracy, ece, f1"):
        metric("auc")
