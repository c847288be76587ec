"""One seed of a run: teach → label → distill, each step found or made by its digest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from potstill.config import RunFile
from potstill.config.tasks import GivenModels, GivenScores
from potstill.core.device import Device
from potstill.core.files import read_json
from potstill.core.stages import Stage, StageFolder
from potstill.evaluation.outcome import SeedOutcome, TaskOutcome
from potstill.models.base_folder import find_base
from potstill.pipeline.loading import head_dropouts, pooling_of, settings_for, task_weights
from potstill.students.distill import Lesson, TaskDistillation, distill
from potstill.targets.label import TIMING_FILE, ensemble_labels
from potstill.tasks.task import Split, Task
from potstill.teachers.external import classifier_member, scores_member
from potstill.teachers.finetune import finetune
from potstill.teachers.member import Member
from potstill.teachers.recipes import NetPlan, train_ensembles
from potstill.training.prepare import NetworkPlan, best_dev, training_record, truth
from potstill.training.settings import TrainSettings

_SEED_STRIDE = 1000  # members count up from seed * stride: the seeds of two runs never meet
_STEPS_ALIKE = (
    1.1  # a student with at most this many times the baseline's steps needs no longer one
)


@dataclass(kw_only=True)
class SeedRun:
    """One repetition of a run.

    Attributes:
        run: The run file.
        seed: This repetition's seed.
        tasks: All tasks with their rows.
        stages: Where stages stand.
        device: Where networks run.
    """

    run: RunFile
    seed: int
    tasks: dict[str, Task]
    stages: StageFolder
    device: Device
    _bases: dict[str, str] = field(default_factory=dict)

    @property
    def base_seed(self) -> int:
        """The seed of the student, of the baselines and of the first member."""
        return self.seed * _SEED_STRIDE

    @property
    def all_tasks(self) -> list[Task]:
        """The tasks in order."""
        return list(self.tasks.values())

    @property
    def prefix(self) -> str:
        """What progress puts before a stage's name when a run has several seeds."""
        return f"seed {self.seed}: " if len(self.run.seeds) > 1 else ""

    # -- teach ----------------------------------------------------------------------------------

    @cached_property
    def members(self) -> dict[str, list[Member]]:
        """The ensemble of each taught task, whose opinions the student learns."""
        return self._ensembles(cross_fit=self.run.teachers.cross_fit)

    @cached_property
    def rivals(self) -> dict[str, list[Member]]:
        """The ensembles that the student is compared with: trained on all rows."""
        return self._ensembles(cross_fit=False)

    def _ensembles(self, *, cross_fit: bool) -> dict[str, list[Member]]:
        run, teachers = self.run, self.run.teachers
        settings = settings_for(run, "teachers")
        nets = []
        for k, net in enumerate(run.teacher_nets()):
            dropout = settings.dropout if net.dropout is None else net.dropout
            plan = NetworkPlan(
                base=net.base or run.base,
                base_digest=self._base_digest(net.base or run.base),
                layers=net.layers,
                pooling=pooling_of(teachers.pooling),
                head_dropout=head_dropouts(run),
                task_weights=task_weights(run),
            )
            seed = self.base_seed + k if net.seed is None else net.seed
            nets.append(NetPlan(plan=plan, settings=replace(settings, dropout=dropout), seed=seed))
        made = train_ensembles(
            self.stages,
            self.all_tasks,
            teacher_tasks=run.trained_tasks,
            recipe=teachers.recipe,
            nets=nets,
            keep=teachers.members,
            select_on=teachers.select_on or (),
            cross_fit=cross_fit,
            device=self.device,
            prefix=self.prefix,
        )
        for name, section in run.tasks.items():
            given = section.teachers
            if isinstance(given, GivenModels):
                made[name] = [
                    classifier_member(str(m), given.labels, f"given {i + 1}")
                    for i, m in enumerate(given.models)
                ]
            elif isinstance(given, GivenScores):
                made[name] = [scores_member(given.scores, given.key, "given scores")]  # type: ignore[arg-type]
        return made

    # -- label ----------------------------------------------------------------------------------

    @cached_property
    def lessons(self) -> dict[str, Lesson]:
        """What the ensembles say of each taught task's train and pool rows."""
        return {
            name: self._lesson(self.tasks[name], members) for name, members in self.members.items()
        }

    def _lesson(self, task: Task, members: list[Member]) -> Lesson:
        rows = [task.train] + ([] if task.pool is None else [task.pool])
        what = f"{self.prefix}labelling {task.name}"
        targets, digests = ensemble_labels(
            self.stages, members, task, rows, device=self.device, what=what
        )
        dev = self._opinions(members, task, task.dev, f"{what} (dev)")
        score = None
        if dev is not None:
            predictions = task.kind.predict_ensemble(dev, task.dev.groups)
            score = task.metric.score(truth(task.dev, task.kind.name), predictions, task.dev.groups)
        return Lesson(targets=targets, digests=digests, teacher_dev=score)

    def _opinions(
        self, members: list[Member], task: Task, split: Split, what: str
    ) -> np.ndarray | None:
        """(M, N, C) outputs on a split; None where some row is not covered."""
        rows, _ = ensemble_labels(
            self.stages, members, task, [split], device=self.device, what=what
        )
        outputs, cover = rows.find(split.ids)
        return outputs if cover.all() else None

    # -- distill --------------------------------------------------------------------------------

    @cached_property
    def student(self) -> Stage:
        """The finished student: the last generation."""
        stage = self._distilled(self.lessons, "student")
        for generation in range(2, self.run.student.generations + 1):
            lessons = {}
            for name in self.lessons:
                teacher = Member(
                    name=f"student, generation {generation - 1}",
                    folder=stage.folder,
                    digest=stage.digest,
                    dev=best_dev(stage.folder, name),
                )
                lessons[name] = self._lesson(self.tasks[name], [teacher])
            stage = self._distilled(lessons, f"student, generation {generation}")
        return stage

    @property
    def student_plan(self) -> NetworkPlan:
        """What the student and the multi-task baseline start from."""
        section = self.run.student
        base = section.base or self.run.base
        return NetworkPlan(
            base=base,
            base_digest=self._base_digest(base),
            layers=section.layers,
            pooling=pooling_of(section.pooling),
            task_token=section.task_token,
            head_dropout=head_dropouts(self.run),
            task_weights=task_weights(self.run),
        )

    def _distilled(self, lessons: dict[str, Lesson], name: str) -> Stage:
        run = self.run
        how = {
            task: TaskDistillation(
                objective=run.distill.objective,
                soft_weight=run.soft_weight_of(task),
                temperature=run.temperature_of(task),
                pool_weight=run.distill.pool_weight,
                stop_when_ahead=run.distill.stop_when_ahead,
            )
            for task in lessons
        }
        return distill(
            self.stages,
            self.all_tasks,
            self.student_plan,
            settings_for(run, "student"),
            lessons=lessons,
            how=how,
            seed=self.base_seed,
            device=self.device,
            what=self.prefix + name,
        )

    # -- baselines ------------------------------------------------------------------------------

    def finetuned(self, task: Task) -> Stage:
        """A copy of the student, fine-tuned on one task's labels."""
        plan = replace(
            self.student_plan,
            base=str(self.student.folder),
            base_digest=self.student.digest,
            layers=None,
            task_token=False,
        )
        return finetune(
            self.stages,
            [task],
            plan,
            settings_for(self.run, "student"),
            seed=self.base_seed,
            device=self.device,
            what=f"{self.prefix}student fine-tuned on {task.name}",
        )

    def single(self, task: Task) -> Stage:
        """The baseline of one model for one task."""
        plan = replace(self.student_plan, task_token=False)
        return finetune(
            self.stages,
            [task],
            plan,
            settings_for(self.run, "single"),
            seed=self.base_seed,
            device=self.device,
            what=f"{self.prefix}single model of {task.name}",
        )

    @cached_property
    def multitask(self) -> Stage:
        """The student without soft targets; of two lengths of training, the better on dev."""
        settings = settings_for(self.run, "student")
        plain = self._multitask(settings, "multi-task baseline")
        if not self.run.evaluate.match_steps:
            return plain
        steps = training_record(self.student.folder)["n_steps"]
        ratio = steps / training_record(plain.folder)["n_steps"]
        if ratio <= _STEPS_ALIKE:
            return plain
        longer = replace(settings, epochs=max(1, round(settings.epochs * ratio)))
        long = self._multitask(longer, "multi-task baseline with the student's steps")
        return max(plain, long, key=lambda stage: _mean_dev(stage, self.all_tasks))

    def _multitask(self, settings: TrainSettings, name: str) -> Stage:
        return finetune(
            self.stages,
            self.all_tasks,
            self.student_plan,
            settings,
            seed=self.base_seed,
            device=self.device,
            what=self.prefix + name,
        )

    # -- evaluate -------------------------------------------------------------------------------

    @cached_property
    def outcome(self) -> SeedOutcome:
        """What every system says of the reported rows."""
        student = self.student
        return SeedOutcome(
            seed=self.seed,
            tasks={task.name: self._task_outcome(task) for task in self.all_tasks},
            dev_mean=_mean_dev(student, self.all_tasks),
            train_seconds=self._seconds(),
        )

    def _task_outcome(self, task: Task) -> TaskOutcome:
        split = task.reported
        systems: dict[str, Stage] = {}
        if "single" in self.run.evaluate.baselines:
            systems["single"] = self.single(task)
        if "multitask" in self.run.evaluate.baselines:
            systems["multitask"] = self.multitask
        systems["student"] = self.student
        if self.run.student.finetune:
            systems["student_finetuned"] = self.finetuned(task)
        predictions = {
            name: task.kind.predict(self._network_outputs(stage, name, task, split))
            for name, stage in systems.items()
        }
        members: list[dict[str, object]] = []
        y = truth(split, task.kind.name)
        if task.name in self.rivals:
            ensemble = self.rivals[task.name]
            outputs = self._opinions(ensemble, task, split, f"{self.prefix}ensemble on {task.name}")
            if outputs is None:
                self.stages.progress.warn(
                    f"task '{task.name}': its teachers do not cover every {split.source} row, "
                    "so the ensemble has no score"
                )
            else:
                predictions |= self._ensemble_predictions(task, split, ensemble, outputs)
                for member, own in zip(ensemble, outputs, strict=True):
                    score = task.metric.score(y, task.kind.predict(own), split.groups)
                    members.append(
                        {"task": task.name, "member": member.name, "dev": member.dev, "test": score}
                    )
        return TaskOutcome(
            task=task.name,
            kind=task.kind,
            metric=task.metric,
            split_name="dev" if task.test is None else "test",
            split=split,
            truth=y,
            predictions=predictions,
            members=members,
        )

    def _ensemble_predictions(
        self, task: Task, split: Split, ensemble: list[Member], outputs: np.ndarray
    ) -> dict[str, np.ndarray]:
        scores = [m.dev for m in ensemble]
        if any(score is None for score in scores):
            dev = self._opinions(ensemble, task, task.dev, f"{self.prefix}members on {task.name}")
            y = truth(task.dev, task.kind.name)
            known = [] if dev is None else [task.kind.predict(own) for own in dev]
            scores = [task.metric.score(y, p, task.dev.groups) for p in known]
        best = max(range(len(outputs)), key=lambda k: scores[k] or 0.0) if scores else 0
        return {
            "teacher_best": task.kind.predict(outputs[best]),
            "ensemble": task.kind.predict_ensemble(outputs, split.groups),
        }

    def _network_outputs(self, stage: Stage, name: str, task: Task, split: Split) -> np.ndarray:
        member = Member(name=name, folder=stage.folder, digest=stage.digest)
        what = f"{self.prefix}{name} on {task.name}"
        outputs = self._opinions([member], task, split, what)
        if outputs is None:
            raise ValueError(f"{name} has no opinion on rows of {task.name}")
        first: np.ndarray = outputs[0]
        return first

    def _seconds(self) -> dict[str, float]:
        networks = {m.folder for ms in self.members.values() for m in ms if m.source == "network"}
        labels = [s for s in self.stages.used.values() if s.name == "targets"]
        timed = [read_json(s.folder / TIMING_FILE)["seconds"] for s in labels]
        return {
            "teach": round(sum(training_record(f)["seconds"] for f in networks), 1),
            "label": round(sum(timed), 1),
            "distill": round(training_record(self.student.folder)["seconds"], 1),
        }

    def _base_digest(self, base: str) -> str:
        if base not in self._bases:
            self._bases[base] = find_base(base).digest
        return self._bases[base]


def _mean_dev(stage: Stage, tasks: list[Task]) -> float:
    return sum(best_dev(stage.folder, task.name) for task in tasks) / len(tasks)
