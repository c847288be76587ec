"""F1 of spans that IOB2 tags mark, as CoNLL-2000's conlleval counts it; knows no task.

A tag is "O" (outside), "B-<type>" (a span begins) or "I-<type>" (it goes on). What is no valid
IOB2 is read as conlleval reads it: an I that follows "O", another type or the start of a sentence
begins a span.

S is words, of all sentences one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from potstill.metrics.metric import Floats, Ints, Metric, Numbers, check_rows, ratio, resampled_sums

Flags: TypeAlias = npt.NDArray[np.bool_]

_OUTSIDE = -1
"""The type of "O", so that it differs from the type of every span."""


def span_f1(tags: Sequence[str]) -> Metric:
    """Micro F1 of spans: one counts as found if its type, first and last word are right.

    Inputs of the metric: ``truth`` (S,) indices into ``tags``; ``output`` (S, C) tag
    probabilities, of which the first largest decides; ``groups`` (S,) the sentence of each word,
    None for a single sentence. Words of a sentence stand together and in order; a span never goes
    over its end. A resample draws sentences. Without any span the score is 0.

    Args:
        tags: Names of the C tags: "O", "B-<type>" or "I-<type>".

    Raises:
        ValueError: A name that is no such tag; from the metric also arrays that do not fit, and
            sentences whose words do not stand together.

    Reference:
        Tjong Kim Sang and Buchholz 2000, "Introduction to the CoNLL-2000 Shared Task: Chunking",
        https://aclanthology.org/W00-0726, and its script conlleval.
    """
    begins, types, _ = _parsed(tags)

    def statistics(truth: Numbers, output: Numbers, groups: Ints) -> Floats:
        """(S, 3): at the first word of each span found and right, true, found."""
        true, predicted = _tag_indices(truth, output, len(tags))
        opens = _sentence_starts(groups, len(true))
        ends = [_ends(begins[each], types[each], opens) for each in (true, predicted)]
        same = (ends[0] == ends[1]) & (types[true] == types[predicted])
        right = (ends[0] > 0) & same
        return np.stack([right, ends[0] > 0, ends[1] > 0], axis=1).astype(np.float64)

    def score(truth: Numbers, output: Numbers, groups: Ints | None = None) -> float:
        sums = statistics(truth, output, _sentences(groups, truth)).sum(axis=0, keepdims=True)
        return float(_f1_of_sums(sums)[0])

    def resampled(truth: Numbers, output: Numbers, groups: Ints | None, counts: Numbers) -> Floats:
        sentences = _sentences(groups, truth)
        return _f1_of_sums(resampled_sums(statistics(truth, output, sentences), sentences, counts))

    return Metric(name="span_f1", score=score, resampled=resampled, low=0.0, high=1.0)


def spans(tag_names: Sequence[str]) -> list[tuple[str, int, int]]:
    """The spans of one sentence: type, first word, the word behind the last one.

    Args:
        tag_names: The tag of each word; what is no valid IOB2 is read as conlleval reads it.

    Raises:
        ValueError: A name that is no tag.

    Examples:
        >>> spans(["B-per", "I-per", "O", "I-loc", "B-loc"])
        [('per', 0, 2), ('loc', 3, 4), ('loc', 4, 5)]
    """
    begins, types, names = _parsed(tag_names)
    ends = _ends(begins, types, np.arange(len(types)) == 0)
    return [(names[types[first]], int(first), int(ends[first])) for first in np.flatnonzero(ends)]


def tag_fault(tags: Sequence[str]) -> str | None:
    """Why the tags of a sentence are no valid IOB2, or None where they are; words count from 1.

    Examples:
        >>> tag_fault(["B-per", "O", "I-loc"])
        "tag 3 is 'I-loc' but tag 2 is 'O': a span begins with B-"
    """
    before = None
    for number, tag in enumerate(tags, start=1):
        if not _is_tag(tag):
            return f"tag {number} is {tag!r}: wanted 'O', 'B-<type>' or 'I-<type>'"
        if tag.startswith("I-") and (before is None or before[1:] != tag[1:]):
            found = "" if before is None else f" but tag {number - 1} is {before!r}"
            return f"tag {number} is {tag!r}{found}: a span begins with B-"
        before = tag
    return None


def _is_tag(tag: str) -> bool:
    return tag == "O" or (tag[:2] in {"B-", "I-"} and len(tag) > 2)


def _parsed(tags: Sequence[str]) -> tuple[Flags, Ints, list[str]]:
    """For each tag: whether it is a B, and the index of its type; then the names of the types."""
    faulty = [tag for tag in tags if not _is_tag(tag)]
    if faulty:
        raise ValueError(f"{faulty[0]!r} is no tag: wanted 'O', 'B-<type>' or 'I-<type>'")
    names = list(dict.fromkeys(tag[2:] for tag in tags if tag != "O"))
    index = {name: number for number, name in enumerate(names)}
    types = [_OUTSIDE if tag == "O" else index[tag[2:]] for tag in tags]
    begins = [tag.startswith("B-") for tag in tags]
    return np.array(begins, dtype=np.bool_), np.array(types, dtype=np.int64), names


def _tag_indices(truth: Numbers, output: Numbers, n_tags: int) -> tuple[Ints, Ints]:
    check_rows(truth, output, n_dims=2)
    if output.shape[1] != n_tags:
        raise ValueError(f"output {output.shape}: wanted (S, {n_tags}), one column for each tag")
    indices = truth.astype(np.int64)
    if not np.array_equal(indices, truth) or indices.min() < 0 or indices.max() >= n_tags:
        raise ValueError(f"truth holds values that are not one of the {n_tags} tags")
    return indices, output.argmax(axis=1).astype(np.int64)


def _sentences(groups: Ints | None, truth: Numbers) -> Ints:
    """The sentence of each word; without groups the one sentence 0."""
    return np.zeros(len(truth), dtype=np.int64) if groups is None else groups


def _sentence_starts(groups: Ints, n_words: int) -> Flags:
    if groups.shape != (n_words,):
        raise ValueError(f"groups {groups.shape}: wanted ({n_words},), one for each word")
    opens: Flags = np.r_[True, groups[1:] != groups[:-1]]
    if np.count_nonzero(opens) != len(np.unique(groups)):
        raise ValueError("groups: words of a sentence do not stand together")
    return opens


def _ends(begins: Flags, types: Ints, opens: Flags) -> Ints:
    """(S,) the word behind the last one of the span that starts at a word, 0 where none starts.

    Args:
        begins: (S,) the word's tag is a B.
        types: (S,) index of its type, `_OUTSIDE` for "O".
        opens: (S,) the word is the first of its sentence.
    """
    before = np.r_[np.full(1, _OUTSIDE), types][: len(types)]
    # Whatever was open is closed in front of these words.
    breaks = np.flatnonzero(begins | opens | (types != before))
    behind = np.r_[breaks[1:], len(types)]
    ends = np.zeros(len(types), dtype=np.int64)
    ends[breaks] = np.where(types[breaks] == _OUTSIDE, 0, behind[: len(breaks)])
    return ends


def _f1_of_sums(sums: Floats) -> Floats:
    right, n_true, n_found = sums.T
    return ratio(2 * right, n_true + n_found)
