from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from potstill.config import (
    ClassificationTask,
    RankingTask,
    RegressionTask,
    RunFile,
    load_run_file,
    scaffold,
)
from potstill.config.guess import Guess, guess_task, round_outward
from potstill.config.guess_files import find_files, group_files
from potstill.core.errors import DataError, UsageError

Head = dict[str, list[object]]
Init = Callable[[dict[str, Head]], tuple[str, RunFile]]

SENTENCES: list[object] = [f"sentence number {i}" for i in range(8)]
PAIR: Head = {
    "idx": list(range(8)),
    "sentence1": list(SENTENCES),
    "sentence2": list(reversed(SENTENCES)),
    "label": ["yes", "no"] * 4,
}
ONE: Head = {"sentence": list(SENTENCES), "label": ["yes", "no"] * 4}


@pytest.fixture
def init(tmp_path: Path) -> Init:
    def init(files: dict[str, Head]) -> tuple[str, RunFile]:
        for name in files:
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

        def read_head(path: Path) -> Head:
            return files[path.relative_to(tmp_path / "data").as_posix()]

        text = scaffold([tmp_path / "data"], read_head=read_head, folder=tmp_path).text
        (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
        return text, load_run_file(tmp_path / "run.yaml")

    return init


def test_a_folder_a_task(init: Init, tmp_path: Path) -> None:
    text, run = init(
        {
            "rte/train.parquet": PAIR,
            "rte/dev.parquet": PAIR,
            "sst2/train.csv": ONE,
            "sst2/validation.csv": ONE,
            "sst2/test.csv": ONE,
            "rte/README.md": {},
        }
    )
    rte, sst2 = run.tasks["rte"], run.tasks["sst2"]
    assert isinstance(rte, ClassificationTask)
    assert rte.text == ("sentence1", "sentence2")
    assert rte.train == tmp_path / "data/rte/train.parquet"
    assert (rte.dev, rte.test) == (tmp_path / "data/rte/dev.parquet", None)
    assert isinstance(sst2, ClassificationTask)
    assert sst2.text == "sentence"
    assert (sst2.dev, sst2.test) == (
        tmp_path / "data/sst2/validation.csv",
        tmp_path / "data/sst2/test.csv",
    )
    assert run.name == "data"
    assert "# 2 classes seen: no, yes" in text
    assert "train: data/rte/train.parquet" in text
    assert len(text.splitlines()) < 40


def test_a_prefix_a_task(init: Init, tmp_path: Path) -> None:
    _, run = init(
        {
            "rte_train.jsonl.gz": PAIR,
            "rte_dev.jsonl.gz": PAIR,
            "train-cola.tsv": ONE,
            "val-cola.tsv": ONE,
            "topics.csv": ONE,
            "topics-pool.csv": {"sentence": list(SENTENCES)},
        }
    )
    assert set(run.tasks) == {"rte", "cola", "topics"}
    assert run.tasks["cola"].dev == tmp_path / "data/val-cola.tsv"
    assert run.tasks["topics"].train == tmp_path / "data/topics.csv"
    assert run.tasks["topics"].dev is None
    assert run.tasks["topics"].pool == (tmp_path / "data/topics-pool.csv",)


def test_an_integer_beyond_floats_is_no_amount(init: Init) -> None:
    _, run = init({"huge/train.jsonl": {"text": list(SENTENCES), "label": [10**400, 1] * 4}})
    assert isinstance(run.tasks["huge"], ClassificationTask)


def test_hub_shards_and_a_second_dev(init: Init) -> None:
    text, run = init(
        {
            "mnli/train-00000-of-00002.parquet": PAIR,
            "mnli/train-00001-of-00002.parquet": PAIR,
            "mnli/dev.parquet": PAIR,
            "mnli/dev_mismatched.parquet": PAIR,
        }
    )
    assert list(run.tasks) == ["mnli"]
    assert "not used: dev_mismatched.parquet; dev is dev.parquet" in text
    assert "not used: train-00001-of-00002.parquet" in text


def test_kinds(init: Init) -> None:
    queries: list[object] = ["q one", "q one", "q two", "q two"]
    text, run = init(
        {
            "stsb/train.csv": {**PAIR, "label": [0.2, 4.8, 3.0, 1.5, 2, 2, 2, 2]},
            "scored/train.csv": {"text": list(SENTENCES), "score": ["0.2", "0.9"] * 4},
            "stars/train.csv": {"review": list(SENTENCES), "stars": [1, 5] * 4},
            "msmarco/train.csv": {
                "query": queries,
                "passage": SENTENCES[:4],
                "label": [0, 1, 0, 1],
            },
            "squad/train.csv": {
                "question": queries,
                "sentence": SENTENCES[:4],
                "relevance": [0, 1, 0, 1],
            },
            "boolq/train.csv": {
                "question": SENTENCES[:4],
                "passage": SENTENCES[4:],
                "label": [True, False, True, True],
            },
        }
    )
    stsb, scored = run.tasks["stsb"], run.tasks["scored"]
    assert isinstance(stsb, RegressionTask)
    assert stsb.range == (0.0, 5.0)
    assert "labels from 0.2 to 4.8 seen" in text
    assert isinstance(scored, RegressionTask)
    assert (scored.range, scored.label, scored.text) == ((0.0, 1.0), "score", "text")
    assert isinstance(run.tasks["stars"], ClassificationTask)
    msmarco, squad = run.tasks["msmarco"], run.tasks["squad"]
    assert isinstance(msmarco, RankingTask)
    assert msmarco.inputs == ("query", "passage")
    assert isinstance(squad, RankingTask)
    assert (squad.inputs, squad.label) == (("question", "sentence"), "relevance")
    boolq = run.tasks["boolq"]
    assert isinstance(boolq, ClassificationTask)
    assert boolq.text == ("question", "passage")


def test_unknown_column_names(init: Init) -> None:
    text, run = init(
        {
            "t/train.csv": {
                "guid": [f"id-{i}" for i in range(12)],
                "headline": [f"short {i}" for i in range(12)],
                "story": [f"a much longer story, number {i}, of a day" for i in range(12)],
                "desk": ["news", "sport", "arts"] * 4,
            }
        }
    )
    task = run.tasks["t"]
    assert isinstance(task, ClassificationTask)
    assert (task.text, task.label) == ("story", "desk")
    assert "longest text of: headline, story" in text


def test_a_text_column_that_is_not_used_is_said(init: Init) -> None:
    text, run = init(
        {
            "t/train.csv": {
                "message": [f"where is parcel {i}" for i in range(12)],
                "other": [f"my order {i} is late" for i in range(12)],
                "label": ["yes", "no"] * 6,
            }
        }
    )
    task = run.tasks["t"]
    assert isinstance(task, ClassificationTask)
    assert task.text == "message"
    assert "not used: other" in text


def test_what_is_left_out_is_said(init: Init) -> None:
    text, run = init(
        {
            "ok/train.csv": ONE,
            "ok/test.csv": {"sentence": list(SENTENCES), "label": [None] * 8},
            "qa/train.csv": {"question": ["a"], "context": ["b"], "answers": [["c"]]},
            "texts/train.csv": {"text": list(SENTENCES)},
            "codes/train.csv": {"code": [1, 2], "label": ["a", "b"]},
            "table/train.csv": {"sex": ["m", "f"] * 8, "label": ["a", "b"] * 8},
            "names/train.csv": {
                "text": [str(i) + "x" for i in range(200)],
                "label": [f"name {i}" for i in range(200)],
            },
            "empty/train.csv": {"text": [], "label": []},
            "alone/dev.csv": ONE,
        }
    )
    assert list(run.tasks) == ["ok"]
    assert run.tasks["ok"].test is None
    for part in (
        "not used as test: test.csv lacks label",
        "qa/train.csv: no column 'answer_starts'",
        "texts/train.csv: no column with labels among: text",
        "codes/train.csv: no column with text among: code, label",
        "table/train.csv: no column with text",
        "names/train.csv: column 'label' has 200 different values",
        "empty/train.csv: no rows",
        "alone/dev.csv: no train file beside it",
    ):
        assert part in text, text


def test_umlauts_leave_their_letters(init: Init) -> None:
    assert list(init({"ümlaut daten größe.csv": ONE})[1].tasks) == ["umlaut-daten-grosse"]


def test_names_and_values_that_yaml_would_misread(init: Init, tmp_path: Path) -> None:
    head: Head = {"a: b #c\x85\x7f\u2028\U0001f600": list(SENTENCES), "label": ["x\ny", "null"] * 4}
    _, run = init({"no/train.csv": ONE, "1 2/tr ü/train.csv": head, "x/no/train.csv": ONE})
    assert set(run.tasks) == {"no", "tr-u", "no-2"}
    task = run.tasks["tr-u"]
    assert isinstance(task, ClassificationTask)
    assert task.text == "a: b #c\x85\x7f\u2028\U0001f600"
    assert task.train == tmp_path / "data/1 2/tr ü/train.csv"


def test_files_elsewhere_keep_their_path(tmp_path: Path) -> None:
    far = tmp_path / "a/b/c/train.csv"
    far.parent.mkdir(parents=True)
    far.touch()
    for folder, written in ((tmp_path / "a/x", "../b/c/train.csv"), (tmp_path / "1/2/3", str(far))):
        folder.mkdir(parents=True)
        text = scaffold([far], read_head=lambda _: ONE, folder=folder).text
        assert f"train: {written}\n" in text
        (folder / "run.yaml").write_text(text)
        run = load_run_file(folder / "run.yaml")
        assert run.tasks["c"].train == far
        assert run.name == "c"


def test_no_task_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data file there"):
        scaffold([tmp_path], read_head=lambda _: ONE)
    (tmp_path / "train.csv").touch()

    def broken(path: Path) -> Head:
        raise DataError(str(path), got="a torn file", wanted="rows", todo="fetch it again")

    with pytest.raises(UsageError, match="a torn file"):
        scaffold([tmp_path], read_head=broken)


@pytest.mark.parametrize("asked", ["../data", "../.data", ".", ".."])
def test_what_is_hidden_is_looked_for_below_the_given_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in ("a.csv", "deep/down/below/b.csv", ".c.csv", ".d/e/f/g.csv", ".h/i.csv"):
        path = Path(asked) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [path.relative_to(asked).as_posix() for path in find_files([Path(asked)])]
    assert found == ["a.csv", "deep/down/below/b.csv"]


def test_what_runs_have_written_is_no_data(tmp_path: Path) -> None:
    written = ("runs/a-1/log.jsonl", "runs/a-1/b.csv", "runs/stages/x/y.bin")
    for name in ("a.csv", "l/log.jsonl", *written):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert find_files([tmp_path]) == [tmp_path / "a.csv", tmp_path / "l" / "log.jsonl"]


def test_groups() -> None:
    groups, left = group_files([Path("d/test_2016.csv"), Path("d/train.csv"), Path("e/val.csv")])
    assert [(g.name, list(g.files)) for g in groups] == [("d", ["test", "train"])]
    assert left == ["e/val.csv: no train file beside it"]


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0.2, 4.8, (0, 5)),
        (1, 5, (1, 5)),
        (0.3, 0.8, (0, 1)),
        (-0.4, 0.9, (-1, 1)),
        (12, 987, (0, 1000)),
        (3, 3, (3, 4)),
    ],
)
def test_round_outward(low: float, high: float, wanted: tuple[float, float]) -> None:
    assert round_outward(low, high) == wanted


def test_floats_of_0_and_1_are_classes() -> None:
    guess = guess_task({"train": {**ONE, "label": [0.0, 1.0] * 4}})
    assert not isinstance(guess, str)
    assert guess.kind == "classification"


def test_lists_say_their_kind(init: Init) -> None:
    n = range(12)
    films: list[object] = [f"a film of {i} hours" for i in n]
    classes: list[object] = ["ab"[i % 2] for i in n]
    text, run = init(
        {
            "ner/train.jsonl": {
                "tokens": [["see", f"Rome{i}"] for i in n],
                "tags": [["O", "B-loc"] for _ in n],
                "intent": classes,
            },
            "qa/train.jsonl": {
                "question": ["who?" for _ in n],
                "context": [f"Ada {i}" for i in n],
                "answers": [["Ada"] for _ in n],
                "answer_starts": [[0] for _ in n],
            },
            "squad/train.jsonl": {
                "id": [str(i) for i in n],
                "question": ["who?" for _ in n],
                "context": [f"Ada {i}" for i in n],
                "answers": [{"text": ["Ada"], "answer_start": [0]} for _ in n],
            },
            "genres/train.jsonl": {
                "text": films,
                "labels": [["long", "new"][: i % 3] for i in n],
            },
            "counts/train.jsonl": {
                "text": films,
                "words": [5 for _ in n],
                "tags": ["drama" for _ in n],
                "label": classes,
            },
        }
    )
    assert {name: task.kind for name, task in run.tasks.items()} == {
        "ner": "tagging",
        "qa": "span",
        "squad": "span",
        "genres": "multilabel",
        "counts": "classification",
    }
    assert "{kind: classification, text: tokens, label: intent}" in text
    assert "'answers' holds the answers and their places, as in SQuAD" in text


def test_columns_of_languages_are_directions(init: Init) -> None:
    rows: Head = {
        "de": [f"Satz {i}" for i in range(8)],
        "en": list(SENTENCES),
        "fr": [f"phrase {i}" for i in range(8)],
    }
    text, run = init({"captions/train.jsonl": rows, "captions/dev.jsonl": rows})
    assert list(run.tasks) == ["en-de", "en-fr"]
    assert run.tasks["en-de"].inputs == ("en",)
    assert run.tasks["en-de"].labels == ("de",)
    assert run.tasks["en-de"].space_options["language"] == "de"
    assert run.base == "marian"
    assert "every pair may be a task" in text


def test_a_source_and_a_target_are_generation(init: Init) -> None:
    rows: Head = {
        "document": list(SENTENCES),
        "summary": [f"short {i}" for i in range(8)],
        "id": list(range(8)),
    }
    _, run = init({"news/train.jsonl": rows})
    assert run.tasks["news"].kind == "generation"
    assert run.tasks["news"].labels == ("summary",)


def test_several_files_of_one_form_have_tokens_of_their_own(init: Init) -> None:
    texts = [f"short {i}" for i in range(8)]
    rows: Head = {"source": list(SENTENCES), "target": list(texts)}
    _, run = init({"news/train.jsonl": rows, "chat/train.jsonl": rows, "mail/train.jsonl": rows})
    tokens = {name: task.space_options["token"] for name, task in run.tasks.items()}
    assert len(set(tokens.values())) == 3
    assert set(tokens.values()) <= {"target", *run.tasks}


def test_a_column_of_names_is_no_language(init: Init) -> None:
    rows: Head = {
        "key_id": [f"row {i}" for i in range(8)],
        "en": list(SENTENCES),
        "de": [f"ein Satz {i}" for i in range(8)],
    }
    _, run = init({"captions/train.jsonl": rows})
    assert list(run.tasks) == ["en-de"]


def test_two_families_are_two_run_files(init: Init) -> None:
    rows: Head = {"en": list(SENTENCES), "de": [f"Satz {i}" for i in range(8)]}
    text, run = init({"moods/train.csv": ONE, "captions/train.csv": rows})
    assert list(run.tasks) == ["moods"]
    assert "run file of their own" in text


def test_languages_with_labels_are_no_translation(init: Init) -> None:
    rows: Head = {"en": list(SENTENCES), "de": list(SENTENCES), "label": ["yes", "no"] * 4}
    rows["label"] = ["a longer yes", "a longer no"] * 4
    _, run = init({"same/train.csv": rows})
    assert run.tasks["same"].kind == "classification"


def test_tests_without_labels_are_not_used(init: Init) -> None:
    """As on the Hugging Face hub: their labels are all -1."""
    stars: Head = {"text": list(SENTENCES), "score": [i / 2 for i in range(8)]}
    hidden: Head = {"text": list(SENTENCES), "score": [-1.0] * 8}
    text, run = init(
        {
            "stsb/train.parquet": stars,
            "stsb/validation.parquet": stars,
            "stsb/test.parquet": hidden,
            "sst2/train.csv": {"sentence": list(SENTENCES), "label": [0, 1] * 4},
            "sst2/test.csv": {"sentence": list(SENTENCES), "label": ["-1"] * 8},
            "signed/train.csv": {"sentence": list(SENTENCES), "label": [-1, 1] * 4},
            "signed/test.csv": {"sentence": list(SENTENCES), "label": [-1] * 8},
        }
    )
    stsb = run.tasks["stsb"]
    assert isinstance(stsb, RegressionTask)
    assert (stsb.test, stsb.range) == (None, (0.0, 4.0))
    assert stsb.dev is not None
    assert run.tasks["sst2"].test is None
    assert "2 classes seen: 0, 1" in text
    assert "not used as test: every label of test.csv is -1, no label" in text
    assert run.tasks["signed"].test is not None


@pytest.mark.parametrize(("name", "labels"), [("bad", ["good", "bad"]), ("3.5", [1.0, 2.5])])
def test_a_file_that_begins_with_a_row_is_suspected(name: str, labels: list[object]) -> None:
    rows: dict[str, list[object]] = {
        "it was a long film": [f"it rains {i}" for i in range(40)],
        name: labels * 20,
    }
    found = guess_task({"train": rows})
    assert isinstance(found, Guess)
    assert any("does the file begin with the columns' names" in note for note in found.notes)
    rows["label"] = rows.pop(name)
    found = guess_task({"train": rows})
    assert isinstance(found, Guess)
    assert not any("does the file begin" in note for note in found.notes)


def test_a_second_label_of_a_text_is_named() -> None:
    rows: dict[str, list[object]] = {
        "id": list(range(40)),
        "text": [f"it rains {i}" for i in range(40)],
        "intent": ["ask", "tell"] * 20,
        "urgent": [True, False] * 20,
    }
    found = guess_task({"train": rows})
    assert isinstance(found, Guess)
    assert found.keys["label"] == "intent"
    (note,) = [note for note in found.notes if "second task" in note]
    assert note.startswith("'urgent' is not used")
    assert "{kind: classification, text: text, label: urgent}" in note


def test_class_ids_are_no_amounts() -> None:
    rows: Head = {
        "utterance": [f"say number {i} please" for i in range(400)],
        "intent": [i * 5 % 77 for i in range(400)],
    }
    guess = guess_task({"train": rows})
    assert not isinstance(guess, str)
    assert guess.kind == "classification"
    assert "77 whole numbers seen, taken for classes" in guess.notes[-1]
    rows["score"] = rows.pop("intent")
    amount = guess_task({"train": rows})
    assert not isinstance(amount, str)
    assert amount.kind == "regression"


def test_lists_written_as_text_are_refused_by_name() -> None:
    rows: Head = {"text": list(SENTENCES), "labels": ["['a', 'b']", "['a']"] * 4}
    assert "column 'labels' holds lists written as text" in str(guess_task({"train": rows}))


@pytest.mark.parametrize(
    ("rows", "column"),
    [
        ({"words": ['["in", "Paris"]'] * 8, "tags": ['["O", "B-city"]'] * 8}, "words"),
        (
            {
                "question": ["where?"] * 8,
                "context": ["in Paris"] * 8,
                "answers": ["{'text': ['Paris'], 'answer_start': [3]}"] * 8,
            },
            "answers",
        ),
    ],
)
def test_lists_of_csv_files_are_no_words_and_no_answers(rows: Head, column: str) -> None:
    assert f"column '{column}' holds lists written as text" in str(guess_task({"train": rows}))


def test_a_second_task_is_named_whatever_stands_beside_it() -> None:
    rows: Head = {
        "words": [["in", "Paris"]] * 8,
        "tags": [["O", "B-city"]] * 8,
        "labels": [["a", "b"]] * 8,
        "intent": ["ask", "say"] * 4,
    }
    guess = guess_task({"train": rows})
    assert not isinstance(guess, str)
    assert "'intent' is not used" in " ".join(guess.notes)


def test_instructions_and_their_mostly_empty_inputs(init: Init) -> None:
    rows: Head = {
        "instruction": [f"say {s}" for s in SENTENCES],
        "input": ["", "", "", "", "", "", "", "more"],
        "output": [f"answer {s}" for s in SENTENCES],
    }
    text, run = init({"alpaca.jsonl": rows})
    task = run.record()["tasks"]["alpaca"]
    assert (task["source"], task["target"]) == ("instruction", "output")
    assert "# not used: input" in text


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").touch()
    with pytest.raises(UsageError, match=r"typo\.csv.*\n.*no such file"):
        scaffold([tmp_path, tmp_path / "typo.csv"], read_head=lambda _: ONE)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    for name in ("train.csv", "notes.csv", "more.ndjson"):
        (tmp_path / name).touch()
    heads: dict[str, Head] = {"notes.csv": {"id": [1, 2]}}
    made = scaffold([tmp_path], read_head=lambda path: heads.get(path.name, ONE))
    assert "more.ndjson" in made.text
    (note,) = made.left_out
    assert "notes.csv: no column with labels" in note
    assert f"# Left out: {note}" in made.text
