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


class TextTimes:
    """Milliseconds a text, measured once for each task and shape of network.

    Networks of the same shape take the same time.

    Args:
        splits: Task to the rows whose first few are timed.
        device: Where.
    """

    def __init__(self, splits: Mapping[str, Split], device: Device) -> None:
        self._splits = splits
        self._device = device
        self._known: dict[tuple[str, str], float] = {}

    def of(self, network: AnyNetwork, task: str) -> float:
        """Of a network that reads a task's texts."""
        key = task, network.shape
        if key not in self._known:
            self._known[key] = _measure(network, task, self._splits, self._device)
        return self._known[key]


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
