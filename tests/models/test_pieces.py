"""Texts as pieces of one vocabulary and back: limits, ends, tokens that are no text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tokenizers

from potstill.core.errors import BaseModelError
from potstill.models.pieces import END, PieceTokenizer, load_pieces, most_pieces, pieces_of
from potstill.models.vocabulary import train_vocabulary
from tests.sequences import TOKENS, pair_rows, sequence_base, toy_pieces

TEXTS = ["the old cat sang", "Katze sah grün", "le vieux chat"]


def rows_of(tokenizer: PieceTokenizer, texts: list[str], **keys: object) -> list[list[int]]:
    found = tokenizer.encode(texts, None, **{"max_tokens": 64, **keys})  # type: ignore[arg-type]
    return [row.tolist() for row in np.split(found.ids, found.offsets[1:-1])]


def test_a_row_is_token_pieces_end() -> None:
    tokenizer = toy_pieces()
    assert tokenizer.languages == list(TOKENS)
    plain = rows_of(tokenizer, TEXTS)
    assert all(row[-1] == END and END not in row[:-1] for row in plain)
    for token in TOKENS:
        marked = rows_of(tokenizer, TEXTS, task=token)
        assert marked == [[tokenizer.task_token_id(token), *row] for row in plain]
    assert tokenizer.decode(plain) == TEXTS
    with pytest.raises(KeyError):
        tokenizer.encode(TEXTS, None, max_tokens=8, task="<2es>")


@pytest.mark.parametrize("max_tokens", [8, 9, 12])
@pytest.mark.parametrize("task", [None, "<2de>"])
def test_long_texts_lose_their_end_but_not_the_end_piece(max_tokens: int, task: str | None) -> None:
    tokenizer = toy_pieces()
    text = "cat bird town road green old saw the and sang"
    (whole,) = rows_of(tokenizer, [text], task=task)
    assert len(whole) == len(text.split()) + (2 if task else 1)
    found = tokenizer.encode([text, "the cat"], None, max_tokens=max_tokens, task=task)
    assert found.lengths[0] == min(max_tokens, len(whole))
    assert found.ids[: found.offsets[1]].tolist() == [*whole[: found.offsets[1] - 1], END]
    assert found.truncated.tolist() == [len(whole) > max_tokens, False]


def test_the_limit_counts_token_and_end() -> None:
    tokenizer = toy_pieces()
    for n in range(1, 10):
        found = tokenizer.encode(["cat " * n], None, max_tokens=8, task="<2de>")
        assert found.truncated.tolist() == [n > 6]
        assert found.lengths.tolist() == [min(n, 6) + 2]


def test_very_long_texts_are_not_read_to_their_end() -> None:
    tokenizer = toy_pieces()
    found = tokenizer.encode(["cat " * 100_000], None, max_tokens=16)
    assert found.truncated.tolist() == [True]
    assert found.lengths.tolist() == [16]


def test_texts_without_pieces() -> None:
    tokenizer = toy_pieces()
    assert rows_of(tokenizer, ["", "  \n "]) == [[END], [END]]
    empty = tokenizer.encode([], None, max_tokens=8)
    assert len(empty) == 0
    assert len(empty.ids) == 0
    assert tokenizer.decode([]) == []
    assert tokenizer.decode([[], [END]]) == ["", ""]
    with pytest.raises(ValueError, match="reads one text"):
        tokenizer.encode(["a"], ["b"], max_tokens=8)


def test_decoding_leaves_tokens_out() -> None:
    tokenizer = toy_pieces()
    (row,) = rows_of(tokenizer, ["the old cat"])
    unknown = 1
    strange = [
        tokenizer.task_token_id("<2de>"),
        *row[:2],
        END,
        tokenizer.padding,
        *row[2:],
        tokenizer.task_token_id("<2fr>"),
    ]
    assert tokenizer.decode([strange, row]) == ["the old cat", "the old cat"]
    assert "<" not in tokenizer.decode([[*row, unknown]])[0].replace("<unk>", "")


def test_text_that_looks_like_a_token_is_text() -> None:
    """Also where such words are so frequent that they are a piece of the vocabulary."""
    texts = [f"x<2{a}>y {a}" for a in "abc"] * 50 + [f"a<2zz>b<2zz>c{i}" for i in range(50)]
    tokenizer = pieces_of(train_vocabulary(texts, size=80, tokens=TOKENS), "here")
    assert tokenizer.languages == list(TOKENS)
    rows = rows_of(tokenizer, texts)
    assert tokenizer.decode(rows) == texts
    least = tokenizer.task_token_id(TOKENS[0])
    assert all(piece < least for row in rows for piece in row)
    assert all(
        tokenizer.decode([[i]]) != [""] for i in range(2, least) if tokenizer.pieces[i] != "▁"
    )


def test_names_and_numbers() -> None:
    tokenizer = toy_pieces()
    rows = rows_of(tokenizer, TEXTS, task="<2fr>")
    names = tokenizer.names(rows)
    assert names[0][0] == "<2fr>"
    assert names[0][-1] == "</s>"
    assert tokenizer.numbers(names) == rows
    pieces = tokenizer.pieces
    assert len(pieces) == len(set(pieces)) == tokenizer.padding + 1
    assert (pieces[0], pieces[1], pieces[-1]) == ("</s>", "<unk>", "<pad>")
    assert pieces[-3:-1] == list(TOKENS)


def test_the_digest_is_that_of_the_vocabulary(tmp_path: Path) -> None:
    base = sequence_base(tmp_path)
    assert load_pieces(base).digest == toy_pieces().digest
    assert load_pieces(base).digest != toy_pieces(size=60).digest
    load_pieces(base).save(tmp_path / "again")
    assert load_pieces(tmp_path / "again").digest == toy_pieces().digest


def test_targets_have_room_for_twice_the_source_and_for_the_longest_that_is_known() -> None:
    assert most_pieces(5, 128) == 32
    assert most_pieces(8, 128) == 32
    assert most_pieces(9, 128) == 48
    assert most_pieces(100, 128) == 128
    assert most_pieces(1, 8) == 8
    assert most_pieces(5, 128, longest=41) == 41
    assert most_pieces(20, 128, longest=41) == 64
    assert most_pieces(5, 32, longest=41) == 32


def test_other_vocabularies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="cannot be read"):
        load_pieces(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BaseModelError, match="cannot be read"):
        load_pieces(tmp_path)
    texts = [str(text) for row in pair_rows(20) for text in row.values()]
    good = train_vocabulary(texts, size=100, tokens=TOKENS)
    pieces_of(good, "here")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[PAD]": 0, "a": 1}, "[PAD]"))
    with pytest.raises(BaseModelError, match="without `</s>` as first piece"):
        pieces_of(words, "here")
    good.add_tokens(["behind the padding token"])
    with pytest.raises(BaseModelError, match="`<pad>` as last"):
        pieces_of(good, "here")
