"""Learning rates and what is decayed."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from potstill.kinds import Classification, Kind, Multilabel, Tagging
from potstill.models.encoder_folder import load_encoder
from potstill.models.multitask import LinearHead, MultiTaskModel
from potstill.training.optimiser import build_optimiser, learning_rate_at, set_learning_rate
from potstill.training.settings import TrainSettings


def rates(n: int, **changes: object) -> list[float]:
    settings = dataclasses.replace(
        TrainSettings(learning_rate=1.0),
        **changes,  # type: ignore[arg-type]
    )
    return [learning_rate_at(step, n, settings) for step in range(n)]


def test_linear() -> None:
    got = rates(10, warmup=0.2)
    assert got[:2] == [0.5, 1.0]
    assert got[2:] == pytest.approx([1 - k / 8 for k in range(8)])


def test_cosine_and_constant() -> None:
    got = rates(10, warmup=0.0, decay="cosine")
    assert got == pytest.approx([0.5 * (1 + math.cos(math.pi * k / 10)) for k in range(10)])
    assert rates(10, warmup=0.25, decay="constant") == pytest.approx([1 / 3, 2 / 3] + [1.0] * 8)


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_every_step_learns_and_none_is_above_the_peak(decay: str, warmup: float, n: int) -> None:
    got = rates(n, warmup=warmup, decay=decay)
    assert all(0 < rate <= 1 for rate in got)
    assert max(got) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adamax", torch.optim.Adamax)]
)
def test_only_weight_matrices_decay(
    base: Path, name: str, kind: type[torch.optim.Optimizer]
) -> None:
    encoder = load_encoder(base, pooling="mean")
    model = MultiTaskModel(encoder, {"t": LinearHead(encoder.n_features, 2)})
    settings = dataclasses.replace(TrainSettings(weight_decay=0.3), optimizer=name)  # type: ignore[arg-type]
    optimiser = build_optimiser(model, settings, encoder.embedding_parameters())
    assert isinstance(optimiser, kind)
    key = "decay" if name == "adamax" else "weight_decay"
    decay = {id(p): g[key] for g in optimiser.param_groups for p in g["params"]}
    named = dict(model.named_parameters())
    assert len(decay) == len(named)
    for parameter_name, parameter in named.items():
        plain = parameter.ndim == 1 or "word_embeddings" in parameter_name
        assert decay[id(parameter)] == (0.0 if plain else 0.3), parameter_name


@pytest.mark.parametrize("name", ["adamw", "adamax"])
def test_a_weight_that_no_gradient_moves_decays_by_rate_times_decay(name: str) -> None:
    model = torch.nn.Linear(3, 2)
    settings = TrainSettings(optimizer=name, weight_decay=0.3, learning_rate=0.1)  # type: ignore[arg-type]
    optimiser = build_optimiser(model, settings, [])
    before = model.weight.detach().clone()
    for _ in range(5):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimiser.step()
    torch.testing.assert_close(model.weight.detach(), before * (1 - 0.1 * 0.3) ** 5)


@pytest.mark.parametrize("name", ["adamw", "adamax"])
def test_decay_is_apart_from_gradients(name: str) -> None:
    """A tiny gradient beside a large decay: what it adds to the step is what it adds without."""
    moved = {}
    for decay in (0.0, 0.3):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        settings = TrainSettings(optimizer=name, weight_decay=decay, learning_rate=0.1)  # type: ignore[arg-type]
        optimiser = build_optimiser(model, settings, [])
        before = model.weight.detach().clone()
        model.weight.grad = torch.full_like(model.weight, 1e-6)
        optimiser.step()
        moved[decay] = model.weight.detach() - before * (1 - 0.1 * decay)
    torch.testing.assert_close(moved[0.3], moved[0.0])


@pytest.mark.parametrize("name", ["adamw", "adamax"])
def test_a_part_learns_at_a_rate_of_its_own(name: str) -> None:
    """Adam's first step is the learning rate, whatever the gradient: so far does each part move."""
    body, head = torch.nn.Linear(3, 2, bias=False), torch.nn.Linear(2, 1)
    model = torch.nn.Sequential(body, head)
    settings = TrainSettings(optimizer=name, weight_decay=0.0)  # type: ignore[arg-type]
    optimiser = build_optimiser(model, settings, [], {head: 10.0})
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    set_learning_rate(optimiser, 1e-3)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    for n, parameter in model.named_parameters():
        moved = (before[n] - parameter.detach()).mean().item()
        assert moved == pytest.approx(1e-3 if n.startswith("0") else 1e-2, rel=1e-3), n


def names(n: int) -> tuple[str, ...]:
    return tuple(f"c{i}" for i in range(n))


@pytest.mark.parametrize(
    ("kind", "times"),
    [
        (Classification(classes=names(9)), 1.0),
        (Classification(classes=names(10)), 10.0),
        (Multilabel(classes=names(12)), 10.0),
        (Tagging(tags=("O", "B-x", "I-x")), 1.0),
        (Tagging(tags=("O", *(f"{mark}-{n}" for n in names(6) for mark in "BI"))), 10.0),
    ],
)
def test_heads_of_many_outputs_learn_faster_unless_a_rate_is_given(
    kind: Kind, times: float
) -> None:
    asked = TrainSettings(learning_rate=1e-4)
    assert asked.head_times(kind) == times
    given = dataclasses.replace(asked, head_learning_rate=5e-4)
    assert given.head_times(kind) == pytest.approx(5.0)
