"""A whole run: every seed through every stage, then the run's folder with results and report."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from potstill import __version__
from potstill.config import RunFile, show
from potstill.core.device import Device, describe_hardware, resolve_device
from potstill.core.errors import ArtefactError, UsageError
from potstill.core.files import (
    MANIFEST,
    PARTIAL_SUFFIX,
    copy_file,
    digest_json,
    file_facts,
    need_disk,
    publish,
    read_json,
    seal,
    verify,
    write_json,
    write_manifest,
    write_text,
)
from potstill.core.progress import Progress
from potstill.core.stages import (
    METHOD_VERSION,
    STAGES_FOLDER,
    NotMade,
    Stage,
    StageFolder,
)
from potstill.evaluation.details import curve, folder_bytes, task_details
from potstill.evaluation.evaluate import evaluate
from potstill.evaluation.latency import ms_per_text
from potstill.evaluation.outcome import SeedOutcome
from potstill.evaluation.report import write_report
from potstill.pipeline.estimate import estimate
from potstill.pipeline.jobs import Executor, Job
from potstill.pipeline.loading import load_tasks, reported_counts
from potstill.pipeline.outcomes import gather, task_outcome
from potstill.pipeline.seed_run import SeedRun
from potstill.students.card import model_card
from potstill.students.student import Student
from potstill.tasks.task import Task
from potstill.teachers.member import Member
from potstill.training.network import load_network
from potstill.training.prepare import training_record

RESULTS_FILE = "results.json"
DETAILS_FILE = "details.json"
REPORT_FILE = "report.html"
RUN_FILE = "run.yaml"
STUDENT_FOLDER = "student"
_ID_LETTERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A finished run.

    Attributes:
        folder: The run's folder.
        results: The content of ``results.json``.
        report: The path of the report.
    """

    folder: Path
    results: dict[str, Any]
    report: Path

    @property
    def student(self) -> Student:
        """The student, loaded."""
        return Student.load(self.folder)


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
        self.folder = Path(run.output) / f"{run.name}-{self.id}"
        progress.log_file = self.folder / "log.jsonl"
        self.stages = StageFolder(root=Path(run.output) / STAGES_FOLDER, progress=progress)

    @cached_property
    def id(self) -> str:
        """Digest of the run file and its data: where the run lives."""
        asked = {k: v for k, v in self.run.record().items() if k not in ("output", "name")}
        data = [
            [t.digest, t.reported.digest, None if t.pool is None else t.pool.digest]
            for tasks in self.tasks.values()
            for t in tasks.values()
        ]
        return digest_json({"asked": asked, "data": data})[:_ID_LETTERS]

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
            self._share([job for seed in self.seeds for job in seed.teacher_jobs()])
            self._share([job for seed in self.seeds for job in seed.ensemble_jobs()])
            self._taught = True
        for seed in self.seeds:
            _ = seed.members
        return list(self.stages.used.values())

    def label(self) -> list[Stage]:
        """Write down the teachers' opinions."""
        self.teach()
        self._share([job for seed in self.seeds for job in seed.lesson_jobs()])
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
        first = [job for s in self.seeds for job in [*s.teacher_jobs(), *s.single_jobs()]]
        self._share(first)
        self._share([job for seed in self.seeds for job in seed.ensemble_jobs()])
        self._taught = True
        self.label()
        self._share([job for seed in self.seeds for job in seed.student_jobs()])
        self.distill()
        self._share([job for seed in self.seeds for job in seed.finetuning_jobs()])
        self._share([job for seed in self.seeds for job in seed.outcome_jobs()])
        outcomes = [gather(seed) for seed in self.seeds]
        best = max(range(len(outcomes)), key=lambda i: outcomes[i].dev_mean)
        chosen = self.seeds[best]
        cost, more_cost = self._cost(chosen, outcomes)
        results = evaluate(outcomes, cost, resamples=self.run.evaluate.resamples)
        details = self._details(chosen, outcomes[best], more_cost)
        self._publish_student(chosen, results)
        write_json(self.folder / RESULTS_FILE, results)
        write_json(self.folder / DETAILS_FILE, details)
        write_text(self.folder / RUN_FILE, show(self.run))
        write_manifest(self.folder, self._manifest())
        self.progress.log("done", folder=str(self.folder))
        return self.report()

    def report(self) -> RunResult:
        """Draw the report of a run that was evaluated.

        Raises:
            ArtefactError: The run was not evaluated yet, or its results are damaged.
        """
        if not (self.folder / MANIFEST).is_file():
            raise ArtefactError(
                f"run {self.folder}",
                got="no results yet",
                wanted="a run that was evaluated",
                todo="evaluate it first: potstill run RUN.YAML",
            )
        verify(self.folder)
        results = read_json(self.folder / RESULTS_FILE)
        details = read_json(self.folder / DETAILS_FILE)
        write_report(results, details, self.folder / REPORT_FILE)
        return RunResult(folder=self.folder, results=results, report=self.folder / REPORT_FILE)

    def do(self, job: Job) -> None:
        """Make the stages of a job."""
        seed = next(seed for seed in self.seeds if seed.seed == job.seed)
        if job.what == "outcome":
            task_outcome(seed, seed.tasks[job.task])
        else:
            seed.do(job)

    # -- inside ---------------------------------------------------------------------------------

    def _share(self, jobs: Sequence[Job]) -> None:
        """Let the executor make those stages that do not stand; they need nothing of each other.

        A job that is alone by its nature is done faster in this process, with all its threads.
        What others have done before does not make one alone: where a training goes on after a
        stop must not depend on when it was stopped.
        """
        if self._executor is None or len(jobs) < 2:
            return
        missing = [job for job in jobs if not self._stands(job)]
        if missing:
            self._executor.run(missing)

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
        cost = estimate(self.run, self.tasks[self.run.seeds[0]])
        need_disk(Path(self.run.output), cost.disk_bytes, "checkpoints, networks and soft targets")
        hardware = describe_hardware(self.device)
        self.progress.log("start", run=self.run.name, id=self.id, **hardware)
        self.progress.say(
            f"{self.run.name}-{self.id}: {len(self.run.tasks)} tasks on {self.device.name}, "
            f"{self.device.precision}"
        )

    def _publish_student(self, chosen: SeedRun, results: dict[str, Any]) -> None:
        """Copy the student into the run's folder, whole or not at all."""
        aside = self.folder / (STUDENT_FOLDER + PARTIAL_SUFFIX)
        shutil.rmtree(aside, ignore_errors=True)
        stage = chosen.student.folder
        for path in sorted(p for p in stage.rglob("*") if p.is_file() and p != stage / MANIFEST):
            copy_file(path, aside / path.relative_to(stage))
        network = load_network(aside)
        base = self.run.student.base or self.run.base
        card = model_card(network, results, name=self.run.name, base=base, version=__version__)
        write_text(aside / "README.md", card)
        seal(aside, {"stage": "student", "digest": chosen.student.digest, "seed": chosen.seed})
        final = self.folder / STUDENT_FOLDER
        shutil.rmtree(final, ignore_errors=True)
        publish(aside, final)

    def _manifest(self) -> dict[str, Any]:
        return {
            "format": "potstill run",
            "version": 1,
            "name": self.run.name,
            "id": self.id,
            "potstill": __version__,
            "method": METHOD_VERSION,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "asked": self.run.record(),
            "hardware": describe_hardware(self.device),
            "data": {
                f"{seed}/{task.name}": {
                    "train": task.train.digest,
                    "dev": task.dev.digest,
                    "test": None if task.test is None else task.test.digest,
                    "pool": None if task.pool is None else task.pool.digest,
                }
                for seed, tasks in self.tasks.items()
                for task in tasks.values()
            },
            "stages": [s.folder.name for s in self.stages.used.values()],
            "files": file_facts(self.folder, [RESULTS_FILE, DETAILS_FILE, RUN_FILE]),
        }

    def _cost(
        self, chosen: SeedRun, outcomes: Sequence[SeedOutcome]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The ``cost`` of results.json, and what the report shows of it."""
        student = load_network(chosen.student.folder)
        shown: dict[str, Any] = {
            "student": {
                "params": student.n_parameters,
                "bytes": folder_bytes(chosen.student.folder),
            }
        }
        systems = {"student": {name: [student] for name in chosen.tasks}}
        networks = {
            m.folder: load_network(m.folder)
            for members in chosen.rivals.values()
            for m in members
            if m.source == "network"
        }
        if networks:
            # Teachers that are no networks of ours have no time here, nor has their task.
            systems["ensemble"] = {
                name: [networks[m.folder] for m in members]
                for name, members in chosen.rivals.items()
                if all(m.folder in networks for m in members)
            }
            systems["student"] = {name: [student] for name in systems["ensemble"]}
            shown["ensemble"] = {
                "params": sum(network.n_parameters for network in networks.values()),
                "bytes": sum(folder_bytes(folder) for folder in networks),
            }
        splits = {name: task.reported for name, task in chosen.tasks.items()}
        for name, ms in ms_per_text(systems, splits, self.device).items():
            shown[name]["ms_per_text"] = ms
        cost: dict[str, Any] = {"student_params": student.n_parameters}
        if networks:
            cost["ensemble_params"] = shown["ensemble"]["params"]
        if self.run.student.finetune:
            folders = [chosen.finetuned(t).folder for t in chosen.all_tasks]
            cost["student_finetuned_params"] = sum(load_network(f).n_parameters for f in folders)
        cost["train_seconds"] = {
            stage: round(sum(o.train_seconds[stage] for o in outcomes), 1)
            for stage in ("teach", "label", "distill")
        }
        return cost, shown

    def _details(
        self, chosen: SeedRun, outcome: SeedOutcome, cost: dict[str, Any]
    ) -> dict[str, Any]:
        student = training_record(chosen.student.folder)
        curves = [curve("student", student)]
        if "multitask" in self.run.evaluate.baselines:
            curves.append(curve("multitask", training_record(chosen.multitask.folder)))
        teachers: dict[Path, Member] = {
            m.folder: m for ms in chosen.rivals.values() for m in ms if m.source == "network"
        }
        curves += [
            curve(training_record(folder)["name"], training_record(folder)) for folder in teachers
        ]
        tasks = {}
        for name, task in chosen.tasks.items():
            facts: dict[str, Any] = dict(reported_counts(task))
            cover = student.get("cover", {}).get(name)
            if cover is not None:
                n_rows = cover["train_rows"] + cover["pool_rows"]
                facts["covered"] = (cover["train_covered"] + cover["pool_covered"]) / n_rows
            facts["distilling_stopped_at"] = student["stopped"].get(name)
            truncated = student["truncated"][name]
            if truncated > 0:
                facts["warnings"] = [f"{truncated:.1%} of the training texts lost their end"]
            tasks[name] = task_details(outcome.tasks[name], facts)
        return {
            "version": 1,
            "name": self.run.name,
            "run_id": self.id,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "hardware": describe_hardware(self.device),
            "settings": _flat(self.run.record()),
            "tasks": tasks,
            "curves": curves,
            "cost": cost,
            "members": [m for o in outcome.tasks.values() for m in o.members],
            "stages": [
                {
                    "name": s.name,
                    "digest": s.digest[:16],
                    "seconds": _seconds(s),
                    "reused": s.reused,
                }
                for s in self.stages.used.values()
            ],
        }


def _seconds(stage: Stage) -> float | None:
    for name in ("training.json", "timing.json"):
        if (stage.folder / name).is_file():
            seconds = read_json(stage.folder / name)["seconds"]
            return float(seconds)
    return None


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys, tasks left out (each has its own section)."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if key == "tasks" and not prefix:
            continue
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = str(value)
    return flat
