"""Ensembles: which networks are trained, and which become the members of which task.

single       every member is a network of one task
multitask    every member is one network of all tasks
finetuned    multi-task networks, then each fine-tuned per task with a fresh head
mt-dnn-kd    the same from more networks than members: the best on chosen dev sets are kept
             (Liu et al. 2019, arXiv 1904.09482, section 4.1)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from potstill.core.device import Device
from potstill.core.stages import Stage, StageFolder
from potstill.tasks.task import Task
from potstill.teachers.finetune import finetune
from potstill.teachers.member import Member
from potstill.training.prepare import NetworkPlan, best_dev
from potstill.training.settings import TrainSettings

Recipe = Literal["single", "multitask", "finetuned", "mt-dnn-kd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetPlan:
    """How one network of the ensembles differs from the others.

    Attributes:
        plan: What it starts from.
        settings: How it is trained (its own dropout, say).
        seed: Its seed.
    """

    plan: NetworkPlan
    settings: TrainSettings
    seed: int


def train_ensembles(
    stages: StageFolder,
    tasks: Sequence[Task],
    *,
    teacher_tasks: Sequence[str],
    recipe: Recipe,
    nets: Sequence[NetPlan],
    keep: int,
    select_on: Sequence[str],
    cross_fit: bool,
    device: Device,
    prefix: str = "",
    only: int | None = None,
) -> dict[str, list[Member]]:
    """Train the ensembles of all tasks.

    Args:
        stages: Where networks stand.
        tasks: All tasks of the run; multi-task networks learn all of them.
        teacher_tasks: Tasks that get an ensemble.
        recipe: Which networks are trained.
        nets: One plan a network.
        keep: Members an ensemble; fewer than ``nets`` keeps the best.
        select_on: Tasks whose mean dev score chooses; only with fewer members than networks.
        cross_fit: Network k does not see the k-th fold of the train rows.
        device: Where.
        prefix: Put before the names that progress shows.
        only: Train just this network, before any is chosen or fine-tuned, and return nothing:
            several processes can share the work.

    Returns:
        Task name to its members.
    """
    wanted = [task for task in tasks if task.name in set(teacher_tasks)]
    numbered = [(k, net, (k, len(nets)) if cross_fit else None) for k, net in enumerate(nets)]
    members: dict[str, list[Member]] = {task.name: [] for task in wanted}
    if not wanted:
        return members
    if only is not None:
        numbered = numbered[only : only + 1]
    if recipe == "single":
        for k, net, fold in numbered:
            for task in wanted:
                what = f"{prefix}teacher {k + 1}/{len(nets)} of {task.name}"
                stage = _train(stages, [task], net, fold, device, what)
                members[task.name].append(_member(stage, task.name, k, fold))
        return members
    shared: list[tuple[int, NetPlan, tuple[int, int] | None, Stage]] = []
    for k, net, fold in numbered:
        stage = _train(
            stages, tasks, net, fold, device, f"{prefix}teacher {k + 1}/{len(nets)}, all tasks"
        )
        shared.append((k, net, fold, stage))
    if only is not None:
        return {}
    if keep < len(shared):
        shared = sorted(shared, key=lambda s: (-_mean_dev(s[3], select_on), s[0]))[:keep]
        kept = ", ".join(f"{k + 1} ({_mean_dev(s, select_on):.4f})" for k, _, _, s in shared)
        by = f"by the mean dev score of {', '.join(select_on)}"
        stages.progress.say(f"{prefix}kept networks {kept} {by}", once=True)
    for k, net, fold, stage in shared:
        for task in wanted:
            made = stage
            if recipe != "multitask":
                # A fresh head on the shared layers of the multi-task network.
                base = replace(
                    net.plan,
                    base=str(stage.folder),
                    base_digest=stage.digest,
                    named="",
                    layers=None,
                )
                made = _train(
                    stages,
                    [task],
                    replace(net, plan=base),
                    fold,
                    device,
                    f"{prefix}teacher {k + 1}/{len(nets)} fine-tuned on {task.name}",
                )
            members[task.name].append(_member(made, task.name, k, fold))
    return members


def _train(
    stages: StageFolder,
    tasks: Sequence[Task],
    net: NetPlan,
    fold: tuple[int, int] | None,
    device: Device,
    what: str,
) -> Stage:
    return finetune(
        stages,
        tasks,
        net.plan,
        net.settings,
        seed=net.seed,
        device=device,
        what=what,
        fold=fold,
    )


def _member(stage: Stage, task: str, k: int, fold: tuple[int, int] | None) -> Member:
    return Member(
        name=f"teacher {k + 1}",
        folder=stage.folder,
        digest=stage.digest,
        dev=best_dev(stage.folder, task),
        fold=None if fold is None else fold[0],
        n_folds=None if fold is None else fold[1],
    )


def _mean_dev(stage: Stage, tasks: Sequence[str]) -> float:
    return sum(best_dev(stage.folder, task) for task in tasks) / len(tasks)
