"""What a run leaves in its folder: the student, results, what the report draws, a manifest."""

from __future__ import annotations

import shutil
from collections import ChainMap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from potstill import __version__
from potstill.config import RunFile, show
from potstill.core.device import Device, describe_hardware
from potstill.core.errors import ArtefactError
from potstill.core.files import (
    MANIFEST,
    PARTIAL_SUFFIX,
    copy_file,
    file_facts,
    publish,
    read_json,
    read_manifest,
    seal,
    verify,
    write_json,
    write_manifest,
    write_text,
)
from potstill.core.stages import METHOD_VERSION, Stage
from potstill.evaluation.details import curve, folder_bytes, task_details
from potstill.evaluation.evaluate import evaluate
from potstill.evaluation.latency import TextTimes
from potstill.evaluation.outcome import SeedOutcome
from potstill.evaluation.report import write_report
from potstill.pipeline.loading import doubts_of, reported_counts
from potstill.pipeline.sayings import decoding_of
from potstill.pipeline.seed_run import SeedRun
from potstill.students.card import model_card
from potstill.students.student import Student
from potstill.teachers.member import Member
from potstill.training.network import AnyNetwork, load_network
from potstill.training.prepare import training_record
from potstill.training.sequence_network import SequenceNetwork, note_decoding

RESULTS_FILE = "results.json"
DETAILS_FILE = "details.json"
REPORT_FILE = "report.html"
RUN_FILE = "run.yaml"
STUDENT_FOLDER = "student"


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


def draw_report(folder: Path, again: str | None = None) -> RunResult:
    """Draw the report of a run that was evaluated.

    Args:
        folder: The run's.
        again: The command that evaluates it, for the message of one that was not.

    Raises:
        ArtefactError: The run was not evaluated yet, or its results are damaged.
    """
    how = again or "`potstill run` and its run file"
    if not (folder / MANIFEST).is_file():
        raise ArtefactError(
            f"run {folder}",
            got="no results yet",
            wanted="a run that was evaluated",
            todo=f"evaluate it first: {how}",
        )
    verify(folder, todo=f"keep the folder, and make its files anew from the stages: {how}")
    results = read_json(folder / RESULTS_FILE)
    details = read_json(folder / DETAILS_FILE)
    write_report(results, details, folder / REPORT_FILE)
    return RunResult(folder=folder, results=results, report=folder / REPORT_FILE)


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A run whose stages all stand.

    Attributes:
        run: The run file.
        id: Digest of the run file, its data, bases and given teachers.
        device: Where its networks ran.
        seeds: One a seed, in the order of the run file.
        outcomes: What the systems of each said.
        stages: All that were used.
    """

    run: RunFile
    id: str
    device: Device
    seeds: Sequence[SeedRun]
    outcomes: Sequence[SeedOutcome]
    stages: Sequence[Stage]

    @cached_property
    def best(self) -> int:
        """Which seed has the student with the best mean dev score."""
        return max(range(len(self.outcomes)), key=lambda i: self.outcomes[i].dev_mean)

    def write(self, folder: Path) -> None:
        """Write all but the report; the manifest comes last."""
        chosen = self.seeds[self.best]
        cost, more_cost = self._cost(chosen, self.outcomes)
        results = evaluate(self.outcomes, cost, resamples=self.run.evaluate.resamples)
        created = _created(folder, [s.folder.name for s in self.stages])
        details = self._details(chosen, self.outcomes[self.best], more_cost, created)
        aside = self._student_aside(folder, chosen, results)
        (folder / MANIFEST).unlink(missing_ok=True)  # broken off from here on, it is unfinished
        _publish_student(folder, aside)
        write_json(folder / RESULTS_FILE, results)
        write_json(folder / DETAILS_FILE, details)
        write_text(folder / RUN_FILE, show(self.run))
        write_manifest(folder, self._manifest(folder, created))

    def _student_aside(self, folder: Path, chosen: SeedRun, results: dict[str, Any]) -> Path:
        """A copy of the student, with its card, beside its place in the run's folder."""
        aside = folder / (STUDENT_FOLDER + PARTIAL_SUFFIX)
        shutil.rmtree(aside, ignore_errors=True)
        stage = chosen.student.folder
        for path in sorted(p for p in stage.rglob("*") if p.is_file() and p != stage / MANIFEST):
            copy_file(path, aside / path.relative_to(stage))
        if self.run.generates:
            note_decoding(aside, decoding_of(self.run))
        network = load_network(aside)
        base = self.run.student.base or self.run.base
        card = model_card(
            network,
            results,
            name=self.run.name,
            base=base,
            version=__version__,
            taught=bool(chosen.lessons),
        )
        write_text(aside / "README.md", card)
        seal(aside, {"stage": "student", "digest": chosen.student.digest, "seed": chosen.seed})
        return aside

    def _manifest(self, folder: Path, created: str) -> dict[str, Any]:
        return {
            "format": "potstill run",
            "version": 1,
            "name": self.run.name,
            "id": self.id,
            "potstill": __version__,
            "method": METHOD_VERSION,
            "created": created,
            "asked": self.run.record(),
            "hardware": describe_hardware(self.device),
            "data": {
                f"{seed}/{task.name}": {
                    "train": task.train.digest,
                    "dev": task.dev.digest,
                    "test": None if task.test is None else task.test.digest,
                    "pool": None if task.pool is None else task.pool.digest,
                }
                for seed, tasks in ((s.seed, s.tasks) for s in self.seeds)
                for task in tasks.values()
            },
            "stages": [s.folder.name for s in self.stages],
            "files": file_facts(folder, [RESULTS_FILE, DETAILS_FILE, RUN_FILE]),
        }

    def _cost(
        self, chosen: SeedRun, outcomes: Sequence[SeedOutcome]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The ``cost`` of results.json, and what the report shows of it."""
        times = TextTimes({n: task.reported for n, task in chosen.tasks.items()}, self.device)
        # Teachers that are no networks of ours have no time here, nor has their task.
        own = {
            name: [m.folder for m in members]
            for name, members in chosen.rivals.items()
            if all(m.source == "network" for m in members)
        }
        ensemble = self._costs(own, times)
        named = {task: [chosen.student.folder] for task in own or chosen.tasks}
        student = self._costs(named, times)
        cost: dict[str, Any] = {"student_params": student["params"]}
        shown = {"student": student}
        if own and len(own) < len(chosen.rivals):
            shown["ensemble"] = {"ms_per_text": ensemble["ms_per_text"]}
        elif own:
            shown["ensemble"] = ensemble
            cost["ensemble_params"] = ensemble["params"]
        if self.run.student.finetune:
            folders = [chosen.finetuned(t).folder for t in chosen.all_tasks]
            cost["student_finetuned_params"] = sum(load_network(f).n_parameters for f in folders)
        cost["train_seconds"] = {
            # Members of a fixed seed are the same networks in every seed of the run.
            what: round(sum(ChainMap(*(dict(o.train_seconds[what]) for o in outcomes)).values()), 1)
            for what in ("teach", "label", "distill")
        }
        return cost, shown

    def _costs(self, systems: Mapping[str, Sequence[Path]], times: TextTimes) -> dict[str, Any]:
        """Parameters and bytes of some networks, and milliseconds a text, the mean over tasks.

        Args:
            systems: Task to the networks that read its texts, one after the other.
            times: What is measured.
        """
        tasks_of: dict[Path, list[str]] = {}
        for task, folders in systems.items():
            for folder in folders:
                tasks_of.setdefault(folder, []).append(task)
        parameters, ms = 0, 0.0
        for folder, tasks in tasks_of.items():
            network = self._loaded(folder)  # one at a time: a run may have dozens
            parameters += network.n_parameters
            ms += sum(times.of(network, task) for task in tasks)
        return {
            "params": parameters,
            "bytes": sum(folder_bytes(folder) for folder in tasks_of),
            "ms_per_text": ms / max(len(systems), 1),
        }

    def _loaded(self, folder: Path) -> AnyNetwork:
        """A network that looks for texts as the run does."""
        network = load_network(folder)
        if isinstance(network, SequenceNetwork):
            longest = network.decoding.longest  # learned, not asked for
            network.decoding = replace(decoding_of(self.run), longest=longest)
        return network

    def _details(
        self, chosen: SeedRun, outcome: SeedOutcome, cost: dict[str, Any], created: str
    ) -> dict[str, Any]:
        student = training_record(chosen.student.folder)
        curves = [curve("student", student)]
        if "multitask" in self.run.evaluate.baselines:
            curves.append(curve("multitask", training_record(chosen.multitask.folder)))
        teachers: dict[Path, tuple[Member, list[str]]] = {}
        for name, members in chosen.rivals.items():
            for m in members:
                if m.source == "network":
                    teachers.setdefault(m.folder, (m, []))[1].append(name)
        for folder, (m, taught) in teachers.items():
            own = f"{m.name} of {taught[0]}" if len(taught) == 1 < len(self.run.tasks) else m.name
            curves.append(curve(own, training_record(folder)))
        tasks = {}
        for name, task in chosen.tasks.items():
            facts: dict[str, Any] = dict(reported_counts(task))
            cover = student.get("cover", {}).get(name)
            if cover is not None:
                n_rows = cover["train_rows"] + cover["pool_rows"]
                facts["covered"] = (cover["train_covered"] + cover["pool_covered"]) / n_rows
            alone = self.run.distill.objective == "soft_only"
            facts["soft_weight"] = 1.0 if alone else self.run.soft_weight_of(name)
            facts["distilling_stopped_at"] = student["stopped"].get(name)
            facts["warnings"] = doubts_of(task)
            apart = "truncated_targets" in student  # not in records of earlier versions
            kinds = ("sources", "targets") if task.kind.generates and apart else ("texts",)
            cut = (student["truncated"][name], student.get("truncated_targets", {}).get(name, 0.0))
            facts["warnings"] += [
                f"{share:.1%} of the training {texts} lost their end"
                for texts, share in zip(kinds, cut, strict=False)
                if share > 0
            ]
            tasks[name] = task_details(outcome.tasks[name], facts)
        return {
            "version": 1,
            "name": self.run.name,
            "run_id": self.id,
            "created": created,
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
                for s in self.stages
            ],
        }


def _created(folder: Path, stages: Sequence[str]) -> str:
    """When the run was first finished with these stages: what is only read is not made again."""
    with suppress(ArtefactError, KeyError):
        known = read_manifest(folder)
        if sorted(known["stages"]) == sorted(stages) and known["potstill"] == __version__:
            return str(known["created"])
    return datetime.now(UTC).isoformat(timespec="seconds")


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


def _publish_student(folder: Path, aside: Path) -> None:
    """Put the copy in the student's place, whole or not at all."""
    final, old = folder / STUDENT_FOLDER, folder / (STUDENT_FOLDER + ".old" + PARTIAL_SUFFIX)
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)  # renamed, for what is removed in part would stay in its place
    publish(aside, final)
    shutil.rmtree(old, ignore_errors=True)
