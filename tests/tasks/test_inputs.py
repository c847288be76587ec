"""What tasks read: texts, words, a question with its passage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.core.errors import DataError
from potstill.kinds import KINDS
from potstill.models.tokenizer import TextTokenizer, load_tokenizer
from potstill.tasks.inputs import READERS, PassageInputs, Reader, TextInputs, WordInputs
from potstill.tasks.load import label_array, load_task
from potstill.tasks.pools import join_pools, pool_of_others
from potstill.tasks.task import folds, groups_of, shared_texts, slots_of, truth_of
from tests.tiny import toy_task
from tests.toys import TOYS, toy_rows, toy_tokenizer

TEXT = TextInputs(columns=("text",))
WORDS = WordInputs(columns=("tokens",))
PASSAGE = PassageInputs(columns=("question", "context"))
SLOTTED = ("tagging", "span", "unanswerable")


def test_every_kind_names_a_reader() -> None:
    assert {kind.reads for kind in KINDS.values()} <= set(READERS)
    for kind, toy in TOYS.items():
        assert type(toy_task(kind).inputs) is READERS[KINDS[toy.kind].reads]


# -- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reader", "value", "kept"),
    [
        (TEXT, "a  b", "a  b"),
        (TEXT, ["a", "b"], "a b"),
        (TEXT, ("a", "b c"), "a b c"),
        (TEXT, [], ""),
        (WORDS, ["a", "b"], ["a", "b"]),
        (WORDS, ("a", "ü🙂"), ["a", "ü🙂"]),
        (WORDS, " a\t b\nc ", "a b c"),
        (WORDS, [], []),
        (WORDS, "  ", ""),
        (PASSAGE, "a  b", "a  b"),
    ],
)
def test_sound_values(reader: Reader, value: Any, kept: object) -> None:
    assert reader.value_fault(value) is None
    assert reader.value(value) == kept
    assert reader.value(reader.value(value)) == kept
    jsonschema.validate(list(value) if isinstance(value, tuple) else value, reader.schema())


@pytest.mark.parametrize(
    ("reader", "value", "fault"),
    [
        (TEXT, None, "no value"),
        (TEXT, 3, "int 3"),
        (TEXT, ["a", 3], "list ['a', 3]"),
        (TEXT, ["a", "\0"], "NUL"),
        (WORDS, None, "no value"),
        (WORDS, 3, "int 3"),
        (WORDS, ["a", 3], "int 3 as word 2"),
        (WORDS, [None], "no value as word 1"),
        (WORDS, ["a", "b", " "], "an empty word 3"),
        (WORDS, ["a b"], "word 1 with a blank in it, 'a b'"),
        (WORDS, ["a", "b "], "word 2 with a blank in it, 'b '"),
        (WORDS, ["a\u00a0b"], "word 1 with a blank in it"),
        (WORDS, ["\0"], "NUL character, the sign of binary data as word 1"),
        (WORDS, [["a"]], "list ['a'] as word 1"),
        (WORDS, {"a"}, "set"),
        (PASSAGE, ["a"], "list ['a']"),
        (PASSAGE, None, "no value"),
    ],
)
def test_values_that_cannot_be_read(reader: Reader, value: object, fault: str) -> None:
    said = reader.value_fault(value)
    assert said is not None
    assert fault in said
    if not isinstance(value, set):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(value, reader.schema())


@pytest.mark.parametrize("value", ['["in", "Paris"]', "['in', 'Paris']", ' ["in"]\n'])
def test_a_list_that_a_table_holds_as_text_is_no_list_of_words(value: str) -> None:
    said = WORDS.value_fault(value)
    assert said is not None
    assert "a list written as text" in said
    assert "use jsonl or parquet" in said
    assert TEXT.value_fault(value) is None  # code, say
    assert WORDS.value_fault("[ sic ] he said") is None


def test_half_a_character_is_no_text() -> None:
    for reader, value in ((TEXT, "\ud83d"), (WORDS, ["a", "\ud83d"]), (PASSAGE, "\ud83d")):
        assert "half a character" in str(reader.value_fault(value))


@pytest.mark.parametrize(
    ("reader", "values", "fault"),
    [
        (WORDS, [None], "column 'tokens' is empty"),
        (WORDS, [[]], "column 'tokens' is empty text"),
        (TEXT, [[]], "column 'text' is empty text"),
        (WORDS, [" "], "column 'tokens' is empty text"),
        (WORDS, [["a", ""]], "column 'tokens' holds an empty word 2, not a list of words"),
        (TEXT, [["", " "]], "column 'text' is empty text"),
        (PASSAGE, ["a", None], "column 'context' is empty"),
        (PASSAGE, ["a", " \n"], "column 'context' is empty text"),
        (PASSAGE, ["", "a"], "column 'question' is empty text"),
        (TEXT, ["\u200b\u3164"], "column 'text' is empty text"),
        (WORDS, [["\u200b", "\ufe0f"]], "column 'tokens' is empty text"),
    ],
)
def test_rows_that_cannot_be_used(reader: Reader, values: list[object], fault: str) -> None:
    assert reader.faults(values) == fault
    assert reader.faults(["a"] * len(values)) is None


def test_a_table_is_checked_row_by_row() -> None:
    assert WORDS.checked({"tokens": ["a b", ("c",)]}, str) == {"tokens": ["a b", ["c"]]}
    with pytest.raises(DataError, match="line 8, column 'tokens'") as refused:
        WORDS.checked({"tokens": ["a", [3]]}, lambda i: f"line {7 + i}")
    assert refused.value.wanted == "a list of words"


# -- slots and tokens ---------------------------------------------------------------------------


@given(st.lists(st.lists(st.text("abü🙂.", min_size=1, max_size=4), max_size=5), max_size=4))
def test_words_are_slots_of_the_text_that_they_make(rows: list[list[str]]) -> None:
    inputs = {"tokens": rows}
    slots = WORDS.slots(inputs)
    assert slots is not None
    assert slots.tolist() == [len(row) for row in rows]
    assert WORDS.texts(inputs) == [(" ".join(row),) for row in rows]
    as_text = {"tokens": [" ".join(row) for row in rows]}
    assert WORDS.in_order(as_text) == WORDS.in_order(inputs) == [rows]
    np.testing.assert_array_equal(WORDS.ids(as_text), WORDS.ids(inputs))
    ids = TextInputs(columns=("tokens",)).ids({"tokens": [" ".join(row) for row in rows]})
    np.testing.assert_array_equal(ids, WORDS.ids(inputs))


@given(st.text("ab \t\n\u00a0é.", max_size=20))
def test_text_is_the_words_between_its_blanks(text: str) -> None:
    inputs = {"tokens": [text]}
    slots = WORDS.slots(inputs)
    assert slots is not None
    assert slots.tolist() == [len(text.split())]
    assert WORDS.in_order(inputs) == [[text.split()]]
    assert WORDS.texts(inputs) == [(text,)]  # so other tasks on the column read the same
    tokens = WORDS.tokenise(inputs, TextTokenizer(toy_tokenizer(), 0), max_tokens=64, task=None)
    assert tokens.slots is not None
    assert len(tokens.slots.first) == slots.sum()
    assert (np.diff(tokens.slots.first) > 0).all()


def test_slots_of_a_passage_are_no_answer_and_its_words() -> None:
    inputs = {"question": ["a", "b"], "context": ["One, two.", "x"]}
    slots = PASSAGE.slots(inputs)
    assert slots is not None
    assert slots.tolist() == [5, 2]
    assert TEXT.slots({"text": ["a b"]}) is None
    other = {"question": ["x", "b"], "context": ["One, two.", "a"]}
    assert len({row.tobytes() for one in (inputs, other) for row in PASSAGE.ids(one)}) == 4


@pytest.mark.parametrize("kind", SLOTTED)
@pytest.mark.parametrize("task_token", [None, "t"])
def test_tokens_have_a_slot_for_each_answer(base: Path, kind: str, task_token: str | None) -> None:
    task = toy_task(kind, train=12, dev=8)
    tokenizer = load_tokenizer(base)
    tokenizer.add_task_tokens(["t"])
    for max_tokens in (8, 12, 64):
        tokens = task.inputs.tokenise(
            task.train.inputs, tokenizer, max_tokens=max_tokens, task=task_token
        )
        assert tokens.n_rows == 12
        assert tokens.slots is not None
        counts = np.add.reduceat(np.diff(tokens.slots.offsets), tokens.first_texts)
        slots = slots_of(task, task.train)
        assert slots is not None
        assert counts.tolist() == slots.tolist()
        if task_token:
            at = tokens.ids[tokens.offsets[:-1] + 1]
            assert (at == tokenizer.task_token_id("t")).all()


# -- labels -------------------------------------------------------------------------------------


def test_labels_of_rows_as_an_array() -> None:
    assert label_array([1.0, 0.0]).tolist() == [1.0, 0.0]
    assert label_array([(1.0, 0.0), (0.0, 0.0)]).tolist() == [[1.0, 0.0], [0.0, 0.0]]
    for labels in ([(1, 2), (0,)], [(1, 2), (0, 1)], [((), (), ()), (("a",), (0,), (1,))]):
        found = label_array(labels)
        assert found.dtype == object
        assert found.tolist() == labels
    assert len(label_array([])) == 0


@pytest.mark.parametrize("kind", SLOTTED)
def test_labels_fill_the_slots_of_their_rows(kind: str) -> None:
    task = toy_task(kind, train=12, dev=8)
    assert task.train.labels is not None
    groups = groups_of(task, task.train)
    slots = slots_of(task, task.train)
    assert groups is not None
    assert slots is not None
    assert np.bincount(groups).tolist() == slots.tolist()
    flat = task.kind.flat(task.train.labels, slots)
    assert len(flat) == len(groups)
    order = np.random.default_rng(0).permutation(12)
    taken = task.train.take(order)
    again = task.kind.flat(taken.labels, slots_of(task, taken))  # type: ignore[arg-type]
    parts = np.split(flat, np.cumsum(slots)[:-1])
    np.testing.assert_array_equal(again, np.concatenate([parts[i] for i in order]))
    truth = truth_of(task, taken)
    assert len(truth) == (len(groups) if kind == "tagging" else 12)


@pytest.mark.parametrize("kind", ["multilabel", *SLOTTED])
def test_other_labels_are_another_digest(kind: str) -> None:
    rows = toy_rows(kind, 16)
    other = [dict(row) for row in rows]
    label = TOYS[kind].label
    names = (label,) if isinstance(label, str) else label
    donor = next(i for i in range(1, 16) if str(rows[i][names[0]]) != str(rows[0][names[0]]))
    if kind == "multilabel":
        other[0]["labels"] = rows[donor]["labels"]
    elif kind == "tagging":
        tags = other[0]["tags"]
        assert isinstance(tags, list)
        other[0]["tags"] = ["O"] * len(tags)
    else:
        other[donor] |= {"answers": [], "answer_starts": []}
        other[0] |= {"answers": [], "answer_starts": []}
    one, changed = (toy_task(kind, train=r, dev=8) for r in (rows, other))
    assert one.train.digest != changed.train.digest
    assert one.digest != changed.digest
    assert one.digest == toy_task(kind, train=[dict(row) for row in rows], dev=8).digest
    np.testing.assert_array_equal(one.train.ids, changed.train.ids)


# -- splits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["multilabel", *SLOTTED])
def test_dev_and_shares_are_set_aside(kind: str) -> None:
    rows = toy_rows(kind, 120)
    task = toy_task(kind, train=rows, dev=None, rows=40, pool=["rest"])
    assert (len(task.dev), len(task.train)) == (12, 40)
    assert task.pool is not None
    assert len(task.pool) == 120 - 12 - 40
    assert task.pool.labels is None
    ids = [{row.tobytes() for row in split.ids} for split in (task.train, task.dev, task.pool)]
    assert not ids[0] & ids[1]
    assert not ids[0] & ids[2]
    assert not ids[1] & ids[2]
    parts = folds(task, 3)
    assert len(parts) == 40
    assert set(parts.tolist()) == {0, 1, 2}


def test_shares_keep_rare_labels_and_rows_without_an_answer() -> None:
    rare = [{"remark": f"t{i}", "labels": ["often"] + ["rare"] * (i % 20 == 0)} for i in range(200)]
    task = toy_task("multilabel", train=rare, dev=rare[:4], rows=40)
    assert task.train.labels is not None
    assert task.train.labels.sum(0).tolist() == [40, 2]
    rows = toy_rows("unanswerable", 200)
    task = toy_task("unanswerable", train=rows, dev=8, rows=50)
    assert task.train.labels is not None
    share = sum(not row["answers"] for row in rows) / 200
    without = sum(not texts for texts, _, _ in task.train.labels)
    assert abs(without - 50 * share) <= 1


def test_a_task_takes_the_rows_of_another_on_the_same_file() -> None:
    rows: list[dict[str, Any]] = [dict(row) for row in toy_rows("tagging", 60)]
    for i, row in enumerate(rows):
        row["label"] = "ab"[i % 2]
    rows.append({**rows[7], "label": "a"})  # the same words again: dev takes both or none
    tags = toy_task("tagging", train=rows, dev=None, rows=30, pool=["rest"])
    mood = toy_task(train=rows, dev=None, rows=30, pool=["rest"], columns=("tokens",), like=tags)
    for name in ("train", "dev", "pool"):
        one, other = getattr(tags, name), getattr(mood, name)
        assert one.places.tolist() == other.places.tolist(), name
        np.testing.assert_array_equal(one.ids, other.ids)
    assert shared_texts([tags, mood], pools=True, task_token=False) == {
        "shared": [[tags.name, mood.name]]
    }
    alone = toy_task(train=rows, dev=None, rows=30, pool=["rest"], columns=("tokens",))
    assert alone.train.places.tolist() != tags.train.places.tolist()
    assert shared_texts([tags, alone], pools=True, task_token=False) == {}


def test_no_direction_learns_what_the_other_is_asked() -> None:
    """Four sources share each target: dev of one direction must not grow by the other's train."""
    rows = [{"en": f"source {i}", "de": f"Ziel {i // 4}"} for i in range(40)]
    rows += [{"en": f"sole {i}", "de": f"einzeln {i}"} for i in range(40)]
    options: dict[str, Any] = {
        "kind": "translation",
        "metric": None,
        "train": rows,
        "dev": None,
        "test": None,
        "pool": [],
        "rows": None,
        "seed": 0,
    }
    there = load_task("en-de", columns=["en"], label="de", options={"language": "de"}, **options)
    back = load_task(
        "de-en", columns=["de"], label="en", options={"language": "en"}, like=there, **options
    )
    assert back.dev.places.tolist() == there.dev.places.tolist()
    assert set(back.train.places) < set(there.train.places)
    assert not set(back.dev.inputs["de"]) & set(back.train.inputs["de"])


# -- pools of others ----------------------------------------------------------------------------


def test_words_and_texts_lend_each_other_their_rows() -> None:
    tags, mood = toy_task("tagging", train=20), toy_task(train=20)
    passages = toy_task("span", train=20)
    pool = pool_of_others(tags, [tags, mood])
    assert pool.inputs["tokens"] == mood.train.inputs["text"]
    slots = slots_of(tags, pool)
    assert slots is not None
    assert slots.tolist() == [len(text.split()) for text in mood.train.inputs["text"]]
    back = pool_of_others(mood, [tags, mood])
    assert back.inputs["text"] == [" ".join(words) for words in tags.train.inputs["tokens"]]
    np.testing.assert_array_equal(back.ids, tags.train.ids)
    words = {"tokens": [text.split() for text in mood.train.inputs["text"]]}
    in_words = replace(pool, inputs=words, ids=tags.inputs.ids(words))
    joined = join_pools([pool, in_words], [], [])
    assert joined is not None
    assert len(joined) == len(pool)  # the same texts, in words or not
    every = pool_of_others(mood, [mood, passages])
    assert every.inputs["text"] == [
        *passages.train.inputs["question"],
        *passages.train.inputs["context"],
    ]


def test_words_borrow_no_text_of_thousands() -> None:
    tags, mood = toy_task("tagging", train=20), toy_task(train=20)
    long = {"text": ["a " * 1000, "a " * 1001, *mood.train.inputs["text"][2:]]}
    lender = replace(mood, train=replace(mood.train, inputs=long))
    pool = pool_of_others(tags, [tags, lender])
    assert pool.inputs["tokens"] == [long["text"][0].rstrip(), *long["text"][2:]]
    whole = replace(mood, train=replace(mood.train, inputs={"text": ["a " * 1001] * 20}))
    with pytest.raises(DataError, match="more than 1,000 words"):
        pool_of_others(tags, [tags, whole])


def test_passages_are_lent_to_passages_alone() -> None:
    passages, pairs = toy_task("span", train=20), toy_task("pair", train=20)
    others = toy_task("unanswerable", name="other", train=20)
    pool = pool_of_others(passages, [passages, pairs, others])
    assert pool.inputs == others.train.inputs
    for one, left in ((passages, pairs), (pairs, passages)):
        with pytest.raises(DataError, match="no other task that reads as many texts .2."):
            pool_of_others(one, [one, left])
