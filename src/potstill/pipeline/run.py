"""A whole run: every seed through every stage."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from potstill.config import RunFile
from potstill.config.fields import SEQUENCE_BASE
from potstill.core.device import Device, describe_hardware, resolve_device
from potstill.core.errors import UsageError
from potstill.core.files import digest_json
from potstill.core.places import free_bytes, need_disk
from potstill.core.progress import Progress
from potstill.core.stages import STAGES_FOLDER, NotMade, Stage, StageFolder
from potstill.models.base_folder import find_base
from potstill.pipeline.bases import bases_that_cut, need_agreement
from potstill.pipeline.early import refuse_early
from potstill.pipeline.estimate import estimate
from potstill.pipeline.given import look_at_given
from potstill.pipeline.housekeeping import bytes_so_far
from potstill.pipeline.jobs import Executor, Job
from potstill.pipeline.loading import doubts_of, load_tasks
from potstill.pipeline.outcomes import gather
from potstill.pipeline.run_folder import Finished, RunResult, draw_report
from potstill.pipeline.seed_jobs import (
    do,
    ensemble_jobs,
    finetuning_jobs,
    lesson_jobs,
    outcome_jobs,
    single_jobs,
    student_jobs,
    teacher_jobs,
)
from potstill.pipeline.seed_run import SeedRun
from potstill.tasks.task import Task

_ID_LETTERS = 8

_STEPS = (
    teacher_jobs,
    single_jobs,
    ensemble_jobs,
    lesson_jobs,
    student_jobs,
    finetuning_jobs,
    outcome_jobs,
)


class Run:
    """A run file with its data read, ready for its stages.

    Args:
        run: The run file.
        progress: Where to report.
        skip_bad_rows: How many faulty rows each source may have.
        executor: Does trainings that need nothing of each other; None does one after the other.

    Raises:
        DataError: A source or a row is faulty.
        ResourceError: The device that was asked for is not there.
    """

    def __init__(
        self,
        run: RunFile,
        progress: Progress,
        *,
        skip_bad_rows: int = 0,
        executor: Executor | None = None,
    ) -> None:
        self.run = run
        self._executor = executor
        self._begun = self._taught = False
        self.progress = progress
        self.device: Device = resolve_device(run.device, run.precision)
        self.tasks: dict[int, dict[str, Task]] = {
            seed: load_tasks(run, seed=seed, skip_bad_rows=skip_bad_rows, progress=progress)
            for seed in run.seeds
        }
        self.stages = StageFolder(root=Path(run.output) / STAGES_FOLDER, progress=progress)
        self.folder = Path(run.output) / f"{run.name}-{self.id}"
        progress.log_file = self.folder / "log.jsonl"

    @cached_property
    def id(self) -> str:
        """Digest of the run file, its data, bases and given teachers: where the run lives."""
        bases = {base: find_base(base).digest for base in self.run.bases if base != SEQUENCE_BASE}
        asked = self.run.settings(bases)
        each = [task for tasks in self.tasks.values() for task in tasks.values()]
        data = [
            [t.digest, t.reported.digest, None if t.pool is None else t.pool.digest] for t in each
        ]
        keyed = [s for t in each for s in (t.train, t.dev, t.reported, t.pool) if s is not None]
        keys = [s.keyed_digest for s in keyed if s.keys is not None]
        given = [
            member.digest
            for seed in self.seeds
            for members in seed.given.values()
            for member in members
        ]
        facts = {"asked": asked, "data": data}
        facts |= {"given": given} if given else {}
        facts |= {"keys": keys} if keys else {}
        return digest_json(facts)[:_ID_LETTERS]

    @cached_property
    def seeds(self) -> list[SeedRun]:
        """One a seed."""
        return [
            SeedRun(run=self.run, seed=seed, tasks=tasks, stages=self.stages, device=self.device)
            for seed, tasks in self.tasks.items()
        ]

    # -- stages ---------------------------------------------------------------------------------

    def teach(self) -> list[Stage]:
        """Train the teachers of every seed."""
        self._begin()
        if not self._taught:
            self._share(self._jobs(teacher_jobs))
            self._share(self._jobs(ensemble_jobs))
            self._taught = True
        for seed in self.seeds:
            _ = seed.members
        return list(self.stages.used.values())

    def label(self) -> list[Stage]:
        """Write down the teachers' opinions."""
        self.teach()
        self._share(self._jobs(lesson_jobs))
        for seed in self.seeds:
            _ = seed.lessons
        return list(self.stages.used.values())

    def distill(self) -> list[Stage]:
        """Train the student of every seed."""
        self.label()
        for seed in self.seeds:
            _ = seed.student
        return list(self.stages.used.values())

    def evaluate(self) -> RunResult:
        """Score everything, and write results, report and student into the run's folder."""
        self._begin()
        teachers = self._jobs(teacher_jobs)
        singles = self._jobs(single_jobs)
        alone = len(teachers) + len(singles) < 2
        spare = deque([] if alone else self._missing(singles))  # no later step needs them
        self._share(teachers, spare, alone=alone)
        self._share(self._jobs(ensemble_jobs), spare)
        self._taught = True
        self.label()
        self._share(self._jobs(student_jobs), spare)
        self.distill()
        self._share(self._jobs(finetuning_jobs), spare)
        self._share(list(spare), alone=False)
        self._share(self._jobs(outcome_jobs))
        finished = Finished(
            run=self.run,
            id=self.id,
            device=self.device,
            seeds=self.seeds,
            outcomes=[gather(seed) for seed in self.seeds],
            stages=list(self.stages.used.values()),
        )
        with self.stages.alone(self.folder.name, f"results of {self.folder.name}"):
            finished.write(self.folder)
            self.progress.log("done", folder=str(self.folder))
            return self.report()

    def report(self, again: str | None = None) -> RunResult:
        """Draw the report of a run that was evaluated.

        Args:
            again: The command that evaluates it, for the message of one that was not.

        Raises:
            ArtefactError: The run was not evaluated yet, or its results are damaged.
        """
        return draw_report(self.folder, again)

    def do(self, job: Job) -> None:
        """Make the stages of a job."""
        do(next(seed for seed in self.seeds if seed.seed == job.seed), job)

    # -- inside ---------------------------------------------------------------------------------

    def _jobs(self, of_seed: Callable[[SeedRun], list[Job]]) -> list[Job]:
        return [job for seed in self.seeds for job in of_seed(seed)]

    def _share(
        self, jobs: Sequence[Job], spare: deque[Job] | None = None, *, alone: bool | None = None
    ) -> None:
        """Let the executor make those stages that do not stand; they need nothing of each other.

        Of ``spare``, jobs of another step, it begins what fills the time of idle processes.

        A job that is alone by its nature is done faster in this process, with all its threads.
        What others have done before does not make one alone: where a training goes on after a
        stop must not depend on when it was stopped.
        """
        if self._executor is None or (len(jobs) < 2 if alone is None else alone):
            return
        missing = self._missing(jobs)
        if missing:
            self._executor.run(missing, deque() if spare is None else spare, self.id)

    def _missing(self, jobs: Sequence[Job]) -> list[Job]:
        return [job for job in jobs if not self._stands(job)]

    def _need_disk(self) -> None:
        """Refuse a run for which the disk is too small; what stands needs no place."""
        output, whole = Path(self.run.output), estimate(self.run, self.seeds[0].tasks).disk_bytes
        if free_bytes(output) >= whole - bytes_so_far(self.folder):
            return
        missing = False
        for of_seed in _STEPS:
            try:
                with self.stages.looking():
                    jobs = self._jobs(of_seed)
            except NotMade:
                missing = True
            else:
                missing |= bool(self._missing(jobs))
        if missing:  # of other runs' stages those that it found are in its log now
            left = max(whole - bytes_so_far(self.folder), 0)
            need_disk(output, left, "checkpoints, networks and soft targets")

    def _stands(self, job: Job) -> bool:
        try:
            with self.stages.looking():
                self.do(job)
        except NotMade:
            return False
        return True

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"output: {self.run.output}",
                got=f"a place where no folder can be made ({error.strerror})",
                wanted="a folder, there or to be made",
                todo="set another `output:`",
            ) from error
        # Before any stage is asked for: what follows is what this start needs.
        hardware = describe_hardware(self.device)
        self.progress.log("start", run=self.run.name, id=self.id, **hardware)
        for warning in bases_that_cut(self.run):
            self.progress.warn(f"{warning}: longer texts lose their end")
        first = self.seeds[0]
        for name, task in first.tasks.items():
            for warning in doubts_of(task):
                self.progress.warn(f"task '{name}': {warning}")
            notes: list[str] = []
            for seed in self.seeds:  # which may set other dev rows aside
                for warning in look_at_given(seed.given[name], seed.tasks[name], notes.append):
                    self.progress.warn(f"task '{name}': {warning}")
            for note in dict.fromkeys(notes):
                self.progress.say(f"task '{name}': {note}")
                self.progress.log("note", text=f"task '{name}': {note}")
        for seed in self.seeds if self.run.generates else ():
            need_agreement(self.run, seed.tasks, self.stages, seed.prefix)
        for seed in self.seeds:
            refuse_early(self.run, seed.tasks)
        self._need_disk()
        self.progress.say(
            f"{self.run.name}-{self.id}: {len(self.run.tasks)} tasks on {self.device.name}, "
            f"{self.device.precision}"
        )
