"""How long networks take for a text, measured on the spot."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

import numpy as np

from potstill.core.device import Device
from potstill.tasks.predictor import leader
from potstill.tasks.task import Split
from potstill.training.network import AnyNetwork
from potstill.training.sequence_network import SequenceNetwork

_N_TEXTS = 64
_N_REPEATS = 3


def ms_per_text(
    systems: Mapping[str, Mapping[str, Sequence[AnyNetwork]]],
    splits: Mapping[str, Split],
    device: Device,
) -> dict[str, float]:
    """Milliseconds a text of each system, mean over its tasks.

    A system reads a task's text with each of the task's networks, one after the other. Networks
    of the same shape take the same time, so one of each shape is measured, on its own.

    Args:
        systems: System to task to networks.
        splits: Task to the rows whose first few are timed.
        device: Where.
    """
    known: dict[tuple[str, str], float] = {}

    def timed(task: str, network: AnyNetwork) -> float:
        key = task, network.shape
        if key not in known:
            known[key] = _measure(network, task, splits, device)
        return known[key]

    return {
        name: statistics.mean(
            sum(timed(task, network) for network in networks) for task, networks in tasks.items()
        )
        for name, tasks in systems.items()
    }


def _measure(network: AnyNetwork, task: str, splits: Mapping[str, Split], device: Device) -> float:
    """From texts to the outputs of all tasks that share the pass; median after a warm-up."""
    shared: Sequence[str] = next(
        group for group in network.passes(list(network.tasks)) if task in group
    )
    reading = leader(network.tasks, shared)
    split = splits[task]
    rows = np.arange(min(_N_TEXTS, len(split)))
    reader = network.tasks[reading].inputs
    inputs = {c: [reader.value(v) for v in values] for c, values in split.take(rows).inputs.items()}
    times = []
    for _ in range(_N_REPEATS + 1):
        start = time.perf_counter()
        tokens = network.tokenise(reading, inputs)
        if isinstance(network, SequenceNetwork):
            network.texts(tokens, device)
        else:
            network.outputs(tokens, shared, device)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[1:]) / len(rows)
