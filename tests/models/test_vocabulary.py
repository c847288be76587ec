"""Vocabularies made from texts, against sentencepiece's own model of them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import unicodedata

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from potstill.core.errors import ResourceError
from potstill.models.vocabulary import _LINE, train_sentencepiece, train_vocabulary

TOKENS = ["<2en>", "<2de>", "<2fr>", "<2cs>"]
ALPHABETS = ["etaoinshrd", "enisraßäöü", "esaitéèçœù", "oeanížščřě"]
SIZE = 300


def make_texts(n_texts: int = 600) -> list[str]:
    """Sentences of four languages, whose words are of few syllables."""
    rng = random.Random(0)
    texts = []
    for alphabet in ALPHABETS:
        syllables = ["".join(rng.sample(alphabet, rng.randint(1, 3))) for _ in range(40)]
        words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(150)]
        for _ in range(n_texts // len(ALPHABETS)):
            drawn = rng.choices(words, k=rng.randint(1, 12))
            texts.append(" ".join([drawn[0].capitalize(), *drawn[1:]]) + rng.choice(".!?"))
    return texts


TEXTS = make_texts()
LETTERS = "".join(sorted(set("".join(TEXTS))))


@pytest.fixture(scope="module")
def vocabulary() -> tokenizers.Tokenizer:
    return train_vocabulary(iter(TEXTS), size=SIZE, tokens=TOKENS)


@pytest.fixture(scope="module")
def processor() -> SentencePieceProcessor:
    return train_sentencepiece(iter(TEXTS), size=SIZE, tokens=TOKENS)


def normal(text: str) -> str:
    """What is to be left of a text."""
    lines = unicodedata.normalize("NFC", text).replace("▁", " ").split("\n")
    return "\n".join(" ".join(line.split()) for line in lines).strip()


def test_places_of_ids(vocabulary: tokenizers.Tokenizer, processor: SentencePieceProcessor) -> None:
    assert vocabulary.get_vocab_size() == SIZE
    assert [vocabulary.token_to_id(name) for name in ("</s>", "<unk>", "<pad>")] == [0, 1, SIZE - 1]
    last = list(range(SIZE - 5, SIZE - 1))
    assert [vocabulary.token_to_id(name) for name in TOKENS] == last
    assert len(processor) == SIZE - 6
    for i in range(2, SIZE - 6):
        assert vocabulary.id_to_token(i) == processor.id_to_piece(i)
    assert vocabulary.id_to_token(SIZE - 6) == "▁\n"
    assert not vocabulary.get_added_tokens_decoder()


def test_encodes_as_sentencepiece(
    vocabulary: tokenizers.Tokenizer, processor: SentencePieceProcessor
) -> None:
    rng = random.Random(1)
    words = sorted({word for text in TEXTS for word in text.split()})
    new = [" ".join(rng.sample(words, 8)) for _ in range(200)]  # all languages in a sentence
    new += ["".join(rng.choices(LETTERS, k=20)) for _ in range(200)]
    for text in TEXTS + new:
        assert vocabulary.encode(text).ids == processor.encode(normal(text))
    assert max(map(len, vocabulary.get_vocab())) > 6  # not letters and names only
    assert any(len(vocabulary.encode(text)) < len(text) / 2 for text in TEXTS)


@given(
    st.text(st.one_of(st.sampled_from(LETTERS + " \t▁"), st.characters(exclude_categories=["C"])))
)
def test_any_text_is_encoded_as_sentencepiece_does(
    vocabulary: tokenizers.Tokenizer, processor: SentencePieceProcessor, text: str
) -> None:
    assert vocabulary.normalizer is not None
    ids = vocabulary.encode(text).ids
    assert ids == processor.encode(vocabulary.normalizer.normalize_str(text))
    assert all(0 < i < SIZE - 5 for i in ids)


@given(st.text(LETTERS + " \t\n▁"))
def test_round_trip(vocabulary: tokenizers.Tokenizer, text: str) -> None:
    ids = vocabulary.encode(text).ids
    assert 1 not in ids
    assert vocabulary.decode(ids) == normal(text)


def test_normalises_texts(vocabulary: tokenizers.Tokenizer) -> None:
    # in two code points each; spaces of all kinds; lines, of which empty ones stay between others
    for text in ("a\u0308 c\u030c e\u0301", "  in\u00a0\u2003 \n in ", "▁in▁▁in", "in\r\n\n in\n"):
        assert vocabulary.decode(vocabulary.encode(text).ids) == normal(text)
    assert vocabulary.encode("a\u0308").ids == vocabulary.encode("ä").ids
    assert vocabulary.encode("").ids == vocabulary.encode(" \n").ids == []


def test_signs_are_said_as_they_are_written() -> None:
    """NFKC would make other characters of them, which no text could then be said with."""
    texts = ["你好，世界！（测试）", "x² ½ … ﬁ", "- a\n- b\n\nc", "２０２６年"]
    vocabulary = train_vocabulary(texts, size=120, tokens=["<2zh>"])
    for text in texts:
        assert vocabulary.decode(vocabulary.encode(text).ids) == text


def test_strange_characters_are_unknown(vocabulary: tokenizers.Tokenizer) -> None:
    assert vocabulary.encode("😀").ids == [vocabulary.token_to_id("▁"), 1]
    ids = vocabulary.encode("in 😀😀 in").ids
    assert ids.count(1) == 1  # a run of them is one
    assert vocabulary.decode(ids) == "in <unk> in"


@pytest.mark.parametrize("name", ["</s>", "<unk>", "<pad>", *TOKENS])
def test_names_of_tokens_are_text(
    vocabulary: tokenizers.Tokenizer, processor: SentencePieceProcessor, name: str
) -> None:
    of_names = {0, 1, *range(SIZE - 5, SIZE)}
    assert vocabulary.token_to_id(name) in of_names
    for text in (name, f"{name}{name}", f"in{name}in", f"in {name} in", f"{name} <2en></s>"):
        ids = vocabulary.encode(text).ids
        assert not of_names & set(ids)
        assert ids == processor.encode(text)
        assert vocabulary.decode(ids) == text
    assert not (of_names - {1}) & set(vocabulary.encode(f"😀{name}😀").ids)


def test_names_of_tokens_in_training_texts_are_text() -> None:
    texts = ["a</s>b <unk> <pad> <2> a<2>b a<2>b"] * 20  # "<2>" would be a piece
    trained = train_vocabulary(texts, size=60, tokens=["<2>"])
    n_tokens = trained.get_vocab_size()
    ids = trained.encode(texts[0]).ids
    assert not {0, 1, n_tokens - 2, n_tokens - 1} & set(ids)
    assert trained.decode(ids) == texts[0]
    assert trained.token_to_id("<2>") == n_tokens - 2


def test_same_texts_same_vocabulary(vocabulary: tokenizers.Tokenizer) -> None:
    """In another process, where hashes and addresses are others."""
    script = (
        "import sys, json; from potstill.models.vocabulary import train_vocabulary;"
        "texts, size, tokens = json.load(sys.stdin);"
        "print(train_vocabulary(texts, size=size, tokens=tokens).to_str())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps([TEXTS, SIZE, TOKENS]),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == vocabulary.to_str()
    assert not done.stderr  # sentencepiece has much to say


def test_is_whole_in_its_file(vocabulary: tokenizers.Tokenizer) -> None:
    again = tokenizers.Tokenizer.from_str(vocabulary.to_str())
    assert again.to_str() == vocabulary.to_str()
    for text in [*TEXTS[:50], "</s> <2de> <pad> 😀", "a\u0308\u00a0 in"]:
        assert again.encode(text).ids == vocabulary.encode(text).ids


def test_few_texts_give_few_pieces() -> None:
    trained = train_vocabulary(["ab ab", "ba"], size=8000, tokens=TOKENS)
    n_tokens = trained.get_vocab_size()
    assert n_tokens < 60
    assert trained.token_to_id("<pad>") == n_tokens - 1
    assert trained.token_to_id("<2cs>") == n_tokens - 2
    assert trained.decode(trained.encode("ba  ab").ids) == "ba ab"
    assert train_vocabulary(["a"], size=99, tokens=[]).decode([0]) == "</s>"


def test_long_texts_are_learnt_from() -> None:
    """Over sentencepiece's limit."""
    rng = random.Random(0)
    text = " ".join(rng.choices(["žába", "käse"], k=2000))
    trained = train_vocabulary(["x", text], size=50, tokens=[])
    assert len(trained.encode("žába käse žába")) == 3


def test_long_words_are_learnt_from() -> None:
    """Texts without a space, over which sentencepiece's own sums overflow."""
    rng = random.Random(0)
    letters = [chr(0x4E00 + i) for i in range(2000)]
    text = "".join(rng.choices(["漢字", *letters], [200, *[1] * 2000], k=100_000))
    trained = train_vocabulary(["x", text], size=2500, tokens=[])
    assert trained.encode("x漢字").tokens == ["▁", "x", "漢字"]
    assert trained.decode(trained.encode(text).ids) == text
    assert train_vocabulary(["ab" * 25_000], size=99, tokens=[]).encode("x").ids  # nor is it slow


@given(st.text("ab ", min_size=1), st.integers(1, 600), st.integers(0, 2000))
def test_lines_hold_all_words(piece: str, times: int, n_letters: int) -> None:
    text = " ".join([*(piece * times + "c" * n_letters + piece).split(), "d" * 1500])
    lines = _LINE.findall(text)
    assert max(map(len, lines)) <= 1000
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(line == line.strip() for line in lines)
    short = [word for word in text.split() if len(word) <= 1000]
    assert len(text.split()) <= sum(len(line.split()) for line in lines)
    assert set(short) <= {word for line in lines for word in line.split()}


def test_reserved_characters_do_not_hide_a_text() -> None:
    trained = train_vocabulary(["ab▅ef", "cd\0gh"], size=80, tokens=[])
    for letter in "abcdefgh":
        assert 1 not in trained.encode(letter).ids
    assert 1 in trained.encode("▅").ids


def test_rare_ones_of_many_characters_are_unknown() -> None:
    """With a piece for each of them, the vocabulary would not have room."""
    rng = random.Random(0)
    many = [chr(0x4E00 + i) for i in range(4000)]
    often = ["".join(rng.choices(many[:80], k=100)) for _ in range(5000)]
    seldom = ["".join(many)]
    trained = train_vocabulary(often + seldom, size=3990, tokens=[])
    assert 1 not in trained.encode("".join(many[:80])).ids
    assert trained.get_vocab_size() <= 3990
    assert 1 in trained.encode("".join(many)).ids


@pytest.mark.parametrize("texts", [[], [""], [" \n", "\u00a0"], ["▅"]])
def test_no_text_is_an_error(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="no text has a character"):
        train_vocabulary(texts, size=99, tokens=[])


def test_faulty_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="size 9: no room for the characters") as caught:
        train_vocabulary(["abc"], size=9, tokens=["<2de>"])
    enough = int(str(caught.value).split()[-3])
    assert train_vocabulary(["abc"], size=enough, tokens=["<2de>"]).get_vocab_size() == enough
    with pytest.raises(ValueError, match="no room for the characters"):
        train_vocabulary(["abc"], size=enough - 1, tokens=["<2de>"])
    with pytest.raises(ValueError, match="no room for the characters"):
        train_vocabulary(["abc"], size=0, tokens=["<2de>"])
    for tokens in (["<2de>", "<2de>"], ["</s>"], ["<2de>", "<pad>"]):
        with pytest.raises(ValueError, match="wanted distinct ones"):
            train_vocabulary(["abc"], size=99, tokens=tokens)
    for tokens in (["a"], [""], ["<2 de>"]):
        with pytest.raises(ValueError, match="wanted two characters or more"):
            train_vocabulary(["abc"], size=99, tokens=tokens)


def test_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ResourceError, match="wanted: sentencepiece") as caught:
        train_vocabulary(["abc"], size=99, tokens=[])
    assert caught.value.todo == "pip install 'potstill[translation]'"
