"""Text to token ids, with the base's own tokenizer and one token a task.

Wraps the ``tokenizers`` library; needs neither torch nor transformers for folders that hold a
``tokenizer.json``.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from potstill.core.errors import BaseModelError
from potstill.core.files import read_json, write_text
from potstill.models.token_rows import Slots, TokenRows

_FAR = 8  # characters a token: a longer text is shortened before it is cut
_ENDLESS = 64  # the same: of a longer text only the beginning is tokenised
_ENOUGH = 4  # where that has so many times the limit in tokens
_FAR_TOGETHER = 4  # the same of a pair: one's characters a token times the other's
_BLOCK = 128  # rows that are tokenised at once: what is cut off them is kept so long
_BLANK = re.compile(r"\s")
_OLD_LAYOUT = (
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)


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

    def count(self, text: str) -> int:
        """Tokens of a text, however many, without those that a tokenizer adds."""
        with self._lock:
            return len(self._backend.encode(text, add_special_tokens=False).ids)

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
        texts = list(zip(first) if second is None else zip(first, second, strict=True))
        token = None if task is None else self.task_token_id(task)
        ids: list[list[int]] = []
        types: list[list[int]] = []
        cut: list[bool] = []
        for start in range(0, len(texts), _BLOCK):
            rows = self._shortened(texts[start : start + _BLOCK], room)
            with self._lock:
                self._backend.enable_truncation(room, strategy="longest_first")
                encoded = self._backend.encode_batch_fast(rows)
                self._backend.no_truncation()
            cut += [bool(one.overflowing) for one in encoded]
            for one in encoded:
                own, kinds = one.ids, one.type_ids
                if token is not None:
                    at = _start(one)
                    own, kinds = [*own[:at], token, *own[at:]], [*kinds[:at], 0, *kinds[at:]]
                ids.append(own)
                types.append(kinds)
        offsets = np.zeros(len(ids) + 1, np.int64)
        np.cumsum([len(row) for row in ids], out=offsets[1:])
        total = int(offsets[-1])
        return TokenRows(
            ids=np.fromiter((t for row in ids for t in row), np.int32, total),
            types=np.fromiter((t for row in types for t in row), np.uint8, total),
            offsets=offsets,
            truncated=np.array(cut, bool),
        )

    def encode_words(
        self,
        texts: Sequence[str],
        words: Sequence[tuple[np.ndarray, np.ndarray]],
        before: Sequence[str] | None = None,
        *,
        max_tokens: int,
        task: str | None = None,
        lead: bool = False,
    ) -> TokenRows:
        """Tokenise texts whose words are slots; long ones in windows that overlap.

        Every word is a slot of exactly one window: of those that hold it, one in which it has
        tokens on both sides. A word without a token of its own (signs that the tokenizer drops)
        takes the token behind it.

        Args:
            texts: N texts.
            words: For each text where its words start and end, in characters, in order.
            before: N texts that stand before them in every window (a question); where both do not
                fit, one that leaves less than half of the room loses its end.
            max_tokens: Limit a window, special tokens included.
            task: As for :meth:`encode`.
            lead: Each row has one slot more, before those of its words: its first token.
        """
        room = max_tokens - (task is not None)
        own = room - (self._n_added if before is None else self._n_added_pair)
        stride = max(own // 4, 1)
        lost = np.zeros(len(texts), bool)
        if before is not None:
            before, lost = self._cut(before, texts, own)
        rows: list[Any] = list(texts if before is None else zip(before, texts, strict=True))
        with self._lock:
            self._backend.enable_truncation(
                room,
                stride=min(stride, own - 1),
                strategy="only_first" if before is None else "only_second",
            )
            encoded = self._backend.encode_batch(rows)
            self._backend.no_truncation()
        token = None if task is None else self.task_token_id(task)
        ids: list[list[int]] = []
        types: list[list[int]] = []
        counts: list[int] = []
        first: list[np.ndarray] = []
        last: list[np.ndarray] = []
        windows = np.zeros(len(rows) + 1, np.int64)
        for i, whole in enumerate(encoded):
            parts = [whole, *whole.overflowing]
            windows[i + 1] = windows[i] + len(parts)
            places = _word_tokens(parts, *words[i], int(before is not None))
            for part, (begins, ends) in zip(parts, places, strict=True):
                at = len(part.ids) if token is None else _start(part)
                ids.append([*part.ids[:at], *([] if token is None else [token]), *part.ids[at:]])
                types.append(
                    [*part.type_ids[:at], *([] if token is None else [0]), *part.type_ids[at:]]
                )
                zero = np.zeros(int(lead and part is whole), np.int64)
                first.append(np.r_[zero, np.maximum(begins + (begins >= at), 0)])
                last.append(np.r_[zero, np.maximum(ends + (ends >= at), 0)])
                counts.append(len(first[-1]))
        offsets = np.zeros(len(ids) + 1, np.int64)
        np.cumsum([len(row) for row in ids], out=offsets[1:])
        slot_offsets = np.zeros(len(ids) + 1, np.int64)
        np.cumsum(counts, out=slot_offsets[1:])
        total, none = int(offsets[-1]), [np.empty(0, np.int32)]
        return TokenRows(
            ids=np.fromiter((t for row in ids for t in row), np.int32, total),
            types=np.fromiter((t for row in types for t in row), np.uint8, total),
            offsets=offsets,
            truncated=lost,
            windows=windows,
            slots=Slots(
                offsets=slot_offsets,
                first=np.concatenate([*none, *first]).astype(np.int32),
                last=np.concatenate([*none, *last]).astype(np.int32),
            ),
        )

    def _cut(
        self, texts: Sequence[str], others: Sequence[str], room: int
    ) -> tuple[list[str], np.ndarray]:
        """Texts without what is behind half of the room, where the others have no room beside.

        Returns:
            The texts, and (N,) which of them lost their end.
        """
        cut = list(texts)
        with self._lock:
            encoded = self._backend.encode_batch(cut, add_special_tokens=False)
            long = [i for i, one in enumerate(encoded) if len(one) > room // 2]
            beside = self._backend.encode_batch([others[i] for i in long], add_special_tokens=False)
        for i, other in zip(long, beside, strict=True):
            if len(encoded[i]) + len(other) > room:
                # Where the next token starts: what ends the last one may be half a character.
                cut[i] = cut[i][: encoded[i].offsets[room // 2][0]].rstrip()
        return cut, np.array([a != b for a, b in zip(cut, texts, strict=True)], bool)

    def _shortened(self, rows: list[tuple[str, ...]], room: int) -> list[Any]:
        """Texts or pairs, without what is far behind the limit: no token that is kept changes.

        The backend keeps what truncation cuts off, for pairs every combination of the pieces of
        both: two texts of 50 KB would take gigabytes. Which text of a pair is the longer decides
        which keeps an odd token, so it stays the longer.
        """
        far = [
            i
            for i, row in enumerate(rows)
            if any(len(text) > _FAR * room for text in row)
            or (len(row) == 2 and len(row[0]) * len(row[1]) > _FAR_TOGETHER * room**2)
        ]
        for i, encoded in zip(far, self._in_tokens([rows[i] for i in far], room), strict=True):
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

    def _in_tokens(self, rows: Sequence[tuple[str, ...]], room: int) -> list[list[Any]]:
        """Each text of rows as tokens: all of them, or of one of megabytes more than enough."""
        begun = [
            tuple(text[: _blank_behind(text, _ENDLESS * room)] for text in row) for row in rows
        ]
        encoded = self._each(begun)

        def says_all(row: tuple[str, ...], own: tuple[str, ...], tokens: list[Any]) -> bool:
            """Whether the rest changes neither what is kept nor which of two is the longer."""
            counts = [len(one) for one in tokens]
            left_out = [n for n, text, part in zip(counts, row, own, strict=True) if text != part]
            most = max(counts)
            return not left_out or (
                left_out == [most] and counts.count(most) == 1 and most >= _ENOUGH * room
            )

        doubtful = [
            i for i, one in enumerate(zip(rows, begun, encoded, strict=True)) if not says_all(*one)
        ]
        for i, one in zip(doubtful, self._each([rows[i] for i in doubtful]), strict=True):
            encoded[i] = one
        return encoded

    def _each(self, rows: Sequence[tuple[str, ...]]) -> list[list[Any]]:
        """Each text of rows on its own, as tokens."""
        with self._lock:
            texts = [text for row in rows for text in row]
            encoded = iter(self._backend.encode_batch(texts, add_special_tokens=False))
        return [[next(encoded) for _ in row] for row in rows]

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` and the little that transformers wants beside it."""
        write_text(folder / "tokenizer.json", self._backend.to_str(pretty=False))


def _start(encoded: Any) -> int:
    """Where the text begins: behind the one special token that bases begin with (BERT's [CLS])."""
    return 1 if encoded.special_tokens_mask[:1] == [1] else 0


def _word_tokens(
    parts: Sequence[Any], starts: np.ndarray, ends: np.ndarray, sequence: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each window of a text the first and the last token of the words that it owns.

    They are -1 where nothing is left of the text: its words read the row's first token.

    Args:
        parts: The windows, in order.
        starts: (W,) where words start, in characters.
        ends: (W,) where they end.
        sequence: Which text of the row the words are of.
    """
    found: list[tuple[np.ndarray, np.ndarray]] = []
    taken = 0  # words that earlier windows own
    bounds = [_token_bounds(part, sequence) for part in parts]
    for k, (tokens, begins, finishes) in enumerate(bounds):
        if not len(tokens):
            n = len(starts) - taken if k == len(parts) - 1 else 0
            found.append((np.full(n, -1), np.full(n, -1)))
            taken += n
            continue
        last = k == len(parts) - 1
        # Words behind the window are not looked for: a long text has many of either.
        here = slice(taken, len(starts) if last else int(np.searchsorted(starts, finishes[-1])))
        begin = np.searchsorted(finishes, starts[here], side="right")
        if not last:  # words whose first token lies before the middle of what the next shares
            shared = int((finishes > bounds[k + 1][1][0]).sum())
            border = len(tokens) - shared + shared // 2
            begin = begin[: int(np.searchsorted(begin, border, side="left"))]
        own = slice(taken, taken + len(begin))
        taken = own.stop
        end = np.searchsorted(begins, ends[own], side="left") - 1
        first = begin.clip(max=len(tokens) - 1)
        found.append((tokens[first], tokens[np.maximum(end, first)]))
    return found


def _token_bounds(part: Any, sequence: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of a window's tokens of one text, and where each starts and ends in characters."""
    own = np.array([s == sequence for s in part.sequence_ids], bool)
    tokens = np.flatnonzero(own)
    offsets = np.array(part.offsets, np.int64).reshape(-1, 2)[tokens]
    return tokens, offsets[:, 0], offsets[:, 1]


def _blank_behind(text: str, place: int) -> int:
    """Where the first blank at or behind ``place`` is, or the text's end."""
    found = _BLANK.search(text, place)
    return len(text) if found is None else found.start()


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
        BaseModelError: The folder has no tokenizer that can be read, or that of another model.
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
    known, last = settings.get("vocab_size"), max(backend.get_vocab().values(), default=-1)
    if isinstance(known, int) and last >= known:
        raise BaseModelError(
            f"tokenizer of {folder}",
            got=f"tokens up to number {last}, and a model of {known} (`vocab_size` of config.json)",
            wanted="the tokenizer that the model was trained with",
            todo="save that one there (tokenizer.save_pretrained(folder)); where tokens were added "
            "to it, call model.resize_token_embeddings(len(tokenizer)) and save the model",
        )
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
