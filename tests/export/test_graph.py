"""Exported graphs compute what torch computes, for every head, on real rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from potstill.export.choose import FP32
from potstill.export.engines import ENGINES, GraphName, engines_here, open_engine
from potstill.export.graph import to_onnx
from potstill.models.token_rows import TokenRows
from potstill.tasks.predictor import of_rows, slots_at_last
from potstill.training.network import Network
from tests.bundles import ToyBundle, make_student, network_of
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
    network = network_of(toys.student)
    graph = graphs[ENGINES[engine].graph]
    tokens = network.tokenise(task, toys.tasks[task].dev.inputs)
    place = list(network.tasks).index(task)
    outputs = open_engine(engine, graph, threads=1).outputs(
        tokens, network.tokenizer.padding, at_last=slots_at_last(network.tasks)
    )
    found = of_rows(outputs[place], tokens.bounds)
    wanted = torch_outputs(network, task, tokens)
    if ENGINES[engine].exact:
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    else:  # bf16 keeps 8 bits of a number, int8 weights 7: of random weights not much is left
        assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_both_poolings_any_batch_any_length(base: Path, tmp_path: Path, pooling: str) -> None:
    student, tasks = make_student(base, tmp_path / "s", "cls" if pooling == "cls" else "mean")
    network = network_of(student)
    engine = open_engine("onnxruntime-fp32", to_onnx(network), threads=1)
    texts = tasks["classification"].dev.inputs["text"]
    for rows in (texts[:1], texts, [" ".join(texts)] * 3, [""]):
        tokens = network.tokenise("classification", {"text": rows})
        for budget in (1, 64, 4096):
            found = engine.outputs(
                tokens,
                network.tokenizer.padding,
                at_last=slots_at_last(network.tasks),
                budget_tokens=budget,
            )
            wanted = torch_outputs(network, "classification", tokens)
            np.testing.assert_allclose(found[0], wanted, atol=1e-5)


@pytest.mark.parametrize("task", ["tagging", "span", "unanswerable"])
def test_words_of_texts_in_windows(base: Path, tmp_path: Path, task: str) -> None:
    student, tasks = make_student(base, tmp_path / "s")
    network = network_of(student)
    network.max_tokens = 12
    engine = open_engine("onnxruntime-fp32", to_onnx(network), threads=1)
    inputs = {
        column: values if column == "question" else [value * 3 for value in values]
        for column, values in tasks[task].dev.inputs.items()
    }
    tokens = network.tokenise(task, inputs)
    assert len(tokens) > 2 * tokens.n_rows
    wanted = torch_outputs(network, task, tokens)
    place, at_last = list(network.tasks).index(task), slots_at_last(network.tasks)
    for budget in (1, 64, 4096):
        outputs = engine.outputs(
            tokens, network.tokenizer.padding, at_last=at_last, budget_tokens=budget
        )
        assert len(outputs[place]) == len(tokens)
        found = of_rows(outputs[place], tokens.bounds)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        mood = list(network.tasks).index("classification")
        assert of_rows(outputs[mood], tokens.bounds).shape == (tokens.n_rows, 2)


def test_texts_without_slots_have_no_answers_at_words(
    toys: ToyBundle, graphs: dict[GraphName, bytes]
) -> None:
    network = network_of(toys.student)
    tokens = network.tokenise("classification", {"text": ["a film", "the"]})
    engine = open_engine("onnxruntime-fp32", graphs["model.onnx"], threads=1)
    outputs = engine.outputs(tokens, 0, at_last=slots_at_last(network.tasks))
    for name, found in zip(network.tasks, outputs, strict=True):
        kind = network.tasks[name].kind
        if kind.slotted:
            assert [part.shape for part in found] == [(0, kind.n_outputs)] * 2
        else:
            assert found.shape == (2, kind.n_outputs)
