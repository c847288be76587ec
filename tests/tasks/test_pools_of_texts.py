"""Pools of tasks that say texts: a text of another language is none of theirs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from potstill.core.errors import DataError
from potstill.tasks.inputs import SourceInputs
from potstill.tasks.pools import pool_of_others
from potstill.tasks.task import Task
from tests.sequences import sequence_task


def turned(task: Task) -> Task:
    """The same task from another column."""
    train = replace(task.train, inputs={"de": ["der Hund", "die Katze"] + ["x"] * 8})
    return replace(task, name="back", inputs=SourceInputs(columns=("de",)), train=train)


def test_others_are_those_of_the_same_column() -> None:
    one, other = sequence_task("de", train=10), sequence_task("fr", train=12)
    pool = pool_of_others(one, [one, other, turned(one)])
    assert pool.inputs == {"en": other.train.inputs["en"]}
    with pytest.raises(DataError, match="no other task"):
        pool_of_others(one, [one, turned(one)])
