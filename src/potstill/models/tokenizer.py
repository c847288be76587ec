"""Text to token ids, with the base's own tokenizer and one token a task.

Wraps the ``tokenizers`` library; needs neither torch nor transformers for folders that hold a
``tokenizer.json``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from potstill.core.errors import BaseModelError
from potstill.core.files import read_json, write_text

_FAR = 8  # characters a token: a longer text is shortened before it is cut
_OLD_LAYOUT = (
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenRows:
    """Tokenised texts, one after the other.

    Attributes:
        ids: (sum of T,) int32 token ids of all texts.
        types: (sum of T,) uint8, 1 in the second text of a pair.
        offsets: (N + 1,) int64; text i is ``ids[offsets[i]:offsets[i + 1]]``.
        truncated: (N,) bool: the text was longer than the limit and lost its end.
    """

    ids: np.ndarray
    types: np.ndarray
    offsets: np.ndarray
    truncated: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(N,) tokens a text."""
        return np.diff(self.offsets)

    def pad(self, rows: np.ndarray, padding: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids, mask and types of ``rows``, each (B, T), padded to the longest."""
        starts, lengths = self.offsets[rows], self.lengths[rows]
        columns = np.arange(int(lengths.max()))
        mask = columns < lengths[:, None]
        places = np.where(mask, starts[:, None] + columns, 0)
        ids = np.where(mask, self.ids[places], padding).astype(np.int64)
        types = np.where(mask, self.types[places], 0).astype(np.int64)
        return ids, mask, types


def join_rows(parts: Sequence[tuple[TokenRows, np.ndarray]]) -> TokenRows:
    """Some rows of several sets of rows as one set."""
    lengths = np.concatenate([tokens.lengths[rows] for tokens, rows in parts])
    places = [
        slice(tokens.offsets[i], tokens.offsets[i + 1]) for tokens, rows in parts for i in rows
    ]
    owners = [tokens for tokens, rows in parts for _ in rows]
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    none = [np.empty(0, np.int32)]
    pairs = list(zip(owners, places, strict=True))
    return TokenRows(
        ids=np.concatenate([owner.ids[p] for owner, p in pairs] or none),
        types=np.concatenate([owner.types[p] for owner, p in pairs] or none).astype(np.uint8),
        offsets=offsets,
        truncated=np.concatenate([tokens.truncated[rows] for tokens, rows in parts]),
    )


def distinct_rows(tokens: TokenRows) -> tuple[np.ndarray, np.ndarray]:
    """First row of each distinct text (D,), and each row's place among them (N,)."""
    first: dict[bytes, int] = {}
    kept: list[int] = []
    place = np.empty(len(tokens), np.int64)
    for i in range(len(tokens)):
        part = slice(tokens.offsets[i], tokens.offsets[i + 1])
        key = tokens.ids[part].tobytes() + tokens.types[part].tobytes()
        if key not in first:
            first[key] = len(kept)
            kept.append(i)
        place[i] = first[key]
    return np.array(kept, np.int64), place


class TextTokenizer:
    """A base's tokenizer, with task-identifier tokens where a student uses them.

    Args:
        backend: The tokenizer itself.
        padding: Id of the padding token.
    """

    def __init__(self, backend: tokenizers.Tokenizer, padding: int) -> None:
        backend.no_padding()
        backend.no_truncation()
        self._backend = backend
        self._lock = threading.Lock()  # truncation is a state of the backend
        self.padding = padding
        self._n_added = backend.num_special_tokens_to_add(False)
        self._n_added_pair = backend.num_special_tokens_to_add(True)

    @property
    def n_tokens(self) -> int:
        """Size of the vocabulary, added tokens included."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    @property
    def padding_token(self) -> str | None:
        """The padding token as text."""
        token: str | None = self._backend.id_to_token(self.padding)
        return token

    def add_task_tokens(self, tasks: Sequence[str]) -> dict[str, int]:
        """Add one identifier token a task; returns their ids. Known ones keep their id."""
        names = [task_token(task) for task in tasks]
        self._backend.add_special_tokens(names)
        return {task: self.task_token_id(task) for task in tasks}

    def task_token_id(self, task: str) -> int:
        """Id of a task's identifier token.

        Raises:
            KeyError: The tokenizer has no token for that task.
        """
        found = self._backend.token_to_id(task_token(task))
        if found is None:
            raise KeyError(task)
        return int(found)

    def encode(
        self,
        first: Sequence[str],
        second: Sequence[str] | None,
        *,
        max_tokens: int,
        task: str | None = None,
    ) -> TokenRows:
        """Tokenise texts or pairs of texts.

        A text over the limit loses its end; of a pair the longer text is cut first.

        Args:
            first: N texts.
            second: N second texts, or None.
            max_tokens: Limit a row, special tokens included.
            task: Put this task's identifier token before the text (after the sentence-start
                token, where the base has one).
        """
        room = max_tokens - (task is not None)
        texts = zip(first) if second is None else zip(first, second, strict=True)
        rows = self._shortened(list(texts), room)
        with self._lock:
            self._backend.enable_truncation(room, strategy="longest_first")
            encoded = self._backend.encode_batch_fast(rows)
            self._backend.no_truncation()
        if task is None:
            ids = [e.ids for e in encoded]
            types = [e.type_ids for e in encoded]
        else:
            token = self.task_token_id(task)
            # A base with special tokens starts every row with one (BERT's [CLS]).
            at = [1 if e.special_tokens_mask[:1] == [1] else 0 for e in encoded]
            ids = [[*e.ids[:a], token, *e.ids[a:]] for e, a in zip(encoded, at, strict=True)]
            types = [
                [*e.type_ids[:a], 0, *e.type_ids[a:]] for e, a in zip(encoded, at, strict=True)
            ]
        offsets = np.zeros(len(ids) + 1, np.int64)
        np.cumsum([len(row) for row in ids], out=offsets[1:])
        total = int(offsets[-1])
        return TokenRows(
            ids=np.fromiter((t for row in ids for t in row), np.int32, total),
            types=np.fromiter((t for row in types for t in row), np.uint8, total),
            offsets=offsets,
            truncated=np.array([bool(e.overflowing) for e in encoded], bool),
        )

    def _shortened(self, rows: list[tuple[str, ...]], room: int) -> list[Any]:
        """Texts or pairs, without what is far behind the limit: no token that is kept changes.

        The backend keeps what truncation cuts off, for pairs every combination of the pieces of
        both: two texts of 50 KB would take gigabytes. Which text of a pair is the longer decides
        which keeps an odd token, so it stays the longer.
        """
        far = [i for i, row in enumerate(rows) if any(len(text) > _FAR * room for text in row)]
        pieces: Iterator[Any] = iter(())
        if far:
            texts = [text for i in far for text in rows[i]]
            with self._lock:
                pieces = iter(self._backend.encode_batch(texts, add_special_tokens=False))
        for i in far:
            encoded = [next(pieces) for _ in rows[i]]
            words = [one.word_ids for one in encoded]
            # One more than can be kept, so that it still counts as cut.
            ends = [_word_end(own, room + 1, room) for own in words]
            if len(ends) == 2 and len(words[0]) > len(words[1]) and ends[0] <= ends[1]:
                ends[0] = _word_end(words[0], ends[1] + 1, room)
            elif len(ends) == 2 and len(words[0]) <= len(words[1]) and ends[0] > ends[1]:
                ends[1] = _word_end(words[1], ends[0], room)
            rows[i] = tuple(
                text[: one.offsets[end - 1][1]] if end < len(own) else text
                for text, one, own, end in zip(rows[i], encoded, words, ends, strict=True)
            )
        return [row if len(row) == 2 else row[0] for row in rows]

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` and the little that transformers wants beside it."""
        write_text(folder / "tokenizer.json", self._backend.to_str(pretty=False))


def _word_end(words: Sequence[int | None], end: int, room: int) -> int:
    """Where the word of the last of ``end`` tokens ends; a word without end is cut."""
    end = min(end, len(words))
    while end < min(len(words), 3 * room) and words[end] == words[end - 1]:
        end += 1
    return end


def task_token(task: str) -> str:
    """The identifier token of a task."""
    return f"<task:{task}>"


def load_tokenizer(folder: Path) -> TextTokenizer:
    """Load the tokenizer of a base or student folder.

    Raises:
        BaseModelError: The folder has no tokenizer that can be read.
    """
    file = folder / "tokenizer.json"
    try:
        if file.is_file():
            backend = tokenizers.Tokenizer.from_file(str(file))
        else:
            backend = _convert(folder)
    except Exception as error:  # the Rust library raises plain Exception
        raise BaseModelError(
            f"tokenizer of {folder}",
            got=f"it cannot be read: {str(error).splitlines()[0]}",
            wanted="tokenizer.json beside the weights",
            todo="save the base's tokenizer there (tokenizer.save_pretrained(folder))",
        ) from error
    settings = read_json(folder / "config.json")
    padding = settings.get("pad_token_id")
    if padding is None:
        padding = backend.token_to_id("[PAD]") or backend.token_to_id("<pad>") or 0
    return TextTokenizer(backend, int(padding))


def _convert(folder: Path) -> tokenizers.Tokenizer:
    if not any((folder / name).is_file() for name in _OLD_LAYOUT):
        # transformers would make one that knows no word
        raise FileNotFoundError("there is no tokenizer.json")
    from transformers import AutoTokenizer  # noqa: PLC0415 (only for folders in the old layout)

    return AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
