"""Bad input: every fault that the user can mend says what, what it got, wanted, and what to do."""

from __future__ import annotations

import json
import re
import shutil
from collections import namedtuple
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import potstill
from potstill.config import load_run_file
from potstill.core.errors import (
    ArtefactError,
    BaseModelError,
    DataError,
    PotstillError,
    ResourceError,
    RunFileError,
    UsageError,
)
from potstill.core.progress import Progress
from potstill.pipeline.estimate import estimate
from potstill.pipeline.loading import load_tasks
from potstill.pipeline.looking import look
from tests.pipeline.toy_runs import SPLITS, Keys, toy_run, toy_task, with_key, write_run
from tests.toys import toy_rows

Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Keys:
    return toy_run(tmp_path / "runs", base, {"mood": toy_task()})


def refusal(
    run: Keys | Path,
    kind: type[PotstillError],
    *,
    thing: str = "",
    got: str = "",
    wanted: str = "",
    todo: str = "",
) -> PotstillError:
    """The error of a run, its four parts held against patterns."""
    with pytest.raises(kind) as caught:
        potstill.run(run)
    error = caught.value
    for part, pattern in (
        (error.thing, thing),
        (error.got, got),
        (error.wanted, wanted),
        (error.todo, todo),
    ):
        assert part.strip()
        assert re.search(pattern, part), f"{pattern!r} is not in {part!r}"
    message = f"{error.thing}\n  got:    {error.got}\n  wanted: {error.wanted}\n"
    assert str(error) == f"{message}  next:   {error.todo}"
    assert error.exit_code == (2 if issubclass(kind, UsageError) else 1)
    return error


# -- the run file -------------------------------------------------------------------------------


def test_an_unknown_key_has_line_column_and_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    text = (
        "tasks:\n  mood:\n    kind: classification\n    trian: x.csv\n    text: t\n    label: l\n"
    )
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RunFileError) as caught:
        potstill.run(file)
    message = str(caught.value)
    assert re.search(r"run\.yaml.*line 4.*column 5", message)
    assert "'trian'" in message
    assert "'train'" in message
    for part in ("got:", "wanted:", "next:"):
        assert part in message
    assert caught.value.exit_code == 2


def test_an_unknown_key_in_python_has_its_path(run: Keys) -> None:
    error = refusal(with_key(run, "teachers.membres", 3), RunFileError)
    assert "teachers" in str(error)
    assert "'members'" in str(error)


def test_the_run_file_is_missing(tmp_path: Path) -> None:
    refusal(tmp_path / "no.yaml", RunFileError, thing="no.yaml")


# -- data ---------------------------------------------------------------------------------------


def test_a_file_is_missing(run: Keys, tmp_path: Path) -> None:
    refusal(
        with_key(run, "tasks.mood.dev", str(tmp_path / "no.parquet")),
        DataError,
        thing="mood.*dev|no.parquet",
        got="no such file|not there|missing",
    )


def test_a_column_is_missing(run: Keys) -> None:
    refusal(
        with_key(run, "tasks.mood.text", "txt"), DataError, got="text", wanted="txt|text", todo="."
    )


def test_a_label_of_dev_is_unknown(run: Keys) -> None:
    run["tasks"]["mood"]["dev"][2]["label"] = "god"
    refusal(
        run,
        DataError,
        thing="mood.*label.*1 faulty row",
        got="row 2.*label 'god'.*known: bad, good; nearest: 'good'",
        todo="--skip-bad-rows 1",
    )


def test_a_label_of_a_file_has_file_and_line(run: Keys, tmp_path: Path) -> None:
    run["tasks"]["mood"]["dev"][2]["label"] = "god"
    refusal(write_run(tmp_path, run), DataError, got=r"dev\.jsonl, line 3: label 'god'")


def test_one_class_only(run: Keys) -> None:
    for row in run["tasks"]["mood"]["train"]:
        row["label"] = "good"
    refusal(run, DataError, thing="mood.*'label'", got="one class only \\(good\\)", wanted="labels")


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_an_empty_split(run: Keys, tmp_path: Path, split: str) -> None:
    empty = tmp_path / f"{split}.csv"
    empty.write_text("text,label\n", encoding="utf-8")
    refusal(
        with_key(run, f"tasks.mood.{split}", str(empty)),
        DataError,
        thing=f"mood.*{split}|{split}.csv",
        got="no rows",
        wanted="at least one row|a row",
    )


@pytest.mark.parametrize("label", [float("nan"), None, " "])
@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_label_is_missing(run: Keys, split: str, label: object) -> None:
    run["tasks"]["mood"][split][4]["label"] = label
    refusal(run, DataError, got="row 4.*(missing|empty)", todo="--skip-bad-rows 1")


@pytest.mark.parametrize("label", [float("nan"), float("inf"), None, "many", 5.5])
def test_a_value_is_no_number_of_the_range(base: Path, tmp_path: Path, label: object) -> None:
    run = toy_run(tmp_path, base, {"stars": toy_task("regression")})
    run["tasks"]["stars"]["train"][4]["score"] = label
    refusal(run, DataError, thing="stars", got="row 4|value|label|range", todo=".")


def test_empty_text(run: Keys) -> None:
    run["tasks"]["mood"]["train"][3]["text"] = " "
    refusal(run, DataError, got="row 3: column 'text' is empty text")


def test_skipped_rows_are_counted_for_every_split(run: Keys, tmp_path: Path) -> None:
    mood = run["tasks"]["mood"]
    mood["pool"] = toy_rows("classification", 8, 3)
    for n, split in enumerate(SPLITS, start=1):
        for row in mood[split][:n]:
            row["text"] = None
    progress = Progress(log_file=tmp_path / "log.jsonl")
    file = load_run_file(write_run(tmp_path, run))
    load_tasks(file, seed=0, skip_bad_rows=4, progress=progress)
    log = (tmp_path / "log.jsonl").read_text(encoding="utf-8")
    said = [json.loads(line)["text"] for line in log.splitlines()]
    assert said == [
        f"task 'mood': {n} faulty rows of {tmp_path}/data/mood/{split}.jsonl skipped"
        for n, split in enumerate(SPLITS, start=1)
    ]


def test_all_rows_are_too_long(run: Keys) -> None:
    for row in run["tasks"]["mood"]["train"]:
        row["text"] += " good day" * 20
    refusal(
        with_key(run, "training.max_tokens", 16),
        DataError,
        thing="mood.*train",
        got="every row is longer than 16 tokens",
        todo="max_tokens",
    )


def test_some_long_rows_are_counted_not_refused(run: Keys) -> None:
    run["tasks"]["mood"]["train"][0]["text"] += " good day" * 20
    result = potstill.run(with_key(run, "training.max_tokens", 16))
    assert "lost their end" in (result.folder / "details.json").read_text(encoding="utf-8")


def test_a_truncated_parquet(run: Keys, tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist(toy_rows("classification", 50)), file)
    file.write_bytes(file.read_bytes()[:-40])
    refusal(with_key(run, "tasks.mood.train", str(file)), DataError, thing="train.parquet")


def test_bad_utf8(run: Keys, tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_bytes(b"text,label\na good day,good\na b\xffd day,bad\n")
    error = refusal(with_key(run, "tasks.mood.train", str(file)), DataError)
    assert re.search("line 3", str(error))
    assert "UTF-8" in str(error)


def test_ragged_rows(run: Keys, tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_text("text,label\na good day,good\na bad day,bad,more\n", encoding="utf-8")
    error = refusal(with_key(run, "tasks.mood.train", str(file)), DataError)
    assert "line 3" in str(error)


# -- models -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["./no/such/folder", "nobody/no-such-model"])
def test_a_base_that_is_not_there_names_the_two_ways(run: Keys, name: str) -> None:
    refusal(
        {**run, "base": name},
        BaseModelError,
        thing=f"{name.removeprefix('./')}'",
        got="no such folder|reachable",
        todo=r"potstill\[minilm\].*local folder",
    )


def test_pickled_weights_are_never_opened(run: Keys, base: Path, tmp_path: Path) -> None:
    """The pickle would write a file if anybody opened it."""
    shutil.copytree(base, tmp_path / "base")
    trap = tmp_path / "opened"
    code = f"import pathlib;pathlib.Path({str(trap)!r}).touch()"
    pickled = b"cbuiltins\nexec\n(V" + code.encode() + b"\ntR."
    (tmp_path / "base" / "model.safetensors").unlink()
    (tmp_path / "base" / "pytorch_model.bin").write_bytes(pickled)
    refusal(
        {**run, "base": str(tmp_path / "base")},
        BaseModelError,
        got="pickled weights \\(pytorch_model.bin\\)",
        wanted="never opened",
        todo="safetensors",
    )
    (tmp_path / "base" / "model.safetensors").write_bytes(pickled)
    refusal({**run, "base": str(tmp_path / "base")}, BaseModelError, got="pickle")
    assert not trap.exists()


def test_pickled_weights_of_a_teacher_are_never_opened(
    run: Keys, base: Path, tmp_path: Path
) -> None:
    shutil.copytree(base, tmp_path / "teacher")
    weights = tmp_path / "teacher" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    teachers = {"models": [str(tmp_path / "teacher")], "labels": ["bad", "good"]}
    refusal(with_key(run, "tasks.mood.teachers", teachers), BaseModelError, got="pickled")


def test_a_pickle_in_a_student_is_never_opened(finished: tuple[Keys, Path], tmp_path: Path) -> None:
    _, folder = finished
    shutil.copytree(folder / "student", tmp_path / "student")
    weights = tmp_path / "student" / "encoder" / "model.safetensors"
    weights.write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ArtefactError, match="model.safetensors"):
        potstill.load(tmp_path / "student")


def test_no_student_there(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no student there") as caught:
        potstill.load(tmp_path)
    assert "potstill run" in caught.value.todo


# -- the machine --------------------------------------------------------------------------------


def test_a_disk_that_is_too_small_stops_the_run_before_training(
    run: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(1 << 40, 1 << 40, 1 << 20))
    refusal(
        run,
        ResourceError,
        thing=f"disk of {run['output']}",
        got=r"0\.00 GiB free",
        wanted=r"GiB for checkpoints, networks and soft targets",
        todo="potstill clean.*output",
    )
    assert not (tmp_path / "runs" / "stages").exists()


def test_a_run_that_goes_on_needs_no_disk_for_what_stands(
    run: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = load_run_file(write_run(tmp_path, run))
    tasks = load_tasks(file, seed=0, skip_bad_rows=0, progress=Progress())
    done = potstill.run(run, quiet=True)
    stages = (tmp_path / "runs" / "stages").rglob("*")
    there = sum(path.stat().st_size for path in stages if path.is_file())
    free = estimate(file, tasks).disk_bytes - there
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(1 << 40, 1 << 40, free))
    potstill.run(run, quiet=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(1 << 40, 1 << 40, free - 1))
    potstill.run(run, quiet=True)  # nothing is left to make
    again = potstill.run(run | {"evaluate": {**run["evaluate"], "resamples": 201}}, quiet=True)
    assert again.folder.name != done.folder.name  # nor for another run of the same stages
    with pytest.raises(ResourceError, match="GiB free"):
        potstill.run(run | {"distill": {"soft_weight": 0.4}}, quiet=True)
    found = look(file, Progress(quiet=True))
    (warning,) = found.findings["run"]
    assert "GiB of disk are free" in warning.what
    assert "a run counts what stands" in warning.todo
    assert found.n_errors == 0
    shutil.rmtree(tmp_path / "runs" / "stages")
    assert look(file, Progress(quiet=True)).n_errors == 1


@pytest.mark.parametrize("jobs", [0, -1])
def test_fewer_jobs_than_one(run: Keys, jobs: int) -> None:
    with pytest.raises(UsageError, match="1 or more trainings"):
        potstill.run(run, jobs=jobs)


def test_a_device_that_is_not_there(run: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    refusal({**run, "device": "mps"}, ResourceError, thing="device 'mps'", wanted="cpu")
