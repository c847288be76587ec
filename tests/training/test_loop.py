"""What the loop does with rows, scores and gradients."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from potstill.core.device import Device
from potstill.core.errors import PotstillError
from potstill.core.files import read_signed_json
from potstill.core.progress import Progress
from potstill.metrics.metric import Ints, Metric, Numbers
from potstill.models.dropout import Noise
from potstill.tasks.batches import plan_epochs, rows_per_batch
from potstill.training import loop
from potstill.training.feed import DevFeed, Feed, SoftFeed
from potstill.training.inference import predict_outputs, to_batch
from potstill.training.learner import EncoderLearner
from potstill.training.loop import fit
from potstill.training.prepare import Extra, make_feed
from tests.tiny import CPU, tiny_network, tiny_settings, toy_task
from tests.toys import TOYS
from tests.training.trainings import Training, same_numbers


def scripted(scores: Sequence[float]) -> Callable[[Feed], Feed]:
    """Feeds whose dev score in epoch e is ``scores[e]``, whatever the model says."""
    left: dict[str, Iterator[float]] = {}

    def change(feed: Feed) -> Feed:
        left[feed.task] = iter(scores)

        def score(truth: Numbers, output: Numbers, groups: Ints | None = None) -> float:
            return next(left[feed.task])

        metric = dataclasses.replace(feed.dev.metric, score=score)
        return dataclasses.replace(feed, dev=dataclasses.replace(feed.dev, metric=metric))

    return change


@pytest.fixture
def one(base: Path) -> Training:
    """One task on labels."""
    settings = tiny_settings(epochs=4, batch=8)
    return Training(base=base, tasks=[toy_task(train=16, dev=8)], extras={}, settings=settings)


# -- gradients ----------------------------------------------------------------------------------


def gradient(parameters: Iterator[torch.nn.Parameter]) -> Tensor:
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])


@pytest.mark.parametrize(
    ("kind", "max_tokens"),
    [(kind, 32) for kind in TOYS] + [("tagging", 8), ("span", 10)],  # these in windows
)
def test_every_row_weighs_the_same_whatever_batch_it_is_in(
    base: Path, kind: str, max_tokens: int
) -> None:
    task = toy_task(kind, train=60, dev=8)
    network = tiny_network(base, [task], dropout=0.0, max_tokens=max_tokens)
    feed = make_feed(network, task, Extra(), 1.0)
    n_units = len(feed.units.rows)

    def backward(units: np.ndarray, scale: float) -> None:
        inputs = to_batch(
            feed.tokens, feed.texts_of(units), 0, torch.device("cpu"), slots=task.kind.slotted
        )
        outputs = network.model(inputs, (task.name,))[task.name]
        loss = feed.loss(outputs, units, step=0, n_steps=1, soft_on=True)
        torch.autograd.backward(loss * scale)

    (plan,) = plan_epochs({kind: feed.units}, batch=8, mixing="proportional", n_epochs=1, seed=0)
    assert len({len(b.units) for b in plan}) > 1  # budgets make batches of unequal sizes
    for batch in plan:
        backward(batch.units, 1 / rows_per_batch(feed.units, 8))
    in_batches = gradient(network.model.parameters())
    network.model.zero_grad()
    backward(np.arange(n_units), 1 / rows_per_batch(feed.units, 8))
    torch.testing.assert_close(
        in_batches, gradient(network.model.parameters()), rtol=1e-3, atol=1e-5
    )


def test_accumulated_batches_are_one_larger_batch(one: Training, tmp_path: Path) -> None:
    rows = [{"text": f"film {a} {b}", "label": "ab"[i % 2]} for i, (a, b) in enumerate(PAIRS)]
    one.tasks = [toy_task(train=rows, dev=rows[:4])]  # all of one length: budgets cut evenly
    one.settings = tiny_settings(epochs=1, batch=16, dropout=0.0)
    one.settings = dataclasses.replace(one.settings, head_dropout=0.0, warmup=0.0)
    large = one.run(tmp_path / "large")
    one.settings = dataclasses.replace(one.settings, batch=4, accumulate=4)
    small = one.run(tmp_path / "small")
    assert large.result.n_steps == small.result.n_steps == 1
    for name, tensor in large.weights.items():
        if name.endswith("key.bias"):
            continue  # its gradient is 0 but for rounding, which Adam blows up
        torch.testing.assert_close(small.weights[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_step_is_made_of_batches_of_several_tasks(one: Training, tmp_path: Path) -> None:
    one.tasks = [toy_task(kind, train=64, dev=8) for kind in ("classification", "regression")]
    one.settings = dataclasses.replace(one.settings, epochs=1, batch=32, tasks_per_step=4)
    mixed = one.run(tmp_path / "mixed")
    one.settings = dataclasses.replace(one.settings, batch=16, accumulate=2, tasks_per_step=1)
    by_hand = one.run(tmp_path / "by_hand")
    assert same_numbers(mixed, by_hand)
    one.settings = dataclasses.replace(one.settings, batch=32, accumulate=1)
    assert not same_numbers(mixed, one.run(tmp_path / "one_task_a_step"))


PAIRS = [(a, b) for a in ("good", "bad", "dull", "warm") for b in ("dog", "cat", "song", "tree")]


def test_the_weight_of_a_task_scales_its_loss(one: Training, tmp_path: Path) -> None:
    plain = one.run(tmp_path / "plain")
    one.change = lambda feed: dataclasses.replace(feed, weight=0.0)
    silent = one.run(tmp_path / "silent")
    assert {loss for _, loss in silent.result.state.loss} == {0.0}
    assert not same_numbers(plain, silent)


# -- the best epoch -----------------------------------------------------------------------------


def test_the_best_epoch_is_kept_not_the_last(one: Training, tmp_path: Path) -> None:
    one.change = scripted([0.1, 0.8, 0.5, 0.8])
    kept = one.run(tmp_path / "kept")
    assert kept.result.state.best_epoch == 2  # of equals the first
    assert kept.result.state.best_score == 0.8
    assert dict(kept.result.state.dev["classification"]) == {1: 0.1, 2: 0.8, 3: 0.5, 4: 0.8}
    one.change = scripted([0.0, 0.0, 0.0, 0.0])  # nothing has moved: later weights learned more
    assert one.run(tmp_path / "flat").result.state.best_epoch == 4
    one.change = scripted([0.0, 0.0, 0.3, 0.3])
    assert one.run(tmp_path / "risen").result.state.best_epoch == 3
    one.change = scripted([0.1, 0.2, 0.3, 0.4])
    last = one.run(tmp_path / "last")
    assert last.result.state.best_epoch == 4
    assert not torch.equal(
        kept.weights["_heads.0.linear.weight"], last.weights["_heads.0.linear.weight"]
    )


def test_the_weights_are_those_that_scored(one: Training, tmp_path: Path) -> None:
    (task,) = one.tasks
    network = tiny_network(one.base, one.tasks, dropout=0.1)
    feed = make_feed(network, task, Extra(), 1.0)
    tmp_path.joinpath("run").mkdir()
    result = fit(
        EncoderLearner(network.model, CPU, 0),
        [feed],
        settings=one.settings,
        seed=0,
        folder=tmp_path / "run",
        progress=Progress(log_file=tmp_path / "log.jsonl"),
        name="t",
    )
    outputs = predict_outputs(network.model, feed.dev.tokens, (task.name,), device=CPU, padding=0)[
        task.name
    ]
    score = task.metric.score(feed.dev.truth, task.kind.predict(outputs), None)
    assert score == result.state.best_score
    assert not network.model.training
    log = (tmp_path / "log.jsonl").read_text(encoding="utf-8")
    assert log.count('"event": "dev"') == 4


@pytest.mark.parametrize(("patience", "epochs"), [(None, 4), (1, 2), (2, 3), (3, 4)])
def test_patience(one: Training, tmp_path: Path, patience: int | None, epochs: int) -> None:
    one.change = scripted([0.5, 0.4, 0.3, 0.9])
    one.settings = dataclasses.replace(one.settings, patience=patience)
    assert one.run(tmp_path / "run").result.state.epochs_done == epochs


def test_mean_over_tasks_decides(training: Training, tmp_path: Path) -> None:
    scores = {"classification": [0.9, 0.2], "ranking": [0.1, 0.9]}
    training.change = lambda feed: scripted(scores[feed.task])(feed)
    result = training.run(tmp_path / "run").result
    assert result.state.best_epoch == 2
    assert result.state.best_score == pytest.approx(0.55)


# -- soft losses --------------------------------------------------------------------------------


def soft_extra(annealed: bool = False, **facts: Any) -> Extra:
    targets = np.tile(np.array([0.9, 0.1], np.float32), (16, 1))
    soft = SoftFeed(
        targets=targets,
        weights=np.full(16, 0.5, np.float32),
        space="probabilities",
        temperature=1.0,
        annealed=annealed,
        **facts,
    )
    return Extra(hard_weights=np.full(16, 0.5), soft=soft)


def test_distilling_stops_when_the_student_is_ahead(one: Training, tmp_path: Path) -> None:
    one.extras = {"classification": soft_extra(teacher_dev=0.5, stop_margin=0.1)}
    one.change = scripted([0.4, 0.55, 0.6, 0.7])
    run = one.run(tmp_path / "run")
    stopped = {"classification": {"epoch": 3, "student": 0.6, "teacher": 0.5}}
    assert run.result.state.stopped == stopped
    assert run.result.to_json()["stopped"] == stopped
    one.extras = {"classification": soft_extra(teacher_dev=0.5, stop_margin=None)}
    one.change = scripted([0.4, 0.55, 0.6, 0.7])
    never = one.run(tmp_path / "never")
    assert never.result.state.stopped == {}
    assert not torch.equal(
        run.weights["_heads.0.linear.weight"], never.weights["_heads.0.linear.weight"]
    )


def test_a_tie_is_not_ahead(one: Training, tmp_path: Path) -> None:
    """At the start both may have learned nothing, and score 0."""
    one.extras = {"classification": soft_extra(teacher_dev=0.5, stop_margin=0.0)}
    one.change = scripted([0.4, 0.5, 0.5, 0.6])
    run = one.run(tmp_path / "run")
    assert run.result.state.stopped["classification"]["epoch"] == 4


def loss_of(feed: Feed, step: int = 0, soft_on: bool = True) -> float:
    units = np.arange(len(feed.labelled))
    outputs = torch.zeros(len(units), 2)
    outputs[:, 1] = 1.0
    return float(feed.loss(outputs, units, step=step, n_steps=4, soft_on=soft_on))


def test_weights_of_hard_and_soft_losses(base: Path) -> None:
    task = toy_task(train=16, dev=8)
    network = tiny_network(base, [task])
    labels = task.train.labels
    assert labels is not None
    nll = math.log(1 + math.e) - labels  # of outputs (0, 1)
    soft = 0.9 * math.log(1 + math.e) + 0.1 * (math.log(1 + math.e) - 1)
    plain = make_feed(network, task, Extra(), 1.0)
    assert loss_of(plain) == pytest.approx(nll.sum(), rel=1e-5)
    mixed = make_feed(network, task, soft_extra(), 1.0)
    assert loss_of(mixed) == pytest.approx(0.5 * nll.sum() + 8 * soft, rel=1e-5)
    assert loss_of(mixed, step=3) == loss_of(mixed)
    assert loss_of(mixed, soft_on=False) == pytest.approx(nll.sum(), rel=1e-5)
    annealed = make_feed(network, task, soft_extra(annealed=True), 1.0)
    for step in range(5):
        share = step / 4
        wanted = share * nll.sum() + (1 - share) * 16 * soft
        assert loss_of(annealed, step=step) == pytest.approx(wanted, rel=1e-5)


def test_pool_rows_learn_from_targets_alone(base: Path) -> None:
    task = toy_task(train=16, dev=8)
    pool = toy_task(train=20, dev=8, seed=1).train.take(np.arange(16, 20)).without_labels()
    network = tiny_network(base, [task])
    for annealed in (False, True):
        soft = soft_extra(annealed).soft
        assert soft is not None
        soft = dataclasses.replace(
            soft,
            targets=np.tile(np.array([0.9, 0.1], np.float32), (20, 1)),
            weights=np.array([0] * 16 + [1] * 4, np.float32),
        )
        feed = make_feed(network, task, Extra(pool=pool, soft=soft), 1.0)
        assert feed.labelled.tolist() == [True] * 16 + [False] * 4
        assert feed.hard_weights.tolist() == [1.0] * 16 + [0.0] * 4
        assert task.train.labels is not None
        nll = (math.log(1 + math.e) - task.train.labels).sum()
        soft_loss = 0.9 * math.log(1 + math.e) + 0.1 * (math.log(1 + math.e) - 1)
        assert loss_of(feed) == pytest.approx(nll + 4 * soft_loss, rel=1e-5)
        assert loss_of(feed, step=2) == pytest.approx(nll + 4 * soft_loss, rel=1e-5)
        assert loss_of(feed, soft_on=False) == pytest.approx(nll, rel=1e-5)


def pool_extra() -> Extra:
    """24 rows without labels behind 16 with, of which only those without have soft targets."""
    pool = toy_task(train=40, dev=8, seed=1).train.take(np.arange(16, 40)).without_labels()
    soft = soft_extra(teacher_dev=0.5, stop_margin=0.0).soft
    assert soft is not None
    soft = dataclasses.replace(
        soft,
        targets=np.tile(np.array([0.9, 0.1], np.float32), (40, 1)),
        weights=np.array([0] * 16 + [1] * 24, np.float32),
    )
    return Extra(pool=pool, soft=soft)


def test_pool_rows_need_no_pass_once_distilling_has_stopped(
    one: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.extras = {"classification": pool_extra()}
    one.settings = tiny_settings(epochs=3, batch=4)
    one.change = scripted([0.4, 0.6, 0.7])
    encode, encoded = EncoderLearner.outputs, []

    def outputs(
        self: EncoderLearner, feeds: Sequence[Feed], units: np.ndarray
    ) -> dict[str, Tensor]:
        encoded.append(units)
        return encode(self, feeds, units)

    monkeypatch.setattr(EncoderLearner, "outputs", outputs)
    trained = one.run(tmp_path / "run")
    assert trained.result.state.stopped["classification"]["epoch"] == 2
    assert np.bincount(np.concatenate(encoded)).tolist() == [3] * 16 + [2] * 24
    last = sum(len(units) for units in encoded) - 16
    after = [
        u for u, end in zip(encoded, np.cumsum([*map(len, encoded)]), strict=True) if end > last
    ]
    assert len(after) <= 6  # 16 rows in batches of four, by length; there were ten batches planned
    assert all(math.isfinite(loss) for _, loss in trained.result.state.loss)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_no_two_steps_draw_the_same_masks(
    one: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int
) -> None:
    """Also where batches are joined, and the last step of an epoch stands where one stood."""
    one.extras = {"classification": pool_extra()}
    one.settings = tiny_settings(epochs=12, batch=4, accumulate=accumulate)
    one.change = scripted([0.6, *([0.5] * 11)])
    drawn: list[int] = []
    monkeypatch.setattr(Noise, "reseed", lambda _, seed: drawn.append(seed))
    one.run(tmp_path / "run")
    assert len(set(drawn)) == len(drawn) > 20


# -- precision and faults -----------------------------------------------------------------------


def test_a_step_casts_each_weight_once(base: Path, tmp_path: Path) -> None:
    """However many passes it has: bf16 copies are kept from one to the next, and no longer."""
    tasks = [toy_task(name=name, train=16, dev=8) for name in ("a", "b")]
    network = tiny_network(base, tasks, dropout=0.1)
    cast: Counter[int] = Counter()

    class Casts(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is torch.ops.aten._to_copy.default and isinstance(args[0], nn.Parameter):
                cast[id(args[0])] += 1
            return func(*args, **(kwargs or {}))

    with Casts():  # type: ignore[no-untyped-call]
        result = fit(
            EncoderLearner(network.model, Device(name="cpu", precision="bf16"), 0),
            [make_feed(network, task, Extra(), 1.0) for task in tasks],
            settings=tiny_settings(accumulate=2),
            seed=0,
            folder=tmp_path,
            progress=Progress(),
            name="t",
        )
    assert cast
    assert max(cast.values()) == result.n_steps


def test_bf16_runs_and_heads_stay_fp32(base: Path, tmp_path: Path) -> None:
    task = toy_task(train=16, dev=8)
    bf16 = Device(name="cpu", precision="bf16")
    network = tiny_network(base, [task], dropout=0.1)
    feed = make_feed(network, task, Extra(), 1.0)
    batch = to_batch(feed.tokens, np.arange(4), 0, torch.device("cpu"))
    with bf16.autocast():
        features = network.model.encoder(batch)
        outputs = network.model(batch, (task.name,))[task.name]
    assert features.pooled.dtype == torch.float32
    assert outputs.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in network.model.parameters())
    exact = network.outputs(feed.dev.tokens, (task.name,), CPU)[task.name]
    rough = network.outputs(feed.dev.tokens, (task.name,), bf16)[task.name]
    assert not np.array_equal(rough, exact)  # products are in fact made in bf16
    np.testing.assert_allclose(rough, exact, atol=0.05)
    result = fit(
        EncoderLearner(network.model, bf16, 0),
        [feed],
        settings=tiny_settings(),
        seed=0,
        folder=tmp_path,
        progress=Progress(),
        name="t",
    )
    assert math.isfinite(result.state.loss[-1][1])


@pytest.mark.parametrize("epochs", [1, 12])
def test_a_loss_that_is_no_number_says_so(one: Training, tmp_path: Path, epochs: int) -> None:
    """At the end of an epoch as in the middle of one."""
    one.settings = tiny_settings(epochs=epochs, learning_rate=1e30)
    with pytest.raises(PotstillError, match="a loss of (nan|inf)") as found:
        one.run(tmp_path / "run")
    assert "learning_rate" in found.value.todo


def test_a_dev_score_that_is_no_number_says_of_which_task(
    one: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DevFeed, "score", lambda *_: math.nan)
    with pytest.raises(PotstillError, match=f"dev score of task '{one.tasks[0].name}'"):
        one.run(tmp_path / "run")


def test_prediction_does_not_hang_on_batches_or_order(base: Path) -> None:
    task = toy_task(train=40, dev=8)
    network = tiny_network(base, [task])
    tokens = network.tokenise(task.name, task.train.inputs)
    network.model.train()
    wanted = network.outputs(tokens, (task.name,), CPU)[task.name]
    assert network.model.training  # left as it was
    for budget in (1, 60):
        got = network.outputs(tokens, (task.name,), CPU, budget_tokens=budget)[task.name]
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    none = network.tokenise(task.name, {"text": []})
    assert len(network.outputs(none, (task.name,), CPU)[task.name]) == 0


def test_the_loss_curve_has_a_point_every_ten_steps(one: Training, tmp_path: Path) -> None:
    one.settings = dataclasses.replace(one.settings, epochs=12)
    run = one.run(tmp_path / "run")
    n = run.result.n_steps
    assert [step for step, _ in run.result.state.loss] == [*range(10, n, 10), n]
    assert loop._LOSS_EVERY == 10
    assert isinstance(one.tasks[0].metric, Metric)


@pytest.mark.parametrize("change", [{"accumulate": 4}, {"tasks_per_step": 2}])
def test_the_loss_curve_is_the_mean_of_rows_however_steps_are_parted(
    one: Training, tmp_path: Path, change: dict[str, Any]
) -> None:
    """With a learning rate of nothing all rows keep their loss."""
    rows = [
        {"text": f"{'a good day ' * (9 * (i % 2))}{i}", "label": ("good", "bad")[i % 2]}
        for i in range(64)
    ]
    one.tasks = [toy_task(train=rows, dev=8), toy_task("pair", train=64, dev=8)]
    still = tiny_settings(epochs=1, batch=32, learning_rate=1e-30)
    still = dataclasses.replace(still, tasks_per_step=1, dropout=0.0, head_dropout=0.0)
    one.settings = dataclasses.replace(still, balance="none")
    whole = one.run(tmp_path / "whole").result
    one.settings = dataclasses.replace(one.settings, **change)
    parted = one.run(tmp_path / "parted").result
    assert parted.n_steps < whole.n_steps
    assert parted.state.loss[-1][1] == pytest.approx(whole.state.loss[-1][1], rel=1e-3)


def test_no_checkpoint_holds_nan(
    one: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the loss curve, which looks at every tenth step, has not seen it yet."""
    one.settings = tiny_settings(epochs=9, batch=2, learning_rate=1e30, checkpoint_seconds=-1.0)
    monkeypatch.setattr(loop, "_LOSS_EVERY", 10**6)
    with pytest.raises(PotstillError, match="a loss of (nan|inf)"):
        one.run(tmp_path / "run")
    pointer = read_signed_json(tmp_path / "run" / "checkpoint.json")
    weights = safetensors.torch.load_file(tmp_path / "run" / pointer["file"])
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
