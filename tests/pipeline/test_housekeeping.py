"""What no run uses any more, and what must stay."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from potstill.core.errors import UsageError
from potstill.core.files import seal
from potstill.core.progress import Progress
from potstill.core.stages import STAGES_FOLDER, StageFolder
from potstill.pipeline.housekeeping import clean, list_runs


def stage(output: Path, name: str) -> None:
    folder = output / STAGES_FOLDER / name
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"x" * 100)


def log(run: Path, *events: dict[str, str]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    with (run / "log.jsonl").open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def kept(output: Path) -> list[str]:
    clean(output, really=True)
    return sorted(p.name for p in (output / STAGES_FOLDER).iterdir() if p.is_dir())


def test_a_finished_run_keeps_what_it_has_and_what_it_is_making_anew(tmp_path: Path) -> None:
    """Such as after an update whose stages are others, while the old results still stand."""
    for name in ("network-older", "network-old", "network-new", "student-new.partial", "other"):
        stage(tmp_path, name)
    run = tmp_path / "run-1"
    log(run, {"event": "start"}, {"event": "stage", "stage": "network-older"})
    log(run, {"event": "start"}, {"event": "stage", "stage": "network-old"})
    seal(run, {"stages": ["network-old"], "created": "today"}, without=["log.jsonl"])
    log(run, {"event": "start"}, {"event": "stage", "stage": "network-new"})
    log(run, {"event": "stage", "stage": "student-new"})
    assert kept(tmp_path) == ["network-new", "network-old", "student-new.partial"]


def test_a_run_keeps_its_stages_where_its_log_is_damaged_or_gone(tmp_path: Path) -> None:
    for name in ("network-a", "network-b", "other"):
        stage(tmp_path, name)
    done, going = tmp_path / "run-1", tmp_path / "run-2"
    done.mkdir()
    (done / "results.json").write_text('{"mean": {"student": 0.5}}')
    seal(done, {"stages": ["network-a"], "created": "today"}, without=["log.jsonl"])
    log(going, {"event": "start"}, {"event": "stage", "stage": "network-b"})
    with (going / "log.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\n{bad")
    assert [run["folder"] for run in list_runs(tmp_path).runs] == ["run-1", "run-2"]
    assert kept(tmp_path) == ["network-a", "network-b"]


def test_a_run_or_a_file_is_no_folder_of_runs(tmp_path: Path) -> None:
    log(tmp_path / "run-1", {"event": "start"})
    for look in (list_runs, lambda folder: clean(folder, really=False)):
        with pytest.raises(UsageError, match="the folder of one run") as refused:
            look(tmp_path / "run-1")
        assert str(tmp_path) in refused.value.todo
        with pytest.raises(UsageError, match="a file"):
            look(tmp_path / "run-1" / "log.jsonl")


def test_long_names_are_whole_in_a_narrow_table(tmp_path: Path) -> None:
    name = "network-" + "0123456789" * 8
    stage(tmp_path, name)
    console = Console(width=60, file=io.StringIO())
    console.print(list_runs(tmp_path).table())
    said = cast("io.StringIO", console.file).getvalue()
    folded = "".join(line[:38].strip() for line in said.splitlines()[1:])
    assert name in "".join(said.split()) or name in folded


def test_what_is_gone_meanwhile_has_no_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(tmp_path, "network-a")
    walked = list(os.walk(tmp_path / STAGES_FOLDER / "network-a"))
    walked[0][2].append("gone.bin")
    monkeypatch.setattr(os, "walk", lambda _: iter(walked))
    (entry,) = list_runs(tmp_path).stages
    assert entry["bytes"] == 100


def test_what_another_process_makes_stays(tmp_path: Path) -> None:
    stage(tmp_path, "network-a.partial")
    stage(tmp_path, "network-b")
    stages = StageFolder(root=tmp_path / STAGES_FOLDER, progress=Progress())
    with stages.alone("network-a", "a"):
        assert kept(tmp_path) == ["network-a.partial"]
    assert kept(tmp_path) == []
    assert [p.name for p in stages.root.iterdir()] == [".network-a.lock"]  # no lock for a look
