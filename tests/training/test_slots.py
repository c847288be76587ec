"""Heads that answer at the words of a text: the same answers in any batch, and they learn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from potstill.core.device import Device
from potstill.core.errors import DataError, Stopped
from potstill.core.progress import Progress
from potstill.kinds import Multilabel, Span
from potstill.models.encoder import Encoder
from potstill.models.token_rows import padded_lengths
from potstill.tasks.batches import UnitLengths
from potstill.tasks.predictor import TaskHead
from potstill.tasks.task import Split, Task, groups_of, shared_texts, slots_of, truth_of
from potstill.training import prepare
from potstill.training.inference import predict_outputs, to_batch
from potstill.training.network import Network, head_of, load_encoder_network
from potstill.training.prepare import (
    Extra,
    best_dev,
    make_feed,
    train_network,
    training_record,
)
from tests.tiny import CPU, tiny_network, tiny_plan, tiny_settings, toy_task
from tests.toys import toy_rows
from tests.training.trainings import StopAt, Training, same_numbers

KINDS = ("multilabel", "tagging", "span", "unanswerable")
every_kind = pytest.mark.parametrize("kind", KINDS)


def lively(base: Path, tasks: list[Task], max_tokens: int) -> Network:
    """An untrained network whose heads answer differently everywhere."""
    network = tiny_network(base, tasks, max_tokens=max_tokens)
    torch.manual_seed(1)
    for task in tasks:
        for parameter in network.model.head(task.name).parameters():
            torch.nn.init.normal_(parameter)
    network.model.eval()
    return network


def as_classification(rows: list[dict[str, Any]]) -> Task:
    """Whether the first word of a sentence is marked: a class for rows of words."""
    marked = [{**row, "label": "yes" if row["tags"][0] == "O" else "no"} for row in rows]
    return toy_task("classification", name="first", train=marked, dev=marked, columns=("tokens",))


# -- outputs ------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("max_tokens", [8, 32])
def test_outputs_do_not_hang_on_batches(base: Path, kind: str, max_tokens: int) -> None:
    task = toy_task(kind, train=30, dev=8)
    network = lively(base, [task], max_tokens)
    tokens = network.tokenise(kind, task.train.inputs)
    if max_tokens == 8 and task.kind.slotted:
        assert len(tokens) > tokens.n_rows
    wanted = network.outputs(tokens, (kind,), CPU)[kind]
    groups = groups_of(task, task.train)
    assert wanted.shape == (30 if groups is None else len(groups), task.kind.n_outputs)
    for budget in (1, 40, 5000):
        done: list[int] = []
        got = network.outputs(tokens, (kind,), CPU, budget_tokens=budget, done=done.append)[kind]
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
        assert sum(done) == 30


@every_kind
def test_batches_have_few_widths(base: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are compiled for each shape; where the base has few positions, none is exceeded."""
    task = toy_task(kind, train=30, dev=8)
    network = lively(base, [task], 13)
    tokens = network.tokenise(kind, task.train.inputs)
    widths: list[int] = []
    encoder, places = network.model.encoder, network.model.encoder.max_tokens
    encoder.register_forward_pre_hook(lambda _, args: widths.append(args[0].ids.shape[1]))
    outputs = {}
    for most in (places, 13, 1):  # 1: padded to the longest alone
        monkeypatch.setattr(Encoder, "max_tokens", most)
        widths.clear()
        outputs[most] = network.outputs(tokens, (kind,), CPU, budget_tokens=1)[kind]
        if most == 1:
            assert sorted(widths) == sorted(tokens.lengths)
        else:
            assert set(widths) <= {8, min(16, most or 16)}
        np.testing.assert_allclose(outputs[most], outputs[places], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["tagging", "span"])
@pytest.mark.parametrize("max_tokens", [8, 32])
def test_outputs_are_those_of_each_words_tokens(base: Path, kind: str, max_tokens: int) -> None:
    """Against a loop over texts and slots, without any padding."""
    task = toy_task(kind, train=8, dev=8)
    network = lively(base, [task], max_tokens)
    tokens = network.tokenise(kind, task.train.inputs)
    head = network.model.head(kind)
    wanted = []
    assert tokens.slots is not None
    with torch.inference_mode():
        for text in range(len(tokens)):
            length = int(tokens.lengths[text])
            batch = to_batch(tokens, np.array([text]), 0, torch.device("cpu"), most=length)
            everywhere = head(network.model.encoder(batch))[0].numpy()
            assert len(everywhere) == length
            own = slice(tokens.slots.offsets[text], tokens.slots.offsets[text + 1])
            for first, last in zip(tokens.slots.first[own], tokens.slots.last[own], strict=True):
                answer = everywhere[first].copy()
                for output in task.kind.at_last:
                    answer[output] = everywhere[last][output]
                wanted.append(answer)
    got = network.outputs(tokens, (kind,), CPU)[kind]
    np.testing.assert_allclose(got, np.stack(wanted), rtol=1e-4, atol=1e-4)
    slots = slots_of(task, task.train)
    assert slots is not None
    assert len(got) == slots.sum()


def test_an_end_is_read_where_its_word_ends(base: Path) -> None:
    """A word of several tokens begins at the first and ends at the last of them."""
    task = toy_task("span", train=8, dev=8)
    network = lively(base, [task], 32)
    inputs = {"question": ["warm"], "context": ["a film _ song"]}
    tokens = network.tokenise("span", inputs)
    assert tokens.slots is not None
    tokens.slots.last[1] += 2  # as if the first word went on for two tokens
    outputs = network.outputs(tokens, ("span",), CPU)["span"]
    assert outputs[1, 1] == pytest.approx(outputs[3, 1], abs=1e-5)
    assert abs(outputs[1, 0] - outputs[3, 0]) > 1e-3


def test_tasks_on_one_text_share_a_pass(base: Path) -> None:
    rows = toy_rows("tagging", 20)
    tasks = [as_classification(rows), toy_task("tagging", train=rows, dev=8)]
    for max_tokens in (8, 32):
        network = lively(base, tasks, max_tokens)
        assert network.passes(["first", "tagging"]) == [("first", "tagging")]
        tokens = network.tokenise("tagging", tasks[1].train.inputs)
        both = network.outputs(tokens, ("first", "tagging"), CPU)
        plain = network.tokenise("first", tasks[0].train.inputs)
        alone = network.outputs(plain, ("first",), CPU)["first"]
        # Of a text in several windows the first is what the classification reads.
        np.testing.assert_allclose(both["first"], alone, rtol=1e-4, atol=1e-5)
        alone = network.outputs(tokens, ("tagging",), CPU)["tagging"]
        np.testing.assert_allclose(both["tagging"], alone, rtol=1e-4, atol=1e-5)
        with pytest.raises(ValueError, match="answer at slots, and these rows have none"):
            network.outputs(plain, ("first", "tagging"), CPU)


@pytest.mark.parametrize("kind", ["tagging", "span"])
def test_no_rows_and_words_that_no_vocabulary_has(base: Path, kind: str) -> None:
    task = toy_task(kind, train=8, dev=8)
    network = lively(base, [task], 32)
    none = network.tokenise(kind, {column: [] for column in task.inputs.columns})
    assert len(network.outputs(none, (kind,), CPU)[kind]) == 0
    odd: dict[str, list[Any]] = {
        "tokens": [["\u200b", "好", "x" * 300]],
        "question": ["?"],
        "context": ["\u200b 好 ."],
    }
    tokens = network.tokenise(kind, {column: odd[column] for column in task.inputs.columns})
    outputs = network.outputs(tokens, (kind,), CPU)[kind]
    assert len(outputs) == (3 if kind == "tagging" else 4)
    assert np.isfinite(outputs).all()


# -- feeds --------------------------------------------------------------------------------------


@every_kind
def test_a_feeds_slots_are_those_of_its_texts(base: Path, kind: str) -> None:
    task = toy_task(kind, train=12, dev=8)
    pool = toy_task(kind, train=5, dev=8, pool=[toy_rows(kind, 6, seed=9)]).pool
    network = lively(base, [task], 8)
    feed = make_feed(network, task, Extra(pool=pool), 1.0)
    assert pool is not None
    assert feed.labelled.tolist() == [True] * 12 + [False] * len(pool)
    assert len(feed.units.tokens) == 12 + len(pool)
    assert feed.units.tokens.sum() == padded_lengths(feed.tokens.lengths).sum()
    slots = slots_of(task, task.train)
    units = np.array([13, 0, 7])
    places, owners = feed.slots_of(units)
    texts = feed.texts_of(units)
    if slots is None:
        assert places.tolist() == texts.tolist() == units.tolist()
        assert owners is None
        return
    assert feed.groups is not None
    assert owners is not None
    assert len(feed.labels) == len(feed.groups)
    assert feed.labels.shape[1:] == ((2,) if task.kind.name == "span" else ())
    assert feed.groups[places].tolist() == units[owners].tolist()
    assert feed.tokens.slots is not None
    from_texts, _ = feed.tokens.slots.of(texts)
    assert from_texts.tolist() == places.tolist()  # outputs and labels stand in one order


def test_the_loss_of_a_batch_is_that_of_its_sentences(base: Path) -> None:
    task = toy_task("tagging", train=12, dev=8)
    network = lively(base, [task], 8)
    feed = make_feed(network, task, Extra(), 1.0)

    def loss(units: np.ndarray) -> float:
        batch = to_batch(feed.tokens, feed.texts_of(units), 0, torch.device("cpu"), slots=True)
        outputs = network.model(batch, ("tagging",))["tagging"]
        return float(feed.loss(outputs, units, step=0, n_steps=1, soft_on=True).detach())

    alone = [loss(np.array([unit])) for unit in range(12)]
    assert loss(np.arange(12)) == pytest.approx(sum(alone), rel=1e-4)
    assert loss(np.array([5, 2])) == pytest.approx(alone[5] + alone[2], rel=1e-4)
    assert np.std(alone) > 0.01


# -- learning -----------------------------------------------------------------------------------


def trained(
    base: Path,
    folder: Path,
    tasks: list[Task],
    shared: Sequence[Sequence[str]] = (),
    **settings: Any,
) -> Path:
    folder.mkdir(parents=True)
    train_network(
        folder,
        tasks,
        tiny_plan(base),
        tiny_settings(**{"batch": 8, "dropout": 0.0, **settings}),
        extras={},
        seed=0,
        device=CPU,
        progress=Progress(),
        name="t",
        record={},
        shared=shared,
    )
    return folder


def dev_score(network: Network, task: Task) -> float:
    """The metric of the network's own kind, with what was tuned."""
    head: TaskHead = network.tasks[task.name]
    tokens = network.tokenise(task.name, task.dev.inputs)
    outputs = network.outputs(tokens, (task.name,), CPU)[task.name]
    groups = groups_of(task, task.dev)
    predictions = head.kind.predict(outputs, groups)
    return task.metric.score(truth_of(task, task.dev), predictions, head.kind.score_groups(groups))


@pytest.mark.parametrize(
    ("kind", "rows", "epochs", "rate", "wanted"),
    [
        ("multilabel", 150, 6, 1e-2, 0.75),
        ("tagging", 150, 6, 1e-2, 0.6),
        ("span", 300, 8, 1e-2, 0.7),
        ("unanswerable", 600, 6, 5e-3, 0.7),
    ],
)
def test_a_tiny_network_learns_the_rule(
    base: Path, tmp_path: Path, kind: str, rows: int, epochs: int, rate: float, wanted: float
) -> None:
    task = toy_task(kind, train=rows, dev=60)
    chance = dev_score(tiny_network(base, [task]), task)
    folder = trained(base, tmp_path / "net", [task], epochs=epochs, learning_rate=rate)
    score = best_dev(folder, kind)
    assert score > max(wanted, chance + 0.2)
    network = load_encoder_network(folder)
    assert dev_score(network, task) == pytest.approx(score)
    assert training_record(folder)["truncated"] == {kind: 0.0}


def test_a_passage_in_windows_is_learned_too(base: Path, tmp_path: Path) -> None:
    task = toy_task("span", train=300, dev=60)
    folder = trained(base, tmp_path / "net", [task], epochs=8, learning_rate=1e-2, max_tokens=12)
    network = load_encoder_network(folder)
    tokens = network.tokenise("span", task.dev.inputs)
    assert len(tokens) > 1.5 * tokens.n_rows
    assert best_dev(folder, "span") > 0.6
    assert dev_score(network, task) == pytest.approx(best_dev(folder, "span"))


def test_a_pool_row_with_too_many_windows_is_named_by_its_own_place(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = toy_task("span", train=20, dev=30)
    network = tiny_network(base, [task], max_tokens=12)

    def n_windows(split: Split) -> Any:
        return np.diff(network.tokenise("span", split.inputs).bounds)

    fewest = np.array([n_windows(task.train).argmin()])
    longest = int(n_windows(task.dev).argmax())
    monkeypatch.setattr(prepare, "_MOST_WINDOWS", n_windows(task.train).min())
    extra = Extra(pool=task.dev.without_labels(), rows=fewest)
    with pytest.raises(DataError) as refused:
        make_feed(network, task, extra, 1.0)
    assert refused.value.thing == f"task 'span', {task.dev.where(longest)}"


def test_a_list_that_is_too_long_is_named_by_its_first_row(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = toy_task("ranking", train=20)
    network = tiny_network(base, [task])
    tokens = network.tokenise("ranking", task.train.inputs)
    assert task.train.groups is not None
    lists = UnitLengths.of(tokens.lengths, task.train.groups)
    sizes = lists.tokens * lists.rows
    monkeypatch.setattr(prepare, "_MOST_LIST_TOKENS", sizes.max())
    make_feed(network, task, Extra(), 1.0)
    monkeypatch.setattr(prepare, "_MOST_LIST_TOKENS", sizes.max() - 1)
    with pytest.raises(DataError, match="a list is learned in one batch") as refused:
        make_feed(network, task, Extra(), 1.0)
    first = int((task.train.groups == sizes.argmax()).argmax())
    assert refused.value.thing == f"task 'ranking', {task.train.where(first)}"


@pytest.mark.parametrize("kind", ["multilabel", "unanswerable"])
def test_what_was_tuned_on_dev_stays_with_the_network(
    base: Path, tmp_path: Path, kind: str
) -> None:
    task = toy_task(kind, train=40, dev=30)
    folder = trained(base, tmp_path / "net", [task], epochs=2)
    tuned = head_of(folder, kind).kind
    assert tuned == load_encoder_network(folder).tasks[kind].kind
    facts = json.loads((folder / "student.json").read_text(encoding="utf-8"))
    if isinstance(tuned, Multilabel):
        assert tuned.thresholds is not None
        assert facts["tasks"][kind]["space"]["thresholds"] == list(tuned.thresholds)
        assert set(tuned.thresholds) != {0.5}
    else:
        assert isinstance(tuned, Span)
        assert tuned.margin != 0
        assert facts["tasks"][kind]["space"]["margin"] == tuned.margin
    network = load_encoder_network(folder)
    tokens = network.tokenise(kind, task.dev.inputs)
    outputs = network.outputs(tokens, (kind,), CPU)[kind]
    groups = groups_of(task, task.dev)
    again = task.kind.tune(task.kind.predict(outputs, groups), truth_of(task, task.dev), groups)
    assert again == tuned


def test_tasks_on_one_text_learn_together(base: Path, tmp_path: Path) -> None:
    rows = toy_rows("tagging", 150)
    tasks = [as_classification(rows), toy_task("tagging", train=rows, dev=60)]
    shared = shared_texts(tasks, pools=False, task_token=False)["shared"]
    assert shared == [["first", "tagging"]]
    folder = trained(base, tmp_path / "net", tasks, shared, epochs=6, learning_rate=1e-2)
    assert training_record(folder)["n_rows"] == 6 * 150  # each sentence once an epoch
    assert best_dev(folder, "first") > 0.8
    assert best_dev(folder, "tagging") > 0.5


@pytest.mark.parametrize("order", [("first", "tagging"), ("tagging", "first")])
def test_a_shared_pass_teaches_what_two_passes_do(
    base: Path, tmp_path: Path, order: tuple[str, str]
) -> None:
    """Sentences of one length, so that a batch of all is a batch in both."""
    rows: list[dict[str, Any]] = []
    for row in toy_rows("tagging", 40):
        tokens, tags = row["tokens"], row["tags"]
        assert isinstance(tokens, list)
        assert isinstance(tags, list)
        rows += [{"tokens": tokens[:4], "tags": tags[:4]}] * (len(tokens) >= 4)
    rows = rows[:16]
    tasks = {"first": as_classification(rows), "tagging": toy_task("tagging", train=rows, dev=8)}
    training = Training(
        base=base,
        tasks=[tasks[name] for name in order],
        extras={},
        settings=replace(
            tiny_settings(epochs=1, batch=32, dropout=0.0),
            head_dropout=0.0,
            warmup=0.0,
            tasks_per_step=2,
            balance="none",  # whose scales would know one task in the first batch, or both
        ),
    )
    apart = training.run(tmp_path / "apart")
    training.shared = [order]
    together = training.run(tmp_path / "together")
    assert (apart.result.n_rows, together.result.n_rows) == (32, 16)
    assert apart.result.n_steps == together.result.n_steps == 1
    fresh = tiny_network(base, training.tasks, dropout=0.0).model.state_dict()
    assert not torch.allclose(
        fresh["_heads.0.linear.weight"], apart.weights["_heads.0.linear.weight"]
    )
    for name, tensor in apart.weights.items():
        if not name.endswith("key.bias"):  # its gradient is 0 but for rounding
            torch.testing.assert_close(together.weights[name], tensor, rtol=1e-3, atol=1e-4)


def test_a_stopped_training_goes_on_with_the_same_numbers(base: Path, tmp_path: Path) -> None:
    tasks = [toy_task(kind, train=16, dev=8) for kind in ("tagging", "multilabel", "unanswerable")]
    training = Training(
        base=base, tasks=tasks, extras={}, settings=tiny_settings(batch=8, max_tokens=10)
    )
    whole = training.run(tmp_path / "whole")
    for at in (1, 3, 7):
        with pytest.raises(Stopped):
            training.run(tmp_path / f"stopped-{at}", stop=StopAt(at))
        assert same_numbers(training.run(tmp_path / f"stopped-{at}"), whole)


@every_kind
def test_bf16_answers_are_near_those_in_fp32(base: Path, kind: str) -> None:
    task = toy_task(kind, train=12, dev=8)
    network = lively(base, [task], 12)
    tokens = network.tokenise(kind, task.train.inputs)
    exact = network.outputs(tokens, (kind,), CPU)[kind]
    bf16 = Device(name="cpu", precision="bf16")
    rough = predict_outputs(
        network.model,
        tokens,
        (kind,),
        slotted=(kind,) if task.kind.slotted else (),
        device=bf16,
        padding=0,
        narrow_weights=True,
    )[kind]
    assert rough.dtype == np.float32
    assert not np.array_equal(rough, exact)
    np.testing.assert_allclose(rough, exact, atol=0.3)
