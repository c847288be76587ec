"""Exported graphs compute what torch computes, for every head, on real rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from potstill.export.choose import FP32
from potstill.export.engines import ENGINES, GraphName, engines_here, open_engine
from potstill.export.graph import to_onnx
from potstill.models.tokenizer import TokenRows
from potstill.training.network import Network
from tests.bundles import ToyBundle, make_student
from tests.toys import TOYS


def torch_outputs(network: Network, task: str, tokens: TokenRows) -> np.ndarray:
    return network.outputs(tokens, (task,), FP32)[task]


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize("task", list(TOYS))
def test_every_head_of_every_engine(
    toys: ToyBundle, graphs: dict[GraphName, bytes], engine: str, task: str
) -> None:
    if engine not in engines_here():
        pytest.skip("not on this machine")
    network = toys.student.network
    graph = graphs[ENGINES[engine].graph]
    tokens = network.tokenise(task, toys.tasks[task].dev.inputs)
    place = list(network.tasks).index(task)
    outputs = open_engine(engine, graph, threads=1).outputs(tokens, network.tokenizer.padding)
    wanted = torch_outputs(network, task, tokens)
    if ENGINES[engine].exact:
        np.testing.assert_allclose(outputs[place], wanted, atol=1e-5)
    else:  # bf16 keeps 8 bits of a number, int8 weights 7: of random weights not much is left
        assert np.corrcoef(outputs[place].ravel(), wanted.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_both_poolings_any_batch_any_length(base: Path, tmp_path: Path, pooling: str) -> None:
    student, tasks = make_student(base, tmp_path / "s", "cls" if pooling == "cls" else "mean")
    network = student.network
    engine = open_engine("onnxruntime-fp32", to_onnx(network), threads=1)
    texts = tasks["classification"].dev.inputs["text"]
    for rows in (texts[:1], texts, [" ".join(texts)] * 3, [""]):
        tokens = network.tokenise("classification", {"text": rows})
        for budget in (1, 64, 4096):
            found = engine.outputs(tokens, network.tokenizer.padding, budget_tokens=budget)
            wanted = torch_outputs(network, "classification", tokens)
            np.testing.assert_allclose(found[0], wanted, atol=1e-5)
