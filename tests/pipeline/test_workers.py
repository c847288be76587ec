"""Trainings in several processes give what one process gives, and end with their parent."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

import potstill
from potstill.config import parse_run
from potstill.core.errors import PotstillError, ResourceError, Stopped
from potstill.core.progress import Progress
from potstill.pipeline.jobs import Job
from potstill.pipeline.run import Run
from potstill.pipeline.workers import LocalProcesses, open_run
from tests.pipeline.toy_runs import Keys, toy_run

_ORPHAN = """
import os, sys
from potstill.pipeline import workers
workers._SECONDS_TO_SAVE = 0
open(sys.argv[1], "w").write(str(os.getpid()))
workers._end_with(os.getppid())
"""
_PARENT = """
import pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]])
while not pathlib.Path(sys.argv[2]).exists() or not pathlib.Path(sys.argv[2]).read_text():
    time.sleep(0.05)
"""


def _below(kind: type[PotstillError]) -> list[type[PotstillError]]:
    return [found for below in kind.__subclasses__() for found in (below, *_below(below))]


@pytest.mark.timeout(240)
def test_two_processes_give_the_results_of_one(base: Path, tmp_path: Path) -> None:
    one, two = (
        potstill.run(toy_run(tmp_path / name, base), jobs=jobs)
        for name, jobs in (("one", 1), ("two", 2))
    )
    for key in ("tasks", "mean"):
        assert two.results[key] == one.results[key]
    stages = [
        sorted(p.name for p in (tmp_path / n / "stages").iterdir() if p.is_dir())
        for n in ("one", "two")
    ]
    assert stages[0] == stages[1]


@pytest.mark.timeout(120)
def test_a_worker_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    subprocess.run([sys.executable, "-c", _PARENT, _ORPHAN, str(file)], check=True, timeout=100)
    worker = int(file.read_text())
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")


@pytest.mark.parametrize("kind", [PotstillError, *_below(PotstillError)])
def test_errors_travel_between_processes(kind: type[PotstillError]) -> None:
    error = kind("the thing", got="this", wanted="that", todo="go on")
    again = copy.copy(error)  # by the way that pickle takes
    assert type(again) is kind
    assert str(again) == str(error)


@pytest.mark.timeout(240)
def test_stopped_workers_save_and_are_no_crash(base: Path, tmp_path: Path) -> None:
    run = toy_run(tmp_path, base)
    run["training"] |= {"epochs": 5000, "checkpoint_seconds": 1e6}
    progress = Progress(quiet=True)

    def stop_when_both_train() -> None:
        trained: set[str] = set()
        while len(trained) < 2:
            time.sleep(0.1)
            logs = [log.read_text() for log in tmp_path.rglob("log.jsonl")]
            lines = [line for log in logs for line in log.split("\n")[:-1]]
            events = [json.loads(line) for line in lines]
            trained = {e["training"] for e in events if e["event"] == "loss"}
        progress.stop.requested = "enough"

    threading.Thread(target=stop_when_both_train, daemon=True).start()
    with (
        pytest.raises(Stopped, match="enough"),
        open_run(parse_run(run), progress, skip_bad_rows=0, n_workers=2) as opened,
    ):
        opened.evaluate()
    # both trainings of the first two jobs left a checkpoint, not one of them
    assert len(list((tmp_path / "stages").rglob("checkpoint.json"))) == 2


class Broken:
    """A pool whose processes were ended before they had any work."""

    def submit(self, *_: object) -> None:
        raise BrokenProcessPool

    def shutdown(self, **_: object) -> None:
        pass


def test_processes_that_end_before_their_work_are_explained(base: Path, tmp_path: Path) -> None:
    job = Job(what="student", seed=0)
    for requested, kind in ((None, ResourceError), ("SIGINT was received", Stopped)):
        progress = Progress()
        team = LocalProcesses(parse_run(toy_run(tmp_path, base)), progress, 2, skip_bad_rows=0)
        team._pool = Broken()  # type: ignore[assignment]
        progress.stop.requested = requested
        with pytest.raises(kind):
            team.run([job, job])


class Noting:
    """An executor that does nothing but note what it was asked."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def run(self, jobs: Sequence[Job]) -> None:
        self.jobs += jobs


def test_only_what_is_missing_is_shared(finished: tuple[Keys, Path], tmp_path: Path) -> None:
    run, folder = finished
    shutil.copytree(folder.parent, tmp_path / "runs")
    again = parse_run({**run, "output": str(tmp_path / "runs")})
    executor = Noting()
    Run(again, Progress(), executor=executor).evaluate()
    assert executor.jobs == []
    for stage in (tmp_path / "runs" / "stages").glob("student-*"):
        shutil.rmtree(stage)
    Run(again, Progress(), executor=executor).distill()
    assert executor.jobs == []  # the student is alone among the steps of `distill`
    for stage in (tmp_path / "runs" / "stages").glob("student-*"):
        shutil.rmtree(stage)
    Run(again, Progress(), executor=executor).evaluate()
    # The baselines stand, and yet the student is trained where it would be with them: its numbers
    # must not depend on what was done before a stop.
    assert [job.what for job in executor.jobs if job.what != "outcome"] == ["student"]
