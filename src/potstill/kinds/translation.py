"""A sentence in another language: generation with a token that names the language wanted.

One network serves all directions, as in the patent's multilingual case and in Johnson et al. 2017
(arXiv 1611.04558): the token before the source is all that tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from potstill.kinds.base import Key
from potstill.kinds.generation import SMOOTHING, Generation

if TYPE_CHECKING:
    from potstill.metrics.metric import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation(Generation):
    """A direction of translation."""

    name: ClassVar[str] = "translation"
    summary: ClassVar[str] = "Translation in one direction; one student serves many of them."
    keys: ClassVar[tuple[Key, ...]] = (
        Key(
            name="source",
            form="column",
            use="input",
            meaning="Column of the sentence that is read.",
        ),
        Key(
            name="target",
            form="column",
            use="label",
            meaning="Column of its translation.",
        ),
        Key(
            name="language",
            form="word",
            use="option",
            meaning="Language in the token before the source, as in <2de>; null: the name of the "
            "target's column.",
            default=None,
            default_of="target",
        ),
        SMOOTHING,
    )
    metric_names: ClassVar[tuple[str, ...]] = ("bleu", "chrf")

    def metric(self, name: str) -> Metric:
        """BLEU's words are those of the language: some put no blanks between them."""
        from potstill.metrics.generation import bleu, tokenizer_of

        return (
            bleu(tokenizer_of(self.language)) if name == "bleu" else Generation.metric(self, name)
        )

    def signature(self, metric: str) -> str | None:
        """Sacrebleu's."""
        from potstill.metrics.generation import signature, tokenizer_of

        return signature(metric, tokenizer_of(self.language))
