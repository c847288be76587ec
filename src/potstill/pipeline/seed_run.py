"""One seed of a run: teach → label → distill, each step found or made by its digest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from potstill.config import RunFile
from potstill.config.training import Architecture
from potstill.core.device import Device
from potstill.core.stages import Stage, StageFolder
from potstill.kinds import Kind
from potstill.pipeline.bases import longest, resolve_base
from potstill.pipeline.given import given_members
from potstill.pipeline.loading import head_dropouts, pooling_of, settings_for, task_weights
from potstill.pipeline.sayings import text_lesson
from potstill.students.distill import distill, taught_pool
from potstill.students.lesson import Lesson, TaskDistillation
from potstill.targets.label import SHORT_TEXT, ensemble_labels
from potstill.targets.store import SoftTargets
from potstill.tasks.pools import whole_groups
from potstill.tasks.task import Split, Task, groups_of, rows_of_training, slots_of, truth_of
from potstill.teachers.finetune import finetune
from potstill.teachers.member import Member
from potstill.teachers.recipes import NetPlan, train_ensembles
from potstill.training.prepare import TRAINING_FILE, NetworkPlan, best_dev
from potstill.training.settings import TrainSettings

_SEED_STRIDE = 1000  # members count up from seed * stride: the seeds of two runs never meet


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
    _bases: dict[str, tuple[str, str, str]] = field(default_factory=dict)

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

    @property
    def members(self) -> dict[str, list[Member]]:
        """The ensemble of each taught task, whose opinions the student learns."""
        return self._taught[0]

    @property
    def teaching(self) -> list[Stage]:
        """Every network that the ensembles needed, also those that became no member."""
        return self._taught[1]

    @cached_property
    def _taught(self) -> tuple[dict[str, list[Member]], list[Stage]]:
        with self.stages.noting() as noted:
            members = self.ensembles(cross_fit=self.run.teachers.cross_fit)
        # Vocabularies and bases are stages too, but no networks.
        made = [s for s in noted.values() if (s.folder / TRAINING_FILE).is_file()]
        return members, made

    @cached_property
    def rivals(self) -> dict[str, list[Member]]:
        """The ensembles that the student is compared with: trained on all rows."""
        return self.ensembles(cross_fit=False)

    def ensembles(
        self,
        *,
        cross_fit: bool,
        only: int | None = None,
        teacher_tasks: Sequence[str] | None = None,
    ) -> dict[str, list[Member]]:
        """The ensembles, trained and given.

        Args:
            cross_fit: Members leave out folds of rows.
            only: Make the network of this number alone; the ensembles are not complete then.
            teacher_tasks: Make those of these tasks alone; None: of all that are trained.
        """
        run, teachers = self.run, self.run.teachers
        settings = settings_for(run, "teachers")
        nets = []
        for k, net in enumerate(run.teacher_nets()):
            dropout = settings.dropout if net.dropout is None else net.dropout
            base, digest, named = self._base(net.base or run.base, teachers.architecture)
            plan = NetworkPlan(
                base=base,
                base_digest=digest,
                named=named,
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
            teacher_tasks=run.trained_tasks if teacher_tasks is None else teacher_tasks,
            recipe=teachers.recipe,
            nets=nets,
            keep=teachers.members,
            select_on=teachers.select_on or (),
            cross_fit=cross_fit,
            device=self.device,
            prefix=self.prefix,
            only=only,
        )
        return made | {name: members for name, members in self.given.items() if members}

    @cached_property
    def given(self) -> dict[str, list[Member]]:
        """The teachers that exist already, by task; none where they are trained."""
        return {task.name: given_members(self.run, task) for task in self.all_tasks}

    # -- label ----------------------------------------------------------------------------------

    @cached_property
    def lessons(self) -> dict[str, Lesson]:
        """What the ensembles say of each taught task's train and pool rows."""
        return {name: self.first_lesson(name) for name in self.members}

    @property
    def classifier_tokens(self) -> int:
        """Given classifiers read as much of a text as the student does."""
        return max(SHORT_TEXT, settings_for(self.run, "student").max_tokens)

    def first_lesson(self, task: str) -> Lesson:
        """What a task's ensemble says; the student passes it where it passes those that saw all."""
        gated = self.run.distill.stop_when_ahead is not None
        judges = self.rivals if gated and self.run.teachers.cross_fit else self.members
        return self.lesson(self.tasks[task], self.members[task], judges[task])

    def lesson(self, task: Task, members: list[Member], judges: list[Member]) -> Lesson:
        """What members say of a task's train and pool rows, and how good the judges are on dev."""
        if task.kind.generates:
            return text_lesson(self, task, members, judges)
        rows = [task.train] + ([] if task.pool is None else [task.pool])
        what = f"{self.prefix}labelling {task.name}"
        targets, digests = ensemble_labels(
            self.stages,
            members,
            task,
            rows,
            device=self.device,
            max_tokens=self.classifier_tokens,
            what=what,
        )
        dev = self.opinions(judges, task, task.dev, f"{what} (dev)")
        score = None
        if dev is not None and (kind := self.tuned(judges, task)) is not None:
            groups = groups_of(task, task.dev)
            predictions = kind.predict_ensemble(dev, groups)
            score = task.metric.score(
                truth_of(task, task.dev), predictions, task.kind.score_groups(groups)
            )
        elif self.run.distill.stop_when_ahead is not None:
            self.stages.progress.warn(
                f"task '{task.name}': its teachers do not cover dev, so `stop_when_ahead` has "
                "nothing to compare the student with"
            )
        return Lesson(targets=targets, digests=digests, teacher_dev=score)

    def opinions(
        self, members: list[Member], task: Task, split: Split, what: str
    ) -> np.ndarray | None:
        """(M, S, C) outputs on a split; None where some row is not covered."""
        rows = self._said(members, task, split, what)
        outputs, cover = rows.find(split.ids, slots_of(task, split))
        return outputs if cover.all() else None

    def _said(self, members: list[Member], task: Task, split: Split, what: str) -> SoftTargets:
        return ensemble_labels(
            self.stages,
            members,
            task,
            [split],
            device=self.device,
            max_tokens=self.classifier_tokens,
            what=what,
        )[0]

    def known_dev(self, members: list[Member], task: Task) -> tuple[Split, np.ndarray]:
        """The dev rows on which all members have an opinion, whole lists, and (M, S, C) outputs."""
        what = f"{self.prefix}labelling {task.name} (dev)"
        rows, dev = self._said(members, task, task.dev, what), task.dev
        known = np.asarray(rows.covers(dev.ids).all(0))
        if dev.groups is not None:
            known = whole_groups(known, dev.groups)[dev.groups]
        dev = dev if known.all() else dev.take(np.flatnonzero(known))
        return dev, rows.find(dev.ids, slots_of(task, dev))[0]

    def tuned(self, members: list[Member], task: Task) -> Kind | None:
        """The task's kind with thresholds that suit what these members together say of dev.

        None where they say nothing of dev, and no threshold can be chosen.
        """
        if not task.kind.tunes:
            return task.kind
        dev, outputs = self.known_dev(members, task)
        if not len(dev):
            return None
        groups = groups_of(task, dev)
        return task.kind.tune(
            task.kind.predict_ensemble(outputs, groups), truth_of(task, dev), groups
        )

    # -- distill --------------------------------------------------------------------------------

    @property
    def student(self) -> Stage:
        """The finished student: the last generation."""
        return self.generations[-1][1]

    @cached_property
    def generations(self) -> list[tuple[dict[str, Lesson], Stage]]:
        """Lessons and student of each generation; the later ones learn from the one before."""
        if not self.lessons and not any(task.pool for task in self.all_tasks):
            return [({}, self.multitask_plain())]  # nothing but labels: the baseline is the student
        made = [(self.lessons, self._distilled(self.lessons, "student"))]
        for generation in range(2, self.run.student.generations + 1):
            stage = made[-1][1]
            lessons = {}
            for name in self.lessons:
                teacher = Member(
                    name=f"student, generation {generation - 1}",
                    folder=stage.folder,
                    digest=stage.digest,
                    dev=best_dev(stage.folder, name),
                )
                lessons[name] = self.lesson(self.tasks[name], [teacher], [teacher])
            made.append((lessons, self._distilled(lessons, f"student, generation {generation}")))
        return made

    @property
    def student_plan(self) -> NetworkPlan:
        """What the student and the multi-task baseline start from."""
        section = self.run.student
        base, digest, named = self._base(section.base or self.run.base, section.architecture)
        return NetworkPlan(
            base=base,
            base_digest=digest,
            named=named,
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
                temperature=1.0
                if run.distill.objective == "sequence"
                else run.temperature_of(task),
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
        """The student's encoder with a fresh head, fine-tuned on one task's labels."""
        plan = replace(
            self.student_plan,
            base=str(self.student.folder),
            base_digest=self.student.digest,
            named="",
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
        plain = self.multitask_plain()
        long = self.multitask_long()
        if long is None:
            return plain
        return max(plain, long, key=lambda stage: mean_dev(stage, self.all_tasks))

    def multitask_plain(self) -> Stage:
        """The student's settings on labels alone."""
        return self._multitask(settings_for(self.run, "student"), "multi-task baseline")

    def multitask_long(self) -> Stage | None:
        """The same with as many epochs as make up for the student's pool rows, or a few more."""
        if not self.run.evaluate.match_steps:
            return None
        settings = settings_for(self.run, "student")
        count = partial(
            rows_of_training,
            [
                replace(task, pool=taught_pool(task, self.lessons[task.name]))
                if task.pool is not None
                else task
                for task in self.all_tasks
            ],
            task_token=self.student_plan.task_token,
            mixing=settings.mixing,
        )
        wanted = count(pools=True, n_epochs=settings.epochs) * (1 - 1e-9)  # sums of fractions
        plain = count(pools=False, n_epochs=settings.epochs)
        epochs = math.ceil(settings.epochs * wanted / plain)
        while count(pools=False, n_epochs=epochs) < wanted:  # shares that change by epoch
            epochs += 1
        if epochs == settings.epochs:
            return None
        longer = replace(settings, epochs=epochs)
        return self._multitask(longer, "longer multi-task baseline")

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

    def _base(self, base: str, architecture: Architecture) -> tuple[str, str, str]:
        """As :func:`resolve_base`, each once."""
        key = f"{base} {architecture.keywords()}"
        if key not in self._bases:
            self._bases[key] = resolve_base(
                base, architecture, self.tasks, self.stages, self.prefix, longest(self.run)
            )
        return self._bases[key]


def mean_dev(stage: Stage, tasks: list[Task]) -> float:
    """Mean dev score of a network over tasks."""
    return sum(best_dev(stage.folder, task.name) for task in tasks) / len(tasks)
