"""Trainings in several processes give what one process gives, and end with their parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import potstill
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
