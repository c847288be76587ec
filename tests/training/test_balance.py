"""Tasks whose losses differ a hundredfold pull equally hard at what they share."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from potstill.core.errors import BaseModelError
from potstill.kinds.tagging import Tagging
from potstill.training.balance import GradientBalance, last_weight
from potstill.training.learner import EncoderLearner
from potstill.training.prepare import Extra, make_feed
from tests.tiny import CPU, tiny_network, tiny_settings, toy_task
from tests.training.trainings import Training, as_it_is, same_numbers


def losses_of(weight: Tensor, sizes: dict[str, float], batch: int) -> dict[str, Tensor]:
    """A loss a task, linear in the weight: its gradient is as large as its size says."""
    losses = {}
    for i, (task, size) in enumerate(sizes.items()):
        way = torch.randn(weight.shape, generator=torch.Generator().manual_seed(batch * 100 + i))
        losses[task] = size * (weight * way / way.norm()).sum()
    return losses


def sizes_of(losses: dict[str, Tensor], weight: Tensor) -> dict[str, float]:
    return {
        task: float(torch.autograd.grad(loss, weight, retain_graph=True)[0].norm())
        for task, loss in losses.items()
    }


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(5, 7, requires_grad=True)


def test_gradients_at_the_shared_weight_become_equal(weight: Tensor) -> None:
    balance = GradientBalance(weight, {})
    for batch in range(40):
        sizes = {"small": 0.2 * (1 + batch % 2), "large": 7.0, "middle": 1.0}
        scaled = balance.scale(losses_of(weight, sizes, batch))
    found = sizes_of(scaled, weight)
    # The small one's batches alternate about the mean of their logarithms: the square root of two.
    assert found["large"] == pytest.approx(found["middle"], rel=1e-3)
    assert found["small"] == pytest.approx(found["middle"] * 2**0.5, rel=0.05)
    assert found["middle"] ** 3 == pytest.approx(7.0 * 1.0 * 0.2 * 2**0.5, rel=0.05)


def test_a_task_is_scaled_by_its_own_batches_alone(weight: Tensor) -> None:
    balance = GradientBalance(weight, {})
    balance.scale(losses_of(weight, {"large": 9.0}, 0))
    scaled = balance.scale(losses_of(weight, {"small": 1.0}, 1))
    assert sizes_of(scaled, weight)["small"] == pytest.approx(3.0, rel=1e-4)


def test_no_task_is_blown_up_into_noise(weight: Tensor) -> None:
    balance = GradientBalance(weight, {})
    scaled = balance.scale(losses_of(weight, {"done": 1e-6, "hard": 1.0}, 0))
    found = sizes_of(scaled, weight)
    assert found == {"done": pytest.approx(1e-5, rel=1e-3), "hard": pytest.approx(0.1, rel=1e-3)}


def test_a_batch_without_gradient_says_nothing(weight: Tensor) -> None:
    balance = GradientBalance(weight, {})
    balance.scale(losses_of(weight, {"a": 2.0, "b": 1.0}, 0))
    known = {task: mean for task, (mean, _) in balance.to_json().items()}
    balance.scale(losses_of(weight, {"a": 0.0}, 1))
    assert {task: mean for task, (mean, _) in balance.to_json().items()} == known


def test_nothing_is_known_before_the_first_gradient(weight: Tensor) -> None:
    balance = GradientBalance(weight, {})
    balance.scale(losses_of(weight, {"a": 100.0}, 0))
    for size in (0.0, math.inf):
        silent = balance.scale(losses_of(weight, {"b": size}, 1))
        assert float(silent["b"].detach()) == pytest.approx(
            float(losses_of(weight, {"b": size}, 1)["b"].detach()), nan_ok=True
        )
    assert balance.to_json()["b"] == (0.0, 0)
    scaled = balance.scale(losses_of(weight, {"a": 100.0}, 2))
    assert sizes_of(scaled, weight)["a"] == pytest.approx(100.0, rel=1e-4)
    scaled = balance.scale(losses_of(weight, {"b": 1.0}, 3))
    assert sizes_of(scaled, weight)["b"] == pytest.approx(10.0, rel=1e-4)


def test_its_state_goes_through_json_without_loss(weight: Tensor) -> None:
    whole, halved = GradientBalance(weight, {}), GradientBalance(weight, {})
    for batch in range(6):
        losses = losses_of(weight, {"b": 0.3 + batch, "a": 1.7, "c": 31.0}, batch)
        if batch == 3:
            halved = GradientBalance(weight, json.loads(json.dumps(halved.to_json())))
        one, other = whole.scale(losses), halved.scale(losses)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[task], other[task]) for task in one)


def test_a_base_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(BaseModelError, match="balance: none"):
        last_weight(torch.nn.Sequential(torch.nn.Conv1d(3, 3, 1)))


def test_a_last_linear_layer_without_part_in_the_output_is_refused() -> None:
    unused, used = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    balance = GradientBalance(last_weight(torch.nn.Sequential(used, unused)), {})
    with pytest.raises(BaseModelError, match="balance: none"):
        balance.scale({"a": used(torch.ones(1, 2)).sum()})


@pytest.mark.parametrize("kind", ["tagging", "classification"])
def test_the_last_weight_is_that_of_the_last_layer(base: Path, kind: str) -> None:
    """Every kind's loss depends on it, also where a text has one pooled vector."""
    task = toy_task(kind, train=16, dev=8)
    network = tiny_network(base, [task], dropout=0.0)
    weight = last_weight(network.model.encoder)
    layers = [n for n, p in network.model.encoder.named_parameters() if p is weight]
    assert layers == ["backbone.encoder.layer.1.output.dense.weight"]
    learner = EncoderLearner(network.model, CPU, network.tokenizer.padding)
    feed = make_feed(network, task, Extra(), 1.0)
    outputs = learner.outputs([feed], np.arange(8))[task.name]
    loss = feed.loss(outputs, np.arange(8), step=0, n_steps=1, soft_on=True)
    (gradient,) = torch.autograd.grad(loss, weight)
    assert float(gradient.norm()) > 0


# -- in the loop --------------------------------------------------------------------------------


@pytest.fixture
def two(base: Path) -> Training:
    """A task of tags beside a task of numbers."""
    tasks = [toy_task(kind, train=24, dev=8) for kind in ("tagging", "regression")]
    settings = tiny_settings(epochs=2, batch=8)
    return Training(base=base, tasks=tasks, extras={}, settings=settings)


def test_the_loop_learns_from_scaled_losses(
    two: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def muted(own: object, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        return {task: loss * (task != "tagging") for task, loss in losses.items()}

    two.settings = dataclasses.replace(two.settings, balance="none")
    plain = two.run(tmp_path / "plain")
    two.change = lambda feed: dataclasses.replace(feed, weight=float(feed.task != "tagging"))
    unweighted = two.run(tmp_path / "unweighted")
    two.change = as_it_is
    two.settings = dataclasses.replace(two.settings, balance="gradients")
    monkeypatch.setattr(GradientBalance, "scale", muted)
    scaled = two.run(tmp_path / "scaled")
    assert all(torch.equal(scaled.weights[n], w) for n, w in unweighted.weights.items())
    assert not all(torch.equal(scaled.weights[n], w) for n, w in plain.weights.items())
    # The curve shows losses as they are, with those that were scaled away.
    assert scaled.result.state.loss[0][1] > unweighted.result.state.loss[0][1]


def test_the_weight_of_a_task_counts_on_top(two: Training, tmp_path: Path) -> None:
    two.settings = dataclasses.replace(two.settings, epochs=1)
    plain = two.run(tmp_path / "plain")
    two.change = lambda feed: dataclasses.replace(feed, weight=9.0 if feed.task == "tagging" else 1)
    heavy = two.run(tmp_path / "heavy")
    one, other = (t.result.state.balance["tagging"][0] for t in (plain, heavy))
    assert one == pytest.approx(other, abs=0.5)  # not the logarithm of nine, 2.2
    assert not same_numbers(plain, heavy)


def test_a_louder_loss_is_turned_down(
    two: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = two.run(tmp_path / "plain").result.state.balance
    hard = Tagging.hard_loss
    monkeypatch.setattr(Tagging, "hard_loss", lambda *given: 64 * hard(*given))
    scaled: list[tuple[str, float, float]] = []
    scale = GradientBalance.scale

    def spy(own: GradientBalance, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        found = scale(own, losses)
        scaled.extend((t, losses[t].item(), found[t].item()) for t in losses)
        return found

    monkeypatch.setattr(GradientBalance, "scale", spy)
    loud = two.run(tmp_path / "loud").result.state.balance
    shrunk = {task: after / before for task, before, after in scaled[len(scaled) // 2 :]}
    assert shrunk["tagging"] < 0.5
    assert shrunk["regression"] > 1
    assert loud["tagging"][0] - plain["tagging"][0] == pytest.approx(math.log(64), abs=0.5)
    assert loud["regression"][0] == pytest.approx(plain["regression"][0], abs=0.5)


@pytest.mark.parametrize(
    "change", [{"balance": "none"}, {"mixing": "annealed"}, {"tasks_per_step": 1}]
)
def test_what_lies_between_tasks_is_nothing_to_one(
    two: Training, tmp_path: Path, change: dict[str, Any]
) -> None:
    two.tasks = two.tasks[:1]
    two.settings = dataclasses.replace(two.settings, batch=32)  # parts of 16 rows would be two
    one = {task.name: task.kind for task in two.tasks}
    plain, facts = two.run(tmp_path / "plain"), two.settings.facts(one)
    two.settings = dataclasses.replace(two.settings, **change)
    assert same_numbers(plain, two.run(tmp_path / "changed"))
    assert two.settings.facts(one) == facts
