"""Encoder-decoders in the one loop: they learn, continue with the same bits, stop distilling."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from potstill.core.errors import BaseModelError, DataError, Stopped
from potstill.core.progress import Progress, StopSignal
from potstill.kinds.generation import N_KEPT
from potstill.metrics.generation import BLEU
from potstill.models import token_rows
from potstill.students.lesson import Lesson, TaskDistillation
from potstill.students.text_lesson import prepare_text_lesson
from potstill.targets.store import SoftTargets
from potstill.tasks.task import Task, pair_ids, truth_of
from potstill.training.feed import Feed, SoftFeed
from potstill.training.learner import SequenceLearner
from potstill.training.loop import fit
from potstill.training.prepare import Extra, make_feed, train_network, training_record
from potstill.training.sequence_network import SequenceNetwork, padded
from potstill.training.settings import TrainSettings
from tests.sequences import (
    TINY,
    pair_rows,
    sequence_base,
    sequence_network,
    sequence_plan,
    sequence_task,
)
from tests.tiny import CPU, tiny_settings
from tests.training.trainings import StopAt, Trained, as_it_is, same_numbers

WIDER = replace(TINY, width=32, feed_forward=64)


@dataclass(kw_only=True)
class SequenceTraining:
    """A training of an encoder-decoder that can be run again from where it stopped."""

    base: Path
    tasks: Sequence[Task]
    extras: Mapping[str, Extra]
    settings: TrainSettings
    change: Callable[[Feed], Feed] = as_it_is

    def feeds(self, network: SequenceNetwork) -> list[Feed]:
        return [
            self.change(make_feed(network, t, self.extras.get(t.name, Extra()), 1.0))
            for t in self.tasks
        ]

    def network(self, seed: int = 0) -> SequenceNetwork:
        return sequence_network(
            self.base,
            self.tasks,
            seed=seed,
            max_tokens=self.settings.max_tokens,
            dropout=self.settings.dropout,
        )

    def run(self, folder: Path, *, seed: int = 0, stop: StopSignal | None = None) -> Trained:
        folder.mkdir(parents=True, exist_ok=True)
        network = self.network(seed)
        result = fit(
            SequenceLearner(network, CPU),
            self.feeds(network),
            settings=self.settings,
            seed=seed,
            folder=folder,
            progress=Progress(stop=stop or StopSignal()),
            name="a training",
        )
        assert (network.model.backbone.model.shared.weight[-1] == 0).all()
        return Trained(weights=network.model.state_dict(), result=result)


def labels_of(task: Task) -> list[str]:
    assert task.train.labels is not None
    return [str(text) for text in task.train.labels]


def soft_feed(network: SequenceNetwork, task: Task, **keys: Any) -> SoftFeed:
    """Soft targets of an untrained network for each place."""
    tokens = network.tokenise(task.name, task.train.inputs)
    targets = network.tokenise_targets(labels_of(task))
    outputs = network.kept_pieces(tokens, targets, CPU)
    combined = task.kind.combine(
        outputs[None],
        np.ones((1, len(outputs)), bool),
        None,
        temperature=1.0,
        space="probabilities",
    )
    facts = {"space": "probabilities", "temperature": 1.0, "rechecked": True}
    return SoftFeed(
        targets=combined,
        weights=np.full(len(task.train), 0.5, np.float32),
        **{**facts, **keys},
    )


@pytest.fixture
def training(tmp_path: Path) -> SequenceTraining:
    """Two directions, one with soft targets and a pool, two epochs, eight batches or so."""
    tasks = [sequence_task("de", train=16), sequence_task("fr", train=12)]
    base = sequence_base(tmp_path / "base")
    pool = sequence_task("de", train=6, dev=pair_rows(4, 9)).train.without_labels()
    teacher = sequence_network(base, tasks, seed=5)
    soft = soft_feed(teacher, tasks[0])
    extra = Extra(
        pool=pool,
        texts=[*labels_of(tasks[0]), *["der Weg sang"] * 6],
        hard_weights=np.array([0.5] * 16 + [1.0] * 6),
        soft=replace(soft, weights=np.array([0.5] * 16 + [0.0] * 6, np.float32)),
    )
    settings = replace(tiny_settings(batch=8), checkpoint_seconds=1e9)
    return SequenceTraining(base=base, tasks=tasks, extras={"de": extra}, settings=settings)


# -- learning -----------------------------------------------------------------------------------


def test_it_learns_two_languages_by_their_tokens(tmp_path: Path) -> None:
    base = sequence_base(tmp_path / "base", architecture=WIDER)
    tasks = [sequence_task(language, train=120, dev=12) for language in ("de", "fr")]
    settings = replace(
        tiny_settings(epochs=20, batch=8, learning_rate=5e-3, dropout=0.0),
        mixing="equal",
        balance="none",
    )
    train_network(
        tmp_path / "network",
        tasks,
        sequence_plan(base),
        settings,
        extras={},
        seed=1,
        device=CPU,
        progress=Progress(),
        name="it",
        record={},
    )
    record = training_record(tmp_path / "network")
    assert record["loss"][-1][1] < 0.4 * record["loss"][0][1]
    # A network that hears no token says one text for both: half of the texts are right at most.
    epochs = zip(record["dev"]["de"], record["dev"]["fr"], strict=True)
    assert max(min(de, fr) for (_, de), (_, fr) in epochs) > 0.5, record["dev"]
    assert record["truncated"] == {"de": 0.0, "fr": 0.0}


def test_dev_scores_are_those_of_greedy_texts(training: SequenceTraining, tmp_path: Path) -> None:
    trained = training.run(tmp_path / "one")
    network = training.network()
    network.model.load_state_dict(trained.weights)
    best = trained.result.state.best_epoch
    for task in training.tasks:
        tokens = network.tokenise(task.name, task.dev.inputs)
        said = network.texts(tokens, CPU, decoding=replace(network.decoding, beams=1))
        score = BLEU.score(truth_of(task, task.dev), said)
        assert dict(trained.result.state.dev[task.name])[best] == pytest.approx(score)


# -- the same bits ------------------------------------------------------------------------------


def test_it_is_deterministic_and_the_seed_matters(
    training: SequenceTraining, tmp_path: Path
) -> None:
    whole = training.run(tmp_path / "whole")
    assert same_numbers(training.run(tmp_path / "again"), whole)
    assert not same_numbers(training.run(tmp_path / "other", seed=1), whole)


def test_stopped_at_any_batch_it_ends_the_same(training: SequenceTraining, tmp_path: Path) -> None:
    whole = training.run(tmp_path / "whole")
    counting = StopAt(10**6)
    training.run(tmp_path / "counted", stop=counting)
    assert counting.looks >= 6
    for at in range(counting.looks):
        folder = tmp_path / f"at-{at}"
        with pytest.raises(Stopped, match=r"\d of|scoring dev rows"):
            training.run(folder, stop=StopAt(at))
        assert same_numbers(training.run(folder), whole), f"stopped at look {at}"


@pytest.mark.parametrize("change", ["adamax", "accumulate", "annealed"])
def test_other_settings_continue_too(
    training: SequenceTraining, tmp_path: Path, change: str
) -> None:
    if change == "adamax":
        training.settings = replace(training.settings, optimizer="adamax")
    elif change == "accumulate":
        training.settings = replace(training.settings, accumulate=2, batch=4)
    else:

        def annealed(feed: Feed) -> Feed:
            return (
                feed if feed.soft is None else replace(feed, soft=replace(feed.soft, annealed=True))
            )

        training.change = annealed
    whole = training.run(tmp_path / "whole")
    for at in (1, 3):
        with pytest.raises(Stopped):
            training.run(tmp_path / f"{at}", stop=StopAt(at))
        assert same_numbers(training.run(tmp_path / f"{at}"), whole)


# -- what weighs how much -----------------------------------------------------------------------


def loss_of(feed: Feed, network: SequenceNetwork, units: Sequence[int], **keys: Any) -> float:
    network.model.eval()
    rows = np.array(units)
    with torch.inference_mode():
        outputs = SequenceLearner(network, CPU).outputs([feed], rows)[feed.task]
        facts = {"step": 0, "n_steps": 10, "soft_on": True} | keys
        return float(feed.loss(outputs, rows, **facts))


def test_batches_have_few_widths_within_the_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = sequence_task("de", train=pair_rows(12, longest=14))
    base = sequence_base(tmp_path, architecture=replace(TINY, max_tokens=13))
    network = sequence_network(base, [task], max_tokens=13)
    network.model.eval()
    feed = make_feed(network, task, Extra(), 1.0)
    units = np.array([0, 3, 11])
    assert feed.tokens.lengths.max() == 13
    found, widths = [], []
    for step in (8, 1):
        monkeypatch.setattr(token_rows, "LENGTH_STEP", step)
        assert not (feed.units.tokens % step).any()
        widths.append([t.shape[1] for t in padded(network, feed.tokens, np.arange(12), CPU)])
        with torch.inference_mode():
            outputs = SequenceLearner(network, CPU).outputs([feed], units)["de"].numpy()
        found.append((outputs, network.texts(feed.tokens, CPU).tolist()))
    assert widths == [[13, 13], [13, 13]]  # not 16: there are no such places
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-4, atol=1e-4)
    assert found[0][1] == found[1][1]


def test_every_piece_weighs_the_same(tmp_path: Path) -> None:
    """A batch's loss is the sum over its pieces, over the mean pieces of a row."""
    short, long = pair_rows(10, 0, longest=2), pair_rows(10, 1, longest=12)
    task = sequence_task("de", train=short + long)
    network = sequence_network(sequence_base(tmp_path), [task])
    feed = make_feed(network, task, Extra(), 1.0)
    assert feed.targets is not None
    lengths = feed.targets.lengths
    assert lengths.max() > 2 * lengths.min()
    units = [0, 3, 11, 12, 17]
    network.model.eval()
    with torch.inference_mode():
        outputs = SequenceLearner(network, CPU).outputs([feed], np.array(units))["de"]
    slots, _ = feed.slots_of(np.array(units))
    by_piece = torch.nn.functional.cross_entropy(
        outputs, torch.from_numpy(feed.labels[slots]), reduction="none", label_smoothing=0.1
    )
    wanted = float(by_piece.sum()) / float(lengths.mean())
    assert loss_of(feed, network, units) == pytest.approx(wanted, rel=1e-4)
    parts = sum(loss_of(feed, network, [unit]) for unit in units)
    assert parts == pytest.approx(wanted, rel=1e-4)


def test_hard_and_soft_share_a_row(tmp_path: Path) -> None:
    task = sequence_task("de", train=10)
    network = sequence_network(sequence_base(tmp_path), [task])
    teacher = sequence_network(sequence_base(tmp_path), [task], seed=3)
    alone = loss_of(make_feed(network, task, Extra(), 1.0), network, [1, 4])
    parts = {}
    for weight in (0.0, 0.3, 1.0):
        soft = replace(
            soft_feed(teacher, task), weights=np.full(10, weight, np.float32), temperature=1.0
        )
        extra = Extra(hard_weights=np.full(10, 1 - weight), soft=soft)
        feed = make_feed(network, task, extra, 1.0)
        parts[weight] = loss_of(feed, network, [1, 4])
        assert loss_of(feed, network, [1, 4], soft_on=False) == pytest.approx(alone, rel=1e-5)
        annealed = replace(feed, soft=replace(feed.soft, annealed=True))  # type: ignore[type-var]
        if weight:
            start, end = (loss_of(annealed, network, [1, 4], step=step) for step in (0, 10))
            assert end == pytest.approx(alone, rel=1e-5)
            parts[-weight] = start
    assert parts[0.0] == pytest.approx(alone, rel=1e-5)
    assert parts[0.3] == pytest.approx(0.7 * alone + 0.3 * parts[1.0], rel=1e-4)
    assert parts[-0.3] == pytest.approx(parts[1.0], rel=1e-4)  # annealed begins with the teacher


@pytest.mark.parametrize("pool_weight", [0.25, 1.0, 2.0])
def test_pool_rows_weigh_as_asked(tmp_path: Path, pool_weight: float) -> None:
    """Against the same rows as labelled ones, with and without opinions on pieces."""
    said = pair_rows(16)
    task = sequence_task("de", train=said[:10], pool=[[{"en": r["en"]} for r in said[10:]]])
    whole = sequence_task("de", train=said)
    assert task.pool is not None
    texts = {row["en"]: row["de"] for row in said}
    lesson = Lesson(targets=None, digests=(), texts=[texts[t] for t in task.pool.inputs["en"]])
    network = sequence_network(sequence_base(tmp_path), [task])
    how = TaskDistillation(objective="sequence", soft_weight=0.0, pool_weight=pool_weight)
    lesson = replace(lesson, texts=[*[None] * 10, *lesson.texts])
    extra, facts = prepare_text_lesson(task, lesson, how)
    assert facts["pool_covered"] == facts["pool_rows"] == 6
    feed = make_feed(network, task, extra, 1.0)
    labelled = make_feed(network, whole, Extra(), 1.0)
    order = [said.index(next(r for r in said if r["en"] == t)) for t in task.pool.inputs["en"]]
    pool_rows = [10 + i for i in range(6)]
    assert loss_of(feed, network, pool_rows) == pytest.approx(
        pool_weight * loss_of(labelled, network, order), rel=1e-4
    )
    assert loss_of(feed, network, [0, 1]) == pytest.approx(
        loss_of(labelled, network, [0, 1]), rel=1e-4
    )


# -- lessons ------------------------------------------------------------------------------------


def test_a_share_of_the_rows_gets_the_teachers_texts() -> None:
    task = sequence_task("de", train=400)
    texts: list[str | None] = [f"said {i}" for i in range(400)]
    texts[3], texts[4] = None, ""
    labels = labels_of(task)
    taken = {}
    for weight in (0.0, 0.3, 0.7, 1.0):
        how = TaskDistillation(objective="sequence", soft_weight=weight)
        extra, facts = prepare_text_lesson(task, Lesson(targets=None, digests=(), texts=texts), how)
        assert extra.texts is not None
        assert extra.soft is None
        taken[weight] = {i for i in range(400) if extra.texts[i] != labels[i]}
        assert all(extra.texts[i] == texts[i] for i in taken[weight])
        assert extra.hard_weights is not None
        assert extra.hard_weights.tolist() == [1.0] * 400
        assert facts["train_covered"] == 398
    assert not taken[0.0]
    assert 80 < len(taken[0.3]) < 160
    assert taken[0.3] < taken[0.7] < taken[1.0]
    assert taken[1.0] == set(range(400)) - {3, 4}  # nothing is no target


def test_pieces_of_a_lesson_stand_at_their_rows(tmp_path: Path) -> None:
    """The store is in another order, and knows a row less."""
    task = sequence_task("de", train=6)
    network = sequence_network(sequence_base(tmp_path), [task])
    targets = network.tokenise_targets(labels_of(task))
    sources = network.tokenise("de", task.train.inputs)
    outputs = network.kept_pieces(sources, targets, CPU)
    order = np.array([4, 0, 5, 2, 3, 1])
    places = np.concatenate([np.arange(*targets.offsets[i : i + 2]) for i in order])
    cover = np.ones((1, 6), bool)
    cover[0, 2] = False  # the row 5
    store = SoftTargets(
        ids=pair_ids(task.train)[order],
        members=outputs[None, places],
        cover=cover,
        slots=targets.lengths[order],
    )
    lesson = Lesson(targets=None, digests=(), teacher_dev=0.4, pieces=lambda: store)
    how = TaskDistillation(soft_weight=0.25, stop_when_ahead=0.02)
    extra, facts = prepare_text_lesson(task, lesson, how)
    assert facts == {"train_rows": 6, "train_covered": 5, "pool_rows": 0, "pool_covered": 0}
    assert extra.soft is not None
    assert extra.hard_weights is not None
    hole = order[2]
    assert extra.soft.weights.tolist() == [0.0 if i == hole else 0.25 for i in range(6)]
    assert extra.hard_weights.tolist() == [1.0 if i == hole else 0.75 for i in range(6)]
    assert (extra.soft.teacher_dev, extra.soft.stop_margin, extra.soft.rechecked) == (0.4, 0.02, 1)
    own = slice(*targets.offsets[hole : hole + 2])
    wanted = np.exp(outputs[:, :N_KEPT])
    wanted[own] = 0
    np.testing.assert_allclose(extra.soft.targets[:, :N_KEPT], wanted, rtol=1e-5)
    feed = make_feed(network, task, extra, 1.0)
    assert feed.soft is not None
    assert len(feed.soft.targets) == len(targets.ids)


# -- selective distilling -----------------------------------------------------------------------


def test_the_soft_loss_goes_off_ahead_of_the_teacher_and_on_again(
    training: SequenceTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.1, 0.52, 0.50, 0.60, 0.3])
    seen: list[bool] = []
    loss = Feed.loss

    def noted(self: Feed, *args: Any, **keys: Any) -> torch.Tensor:
        seen.append(keys["soft_on"])
        return loss(self, *args, **keys)

    def scored(self: object, feed: Feed) -> float:
        return next(scores)

    monkeypatch.setattr(Feed, "loss", noted)
    monkeypatch.setattr("potstill.training.loop._Fit._score_dev", scored)
    training.tasks = training.tasks[:1]
    training.settings = replace(training.settings, epochs=5)

    def margin(feed: Feed) -> Feed:
        assert feed.soft is not None
        return replace(feed, soft=replace(feed.soft, teacher_dev=0.5, stop_margin=0.01))

    training.change = margin
    state = training.run(tmp_path / "one").result.state
    per_epoch = len(seen) // 5
    assert [seen[i * per_epoch] for i in range(5)] == [True, True, False, True, False]
    assert state.stopped == {}  # behind again after the last epoch
    assert [score for _, score in state.dev["de"]] == [0.1, 0.52, 0.50, 0.60, 0.3]


def test_a_stopped_training_remembers_what_is_off(
    training: SequenceTraining, tmp_path: Path
) -> None:
    training.tasks = training.tasks[:1]
    training.settings = replace(training.settings, epochs=4)

    def margin(feed: Feed) -> Feed:  # ahead from the first epoch on
        assert feed.soft is not None
        return replace(feed, soft=replace(feed.soft, teacher_dev=-1.0, stop_margin=0.01))

    training.change = margin
    whole = training.run(tmp_path / "whole")
    assert whole.result.state.stopped["de"]["epoch"] == 1
    with pytest.raises(Stopped):
        training.run(tmp_path / "one", stop=StopAt(7))
    facts = json.loads((tmp_path / "one" / "checkpoint.json").read_text())
    assert "de" in facts["state"]["stopped"]
    assert same_numbers(training.run(tmp_path / "one"), whole)


# -- what does not fit --------------------------------------------------------------------------


@pytest.mark.parametrize("difference", ["vocabulary", "max_tokens"])
def test_opinions_on_other_pieces_are_refused(tmp_path: Path, difference: str) -> None:
    task = sequence_task("de", train=pair_rows(10, longest=14))
    base = sequence_base(tmp_path / "one")
    if difference == "vocabulary":
        teacher = sequence_network(sequence_base(tmp_path / "other", size=50), [task])
    else:
        teacher = sequence_network(base, [task], max_tokens=8)
    network = sequence_network(base, [task])
    extra = Extra(hard_weights=np.full(10, 0.5), soft=soft_feed(teacher, task))
    with pytest.raises(DataError, match="the same vocabulary and `max_tokens`") as refused:
        make_feed(network, task, extra, 1.0)
    assert "objective: sequence" in refused.value.todo


def test_a_base_without_the_token_is_refused(tmp_path: Path) -> None:
    task = sequence_task("de", train=4, dev=4)
    other = replace(task, kind=replace(task.kind, language="es"))  # type: ignore[type-var]
    with pytest.raises(BaseModelError, match=r"without the token <2es>") as refused:
        sequence_network(sequence_base(tmp_path), [other])
    assert "<2de>, <2fr>" in refused.value.wanted


def test_sources_that_are_all_too_long_are_refused(tmp_path: Path) -> None:
    rows = [{"en": "the " * 40 + text["en"], "de": text["de"]} for text in pair_rows(4)]
    task = sequence_task("de", train=rows, dev=4)
    network = sequence_network(sequence_base(tmp_path), [task])
    with pytest.raises(DataError, match="every row is longer than 32 tokens"):
        make_feed(network, task, Extra(), 1.0)
