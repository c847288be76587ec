"""The commands: exit codes, one JSON document, messages instead of tracebacks, rows in and out."""

from __future__ import annotations

import csv
import errno
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import typer
from transformers import AutoModelForSequenceClassification
from typer.testing import CliRunner, Result

import potstill
from potstill import cli
from potstill.config import load_run_file
from potstill.core import files
from potstill.core.progress import StopSignal
from potstill.pipeline import housekeeping, prediction
from potstill.students.student import Student
from potstill.tasks.predictor import Predictor
from tests.bundles import quick_measuring
from tests.pipeline.contract import check_results
from tests.pipeline.toy_runs import stage_names, toy_run, toy_task, weight_digests, write_run
from tests.toys import make_base, toy_rows, write_rows

POTSTILL = str(Path(sys.executable).with_name("potstill"))
COMMANDS = sorted(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def good(*arguments: object) -> Result:
    result = call(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def document(result: Result) -> Any:
    """The one JSON document that standard output is."""
    assert result.exit_code in (0, 1), result.stderr
    value, end = json.JSONDecoder().raw_decode(result.stdout)
    assert result.stdout[end:].strip() == ""
    return value


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, a run file, its data, and its finished run."""
    folder = tmp_path_factory.mktemp("cli")
    names = {"mood": "classification", "same": "pair", "stars": "regression", "rank": "ranking"}
    tasks = {name: toy_task(kind) for name, kind in names.items()}
    run = toy_run(Path("runs"), make_base(folder / "base"), tasks)
    run["teachers"] = {"tasks": ["mood"], "members": 1}
    run["evaluate"]["baselines"] = ["multitask"]
    write_run(folder, run)
    good("run", folder / "run.yaml", "--quiet", "--jobs", "1")
    return folder


@pytest.fixture(scope="module")
def run_folder(place: Path) -> Path:
    return next((place / "runs").glob("toy-*"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A run file of one task that was not run."""
    run = toy_run(Path("runs"), make_base(tmp_path / "base"), {"mood": toy_task()})
    run["evaluate"]["baselines"] = []
    run["teachers"]["members"] = 1
    return write_run(tmp_path, run)


# -- help, usage, errors ------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    result = good(command, "--help")
    assert "Usage:" in result.stdout
    assert "--json" in result.stdout
    assert "--debug" in result.stdout
    assert result.stderr == ""


def test_the_commands_of_the_design_are_there() -> None:
    main_path = {"init", "check", "run", "teach", "label", "distill", "evaluate", "report"}
    assert set(COMMANDS) >= main_path | {"export", "predict", "runs", "clean", "demo"}


def test_version() -> None:
    assert good("--version").stdout.strip() == potstill.__version__


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("run",),
        ("run", "absent.yaml"),
        ("run", "run.yaml", "--no-such-option"),
        ("predict", "student"),
        ("runs", "no-such-folder"),
        ("clean", "no-such-folder"),
        ("init", "no-such-file.csv", "--out", "new.yaml"),
    ],
)
def test_wrong_usage_is_2(tmp_path: Path, arguments: Sequence[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        result = call(*arguments)
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr


@pytest.mark.parametrize(
    "option",
    [
        ("--set", "trainig.epochs=2"),
        ("--set", "training.epochs=many"),
        ("--set", "nothing"),
        ("--time-limit", "soon"),
    ],
)
def test_a_wrong_option_is_2_with_four_parts(small: Path, option: Sequence[str]) -> None:
    result = call("run", small, *option, "--quiet")
    assert result.exit_code == 2
    assert re.match(r"error: .+\n  got:    .+\n  wanted: .+\n  next:   .+", result.stderr)
    assert not (small.parent / "runs").exists()


def test_the_nearest_key_is_named(small: Path) -> None:
    result = call("check", small, "--set", "trainig.epochs=2")
    assert "trainig" in result.stderr
    assert "'training'" in result.stderr


def test_missing_data_is_1(small: Path) -> None:
    (small.parent / "data" / "mood" / "train.jsonl").unlink()
    result = call("run", small, "--quiet", "--jobs", 1)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert "train.jsonl" in result.stderr


def test_debug_shows_a_traceback_before_the_message(small: Path) -> None:
    (small.parent / "data" / "mood" / "train.jsonl").unlink()
    result = call("run", small, "--quiet", "--jobs", 1, "--debug")
    assert result.exit_code == 1
    assert result.stderr.index("Traceback") < result.stderr.index("\nerror: ")


def test_a_fault_of_ours_is_1_without_traceback(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **keys: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("potstill.pipeline.run_folder.evaluate", broken)
    result = call("run", small, "--quiet", "--jobs", 1)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ZeroDivisionError: oh")
    assert "--debug" in result.stderr


@pytest.mark.parametrize(
    ("error", "thing", "todo"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y", "`output:`"),
        (OSError(errno.EROFS, "Read-only file system", "/x/y"), "/x/y", "`output:`"),
        (MemoryError(), "memory", "--jobs 1"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB."), "memory", "`accumulate: 2`"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), "memory", "--jobs 1"),
    ],
)
def test_what_the_machine_lacks_is_no_fault_of_ours(
    small: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, thing: str, todo: str
) -> None:
    def broken(*arguments: object, **keys: object) -> None:
        raise error

    monkeypatch.setattr("potstill.config.load_run_file", broken)
    result = call("run", small, "--quiet", "--jobs", 1)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {thing}\n  got:")
    assert todo in result.stderr
    assert "--debug" not in result.stderr


def test_a_terminal_that_lacks_letters_is_no_fault(run_folder: Path, tmp_path: Path) -> None:
    """Output that is redirected has the encoding of the system."""
    copy = shutil.copytree(run_folder, tmp_path / "runs" / run_folder.name)
    listing = [sys.executable, "-m", "potstill", "runs", str(tmp_path / "runs")]
    (tmp_path / "runs" / "ünicöde-\N{SNOWMAN}").mkdir()
    (tmp_path / "runs" / "ünicöde-\N{SNOWMAN}" / "log.jsonl").write_text("{}\n")
    done = subprocess.run(
        listing, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert copy.name.encode() in done.stdout


WRITERS = (
    ("init", "no-data", "--out"),
    ("init", "no-data", "--force", "--out"),
    ("predict", "no-student", "no-rows.csv", "--out"),
    ("demo", "--folder"),
)  # without anything to read: where they would write is looked at first


@pytest.mark.parametrize("arguments", WRITERS)
def test_a_place_that_cannot_be_written_is_2(tmp_path: Path, arguments: Sequence[str]) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "out.csv", Path("/proc/x/out.csv")):
        result = call(*arguments, place)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: {arguments[-1]} {place}\n")
        assert "nothing can be written" in result.stderr


@pytest.mark.parametrize("arguments", WRITERS)
def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path: Path, arguments: Sequence[str]) -> None:
    place = tmp_path / "out.csv"
    if arguments[0] == "demo":
        place.touch()
    else:
        place.mkdir()
    result = call(*arguments, place)
    assert result.exit_code == 2
    assert re.search(r"got: .*(a folder|Not a directory)", result.stderr)
    assert "--force" not in result.stderr


# -- init, check --------------------------------------------------------------------------------


def test_init_then_check_then_run(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    for split, n in (("train", 24), ("dev", 12)):
        write_rows(tmp_path / "mood" / f"{split}.jsonl", toy_rows("classification", n, n))
        frame = pd.DataFrame(toy_rows("regression", n, n))
        frame.to_csv(tmp_path / f"stars_{split}.csv", index=False)
    out = tmp_path / "run.yaml"
    result = good("init", tmp_path / "mood", tmp_path / "stars_train.csv", "--out", out)
    assert f"potstill check {out}" in result.stdout
    again = call("init", tmp_path / "mood", "--out", out)
    assert again.exit_code == 2
    assert "--force" in again.stderr
    keys = ("--set", f"base={base}", "--set", "precision=fp32", "--set", "training.epochs=1")
    checked = good("check", out, *keys, "--quiet")
    assert "no errors" in checked.stdout
    small = ("--set", "evaluate.baselines=[]", "--set", "teachers.members=1")
    done = document(good("run", out, *keys, *small, "--json", "--quiet", "--jobs", 1))
    assert "mood" in done["tasks"]


def test_init_json(tmp_path: Path) -> None:
    write_rows(tmp_path / "mood.jsonl", toy_rows("classification", 20))
    out = tmp_path / "new.yaml"
    assert document(good("init", tmp_path / "mood.jsonl", "--out", out, "--json")) == {
        "run_file": str(out),
        "left_out": [],
    }


def test_init_takes_what_check_takes(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [dict(row) for row in toy_rows("classification", 20)]
    table = [["text", "label", "", ""], *([*row.values(), "", ""] for row in rows)]
    with (tmp_path / "tale.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(table)
    rows[0]["note"] = rows[1]["note"] = "a word of its own"
    write_rows(tmp_path / "mood.jsonl", rows)
    out = tmp_path / "run.yaml"
    good("init", tmp_path, "--out", out)
    base = make_base(tmp_path / "base")
    found = document(good("check", out, "--set", f"base={base}", "--json", "--quiet"))
    assert set(found["findings"]) == {"mood", "tale"}


def test_check_json_says_what_the_run_takes(place: Path) -> None:
    found = document(good("check", place / "run.yaml", "--json", "--quiet"))
    assert found["errors"] == 0
    assert set(found["findings"]) == {"mood", "same", "stars", "rank"}
    assert found["cost"]["n_networks"] == 2  # a teacher, which is the baseline too, and a student
    assert found["trial"]["rows_per_second"] > 0
    assert found["train_seconds"] > 0
    assert found["free_bytes"] > found["cost"]["disk_bytes"] > 0


def test_what_check_shows_loads_again(place: Path, tmp_path: Path) -> None:
    shown = tmp_path / "shown.yaml"
    shown.write_text(good("check", place / "run.yaml", "--show").stdout, encoding="utf-8")
    assert load_run_file(shown).record() == load_run_file(place / "run.yaml").record()


def test_check_lists_every_fault_with_file_and_row(small: Path) -> None:
    rows: list[dict[str, Any]] = [dict(row) for row in toy_rows("classification", 16, 0)]
    rows[2]["label"] = None
    rows[5]["text"] = "  "
    rows[7]["label"] = float("nan")
    rows.append(dict(rows[0]))
    write_rows(small.parent / "data" / "mood" / "train.jsonl", rows)
    dev: list[dict[str, Any]] = [dict(row) for row in toy_rows("classification", 8, 1)]
    dev[3]["label"] = "god"
    dev[4] = dict(rows[1])
    file = write_rows(small.parent / "data" / "mood" / "dev.jsonl", dev)
    with file.open("a", encoding="utf-8") as out:
        out.write('{"text": "cut\n')
    result = call("check", small, "--json", "--quiet")
    assert result.exit_code == 1
    found = document(result)["findings"]["mood"]
    text = json.dumps(found)
    errors = [f for f in found if f["severity"] == "error"]
    warnings = [f["what"] for f in found if f["severity"] == "warning"]
    assert len(errors) >= 5
    for place in ("line 3", "line 6", "line 8", "line 4", "line 9"):
        assert place in text
    assert "'god'" in text
    assert "nearest: 'good'" in text
    assert any("inputs of an earlier row" in what for what in warnings)
    assert any("in train too" in what for what in warnings)
    shown = call("check", small, "--quiet")
    assert shown.exit_code == 1
    assert re.search(r"^\d+ errors$", shown.stdout, re.MULTILINE)


def test_check_names_classes_that_the_rows_in_use_lack(small: Path) -> None:
    found = document(good("check", small, "--json", "--quiet", "--set", "tasks.mood.rows=1"))
    warnings = [f["what"] for f in found["findings"]["mood"] if f["severity"] == "warning"]
    assert any("train has no row of 1 of 2 classes" in what for what in warnings)


def test_skipping_bad_rows_is_bounded(small: Path) -> None:
    rows: list[dict[str, Any]] = [dict(row) for row in toy_rows("classification", 16, 0)]
    rows[2]["label"] = rows[4]["label"] = None
    write_rows(small.parent / "data" / "mood" / "train.jsonl", rows)
    refused = call("run", small, "--quiet", "--jobs", 1, "--skip-bad-rows", 1)
    assert refused.exit_code == 1
    assert "--skip-bad-rows 2" in refused.stderr
    done = good("run", small, "--quiet", "--jobs", 1, "--skip-bad-rows", 2)
    assert "2 faulty rows" in done.stderr


# -- run and stages -----------------------------------------------------------------------------


def test_run_prints_one_document(place: Path, run_folder: Path) -> None:
    result = good("run", place / "run.yaml", "--json", "--jobs", 1)
    results = document(result)
    assert results.pop("folder") == str(run_folder)
    check_results(results)
    assert results == json.loads((run_folder / "results.json").read_text(encoding="utf-8"))
    assert "done before" in result.stderr


def test_quiet_says_nothing_on_standard_error(place: Path) -> None:
    result = good("run", place / "run.yaml", "--quiet", "--jobs", 1)
    assert result.stderr == ""
    assert "student" in result.stdout
    assert "report.html" in result.stdout


def test_one_stage_after_the_other(small: Path) -> None:
    output = small.parent / "runs"
    kinds = []
    for command in ("teach", "label", "distill"):
        stages = document(good(command, small, "--json", "--quiet", "--jobs", 1))["stages"]
        assert {Path(stage).name for stage in stages} == stage_names(output)
        kinds.append({Path(stage).name.split("-")[0] for stage in stages})
    assert kinds == [{"network"}, {"network", "targets"}, {"network", "targets", "student"}]
    early = call("report", small, "--quiet")
    assert early.exit_code == 1
    assert "no results yet" in early.stderr
    assert f"next:   evaluate it first: potstill run {small}\n" in early.stderr
    early = call("report", small, "--quiet", "--skip-bad-rows", 1)
    assert f"first: potstill run {small} --skip-bad-rows 1\n" in early.stderr
    first = document(good("evaluate", small, "--json", "--quiet", "--jobs", 1))
    again = document(good("report", small, "--json", "--quiet"))
    assert again == first


def test_set_overrides_a_key(small: Path) -> None:
    keys = ("--set", "teachers.tasks=[]", "--set", "name=other")
    results = document(good("run", small, *keys, "--json", "--quiet", "--jobs", 1))
    assert "ensemble" not in results["tasks"]["mood"]["scores"]
    assert Path(results["folder"]).name.startswith("other-")


def test_runs_lists_runs_and_stages(place: Path, run_folder: Path) -> None:
    listing = document(good("runs", place / "runs", "--json"))
    assert [run["folder"] for run in listing["runs"]] == [run_folder.name]
    assert listing["runs"][0]["student"] is not None
    assert {stage["folder"] for stage in listing["stages"]} == stage_names(place / "runs")
    assert all(stage["used_by"] == [run_folder.name] for stage in listing["stages"])
    assert run_folder.name in good("runs", place / "runs").stdout


def test_runs_does_not_show_what_was_changed(run_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run_folder, tmp_path / "runs" / run_folder.name)
    text = (copy / "results.json").read_text()
    (copy / "results.json").write_text(text.replace('"version": 1', '"version": 1 '))
    (run,) = document(good("runs", tmp_path / "runs", "--json"))["runs"]
    assert run["student"] is None
    assert run["created"].startswith("damaged")


def test_check_tries_the_teachers_that_are_given(small: Path) -> None:
    lines = [{"text": "no row", "bad": 1, "good": 0}]
    as_jsonl(small.parent / "scores", lines)
    run = json.loads(small.read_text())
    run["tasks"]["mood"]["teachers"] = {"scores": "scores.jsonl"}
    small.write_text(json.dumps(run))
    result = call("check", small)
    assert result.exit_code == 1
    assert "has a score in" in result.stdout


def test_clean_never_removes_what_a_run_uses(small: Path) -> None:
    output = small.parent / "runs"
    good("run", small, "--quiet", "--jobs", 1)
    used = stage_names(output)
    runs = {path.name for path in output.iterdir()}
    good("teach", small, "--set", "seed=7", "--quiet", "--jobs", 1)
    idle = stage_names(output) - used
    assert len(idle) == 1
    assert document(good("clean", output, "--json"))["folders"] == []  # it may be continued
    (unfinished,) = (path for path in output.iterdir() if path.name not in runs)
    shutil.rmtree(unfinished)
    said = document(good("clean", output, "--json"))
    assert {Path(folder).name for folder in said["folders"]} == idle
    assert said["removed"] is False
    assert stage_names(output) == used | idle
    before = weight_digests(output)
    said = document(good("clean", output, "--yes", "--json"))
    assert said["removed"] is True
    assert said["bytes"] > 0
    assert stage_names(output) == used
    after = weight_digests(output)
    assert after == {name: d for name, d in before.items() if name.split("/")[1] not in idle}
    good("run", small, "--quiet", "--jobs", 1)


def taught(small: Path) -> tuple[Path, Path]:
    """The output folder with a teacher's stage, and the only run that uses it."""
    good("teach", small, "--quiet", "--jobs", 1)
    output = small.parent / "runs"
    (run,) = (path for path in output.iterdir() if path.name != "stages")
    return output, run


def test_clean_leaves_what_a_run_has_found_since_it_looked(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, run = taught(small)
    log = (run / "log.jsonl").read_text()
    shutil.rmtree(run)
    listed = housekeeping.list_runs(output)

    def as_it_was(_: Path) -> housekeeping.Listing:
        run.mkdir()  # a run begins, and finds the stage
        (run / "log.jsonl").write_text(log)
        return listed

    before = stage_names(output)
    with monkeypatch.context() as patch:
        patch.setattr(housekeeping, "list_runs", as_it_was)
        assert document(good("clean", output, "--yes", "--json"))["folders"] == []
    assert stage_names(output) == before


def test_a_report_is_drawn_from_the_folder_alone(run_folder: Path, tmp_path: Path) -> None:
    """Elsewhere, without data and base."""
    copy = shutil.copytree(run_folder, tmp_path / "copy")
    (copy / "report.html").unlink()
    shown = document(good("report", copy, "--json"))
    assert shown["folder"] == str(copy)
    assert (copy / "report.html").is_file()
    assert call("report", copy, "--set", "seed=1").exit_code == 2
    assert "no results yet" in call("report", tmp_path).stderr


def test_a_clean_that_is_broken_off_leaves_no_half_of_a_stage(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, run = taught(small)
    shutil.rmtree(run)

    def killed(folder: Path, ignore_errors: bool = False) -> None:
        if folder.exists():
            (folder / "manifest.json").unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        assert call("clean", output, "--yes").exit_code == 1
    (half,) = (output / "stages").glob("*.partial")
    assert list(half.iterdir())
    assert not stage_names(output)
    _, run = taught(small)  # made anew
    shutil.rmtree(run)
    good("clean", output, "--yes")  # the stage, and what was left of the one before
    assert not stage_names(output)
    assert not half.exists()


# -- predict ------------------------------------------------------------------------------------


def mixed_rows(n: int) -> list[dict[str, object]]:
    """Rows with the columns of every task, and one that no task reads."""
    kinds = ("classification", "pair", "ranking")
    parts = [toy_rows(kind, n, 5)[:n] for kind in kinds]
    rows = [{k: v for part in row for k, v in part.items()} for row in zip(*parts, strict=True)]
    for row in rows:
        for label in ("label", "relevance"):
            del row[label]
    return [{**row, "number": i} for i, row in enumerate(rows)]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def same_answers(found: Sequence[Any], wanted: Sequence[Any]) -> None:
    """Equal rows, tasks and predictions; numbers within the rounding of the sixth digit."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one["row"] == other["row"]
        assert list(one["tasks"]) == list(other["tasks"])
        for task, answer in one["tasks"].items():
            expected = other["tasks"][task]
            assert answer["prediction"] == pytest.approx(expected["prediction"], abs=2e-6)
            assert answer.get("scores") == pytest.approx(expected.get("scores"), abs=2e-6)


PREDICT = ("--device", "cpu", "--precision", "fp32", "--quiet")


@pytest.fixture(scope="module")
def wanted(run_folder: Path) -> list[dict[str, Any]]:
    student = potstill.load(run_folder, device="cpu", precision="fp32")
    return student.predict(mixed_rows(23))


def test_rows_out_are_those_of_the_design(run_folder: Path, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "in.jsonl", mixed_rows(3))
    out = tmp_path / "out.jsonl"
    good("predict", run_folder, file, "--out", out, *PREDICT)
    rows = lines(out)
    assert [row["row"] for row in rows] == [0, 1, 2]
    for row in rows:
        assert list(row) == ["row", "tasks"]
        assert list(row["tasks"]) == ["mood", "same", "stars", "rank"]
        mood = row["tasks"]["mood"]
        assert set(mood) == {"prediction", "scores"}
        assert set(mood["scores"]) == {"bad", "good"}
        assert sum(mood["scores"].values()) == pytest.approx(1, abs=1e-5)
        assert mood["prediction"] == max(mood["scores"], key=mood["scores"].__getitem__)
        assert list(row["tasks"]["stars"]) == ["prediction"]
        assert 0 <= row["tasks"]["stars"]["prediction"] <= 5
        assert list(row["tasks"]["rank"]) == ["prediction"]


def as_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    return write_rows(path.with_suffix(".jsonl"), rows)


def as_jsonl_gz(path: Path, rows: list[dict[str, object]]) -> Path:
    file = path.with_suffix(".jsonl.gz")
    with gzip.open(file, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)
    return file


def as_csv(path: Path, rows: list[dict[str, object]]) -> Path:
    pd.DataFrame(rows).to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".csv")


def as_tsv(path: Path, rows: list[dict[str, object]]) -> Path:
    pd.DataFrame(rows).to_csv(path.with_suffix(".tsv"), index=False, sep="\t")
    return path.with_suffix(".tsv")


def as_parquet(path: Path, rows: list[dict[str, object]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"), row_group_size=5)
    return path.with_suffix(".parquet")


@pytest.mark.parametrize("chunk_rows", [1, 7, 4096])
@pytest.mark.parametrize("write", [as_jsonl, as_jsonl_gz, as_csv, as_tsv, as_parquet])
def test_answers_do_not_hang_on_format_or_chunks(
    run_folder: Path,
    tmp_path: Path,
    wanted: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    write: Any,
    chunk_rows: int,
) -> None:
    monkeypatch.setattr(prediction, "_CHUNK_ROWS", chunk_rows)
    file = write(tmp_path / "in", mixed_rows(23))
    out = tmp_path / "out.jsonl"
    said = document(good("predict", run_folder, file, "--out", out, "--json", *PREDICT))
    assert said == {"rows": 23, "out": str(out)}
    same_answers(lines(out), wanted)


def test_csv_and_parquet_out_say_the_same(
    run_folder: Path, tmp_path: Path, wanted: list[dict[str, Any]]
) -> None:
    file = as_jsonl(tmp_path / "in", mixed_rows(23))
    for name in ("out.csv", "out.parquet"):
        good("predict", run_folder / "student", file, "--out", tmp_path / name, *PREDICT)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as text:
        from_csv = list(csv.DictReader(text))
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("mood").type == pa.string()
    assert table.schema.field("stars").type == pa.float64()
    from_parquet = table.to_pylist()
    for i, row in enumerate(wanted):
        for found in (from_csv[i], from_parquet[i]):
            mood = row["tasks"]["mood"]
            assert int(found["row"]) == i
            assert found["mood"] == mood["prediction"]
            assert float(found["mood_score"]) == pytest.approx(
                max(mood["scores"].values()), abs=1e-5
            )
            assert float(found["stars"]) == pytest.approx(
                row["tasks"]["stars"]["prediction"], abs=1e-5
            )
            assert "stars_score" not in found


def test_without_out_rows_go_to_standard_output(run_folder: Path, tmp_path: Path) -> None:
    file = as_jsonl(tmp_path / "in", mixed_rows(4))
    done = subprocess.run(
        [POTSTILL, "predict", str(run_folder), str(file), *PREDICT],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert [json.loads(line)["row"] for line in done.stdout.splitlines()] == [0, 1, 2, 3]
    assert done.stderr == ""


def test_tasks_are_those_whose_columns_the_file_has(run_folder: Path, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"text": row["text"], "more": 1} for row in mixed_rows(3)]
    out = tmp_path / "out.jsonl"
    good("predict", run_folder, as_jsonl(tmp_path / "in", rows), "--out", out, *PREDICT)
    assert [list(row["tasks"]) for row in lines(out)] == [["mood", "stars"]] * 3


@pytest.mark.parametrize("chunk_rows", [2, 4096])
def test_rows_of_a_file_may_be_of_different_tasks(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_rows: int
) -> None:
    monkeypatch.setattr(prediction, "_CHUNK_ROWS", chunk_rows)
    rows: list[dict[str, object]] = [
        {"text": "a good day"},
        {"first": "a day", "second": "a night"},
        {"text": "a bad day", "first": "a", "second": "b", "more": 1},
        {"text": "a bad day"},
    ]
    file = as_jsonl(tmp_path / "in", rows)
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        result = good("predict", run_folder, file, "--out", tmp_path / name, *PREDICT[:-1])
        assert "task 'rank' is left out: no column query, candidate" in result.stderr
        assert "'same'" not in result.stderr
    found = lines(tmp_path / "out.jsonl")
    assert [row["row"] for row in found] == [0, 1, 2, 3]
    tasks = [["mood", "stars"], ["same"], ["mood", "same", "stars"], ["mood", "stars"]]
    assert [list(row["tasks"]) for row in found] == tasks
    assert found[2]["tasks"]["mood"]["scores"] == pytest.approx(
        found[3]["tasks"]["mood"]["scores"], abs=1e-5
    )
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as text:
        cells = list(csv.DictReader(text))
    for row, flat, cell in zip(found, table, cells, strict=True):
        for task in ("mood", "same", "stars"):
            answer = row["tasks"].get(task)
            assert flat[task] == (None if answer is None else answer["prediction"])
            assert cell[task] == ("" if answer is None else str(answer["prediction"]))
            if task != "stars":
                assert (flat[f"{task}_score"] is None) == (answer is None)


def test_a_row_that_no_task_answers_is_named_before_any_is_answered(
    run_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"text": "a"}\n\n{"other": "a"}\n', encoding="utf-8")
    result = call("predict", run_folder, file, *PREDICT)
    assert result.exit_code == 1
    assert "in.jsonl, line 3: no task can be answered" in " ".join(result.stderr.split())
    assert result.stdout == ""
    result = call("predict", run_folder, file, "--tasks", "mood", *PREDICT)
    assert "in.jsonl, line 3: task 'mood'" in " ".join(result.stderr.split())


def test_tasks_can_be_chosen(run_folder: Path, tmp_path: Path) -> None:
    file = as_jsonl(tmp_path / "in", mixed_rows(3))
    out = tmp_path / "out.jsonl"
    good("predict", run_folder, file, "--tasks", "rank, mood", "--out", out, *PREDICT)
    assert [list(row["tasks"]) for row in lines(out)] == [["rank", "mood"]] * 3


@pytest.mark.parametrize(
    ("columns", "options", "code", "says"),
    [
        (("other",), (), 2, "no task can be answered"),
        (("text",), ("--tasks", "same"), 2, "first, second"),
        (("text",), ("--tasks", "nothing"), 2, "does not know"),
        (("text",), ("--out", "out.xlsx"), 2, ".parquet"),
        (("text",), ("--precision", "fp64"), 2, "bf16"),
        (("text",), ("--json",), 2, "--out"),
    ],
)
def test_what_cannot_be_predicted_is_said(
    run_folder: Path,
    tmp_path: Path,
    columns: Sequence[str],
    options: Sequence[str],
    code: int,
    says: str,
) -> None:
    file = as_jsonl(tmp_path / "in", [dict.fromkeys(columns, "a good day")])
    result = call("predict", run_folder, file, *options)
    assert result.exit_code == code
    assert says in result.stderr
    assert result.stdout == ""


def test_a_faulty_last_row_is_said_before_the_first_is_answered(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answered(*args: object, **kwargs: object) -> NoReturn:
        raise AssertionError("a row was answered")

    monkeypatch.setattr(prediction, "_CHUNK_ROWS", 2)
    monkeypatch.setattr(Predictor, "answer", answered)
    faulty: list[dict[str, object]] = [{"text": 7}, {"text": "a good day"}, {"text": None}]
    file = as_jsonl(tmp_path / "in", [*mixed_rows(6), *faulty])
    result = call("predict", run_folder, file, "--out", tmp_path / "out.jsonl", *PREDICT[:-1])
    assert result.exit_code == 1
    assert "line 7, column 'text'" in result.stderr
    assert "one of 2 such values of the file" in result.stderr


def test_the_file_that_is_read_is_not_overwritten(run_folder: Path, tmp_path: Path) -> None:
    file = as_jsonl(tmp_path / "in", mixed_rows(3))
    before = file.read_bytes()
    result = call("predict", run_folder, file, "--out", file, *PREDICT)
    assert result.exit_code == 2
    assert "the file that is read" in result.stderr
    assert file.read_bytes() == before


def test_a_missing_file_is_said_whether_out_is_there_or_not(
    run_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    out.touch()
    result = call("predict", run_folder, tmp_path / "in.jsonl", "--out", out, *PREDICT)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'in.jsonl'}\n  got:    no such file\n")


def test_what_is_left_out_and_what_is_blank_is_said(run_folder: Path, tmp_path: Path) -> None:
    file = as_jsonl(tmp_path / "in", [{"text": "a good day"}, {"text": "  "}])
    out = tmp_path / "out.jsonl"
    result = good("predict", run_folder, file, "--out", out, *PREDICT[:-1])
    assert "'same' is left out: no column" in result.stderr
    assert "1 texts are blank" in result.stderr
    mixed: list[dict[str, object]] = [
        {"text": "a good day", "query": ""},
        {"text": "a", "query": "b", "candidate": "c"},
    ]
    file = as_jsonl(tmp_path / "mixed", mixed)
    result = good("predict", run_folder, file, "--out", out, *PREDICT[:-1])
    assert "blank" not in result.stderr


def test_an_ending_is_refused_before_anything_is_read(run_folder: Path, tmp_path: Path) -> None:
    result = call("predict", run_folder, tmp_path / "none.jsonl", "--out", tmp_path / "a.json")
    assert result.exit_code == 2
    assert "the ending '.json'" in result.stderr
    result = call("report", run_folder, "--skip-bad-rows", 3)
    assert result.exit_code == 2
    assert "--skip-bad-rows" in result.stderr


def test_answers_go_where_a_link_leads(run_folder: Path, tmp_path: Path) -> None:
    file = as_jsonl(tmp_path / "in", [{"text": "a good day"}])
    link, target = tmp_path / "link.jsonl", tmp_path / "target.jsonl"
    link.symlink_to(target)
    good("predict", run_folder, file, "--out", link, *PREDICT)
    assert link.is_symlink()
    assert "prediction" in target.read_text()


def test_rows_that_lose_their_end_are_counted(
    run_folder: Path, bundle: dict[str, Any], tmp_path: Path
) -> None:
    long = "a good day " * 300
    rows = [{"text": "a good day", "other": long}, {"text": long, "other": "b"}, {"text": long}]
    file = as_jsonl(tmp_path / "in", [{"other": "c", **row} for row in rows])
    for student in (run_folder, bundle["folder"]):
        result = good("predict", student, file, "--out", tmp_path / "out.jsonl", "--tasks", "mood")
        assert "2 of 3 rows are longer than the " in result.stderr


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_a_faulty_row_leaves_no_output(run_folder: Path, tmp_path: Path, name: str) -> None:
    rows = mixed_rows(5)
    rows[3]["text"] = None
    out = tmp_path / name
    out.write_text("what stood before", encoding="utf-8")
    result = call("predict", run_folder, as_jsonl(tmp_path / "in", rows), "--out", out, *PREDICT)
    assert result.exit_code == 1
    assert "line 4, column 'text'" in result.stderr
    assert out.read_text(encoding="utf-8") == "what stood before"
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.parquet"])
def test_a_file_without_rows_leaves_no_output(run_folder: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if name == "in.parquet":
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), file)
    else:
        file.write_text("text,other\n" if name == "in.csv" else "", encoding="utf-8")
    result = call("predict", run_folder, file, "--out", tmp_path / "out.jsonl", "--tasks", "mood")
    assert result.exit_code == 1
    assert "no rows" in result.stderr or "an empty file" in result.stderr
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("task", ["mood", "same", "stars"])
def test_export_is_a_standard_classifier(run_folder: Path, tmp_path: Path, task: str) -> None:
    folder = document(
        good("export", run_folder, "--task", task, "--out", tmp_path / task, "--json")
    )["folder"]
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    student = Student.load(run_folder, device="cpu", precision="fp32")
    row = mixed_rows(1)[0]
    tokens = student.network.tokenise(task, {k: [str(v)] for k, v in row.items()})
    with torch.inference_mode():
        logits = model(
            input_ids=torch.tensor([tokens.ids.tolist()]),
            token_type_ids=torch.tensor([tokens.types.tolist()]),
        ).logits[0]
    answer = student.predict(row, [task])[task]
    if "scores" not in answer:
        assert float(logits[0]) == pytest.approx(answer["prediction"], abs=1e-3)
        return
    scores = dict(zip(model.config.id2label.values(), logits.softmax(0).tolist(), strict=True))
    assert scores == pytest.approx(answer["scores"], abs=1e-3)


@pytest.mark.parametrize(
    ("what", "broken"), [(("--task", "mood"), "model.safetensors"), (("--zip",), "out.zip")]
)
def test_an_export_that_a_full_disk_broke_can_be_said_again(
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: Sequence[str],
    broken: str,
) -> None:
    def full(path: Path, written: int) -> None:
        if path.name == broken:
            raise OSError(errno.ENOSPC, "No space left on device")

    command = ("export", run_folder, *what, "--out", tmp_path / "out")
    monkeypatch.setattr(files, "fault_hook", full)
    result = call(*command)
    assert result.exit_code == 1
    assert "disk full while writing" in result.stderr
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(files, "fault_hook", None)
    good(*command)


def test_a_task_is_not_written_through_a_link_that_leads_nowhere(
    run_folder: Path, tmp_path: Path
) -> None:
    link = tmp_path / "out"
    link.symlink_to(tmp_path / "there")
    good("export", run_folder, "--task", "mood", "--out", link)
    assert (tmp_path / "there" / "config.json").is_file()


def test_export_of_an_unknown_task_is_2(run_folder: Path, tmp_path: Path) -> None:
    result = call("export", run_folder, "--task", "nothing", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "mood" in result.stderr


def test_a_classifier_takes_no_option_of_bundles(run_folder: Path, tmp_path: Path) -> None:
    result = call("export", run_folder, "--task", "mood", "--out", tmp_path / "out", "--zip")
    assert result.exit_code == 2
    assert "a model of transformers is a folder" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module", autouse=True)
def _quick_exports() -> Iterator[None]:
    with quick_measuring():
        yield


@pytest.fixture(scope="module")
def bundle(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `export --json --zip` says."""
    out = tmp_path_factory.mktemp("exported") / "bundle"
    return document(good("export", run_folder, "--out", out, "--zip", "--threads", 1, "--json"))


def test_export_writes_a_bundle_and_says_what_was_measured(
    run_folder: Path, bundle: dict[str, Any]
) -> None:
    assert Path(bundle["folder"]).is_dir()
    assert Path(bundle["zip"]).is_file()
    tasks = json.loads((run_folder / "results.json").read_text())["tasks"]
    assert set(bundle["student_scores"]) == set(tasks)
    measured = {entry["engine"]: entry for entry in bundle["engines"]}
    assert bundle["engine"] in measured
    assert measured[bundle["engine"]]["refused"] is None
    for entry in measured.values():
        assert set(entry["scores"]) == set(tasks)
        assert all(ms > 0 for ms in entry["ms"].values())
    exact = measured["onnxruntime-fp32"]
    assert exact["difference"] < 1e-4
    scores, wanted = dict(exact["scores"]), dict(bundle["student_scores"])
    # Of stars, the one score that is not of ranks or classes, a correlation: this toy's values are
    # nearly constant, so that the rounding of outputs shows in it.
    assert scores.pop("stars") == pytest.approx(wanted.pop("stars"), rel=0, abs=1e-4)
    assert scores == {task: round(score, 6) for task, score in wanted.items()}
    card = (Path(bundle["folder"]) / "README.md").read_text()
    assert "## Engine" in card
    assert f"`{bundle['engine']}`" in card


def test_a_bundle_predicts_as_its_student(
    run_folder: Path, bundle: dict[str, Any], tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "rows.jsonl", mixed_rows(6))
    answers = {}
    refused = call("predict", bundle["folder"], file, "--precision", "fp32")
    assert refused.exit_code == 2
    assert "with the engine it was exported for" in refused.stderr
    student: list[object] = [run_folder, file, "--precision", "fp32"]
    for name, asked in {"student": student, "folder": [bundle["folder"], file]}.items():
        good("predict", *asked, "--out", tmp_path / f"{name}.jsonl")
        lines = (tmp_path / f"{name}.jsonl").read_text().splitlines()
        answers[name] = [json.loads(line) for line in lines]
    assert [row["row"] for row in answers["folder"]] == list(range(6))
    assert [set(row["tasks"]) for row in answers["folder"]] == [
        set(row["tasks"]) for row in answers["student"]
    ]
    zipped = tmp_path / "zipped.jsonl"
    good("predict", bundle["zip"], file, "--out", zipped)
    assert zipped.read_bytes() == (tmp_path / "folder.jsonl").read_bytes()


def test_export_with_an_unknown_engine(run_folder: Path, tmp_path: Path) -> None:
    result = call("export", run_folder, "--out", tmp_path / "b", "--engines", "steam")
    assert result.exit_code == 2
    assert "an unknown engine" in result.stderr
    assert not (tmp_path / "b").exists()


def test_export_asks_first_whether_it_can_write(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "x", Path("/proc/x/y")):
        result = call("export", run_folder, "--out", place)
        assert result.exit_code == 2
        assert "nothing can be written" in result.stderr
    result = call("export", run_folder, "--out", tmp_path / "b", "--engines", ",")
    assert result.exit_code == 2
    assert "no name" in result.stderr


def test_export_refuses_a_folder_that_holds_something(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").write_text("text")
    result = call("export", run_folder, "--out", tmp_path / "b")
    assert result.exit_code == 2
    assert "holds something already" in result.stderr
    (tmp_path / "c.zip").write_text("mine")
    result = call("export", run_folder, "--out", tmp_path / "c", "--zip")
    assert result.exit_code == 2
    assert (tmp_path / "c.zip").read_text() == "mine"
    (tmp_path / "e.zip").mkdir()
    result = call("export", run_folder, "--out", tmp_path / "e", "--zip")
    assert result.exit_code == 2
    assert "e.zip" in result.stderr
    (tmp_path / "d.partial").mkdir()
    (tmp_path / "d.partial" / "mine").write_text("text")
    result = call("export", run_folder, "--out", tmp_path / "d")
    assert result.exit_code == 2
    assert "of an export that was killed" in result.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "is_mount", lambda path: path.name == "m")
        result = call("export", run_folder, "--out", tmp_path / "m")
    assert result.exit_code == 2
    assert "a mount point" in result.stderr
    assert (tmp_path / "d.partial" / "mine").read_text() == "text"


def test_an_export_that_is_stopped_begins_anew(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StopSignal, "reason", "SIGINT was received")
    result = call("export", run_folder, "--out", tmp_path / "b", "--threads", 1)
    assert result.exit_code == 1
    assert "it begins anew" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_prediction_that_is_stopped_leaves_nothing(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a fine day"}\n', encoding="utf-8")
    monkeypatch.setattr(StopSignal, "reason", "SIGTERM was received")
    result = call("predict", run_folder, rows, "--out", tmp_path / "out.jsonl")
    assert result.exit_code == 1
    assert "it begins anew" in result.stderr
    assert list(tmp_path.iterdir()) == [rows]


def test_a_student_without_its_run_is_exported_exactly(run_folder: Path, tmp_path: Path) -> None:
    student = shutil.copytree(run_folder / "student", tmp_path / "alone")
    result = good("export", student, "--out", tmp_path / "b", "--threads", 1)
    assert "no dev rows" in result.stderr
    assert "fp32" in result.stdout.split("with")[1]


@pytest.mark.parametrize(
    ("dev", "said"),
    [
        ("<rows given in Python>", "its rows were given in Python"),
        ("gone.jsonl", "gone.jsonl"),
        ("other.jsonl", "other dev rows than the run had"),
    ],
)
def test_a_run_whose_data_is_not_there_is_exported_exactly(
    run_folder: Path, tmp_path: Path, dev: str, said: str
) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    write_rows(tmp_path / "other.jsonl", toy_task()["train"][:12])
    mood = load_run_file(folder / "run.yaml").tasks["mood"]
    text = (folder / "run.yaml").read_text(encoding="utf-8")
    assert str(mood.dev) in text
    other = text.replace(str(mood.dev), str(tmp_path / dev))
    (folder / "run.yaml").write_text(other, encoding="utf-8")
    result = good("export", folder, "--out", tmp_path / "b", "--threads", 1)
    assert said in " ".join(result.stderr.split())
    assert "fp32" in result.stdout.split("with")[1]


# -- stopping -----------------------------------------------------------------------------------


def test_a_time_limit_stops_and_the_same_command_continues(small: Path) -> None:
    long = ("--set", "training.epochs=60", "--quiet", "--jobs", 1)
    started = time.monotonic()
    result = call("run", small, *long, "--time-limit", "0.5s")
    assert time.monotonic() - started < 10
    assert result.exit_code == 1
    assert "the time limit is reached" in result.stderr
    assert "run the same command again" in result.stderr
    assert result.stdout == ""
    good("run", small, *long)
    stopped = weight_digests(small.parent / "runs" / "stages")
    good("run", small, *long, "--set", "output=whole")
    assert stopped == weight_digests(small.parent / "whole" / "stages")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_an_interrupt_stops_cleanly_and_the_same_command_continues(small: Path) -> None:
    command = [POTSTILL, "run", str(small), "--jobs", "1"]
    command += ["--set", "training.epochs=40", "--set", "training.checkpoint_seconds=1e6"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    runs = small.parent / "runs"
    for _ in range(600):
        logs = [log.read_text(encoding="utf-8") for log in runs.glob("*/log.jsonl")]
        if any('"event": "loss"' in log for log in logs) or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert out == ""
    assert "SIGINT" in errors
    assert "stopping at the next step" in errors
    assert "it continues where it stopped" in errors
    assert "Traceback" not in errors
    assert len(list((runs / "stages").glob("*.partial/checkpoint.json"))) == 1
    # Processes of their own, as the first was: a library that another test has loaded may have
    # changed how this one treats the smallest numbers.
    for more in ((), ("--set", "output=whole")):
        subprocess.run([*command, "--quiet", *more], check=True, env=environment, timeout=100)
    assert weight_digests(runs / "stages") == weight_digests(small.parent / "whole" / "stages")


@pytest.mark.timeout(180)
def test_a_signal_to_all_processes_lets_each_save(small: Path) -> None:
    command = [POTSTILL, "run", str(small), "--jobs", "2", "--set", "teachers.members=2"]
    command += ["--set", "training.epochs=4000", "--set", "training.checkpoint_seconds=1e6"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        start_new_session=True,
    )
    runs = small.parent / "runs"
    for _ in range(900):
        logs = "".join(log.read_text(encoding="utf-8") for log in runs.glob("*/log.jsonl"))
        at_work = set(re.findall(r'"event": "loss", "training": "([^"]*)"', logs))
        if len(at_work) == 2 or process.poll() is not None:
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)  # as schedulers do
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "SIGTERM" in errors
    assert "Traceback" not in errors
    assert len(list((runs / "stages").glob("*.partial/checkpoint.json"))) == 2
