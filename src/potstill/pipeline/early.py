"""What would stop a run after its teachers are trained, looked for before."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from potstill.config import RunFile
from potstill.models.base_folder import facts_of_base, find_base
from potstill.models.tokenizer import load_tokenizer
from potstill.tasks.task import Split, Task, groups_of
from potstill.teachers.finetune import without_fold
from potstill.training.prepare import refuse_unlearnable

_LOOKED_AT = 16  # longest texts, or lists, of a pool


def refuse_early(run: RunFile, tasks: Mapping[str, Task]) -> None:
    """Refuse folds without rows, and pool rows that the student could not learn from.

    Train rows are refused when the first network starts. Of a pool the longest rows are looked at,
    by their characters.

    Raises:
        DataError: There is something of the kind.
    """
    if run.trained_tasks and run.teachers.cross_fit:
        alone = run.teachers.recipe == "single"
        learned = [task for name, task in tasks.items() if name in run.trained_tasks or not alone]
        n_folds = len(run.teacher_nets())
        for k in range(n_folds):
            without_fold(learned, (k, n_folds))
    pools = {
        name: task.pool
        for name, task in tasks.items()
        if task.pool is not None and (task.kind.grouped or task.kind.slotted)
    }
    if run.generates or not pools:
        return
    base = find_base(run.student.base or run.base).path
    facts = facts_of_base(str(base))
    limit = run.training_for("student").max_tokens
    if facts is not None and facts.n_tokens is not None:
        limit = min(limit, facts.n_tokens)
    tokenizer = load_tokenizer(base)
    if run.student.task_token:
        tokenizer.add_task_tokens(list(tasks))
    for name, pool in pools.items():
        task = tasks[name]
        longest = pool.take(_longest(task, pool))
        tokens = task.inputs.tokenise(
            longest.inputs,
            tokenizer,
            max_tokens=limit,
            task=name if run.student.task_token else None,
        )
        refuse_unlearnable(task, tokens, groups_of(task, longest), limit, longest.where)


def _longest(task: Task, pool: Split) -> np.ndarray:
    """Indices of the longest rows, or of all rows of the longest lists."""
    sizes = np.zeros(len(pool), np.int64)
    for column in task.inputs.in_order(pool.inputs):
        sizes += [len(str(value)) for value in column]
    if pool.groups is None:
        return np.sort(sizes.argsort()[-_LOOKED_AT:])
    widest = np.zeros(int(pool.groups.max()) + 1, np.int64)
    np.maximum.at(widest, pool.groups, sizes)
    lists = (widest * np.bincount(pool.groups)).argsort()[-_LOOKED_AT:]
    return np.flatnonzero(np.isin(pool.groups, lists))
