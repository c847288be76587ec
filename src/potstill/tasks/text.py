"""Text inputs: which columns a task reads and how they become tokens.

This is the only file that knows that a task's inputs are text; another modality is another file
with the same two calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from potstill.core.errors import DataError
from potstill.models.tokenizer import TextTokenizer, TokenRows


@dataclass(frozen=True, slots=True, kw_only=True)
class TextInputs:
    """One text or a pair of texts.

    Attributes:
        columns: One or two column names.
    """

    columns: tuple[str, ...]

    def faults(self, values: Sequence[object]) -> str | None:
        """Why a row's inputs cannot be used, or None."""
        for column, value in zip(self.columns, values, strict=True):
            if value is None:
                return f"column '{column}' is empty"
            if (fault := self.value_fault(value)) is not None:
                return f"column '{column}' holds {fault}, not text"
            if not str(value).strip():
                return f"column '{column}' is empty text"
        return None

    def value_fault(self, value: object) -> str | None:
        """Why a value of a column cannot be tokenised, or None."""
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

    def checked(
        self, table: Mapping[str, Sequence[object]], numbers: Sequence[int]
    ) -> dict[str, list[str]]:
        """The columns as texts, from a table; ``numbers`` are those of its rows, for messages.

        Raises:
            DataError: A value is missing or not text, with its row.
        """
        texts: dict[str, list[str]] = {}
        for column in self.columns:
            texts[column] = []
            for i, value in zip(numbers, table[column], strict=True):
                if (fault := self.value_fault(value)) is not None:
                    raise DataError(
                        f"row {i}, column '{column}'",
                        got=fault,
                        wanted="text",
                        todo="mend it, or leave the row out",
                    )
                texts[column].append(str(value))
        return texts

    def tokenise(
        self,
        inputs: Mapping[str, Sequence[str]],
        tokenizer: TextTokenizer,
        *,
        max_tokens: int,
        task: str | None,
    ) -> TokenRows:
        """Tokenise N rows; ``task`` puts that task's identifier token before each."""
        first, *rest = (inputs[column] for column in self.columns)
        second = rest[0] if rest else None
        return tokenizer.encode(first, second, max_tokens=max_tokens, task=task)

    def to_json(self) -> dict[str, object]:
        """What a student's folder records."""
        return {"text": list(self.columns)}
