"""A bundle of an encoder-decoder answers as its student, alone and over HTTP."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from starlette.testclient import TestClient

import potstill
from potstill.core.errors import ArtefactError, DataError, ResourceError
from potstill.core.files import seal
from potstill.core.progress import Progress
from potstill.export.bundle import BUNDLE_FILE
from potstill.pipeline.prediction import predict_file
from potstill.serving.app import create_app
from potstill.serving.predictor import BundlePredictor
from potstill.serving.settings import ServeSettings
from tests.sequences import sentences
from tests.tiny_sequences import SequenceBundle, make_sequence_bundle

ROWS = [{"en": text} for text in sentences(20, 5, longest=9)]
LONG = "cat bird town road " * 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SequenceBundle:
    """A student and its bundle; never write into them."""
    return make_sequence_bundle(tmp_path_factory.mktemp("sequences"))


@pytest.fixture(scope="module")
def predictor(made: SequenceBundle) -> BundlePredictor:
    return BundlePredictor.load(made.done.folder, threads=1)


@pytest.fixture(scope="module")
def client(made: SequenceBundle, predictor: BundlePredictor) -> Iterator[TestClient]:
    settings = ServeSettings(bundle=str(made.done.folder), deadline=60.0, most_rows=50)
    with TestClient(create_app(predictor, settings), raise_server_exceptions=False) as client:
        yield client


def test_rows_get_the_students_answers(made: SequenceBundle) -> None:
    wanted = made.student.predict(ROWS)
    assert len({row["tasks"]["de"]["prediction"] for row in wanted}) > 10
    assert any(row["tasks"]["de"] != row["tasks"]["fr"] for row in wanted)
    for place in (made.done.folder, made.done.packed):
        assert place is not None
        found = potstill.load(place, threads=1).predict(ROWS)
        assert found == wanted
        assert type(found[0]["tasks"]["de"]["prediction"]) is str


def test_one_row_and_one_task(made: SequenceBundle, predictor: BundlePredictor) -> None:
    assert predictor.predict(ROWS[0]) == made.student.predict(ROWS[0])
    assert list(predictor.predict(ROWS[0], ["fr"])) == ["fr"]
    with pytest.raises(DataError, match="row 0, column 'en'"):
        predictor.predict({"en": 3})


def test_http_answers_are_those_of_the_student(made: SequenceBundle, client: TestClient) -> None:
    answer = client.post("/predict", json={"rows": ROWS})
    assert answer.status_code == 200
    assert answer.json()["rows"] == made.student.predict(ROWS)
    only = client.post("/predict", json={"rows": ROWS[:3], "tasks": ["fr"]})
    assert only.json()["rows"] == made.student.predict(ROWS[:3], ["fr"])


def test_many_requests_at_once(made: SequenceBundle, predictor: BundlePredictor) -> None:
    """Texts of both tasks, some twice, in batches smaller than one request."""
    settings = ServeSettings(bundle=str(made.done.folder), deadline=60.0, batch_tokens=48)
    rows = [*ROWS, *ROWS[:5]]
    with TestClient(create_app(predictor, settings)) as client:
        answer = client.post("/predict", json={"rows": rows})
    assert answer.json()["rows"] == made.student.predict(rows)


def test_the_description_fits_the_answers(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    operation = description["paths"]["/predict"]["post"]
    content = operation["responses"]["200"]["content"]["application/json"]
    schema = content["schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    answer = client.post("/predict", json={"rows": ROWS[:2]}).json()
    jsonschema.validate(answer, schema)
    answer["rows"][0]["tasks"]["de"]["prediction"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(answer, schema)
    body = operation["requestBody"]["content"]["application/json"]
    jsonschema.validate(body["example"], body["schema"])
    assert client.post("/predict", json=body["example"]).status_code == 200
    tasks = client.get("/tasks").json()
    assert tasks["tasks"]["de"] == {"kind": "translation", "columns": ["en"]}
    assert tasks["engine"] == "ctranslate2-fp32"


def test_too_long_sources(
    made: SequenceBundle, predictor: BundlePredictor, client: TestClient
) -> None:
    rows = [ROWS[0], {"en": LONG}]
    refused = client.post("/predict", json={"rows": rows})
    assert refused.status_code == 422
    assert "row 1, en" in refused.text
    cut = client.post("/predict?truncate=true", json={"rows": rows})
    assert cut.json()["rows"] == made.student.predict(rows)
    table = {"en": [row["en"] for row in rows]}
    for speaker in (predictor, made.student):
        answers, n_cut = speaker.answer(table, ["de", "fr"], numbers=range(len(rows)))
        assert n_cut == 1
        assert answers == made.student.predict(rows)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_file_is_answered(made: SequenceBundle, tmp_path: Path, ending: str) -> None:
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    out = {}
    for name, place in (("bundle", made.done.folder), ("student", made.student.folder)):
        file = tmp_path / f"{name}.{ending}"
        n_rows = predict_file(
            place,
            tmp_path / "in.jsonl",
            out=file,
            tasks=None,
            device="auto",
            precision="auto" if name == "bundle" else "fp32",
            progress=Progress(quiet=True),
        )
        assert n_rows == len(ROWS)
        out[name] = file.read_bytes()
    assert out["bundle"] == out["student"]


def test_a_text_that_occurs_twice_is_said_once(
    predictor: BundlePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    run = predictor.run

    def counted(tokens: Any) -> list[np.ndarray]:
        told.append(len(tokens))
        return run(tokens)

    monkeypatch.setattr(predictor, "run", counted)
    found = predictor.predict([ROWS[0], ROWS[1], ROWS[0]])
    assert told == [2, 2]  # a pass a task
    assert found[0]["tasks"] == found[2]["tasks"]


def test_a_bundle_without_a_tasks_token_is_refused(made: SequenceBundle, tmp_path: Path) -> None:

    copy = Path(shutil.copytree(made.done.folder, tmp_path / "copy"))
    facts = json.loads((copy / BUNDLE_FILE).read_text())
    facts["tasks"]["de"]["space"]["language"] = "nl"
    (copy / BUNDLE_FILE).write_text(json.dumps(facts))
    (copy / "manifest.json").unlink()
    seal(copy, {})
    with pytest.raises(ArtefactError, match="no token <2nl>"):
        BundlePredictor.load(copy)


def test_without_ctranslate2(made: SequenceBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ResourceError, match="pip install ctranslate2"):
        BundlePredictor.load(made.done.folder)


LIGHT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        away = {"torch", "transformers", "scipy", "sklearn", "pyarrow", "pandas", "sacrebleu"}
        if name.split(".")[0] in away | {"sentencepiece", "onnxruntime"}:
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Refuse())
import json
import shutil
import potstill
from potstill.serving import server
from potstill.serving.app import create_app
from potstill.serving.settings import ServeSettings
create_app(potstill.load(sys.argv[1]), ServeSettings(bundle=sys.argv[1]))
print(json.dumps(potstill.load(sys.argv[1]).predict({"en": sys.argv[2]})))
"""


def test_a_bundle_answers_where_torch_cannot_be_imported(made: SequenceBundle) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, str(made.done.packed), ROWS[0]["en"]],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(potstill.__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == made.student.predict(ROWS[0])


def test_the_page_promises_no_shared_pass(client: TestClient, predictor: BundlePredictor) -> None:
    page = client.get("/").text
    assert f'"passes": {len(predictor.tasks)}' in page  # a source begins with its task's token
    assert "passes" not in client.get("/tasks").json()
