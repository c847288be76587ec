"""Words as slots, and long texts in windows: each word is answered for once, where it stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from potstill.kinds.passage import word_bounds
from potstill.models.token_rows import Slots, TokenRows, distinct_rows, join_rows, pick_slots
from potstill.models.tokenizer import TextTokenizer, load_tokenizer
from tests.toys import toy_tokenizer

# Each stands in a text once, so that a token says of which letter it is.
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
LETTERS += "".join(map(chr, range(0x410, 0x450)))
DROPPED = "~"  # a word of these has no token
Bounds = tuple[np.ndarray, np.ndarray]


def pieces(template: str = "[CLS] $A [SEP]") -> Tokenizer:
    """BERT's sort: a token for each letter, ``##`` before those that go on."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *("##" + c for c in LETTERS)]
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Replace(DROPPED, "")
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template,
        pair=f"{template} $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def ends_only() -> Tokenizer:
    """T5's sort: nothing before a text."""
    return pieces("$A [SEP]")


def byte_level() -> Tokenizer:
    """RoBERTa's sort: letters of one byte and of two, some in one token with the blank before."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", letter) for letter in LETTERS[:26:2]] + [("Ð", "Ľ")]
    vocabulary = ["<s>", "<pad>", "</s>", *alphabet, *(a + b for a, b in merges)]
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(ids, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<s>", "<pad>", "</s>")])
    return tokenizer


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    "pieces": pieces,
    "ends only": ends_only,
    "bytes": byte_level,
}
every_family = pytest.mark.parametrize("family", list(FAMILIES))


def tokenizer_of(family: str) -> TextTokenizer:
    tokenizer = TextTokenizer(FAMILIES[family](), 0)
    tokenizer.add_task_tokens(["t"])
    return tokenizer


def words_of(sizes: list[int], dropped: list[bool], letters: str = LETTERS) -> list[str]:
    """Words of these sizes, of letters that no other has."""
    words, at = [], 0
    for size, gone in zip(sizes, dropped, strict=True):
        words.append(DROPPED * size if gone else letters[at : at + size])
        at += 0 if gone else size
    return [word for word in words if word]


def bounds_of(words: list[str]) -> Bounds:
    lengths = np.array([len(word) for word in words], np.int64)
    ends = np.cumsum(lengths + 1) - 1
    return ends - lengths, ends


def texts_of(tokens: TokenRows) -> list[list[int]]:
    return [part.tolist() for part in np.split(tokens.ids, tokens.offsets[1:-1])]


def slots_of(tokens: TokenRows, text: int) -> tuple[np.ndarray, np.ndarray]:
    assert tokens.slots is not None
    own = slice(tokens.slots.offsets[text], tokens.slots.offsets[text + 1])
    return tokens.slots.first[own], tokens.slots.last[own]


rows = st.lists(
    st.tuples(st.lists(st.integers(1, 9), max_size=25), st.lists(st.booleans(), max_size=25)),
    min_size=1,
    max_size=3,
)


@every_family
@settings(max_examples=60)
@example([([9] * 13, [False] * 13)], 8, "t", True, True)
@example([([1] * 9, [True] * 9), ([], [])], 8, None, True, True)
@given(rows, st.integers(8, 60), st.sampled_from([None, "t"]), st.booleans(), st.booleans())
def test_every_word_is_a_slot_of_one_window_at_its_own_tokens(
    family: str,
    drawn: list[tuple[list[int], list[bool]]],
    limit: int,
    task: str | None,
    pair: bool,
    lead: bool,
) -> None:
    letters = LETTERS[:52] if family == "bytes" else LETTERS
    sentences = []
    for sizes, dropped in drawn:
        flags = [flag and family != "bytes" for flag in (dropped + [False] * len(sizes))]
        sentences.append(words_of(sizes, flags[: len(sizes)], letters))
    texts = [" ".join(words) for words in sentences]
    before = ["0 " * (5 * i) for i in range(len(texts))] if pair else None
    tokenizer = tokenizer_of(family)
    tokens = tokenizer.encode_words(
        texts, [bounds_of(w) for w in sentences], before, max_tokens=limit, task=task, lead=lead
    )
    assert tokens.windows is not None
    assert tokens.slots is not None
    assert tokens.n_rows == len(texts)
    assert (tokens.lengths <= limit).all()
    assert len(tokens.slots.offsets) == len(tokens) + 1
    backend = FAMILIES[family]()
    room = limit - (task is not None) - backend.num_special_tokens_to_add(pair)
    sizes_of = [
        [len(backend.encode(part, add_special_tokens=False).ids) for part in parts]
        for parts in zip(before or [""] * len(texts), texts, strict=True)
    ]
    assert tokens.truncated.tolist() == [q > room // 2 and q + t > room for q, t in sizes_of]
    for row, (words, text) in enumerate(zip(sentences, texts, strict=True)):
        first, last = tokens.windows[row], tokens.windows[row + 1]
        assert first < last
        found = [slots_of(tokens, window) for window in range(first, last)]
        if lead:
            assert found[0][0][0] == found[0][1][0] == 0
            found[0] = (found[0][0][1:], found[0][1][1:])
        assert sum(len(begins) for begins, _ in found) == len(words)
        whole = backend.encode(text, add_special_tokens=False)
        wanted = iter(zip(*bounds_of(words), words, strict=True))
        for window, (begins, ends) in zip(range(first, last), found, strict=True):
            ids = texts_of(tokens)[window]
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
                start, stop, word = next(wanted)
                assert begin <= end
                if not whole.ids:  # nothing is left of the text
                    assert begin == end == 0
                    continue
                a, b = (token_at(whole.offsets, place) for place in (start, stop - 1))
                assert ids[begin] == whole.ids[min(a, len(whole.ids) - 1)]
                if DROPPED in word:
                    assert end == begin
                elif whole.ids[b] in ids:
                    assert ids[end] == whole.ids[b]
                else:  # the word goes on where the window ends
                    assert ids[end] == [i for i in ids if i in whole.ids][-1]


def token_at(offsets: list[tuple[int, int]], place: int) -> int:
    """The token of a character; of one without, that behind it."""
    return next((i for i, (_, end) in enumerate(offsets) if end > place), len(offsets))


@every_family
@given(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=30), limit=st.integers(11, 60))
def test_a_word_has_tokens_on_both_sides(family: str, sizes: list[int], limit: int) -> None:
    words = words_of(sizes, [False] * len(sizes), LETTERS[:52])
    tokens = tokenizer_of(family).encode_words(
        [" ".join(words)], [bounds_of(words)], max_tokens=limit
    )
    n_added = 1 if family == "ends only" else 2
    overlap = (limit - n_added) // 4
    n_texts = len(tokens)
    for window, ids in enumerate(texts_of(tokens)):
        start = 0 if family == "ends only" else 1
        begins, ends = slots_of(tokens, window)
        if window > 0:
            assert (begins - start >= overlap // 2).all()
        if window < n_texts - 1:
            assert (len(ids) - 1 - begins > overlap - overlap // 2).all()
            assert (ends < len(ids) - 1).all()


def test_by_hand() -> None:
    tokenizer = tokenizer_of("pieces")
    words = ["abc", "d", "~~", "ef", "ghijkl", "m"]
    text = " ".join(words)
    ids = dict(zip(LETTERS, range(4, 4 + len(LETTERS)), strict=True))
    more = dict(zip(LETTERS, range(4 + len(LETTERS), 4 + 2 * len(LETTERS)), strict=True))
    short = tokenizer.encode_words([text], [bounds_of(words)], max_tokens=40)
    (row,) = texts_of(short)
    start = [2, ids["a"], more["b"], more["c"], ids["d"], ids["e"], more["f"], ids["g"]]
    assert row == [*start, *(more[c] for c in "hijkl"), ids["m"], 3]
    assert [part.tolist() for part in slots_of(short, 0)] == [
        [1, 4, 5, 5, 7, 13],
        [3, 4, 5, 6, 12, 13],
    ]
    long = tokenizer.encode_words([text], [bounds_of(words)], ["z"], max_tokens=11, lead=True)
    assert texts_of(long) == [
        [
            2,
            ids["z"],
            3,
            ids["a"],
            more["b"],
            more["c"],
            ids["d"],
            ids["e"],
            more["f"],
            ids["g"],
            3,
        ],
        [2, ids["z"], 3, more["f"], ids["g"], *(more[c] for c in "hijkl"), 3],
        [2, ids["z"], 3, more["k"], more["l"], ids["m"], 3],
    ]
    assert long.windows is not None
    assert long.windows.tolist() == [0, 3]
    assert [slots_of(long, i)[0].tolist() for i in range(3)] == [[0, 3, 6, 7, 7], [4], [5]]
    assert [slots_of(long, i)[1].tolist() for i in range(3)] == [[0, 5, 6, 7, 8], [9], [5]]
    assert [t.tolist() for t in np.split(long.types, long.offsets[1:-1])][2] == [
        0,
        0,
        0,
        1,
        1,
        1,
        1,
    ]


@every_family
@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 4), max_size=12),
    limit=st.integers(8, 40),
    task=st.sampled_from([None, "t"]),
    pair=st.booleans(),
)
def test_texts_are_the_tokens_that_other_tasks_read(
    family: str, sizes: list[int], limit: int, task: str | None, pair: bool
) -> None:
    """So that a tagging and a classification of one text can share a pass."""
    words = words_of(sizes, [False] * len(sizes), LETTERS[:48])
    text, before = " ".join(words), ["00"] if pair else None
    tokenizer = tokenizer_of(family)
    found = tokenizer.encode_words([text], [bounds_of(words)], before, max_tokens=limit, task=task)
    plain = (
        tokenizer.encode([text], None, max_tokens=limit, task=task)
        if before is None
        else tokenizer.encode(before, [text], max_tokens=limit, task=task)
    )
    if before is None or not plain.truncated.any():  # of a pair too long either text may be cut
        assert texts_of(found)[0] == texts_of(plain)[0]
        assert found.types[: found.offsets[1]].tolist() == plain.types.tolist()
        assert plain.truncated.tolist() == [len(found) > 1]


def test_a_long_question_leaves_the_passage_half_of_the_room() -> None:
    for family in FAMILIES:
        tokenizer = tokenizer_of(family)
        words = list(LETTERS[:52])
        for limit in (10, 16, 33):
            tokens = tokenizer.encode_words(
                [" ".join(words)], [bounds_of(words)], [" ".join(words)], max_tokens=limit
            )
            added = limit - {"pieces": 3, "ends only": 2, "bytes": 4}[family]
            sizes = {
                int((part == 1).sum()) for part in np.split(tokens.types, tokens.offsets[1:-1])
            }
            if family != "bytes":  # which knows no types
                assert max(sizes) == added - added // 2 + 1
            assert (tokens.lengths <= limit).all()


def test_a_question_is_not_cut_in_the_middle_of_a_character() -> None:
    tokenizer = tokenizer_of("bytes")
    words = list(LETTERS[:20])
    for n in range(12):
        tokens = tokenizer.encode_words(
            [" ".join(words)], [bounds_of(words)], ["a" * n + "🙂🙂🙂"], max_tokens=12
        )
        assert (tokens.lengths <= 12).all()


def test_no_texts_and_texts_without_words() -> None:
    tokenizer = tokenizer_of("pieces")
    none = tokenizer.encode_words([], [], max_tokens=9)
    assert (len(none), none.n_rows) == (0, 0)
    assert none.slots is not None
    assert none.slots.offsets.tolist() == [0]
    empty = word_bounds("")
    for before, lead in ((None, False), (["a", "b"], True)):
        tokens = tokenizer.encode_words(["", " "], [empty, empty], before, max_tokens=9, lead=lead)
        assert tokens.n_rows == len(tokens) == 2
        assert [part.tolist() for part in slots_of(tokens, 1)] == [[0] * lead] * 2


@pytest.mark.parametrize("lead", [False, True])
def test_words_that_all_drop_read_the_rows_first_token(lead: bool) -> None:
    words = ["~~", "~"]
    for template in (pieces(), ends_only(), bare()):
        for task in ("t", None):
            tokenizer = TextTokenizer(template, 0)
            tokenizer.add_task_tokens(["t"])
            if template.post_processor is None and task is None:
                continue  # not a single token is left
            tokens = tokenizer.encode_words(
                [" ".join(words)], [bounds_of(words)], max_tokens=9, task=task, lead=lead
            )
            assert slots_of(tokens, 0)[0].tolist() == [0] * (2 + lead)
            assert slots_of(tokens, 0)[1].tolist() == [0] * (2 + lead)


def bare() -> Tokenizer:
    """Nothing before a text, and nothing behind it."""
    tokenizer = pieces()
    tokenizer.post_processor = None
    return tokenizer


@settings(max_examples=20)
@given(st.lists(st.text("ab Ä,.é\n", max_size=40), min_size=1, max_size=4), st.integers(8, 30))
def test_any_text_with_the_words_of_a_passage(texts: list[str], limit: int) -> None:
    bounds = [word_bounds(text) for text in texts]
    tokenizer = TextTokenizer(toy_tokenizer(), 0)
    tokens = tokenizer.encode_words(texts, bounds, texts, max_tokens=limit, lead=True)
    assert tokens.slots is not None
    counts = np.add.reduceat(np.diff(tokens.slots.offsets), tokens.first_texts)
    assert counts.tolist() == [1 + len(starts) for starts, _ in bounds]
    assert (tokens.slots.last >= tokens.slots.first).all()
    lengths = np.repeat(tokens.lengths, np.diff(tokens.slots.offsets))
    assert (tokens.slots.last < lengths).all()


def test_windows_of_one_token() -> None:
    words = list("abcd")
    tokens = tokenizer_of("pieces").encode_words(
        [" ".join(words)], [bounds_of(words)], max_tokens=3
    )
    assert len(tokens) == 4
    assert [slots_of(tokens, i)[0].tolist() for i in range(4)] == [[1]] * 4


def test_limits_do_not_travel(base: Path) -> None:
    """Nor does the overlap of windows: truncation is a state of the backend."""
    tokenizer = load_tokenizer(base)
    words = ["film"] * 30
    bounds = [bounds_of(words)]
    wanted = tokenizer.encode([" ".join(words)], None, max_tokens=9)
    tokenizer.encode_words([" ".join(words)], bounds, max_tokens=20)
    found = tokenizer.encode([" ".join(words)], None, max_tokens=9)
    assert found.ids.tolist() == wanted.ids.tolist()


# -- rows with slots ----------------------------------------------------------------------------


def some(seed: int, limit: int = 12) -> TokenRows:
    """Rows of words, some of them in several windows, some equal."""
    rng = np.random.default_rng(seed)
    sentences = [
        words_of(rng.integers(1, 4, int(n)).tolist(), [False] * int(n))
        for n in rng.integers(1, 15, 5)
    ]
    sentences.append(sentences[0])
    return tokenizer_of("pieces").encode_words(
        [" ".join(words) for words in sentences],
        [bounds_of(words) for words in sentences],
        max_tokens=limit,
    )


@given(st.integers(0, 99), st.data())
@settings(max_examples=20)
def test_slots_of_some_texts(seed: int, data: st.DataObject) -> None:
    tokens = some(seed)
    assert tokens.slots is not None
    chosen = np.array(data.draw(st.lists(st.integers(0, len(tokens) - 1), max_size=6)), np.int64)
    places, texts = tokens.slots.of(chosen)
    wanted = [
        (slot, at)
        for at, text in enumerate(chosen)
        for slot in range(tokens.slots.offsets[text], tokens.slots.offsets[text + 1])
    ]
    assert list(zip(places.tolist(), texts.tolist(), strict=True)) == wanted


@pytest.mark.parametrize("at_last", [(), (1,), (0, 2)])
def test_picking_slots_is_a_loop(at_last: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    outputs = rng.normal(0, 1, (3, 7, 3))
    slots = Slots(
        offsets=np.array([0, 2, 2, 5]),
        first=np.array([1, 4, 0, 2, 6], np.int32),
        last=np.array([3, 4, 1, 5, 6], np.int32),
    )
    places, texts = slots.of(np.array([2, 0, 1]))
    found = pick_slots(outputs, texts, slots, places, at_last)
    assert found.shape == (5, 3)
    for got, place, text in zip(found, places, texts, strict=True):
        for c in range(3):
            token = slots.last[place] if c in at_last else slots.first[place]
            assert got[c] == outputs[text, token, c]
    none = pick_slots(outputs, np.zeros(0, int), slots, np.zeros(0, int), at_last)
    assert none.shape == (0, 3)


def test_joined_rows_keep_their_slots() -> None:
    one, other = some(1), some(2)
    plain = tokenizer_of("pieces").encode(["ab c", "d"], None, max_tokens=9)
    rows_of_one, rows_of_other = np.array([2, 0]), np.array([1])
    joined = join_rows([(one, rows_of_one), (plain, np.array([1, 0])), (other, rows_of_other)])
    wanted = [(one, 2), (one, 0), (plain, 1), (plain, 0), (other, 1)]
    assert joined.windows is None
    assert len(joined) == joined.n_rows == len(joined.truncated) == len(wanted)
    for place, (tokens, text) in enumerate(wanted):
        assert texts_of(joined)[place] == texts_of(tokens)[text]
        if tokens.slots is None:
            assert slots_of(joined, place)[0].tolist() == []
            continue
        for found, right in zip(slots_of(joined, place), slots_of(tokens, text), strict=True):
            assert found.tolist() == right.tolist()
    assert join_rows([(plain, np.array([0]))]).slots is None


def test_texts_that_differ_in_their_slots_alone_are_not_the_same() -> None:
    tokenizer = tokenizer_of("pieces")
    text = "ab c"
    two, three = bounds_of(["ab", "c"]), (np.array([0, 1, 3]), np.array([1, 2, 4]))
    tokens = tokenizer.encode_words([text] * 3 + ["c"], [two, three, two, two], max_tokens=9)
    kept, place = distinct_rows(tokens)
    assert kept.tolist() == [0, 1, 3]
    assert place.tolist() == [0, 1, 0, 2]
    plain = tokenizer.encode([text, "c", text], None, max_tokens=9)
    assert distinct_rows(plain)[1].tolist() == [0, 1, 0]


@given(st.integers(0, 99))
@settings(max_examples=20)
def test_distinct_texts_stand_for_all(seed: int) -> None:
    tokens = some(seed, limit=9)
    kept, place = distinct_rows(tokens)
    assert len(kept) < len(tokens)  # the last row repeats the first
    once = join_rows([(tokens, kept)])
    for text in range(len(tokens)):
        assert texts_of(once)[place[text]] == texts_of(tokens)[text]
        for found, right in zip(slots_of(once, place[text]), slots_of(tokens, text), strict=True):
            assert found.tolist() == right.tolist()
    alike = {
        (*ids, *(n for part in slots_of(once, text) for n in (-1, *part.tolist())))
        for text, ids in enumerate(texts_of(once))
    }
    assert len(alike) == len(kept)
