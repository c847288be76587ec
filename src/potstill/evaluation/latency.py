"""How long a network takes for a text, measured on the spot."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import numpy as np

from potstill.core.device import Device
from potstill.tasks.task import Split
from potstill.training.network import Network

_N_TEXTS = 256
_N_REPEATS = 3


def ms_per_text(network: Network, task: str, split: Split, device: Device) -> float:
    """Milliseconds a text in large batches: tokens to outputs of all tasks that share the pass.

    The median of a few repeats over the first rows of ``split``, after one that is not counted.
    """
    rows = np.arange(min(_N_TEXTS, len(split)))
    part = split.take(rows)
    shared: Sequence[str] = next(
        group for group in network.passes(list(network.tasks)) if task in group
    )
    times = []
    for _ in range(_N_REPEATS + 1):
        start = time.perf_counter()
        tokens = network.tokenise(task, part.inputs)
        network.outputs(tokens, shared, device)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[1:]) / len(rows)
