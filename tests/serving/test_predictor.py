"""A bundle answers as the student that it was made of."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import potstill
from potstill.core.errors import ArtefactError, DataError, ResourceError, UsageError
from potstill.export.engines import Engine
from potstill.serving.predictor import BundlePredictor
from tests.bundles import ToyBundle

ROW = {"text": "the good film", "first": "a warm day", "second": "a cold road"}
GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-v1.zip"


def same(found: Any, wanted: Any) -> None:
    """Equal answers but for rounding."""
    if isinstance(wanted, Mapping):
        assert found.keys() == wanted.keys()
        for key in wanted:
            same(found[key], wanted[key])
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=2e-4)
    else:
        assert found == wanted


@pytest.fixture(scope="module")
def predictor(toys: ToyBundle) -> BundlePredictor:
    return BundlePredictor.load(toys.done.folder, threads=1)


def test_rows_get_the_students_answers(toys: ToyBundle) -> None:
    rows = [dict(ROW, text=f"the {w} film") for w in ("good", "bad", "warm", "good")]
    for zipped in (toys.done.folder, toys.done.packed):
        assert zipped is not None
        found = potstill.load(zipped, threads=1).predict(rows)
        for one, other in zip(found, toys.student.predict(rows), strict=True):
            same(one, other)


def test_tasks_and_columns(predictor: BundlePredictor) -> None:
    assert set(predictor.predict({"text": "good"})) == {"classification", "regression"}
    assert set(predictor.predict(ROW, ["pair"])) == {"pair"}
    with pytest.raises(UsageError, match="no task can be answered"):
        predictor.predict({"other": "x"})
    with pytest.raises(UsageError, match="a task that the student does not know"):
        predictor.predict(ROW, ["nothing"])
    with pytest.raises(DataError, match="row 1, column 'text'"):
        predictor.predict([{"text": "good"}, {"text": None}])


def test_a_text_that_occurs_twice_is_encoded_once(
    predictor: BundlePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    assert isinstance(predictor._engine, Engine)
    run = predictor._engine.run

    def counted(feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        sizes.append(len(feeds["input_ids"]))
        return run(feeds)

    monkeypatch.setattr(predictor._engine, "run", counted)
    texts = ["good film", "bad film", "good film", "good film", "bad film", "the"]
    found = predictor.predict([{"text": t} for t in texts])
    assert sum(sizes) == 3
    assert [r["tasks"] for r in found] == [
        found[texts.index(t)]["tasks"] for t in texts
    ]  # and each row gets its own answer
    assert found[0]["tasks"] != found[1]["tasks"]


def test_all_tasks_on_one_text_share_a_pass(
    predictor: BundlePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    assert isinstance(predictor._engine, Engine)
    run = predictor._engine.run

    def counted(feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        calls.append(len(feeds["input_ids"]))
        return run(feeds)

    monkeypatch.setattr(predictor._engine, "run", counted)
    assert set(predictor.predict({"text": "good"})) == {"classification", "regression"}
    assert calls == [1]


def test_half_a_character_is_named(predictor: BundlePredictor) -> None:
    with pytest.raises(DataError, match="row 1, column 'text'") as told:
        predictor.predict([{"text": "fine ü"}, {"text": "a \ud83d film"}], tasks=["regression"])
    assert "half a character" in told.value.got
    with pytest.raises(DataError, match="NUL"):
        predictor.predict({"text": "a\0b"})


def test_tasks_are_a_list(predictor: BundlePredictor) -> None:
    empty: list[str] = []
    for tasks in ("regression", empty):
        with pytest.raises(UsageError, match="a list of names"):
            predictor.predict({"text": "a"}, tasks=tasks)


def test_a_sample_is_of_about_the_size(predictor: BundlePredictor) -> None:
    assert 512 <= predictor.sample(1024).lengths.sum() <= 2048
    assert len(predictor.sample(1)) == 1


def test_engines_that_are_not_there(toys: ToyBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtefactError, match="does not know"):
        BundlePredictor.load(toys.done.folder, engine="steam")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ResourceError, match="pip install"):
        BundlePredictor.load(toys.done.folder)


def test_a_bundle_of_format_1_is_read() -> None:
    """Stored when the format was made; the answers are those of the student beside it."""
    row = {"text": "the good film", "first": "a warm day", "second": "a cold road"}
    row |= {"query": "good", "candidate": "warm"}
    answer = potstill.load(GOLDEN, threads=1).predict(row)
    same(answer["classification"]["scores"], {"bad": 0.790094, "good": 0.209906})
    same(answer["pair"]["scores"], {"no": 0.920591, "yes": 0.079409})
    same(answer["regression"], {"prediction": 5.0})
    same(answer["ranking"], {"prediction": -3.22051})


LIGHT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "scipy", "sklearn", "pyarrow", "pandas"}:
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Refuse())
import potstill
from potstill.serving import server
from potstill.serving.app import create_app
from potstill.serving.settings import ServeSettings
create_app(potstill.load(sys.argv[1]), ServeSettings(bundle=sys.argv[1]))
print(potstill.load(sys.argv[1]).predict({"text": "the good film"}))
"""


def test_a_bundle_answers_where_torch_cannot_be_imported(
    toys: ToyBundle, predictor: BundlePredictor
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, str(toys.done.packed)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(potstill.__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    assert set(eval(done.stdout)) == set(predictor.predict({"text": "the good film"}))
