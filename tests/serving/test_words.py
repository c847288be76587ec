"""Answers at words, in passages and of several labels: student, bundle and service agree."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import jsonschema
import numpy as np
import pytest
from starlette.testclient import TestClient

import potstill
from potstill.core.errors import DataError
from potstill.export.bundle import read_bundle
from potstill.export.engines import Engine
from potstill.models.token_rows import TokenRows
from potstill.serving import requests
from potstill.serving.app import create_app
from potstill.serving.predictor import BundlePredictor
from potstill.serving.settings import ServeSettings
from potstill.tasks.predictor import Predictor
from tests.bundles import ToyBundle, make_bundle, word_tasks
from tests.toys import toy_rows

MOST_TOKENS = 16
LONG = ["good", "film", "bad", "song", "never"] * 8
PASSAGE = "The good film, the bad song: " * 6


@pytest.fixture(scope="module")
def words(base: Path, tmp_path_factory: pytest.TempPathFactory) -> ToyBundle:
    """A student of four tasks, two of them on one column; never write into it."""
    folder = tmp_path_factory.mktemp("words")
    return make_bundle(base, folder, tasks=word_tasks(), max_tokens=MOST_TOKENS)


@pytest.fixture(scope="module")
def predictor(words: ToyBundle) -> BundlePredictor:
    return BundlePredictor.load(words.done.folder, threads=1)


@pytest.fixture(scope="module")
def client(words: ToyBundle, predictor: BundlePredictor) -> Iterator[TestClient]:
    settings = ServeSettings(bundle=str(words.done.folder), deadline=30.0, most_rows=100)
    with TestClient(create_app(predictor, settings), raise_server_exceptions=False) as client:
        yield client


def rows_of_all_sorts() -> list[dict[str, Any]]:
    """Rows with one task's columns, or two, or all; short ones, long ones, twice the same."""
    tokens: list[dict[str, Any]] = [dict(row) for row in toy_rows("tagging", 6)]
    spans, notes = toy_rows("unanswerable", 6), toy_rows("multilabel", 6)
    rows: list[dict[str, Any]] = [
        *({"tokens": row["tokens"]} for row in tokens),
        *({"question": row["question"], "context": row["context"]} for row in spans),
        *({"remark": row["remark"]} for row in notes),
        *({**a, **b, **c} for a, b, c in zip(tokens, spans, notes, strict=True)),
        {"tokens": LONG, "question": "which film?", "context": PASSAGE, "other": 7},
        {"tokens": LONG[:30], "remark": "a good cat"},
        {"tokens": tokens[0]["tokens"]},
        {"tokens": " ".join(tokens[1]["tokens"])},
        {"question": "good", "context": "naïve 🙂 film — good (good) song!"},
        {"question": "good " * 30, "context": PASSAGE},
    ]
    return rows


def same(found: Any, wanted: Any) -> None:
    """Equal answers but for rounding."""
    if isinstance(wanted, Mapping):
        assert list(found) == list(wanted)
        for key in wanted:
            same(found[key], wanted[key])
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=2e-4)
    else:
        assert found == wanted


def by_one(student: Predictor, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row asked alone, for all that its columns allow."""
    return [student.predict(row) for row in rows]


# -- the same answers ---------------------------------------------------------------------------


def test_a_bundle_gives_the_students_answers(words: ToyBundle) -> None:
    rows = rows_of_all_sorts()
    wanted = by_one(words.student, rows)
    assert list(wanted[18]) == ["opening", "tags", "topics", "answer"]
    assert words.done.packed is not None
    for place in (words.done.folder, words.done.packed):
        loaded = potstill.load(place, threads=1)
        for found, right in zip(by_one(loaded, rows), wanted, strict=True):
            same(found, right)
        whole = [row for row in rows if "context" in row]
        together = loaded.predict(whole, ["answer"])
        for one, row in zip(together, whole, strict=True):
            same(one["tasks"], words.student.predict(row, ["answer"]))


def test_the_service_gives_the_same_answers(
    words: ToyBundle, predictor: BundlePredictor, client: TestClient
) -> None:
    rows = rows_of_all_sorts()
    answer = client.post("/predict", json={"rows": rows}, params={"truncate": "true"})
    assert answer.status_code == 200, answer.text
    found = answer.json()["rows"]
    assert [one["row"] for one in found] == list(range(len(rows)))
    for one, right in zip(found, by_one(words.student, rows), strict=True):
        same(one["tasks"], right)
    for row, right in zip(rows, by_one(predictor, rows), strict=True):
        alone = client.post("/predict", json={"rows": [row]}, params={"truncate": "true"})
        same(alone.json()["rows"][0]["tasks"], right)


def test_requests_at_the_same_time_keep_their_own_words(
    words: ToyBundle, client: TestClient
) -> None:
    rows = rows_of_all_sorts()

    def asked(row: dict[str, Any]) -> dict[str, Any]:
        answer = client.post("/predict", json={"rows": [row]}, params={"truncate": "true"})
        found: dict[str, Any] = answer.json()["rows"][0]["tasks"]
        return found

    with ThreadPoolExecutor(8) as many:
        for found, right in zip(many.map(asked, rows), by_one(words.student, rows), strict=True):
            same(found, right)


def test_thresholds_travel_with_the_bundle(words: ToyBundle) -> None:
    heads = read_bundle(words.done.folder).heads
    assert heads == dict(words.student.heads)
    assert heads["topics"].kind.to_json()["thresholds"] == [0.3, 0.6, 0.9]
    assert heads["answer"].kind.to_json()["margin"] == -0.5


def test_with_task_tokens(base: Path, tmp_path: Path) -> None:
    made = make_bundle(base, tmp_path, tasks=word_tasks(), max_tokens=MOST_TOKENS, task_token=True)
    rows = rows_of_all_sorts()
    loaded = BundlePredictor.load(made.done.folder, threads=1)
    for found, right in zip(by_one(loaded, rows), by_one(made.student, rows), strict=True):
        same(found, right)
    settings = ServeSettings(bundle=str(made.done.folder), deadline=30.0)
    with TestClient(create_app(loaded, settings)) as client:
        answer = client.post("/predict", json={"rows": rows}, params={"truncate": "true"}).json()
    for one, right in zip(answer["rows"], by_one(made.student, rows), strict=True):
        same(one["tasks"], right)


# -- passes -------------------------------------------------------------------------------------


@pytest.fixture
def texts_run(predictor: BundlePredictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Texts of each call of the engine."""
    sizes: list[int] = []
    assert isinstance(predictor._engine, Engine)
    run = predictor._engine.run

    def counted(feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        sizes.append(len(feeds["input_ids"]))
        return run(feeds)

    monkeypatch.setattr(predictor._engine, "run", counted)
    return sizes


def test_two_tasks_on_one_text_share_a_pass(
    predictor: BundlePredictor, texts_run: list[int]
) -> None:
    both = predictor.predict({"tokens": ["good", "film"]})
    assert set(both) == {"opening", "tags"}
    assert texts_run == [1]
    assert predictor.predict({"tokens": "good film"}) == both
    texts_run.clear()
    for task in ("opening", "tags"):
        same(predictor.predict({"tokens": ["good", "film"]}, [task]), {task: both[task]})
    assert sum(texts_run) == 2


def test_windows_that_occur_twice_are_encoded_once(
    predictor: BundlePredictor, texts_run: list[int]
) -> None:
    once = predictor.predict([{"tokens": LONG}])
    n_windows = sum(texts_run)
    assert n_windows > 2
    texts_run.clear()
    rows = [{"tokens": LONG}, {"tokens": ["a"]}, {"tokens": LONG}]
    found = predictor.predict(rows)
    assert sum(texts_run) == n_windows + 1
    same(found[0]["tasks"], once[0]["tasks"])
    same(found[2]["tasks"], once[0]["tasks"])


# -- too long texts -----------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["student", "bundle"])
def test_only_tasks_without_words_lose_an_end(
    words: ToyBundle, predictor: BundlePredictor, which: str
) -> None:
    loaded: Predictor = words.student if which == "student" else predictor
    table: dict[str, list[object]] = {
        "tokens": [LONG, ["a", "film"]],
        "question": ["which?", "a"],
        "context": [PASSAGE, "b"],
        "remark": ["a", "good " * 40],
    }
    lost = {
        ("tags",): 0,
        ("answer",): 0,
        ("opening",): 1,
        ("opening", "tags"): 1,
        ("topics",): 1,
        ("opening", "tags", "topics", "answer"): 2,
    }
    for tasks, n_lost in lost.items():
        assert loaded.answer(table, tasks, numbers=range(len(table["tokens"])))[1] == n_lost, tasks
    # What it read of the text is its beginning, with the tags or without them.
    shortened = loaded.predict({"tokens": LONG[: MOST_TOKENS - 2]}, ["opening"])
    same(loaded.predict({"tokens": LONG}, ["opening"]), shortened)
    same(loaded.predict({"tokens": LONG}, ["tags", "opening"])["opening"], shortened["opening"])


def test_the_service_refuses_only_what_loses_its_end(client: TestClient) -> None:
    for tasks, status in ((["tags"], 200), (["opening"], 422), (["tags", "opening"], 422)):
        body = {"rows": [{"tokens": ["a"]}, {"tokens": LONG}], "tasks": tasks}
        answer = client.post("/predict", json=body)
        assert answer.status_code == status, tasks
        if status == 422:
            error = answer.json()["error"]
            assert error["thing"] == "row 1, tokens"
            assert "truncate=true" in error["next"]
    long = {"rows": [{"question": "which?", "context": PASSAGE}]}
    assert client.post("/predict", json=long).status_code == 200
    loud = {"rows": [{"remark": "good " * 40}]}
    assert client.post("/predict", json=loud).status_code == 422


# -- what the service takes and tells -----------------------------------------------------------

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "number": ({"tokens": ["a", 3]}, "int 3 as word 2"),
    "null": ({"tokens": ["a", None]}, "no value as word 2"),
    "blank": ({"tokens": ["a b"]}, "word 1 with a blank in it"),
    "empty word": ({"tokens": ["a", ""]}, "an empty word 2"),
    "NUL": ({"tokens": ["a\0"]}, "a NUL character"),
    "object": ({"tokens": {"a": 1}}, "dict"),
    "list for text": ({"question": "a", "context": ["a"]}, "list"),
    "no context": ({"question": "a"}, "no task can be answered"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_rows_are_told_what_is_wrong(
    client: TestClient, predictor: BundlePredictor, name: str
) -> None:
    row, says = BAD[name]
    answer = client.post("/predict", json={"rows": [{"remark": "a"}, row]})
    assert answer.status_code == 422, answer.text
    assert says in " ".join(answer.json()["error"].values())
    assert "row 1" in answer.json()["error"]["thing"]
    if name != "no context":
        with pytest.raises(DataError, match="row 0") as refused:
            predictor.predict([row])
        assert says in refused.value.got


def test_words_are_told_in_the_description(client: TestClient) -> None:
    told = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    body = told["requestBody"]["content"]["application/json"]
    schema = jsonschema.Draft202012Validator(body["schema"])
    for row in rows_of_all_sorts():
        schema.validate({"rows": [row]})
    for name in ("number", "null", "blank", "empty word", "NUL", "object", "list for text"):
        assert not schema.is_valid({"rows": [BAD[name][0]]}), name
    assert client.post("/predict", json=body["example"]).status_code == 200
    answers = told["responses"]["200"]["content"]["application/json"]["schema"]
    found = client.post(
        "/predict", json={"rows": rows_of_all_sorts()}, params={"truncate": "true"}
    ).json()
    jsonschema.Draft202012Validator(answers).validate(found)
    tasks = client.get("/tasks").json()["tasks"]
    assert tasks["tags"] == {
        "kind": "tagging",
        "columns": ["tokens"],
        "classes": ["O", "B-bad", "I-bad", "B-good", "I-good"],
    }
    assert tasks["answer"] == {"kind": "span", "columns": ["question", "context"]}


def test_rows_without_words_are_answered(client: TestClient, predictor: BundlePredictor) -> None:
    rows: list[dict[str, Any]] = [
        {"tokens": []},
        {"tokens": ["a"]},
        {"question": "?", "context": " "},
    ]
    found = client.post("/predict", json={"rows": rows}).json()["rows"]
    assert found[0]["tasks"]["tags"] == {"prediction": [], "spans": []}
    assert found[2]["tasks"]["answer"]["prediction"] == ""
    for one, right in zip(found, by_one(predictor, rows), strict=True):
        same(one["tasks"], right)


@pytest.mark.parametrize("first", ["tags", "answer", "topics"])
def test_any_task_may_come_first(base: Path, tmp_path: Path, first: str) -> None:
    """What warms a service up is made for the first task."""
    tasks = word_tasks()
    made = make_bundle(
        base, tmp_path, tasks={first: tasks.pop(first)} | tasks, max_tokens=MOST_TOKENS
    )
    loaded = BundlePredictor.load(made.done.folder, threads=1)
    sample: TokenRows = loaded.sample(256)
    assert 100 <= sample.lengths.sum() <= 600
    assert len(loaded.run(sample)) == 4
    settings = ServeSettings(bundle=str(made.done.folder), deadline=30.0)
    with TestClient(create_app(loaded, settings)) as client:
        assert client.get("/readyz").status_code == 200
        body = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]
        example = body["content"]["application/json"]["example"]
        assert client.post("/predict", json=example).status_code == 200
    row = rows_of_all_sorts()[18]
    same(loaded.predict(row), made.student.predict(row))
    assert json.dumps(loaded.predict(row), ensure_ascii=False)


def test_what_no_asked_task_reads_may_hold_anything(
    client: TestClient, predictor: BundlePredictor
) -> None:
    """As `predict` has it: callers write null for what they have not."""
    row = {"tokens": ["good", "film"], "question": None, "context": None}
    asked = {"rows": [row], "tasks": ["tags"]}
    answer = client.post("/predict", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"] == json.loads(json.dumps(predictor.predict([row], ["tags"])))
    refused = client.post("/predict", json={"rows": [row]})
    assert refused.status_code == 422
    assert refused.json()["error"]["thing"] == "row 0, column 'question'"
    spaced = {"rows": [{"tokens": ["New York", "is"]}], "tasks": ["opening"]}
    assert client.post("/predict", json=spaced).status_code == 200


def test_a_text_of_very_many_windows_is_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"question": "cat", "context": PASSAGE}
    assert client.post("/predict", json={"rows": [row]}).status_code == 200
    monkeypatch.setattr(requests, "_MOST_WINDOWS", 2)
    refused = client.post("/predict", json={"rows": [row]})
    assert refused.status_code == 422
    assert "windows" in refused.json()["error"]["got"]
    assert refused.json()["error"]["thing"].startswith("row 0")


@pytest.mark.parametrize(
    "row", [{"tokens": "good " * 50_000}, {"question": "cat", "context": "good " * 50_000}]
)
def test_an_endless_text_is_refused_before_its_windows_are_made(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, row: dict[str, str]
) -> None:
    def never(*args: object) -> NoReturn:
        raise AssertionError("the text was tokenised")

    monkeypatch.setattr(BundlePredictor, "tokenise", never)
    refused = client.post("/predict", json={"rows": [row]})
    assert refused.status_code == 422
    assert "more than 64 windows" in refused.json()["error"]["got"]
