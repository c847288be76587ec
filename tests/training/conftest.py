"""The small training that the tests here repeat, stop and break."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import tiny_settings, toy_task
from tests.training.trainings import Training


@pytest.fixture
def training(base: Path) -> Training:
    """Two tasks, two epochs, eight batches or so."""
    tasks = [toy_task(train=16, dev=8), toy_task("ranking", train=12, dev=8)]
    return Training(base=base, tasks=tasks, extras={}, settings=tiny_settings(batch=8))
