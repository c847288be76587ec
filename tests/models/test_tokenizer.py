"""Texts to ids: pairs, types, limits, task tokens."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from potstill.core.errors import BaseModelError
from potstill.models.token_rows import TokenRows
from potstill.models.tokenizer import TextTokenizer, load_tokenizer, task_token
from tests.toys import SPECIAL, VOCABULARY, toy_tokenizer

CLS, SEP, UNK = (SPECIAL.index(token) for token in ("[CLS]", "[SEP]", "[UNK]"))
GOOD, FILM = VOCABULARY.index("good"), VOCABULARY.index("film")


@pytest.fixture
def tokenizer(base: Path) -> TextTokenizer:
    """The tiny base's."""
    return load_tokenizer(base)


def rows_of(tokens: TokenRows) -> list[list[int]]:
    return [
        tokens.ids[a:b].tolist() for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)
    ]


def types_of(tokens: TokenRows) -> list[list[int]]:
    return [
        tokens.types[a:b].tolist() for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)
    ]


def test_texts(tokenizer: TextTokenizer) -> None:
    tokens = tokenizer.encode(["Good film", "film quux", "film"], None, max_tokens=8)
    assert rows_of(tokens) == [[CLS, GOOD, FILM, SEP], [CLS, FILM, UNK, SEP], [CLS, FILM, SEP]]
    assert len(tokens) == 3
    assert tokens.lengths.tolist() == [4, 4, 3]
    assert not tokens.types.any()
    assert not tokens.truncated.any()
    assert tokenizer.padding == 0


def test_pairs_have_types(tokenizer: TextTokenizer) -> None:
    tokens = tokenizer.encode(["good"], ["film film"], max_tokens=8)
    assert rows_of(tokens) == [[CLS, GOOD, SEP, FILM, FILM, SEP]]
    assert types_of(tokens) == [[0, 0, 0, 1, 1, 1]]


def test_truncation_is_flagged_and_cuts_the_longer_text(tokenizer: TextTokenizer) -> None:
    tokens = tokenizer.encode(["good film good", "good"], None, max_tokens=4)
    assert rows_of(tokens) == [[CLS, GOOD, FILM, SEP], [CLS, GOOD, SEP]]
    assert tokens.truncated.tolist() == [True, False]
    pair = tokenizer.encode(["good"], ["film " * 9], max_tokens=7)
    assert rows_of(pair) == [[CLS, GOOD, SEP, FILM, FILM, FILM, SEP]]
    assert pair.truncated.tolist() == [True]
    # the limit of one call is not that of the next
    assert tokenizer.encode(["good " * 9], None, max_tokens=20).lengths.tolist() == [11]


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.text("good film\n é", max_size=30), min_size=1, max_size=5),
    second=st.booleans(),
    limit=st.integers(5, 12),
    task=st.sampled_from([None, "t"]),
)
def test_no_row_is_over_the_limit(
    texts: list[str], second: bool, limit: int, task: str | None
) -> None:
    tokenizer = TextTokenizer(toy_tokenizer(), 0)
    tokenizer.add_task_tokens(["t"])
    pairs = texts if second else None
    tokens = tokenizer.encode(texts, pairs, max_tokens=limit, task=task)
    whole = tokenizer.encode(texts, pairs, max_tokens=1000, task=task)
    assert (tokens.lengths <= limit).all()
    assert tokens.truncated.tolist() == (whole.lengths > limit).tolist()
    assert (tokens.lengths == np.minimum(whole.lengths, limit)).all()


def test_padding(tokenizer: TextTokenizer) -> None:
    tokens = tokenizer.encode(["good", "film good film", "film"], ["good"] * 3, max_tokens=9)
    rows = np.array([2, 1])
    ids, mask, types = tokens.pad(rows, 7)
    assert ids.dtype == types.dtype == np.int64
    for i, row in enumerate(rows):
        n = int(tokens.lengths[row])
        assert ids[i, :n].tolist() == rows_of(tokens)[row]
        assert types[i, :n].tolist() == types_of(tokens)[row]
        assert mask[i].tolist() == [True] * n + [False] * (ids.shape[1] - n)
        assert (ids[i, n:] == 7).all()
        assert not types[i, n:].any()
    assert ids.shape[1] == tokens.lengths[rows].max()


def test_task_tokens(tokenizer: TextTokenizer) -> None:
    before = tokenizer.n_tokens
    ids = tokenizer.add_task_tokens(["b.1", "a"])
    assert tokenizer.n_tokens == before + 2
    assert sorted(ids.values()) == [before, before + 1]
    assert tokenizer.add_task_tokens(["a", "c"])["a"] == ids["a"]  # a student as a base
    assert tokenizer.task_token_id("b.1") == ids["b.1"]
    with pytest.raises(KeyError):
        tokenizer.task_token_id("nobody")
    one = tokenizer.encode(["good film good"], None, max_tokens=4, task="a")
    assert rows_of(one) == [[CLS, ids["a"], GOOD, SEP]]  # truncation keeps the token
    assert one.truncated.tolist() == [True]
    pair = tokenizer.encode(["good"], ["film"], max_tokens=9, task="b.1")
    assert rows_of(pair) == [[CLS, ids["b.1"], GOOD, SEP, FILM, SEP]]
    assert types_of(pair) == [[0, 0, 0, 0, 1, 1]]
    assert task_token("a") == "<task:a>"


def test_task_token_stands_first_where_nothing_starts_a_text() -> None:
    bare = toy_tokenizer()
    bare.post_processor = None
    tokenizer = TextTokenizer(bare, 0)
    ids = tokenizer.add_task_tokens(["a"])
    tokens = tokenizer.encode(["good", ""], None, max_tokens=5, task="a")
    assert rows_of(tokens) == [[ids["a"], GOOD], [ids["a"]]]


def test_save_and_load(base: Path, tmp_path: Path, tokenizer: TextTokenizer) -> None:
    ids = tokenizer.add_task_tokens(["a"])
    tokenizer.encode(["good"], None, max_tokens=4)  # a limit must not travel with the file
    config = json.loads((base / "config.json").read_text("utf-8"))
    config["vocab_size"] += 1
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer.save(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))["truncation"] is None
    again = load_tokenizer(tmp_path)
    assert again.task_token_id("a") == ids["a"]
    texts = ["good film never"]
    np.testing.assert_array_equal(
        again.encode(texts, None, max_tokens=9, task="a").ids,
        tokenizer.encode(texts, None, max_tokens=9, task="a").ids,
    )


@pytest.mark.parametrize("content", ["{", '{"version": "1.0"}', "\x00"])
def test_a_damaged_tokenizer_is_named(base: Path, tmp_path: Path, content: str) -> None:
    shutil.copy(base / "config.json", tmp_path)
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(BaseModelError, match="tokenizer of"):
        load_tokenizer(tmp_path)


def test_the_old_layout_of_a_word_piece_vocabulary(base: Path, tmp_path: Path) -> None:
    config = json.loads((base / "config.json").read_text("utf-8"))
    config["vocab_size"] = len(VOCABULARY) + 1
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "vocab.txt").write_text("\n".join([*VOCABULARY, "##s"]), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "BertTokenizer", "do_lower_case": true}', encoding="utf-8"
    )
    tokenizer = load_tokenizer(tmp_path)
    tokens = tokenizer.encode(["Good films"], None, max_tokens=9)
    assert rows_of(tokens) == [[CLS, GOOD, FILM, len(VOCABULARY), SEP]]


def test_the_tokenizer_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    """Its ids would lie outside of the table of tokens, or be other words."""
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(base / name, tmp_path)
    load_tokenizer(tmp_path)
    config = json.loads((base / "config.json").read_text("utf-8"))
    config["vocab_size"] = 7
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(BaseModelError, match=r"and a model of 7"):
        load_tokenizer(tmp_path)
    shutil.copy(base / "config.json", tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    tokenizer.add_task_tokens(["a"])  # as one adds tokens and forgets the model
    tokenizer.save(tmp_path)
    with pytest.raises(BaseModelError, match="resize_token_embeddings"):
        load_tokenizer(tmp_path)


def test_no_tokenizer_at_all(base: Path, tmp_path: Path) -> None:
    shutil.copy(base / "config.json", tmp_path)
    with pytest.raises(BaseModelError, match="tokenizer of"):
        load_tokenizer(tmp_path)


WORDS = ("good", "film", "unheardof", "never", "a", "é", "0123456789" * 3)


@settings(max_examples=60)
@example(["good"] * 7, ["good"] * 5, 4, True, 64)
@example(["good"] * 5, ["good"] * 7, 4, True, 64)
@example(["good"] * 90, ["good"] * 90, 6, True, 64)
@example(["good"] * 91, ["good"] * 90, 6, True, 64)
@example(["good"] * 91, ["good"] * 90, 6, True, 8)
@example(["good"] * 290, ["good"] * 24, 6, True, 8)
@given(
    st.lists(st.sampled_from(WORDS), max_size=300),
    st.lists(st.sampled_from(WORDS), max_size=300),
    st.integers(4, 12),
    st.booleans(),
    st.sampled_from([8, 16, 64]),
)
def test_shortening_first_changes_no_token(
    base: Path, first: list[str], second: list[str], limit: int, pairs: bool, endless: int
) -> None:
    tokenizer = load_tokenizer(base)
    texts = [" ".join(first)], [" ".join(second)] if pairs else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("potstill.models.tokenizer._ENDLESS", endless)
        found = tokenizer.encode(*texts, max_tokens=limit)
    backend = Tokenizer.from_file(str(base / "tokenizer.json"))
    backend.no_padding()
    backend.enable_truncation(limit, strategy="longest_first")
    wanted = backend.encode(texts[0][0], None if texts[1] is None else texts[1][0])
    assert found.ids.tolist() == wanted.ids
    assert found.types.tolist() == wanted.type_ids
    assert found.truncated.tolist() == [bool(wanted.overflowing)]


@pytest.mark.timeout(20)
def test_two_endless_texts_take_no_endless_memory(tokenizer: TextTokenizer) -> None:
    endless = "good film " * 50_000
    tokens = tokenizer.encode([endless], [endless], max_tokens=32)
    assert len(tokens.ids) == 32
    assert tokens.truncated.all()
    assert len(tokenizer.encode(["x" * 500_000], None, max_tokens=32).ids) <= 32


class Backend:
    """A backend that spies can derive from: its own class lets nothing be replaced."""

    def __init__(self, backend: Tokenizer) -> None:
        self._plain = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)


def test_of_an_endless_text_the_beginning_is_read(
    tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    backend = tokenizer._backend

    class Spy(Backend):
        def encode_batch(self, texts: list[str], **options: Any) -> Any:
            read.append(sum(map(len, texts)))
            return backend.encode_batch(texts, **options)

    monkeypatch.setattr(tokenizer, "_backend", Spy(backend))
    endless = "good film " * 50_000
    assert len(tokenizer.encode([endless], None, max_tokens=32).ids) == 32
    assert len(tokenizer.encode([endless], ["a question"], max_tokens=32).ids) == 32
    assert max(read) < 10_000


def test_threads_may_share_a_tokenizer(tokenizer: TextTokenizer) -> None:
    text = "good film " * 100

    def limit_of(limit: int) -> int:
        return max(len(tokenizer.encode([text], None, max_tokens=limit).ids) for _ in range(50))

    with ThreadPoolExecutor(4) as many:
        assert list(many.map(limit_of, (8, 16, 24, 32))) == [8, 16, 24, 32]


def test_what_is_cut_off_pairs_stays_small(
    tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend keeps every combination of the pieces of both texts, rows times."""
    kept: list[int] = []
    backend = tokenizer._backend

    class Spy(Backend):
        def encode_batch_fast(self, rows: Any) -> Any:
            found = backend.encode_batch_fast(rows)
            kept.append(sum(1 + len(one.overflowing) for one in found))
            return found

    monkeypatch.setattr(tokenizer, "_backend", Spy(backend))
    short = ["a " * 120] * 300  # of few letters, and of many tokens
    tokens = tokenizer.encode(short, short, max_tokens=32)
    assert tokens.truncated.all()
    assert len(kept) == 3  # blocks of 128 rows
    assert max(kept) < 128 * 16
