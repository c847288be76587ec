"""A vocabulary made from texts, for models that start from nothing; knows no task.

Sentencepiece finds the pieces, all languages together; what comes out is a tokenizer of the
``tokenizers`` library, which is all that it takes to use it.

Reference:
    Kudo 2018, "Subword Regularization", https://aclanthology.org/P18-1007.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from potstill.core.errors import ResourceError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

END, UNKNOWN, PADDING = "</s>", "<unk>", "<pad>"
"""The tokens that every vocabulary has: the first, the second and the last one."""

_MANY_CHARACTERS = 3000  # more than alphabets have: the rarest are then not worth a piece each
_SPACE = "▁"  # stands for a space inside pieces; in a text it is read as one
_BREAK = f"{_SPACE}\n"  # the piece of a line break
_RESERVED = str.maketrans("\0▅", "  ")  # sentencepiece leaves out a text for one of them
# Sentencepiece leaves out texts of more than 4192 bytes, and its sums over long words overflow.
_LINE = re.compile(r"[^ ](?:.{0,998}[^ ])?(?= |$)|[^ ]{1000}")


def train_vocabulary(
    texts: Iterable[str], *, size: int, tokens: Sequence[str]
) -> tokenizers.Tokenizer:
    """Train a unigram vocabulary; the same texts in the same order give the same one.

    Ids are, in this order: ``</s>``, ``<unk>``, the pieces, that of a line break, ``tokens``,
    ``<pad>``. Encoding normalises (NFC, one space between words, none at ends of lines, no empty
    lines at the ends of a text) and adds nothing; decoding gives that back. No text, not
    even a literal "</s>" or "<2de>", is encoded to ``</s>``, ``<pad>`` or one of ``tokens``:
    callers put their ids (``token_to_id``) beside the text's, and take them off before they
    decode, which would write them out.

    Args:
        texts: What to learn the pieces from, all languages together.
        size: Size of the whole vocabulary; it is smaller where the texts have too few pieces.
        tokens: Names of further tokens, such as "<2de>".

    Raises:
        ValueError: No text has a character, ``size`` has no room for the characters of the texts,
            or ``tokens`` are not distinct names.
        ResourceError: sentencepiece is not installed.
    """
    processor = train_sentencepiece(texts, size=size, tokens=tokens)
    names = [END, UNKNOWN, *tokens, PADDING]
    first, last = 2, len(processor)
    # All that a score of 32 bits holds: with more digits, a file would not give back the same one.
    scores = [float(f"{processor.get_score(i):.9g}") for i in range(first, last)]
    pieces = list(zip(map(processor.id_to_piece, range(first, last)), scores, strict=True))
    # What stands in the vocabulary can be found in a text. A name costs more than to spell it,
    # and can be spelt (train_sentencepiece sees to that), so the best path never takes it.
    never = float(math.floor(min(scores)) * (1 + max(map(len, names))))
    vocabulary = [
        *((name, never) for name in (END, UNKNOWN)),
        *((piece, score) for piece, score in pieces if piece not in names),
        (_BREAK, 0.0),
        *((name, never) for name in (*tokens, PADDING)),
    ]
    model = models.Unigram(vocabulary, unk_id=1, byte_fallback=False)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Metaspace(_SPACE, prepend_scheme="always"),
            decoders.Fuse(),
            decoders.Replace(tokenizers.Regex(" ?\n ?"), "\n"),
        ]
    )
    return tokenizer


def train_sentencepiece(
    texts: Iterable[str], *, size: int, tokens: Sequence[str]
) -> SentencePieceProcessor:
    """Sentencepiece's own model of what `train_vocabulary` returns, without normalisation.

    It has the same ids, save those behind the pieces, which it lacks.

    Args:
        texts: As for `train_vocabulary`.
        size: As for `train_vocabulary`.
        tokens: As for `train_vocabulary`.

    Raises:
        ValueError: As `train_vocabulary`.
        ResourceError: As `train_vocabulary`.
    """
    try:
        from sentencepiece import (  # noqa: PLC0415 (an extra)
            SentencePieceProcessor,
            SentencePieceTrainer,
        )
    except ImportError as error:
        raise ResourceError(
            "vocabulary",
            got=f"a package is missing ({error})",
            wanted="sentencepiece",
            todo="pip install 'potstill[translation]'",
        ) from error
    _check_tokens(tokens)
    normalise = _normalizer().normalize_str
    lines = [
        line
        for text in texts
        for part in normalise(text.translate(_RESERVED)).split("\n")
        for line in _LINE.findall(part)
    ]
    characters = set().union(*lines)
    if not characters:
        raise ValueError("no text has a character: there is nothing to learn a vocabulary from")
    spelling = set().union(END, UNKNOWN, *tokens, PADDING)
    n_pieces = size - len(tokens) - 2  # the line break and the padding token are not among them
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="unigram",
            vocab_size=n_pieces,
            hard_vocab_limit=False,
            character_coverage=0.9995 if len(characters) > _MANY_CHARACTERS else 1.0,
            required_chars="".join(sorted(spelling - {_SPACE})),
            normalization_rule_name="identity",
            num_threads=1,  # with more of them, sums depend on which is first
            shuffle_input_sentence=False,
            minloglevel=2,
            # It takes the names of its own tokens out of the texts. None has a space.
            eos_id=0,
            eos_piece=f" {END}",
            unk_id=1,
            unk_piece=f" {UNKNOWN}",
            bos_id=-1,
            pad_id=-1,
        )
    except RuntimeError as error:  # it has no others
        missing = len((characters | spelling) - {" "}) + 3 - n_pieces
        if missing <= 0:
            raise
        raise ValueError(
            f"size {size}: no room for the characters of the texts; {size + missing} is enough"
        ) from error
    return SentencePieceProcessor(model_proto=model.getvalue())


def _check_tokens(tokens: Sequence[str]) -> None:
    """Refuse names that are not distinct, or that a single character of a text could be."""
    distinct = {END, UNKNOWN, PADDING, *tokens}
    if len(distinct) != len(tokens) + 3:
        raise ValueError(f"tokens {list(tokens)}: wanted distinct ones, none of {END} {UNKNOWN} …")
    faulty = [name for name in tokens if len(name) < 2 or any(map(str.isspace, name))]
    if faulty:
        raise ValueError(f"tokens {faulty}: wanted two characters or more, none of them a space")


def _normalizer() -> normalizers.Normalizer:
    """NFC, which changes no character's looks; one space between words, one around a line break."""
    return normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace("\n", " \n "),
            normalizers.Replace(tokenizers.Regex(rf"(?:(?!\n)[\s{_SPACE}])+"), " "),
            normalizers.Strip(),
        ]
    )
