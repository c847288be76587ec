"""The answer to a question as a part of a passage, or that the passage has none.

Two softmaxes over all words of the passage, one for the answer's first word and one for its last,
each with one more slot for "no answer". The windows of a long passage share them (Clark and Gardner
2018, arXiv 1710.10723, shared normalisation), so scores of different windows can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from potstill.kinds.base import Inputs, Key, Kind, Space
from potstill.kinds.numbers import finite_number, group_log_softmax, need_groups
from potstill.kinds.passage import word_bounds
from potstill.kinds.scores import are_shares, one_space

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_PROBABILITY = 1e-9
_MOST_MARGIN = 1e3  # of a passage without words, which has no answer whatever else is said
_MOST_WORDS = 30  # of an answer, as in the scripts of BERT


@dataclass(frozen=True, slots=True, kw_only=True)
class Span(Kind):
    """Extractive question answering.

    Attributes:
        unanswerable: Some training rows have no answer, so that "no answer" may be one.
        margin: By how much (log-probability) "no answer" must beat the best answer; tuned on dev.
    """

    name: ClassVar[str] = "span"
    summary: ClassVar[str] = "The part of a passage that answers a question, in SQuAD's format."
    keys: ClassVar[tuple[Key, ...]] = (
        Key(
            name="question",
            form="column",
            use="input",
            meaning="Column of the question.",
            default="question",
        ),
        Key(
            name="context",
            form="column",
            use="input",
            meaning="Column of the passage; long ones are read in windows.",
            default="context",
        ),
        Key(
            name="answers",
            form="column",
            use="label",
            meaning="Column of the right answers: a list of texts, empty where there is none; or, "
            "as in SQuAD, `{text: [...], answer_start: [...]}`, which holds their places too.",
            default="answers",
        ),
        Key(
            name="answer_starts",
            form="column",
            use="label",
            meaning="Column of the place of each answer in the passage, in characters from 0; "
            "none where `answers` holds the places.",
            default="answer_starts",
        ),
    )
    nested: ClassVar[tuple[str, ...]] = ("text", "answer_start")
    reads: ClassVar[str] = "passage"
    problem_type: ClassVar[str | None] = "question_answering"
    metric_names: ClassVar[tuple[str, ...]] = ("token_f1", "exact_match")
    slotted: ClassVar[bool] = True
    at_last: ClassVar[tuple[int, ...]] = (1,)
    tunes: ClassVar[bool] = True
    storage: ClassVar[Literal["float16", "float32"]] = "float32"
    answers: ClassVar[Literal["number", "text", "texts"]] = "text"
    scored: ClassVar[bool] = True

    unanswerable: bool = False
    margin: float = 0.0

    @classmethod
    def learn(cls, labels: Sequence[object], options: Mapping[str, Any]) -> Self:
        lists: list[tuple[str, ...]] = []
        faults: list[str] = []
        for value in labels:
            try:
                lists.append(_answers(value)[0])
            except ValueError as error:
                faults.append(str(error))
        if not any(lists):
            raise ValueError(faults[0] if faults else "no training row has an answer")
        return cls(unanswerable=any(not answers for answers in lists))

    def encode_label(self, value: object) -> Any:
        raise ValueError("answers are found in their passage: use `encode`")

    def encode(self, value: object, inputs: Sequence[Any]) -> Any:
        """The answers' texts, and of each its first and its last word: three tuples."""
        texts, starts = _answers(value)
        context = str(inputs[1])
        begins, ends = word_bounds(context)
        firsts, lasts = [], []
        for text, start in zip(texts, starts, strict=True):
            found = context[start : start + len(text)] if start >= 0 else ""
            if found != text:
                at = context.find(text)
                hint = f"; it stands at {at}" if at >= 0 else "; it stands nowhere in it"
                raise ValueError(
                    f"answer {text!r:.60} is not at character {start} of the passage, where "
                    f"{found!r:.60} stands{hint}"
                )
            inside = np.flatnonzero((ends > start) & (begins < start + len(text)))
            if not len(inside):
                raise ValueError(f"answer {text!r:.60} holds no word")
            firsts.append(int(inside[0]))
            lasts.append(int(inside[-1]))
        return texts, tuple(firsts), tuple(lasts)

    def flat(self, labels: np.ndarray, slots: np.ndarray | None) -> np.ndarray:
        """(S, 2) probability that an answer begins, and ends, at each slot; slot 0: no answer."""
        if slots is None:
            raise ValueError("answers need the slots of their rows")
        offsets = np.r_[0, np.cumsum(slots)]
        marks = np.zeros((int(offsets[-1]), 2))
        for row, (_, firsts, lasts) in enumerate(labels):
            if not firsts:
                marks[offsets[row]] = 1.0
            for first, last in set(zip(firsts, lasts, strict=True)):
                share = 1.0 / len(set(zip(firsts, lasts, strict=True)))
                marks[offsets[row] + 1 + first, 0] += share
                marks[offsets[row] + 1 + last, 1] += share
        return marks

    def truth(self, labels: np.ndarray, inputs: Inputs) -> Any:
        from potstill.metrics.squad import Passage

        passages = np.empty(len(labels), object)
        for row, (texts, _, _) in enumerate(labels):
            passages[row] = Passage(inputs[1][row], *word_bounds(inputs[1][row]), texts)
        return passages

    def together(self, inputs: Inputs) -> Sequence[str] | None:
        return inputs[1]  # several questions are asked of one passage

    def label_in_words(self, label: Any, inputs: Sequence[Any]) -> Any:
        answers = list(dict.fromkeys(label[0]))
        return answers if len(answers) > 1 else "".join(answers)

    def doubt(self, label: Any, inputs: Sequence[Any]) -> str | None:
        begins, ends = word_bounds(inputs[1])
        for text, first, last in zip(*label, strict=True):
            words = inputs[1][begins[first] : ends[last]]
            if len(words) > len(text.strip()):
                return (
                    f"an answer that starts or ends inside a word, first {text!r:.60} of "
                    f"{words!r:.60}: answers are whole words, so that one cannot be given"
                )
        return None

    def strata(self, labels: np.ndarray) -> np.ndarray:
        return np.array([bool(texts) for texts, _, _ in labels], np.int64)

    def describe(self, labels: np.ndarray) -> str:
        lengths = [b - a + 1 for _, first, last in labels for a, b in zip(first, last, strict=True)]
        without = sum(not texts for texts, _, _ in labels)
        longest = f", answers of {np.mean(lengths):.1f} words on the mean" if lengths else ""
        too_long = sum(n > _MOST_WORDS for n in lengths)
        more = f"; {too_long} are longer than {_MOST_WORDS} and cannot be found" if too_long else ""
        return f"{without} rows without an answer{longest}{more}"

    def to_json(self) -> dict[str, Any]:
        tuned = {"margin": self.margin} if self.margin else {}
        return {"kind": self.name, "unanswerable": self.unanswerable, **tuned}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        return cls(unanswerable=bool(facts["unanswerable"]), margin=float(facts.get("margin", 0.0)))

    @property
    def n_outputs(self) -> int:
        return 2

    def hard_loss(self, outputs: Tensor, labels: Tensor, groups: Tensor | None) -> Tensor:
        from potstill.losses.listwise import listwise_cross_entropy

        groups = need_groups(groups)
        first, last = (
            listwise_cross_entropy(outputs[:, c], labels[:, c], groups) for c in range(2)
        )
        return 0.5 * (first + last)

    def soft_loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        groups: Tensor | None,
        *,
        temperature: float,
        space: Space,
    ) -> Tensor:
        from potstill.losses.listwise import listwise_cross_entropy, listwise_logit_mse

        groups = need_groups(groups)
        if space == "logits":
            parts = [listwise_logit_mse(outputs[:, c], targets[:, c], groups) for c in range(2)]
        else:
            parts = [
                listwise_cross_entropy(outputs[:, c], targets[:, c], groups, temperature)
                for c in range(2)
            ]
        return 0.5 * (parts[0] + parts[1])

    @property
    def score_columns(self) -> tuple[str, ...]:
        return ("start_scores", "end_scores")

    def from_scores(self, rows: Sequence[Mapping[str, object]]) -> np.ndarray:
        """``start_scores`` and ``end_scores``: a number for "no answer", then one a word."""
        values, _ = self._values(rows)
        if are_shares(values).all():
            values = self.from_probabilities(values)
        return values.astype(np.float32)

    def from_probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(np.maximum(probabilities, _LEAST_PROBABILITY)))

    def space_of_scores(self, rows: Sequence[Mapping[str, object]]) -> Space:
        values, own = self._values(rows)
        return one_space(values, are_shares(values), own)

    def _values(self, rows: Sequence[Mapping[str, object]]) -> tuple[np.ndarray, np.ndarray]:
        """(S, 2) scores of all places, and the row of each."""
        columns = []
        for name in self.score_columns:
            lists = [_numbers(row.get(name), name) for row in rows]
            columns.append([number for row in lists for number in row])
        if len(columns[0]) != len(columns[1]):
            raise ValueError(f"{len(columns[0])} start scores and {len(columns[1])} end scores")
        return np.array(columns).T, np.repeat(np.arange(len(rows)), [len(row) for row in lists])

    def soften(
        self, members: np.ndarray, groups: np.ndarray | None, temperature: float
    ) -> np.ndarray:
        rows = need_groups(groups)
        return np.exp([group_log_softmax(one / temperature, rows) for one in members])

    def predict(self, outputs: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
        """(N, 6): first and last word of the answer; of the best answer; two log-probabilities.

        The answer's words are -1 where it is "no answer". The log-probabilities are those of the
        best answer and of "no answer", each of first and last word together.
        """
        return self._best(
            group_log_softmax(outputs.astype(np.float64), need_groups(groups)), groups
        )

    def predict_ensemble(self, members: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        rows = need_groups(groups)
        lists = [np.exp(group_log_softmax(one.astype(np.float64), rows)) for one in members]
        return self._best(np.log(np.maximum(np.mean(lists, axis=0), 1e-30)), groups)

    def _best(self, logs: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        rows = need_groups(groups)
        starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]]) if len(rows) else rows
        bounds = np.r_[starts, len(rows)]
        found = np.full((len(starts), 6), -1.0)
        found[:, 4:] = -_MOST_MARGIN, 0.0
        for row, (start, end) in enumerate(pairwise(bounds)):
            if end - start < 2:  # a passage without words
                continue
            first, last, score = _best_span(logs[start + 1 : end, 0], logs[start + 1 : end, 1])
            found[row, 2:] = first, last, score, float(logs[start].sum())
        silent = self.unanswerable & (found[:, 5] - found[:, 4] > self.margin)
        given = (found[:, 2] >= 0) & ~silent
        found[given, :2] = found[given, 2:4]
        return found

    def score_groups(self, groups: np.ndarray | None) -> np.ndarray | None:
        return None  # predictions are of rows

    def tune(self, predictions: np.ndarray, truth: Any, groups: np.ndarray | None) -> Self:
        """The margin with the best token F1 on these rows."""
        from potstill.metrics.squad import token_f1

        if not self.unanswerable:
            return self
        margins = predictions[:, 5] - predictions[:, 4]
        given = [
            token_f1(p.text(int(a), int(b)), p.answers)
            for p, (a, b) in zip(truth, predictions[:, 2:4], strict=True)
        ]
        none = [token_f1("", p.answers) for p in truth]
        order = np.argsort(margins, kind="stable")
        # With the cut behind the i-th row, the rows up to it are answered and the others are not.
        gains = np.r_[0.0, np.cumsum((np.array(given) - np.array(none))[order])]
        cuts = np.r_[margins[order[0]] - 1, (margins[order[:-1]] + margins[order[1:]]) / 2]
        cuts = np.r_[cuts, margins[order[-1]] + 1]
        between = np.r_[True, np.diff(margins[order]) > 0, True]  # equal margins: one decision
        best = np.flatnonzero(between & (gains >= gains[between].max() - 1e-12))
        chosen = best[np.argmin(np.abs(cuts[best]))]
        return replace(self, margin=float(cuts[chosen]))

    @property
    def tuned(self) -> dict[str, Any]:
        return {"no_answer_margin": self.margin} if self.margin else {}

    def decode(
        self,
        predictions: np.ndarray,
        inputs: Inputs | None = None,
        groups: np.ndarray | None = None,
    ) -> list[dict[str, Any]]:
        """The answer's text and place in characters; an empty text and nulls for none.

        ``score`` is the probability of the best answer, ``no_answer_score`` that of "no answer",
        where that may be one.
        """
        if inputs is None:
            raise ValueError("answers are decoded with their passages")
        answers: list[dict[str, Any]] = []
        for context, row in zip(inputs[1], predictions, strict=True):
            answer: dict[str, Any] = {"prediction": "", "start": None, "end": None}
            if row[0] >= 0:
                begins, ends = word_bounds(context)
                start, end = int(begins[int(row[0])]), int(ends[int(row[1])])
                answer = {"prediction": context[start:end], "start": start, "end": end}
            answer["score"] = round(float(np.exp(row[4])), 6)
            if self.unanswerable:
                answer["no_answer_score"] = round(float(np.exp(row[5])), 6)
            answers.append(answer)
        return answers

    def score(self, answer: Mapping[str, Any]) -> float | list[float]:
        if answer["start"] is None and self.unanswerable:
            return float(answer["no_answer_score"])
        return float(answer["score"])

    def answer_schema(self) -> dict[str, Any]:
        place = {"type": ["integer", "null"], "minimum": 0}
        share = {"type": "number", "minimum": 0, "maximum": 1}
        more = {"no_answer_score": share} if self.unanswerable else {}
        return {
            "type": "object",
            "properties": {
                "prediction": {"type": "string", "description": "Empty where there is no answer."},
                "start": place | {"description": "Its first character in the passage, from 0."},
                "end": place | {"description": "The character behind its last one."},
                "score": share | {"description": "Probability of the best answer."},
                **more,
            },
            "required": ["prediction", "start", "end", "score", *more],
            "additionalProperties": False,
        }

    def metric(self, name: str) -> Any:
        from potstill.metrics.squad import EXACT_MATCH, TOKEN_F1

        return {m.name: m for m in (TOKEN_F1, EXACT_MATCH)}[name]

    def _same(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Rows that get the same answer."""
        return np.asarray((a[:, :2] == b[:, :2]).all(1))

    def distance(
        self, a: np.ndarray, b: np.ndarray, truth: Any, groups: np.ndarray | None
    ) -> np.ndarray | None:
        """One minus the words that both answers share, of all words of either."""
        overlap = np.minimum(a[:, 1], b[:, 1]) - np.maximum(a[:, 0], b[:, 0]) + 1
        union = np.maximum(a[:, 1], b[:, 1]) - np.minimum(a[:, 0], b[:, 0]) + 1
        none = (a[:, 0] < 0) != (b[:, 0] < 0)
        return np.where(none, 1.0, 1.0 - np.maximum(overlap, 0) / np.maximum(union, 1))


def _best_span(firsts: np.ndarray, lasts: np.ndarray) -> tuple[int, int, float]:
    """First and last word with the highest sum, the last at most thirty words on."""
    best = (0, 0, -np.inf)
    for width in range(min(_MOST_WORDS, len(firsts))):
        sums = firsts[: len(firsts) - width] + lasts[width:]
        place = int(sums.argmax())
        if sums[place] > best[2]:
            best = (place, place + width, float(sums[place]))
    return best


def _answers(value: object) -> tuple[tuple[str, ...], tuple[int, ...]]:
    texts, starts = value if isinstance(value, tuple) and len(value) == 2 else (None, None)
    if not isinstance(texts, list | tuple) or not isinstance(starts, list | tuple):
        raise ValueError(  # noqa: TRY004 (what is wrong with a label is a ValueError)
            f"answers {texts!r:.60} and their places {starts!r:.60}: wanted a list of texts and a "
            "list of numbers; empty lists mean no answer (in one column: "
            "`{text: [...], answer_start: [...]}`)"
        )
    if len(texts) != len(starts):
        raise ValueError(f"{len(texts)} answers with {len(starts)} places")
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"answer {text!r:.60} is no text")
        if isinstance(start, bool) or not isinstance(start, int | np.integer):
            raise ValueError(  # noqa: TRY004
                f"the place of answer {text!r:.60} is {start!r:.60}, no whole number"
            )
    return tuple(texts), tuple(map(int, starts))


def _numbers(value: object, name: str) -> list[float]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"'{name}' is {value!r:.60}, not a list of numbers")  # noqa: TRY004
    return [finite_number(v, "a score") for v in value]
