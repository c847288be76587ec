"""Trainings in several processes give what one process gives, and end with their parent."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import potstill
from potstill.core.errors import PotstillError, Stopped
from tests.pipeline.toy_runs import toy_run

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
    with pytest.raises(Stopped):
        potstill.run(run, jobs=2, time_limit=25)
    # both trainings of the first two jobs left a checkpoint, not one of them
    assert len(list((tmp_path / "stages").rglob("checkpoint.json"))) == 2
