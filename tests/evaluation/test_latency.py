"""Milliseconds a text: measured anew for networks that differ in what takes time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from potstill.evaluation import latency
from potstill.evaluation.latency import TextTimes
from tests.tiny import CPU, tiny_network, toy_task


def test_networks_that_read_less_have_a_time_of_their_own(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def measure(network: object, *_: object) -> float:
        measured.append(network)
        return float(len(measured))

    monkeypatch.setattr(latency, "_measure", measure)
    long = tiny_network(base, [toy_task()])
    times = TextTimes({}, CPU)
    task = next(iter(long.tasks))
    others = [
        replace(long, max_tokens=long.max_tokens // 2),
        replace(long, task_token=not long.task_token),
    ]
    assert [times.of(network, task) for network in (long, *others, long)] == [1, 2, 3, 1]
