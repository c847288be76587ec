"""Sections that others repeat to change single keys: ``training:`` and ``architecture:``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator

from potstill.config.faults import choices
from potstill.config.fields import Form, Section, refusal

MixingName = Literal["proportional", "equal", "sqrt", "annealed"]
_MIXINGS = ("proportional", "equal", "sqrt", "annealed")


def _mixing(value: object) -> object:
    if isinstance(value, str) and value in _MIXINGS:
        return value
    if isinstance(value, Mapping) and set(value) == {"temperature"}:
        value = value["temperature"]
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6:
            return float(value)
        raise refusal("a number above 0 and below 1000000", at=("temperature",))
    raise refusal(choices([*_MIXINGS, "{temperature: t}"], value))


class Layered(Section):
    """A section that another one repeats, to change single keys of it."""

    def keywords(self) -> dict[str, Any]:
        """Every key and value."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    def given(self) -> dict[str, Any]:
        """The keys that the run file sets here, and their values."""
        return {name: getattr(self, name) for name in self.model_fields_set}

    def changed_by(self, *layers: Mapping[str, Any]) -> Self:
        """This section with the keys of ``layers`` on top, the last layer strongest."""
        values = self.keywords()
        for layer in layers:
            values |= layer
        return self.changed(**values)


class Training(Layered):
    """How networks are trained."""

    epochs: int = Field(default=3, ge=1, description="Passes over the training data, 1 or more.")
    learning_rate: float = Field(
        default=1e-4, gt=0, le=1, description="Peak learning rate, above 0, at most 1."
    )
    head_learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Peak learning rate of the heads, above 0, at most 1; null: `learning_rate`, "
        "10 times as much for a head of 10 or more classes, labels or tags.",
    )
    batch: int = Field(
        default=32,
        ge=1,
        description="Rows of a step on average (batches hold about equal numbers of tokens).",
    )
    tasks_per_step: int = Field(
        default=4,
        ge=1,
        description="A step's rows come in up to so many batches of one task each (but of 16 rows "
        "or more); 1: every step learns one task.",
    )
    max_tokens: int = Field(
        default=128,
        ge=8,
        description="Tokens of a text or pair, 8 or more; longer ones lose their end, and a task "
        "without a shorter one is refused.",
    )
    optimizer: Literal["adamw", "adamax"] = Field(default="adamw", description="The optimiser.")
    warmup: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of the steps in which the learning rate rises, 0 to 1.",
    )
    decay: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="How the learning rate falls after the warm-up."
    )
    weight_decay: float = Field(
        default=0.01, ge=0, le=1, description="Decoupled weight decay of weight matrices, 0 to 1."
    )
    clip: float = Field(
        default=1.0,
        gt=0,
        description="Largest norm of a step's gradient, above 0; larger ones are scaled.",
    )
    accumulate: int = Field(
        default=1, ge=1, description="Sum the gradients of so many times `batch` rows for a step."
    )
    dropout: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Dropout in the encoder, 0 to below 1; null: the base's own.",
    )
    head_dropout: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Dropout before each task's head, 0 to below 1; a task's `dropout` wins.",
    )
    mixing: Annotated[
        MixingName | float,
        PlainValidator(_mixing),
        Form(", ".join([*_MIXINGS, "{temperature: t}"])),
    ] = Field(
        default="proportional",
        description=(
            "How often tasks of unequal size are visited; with a temperature t (above 0) a task "
            "of n rows has a share of n^(1/t)."
        ),
    )
    balance: Literal["gradients", "none"] = Field(
        default="gradients",
        description=(
            "gradients: losses are scaled so that the tasks' gradients at the features that they "
            "share are equally large; none: losses as they are."
        ),
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Stop after so many epochs without a better dev score; null: never early.",
    )
    checkpoint_seconds: float = Field(
        default=60.0, gt=0, description="Seconds between two checkpoints within an epoch, above 0."
    )

    def plain(self) -> dict[str, Any]:
        values = super().plain()
        if isinstance(self.mixing, float):
            values["mixing"] = {"temperature": self.mixing}
        return values


class Architecture(Layered):
    """The size of an encoder-decoder that starts from nothing (`base: marian`)."""

    width: int = Field(
        default=256,
        ge=8,
        description="Width of every layer, 8 or more, an even multiple of `heads`.",
    )
    layers: int = Field(
        default=3, ge=1, description="Layers of the encoder, and as many of the decoder, 1 or more."
    )
    heads: int = Field(default=4, ge=1, description="Heads of every attention, 1 or more.")
    feed_forward: int = Field(default=1024, ge=8, description="Width inside a layer, 8 or more.")
    vocabulary: int = Field(
        default=8000,
        ge=64,
        le=65536,
        description="Pieces of the vocabulary that all languages share, 64 to 65536; fewer for "
        "small data.",
    )


class Decoding(Section):
    """How texts are looked for, in evaluation, prediction and service."""

    beams: int = Field(
        default=4,
        ge=1,
        le=64,
        description="Open hypotheses of the beam search, 1 to 64; 1 is greedy.",
    )
    length_penalty: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="Power of the length that a hypothesis' log-probability is divided by, "
        "0 to 10.",
    )
