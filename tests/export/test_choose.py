"""The engine that is chosen is the fastest of those that keep the scores."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from potstill.core.errors import ArtefactError
from potstill.core.progress import Progress
from potstill.export import choose
from potstill.export.choose import Candidate, choose_engine, slowness
from potstill.export.engines import GraphName, OpenVinoEngine, engines_here
from tests.bundles import ToyBundle, network_of, quick_measuring


def candidate(name: str, *ms: float) -> Candidate:
    return Candidate(
        engine=name,
        size_bytes=1,
        ms=dict(zip(("1x16", "16x16"), ms, strict=True)),
        scores={},
        drops={},
        difference=0.0,
        refused=None,
    )


def test_the_fastest_over_all_shapes() -> None:
    both = [candidate("a", 1.0, 4.0), candidate("b", 2.0, 1.0)]
    assert slowness(both[0], both) == pytest.approx(2.0)
    assert slowness(both[1], both) == pytest.approx(2**0.5)


def test_a_drop_is_refused() -> None:
    drops = {"a": 0.004, "b": 0.01}
    assert (
        choose._refusal("onnxruntime-int8", drops, 0.1, 0.005, True) == "task 'b' drops by 0.0100"
    )
    assert choose._refusal("onnxruntime-int8", drops, 0.1, 0.01, True) is None
    assert choose._refusal("onnxruntime-fp32", {}, 1e-6, 0.0, True) is None


def test_without_rows_only_exact_engines(toys: ToyBundle, graphs: dict[GraphName, bytes]) -> None:
    with quick_measuring():
        chosen, found, scores = choose_engine(
            network_of(toys.student),
            graphs,
            {},
            [e for e in engines_here() if e.startswith("onnxruntime")],
            max_drop=0.005,
            threads=1,
            progress=Progress(quiet=True),
        )
    assert chosen == "onnxruntime-fp32"
    assert scores == {}
    assert [c.refused for c in found] == [None, "not exact, and no dev rows to score it with"]


def test_a_graph_that_computes_something_else_is_refused(
    toys: ToyBundle, graphs: dict[GraphName, bytes]
) -> None:
    network = network_of(toys.student)
    weight = network.model.head("classification").get_parameter("linear.bias")
    before = weight.data.clone()
    try:
        weight.data += 1.0
        with quick_measuring(), pytest.raises(ArtefactError, match="away from the student's"):
            choose_engine(
                network,
                graphs,
                {},
                ["onnxruntime-fp32"],
                max_drop=0.005,
                threads=1,
                progress=Progress(quiet=True),
            )
    finally:
        weight.data = before


def test_nothing_is_chosen_where_no_engine_keeps_the_scores(
    toys: ToyBundle, graphs: dict[GraphName, bytes]
) -> None:
    splits = {"classification": toys.tasks["classification"].dev}
    with quick_measuring(), pytest.raises(ArtefactError, match="--max-drop"):
        choose_engine(
            network_of(toys.student),
            graphs,
            splits,
            ["onnxruntime-int8"],
            max_drop=-2.0,  # even a gain of 1 would not do
            threads=1,
            progress=Progress(quiet=True),
        )


class OneAtATime:
    """A request as OpenVINO has it: with one place for inputs and outputs."""

    def infer(self, feeds: dict[str, np.ndarray], *, share_inputs: bool) -> list[np.ndarray]:
        assert share_inputs
        self.outputs = [feeds["ids"]]
        time.sleep(0.002)
        return self.outputs


def test_threads_do_not_mix_their_answers() -> None:
    engine = OpenVinoEngine.__new__(OpenVinoEngine)
    engine._request, engine._n_outputs, engine._lock = OneAtATime(), 1, threading.Lock()

    def ask(i: int) -> bool:
        own = np.full(3, i, np.float32)
        return all(np.array_equal(engine.run({"ids": own})[0], own) for _ in range(10))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(ask, range(4)))
