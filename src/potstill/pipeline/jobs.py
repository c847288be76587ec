"""Work of a run that can be done on its own, in any order, by any process.

A job is a name for a stage ("the network k of seed 0"). Whoever does it makes the stage in the
folder that all share; the run then goes its ordinary way and finds it. So a job may be done
twice, or not at all, without changing a result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A stage that can be made on its own.

    Attributes:
        what: Which step of the seed's run.
        seed: The seed.
        index: Number of the network, for ``network``.
        task: Name of the task, for steps of one task.
    """

    what: Literal[
        "network",
        "ensemble",
        "single",
        "lesson",
        "baseline",
        "long",
        "student",
        "finetuned",
        "outcome",
    ]
    seed: int
    index: int = 0
    task: str = ""


class Executor(Protocol):
    """Something that does jobs, anywhere that sees the folder of stages."""

    def run(self, jobs: Sequence[Job], spare: deque[Job], run_id: str) -> None:
        """Do all jobs, and of ``spare`` what is begun while some of them are still being done.

        Args:
            jobs: What must be done before the run goes on.
            spare: What idle processes may do meanwhile; what is begun is taken out, and done at
                the end, too.
            run_id: Of the run with the data that they were named for.

        Raises the first fault, after the others have stopped.
        """
