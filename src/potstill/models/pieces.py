"""Text to pieces and back, for encoder-decoders: one vocabulary for all languages and both sides.

Needs neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tokenizers

from potstill.core.errors import BaseModelError
from potstill.core.files import write_text
from potstill.models.token_rows import TokenRows
from potstill.models.tokenizer import TextTokenizer

END, UNKNOWN = 0, 1
"""The piece that ends every text, and the one for what has no piece."""

_FAR = 32  # characters a piece: what is further behind is not looked at
_SLACK = 16  # pieces that a target may have beyond twice its source
_STEP = 16  # limits are multiples of it: texts of one limit are said together


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How targets are looked for.

    Attributes:
        beams: Open hypotheses of a beam search; 1 is greedy.
        length_penalty: Power of the length that a hypothesis' log-probability is divided by.
        longest: Pieces that a target may have whatever its source: those of the longest one that
            the network has learned to say. It is the network's own, not the search's.
    """

    beams: int = 4
    length_penalty: float = 1.0
    longest: int = 0


GREEDY = Decoding(beams=1)
"""The likeliest piece at each place, without a search."""


def most_pieces(n_source: int, max_tokens: int, longest: int = 0) -> int:
    """Pieces of the longest target that is looked for: twice the source, and all that is known."""
    by_source = -(-(2 * n_source + _SLACK) // _STEP) * _STEP
    return min(max(by_source, longest), max_tokens)


class PieceTokenizer(TextTokenizer):
    """The vocabulary of an encoder-decoder.

    Args:
        backend: A tokenizer as :func:`potstill.models.vocabulary.train_vocabulary` makes it.
        padding: Number of the padding token: the last piece.
    """

    @property
    def digest(self) -> str:
        """SHA-256 of the vocabulary: networks with the same one can teach each other's pieces."""
        return hashlib.sha256(self._backend.to_str(pretty=False).encode()).hexdigest()

    def task_token_id(self, task: str) -> int:
        """Number of a token such as ``<2de>``.

        Raises:
            KeyError: The vocabulary has no such token.
        """
        found = self._backend.token_to_id(task)
        if found is None:
            raise KeyError(task)
        return int(found)

    @cached_property
    def languages(self) -> list[str]:
        """The tokens that may stand before a source: the last pieces before the padding token."""
        found: list[str] = []
        for number in range(self.padding - 1, UNKNOWN, -1):
            piece = str(self._backend.id_to_token(number))
            if not (piece.startswith("<2") and piece.endswith(">")):
                break
            found.append(piece)
        return sorted(found)

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        found: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        return found

    def encode(
        self,
        first: Sequence[str],
        second: Sequence[str] | None,
        *,
        max_tokens: int,
        task: str | None = None,
        close: bool = True,
    ) -> TokenRows:
        """Pieces of texts: the task's token, where there is one, the text, the end.

        A text over the limit loses its end, but not the piece that says so.

        Args:
            first: N texts.
            second: None.
            max_tokens: Limit a row, token and end included.
            task: The token that stands before each text.
            close: False leaves the end out behind a text that was cut: whoever learns to say it
                would learn to stop there.
        """
        if second is not None:
            raise ValueError("an encoder-decoder reads one text")
        lead = [] if task is None else [self.task_token_id(task)]
        room = max_tokens - 1 - len(lead)
        texts = [text[: _FAR * room] for text in first]
        with self._lock:
            encoded = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        ids = [
            [*lead, *one.ids[: room + 1]]
            if not close and len(one.ids) > room
            else [*lead, *one.ids[:room], END]
            for one in encoded
        ]
        offsets = np.zeros(len(ids) + 1, np.int64)
        np.cumsum([len(row) for row in ids], out=offsets[1:])
        total = int(offsets[-1])
        cut = [
            len(one.ids) > room or len(text) < len(whole)
            for one, text, whole in zip(encoded, texts, first, strict=True)
        ]
        return TokenRows(
            ids=np.fromiter((t for row in ids for t in row), np.int32, total),
            types=np.zeros(total, np.uint8),
            offsets=offsets,
            truncated=np.array(cut, bool),
        )

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Pieces to texts; tokens that are no text are left out."""
        n_text = self.padding - len(self.languages)
        plain = [[i for i in row if END < i < n_text] for row in rows]
        return [str(text) for text in self._backend.decode_batch(plain)]

    def save_for(self, token: str, folder: Path) -> None:
        """Write a ``tokenizer.json`` that puts a token before each text, and the end behind it."""
        backend = tokenizers.Tokenizer.from_str(self._backend.to_str())
        ends = [(token, self.task_token_id(token)), ("</s>", END)]
        backend.post_processor = tokenizers.processors.TemplateProcessing(
            single=f"{token} $A </s>", special_tokens=ends
        )
        write_text(folder / "tokenizer.json", backend.to_str(pretty=False))

    @property
    def pieces(self) -> list[str]:
        """Names of all pieces in order of their numbers, the padding token last."""
        return [str(self._backend.id_to_token(i)) for i in range(self.padding + 1)]

    def names(self, rows: Sequence[Sequence[int]]) -> list[list[str]]:
        """Pieces as runtimes that know no numbers take them."""
        return [[str(self._backend.id_to_token(int(i))) for i in row] for row in rows]

    def numbers(self, rows: Sequence[Sequence[str]]) -> list[list[int]]:
        """The inverse of :meth:`names`."""
        vocabulary = self._vocabulary
        return [[vocabulary[name] for name in row] for row in rows]


def load_pieces(folder: Path) -> PieceTokenizer:
    """Read the vocabulary of a folder.

    Raises:
        BaseModelError: There is none, or it is not one of an encoder-decoder.
    """
    file = folder / "tokenizer.json"
    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the Rust library raises plain Exception
        raise _unfit(file, f"it cannot be read: {str(error).splitlines()[0]}") from error
    return pieces_of(backend, file)


def pieces_of(backend: tokenizers.Tokenizer, where: Path | str) -> PieceTokenizer:
    """A vocabulary with its fixed places checked.

    Raises:
        BaseModelError: ``</s>`` is not its first piece, or ``<pad>`` not its last.
    """
    padding = backend.get_vocab_size(with_added_tokens=True) - 1
    if backend.token_to_id("</s>") != END or backend.token_to_id("<pad>") != padding:
        raise _unfit(where, "a vocabulary without `</s>` as first piece and `<pad>` as last")
    return PieceTokenizer(backend, padding)


def _unfit(where: Path | str, got: str) -> BaseModelError:
    return BaseModelError(
        f"vocabulary {where}",
        got=got,
        wanted="tokenizer.json of an encoder-decoder that potstill trained",
        todo="choose such a base, or start from nothing with `base: marian`",
    )
