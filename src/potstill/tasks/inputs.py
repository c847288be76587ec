"""What tasks read: which columns, what may stand in them, and how they become tokens.

The only file that knows that inputs are text. A kind names its reader in ``Kind.reads``; another
way to read, or another modality, is another class here and an entry in ``READERS``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from potstill.core.characters import is_list_as_text, is_unseen
from potstill.core.errors import DataError
from potstill.kinds.passage import word_bounds
from potstill.models.token_rows import TokenRows
from potstill.models.tokenizer import TextTokenizer
from potstill.tasks.rowids import row_ids

_TEXT: dict[str, Any] = {"type": "string", "pattern": "^[^\\u0000]*$"}

Columns = Mapping[str, Sequence[Any]]
"""Column to values, a value a row, as :meth:`Reader.value` keeps them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader(ABC):
    """How a task reads its rows.

    Attributes:
        columns: The names of its columns, in order.
    """

    wanted: ClassVar[str] = "text"  # what a column must hold, for messages

    columns: tuple[str, ...]

    @abstractmethod
    def value(self, value: Any) -> Any:
        """A sound value as it is kept: rows that mean the same become equal."""

    @abstractmethod
    def value_fault(self, value: object) -> str | None:
        """Why a value of a column cannot be read, or None."""

    @abstractmethod
    def is_empty(self, value: Any) -> bool:
        """Whether a sound value says nothing."""

    @abstractmethod
    def tokenise(
        self, inputs: Columns, tokenizer: TextTokenizer, *, max_tokens: int, task: str | None
    ) -> TokenRows:
        """Tokenise N rows; ``task`` puts that task's identifier token before each."""

    def slots(self, inputs: Columns) -> np.ndarray | None:
        """(N,) slots of each row, that is answers of a slotted kind; None where a row is one."""
        return None

    def nothing(self, value: object) -> bool:
        """Whether a value of any type is an empty one."""
        return not value or (self.value_fault(value) is None and self.is_empty(value))

    def faults(self, values: Sequence[object]) -> str | None:
        """Why a row's inputs cannot be used, or None."""
        for column, value in zip(self.columns, values, strict=True):
            if value is None:
                return f"column '{column}' is empty"
            if (fault := self.value_fault(value)) is not None:
                return f"column '{column}' holds {fault}, not {self.wanted}"
            if self.is_empty(value):
                return f"column '{column}' is empty text"
        return None

    def checked(
        self, table: Mapping[str, Sequence[object]], where: Callable[[int], str]
    ) -> dict[str, list[Any]]:
        """The columns as they are kept, from a table.

        Args:
            table: Values by column.
            where: Place of a row of the table (from 0), for messages.

        Raises:
            DataError: A value is missing or cannot be read, with its row.
        """
        kept: dict[str, list[Any]] = {}
        for column in self.columns:
            kept[column] = []
            for i, value in enumerate(table[column]):
                if (fault := self.value_fault(value)) is not None:
                    raise self.refusal(fault, column, where(i))
                kept[column].append(self.value(value))
        return kept

    def refusal(self, fault: str, column: str, where: str) -> DataError:
        """The error of a value that cannot be read."""
        return DataError(
            f"{where}, column '{column}'",
            got=fault,
            wanted=self.wanted,
            todo="mend it, or leave out the row (in JSON also: its key)",
        )

    def texts(self, inputs: Columns) -> list[tuple[str, ...]]:
        """What an encoder reads of each row, before any token."""
        return list(zip(*self.in_order(inputs), strict=True))

    def ids(self, inputs: Columns) -> np.ndarray:
        """(N, 16) row ids: those of the texts, so that a text has one id whatever task reads it."""
        texts = self.texts(inputs)
        return row_ids(list(zip(*texts, strict=True)) or [[] for _ in self.columns])

    def in_order(self, inputs: Columns) -> list[Sequence[Any]]:
        """The columns in order, as kinds take them."""
        return [inputs[column] for column in self.columns]

    def schema(self) -> dict[str, Any]:
        """JSON schema of a value of a column."""
        return _TEXT

    def to_json(self) -> dict[str, object]:
        """What a digest holds of it."""
        return {"text": list(self.columns)}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextInputs(Reader):
    """One text or a pair of texts; a list of words counts as the text that they make."""

    def value(self, value: Any) -> Any:
        return value if isinstance(value, str) else " ".join(value)

    def value_fault(self, value: object) -> str | None:
        if isinstance(value, list | tuple) and all(isinstance(w, str) for w in value):
            return next((fault for word in value if (fault := text_fault(word))), None)
        return text_fault(value)

    def is_empty(self, value: Any) -> bool:
        return is_unseen(self.value(value))

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}

    def tokenise(
        self, inputs: Columns, tokenizer: TextTokenizer, *, max_tokens: int, task: str | None
    ) -> TokenRows:
        first, *rest = self.in_order(inputs)
        second = rest[0] if rest else None
        return tokenizer.encode(first, second, max_tokens=max_tokens, task=task)


@dataclass(frozen=True, slots=True, kw_only=True)
class WordInputs(Reader):
    """A list of words, read as one text; each word is a slot. Text counts as words and blanks."""

    wanted: ClassVar[str] = "a list of words"

    def value(self, value: Any) -> Any:
        # Blanks around words say nothing here: texts of the same words are one row.
        return " ".join(value.split()) if isinstance(value, str) else list(value)

    def in_order(self, inputs: Columns) -> list[Sequence[Any]]:
        return [[_words(value) for value in inputs[column]] for column in self.columns]

    def value_fault(self, value: object) -> str | None:
        if is_list_as_text(value):
            return (
                f"a list written as text, {value!r:.40} (csv holds no lists: use jsonl or parquet)"
            )
        if not isinstance(value, list | tuple):
            return text_fault(value)
        for number, word in enumerate(value, start=1):
            if (fault := text_fault(word)) is not None:
                return f"{fault} as word {number}"
            if not word.strip():
                return f"an empty word {number}"
            if word.split() != [word]:
                return f"word {number} with a blank in it, {word!r:.60}"
        return None

    def is_empty(self, value: Any) -> bool:
        return all(map(is_unseen, _words(value)))

    def texts(self, inputs: Columns) -> list[tuple[str, ...]]:
        # One blank between words, and none in them: no two lists make the same text.
        values = inputs[self.columns[0]]
        return [(value if isinstance(value, str) else " ".join(value),) for value in values]

    def slots(self, inputs: Columns) -> np.ndarray | None:
        return np.array([len(_words(value)) for value in inputs[self.columns[0]]], np.int64)

    def tokenise(
        self, inputs: Columns, tokenizer: TextTokenizer, *, max_tokens: int, task: str | None
    ) -> TokenRows:
        texts = [text for (text,) in self.texts(inputs)]
        return tokenizer.encode_words(
            texts,
            [_bounds(text) for text in texts],
            max_tokens=max_tokens,
            task=task,
        )

    def schema(self) -> dict[str, Any]:
        word = {"type": "string", "pattern": "^[^\\u0000\\s]+$"}
        return {"anyOf": [{"type": "array", "items": word}, _TEXT]}

    def to_json(self) -> dict[str, object]:
        return {"words": list(self.columns)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageInputs(Reader):
    """A question and a passage; slots are "no answer" and the passage's words."""

    def value(self, value: Any) -> Any:
        return value

    def value_fault(self, value: object) -> str | None:
        return text_fault(value)

    def is_empty(self, value: Any) -> bool:
        return is_unseen(value)

    def slots(self, inputs: Columns) -> np.ndarray | None:
        passages = inputs[self.columns[1]]
        return np.array([1 + len(word_bounds(text)[0]) for text in passages], np.int64)

    def tokenise(
        self, inputs: Columns, tokenizer: TextTokenizer, *, max_tokens: int, task: str | None
    ) -> TokenRows:
        questions, passages = self.in_order(inputs)
        return tokenizer.encode_words(
            passages,
            [word_bounds(text) for text in passages],
            questions,
            max_tokens=max_tokens,
            task=task,
            lead=True,
        )

    def to_json(self) -> dict[str, object]:
        return {"passage": list(self.columns)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInputs(TextInputs):
    """One text that a decoder answers with another."""


READERS: dict[str, type[Reader]] = {
    "text": TextInputs,
    "source": SourceInputs,
    "words": WordInputs,
    "passage": PassageInputs,
}
"""The readers by the names that kinds know them by."""


def text_fault(value: object) -> str | None:
    """Why a value is no text that can be tokenised, or None."""
    if value is None:
        return "no value"
    if not isinstance(value, str):
        return f"{type(value).__name__} {value!r:.60}"
    if "\0" in value:
        return "a NUL character, the sign of binary data"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"half a character ({value[error.start]!r} at {error.start})"
    return None


def _words(value: str | Sequence[str]) -> list[str]:
    return value.split() if isinstance(value, str) else list(value)


def _bounds(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Where the words of a text start and end: what stands between blanks."""
    lengths = np.array([len(word) for word in text.split()], np.int64)
    starts, place = np.empty(len(lengths), np.int64), 0
    for i, word in enumerate(text.split()):
        starts[i] = place = text.index(word, place)
        place += len(word)
    return starts, starts + lengths
