"""What every system of one seed says of the reported rows, gathered for scoring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from potstill.core.files import read_json
from potstill.core.stages import Stage
from potstill.evaluation.outcome import SeedOutcome, TaskOutcome
from potstill.kinds import Kind
from potstill.pipeline.sayings import text_outcome
from potstill.pipeline.seed_run import SeedRun, mean_dev
from potstill.targets.parts import TIMING_FILE
from potstill.tasks.task import Split, Task, groups_of, truth_of
from potstill.teachers.member import Member
from potstill.training.network import head_of
from potstill.training.prepare import training_record


def gather(run: SeedRun) -> SeedOutcome:
    """What every system says of the reported rows."""
    student = run.student
    return SeedOutcome(
        seed=run.seed,
        tasks={task.name: task_outcome(run, task) for task in run.all_tasks},
        dev_mean=mean_dev(student, run.all_tasks),
        train_seconds=_seconds(run),
    )


def task_outcome(run: SeedRun, task: Task) -> TaskOutcome:
    """What every system says of one task's reported rows."""
    split = task.reported
    systems: dict[str, Stage] = {}
    if "single" in run.run.evaluate.baselines:
        systems["single"] = run.single(task)
    if "multitask" in run.run.evaluate.baselines:
        systems["multitask"] = run.multitask
    systems["student"] = run.student
    if run.run.student.finetune:
        systems["student_finetuned"] = run.finetuned(task)
    if task.kind.generates:
        return text_outcome(run, task, systems, run.rivals.get(task.name, ()))
    groups = groups_of(task, split)
    predictions, kinds = {}, {}
    for name, stage in systems.items():
        outputs = _network_outputs(run, stage, name, task, split)
        kinds[name] = head_of(stage.folder, task.name).kind
        predictions[name] = kinds[name].predict(outputs, groups)
    members: list[dict[str, object]] = []
    y = truth_of(task, split)
    if task.name in run.rivals:
        ensemble = run.rivals[task.name]
        said = run.opinions(ensemble, task, split, f"{run.prefix}ensemble on {task.name}")
        tuned = None if said is None else run.tuned(ensemble, task)
        # Without an opinion on these rows or a threshold there is no score, as `check` has said.
        if said is not None and tuned is not None:
            own_kinds = [run.tuned([member], task) or task.kind for member in ensemble]
            kinds["ensemble"] = tuned
            predictions["ensemble"] = tuned.predict_ensemble(said, groups)
            best = _best_member(run, task, ensemble, own_kinds)
            predictions["teacher_best"] = own_kinds[best].predict(said[best], groups)
            for member, kind, own in zip(ensemble, own_kinds, said, strict=True):
                answers = kind.predict(own, groups)
                score = task.metric.score(y, answers, task.kind.score_groups(groups))
                held = task.test is not None  # else the reported rows are those of dev
                members.append(
                    {
                        "task": task.name,
                        "member": member.name,
                        "dev": score if not held and member.dev is None else member.dev,
                        "test": score if held else None,
                    }
                )
    return TaskOutcome(
        task=task.name,
        kind=task.kind,
        metric=task.metric,
        split_name="dev" if task.test is None else "test",
        split=split,
        groups=groups,
        inputs=task.inputs.in_order(split.inputs),
        truth=y,
        predictions=predictions,
        members=members,
        kinds=kinds,
    )


def _best_member(run: SeedRun, task: Task, ensemble: list[Member], kinds: Sequence[Kind]) -> int:
    """The member with the best dev score; the first where they say nothing of dev."""
    scores = [member.dev for member in ensemble]
    if any(score is None for score in scores):
        dev, outputs = run.known_dev(ensemble, task)
        if not len(dev):
            return 0
        y, groups = truth_of(task, dev), groups_of(task, dev)
        scores = [
            task.metric.score(y, kind.predict(own, groups), task.kind.score_groups(groups))
            for kind, own in zip(kinds, outputs, strict=True)
        ]
    return max(range(len(ensemble)), key=lambda k: scores[k] or 0.0)


def _network_outputs(run: SeedRun, stage: Stage, name: str, task: Task, split: Split) -> np.ndarray:
    member = Member(name=name, folder=stage.folder, digest=stage.digest)
    what = f"{run.prefix}{name} on {task.name}"
    outputs = run.opinions([member], task, split, what)
    if outputs is None:
        raise ValueError(f"{name} has no opinion on rows of {task.name}")
    first: np.ndarray = outputs[0]
    return first


def _seconds(run: SeedRun) -> dict[str, dict[str, float]]:
    digests = {d for lessons, _ in run.generations for ls in lessons.values() for d in ls.digests}
    labels = [s for s in run.stages.used.values() if s.digest in digests]
    return {
        "teach": _trained(run.teaching),
        "label": {s.digest: float(read_json(s.folder / TIMING_FILE)["seconds"]) for s in labels},
        "distill": _trained([student for _, student in run.generations]),
    }


def _trained(stages: Iterable[Stage]) -> dict[str, float]:
    """Digest to the seconds that a network was trained for, whenever that was."""
    return {s.digest: float(training_record(s.folder)["seconds"]) for s in stages}
