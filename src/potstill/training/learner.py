"""What the loop asks of a model while it learns: the seam between families of networks.

An encoder with heads answers at slots; an encoder-decoder says texts. The loop plans, steps, saves
and continues both alike; what differs is here.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor, nn

from potstill.core.device import Device
from potstill.models.dropout import Noise
from potstill.models.encoder import CompactVocabulary
from potstill.models.multitask import MultiTaskModel
from potstill.models.pieces import GREEDY
from potstill.models.token_rows import TokenRows
from potstill.training.feed import Feed
from potstill.training.inference import predict_outputs, to_batch
from potstill.training.sequence_network import SequenceNetwork, forced
from potstill.training.settings import TrainSettings


class Learner(ABC):
    """A model in training."""

    model: nn.Module
    device: Device

    def begin(self, feeds: Sequence[Feed]) -> list[Feed]:
        """Make the model ready; returns the feeds as it reads them from now on."""
        self.model.to(self.device.torch)
        return list(feeds)

    def end(self) -> None:  # noqa: B027 (most have nothing to undo)
        """Undo what :meth:`begin` did to the model."""

    @property
    @abstractmethod
    def noise(self) -> Noise:
        """The source of its dropout masks."""

    @property
    @abstractmethod
    def shared(self) -> nn.Module:
        """The part that all tasks use; its last linear layer shows how hard each pulls."""

    @abstractmethod
    def never_decayed(self) -> list[nn.Parameter]:
        """Parameters without weight decay, beside biases and norms."""

    def head_rates(self, feeds: Sequence[Feed], settings: TrainSettings) -> dict[nn.Module, float]:
        """Parts with a learning rate of their own, and how many times the others' that is."""
        return {}

    @abstractmethod
    def outputs(self, feeds: Sequence[Feed], units: np.ndarray) -> dict[str, Tensor]:
        """Task to outputs (S, C) at the slots of some units, for feeds of the same texts."""

    @abstractmethod
    def dev_outputs(self, feed: Feed, done: Callable[[int], object]) -> np.ndarray:
        """What the model says to the feed's dev rows, as ``DevFeed.score`` takes it.

        Args:
            feed: Whose dev rows.
            done: Called after each batch with the rows that it ends; it may raise to stop.
        """


class EncoderLearner(Learner):
    """An encoder with a head a task.

    Args:
        model: Encoder and heads.
        device: Where, and in which precision.
        padding: Id of the padding token.
    """

    def __init__(self, model: MultiTaskModel, device: Device, padding: int) -> None:
        self.model: MultiTaskModel = model
        self.device = device
        self.padding = self._padding = padding
        self._vocabulary: CompactVocabulary | None = None

    def begin(self, feeds: Sequence[Feed]) -> list[Feed]:
        """Leaves out the token rows that occur nowhere; see ``Encoder.compact_vocabulary``."""
        super().begin(feeds)
        tables = [f.tokens.ids for f in feeds] + [f.dev.tokens.ids for f in feeds]
        used = np.unique(np.concatenate([*tables, [self._padding]]))
        vocabulary = self._vocabulary = self.model.encoder.compact_vocabulary(used)
        self.padding = int(vocabulary.renumber(np.array([self._padding]))[0])
        return [_renumber(feed, vocabulary) for feed in feeds]

    def end(self) -> None:
        if self._vocabulary is not None:
            self.model.encoder.expand_vocabulary(self._vocabulary)
            self.padding = self._padding

    @property
    def noise(self) -> Noise:
        return self.model.encoder.noise

    @property
    def shared(self) -> nn.Module:
        return self.model.encoder

    def never_decayed(self) -> list[nn.Parameter]:
        return self.model.encoder.embedding_parameters()

    def head_rates(self, feeds: Sequence[Feed], settings: TrainSettings) -> dict[nn.Module, float]:
        return {self.model.head(feed.task): settings.head_times(feed.kind) for feed in feeds}

    def outputs(self, feeds: Sequence[Feed], units: np.ndarray) -> dict[str, Tensor]:
        reading = next((feed for feed in feeds if feed.kind.slotted), feeds[0])
        inputs = to_batch(
            reading.tokens,
            reading.texts_of(units),
            self.padding,
            self.device.torch,
            most=self.model.encoder.max_tokens,
            slots=reading.kind.slotted,
        )
        with self.device.autocast():
            found: dict[str, Tensor] = self.model(inputs, tuple(feed.task for feed in feeds))
        return found

    def dev_outputs(self, feed: Feed, done: Callable[[int], object]) -> np.ndarray:
        return predict_outputs(
            self.model,
            feed.dev.tokens,
            (feed.task,),
            slotted=(feed.task,) if feed.kind.slotted else (),
            device=self.device,
            padding=self.padding,
            done=done,
        )[feed.task]


class SequenceLearner(Learner):
    """An encoder-decoder; dev texts are said greedily, which takes a third of the beams' time.

    Args:
        network: The encoder-decoder.
        device: Where, and in which precision.
    """

    def __init__(self, network: SequenceNetwork, device: Device) -> None:
        self.network = network
        self.model = network.model
        self.device = device

    @property
    def noise(self) -> Noise:
        return self.network.model.noise

    @property
    def shared(self) -> nn.Module:
        decoder: nn.Module = self.network.model.backbone.model.decoder
        return decoder

    def never_decayed(self) -> list[nn.Parameter]:
        return self.network.model.embedding_parameters()

    def outputs(self, feeds: Sequence[Feed], units: np.ndarray) -> dict[str, Tensor]:
        (feed,) = feeds
        if feed.targets is None:
            raise ValueError(f"task {feed.task}: nothing to say")
        read = forced(self.network, feed.tokens, feed.targets, units, self.device)
        with self.device.autocast():
            return {feed.task: self.model(*read)}

    def dev_outputs(self, feed: Feed, done: Callable[[int], object]) -> np.ndarray:
        return self.network.texts(feed.dev.tokens, self.device, decoding=GREEDY, done=done)


def _renumber(feed: Feed, vocabulary: CompactVocabulary) -> Feed:
    """The same feed with token ids of the compact vocabulary."""

    def renumber(tokens: TokenRows) -> TokenRows:
        return dataclasses.replace(tokens, ids=vocabulary.renumber(tokens.ids))

    dev = dataclasses.replace(feed.dev, tokens=renumber(feed.dev.tokens))
    return dataclasses.replace(feed, tokens=renumber(feed.tokens), dev=dev)
