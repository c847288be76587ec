"""Write down what a member thinks of rows: the only place where teachers meet the store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from potstill.core.device import Device
from potstill.core.files import digest_json, write_json
from potstill.core.stages import Stage, StageFolder
from potstill.targets.store import SoftTargets, StoreFacts, merge, read_store, write_store
from potstill.tasks.task import Split, Task, folds
from potstill.teachers.external import classifier_outputs, scores_outputs
from potstill.teachers.member import Member
from potstill.training.network import load_network

SHARD = "targets"
TIMING_FILE = "timing.json"


def label(
    stages: StageFolder,
    member: Member,
    task: Task,
    rows: Sequence[Split],
    *,
    device: Device,
    max_tokens: int = 512,
    what: str,
) -> Stage:
    """Label rows of one task with one member, or find the labels that stand.

    Args:
        stages: Where soft targets stand.
        member: Whose opinion.
        task: Of which task.
        rows: Splits to label, one after the other.
        device: Where.
        max_tokens: Limit a row for classifiers of others; own networks know theirs.
        what: How progress names it.

    Raises:
        Stopped: Stop was requested.
        ArtefactError: The labels or the member are damaged.
    """
    facts = _facts(member, task, rows)

    def build(folder: Path) -> None:
        start = time.monotonic()
        outputs, cover = _opinion(member, task, rows, stages, device, max_tokens, what)
        ids = np.concatenate([split.ids for split in rows])
        write_store(folder / SHARD, facts, task.kind, ids, [outputs], [cover])
        write_json(folder / TIMING_FILE, {"seconds": round(time.monotonic() - start, 2)})

    stage_facts = facts.to_json() | {"precision": device.precision, "fold": member.fold}
    if member.source == "classifier":
        stage_facts["max_tokens"] = max_tokens
    return stages.make("targets", stage_facts, build, what=what)


def read_labels(stage: Stage, member: Member, task: Task, rows: Sequence[Split]) -> SoftTargets:
    """Open what :func:`label` made.

    Raises:
        ArtefactError: A file is damaged.
        MismatchError: The labels are of other rows, another member or another label space.
    """
    return read_store(stage.folder / SHARD, _facts(member, task, rows), task.kind)


def ensemble_labels(
    stages: StageFolder,
    members: Sequence[Member],
    task: Task,
    rows: Sequence[Split],
    *,
    device: Device,
    what: str,
) -> tuple[SoftTargets, list[str]]:
    """Every member's opinion on rows of a task.

    Returns:
        The merged store, and the digests of the stages that it came from.
    """
    made, digests = [], []
    for k, member in enumerate(members):
        stage = label(
            stages, member, task, rows, device=device, what=f"{what}, {k + 1}/{len(members)}"
        )
        made.append(read_labels(stage, member, task, rows))
        digests.append(stage.digest)
    return merge(made), digests


def _facts(member: Member, task: Task, rows: Sequence[Split]) -> StoreFacts:
    unlabelled = [replace(split, labels=None).digest for split in rows]
    return StoreFacts(
        task=task.name,
        kind=task.kind.to_json(),
        data=digest_json({"rows": unlabelled, "inputs": task.inputs.to_json()}),
        teachers=(member.digest,),
    )


def _opinion(
    member: Member,
    task: Task,
    rows: Sequence[Split],
    stages: StageFolder,
    device: Device,
    max_tokens: int,
    what: str,
) -> tuple[np.ndarray, np.ndarray]:
    inputs: Mapping[str, list[str]] = {
        c: [v for split in rows for v in split.inputs[c]] for c in task.inputs.columns
    }
    n = sum(len(split) for split in rows)
    if member.source == "scores":
        return scores_outputs(member, task, rows)
    with stages.progress.bar(what, n, keep=False) as bar:

        def done(n_rows: int) -> None:
            bar.advance(n_rows)
            stages.progress.stop.check(what)

        if member.source == "classifier":
            outputs = classifier_outputs(
                member, task, rows, device=device, max_tokens=max_tokens, done=done
            )
        else:
            network = load_network(member.folder)
            tokens = network.tokenise(task.name, inputs)
            outputs = network.outputs(tokens, (task.name,), device, done=done)[task.name]
    cover = np.ones(n, bool)
    if member.fold is not None and member.n_folds is not None:
        # Of the train rows it has not seen those of its own fold; all other rows are new to it.
        start = 0
        for split in rows:
            if split is task.train:
                cover[start : start + len(split)] = folds(task, member.n_folds) == member.fold
            start += len(split)
    return outputs, cover
