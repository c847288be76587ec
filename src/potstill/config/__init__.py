"""The run file: what a run is asked to do, checked before any data is opened.

    fields.py     types that keys share; the base of all sections
    tasks.py      what tasks have; the kinds whose keys are written out
    task_kinds.py all kinds, also those that name their keys themselves
    given.py      teachers that exist already
    training.py   the training section
    sections.py   teachers, student, distill, evaluate, export; the papers' recipes
    run_file.py   the whole, with derived defaults
    checks.py     what must agree between sections
    reading.py    YAML to plain values with places; --set
    faults.py     faults as messages
    loading.py    the two ways in
    describe.py   the keys in words, for the documentation and `check --show`
    guess.py      what data files seem to hold
    scaffold.py   a first run file for them

Opens no data, and starts without torch, transformers, pandas and pyarrow.
"""

from __future__ import annotations

from potstill.config.describe import show
from potstill.config.given import GivenModels, GivenScores
from potstill.config.loading import load_run_file, parse_run
from potstill.config.run_file import RunFile
from potstill.config.scaffold import scaffold
from potstill.config.sections import (
    Distill,
    Evaluate,
    Export,
    Member,
    Student,
    Teachers,
)
from potstill.config.task_kinds import TASK_KINDS
from potstill.config.tasks import ClassificationTask, RankingTask, RegressionTask, Task
from potstill.config.training import Training

__all__ = [
    "TASK_KINDS",
    "ClassificationTask",
    "Distill",
    "Evaluate",
    "Export",
    "GivenModels",
    "GivenScores",
    "Member",
    "RankingTask",
    "RegressionTask",
    "RunFile",
    "Student",
    "Task",
    "Teachers",
    "Training",
    "load_run_file",
    "parse_run",
    "scaffold",
    "show",
]
