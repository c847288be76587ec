"""A task's rows: what is set aside, shared out, pooled, refused, and what its digest sees."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from potstill.core.errors import DataError
from potstill.tasks.batches import Mixing, UnitLengths, plan_epochs
from potstill.tasks.load import load_task
from potstill.tasks.pools import join_groups, join_pools, pool_of_others
from potstill.tasks.rowids import row_ids, sort_keys
from potstill.tasks.task import Split, Task, folds, rows_of_training
from tests.tiny import toy_task
from tests.toys import LIST_ROWS, toy_rows, write_rows

Rows = list[dict[str, object]]


def ids(split: Split | None) -> set[bytes]:
    return set() if split is None else {i.tobytes() for i in split.ids}


def labelled(split: Split) -> np.ndarray:
    assert split.labels is not None
    return split.labels


def grouped(split: Split) -> np.ndarray:
    assert split.groups is not None
    return split.groups


def numbers(n: int, start: int = 0, classes: Sequence[str] = ("bad", "good")) -> Rows:
    return [
        {"text": f"text {i}", "label": classes[i % len(classes)]} for i in range(start, start + n)
    ]


def labelled_by(label: str, train: Sequence[Mapping[str, object]], **keys: Any) -> Task:
    """A task on one column of rows of which many have no label there."""
    usual: dict[str, Any] = {
        "kind": "classification",
        "columns": ["text"],
        "options": {},
        "metric": None,
    }
    usual |= {"dev": None, "test": None, "pool": [], "rows": None, "seed": 0}
    return load_task(label, label=label, train=train, skip_bad_rows=100, **{**usual, **keys})


# -- dev, rows, pools ---------------------------------------------------------------------------


def test_dev_is_a_stratified_tenth_that_shares_nothing() -> None:
    rows = [{"text": f"t{i}", "label": "rare" if i % 5 == 0 else "often"} for i in range(200)]
    task = toy_task(train=rows, dev=None)
    assert len(task.dev) == 20
    assert len(task.train) == 180
    assert not ids(task.dev) & ids(task.train)
    assert ids(task.dev) | ids(task.train) == ids(toy_task(train=rows, dev=rows).train)
    assert Counter(labelled(task.dev).tolist()) == {0.0: 16, 1.0: 4}
    assert task.test is None
    assert task.reported is task.dev


def test_dev_takes_equal_inputs_together() -> None:
    rows = [{"text": f"t{i % 40}", "label": "ab"[i % 2]} for i in range(200)]
    for seed in range(5):
        task = toy_task(train=rows, dev=None, seed=seed)
        assert not ids(task.dev) & ids(task.train)
        assert len(task.dev) + len(task.train) == 200


def test_the_seed_decides_dev() -> None:
    def dev(seed: int, rows: Rows) -> set[bytes]:
        return ids(toy_task(train=rows, dev=None, seed=seed).dev)

    rows = numbers(100)
    assert dev(0, rows) == dev(0, rows)
    assert dev(0, rows) != dev(1, rows)


@pytest.mark.parametrize("n", [7, 20, 33])
def test_rows_takes_a_stratified_share(n: int) -> None:
    rows = [{"text": f"t{i}", "label": "rare" if i % 5 == 0 else "often"} for i in range(100)]
    task = toy_task(train=rows, dev=rows[:4], rows=n, pool=["rest"])
    assert len(task.train) == n
    rare = Counter(labelled(task.train).tolist())[1.0]
    assert abs(rare - n / 5) <= 1
    assert task.rest is not None
    assert task.pool is not None
    assert task.rest.labels is None
    assert task.pool.labels is None
    assert not ids(task.train) & ids(task.rest)
    assert len(task.rest) == 100 - n
    assert ids(task.pool) == ids(task.rest) - ids(task.dev)
    again = toy_task(train=rows, dev=rows[:4], rows=n, seed=1)
    assert ids(again.train) != ids(task.train)
    assert again.pool is None  # `rest` is a pool only where it is asked for


def test_more_rows_than_there_are() -> None:
    task = toy_task(train=numbers(10), rows=10, pool=["rest"])
    assert len(task.train) == 10
    assert task.rest is None
    assert task.pool is None


def test_regression_shares_are_stratified_too() -> None:
    task = toy_task("regression", train=200, rows=50)
    whole = toy_task("regression", train=200)
    assert abs(labelled(task.train).mean() - labelled(whole.train).mean()) < 0.15


def test_pools_hold_nothing_of_train_dev_or_test() -> None:
    train, dev, test = numbers(20), numbers(20, 100), numbers(20, 200)
    fresh = numbers(20, 300)
    for row in fresh:
        del row["label"]
    extra = [*fresh, *train[:3], *dev[:3], *test[:3], *fresh[:5]]
    task = toy_task(train=train, dev=dev, test=test, pool=[extra, fresh[:2]])
    assert task.pool is not None
    texts = task.pool.inputs["text"]
    assert sorted(texts) == sorted(str(row["text"]) for row in fresh)
    assert task.pool.labels is None
    assert ids(task.pool) == ids(toy_task(train=train, dev=dev, pool=[fresh]).pool)


def test_a_pool_without_anything_new_is_none() -> None:
    assert toy_task(train=numbers(20), dev=numbers(4, 90), pool=[numbers(20)]).pool is None


def test_rest_and_files_make_one_pool(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "more.jsonl", numbers(5, 500))
    task = toy_task(train=numbers(40), rows=10, pool=["rest", path])
    assert task.pool is not None
    assert len(task.pool) == 30 + 5
    assert str(path) in task.pool.source


def test_a_given_dev_is_taken_as_it_is() -> None:
    task = toy_task(train=numbers(20), dev=numbers(5, 50), test=numbers(3, 70))
    assert len(task.train) == 20
    assert task.dev.inputs["text"] == [f"text {i}" for i in range(50, 55)]
    assert task.test is not None
    assert task.reported is task.test


def test_digest_is_blind_to_test_and_pool_but_not_to_what_is_trained_on() -> None:
    rows, dev = numbers(30), numbers(10, 50)
    wanted = toy_task(train=rows, dev=dev).digest
    assert toy_task(train=rows, dev=dev, test=numbers(5, 90)).digest == wanted
    assert toy_task(train=rows, dev=dev, pool=[numbers(5, 90)]).digest == wanted
    assert toy_task(train=rows, dev=dev, seed=7).digest == wanted
    assert toy_task(train=rows, dev=dev, name="other").digest == wanted
    other_label = [{**rows[0], "label": "good"}, *rows[1:]]
    other_text = [{**rows[0], "text": "text  0"}, *rows[1:]]
    third_class = [{**rows[0], "label": "c"}, *rows[1:]]
    changed = [
        toy_task(train=other_label, dev=dev),
        toy_task(train=other_text, dev=dev),
        toy_task(train=third_class, dev=dev),
        toy_task(train=rows[::-1], dev=dev),
        toy_task(train=rows[:-1], dev=dev),
        toy_task(train=rows, dev=dev[:-1]),
        toy_task(train=rows, dev=dev, rows=20),
        toy_task(train=rows, dev=None),
        toy_task(train=rows, dev=dev, options={"positive": "good"}),
        toy_task(train=rows, dev=dev, options={"classes": ["good", "bad"]}),
    ]
    digests = [task.digest for task in changed]
    assert len({wanted, *digests}) == len(digests) + 1


def test_digest_does_not_hang_on_the_file_format(tmp_path: Path) -> None:
    rows, dev = numbers(10), numbers(4, 50)
    path = write_rows(tmp_path / "a.jsonl", rows)
    moved = tmp_path / "b" / "c.jsonl"
    moved.parent.mkdir()
    shutil.copy(path, moved)
    digests = {toy_task(train=source, dev=dev).digest for source in (rows, path, moved)}
    assert len(digests) == 1


# -- other tasks' texts -------------------------------------------------------------------------


def test_pool_of_others_for_one_text() -> None:
    one = toy_task(train=numbers(4), dev=numbers(2, 20))
    pairs = toy_task("pair", train=20, dev=4)
    lists = toy_task("ranking", train=8, dev=4)
    pool = pool_of_others(one, [one, pairs, lists])
    wanted = [t for task in (pairs, lists) for texts in task.train.inputs.values() for t in texts]
    assert pool.inputs == {"text": wanted}
    assert pool.labels is None
    assert ids(pool) == {i.tobytes() for i in row_ids([wanted])}


def test_pool_of_others_for_pairs() -> None:
    pairs = toy_task("pair", train=20, dev=4)
    lists = toy_task("ranking", train=8, dev=4)
    pool = pool_of_others(pairs, [toy_task(train=20), pairs, lists])
    assert pool.inputs["first"] == lists.train.inputs["query"]
    assert pool.inputs["second"] == lists.train.inputs["candidate"]


def test_pool_of_others_that_cannot_be() -> None:
    pairs, lists = toy_task("pair", train=20, dev=4), toy_task("ranking", train=8, dev=4)
    with pytest.raises(DataError, match="no other task that reads as many texts .2."):
        pool_of_others(pairs, [pairs, toy_task(train=20)])
    with pytest.raises(DataError, match="ranking task"):
        pool_of_others(lists, [pairs, lists])


# -- lists --------------------------------------------------------------------------------------


def assert_lists_are_whole(task: Task, split: Split | None) -> None:
    assert split is not None
    groups = grouped(split)
    assert (np.diff(groups) >= 0).all()
    assert np.unique(groups).tolist() == list(range(int(groups.max()) + 1))
    queries = split.inputs["query"]
    assert len({(g, q) for g, q in zip(groups.tolist(), queries, strict=True)}) == groups.max() + 1
    assert (np.bincount(groups) == LIST_ROWS).all()


def test_lists_stay_whole_everywhere() -> None:
    rows = toy_rows("ranking", 80)
    mixed = [row for part in range(LIST_ROWS) for row in rows[part::LIST_ROWS]]
    task = toy_task("ranking", train=mixed, dev=None, rows=40, pool=["rest"])
    for split in (task.train, task.dev, task.rest, task.pool):
        assert_lists_are_whole(task, split)
    assert len(task.dev) == 8
    assert len(task.train) == 40
    parts = [set(s.inputs["query"]) for s in (task.train, task.dev, task.rest) if s is not None]
    assert sum(map(len, parts)) == 20
    assert len(set.union(*parts)) == 20
    labels = labelled(task.train).reshape(-1, LIST_ROWS)
    assert (labels.sum(1) == 1).all()


def test_labels_follow_their_rows_when_lists_are_gathered() -> None:
    rows = toy_rows("ranking", 12)
    mixed = [row for part in range(LIST_ROWS) for row in rows[part::LIST_ROWS]]
    task = toy_task("ranking", train=mixed, dev=4)
    known = {(row["query"], row["candidate"]): row["relevance"] for row in rows}
    inputs = zip(task.train.inputs["query"], task.train.inputs["candidate"], strict=True)
    assert labelled(task.train).tolist() == [known[pair] for pair in inputs]
    places = [mixed.index(r) for r in rows]
    assert task.train.places.tolist() == places


def test_a_list_that_dev_knows_leaves_the_pool_whole() -> None:
    rows = toy_rows("ranking", 40)
    dev = [rows[0], *toy_rows("ranking", 8, seed=5)]
    task = toy_task("ranking", train=rows[20:], dev=dev, pool=[rows])
    assert_lists_are_whole(task, task.pool)
    assert task.pool is not None
    assert len(task.pool) == 16
    assert rows[0]["query"] not in task.pool.inputs["query"]


def test_folds_follow_row_ids_and_keep_lists() -> None:
    task = toy_task(train=200)
    parts = folds(task, 3)
    assert (np.bincount(parts, minlength=3) > 40).all()
    order = np.arange(200)[::-1]
    np.testing.assert_array_equal(
        folds(replace(task, train=task.train.take(order)), 3), parts[::-1]
    )
    lists = toy_task("ranking", train=80)
    by_list = folds(lists, 3).reshape(-1, LIST_ROWS)
    assert (by_list == by_list[:, :1]).all()
    assert len(np.unique(by_list)) == 3


def test_folds_part_no_passage() -> None:
    rows = [
        dict(row, question=f"{row['question']} {i}")
        for row in toy_rows("span", 60)
        for i in range(3)
    ]
    task = toy_task("span", train=rows)
    by_passage: dict[str, set[int]] = {}
    for passage, fold in zip(task.train.inputs["context"], folds(task, 3), strict=True):
        by_passage.setdefault(str(passage), set()).add(int(fold))
    assert all(len(own) == 1 for own in by_passage.values())
    assert set.union(*by_passage.values()) == {0, 1, 2}


# -- splits -------------------------------------------------------------------------------------


def test_take_renumbers_lists_by_appearance() -> None:
    split = toy_task("ranking", train=16).train
    taken = split.take(np.array([12, 13, 4, 5]))
    assert grouped(taken).tolist() == [0, 0, 1, 1]
    assert taken.inputs["query"] == [split.inputs["query"][i] for i in (12, 13, 4, 5)]
    assert labelled(taken).tolist() == labelled(split)[[12, 13, 4, 5]].tolist()
    assert taken.places.tolist() == [12, 13, 4, 5]


def test_digest_of_a_split_follows_order_and_labels() -> None:
    split = toy_task(train=6).train
    digests = {
        split.digest,
        split.without_labels().digest,
        split.take(np.arange(6)[::-1]).digest,
        split.take(np.arange(5)).digest,
    }
    assert len(digests) == 4
    assert split.take(np.arange(6)).digest == split.digest


def test_keys_travel_with_their_rows() -> None:
    def keyed(n: int, start: int) -> Rows:
        return [{**row, "id": f"k{i}"} for i, row in enumerate(numbers(n, start), start)]

    task = toy_task(
        train=keyed(20, 0), dev=keyed(4, 50), pool=["rest", keyed(6, 80)], rows=10, key="id"
    )
    for split in (task.train, task.dev, task.rest, task.pool):
        assert split is not None
        assert split.keys == [f"k{t.split()[1]}" for t in split.inputs["text"]]


def test_keys_are_no_part_of_what_is_trained_on() -> None:
    """Ids that are numbered anew, or that only somebody's scores need, train nothing again."""
    plain = numbers(20, 0)
    one, other = ([{**row, "id": f"{name}{i}"} for i, row in enumerate(plain)] for name in "ab")
    without, a, b = (
        toy_task(train=rows, dev=rows[:4], key=key)
        for rows, key in ((plain, None), (one, "id"), (other, "id"))
    )
    assert without.digest == a.digest == b.digest
    keyed = [task.train.keyed_digest for task in (without, a, b)]
    assert keyed[0] == without.train.digest
    assert len(set(keyed)) == 3


@pytest.mark.parametrize("seed", range(4))
def test_a_text_that_stands_often_does_not_fill_dev(seed: int) -> None:
    often = [{"text": "yes", "label": "good"}] * 150 + [{"text": "no", "label": "bad"}] * 50
    pairs = [{"text": f"text {i // 2}", "label": ("good", "bad")[i % 4 // 2]} for i in range(200)]
    task = toy_task(train=often + pairs, dev=None, seed=seed)
    assert 34 <= len(task.dev) <= 46
    assert not set(task.dev.inputs["text"]) & set(task.train.inputs["text"])


@pytest.mark.parametrize("singles", [0, 5])
def test_few_texts_that_stand_often_still_leave_a_dev(singles: int) -> None:
    rows = [{"text": f"often {i % 9}", "label": ("good", "bad")[i % 2]} for i in range(270)]
    rows += [{"text": f"once {i}", "label": ("good", "bad")[i % 2]} for i in range(singles)]
    task = toy_task(train=rows, dev=None)
    assert 14 <= len(task.dev) <= 40
    assert not set(task.dev.inputs["text"]) & set(task.train.inputs["text"])


def test_dev_of_repeated_texts_keeps_size_and_classes() -> None:
    """A few texts stand hundreds of times, most of them once; a third of the texts are good."""
    rng = np.random.default_rng(0)
    drawn = np.minimum(rng.zipf(1.5, 4000), 3000)
    rows = [{"text": f"text {i}", "label": "good" if i % 3 == 0 else "bad"} for i in drawn]
    task = toy_task(train=rows, dev=None)
    assert 340 <= len(task.dev) <= 460
    assert task.dev.labels is not None
    share = np.mean([row["label"] == "good" for row in rows])
    assert task.dev.labels.mean() == pytest.approx(share, abs=0.12)


def test_a_pool_without_keys_among_others_has_none() -> None:
    rows = [{**row, "id": 1} for row in numbers(8)]
    keyed = toy_task(train=rows, dev=rows, key="id").train.without_labels()
    plain = toy_task(train=numbers(8, 20)).train.without_labels()
    joined = join_pools([keyed, plain], [], [])
    assert joined is not None
    assert joined.keys is None
    assert len(joined) == 16
    assert join_pools([], [], []) is None


def test_a_candidate_that_stands_twice_does_not_cost_its_list() -> None:
    lists = [("q1", "abca"), ("q2", "de")]
    rows = [{"query": q, "candidate": text} for q, texts in lists for text in texts]
    pool = toy_task("ranking", train=12, dev=8, pool=[rows, rows[:4]]).pool
    assert pool is not None
    assert pool.inputs["candidate"] == [*"abcade"]  # the second q1 repeats the first


# -- faulty rows --------------------------------------------------------------------------------


def refused(**arguments: Any) -> str:
    with pytest.raises(DataError) as found:
        toy_task(**arguments)
    return str(found.value)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_an_unknown_label_names_file_row_and_nearest(tmp_path: Path, split: str) -> None:
    rows = numbers(6, 50)
    rows[3]["label"] = "goods"
    path = write_rows(tmp_path / "held.jsonl", rows)
    sources: dict[str, Any] = {"dev": numbers(4, 90), split: path}
    message = refused(train=numbers(20), **sources)
    assert f"{path}, line 4" in message
    assert "'goods' is none of the classes" in message
    assert "nearest: 'good'" in message


@pytest.mark.parametrize(
    ("label", "reason"), [(float("nan"), "missing"), (None, "missing"), ("", "missing or empty")]
)
def test_a_missing_label_in_train_names_its_row(label: object, reason: str) -> None:
    rows = numbers(20)
    rows[7]["label"] = label
    message = refused(train=rows)
    assert "row 7" in message
    assert reason in message
    task = toy_task(train=rows, skip_bad_rows=1)
    assert len(task.train) == 19
    assert task.train.skipped == 1


@pytest.mark.parametrize("label", [["good"], {"good": 1}])
def test_a_label_that_is_no_single_class_names_its_row(label: object) -> None:
    rows = numbers(20)
    rows[7]["label"] = label
    message = refused(train=rows)
    assert "row 7: the label is a" in message
    assert "1 faulty row" in message
    task = toy_task(train=rows, skip_bad_rows=1)
    assert task.kind.class_names == ("bad", "good")
    assert len(task.train) == 19


@pytest.mark.parametrize("label", [float("nan"), "high", 7, None])
def test_a_faulty_number_in_train_names_its_row(label: object) -> None:
    rows = toy_rows("regression", 20)
    rows[7]["score"] = label
    assert "row 7" in refused(kind="regression", train=rows)
    task = toy_task("regression", train=rows, skip_bad_rows=1)
    clean = toy_task("regression", train=rows[:7] + rows[8:])
    assert task.kind == clean.kind  # the faulty number has not moved the mean


@pytest.mark.parametrize(
    ("text", "reason"), [(None, "empty"), ("  ", "empty text"), (3, "holds int 3, not text")]
)
def test_faulty_texts(text: object, reason: str) -> None:
    rows = numbers(20)
    rows[4]["text"] = text
    message = refused(train=rows)
    assert "row 4" in message
    assert reason in message
    assert "--skip-bad-rows 1" in message
    assert len(toy_task(train=rows, skip_bad_rows=1).train) == 19


def test_the_budget_of_faulty_rows_is_one_for_texts_and_labels() -> None:
    rows = numbers(20)
    rows[1]["text"] = None
    rows[2]["label"] = None
    rows[3]["label"] = float("nan")
    assert toy_task(train=rows, skip_bad_rows=3).train.skipped == 3
    assert "3 faulty row(s)" in refused(train=rows, skip_bad_rows=2)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_the_number_that_is_advised_works(tmp_path: Path, split: str) -> None:
    rows = numbers(20, 50)
    rows[1]["text"] = None
    rows[2]["label"] = None
    path = write_rows(tmp_path / "rows.jsonl", rows)
    with path.open("a", encoding="utf-8") as out:
        out.write('{"text": "cut')
    sources: dict[str, Any] = {"train": numbers(20), "dev": numbers(4, 90), split: path}
    for allowed in (1, 2):
        message = refused(**sources, skip_bad_rows=allowed)
        assert f"task 'classification', {split}: 3 faulty row(s)" in message
        for place in ("line 2: column 'text' is empty", "line 3: the label is", "line 21: not "):
            assert f"{path}, {place}" in message
        assert f"at most {allowed} faulty" in message
        assert "--skip-bad-rows 3" in message
    assert getattr(toy_task(**sources, skip_bad_rows=3), split).skipped == 3


def test_skipped_rows_of_pools_are_counted() -> None:
    train, pool, more = numbers(20), numbers(9, 50), numbers(9, 70)
    train[3]["text"] = pool[1]["text"] = more[2]["text"] = more[4]["text"] = None
    task = toy_task(train=train, rows=9, pool=["rest", pool, more], skip_bad_rows=2)
    assert task.pool is not None
    assert (len(task.pool), task.pool.skipped) == (10 + 8 + 7, 3)  # without the one of train
    joined = join_pools([task.pool, pool_of_others(task, [task, toy_task("pair")])], [], [])
    assert joined is not None
    assert joined.skipped == 3


def test_rows_of_a_pool_are_named_by_their_own_file(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one.jsonl", "two.parquet")]
    write_rows(files[0], numbers(3, 50))
    pq.write_table(pa.Table.from_pylist(numbers(2, 70)), files[1])
    task = toy_task(train=numbers(9), rows=6, pool=["rest", *files])
    assert task.pool is not None
    joined = join_pools([task.pool, pool_of_others(task, [task, toy_task("pair")])], [], [])
    assert joined is not None
    places = [joined.where(i) for i in range(len(joined))]
    assert {place[:27] for place in places[:3]} == {"<rows given in Python>, row"}
    assert places[3:8] == [
        *(f"{files[0]}, line {i}" for i in (1, 2, 3)),
        *(f"{files[1]}, row {i}" for i in (1, 2)),
    ]
    assert places[8] == "<texts of the other tasks>, row 1"


def test_many_faulty_rows_are_counted_not_listed() -> None:
    rows = numbers(20)
    for row in rows[:9]:
        row["text"] = ""
    message = refused(train=rows)
    assert "9 faulty row(s)" in message
    assert "(and 4 more)" in message


def test_a_list_with_a_faulty_row_goes_whole() -> None:
    rows = toy_rows("ranking", 20)
    rows[5]["relevance"] = -1
    task = toy_task("ranking", train=rows, skip_bad_rows=1)
    assert_lists_are_whole(task, task.train)
    assert len(task.train) == 16


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_an_empty_split(tmp_path: Path, split: str) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("", encoding="utf-8")
    sources: dict[str, Any] = {"train": numbers(20), "dev": numbers(4, 50), split: empty}
    message = refused(**sources)
    assert str(empty) in message
    sources[split] = []
    assert split in refused(**sources)


def test_one_class_only() -> None:
    message = refused(train=numbers(20, classes=["a"]))
    assert "one class only (a)" in message
    assert "column 'label'" in message


def test_one_value_only() -> None:
    rows = [{**row, "score": 2} for row in toy_rows("regression", 20)]
    assert "one value only" in refused(kind="regression", train=rows)


@pytest.mark.parametrize("shared", [0, 20, 100])
def test_tasks_with_labels_for_other_rows_of_a_file_have_a_dev_each(shared: int) -> None:
    rows = [{"text": f"t{i}", "x": "ab"[i % 2], "y": "cd"[i % 2]} for i in range(200)]
    for i, row in enumerate(rows):
        if i >= 100:
            row["x"] = ""
        if i < 100 - shared:
            row["y"] = ""

    one = labelled_by("x", rows)
    two = labelled_by("y", rows, dev_like=[one])
    assert len(one.dev) == 10
    assert len(two.dev) in (10, 11, 12, 20)
    assert len(two.train) + len(two.dev) == 100 + shared
    assert not ids(two.dev) & ids(one.train)
    assert not ids(one.dev) & ids(two.train)


@pytest.mark.parametrize("start", [50, 100])
def test_tasks_with_labels_for_other_rows_of_a_file_have_a_whole_share(start: int) -> None:
    rows: list[dict[str, object]] = [
        {
            "tokens": [f"t{i}", "x"],
            "tags": ["B-a" if i % 3 else "O", "O"] if i < 100 else None,
            "mood": "cd"[i % 2] if i >= start else None,
        }
        for i in range(200)
    ]

    own: dict[str, Any] = {"columns": ["tokens"], "rows": 40}
    one = labelled_by("tags", rows, kind="tagging", **own)
    two = labelled_by("mood", rows, like=one, **own)
    assert len(one.train) == len(two.train) == 40
    both = {i for i in one.train.places.tolist() if i > start}  # places count from 1
    assert both <= set(two.train.places.tolist())
    assert bool(both) == (start == 50)


def test_a_third_task_of_a_file_learns_no_dev_rows_of_the_others() -> None:
    rows = [
        {"text": f"t{i}", "x": "ab"[i % 2] if i < 100 else "", "y": "ab"[i % 2] if i >= 100 else "",
         "z": "ab"[i % 2]}
        for i in range(200)
    ]  # fmt: skip
    made: list[Task] = []
    for label in "xyz":
        made.append(labelled_by(label, rows, dev_like=made))
    for one, two in permutations(made, 2):
        assert not ids(one.dev) & ids(two.train)
    assert len(made[2].dev) == 20


@pytest.mark.parametrize("split", ["train", "test", "pool"])
def test_a_list_without_one_of_its_candidates_goes_whole(split: str) -> None:
    rows = toy_rows("ranking", 20, seed=7)
    rows[5] = {**rows[5], "candidate": "  "}
    sources: dict[str, Any] = {split: [rows] if split == "pool" else rows}
    task = toy_task("ranking", skip_bad_rows=1, **sources)
    found = getattr(task, split)
    assert rows[5]["query"] not in found.inputs["query"]
    assert len(found) == 16
    assert split == "pool" or found.skipped == 4


def test_rows_of_a_list_that_is_left_out_are_counted() -> None:
    rows = toy_rows("ranking", 40)
    rows[2]["relevance"] = None
    query = rows[2]["query"]
    n = sum(row["query"] == query for row in rows)
    task = toy_task("ranking", train=rows, skip_bad_rows=1)
    assert task.train.skipped == n > 1
    assert len(task.train) == len(rows) - n


def test_too_few_rows_for_a_dev() -> None:
    rows = [{"text": "same", "label": x} for x in "abab"]
    assert "too few to set a dev split aside" in refused(train=rows, dev=None)


def test_a_missing_column_and_file(tmp_path: Path) -> None:
    rows = [{"txt": "a", "label": "b"}]
    assert "'text'" in refused(train=rows)
    assert "nowhere.jsonl" in refused(train=tmp_path / "nowhere.jsonl")


def test_metric_is_the_kinds_first_or_the_one_that_is_named() -> None:
    task = toy_task()
    assert task.metric.name == "accuracy"
    named = load_task(
        "t",
        kind="classification",
        columns=["text"],
        label="label",
        options={},
        metric="matthews",
        train=numbers(9),
        dev=numbers(4),
        test=None,
        pool=[],
        rows=None,
        seed=0,
    )
    assert named.metric.name == "matthews"
    assert sort_keys(named.train.ids).shape == (9,)


@pytest.mark.parametrize("mixing", ["proportional", "equal", "sqrt", "annealed", 3.0])
def test_rows_of_a_training_are_those_of_its_plan(mixing: Mixing) -> None:
    """Lists are few, and each has many rows: what an epoch holds hangs on how tasks are mixed."""
    tasks = [
        toy_task(train=40, pool=[toy_rows("classification", 100, seed=3)]),
        toy_task("ranking", train=60),
    ]
    for pools in (False, True):
        units = {}
        for task in tasks:
            splits = [task.train, *([task.pool] if pools and task.pool is not None else [])]
            groups = join_groups(splits)
            units[task.name] = UnitLengths.of(np.ones(sum(map(len, splits)), np.int64), groups)
        plan = plan_epochs(units, batch=8, mixing=mixing, n_epochs=3, seed=0)
        planned = sum(int(units[b.task].rows[b.units].sum()) for epoch in plan for b in epoch)
        counted = rows_of_training(tasks, pools=pools, task_token=False, mixing=mixing, n_epochs=3)
        assert counted == pytest.approx(planned, rel=0.03)
