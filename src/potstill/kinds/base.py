"""What a task kind is: the one place that says what labels, outputs and soft targets mean.

A kind is one file here: the keys of its run file, labels, head, hard loss, soft loss, how teachers
combine, metrics, decoding, and what the report shows of it. It knows tensors and label values; no
files, no models, no training. An object is a kind *with its label space*: two tasks of one kind are
two objects. Decoding runs in services without torch, so what trains imports it where it is called.

A head answers at *slots*: one a row for most kinds, one a word for tagging. Rows are what a data
file holds; outputs, soft targets and losses have a place for each slot.

Shapes: N rows and S slots of a split (S = N where a row is one slot), B slots of a batch, C
outputs, M members, G groups. A group is what a loss and a resample take whole: all slots of a row,
or all candidates of a query; without groups it is the slot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from potstill.metrics.metric import Metric

_FAST_HEAD = 10.0
_MANY_OUTPUTS = 10

Space = Literal["probabilities", "logits"]
"""Where soft targets live: combined probabilities at a temperature, or mean logits."""

Inputs = Sequence[Sequence[Any]]
"""Input columns of some rows, in the order of the task's columns, as its reader keeps them."""

Form = Literal["column", "columns", "classes", "class", "word", "number", "flag"]
"""What a key of the run file takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key that the tasks of a kind have in the run file.

    Attributes:
        name: The key.
        form: What it takes: a column's name, one or two of them, a list of class names, one of
            them, a word, a number, or true or false.
        use: What becomes of it: an input column (in the order of the keys), a label column, or an
            option for :meth:`Kind.learn`.
        meaning: One sentence.
        default: Its default; ``...`` where it must be given.
        default_of: The key whose value it takes where it is None.
        at_least: Of a number: the smallest; None: any.
        below: Of a number: it must be smaller; None: any.
    """

    name: str
    form: Form
    use: Literal["input", "label", "option"]
    meaning: str
    default: Any = ...
    default_of: str | None = None
    at_least: float | None = None
    below: float | None = None


class Kind(ABC):
    """A task kind with its label space fixed."""

    name: ClassVar[str]
    version: ClassVar[int] = 1  # raised when what is computed changes: older stages are not reused
    summary: ClassVar[str] = ""  # one sentence, for the documentation of the run file
    keys: ClassVar[tuple[Key, ...]] = ()
    nested: ClassVar[tuple[str, ...]] = ()  # its labels' names where one column holds them all
    reads: ClassVar[str] = "text"  # the reader of its inputs: a key of tasks.inputs.READERS
    metric_names: ClassVar[tuple[str, ...]]  # the first is the default
    grouped: ClassVar[bool] = False  # the rows of one group are one example (ranking)
    slotted: ClassVar[bool] = False  # the head answers at several slots of a row
    at_last: ClassVar[tuple[int, ...]] = ()  # outputs read at a slot's last token, not its first
    generates: ClassVar[bool] = False  # a decoder says texts: outputs are texts, a row each
    tunes: ClassVar[bool] = False  # dev rows decide how outputs become answers: see `tune`
    storage: ClassVar[Literal["float16", "float32"]] = "float16"
    answers: ClassVar[Literal["number", "text", "texts"]] = "number"  # what a prediction is
    scored: ClassVar[bool] = False  # answers say how probable they are: see `score`
    # What transformers calls models of such outputs; a class of its own must say it itself.
    problem_type: ClassVar[str | None] = None

    @property
    def version_facts(self) -> dict[str, int]:
        """What a stage's digest takes up of the version: nothing of the first."""
        return {} if self.version == 1 else {"version": self.version}

    # -- labels ---------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def learn(cls, labels: Sequence[object], options: Mapping[str, Any]) -> Self:
        """Fix the label space from the training labels and the task's options.

        Labels that cannot be read are left out: :meth:`encode` refuses them, and its caller knows
        the row.

        Args:
            labels: A value a row; a tuple of values, where a kind has several label columns.
            options: Name to value, as :attr:`keys` says.

        Raises:
            ValueError: The labels leave no task (one class only, say); the text says why.
        """

    @abstractmethod
    def encode_label(self, value: object) -> Any:
        """One label as a number, or as a tuple of numbers where a row has several.

        Raises:
            ValueError: The label is missing or not in the label space; the text says why.
        """

    def encode(self, value: object, inputs: Sequence[Any]) -> Any:
        """The same, for kinds whose labels speak of the row's inputs (its columns in order)."""
        return self.encode_label(value)

    def flat(self, labels: np.ndarray, slots: np.ndarray | None) -> np.ndarray:
        """Labels of rows (N, ...) as losses read them: (S,) or (S, K).

        Args:
            labels: What :meth:`encode` gave, a row each.
            slots: (N,) slots of each row; None where a row is one.
        """
        return labels

    def truth(self, labels: np.ndarray, inputs: Inputs) -> Any:
        """Labels of rows as metrics read them."""
        return labels

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """(N,) what a stratified share of rows keeps in proportion: numbers."""
        integral = bool(np.all(labels == np.round(labels)))
        return labels.astype(np.int64) if integral else labels

    def together(self, inputs: Inputs) -> Sequence[str] | None:
        """For each row a name that rows share which must not be parted between train and dev."""
        return None

    def label_in_words(self, label: Any, inputs: Sequence[Any]) -> Any:
        """The encoded label of a row with these inputs as people read it, for the report."""
        return float(label)

    def classes_in(self, label: Any) -> Sequence[str]:
        """The classes that an encoded label names, for kinds that have classes."""
        return ()

    def doubt(self, label: Any, inputs: Sequence[Any]) -> str | None:
        """What is doubtful about a sound label of a row with these inputs, for ``check``."""
        return None

    def describe(self, labels: np.ndarray) -> str:
        """What labels of rows hold, in a few words for ``check``; may be empty."""
        return ""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The label space; ``kinds.kind_from_json`` restores it."""

    @classmethod
    @abstractmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Restore what :meth:`to_json` gave."""

    @property
    def positive(self) -> int | None:
        """Index of the class that F1 counts, where there is one."""
        return None

    @property
    def token(self) -> str | None:
        """The token that stands before its inputs in every network; None without one."""
        return None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the outputs, for kinds that have classes."""
        return ()

    # -- network --------------------------------------------------------------------------------

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """C, the width of the head."""

    def head(self, n_features: int) -> nn.Module:
        """A fresh head on D features: one linear layer, at every slot."""
        from potstill.models.multitask import LinearHead

        return LinearHead(n_features, self.n_outputs, tokens=self.slotted, at_last=self.at_last)

    # -- training -------------------------------------------------------------------------------

    @property
    def head_rate(self) -> float:
        """Its head's learning rate, in times the encoder's.

        A weight moves by about the learning rate a step: to tell many outputs apart, a fresh head
        would need more steps than a fine-tune has (measured: docs/log.md, 2026-11-29).
        """
        return _FAST_HEAD if self.n_outputs >= _MANY_OUTPUTS else 1.0

    @abstractmethod
    def hard_loss(self, outputs: Tensor, labels: Tensor, groups: Tensor | None) -> Tensor:
        """Loss against labels: (B,), or (G,) with groups; of the order of 1 at the start."""

    @abstractmethod
    def soft_loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        groups: Tensor | None,
        *,
        temperature: float,
        space: Space,
    ) -> Tensor:
        """Loss against soft targets from :meth:`combine`: (B,) or (G,), on the hard loss's scale.

        Args:
            outputs: (B, C) the student's outputs.
            targets: (B, C) combined soft targets in ``space``.
            groups: (B,) group of each slot, for grouped and slotted kinds.
            temperature: T of probabilities; the loss carries T squared.
            space: What ``targets`` are.
        """

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
        """Hard and soft loss of the same outputs, for kinds that can spare work by doing both."""
        soft = self.soft_loss(outputs, targets, groups, temperature=temperature, space=space)
        return self.hard_loss(outputs, labels, groups), soft

    # -- soft targets ---------------------------------------------------------------------------

    def to_store(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs (S, C) of a member as the store keeps them."""
        return outputs.astype(self.storage)

    def from_store(self, stored: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`to_store`, fp32."""
        return stored.astype(np.float32)

    @abstractmethod
    def from_scores(self, rows: Sequence[Mapping[str, object]]) -> np.ndarray:
        """Outputs (S, C) from somebody else's scores, one mapping a row.

        Raises:
            ValueError: A score is missing or not a number; the text says which.
        """

    def from_probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        """Outputs (S, C) whose probabilities, of :meth:`soften`, these are.

        Raises:
            NotImplementedError: The kind's scores are no probabilities.
        """
        raise NotImplementedError(f"scores of kind {self.name} are no probabilities")

    def space_of_scores(self, rows: Sequence[Mapping[str, object]]) -> Space | None:
        """As what :meth:`from_scores` reads a whole table; None where scores are values or texts.

        Raises:
            ValueError: A score is missing or not a number; as ``kinds.scores.MixedScores``, nearly
                all are probabilities.
        """
        return None

    def odd_scores(self, outputs: np.ndarray) -> str | None:
        """What is odd about the scale of somebody's scores, for a warning; None where nothing is.

        Args:
            outputs: (S, C) of training rows, as :meth:`from_scores` gives them.
        """
        return None

    @property
    def score_columns(self) -> tuple[str, ...]:
        """The columns of a table of somebody else's scores."""
        return self.class_names or ("value",)

    def combine(
        self,
        members: np.ndarray,
        cover: np.ndarray,
        groups: np.ndarray | None,
        *,
        temperature: float,
        space: Space,
    ) -> np.ndarray:
        """The ensemble's soft targets.

        Args:
            members: (M, S, C) outputs of the members; slots that a member does not cover are 0.
            cover: (M, S) true where a member has an opinion.
            groups: (S,) group of each slot, for grouped and slotted kinds.
            temperature: T.
            space: ``probabilities``: the mean of the members' probabilities at T (Liu et al.
                2019, eq. 3); ``logits``: the mean of their logits.

        Returns:
            (S, C) fp32; slots that nobody covers are 0.
        """
        if space == "logits":
            return covered_mean(members, cover)

        def soft(member: np.ndarray) -> np.ndarray:
            return np.asarray(self.soften(member[None].astype(np.float32), groups, temperature)[0])

        return covered_mean(map(soft, members), cover)  # one at a time: they may be gigabytes

    @abstractmethod
    def soften(
        self, members: np.ndarray, groups: np.ndarray | None, temperature: float
    ) -> np.ndarray:
        """Outputs (M, S, C) as probabilities at a temperature; values as they are."""

    # -- inference ------------------------------------------------------------------------------

    @abstractmethod
    def predict(self, outputs: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
        """What metrics read, from outputs (S, C): class probabilities (S, C), or values (S,)."""

    @abstractmethod
    def predict_ensemble(self, members: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        """What metrics read, for an ensemble: ``members`` is (M, S, C), all rows covered."""

    def tune(self, predictions: np.ndarray, truth: Any, groups: np.ndarray | None) -> Self:
        """The same kind with thresholds that suit these predictions of dev rows best.

        Args:
            predictions: Of this kind's :meth:`predict` or :meth:`predict_ensemble`.
            truth: Of :meth:`truth`.
            groups: (S,) as elsewhere.
        """
        return self

    @property
    def tuned(self) -> dict[str, Any]:
        """What :meth:`tune` found, by names that say what it is; empty where nothing was tuned."""
        return {}

    def output_line(self) -> tuple[float, float]:
        """Scale and shift from an output to the value that people read, for one-output kinds."""
        return 1.0, 0.0

    @abstractmethod
    def decode(
        self,
        predictions: np.ndarray,
        inputs: Inputs | None = None,
        groups: np.ndarray | None = None,
    ) -> list[dict[str, Any]]:
        """Answers for people: ``{"prediction": ..., "scores": {...}}`` a row.

        Args:
            predictions: Of :meth:`predict`.
            inputs: The rows' input columns, for kinds whose answers speak of them.
            groups: (S,) the row of each slot, for slotted kinds.
        """

    def score(self, answer: Mapping[str, Any]) -> float | list[float]:
        """The probability of an answer of :meth:`decode`, or of each text of it; if `scored`."""
        raise NotImplementedError

    def answer_schema(self) -> dict[str, Any]:
        """JSON schema of one answer of :meth:`decode`; a number, where a kind says nothing else."""
        return {
            "type": "object",
            "properties": {"prediction": {"type": "number"}},
            "required": ["prediction"],
            "additionalProperties": False,
        }

    # -- evaluation -----------------------------------------------------------------------------

    def metric(self, name: str) -> Metric:
        """One of :attr:`metric_names`."""
        from potstill.metrics.named import metric

        return metric(name, self.positive)

    def signature(self, metric: str) -> str | None:
        """How a metric was computed, where tools differ in it; it stands beside the scores."""
        return None

    def score_groups(self, groups: np.ndarray | None) -> np.ndarray | None:
        """What metrics take as groups, from the groups of slots."""
        return groups

    def n_scored(self, truth: Any, groups: np.ndarray) -> int:
        """How many groups of slots have a score: not a list without a right answer."""
        return len(np.unique(groups))

    def agreement(self, a: np.ndarray, b: np.ndarray, groups: np.ndarray | None) -> float:
        """How far two systems say the same, whatever the truth is: a share or a correlation."""
        same = np.asarray(self._same(a, b), np.float64)
        return float(same.mean())

    def _same(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a == b)

    def comparable(self, predictions: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        """Predictions on a scale that several systems share, as the report shows them."""
        return predictions

    def distance(
        self, a: np.ndarray, b: np.ndarray, truth: Any, groups: np.ndarray | None
    ) -> np.ndarray | None:
        """(N,) how far two systems' predictions of each row lie apart; None where no unit fits."""
        return None

    def details(
        self, truth: Any, predictions: Mapping[str, np.ndarray], groups: np.ndarray | None
    ) -> dict[str, Any]:
        """What the report draws beside the scores: parts that it knows, by name.

        ``labels`` and ``confusion`` (for each system and true class the counts of the predicted
        ones, by number as text);
        ``reliability``; ``scatter``; ``by_label`` (label to ``n`` and to each system's score);
        ``measures`` (the same for further measures of the whole split).

        Args:
            truth: Of :meth:`truth`.
            predictions: System to its predictions.
            groups: (S,) as elsewhere.
        """
        return {}


def covered_mean(members: Iterable[np.ndarray], cover: np.ndarray) -> np.ndarray:
    """Mean over the members that cover each slot: M of (S, C) and (M, S) to (S, C), fp32."""
    counts = np.maximum(cover.sum(0, dtype=np.float32), 1)
    total: np.ndarray | None = None
    for member, known in zip(members, cover, strict=True):
        part = np.where(known[:, None], member, np.float32(0)).astype(np.float32, copy=False)
        total = part if total is None else np.add(total, part, out=total)
    if total is None:
        raise ValueError("a mean of no members")
    total /= counts[:, None]
    return total
