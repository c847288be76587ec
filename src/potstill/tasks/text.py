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
            if not isinstance(value, str):
                return f"column '{column}' holds {type(value).__name__} {value!r}, not text"
            if not value.strip():
                return f"column '{column}' is empty text"
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
                if not isinstance(value, str):
                    raise DataError(
                        f"row {i}, column '{column}'",
                        got="no value" if value is None else f"{type(value).__name__} {value!r}",
                        wanted="text",
                        todo="fill it in, or leave the row out",
                    )
                texts[column].append(value)
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
