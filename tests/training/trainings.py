"""A small training that can be repeated, stopped and broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from potstill.core.progress import Progress, StopSignal
from potstill.tasks.task import Task
from potstill.training.feed import Feed
from potstill.training.learner import EncoderLearner
from potstill.training.loop import FitResult, fit
from potstill.training.prepare import Extra, make_feed
from potstill.training.settings import TrainSettings
from tests.tiny import CPU, tiny_network


@dataclass(kw_only=True)
class Trained:
    """What a training gave."""

    weights: dict[str, Tensor]
    result: FitResult


def as_it_is(feed: Feed) -> Feed:
    """The feed unchanged."""
    return feed


class StopAt(StopSignal):
    """Asks to stop once it was looked at ``at`` times."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.looks = 0

    @property
    def reason(self) -> str | None:
        self.looks += 1
        return "enough" if self.looks > self.at else None

    def check(self, doing: str) -> None:
        self.requested = "enough"
        super().check(doing)


@dataclass(kw_only=True)
class Training:
    """A training that can be run again from the start or from where it stopped.

    Attributes:
        base: The base folder.
        tasks: What is learned.
        extras: What tasks bring beside labels.
        settings: How.
        change: Applied to each feed before training.
        shared: Tasks that may learn from one encoder pass.
    """

    base: Path
    tasks: Sequence[Task]
    extras: Mapping[str, Extra]
    settings: TrainSettings
    change: Callable[[Feed], Feed] = as_it_is
    shared: Sequence[Sequence[str]] = ()

    def run(self, folder: Path, *, seed: int = 0, stop: StopSignal | None = None) -> Trained:
        """Train, or continue what stands in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        network = tiny_network(
            self.base,
            self.tasks,
            seed=seed,
            dropout=self.settings.dropout,
            max_tokens=self.settings.max_tokens,
        )
        network.model.set_head_dropout({t.name: self.settings.head_dropout for t in self.tasks})
        feeds = [
            self.change(make_feed(network, t, self.extras.get(t.name, Extra()), 1.0))
            for t in self.tasks
        ]
        result = fit(
            EncoderLearner(network.model, CPU, network.tokenizer.padding),
            feeds,
            settings=self.settings,
            seed=seed,
            folder=folder,
            progress=Progress(stop=stop or StopSignal()),
            name="a training",
            shared=self.shared,
        )
        return Trained(weights=network.model.state_dict(), result=result)


def same_numbers(one: Trained, other: Trained) -> bool:
    """Whether two trainings agree in every bit that is a result."""
    records = [json.dumps(trained.result.to_json()) for trained in (one, other)]
    return records[0] == records[1] and all(
        torch.equal(one.weights[name], tensor) for name, tensor in other.weights.items()
    )
