"""The service over HTTP, in this process: answers, faults, limits, load."""

from __future__ import annotations

import gzip
import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import numpy as np
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from potstill.models.token_rows import TokenRows
from potstill.serving import predictions
from potstill.serving.app import create_app
from potstill.serving.predictor import BundlePredictor
from potstill.serving.settings import ServeSettings
from tests.bundles import ToyBundle

ROW = {"text": "the good film", "first": "a warm day", "second": "a cold road"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def predictor(toys: ToyBundle) -> BundlePredictor:
    return BundlePredictor.load(toys.done.folder, threads=1)


def settings_of(toys: ToyBundle, **more: Any) -> ServeSettings:
    asked: dict[str, Any] = {"bundle": str(toys.done.folder), "deadline": 30.0, "most_rows": 50}
    return ServeSettings(**(asked | more))


@pytest.fixture(scope="module")
def app(toys: ToyBundle, predictor: BundlePredictor) -> FastAPI:
    return create_app(predictor, settings_of(toys, most_body_bytes=20_000))


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def ask(client: TestClient, body: object, **more: Any) -> Any:
    return client.post("/predict", json=body, **more)


def test_answers_are_those_of_predict(client: TestClient, predictor: BundlePredictor) -> None:
    rows = [dict(ROW, text=f"the {word} film") for word in ("good", "bad", "warm")]
    answer = ask(client, {"rows": rows})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    for found, wanted in zip(answer.json()["rows"], predictor.predict(rows), strict=True):
        assert found["row"] == wanted["row"]
        assert list(found["tasks"]) == list(wanted["tasks"])
        for task, one in wanted["tasks"].items():
            assert found["tasks"][task]["prediction"] == pytest.approx(one["prediction"], abs=1e-4)


def test_each_row_gets_the_tasks_of_its_columns(client: TestClient) -> None:
    rows = [{"text": "good"}, {"first": "a", "second": "b"}, {**ROW, "other": [1, {"x": None}]}]
    answer = ask(client, {"rows": rows}).json()
    assert [list(row["tasks"]) for row in answer["rows"]] == [
        ["classification", "regression"],
        ["pair"],
        ["classification", "pair", "regression"],
    ]
    only = ask(client, {"rows": [ROW], "tasks": ["regression"]}).json()
    assert list(only["rows"][0]["tasks"]) == ["regression"]


BAD: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "no valid JSON"),
    "half": (b'{"rows": [', 400, "no valid JSON"),
    "NaN": (b'{"rows": [{"text": NaN}]}', 400, "no valid JSON"),
    "deep": (b"[" * 5000, 400, "recursion limit"),
    "huge integer": (b'{"rows": [{"text": "a", "n": ' + b"9" * 9000 + b"}]}", 400, "out of range"),
    "surrogate": (b'{"rows": [{"text": "\\ud800"}]}', 400, "no valid JSON"),
    "bad utf-8": (b'{"rows": [{"text": "\xff"}]}', 400, "no valid JSON"),
    "no object": (b"[]", 422, "the body"),
    "no rows": (b'{"rows": []}', 422, "at least 1"),
    "rows missing": (b'{"tasks": ["pair"]}', 422, "rows"),
    "unknown key": (b'{"rows": [{"text": "a"}], "task": "pair"}', 422, "task"),
    "row is no object": (b'{"rows": ["a"]}', 422, "rows.0"),
    "NUL": (b'{"rows": [{"text": "a"}, {"text": "a\\u0000b"}]}', 422, "row 1, column 'text'"),
    "number": (b'{"rows": [{"text": 3}]}', 422, "int 3"),
    "null": (b'{"rows": [{"text": null}]}', 422, "no value"),
    "unknown task": (b'{"rows": [{"text": "a"}], "tasks": ["x"]}', 422, "one of classification"),
    "no columns": (b'{"rows": [{"x": "a"}]}', 422, "no task can be answered"),
    "task without column": (b'{"rows": [{"text": "a"}], "tasks": ["pair"]}', 422, "first, second"),
    "too long": (b'{"rows": [{"text": "' + b"a " * 300 + b'"}]}', 422, "truncate=true"),
    "too many rows": (b'{"rows": [' + b'{"text":"a"},' * 50 + b'{"text":"a"}]}', 422, "at most 50"),
    "too large": (b" " * 30_000, 413, "at most 20000 bytes"),
    "long name": (b'{"rows": [{"' + b"x" * 9000 + b'": "a"}]}', 422, "xxx"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_requests_are_told_what_is_wrong(client: TestClient, name: str) -> None:
    body, status, says = BAD[name]
    answer = client.post("/predict", content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error.keys() == {"thing", "got", "wanted", "next"}
    assert says in " ".join(error.values())
    assert len(answer.content) < 5000


def test_a_chunked_body_is_limited_too(client: TestClient) -> None:
    answer = client.post("/predict", content=iter([b" " * 1000] * 30), headers=JSON)
    assert answer.status_code == 413


def test_other_content_types_are_refused(client: TestClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/octet-stream", ""):
        answer = client.post("/predict", content=b"{}", headers={"Content-Type": kind})
        assert answer.status_code == 415
    fine = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.post("/predict", content=json.dumps({"rows": [ROW]}), headers=fine).is_success


def test_packed_bodies_are_refused(client: TestClient) -> None:
    packed = gzip.compress(json.dumps({"rows": [ROW]}).encode())
    answer = client.post("/predict", content=packed, headers={**JSON, "Content-Encoding": "gzip"})
    assert answer.status_code == 415
    assert answer.json()["error"]["wanted"] == "a plain body"


def test_all_that_can_be_got_can_be_asked_without_a_body(client: TestClient) -> None:
    for path in ("/healthz", "/readyz", "/", "/tasks", "/metrics", "/docs", "/openapi.json"):
        answer = client.head(path)
        assert answer.status_code == 200
    assert client.head("/predict").status_code == 405


def test_long_texts_may_lose_their_end(client: TestClient) -> None:
    body = {"rows": [{"text": "good " * 300}]}
    assert ask(client, body, params={"truncate": "true"}).status_code == 200
    unclear = ask(client, body, params={"truncate": "maybe"})
    assert unclear.status_code == 422
    assert "truncate" in unclear.json()["error"]["got"]


def test_unknown_paths_and_methods(client: TestClient) -> None:
    assert client.get("/nothing").status_code == 404
    assert client.get("/predict").status_code == 405
    assert client.post("/predict%0A", json={}).status_code == 404


def test_paths_that_are_not_ours_are_one_counter(client: TestClient) -> None:
    for i in range(5):
        client.get(f"/nothing/{i}")
    text = client.get("/metrics").text
    assert "/nothing" not in text
    assert 'path="other",status="404"' in text


def test_bodies_that_wait_to_be_read_are_bounded(app: FastAPI, client: TestClient) -> None:
    service = app.state.service
    service.bytes_read = service.settings.most_body_bytes
    try:
        refused = ask(client, {"rows": [ROW]})
    finally:
        service.bytes_read = 0
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert ask(client, {"rows": [ROW]}).status_code == 200


def test_bodies_that_are_on_their_way_are_bounded(app: FastAPI, client: TestClient) -> None:
    service = app.state.service
    service.bytes_coming = 64 * service.settings.most_body_bytes
    try:
        refused = ask(client, {"rows": [ROW]})
    finally:
        service.bytes_coming = 0
    assert refused.status_code == 503
    assert ask(client, {"rows": [ROW]}).status_code == 200
    assert service.bytes_coming == service.bytes_read == 0


def test_a_body_that_is_read_for_long_is_late_at_the_deadline(
    toys: ToyBundle, predictor: BundlePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, go_on = predictions._read, threading.Event()

    def slow(*args: Any) -> Any:
        go_on.wait(20)
        return read(*args)

    app = create_app(predictor, settings_of(toys, deadline=0.3))
    with TestClient(app, raise_server_exceptions=False) as client:
        assert ask(client, {"rows": [ROW]}).status_code in (200, 503)
        monkeypatch.setattr(predictions, "_read", slow)
        start = time.monotonic()
        late = ask(client, {"rows": [ROW]})
        took = time.monotonic() - start
        go_on.set()
    assert late.status_code == 503
    assert "deadline" in late.json()["error"]["got"]
    assert 0.3 <= took < 15
    assert app.state.service.bytes_read == 0


def test_what_no_task_reads_costs_no_place(app: FastAPI, client: TestClient) -> None:
    for _ in range(3):
        assert ask(client, {"rows": [ROW] * 20}).status_code == 200
    batcher = app.state.service.batcher
    with batcher.coming(1, within=30.0):
        batcher._per_token = 0.1  # so 5,000 tokens, which 19,000 bytes may hold, take too long
        assert ask(client, {"rows": [{"text": "a", "other": "b" * 19_000}]}).status_code == 200


def test_a_task_that_is_named_often_is_answered_once(client: TestClient) -> None:
    answer = ask(client, {"rows": [ROW] * 40, "tasks": ["pair"] * 1000})
    assert [list(row["tasks"]) for row in answer.json()["rows"]] == [["pair"]] * 40


def test_tasks(client: TestClient, predictor: BundlePredictor) -> None:
    found = client.get("/tasks").json()
    assert list(found["tasks"]) == list(predictor.tasks)
    assert found["tasks"]["pair"]["columns"] == ["first", "second"]
    assert found["tasks"]["classification"]["classes"] == ["bad", "good"]
    assert found["max_tokens"] == predictor.max_tokens


def test_the_description_holds_an_example_that_works(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    content = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert ask(client, content["example"]).status_code == 200


def test_answers_are_as_described(toys: ToyBundle, predictor: BundlePredictor) -> None:
    with TestClient(create_app(predictor, settings_of(toys, token="x"))) as client:
        told = client.get("/openapi.json").json()["paths"]
        right = {"Authorization": "Bearer x"}

        def check(answer: Any, method: str = "get") -> None:
            described = told[answer.request.url.path][method]["responses"][str(answer.status_code)]
            schema = described["content"]["application/json"]["schema"]
            jsonschema.Draft202012Validator(schema).validate(answer.json())

        answers = [{"text": "good"}, {"first": "a", "second": "b"}, ROW]
        check(ask(client, {"rows": answers}, headers=right), "post")
        check(ask(client, {"rows": []}, headers=right), "post")
        check(ask(client, {"rows": [ROW]}), "post")
        check(client.get("/tasks", headers=right))
        check(client.get("/tasks"))
        assert told["/tasks"]["get"]["security"]


def test_the_description_can_be_read_offline(client: TestClient) -> None:
    page = client.get("/docs").text
    assert page.count("swagger-ui") >= 2
    for place in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert not place.startswith(("http", "//")), place
        assert client.get(f"/{place}").status_code == 200
    assert "url: 'openapi.json'" in page


def test_the_page_knows_the_tasks(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert '"columns": ["first", "second"]' in page.text
    assert "/*TASKS*/" not in page.text


def test_metrics_count(client: TestClient) -> None:
    ask(client, {"rows": [ROW, ROW]})
    text = client.get("/metrics").text
    assert 'potstill_requests_total{path="/predict",status="200"}' in text
    assert "potstill_rows_total" in text
    assert "potstill_queue_tokens 0.0" in text


def test_every_request_is_logged_once(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="potstill.serve"):
        ask(client, {"rows": [ROW]})
        client.post("/predict", content=b"{", headers=JSON)
        client.head("/nothing")
        client.get("/healthz")
    lines = [json.loads(record.message) for record in caplog.records]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("POST", "/predict", 200),
        ("POST", "/predict", 400),
        ("HEAD", "/nothing", 404),
    ]
    assert "why" not in lines[0]
    assert lines[1]["why"] == "BadBody"
    assert lines[2]["why"] == "Not Found"


def test_the_log_quotes_no_request(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="potstill.serve"):
        ask(client, {"rows": [{"text": ["secret"]}]})
        ask(client, {"rows": [{"secret": "a"}], "tasks": ["secret"]})
        ask(client, {"rows": [ROW], "secret": 1})
        client.post("/predict", content=b"secret", headers={"Content-Type": "secret"})
        client.get("/" + "a" * 5000)
    assert len(caplog.records) == 5
    assert "secret" not in caplog.text
    assert all(len(record.message) < 400 for record in caplog.records)


def test_ready_only_while_it_runs(toys: ToyBundle, predictor: BundlePredictor) -> None:
    app = create_app(predictor, settings_of(toys))
    outside = TestClient(app)
    assert outside.get("/healthz").status_code == 200
    assert outside.get("/readyz").status_code == 503
    with TestClient(app) as inside:
        assert inside.get("/readyz").status_code == 200
    assert outside.get("/readyz").status_code == 503
    assert ask(outside, {"rows": [ROW]}).status_code == 503


def test_the_token(toys: ToyBundle, predictor: BundlePredictor) -> None:
    with TestClient(create_app(predictor, settings_of(toys, token="geheim ü"))) as client:
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "geheim"}):
            answer = ask(client, {"rows": [ROW]}, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert client.get("/tasks", headers=headers).status_code == 401
            assert client.get("/metrics", headers=headers).status_code == 401
        for path in ("/swagger-ui.css", "/docs", "/openapi.json", "/"):
            assert client.get(path).status_code == 200
        right = {"Authorization": "Bearer geheim ü".encode()}
        assert ask(client, {"rows": [ROW]}, headers=right).status_code == 200
        assert client.get("/healthz").status_code == 200


class Gate:
    """An engine that waits until it is let go."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.open = threading.Event()
        self.fault: Exception | None = None

    def __call__(self, tokens: TokenRows) -> list[np.ndarray]:
        assert self.open.wait(20)
        if self.fault is not None:
            raise self.fault
        found: list[np.ndarray] = self.run(tokens)
        return found


@pytest.fixture
def gate(predictor: BundlePredictor, monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate(predictor.run)
    monkeypatch.setattr(predictor, "run", gate)
    return gate


def test_too_much_to_do_is_503_and_the_event_loop_stays_free(
    toys: ToyBundle, predictor: BundlePredictor, gate: Gate
) -> None:
    app = create_app(predictor, settings_of(toys, deadline=5.0))
    gate.open.set()
    with TestClient(app) as client, ThreadPoolExecutor(8) as many:
        assert ask(client, {"rows": [ROW]}).status_code == 200
        gate.open.clear()
        batcher = app.state.service.batcher
        first = many.submit(ask, client, {"rows": [ROW]})
        while not batcher.load().tokens:
            pass
        batcher._per_token = 1.0
        refused = ask(client, {"rows": [ROW] * 20})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        unread = client.post("/predict", content=b"{" * 90, headers=JSON)
        assert unread.status_code == 503  # by what is ahead of it
        assert client.get("/healthz").status_code == 200
        gate.open.set()
        assert first.result(10).status_code == 200


def test_what_comes_too_late_is_503(
    toys: ToyBundle, predictor: BundlePredictor, gate: Gate
) -> None:
    app = create_app(predictor, settings_of(toys, deadline=0.3))
    gate.open.set()
    with TestClient(app) as client, ThreadPoolExecutor(1) as one:
        gate.open.clear()
        asked = one.submit(ask, client, {"rows": [ROW]})
        threading.Timer(0.6, gate.open.set).start()
        answer = asked.result(10)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"


def test_a_fault_of_the_engine_is_500_and_the_next_request_is_well(
    toys: ToyBundle, predictor: BundlePredictor, gate: Gate
) -> None:
    gate.open.set()
    with TestClient(create_app(predictor, settings_of(toys)), raise_server_exceptions=False) as c:
        gate.fault = RuntimeError("broken")
        answer = ask(c, {"rows": [ROW]})
        assert answer.status_code == 500
        assert "broken" not in answer.text
        gate.fault = None
        assert ask(c, {"rows": [ROW]}).status_code == 200


def test_a_fault_of_another_endpoint_has_the_same_form(
    app: FastAPI,
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> bytes:
        raise RuntimeError("broken")

    monkeypatch.setattr(app.state.service.metrics, "text", broken)
    answer = client.get("/metrics")
    assert answer.status_code == 500
    assert answer.json()["error"]["got"].startswith("a fault of the service")
    assert "RuntimeError: broken" in caplog.text


def test_many_at_once_each_gets_its_own(client: TestClient, predictor: BundlePredictor) -> None:
    words = ["good", "bad", "warm", "cold", "great", "awful", "film", "river"] * 4
    with ThreadPoolExecutor(16) as many:
        answers = list(
            many.map(lambda w: ask(client, {"rows": [{"text": f"the {w}"}]}).json(), words)
        )
    for word, answer in zip(words, answers, strict=True):
        wanted = predictor.predict({"text": f"the {word}"})["regression"]["prediction"]
        found = answer["rows"][0]["tasks"]["regression"]["prediction"]
        assert found == pytest.approx(wanted, abs=1e-4)
