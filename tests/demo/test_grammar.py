"""The demo's grammar: same seed, same rows; splits apart; clean tests; not solved by counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from potstill.demo.draw import Draw, sentences
from potstill.demo.grammar import NOISE, TASKS, DemoRow, Split, make_demo, make_rows
from potstill.demo.messages import STARS_RANGE

SPLITS: tuple[Split, ...] = ("train", "dev", "test", "pool")
CLASSIFICATION = [name for name, task in TASKS.items() if task.kind == "classification"]


def _whole(task: str, split: Split, seed: int) -> list[DemoRow]:
    return make_rows(task, split, TASKS[task].sizes[split], seed)


def test_tasks_cover_the_kinds() -> None:
    kinds = Counter(task.kind for task in TASKS.values())
    assert kinds == {"classification": 3, "regression": 1, "ranking": 1}
    assert sum(len(TASKS[name].inputs) == 2 for name in CLASSIFICATION) == 1
    assert max(len(TASKS[name].labels) for name in CLASSIFICATION) == 4
    for task in TASKS.values():
        assert len(set(task.labels)) == len(task.labels)
        assert task.label not in task.inputs


@pytest.mark.parametrize("task", TASKS)
def test_same_arguments_give_same_rows(task: str) -> None:
    assert make_rows(task, "train", 20, 3) == make_rows(task, "train", 20, 3)
    assert make_rows(task, "train", 20, 3) != make_rows(task, "train", 20, 4)


def test_rows_are_those_of_the_first_release() -> None:
    # A changed word list or template changes published demo numbers: say so in the changelog.
    row = make_rows("verdict", "test", 1, 0)[0]
    assert row.texts == (
        "We had thought the quince vodka would be thoroughly first-rate. What we got was "
        "memorable.",
    )


@pytest.mark.parametrize("task", TASKS)
def test_splits_share_no_text_under_any_seeds(task: str) -> None:
    texts = {
        split: {row.texts[0] for seed in (0, 1) for row in _whole(task, split, seed)}
        for split in SPLITS
    }
    assert sum(map(len, texts.values())) == len(set().union(*texts.values()))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), task=st.sampled_from(sorted(TASKS)))
def test_no_row_twice_in_a_split(seed: int, task: str) -> None:
    rows = make_rows(task, "pool", 60, seed)
    assert len({row.texts for row in rows}) == len(rows)
    assert len({row.query for row in rows}) == 60


@pytest.mark.parametrize("task", CLASSIFICATION)
@pytest.mark.parametrize("split", SPLITS)
def test_classes_are_balanced(task: str, split: Split) -> None:
    counts = Counter(row.clean_label for row in _whole(task, split, 0))
    assert set(counts) == set(TASKS[task].labels)
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("task", TASKS)
def test_noise_is_in_train_alone_and_as_stated(task: str) -> None:
    for split in SPLITS:
        rows = _whole(task, split, 1)
        wrong = {row.query for row in rows if row.label != row.clean_label}
        share = NOISE if split == "train" else 0.0
        assert len(wrong) == round(share * TASKS[task].sizes[split])
    if TASKS[task].labels:
        assert {row.label for row in _whole(task, "train", 1)} == set(TASKS[task].labels)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(3))
def test_texts_are_short_whole_sentences(task: str, seed: int) -> None:
    for split in SPLITS:
        for row in _whole(task, split, seed):
            assert len(row.texts) == len(TASKS[task].inputs)
            assert 5 <= sum(len(text.split()) for text in row.texts) <= 36
            for text in row.texts:
                assert text == text.strip()
                assert "  " not in text
                assert not set("{}|_") & set(text)
                assert text[0].isupper()
                assert text[-1] in ".?!"


def test_stars_stay_within_their_range_and_use_it() -> None:
    low, high = STARS_RANGE
    values = [row.label for split in SPLITS for row in _whole("stars", split, 0)]
    assert all(isinstance(value, float) and low <= value <= high for value in values)
    assert len(set(values)) > 15


@pytest.mark.parametrize("split", SPLITS)
def test_each_query_has_four_to_six_candidates_and_one_is_relevant(split: Split) -> None:
    queries: dict[int, list[DemoRow]] = defaultdict(list)
    rows = _whole("answer", split, 0)
    for row in rows:
        queries[row.query].append(row)
    assert len(queries) == TASKS["answer"].sizes[split]
    assert [row.query for row in rows] == sorted(row.query for row in rows)
    places = Counter[int]()
    for group in queries.values():
        assert 4 <= len(group) <= 6
        assert len({row.texts[0] for row in group}) == 1
        assert sum(float(row.label) for row in group) == 1.0
        places[[row.clean_label for row in group].index(1.0)] += 1
    assert max(places.values()) < 0.4 * len(queries)


@pytest.mark.parametrize("task", CLASSIFICATION)
@pytest.mark.parametrize("seed", range(3))
def test_word_counts_do_not_solve_a_task(task: str, seed: int) -> None:
    train, test = _whole(task, "train", seed), _whole(task, "test", seed)
    for model in (
        make_pipeline(CountVectorizer(), LogisticRegression(max_iter=2000)),
        make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=2000, C=10.0)
        ),
    ):
        model.fit([" ".join(row.texts) for row in train], [row.label for row in train])
        score = model.score([" ".join(row.texts) for row in test], [row.label for row in test])
        assert score <= 0.85


def test_demo_writes_files_that_its_run_file_names(tmp_path: Path) -> None:
    run_file = make_demo(tmp_path / "demo", seed=5)
    assert run_file.name == "demo.yaml"
    run = YAML(typ="safe").load(run_file.read_text(encoding="utf-8"))
    assert run["base"] == "minilm"
    assert run["seed"] == 5
    assert list(run["tasks"]) == list(TASKS)
    for name, section in run["tasks"].items():
        task = TASKS[name]
        texts = section["text"] if isinstance(section["text"], list) else [section["text"]]
        assert (*([section["query"]] if "query" in section else []), *texts) == task.inputs
        for split in SPLITS:
            table = pq.read_table(run_file.parent / section[split])
            rows = make_rows(name, split, task.sizes[split], 5)
            label = [] if split == "pool" else [section["label"]]
            assert table.column_names == [*task.inputs, *label]
            assert table.num_rows == len(rows)
            if label:
                assert table[section["label"]].to_pylist() == [row.label for row in rows]


def test_demo_is_the_same_to_the_byte(tmp_path: Path) -> None:
    one, two = (make_demo(tmp_path / name, seed=0).parent for name in ("one", "two"))
    for path in sorted(one.iterdir()):
        assert path.read_bytes() == (two / path.name).read_bytes()


@pytest.mark.parametrize(("task", "split"), [("nothing", "train"), ("stars", "validation")])
def test_unknown_task_or_split_is_refused(task: str, split: Split) -> None:
    with pytest.raises(ValueError, match="no such task or split"):
        make_rows(task, split, 1, 0)


def test_sentences_start_with_capitals_and_mind_the_article() -> None:
    assert sentences("a apple.  it is a egg? yes") == "An apple. It is an egg? Yes"


@given(seed=st.text(max_size=5), n=st.integers(0, 8))
def test_a_sample_has_no_place_twice(seed: str, n: int) -> None:
    chosen = Draw(seed).sample(range(8), n)
    assert len(set(chosen)) == n
    assert sorted(Draw(seed).shuffled(range(8))) == list(range(8))
