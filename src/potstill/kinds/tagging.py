"""A tag for every word: entities, slots, parts of speech. Spans of words are marked with IOB2.

The head answers at the first sub-word of each word. A sentence weighs as much as any other, however
many words it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from potstill.kinds.base import Inputs, Key, Kind, Space
from potstill.kinds.numbers import finite_number, need_groups, softmax
from potstill.kinds.scores import are_distributions, centred, one_space

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_PROBABILITY = 1e-6  # of somebody else's scores: the logit of 0 would be minus infinity


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagging(Kind):
    """Tags of words.

    Attributes:
        tags: The tags in the order of the outputs; ``O`` first.
    """

    name: ClassVar[str] = "tagging"
    summary: ClassVar[str] = "A tag for every word of a text, in IOB2: `O`, `B-type`, `I-type`."
    keys: ClassVar[tuple[Key, ...]] = (
        Key(
            name="tokens",
            form="column",
            use="input",
            meaning="Column of the words: a list in each row, or text with blanks between words.",
            default="tokens",
        ),
        Key(
            name="tags",
            form="column",
            use="label",
            meaning="Column of the tags, one a word: a list, or text with blanks between tags.",
            default="tags",
        ),
    )
    reads: ClassVar[str] = "words"
    problem_type: ClassVar[str | None] = "token_classification"
    metric_names: ClassVar[tuple[str, ...]] = ("span_f1", "accuracy")
    slotted: ClassVar[bool] = True
    answers: ClassVar[Literal["number", "text", "texts"]] = "texts"

    tags: tuple[str, ...]

    @classmethod
    def learn(cls, labels: Sequence[object], options: Mapping[str, Any]) -> Self:
        types: set[str] = set()
        faults: list[str] = []
        for value in labels:
            try:
                types |= {tag[2:] for tag in _sound_tags(value) if tag != "O"}
            except ValueError as error:
                faults.append(str(error))
        if not types:
            why = faults[0] if faults else "all are 'O'"
            raise ValueError(f"the training tags mark nothing: {why}")
        return cls(tags=("O", *(f"{mark}-{t}" for t in sorted(types) for mark in "BI")))

    def encode_label(self, value: object) -> Any:
        tags = _sound_tags(value)
        unknown = next((tag for tag in tags if tag not in self.tags), None)
        if unknown is not None:
            known = ", ".join(t[2:] for t in self.tags[1::2][:20])
            raise ValueError(f"tag '{unknown}' does not occur in train (known types: {known})")
        return tuple(self.tags.index(tag) for tag in tags)

    def encode(self, value: object, inputs: Sequence[Any]) -> Any:
        found = self.encode_label(value)
        if len(found) != len(inputs[0]):
            raise ValueError(f"{len(found)} tags for {len(inputs[0])} words")
        return found

    def flat(self, labels: np.ndarray, slots: np.ndarray | None) -> np.ndarray:
        return np.array([tag for row in labels for tag in row], np.float64)

    def truth(self, labels: np.ndarray, inputs: Inputs) -> Any:
        return np.array([tag for row in labels for tag in row], np.int64)

    def label_in_words(self, label: Any, inputs: Sequence[Any]) -> Any:
        return _spans_in_words(_spans([self.tags[tag] for tag in label], inputs[0]))

    def classes_in(self, label: Any) -> list[str]:
        """The type of each span."""
        return [self.tags[tag][2:] for tag in label if self.tags[tag].startswith("B-")]

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """Sentences with as many marked spans, up to three, belong together."""
        begins = {i for i, tag in enumerate(self.tags) if tag.startswith("B-")}
        return np.array([min(sum(tag in begins for tag in row), 3) for row in labels], np.int64)

    def describe(self, labels: np.ndarray) -> str:
        counts = np.bincount(
            np.array([tag for row in labels for tag in row], np.int64), minlength=len(self.tags)
        )
        begins = {self.tags[i][2:]: int(counts[i]) for i in range(1, len(self.tags), 2)}
        order = sorted(begins, key=lambda name: -begins[name])
        return f"{sum(map(len, labels))} words; spans: " + ", ".join(
            f"{name} {begins[name]}" for name in order[:50]
        )

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.name, "tags": list(self.tags)}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        return cls(tags=tuple(facts["tags"]))

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.tags

    @property
    def n_outputs(self) -> int:
        return len(self.tags)

    def hard_loss(self, outputs: Tensor, labels: Tensor, groups: Tensor | None) -> Tensor:
        from potstill.losses.cross_entropy import cross_entropy
        from potstill.losses.segments import group_mean

        return group_mean(cross_entropy(outputs, labels.long()), need_groups(groups))

    def soft_loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        groups: Tensor | None,
        *,
        temperature: float,
        space: Space,
    ) -> Tensor:
        from potstill.losses.cross_entropy import soft_cross_entropy
        from potstill.losses.logit_mse import logit_mse
        from potstill.losses.segments import group_mean

        if space == "logits":
            return group_mean(logit_mse(outputs, targets), need_groups(groups))
        return group_mean(soft_cross_entropy(outputs, targets, temperature), need_groups(groups))

    @property
    def score_columns(self) -> tuple[str, ...]:
        return ("scores",)

    def from_scores(self, rows: Sequence[Mapping[str, object]]) -> np.ndarray:
        """``scores``: for each word a list of one number a tag, in the order of :attr:`tags`."""
        values, _ = self._values(rows)
        if are_distributions(values).all():
            return self.from_probabilities(values).astype(np.float32)
        return centred(values).astype(np.float32)

    def from_probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        return centred(np.log(np.maximum(probabilities, _LEAST_PROBABILITY)))

    def space_of_scores(self, rows: Sequence[Mapping[str, object]]) -> Space:
        values, own = self._values(rows)
        return one_space(values, are_distributions(values), own)

    def _values(self, rows: Sequence[Mapping[str, object]]) -> tuple[np.ndarray, np.ndarray]:
        """(S, C) scores of all words, and the row of each."""
        lists = [_lists(row.get("scores")) for row in rows]
        words = [word for row in lists for word in row]
        for word in words:
            if len(word) != len(self.tags):
                raise ValueError(f"{len(word)} scores of a word for {len(self.tags)} tags")
        values = np.array([[finite_number(v, "a score") for v in word] for word in words])
        return values, np.repeat(np.arange(len(lists)), [len(row) for row in lists])

    def soften(
        self, members: np.ndarray, groups: np.ndarray | None, temperature: float
    ) -> np.ndarray:
        return softmax(members / temperature)

    def predict(self, outputs: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
        return softmax(outputs.astype(np.float64))

    def predict_ensemble(self, members: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        return np.asarray(softmax(members.astype(np.float64)).mean(0))

    def decode(
        self,
        predictions: np.ndarray,
        inputs: Inputs | None = None,
        groups: np.ndarray | None = None,
    ) -> list[dict[str, Any]]:
        """Tags of each row's words, and the spans they mark, words counted from 0.

        The tags are IOB2 whatever was found likeliest: an I- that begins a span is its B-.
        """
        if inputs is None:
            raise ValueError("tags are decoded with the words of their rows")
        best = predictions.argmax(-1)
        answers, start = [], 0
        for words in inputs[0]:
            end = start + len(words)
            spans = _spans([self.tags[t] for t in best[start:end]], words)
            names = ["O"] * len(words)
            for span in spans:
                names[span["first"]] = f"B-{span['type']}"
                for word in range(span["first"] + 1, span["last"] + 1):
                    names[word] = f"I-{span['type']}"
            answers.append({"prediction": names, "spans": spans})
            start = end
        return answers

    def answer_schema(self) -> dict[str, Any]:
        count = {"type": "integer", "minimum": 0}
        span = {
            "type": "object",
            "properties": {
                "type": {"enum": sorted({tag[2:] for tag in self.tags[1:]})},
                "first": count | {"description": "Its first word, from 0."},
                "last": count | {"description": "Its last word, from 0."},
                "text": {"type": "string"},
            },
            "required": ["type", "first", "last", "text"],
            "additionalProperties": False,
        }
        return {
            "type": "object",
            "properties": {
                "prediction": {"type": "array", "items": {"enum": list(self.tags)}},
                "spans": {"type": "array", "items": span},
            },
            "required": ["prediction", "spans"],
            "additionalProperties": False,
        }

    def metric(self, name: str) -> Any:
        from potstill.metrics.named import metric
        from potstill.metrics.tagging import span_f1

        return span_f1(self.tags) if name == "span_f1" else metric(name)

    def _same(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Words that get the same tag."""
        return np.asarray(a.argmax(1) == b.argmax(1))

    def distance(
        self, a: np.ndarray, b: np.ndarray, truth: Any, groups: np.ndarray | None
    ) -> np.ndarray | None:
        """Mean over a sentence's words of the total variation distance."""
        groups = need_groups(groups)
        return np.asarray(
            np.bincount(groups, weights=0.5 * np.abs(a - b).sum(1)) / np.bincount(groups)
        )

    def details(
        self, truth: Any, predictions: Mapping[str, np.ndarray], groups: np.ndarray | None
    ) -> dict[str, Any]:
        from potstill.metrics.tagging import span_f1

        score, eye = span_f1(self.tags).score, np.eye(len(self.tags))
        best = {system: p.argmax(1) for system, p in predictions.items()}
        found: dict[str, Any] = {}
        for begin in range(1, len(self.tags), 2):  # B- and I- of a type stand together
            own = np.zeros(len(self.tags), np.int64)
            own[begin : begin + 2] = [begin, begin + 1]
            only = own[truth]
            found[self.tags[begin][2:]] = {
                "n": int((only == begin).sum()),
                **{s: score(only, eye[own[tags]], groups) for s, tags in best.items()},
            }
        return {"by_label": found}


def _spans(tags: Sequence[str], words: Sequence[str]) -> list[dict[str, Any]]:
    from potstill.metrics.tagging import spans

    return [
        {"type": type_, "first": a, "last": b - 1, "text": " ".join(words[a:b])}
        for type_, a, b in spans(tags)
    ]


def _spans_in_words(found: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{span['type']}: {span['text']}" for span in found]


def as_words(value: object) -> list[str] | None:
    """A list of strings, from one or from text with blanks between the words; None for others."""
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return list(value)
    return None


def _sound_tags(value: object) -> list[str]:
    """The tags of a sentence; a ValueError says why they are none."""
    from potstill.metrics.tagging import tag_fault

    tags = as_words(value)
    if tags is None:
        words = "; tags are words: O, B-name, I-name" if isinstance(value, list | tuple) else ""
        raise ValueError(f"the tags are {value!r:.60}, not a list of tags{words}")
    fault = tag_fault(tags)
    if fault is not None:
        raise ValueError(fault)
    return tags


def _lists(value: object) -> list[list[object]]:
    if not isinstance(value, list | tuple) or not all(isinstance(v, list | tuple) for v in value):
        raise ValueError(f"'scores' is {value!r:.60}, not a list of a list a word")
    if not value:
        raise ValueError("'scores' holds no word")
    return [list(word) for word in value]
