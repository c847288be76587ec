"""A text for a text: summaries, rewritings, answers in free words; translation is a case of it.

A decoder says the target piece by piece. Its outputs have a place for each piece of the vocabulary,
thousands of them, so soft targets keep the likeliest few of each place and what is left of the
probability as one class more (Tan et al. 2019, arXiv 1902.10461, keep the few and forget the rest).

Shapes: S places of all targets, K pieces kept of each, V pieces in all. Soft targets are (S, 2 K):
K log-probabilities (in the store) or probabilities (combined), then the K pieces' numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from potstill.core.characters import is_unseen
from potstill.kinds.base import Inputs, Key, Kind, Space
from potstill.kinds.numbers import need_groups

if TYPE_CHECKING:
    from torch import Tensor

    from potstill.metrics.metric import Metric

N_KEPT = 8  # of method: with 8 Tan et al. lose nothing against the whole vocabulary
MOST_PIECES = 1 << 16  # numbers of pieces are stored in 16 bits
_LEAST = 1e-9
_BLOCK = 1 << 16
SMOOTHING = Key(
    name="label_smoothing",
    form="number",
    use="option",
    meaning="Share of the target's probability that is spread over all pieces, 0 to below 1.",
    default=0.1,
    at_least=0,
    below=1,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation(Kind):
    """A target text for a source text.

    Attributes:
        language: What the token before the source says: which task, or which language, is wanted.
        label_smoothing: Share of the target's probability that is spread over all pieces.
    """

    name: ClassVar[str] = "generation"
    summary: ClassVar[str] = "A text for a text, such as a summary, said by an encoder-decoder."
    keys: ClassVar[tuple[Key, ...]] = (
        Key(
            name="source",
            form="column",
            use="input",
            meaning="Column of the text that is read.",
            default="source",
        ),
        Key(
            name="target",
            form="column",
            use="label",
            meaning="Column of the text that is to be said.",
            default="target",
        ),
        Key(
            name="token",
            form="word",
            use="option",
            meaning="Name in the token before the source, which tells tasks apart; null: that of "
            "the target's column.",
            default=None,
            default_of="target",
        ),
        SMOOTHING,
    )
    reads: ClassVar[str] = "source"
    metric_names: ClassVar[tuple[str, ...]] = ("chrf", "bleu")
    answers: ClassVar[Literal["number", "text", "texts"]] = "text"
    generates: ClassVar[bool] = True

    language: str
    label_smoothing: float = 0.1

    # -- labels ---------------------------------------------------------------------------------

    @classmethod
    def learn(cls, labels: Sequence[object], options: Mapping[str, Any]) -> Self:
        smoothing = float(options.get("label_smoothing", 0.1))
        if not 0 <= smoothing < 1:
            raise ValueError(f"label_smoothing is {smoothing:g}, not 0 to below 1")
        if all(_fault(label) for label in labels):
            raise ValueError("no training row has a target text")
        language = options.get("language") or options.get("token")
        return cls(language=str(language), label_smoothing=smoothing)

    def encode_label(self, value: object) -> Any:
        if fault := _fault(value):
            raise ValueError(f"the target is {fault}")
        return value

    def strata(self, labels: np.ndarray) -> np.ndarray:
        return np.zeros(len(labels), np.int64)  # texts have no classes

    def label_in_words(self, label: Any, inputs: Sequence[Any]) -> Any:
        return label

    def describe(self, labels: np.ndarray) -> str:
        n_words = sum(len(text.split()) for text in labels)
        return f"targets of {n_words / len(labels):.1f} words on average"

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.name,
            "language": self.language,
            "label_smoothing": self.label_smoothing,
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        return cls(language=str(facts["language"]), label_smoothing=float(facts["label_smoothing"]))

    @property
    def token(self) -> str:
        return f"<2{self.language}>"

    @property
    def n_outputs(self) -> int:
        return 2 * N_KEPT

    # -- training -------------------------------------------------------------------------------

    def hard_loss(self, outputs: Tensor, labels: Tensor, groups: Tensor | None) -> Tensor:
        """Mean over a target's places; ``outputs`` (B, V), ``labels`` the pieces' numbers."""
        from potstill.losses.segments import group_mean
        from potstill.losses.vocabulary import picked_log_probabilities, smoothed_cross_entropy

        picked, mean = picked_log_probabilities(outputs, labels.long().unsqueeze(1))
        return group_mean(
            smoothed_cross_entropy(picked[:, 0], mean, self.label_smoothing), need_groups(groups)
        )

    def soft_loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        groups: Tensor | None,
        *,
        temperature: float,
        space: Space,
    ) -> Tensor:
        """The same against the kept pieces and the rest: ``targets`` (B, 2 K)."""
        from potstill.losses.segments import group_mean
        from potstill.losses.vocabulary import kept_cross_entropy, picked_log_probabilities

        k = targets.shape[1] // 2
        picked, _ = picked_log_probabilities(outputs, targets[:, k:].long())
        return group_mean(
            kept_cross_entropy(picked, targets[:, :k], temperature), need_groups(groups)
        )

    def losses(
        self,
        outputs: Tensor,
        labels: Tensor,
        targets: Tensor,
        groups: Tensor | None,
        *,
        temperature: float,
        space: Space,
    ) -> tuple[Tensor, Tensor]:
        """Both from one pass over the vocabulary."""
        import torch

        from potstill.losses.segments import group_mean
        from potstill.losses.vocabulary import (
            kept_cross_entropy,
            picked_log_probabilities,
            smoothed_cross_entropy,
        )

        k, rows = targets.shape[1] // 2, need_groups(groups)
        pieces = torch.cat([labels.long().unsqueeze(1), targets[:, k:].long()], 1)
        picked, mean = picked_log_probabilities(outputs, pieces)
        hard = smoothed_cross_entropy(picked[:, 0], mean, self.label_smoothing)
        soft = kept_cross_entropy(picked[:, 1:], targets[:, :k], temperature)
        return group_mean(hard, rows), group_mean(soft, rows)

    # -- soft targets ---------------------------------------------------------------------------

    def to_store(self, outputs: np.ndarray) -> np.ndarray:
        """Log-probabilities as the 16 bits of fp16, beside the pieces' numbers: uint16."""
        k = outputs.shape[1] // 2
        # Least of fp16: a probability of nothing is stored as that, not as minus infinity.
        log_probabilities = np.ascontiguousarray(outputs[:, :k].clip(-65504).astype(np.float16))
        return np.concatenate(
            [log_probabilities.view(np.uint16), outputs[:, k:].astype(np.uint16)], axis=1
        )

    def from_store(self, stored: np.ndarray) -> np.ndarray:
        k = stored.shape[1] // 2
        log_probabilities = np.ascontiguousarray(stored[:, :k]).view(np.float16)
        return np.concatenate([log_probabilities, stored[:, k:]], axis=1, dtype=np.float32)

    def soften(
        self, members: np.ndarray, groups: np.ndarray | None, temperature: float
    ) -> np.ndarray:
        k = members.shape[-1] // 2
        kept = members[..., :k]
        if temperature == 1:
            powers = np.exp(kept)
            total = np.maximum(powers.sum(-1, keepdims=True), 1)  # above 1 by fp16's rounding only
        else:  # the rest is one class more, with the logarithm of its whole mass as logit
            rest = np.log(np.maximum(1 - np.exp(kept).sum(-1, keepdims=True), _LEAST))
            most = np.maximum(kept.max(-1, keepdims=True), rest)
            powers = np.exp((kept - most) / temperature)
            total = powers.sum(-1, keepdims=True) + np.exp((rest - most) / temperature)
        return np.concatenate([powers / total, members[..., k:]], axis=-1, dtype=np.float32)

    def combine(
        self,
        members: np.ndarray,
        cover: np.ndarray,
        groups: np.ndarray | None,
        *,
        temperature: float,
        space: Space,
    ) -> np.ndarray:
        """The mean of the members' probabilities; what one did not keep counts as its rest.

        Of the pieces that any member kept, the K likeliest stay.
        """
        if space == "logits":
            raise ValueError("soft targets of a vocabulary are probabilities")
        if members.shape[1] > _BLOCK:  # what stands between takes many times the targets
            blocks = [slice(i, i + _BLOCK) for i in range(0, members.shape[1], _BLOCK)]
            return np.concatenate(
                [
                    self.combine(
                        members[:, own], cover[:, own], None, temperature=temperature, space=space
                    )
                    for own in blocks
                ]
            )
        softened = self.soften(members.astype(np.float32), groups, temperature)
        weights = cover / np.maximum(cover.sum(0), 1)
        if len(members) == 1:
            k = softened.shape[-1] // 2
            return np.concatenate(
                [softened[0, :, :k] * weights[0][:, None], softened[0, :, k:]],
                axis=1,
                dtype=np.float32,
            )
        return _likeliest(softened, weights.astype(np.float32))

    def from_scores(self, rows: Sequence[Mapping[str, object]]) -> np.ndarray:
        raise ValueError("teachers of texts are given by their texts, not by scores")

    @property
    def score_columns(self) -> tuple[str, ...]:
        return ("prediction",)

    # -- inference ------------------------------------------------------------------------------

    def predict(self, outputs: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
        """Texts are what metrics read already."""
        return outputs

    def predict_ensemble(self, members: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        raise ValueError("an ensemble of decoders says one text: it has no texts to combine")

    def decode(
        self,
        predictions: np.ndarray,
        inputs: Inputs | None = None,
        groups: np.ndarray | None = None,
    ) -> list[dict[str, Any]]:
        return [{"prediction": str(text)} for text in predictions]

    def answer_schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {"prediction": {"type": "string"}},
            "required": ["prediction"],
            "additionalProperties": False,
        }

    # -- evaluation -----------------------------------------------------------------------------

    def metric(self, name: str) -> Metric:
        from potstill.metrics.generation import BLEU, CHRF

        return BLEU if name == "bleu" else CHRF

    def signature(self, metric: str) -> str | None:
        """Sacrebleu's."""
        from potstill.metrics.generation import signature

        return signature(metric)

    def agreement(self, a: np.ndarray, b: np.ndarray, groups: np.ndarray | None) -> float:
        """The chrF of one's texts against the other's."""
        return self.metric("chrf").score(b, a)

    def distance(
        self, a: np.ndarray, b: np.ndarray, truth: Any, groups: np.ndarray | None
    ) -> np.ndarray | None:
        """1 - chrF between the two texts of each row."""
        from potstill.metrics.generation import sentence_chrf

        return np.array([1 - sentence_chrf(str(x), str(y)) for x, y in zip(a, b, strict=True)])

    def details(
        self, truth: Any, predictions: Mapping[str, np.ndarray], groups: np.ndarray | None
    ) -> dict[str, Any]:
        """Every metric of every system, by the metric's signature."""
        names = sorted(self.metric_names)
        return {
            "measures": {
                f"{name}, {self.signature(name)}": {
                    "n": len(truth),
                    **{s: self.metric(name).score(truth, p) for s, p in predictions.items()},
                }
                for name in names
            }
        }


def _likeliest(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The K likeliest pieces of the weighted mean of M members' kept ones: (S, 2 K).

    Args:
        members: (M, S, 2 K) probabilities, then pieces.
        weights: (M, S).
    """
    _, n_slots, width = members.shape
    k = width // 2
    values = (members[..., :k] * weights[..., None]).transpose(1, 0, 2).reshape(n_slots, -1)
    pieces = members[..., k:].transpose(1, 0, 2).reshape(n_slots, -1)
    # Equal pieces stand together; the last of each holds the sum of all.
    order = np.argsort(pieces, axis=1, kind="stable")
    pieces = np.take_along_axis(pieces, order, 1)
    sums = np.cumsum(np.take_along_axis(values, order, 1), axis=1, dtype=np.float64)
    ends = np.concatenate([pieces[:, 1:] != pieces[:, :-1], np.ones((n_slots, 1), bool)], axis=1)
    before = np.zeros_like(sums)
    at_ends = np.where(ends, sums, 0.0)
    before[:, 1:] = np.maximum.accumulate(at_ends, axis=1)[:, :-1]
    totals = np.where(ends, sums - before, -1.0)
    best = np.argsort(-totals, axis=1, kind="stable")[:, :k]
    chosen = np.maximum(np.take_along_axis(totals, best, 1), 0.0)
    return np.concatenate([chosen, np.take_along_axis(pieces, best, 1)], axis=1, dtype=np.float32)


def _fault(value: object) -> str | None:
    """Why a value is no target text, or None."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "missing"
    if not isinstance(value, str):
        return f"{type(value).__name__} {value!r:.60}, not text"
    if is_unseen(value):
        return "empty text" if not value.strip() else "text of characters that cannot be seen"
    if "\0" in value:
        return "text with a NUL character, the sign of binary data"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"text with half a character ({value[error.start]!r} at {error.start})"
    return None
