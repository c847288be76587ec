"""A seeded chooser of words and the two rules that make a filled template read well.

Knows no task and no lexicon.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_SENTENCE_START = re.compile(r"(^|[.?!]\s+)([a-z])")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")


class Draw:
    """Choices that depend on the seed's text alone.

    Only ``random.Random.random`` is used: it is the one method whose stream Python promises to
    keep between versions.

    Args:
        seed: Any text; equal texts give equal streams.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - sentences, not secrets

    def chance(self, probability: float) -> bool:
        """True with ``probability`` in [0, 1]."""
        return self._random.random() < probability

    def below(self, n: int) -> int:
        """An integer of 0 .. n-1, all equally likely."""
        return int(self._random.random() * n)

    def pick(self, options: Sequence[T]) -> T:
        """One of ``options``, all equally likely."""
        return options[self.below(len(options))]

    def sample(self, options: Sequence[T], n: int) -> list[T]:
        """``n`` different places of ``options``, in random order."""
        left = list(options)
        return [left.pop(self.below(len(left))) for _ in range(n)]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """All of ``options`` in random order."""
        return self.sample(options, len(options))


def sentences(text: str) -> str:
    """Capital letters at the starts of sentences, and "an" before a vowel."""
    spaced = _ARTICLE.sub(r"\1n ", " ".join(text.split()))
    return _SENTENCE_START.sub(lambda found: found[1] + found[2].upper(), spaced)
