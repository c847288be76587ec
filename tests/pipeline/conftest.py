"""One base and one finished run, shared by the tests that only read them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import potstill
from tests.pipeline.toy_runs import Keys, toy_run, toy_task
from tests.toys import make_base


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Hundreds of tiny files: syncing each would be a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="session")
def finished(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Keys, Path]:
    """A run of two tasks, and its folder; copy the folder's parent before changing anything."""
    run = toy_run(tmp_path_factory.mktemp("finished") / "runs", base)
    return run, potstill.run(run).folder


@pytest.fixture(scope="session")
def student_folder(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of all kinds, two of whose tasks read the same column."""
    kinds = ("classification", "pair", "regression", "ranking")
    names = {"classification": "mood", "pair": "same", "regression": "stars", "ranking": "rank"}
    tasks = {names[kind]: toy_task(kind) for kind in kinds}
    run = toy_run(tmp_path_factory.mktemp("student") / "runs", base, tasks)
    run["teachers"] = {"tasks": ["mood"], "members": 1}
    run["evaluate"]["baselines"] = []
    return potstill.run(run).folder / "student"
