"""Write down what a member thinks of rows: the only place where teachers meet the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from potstill.core.device import Device
from potstill.core.files import digest_json
from potstill.core.progress import Bar
from potstill.core.stages import Stage, StageFolder
from potstill.targets.parts import SCRATCH, Parts, timed
from potstill.targets.store import SoftTargets, StoreFacts, merge, read_store, write_store
from potstill.tasks.task import Split, Task, folds, slots_of
from potstill.teachers.given_classifiers import open_classifier
from potstill.teachers.given_scores import JOINING_VERSION, scores_outputs
from potstill.teachers.member import Member
from potstill.training.inference import INFERENCE_VERSION
from potstill.training.network import load_encoder_network

SHARD = "targets"
_PART_ROWS = 1024

SHORT_TEXT = 512
"""Tokens that a classifier of somebody else reads at least, where it can."""


def label(
    stages: StageFolder,
    member: Member,
    task: Task,
    rows: Sequence[Split],
    *,
    device: Device,
    max_tokens: int = SHORT_TEXT,
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
        with timed(folder):
            outputs, cover = _opinion(member, task, rows, stages, device, max_tokens, what, folder)
            ids = np.concatenate([split.ids for split in rows])
            counts = [slots for split in rows if (slots := slots_of(task, split)) is not None]
            write_store(
                folder / SHARD,
                facts,
                task.kind,
                ids,
                [outputs],
                [cover],
                np.concatenate(counts) if counts else None,
            )

    stage_facts = facts.to_json() | {
        "precision": device.precision,
        "fold": member.fold,
        "inference": INFERENCE_VERSION,
        **task.kind.version_facts,
    }
    if member.source == "classifier":
        stage_facts["max_tokens"] = max_tokens
    if member.source == "scores":
        stage_facts["joining"] = JOINING_VERSION
    return stages.make("targets", stage_facts, build, what=what, scratch=SCRATCH)


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
    max_tokens: int = SHORT_TEXT,
    what: str,
) -> tuple[SoftTargets, list[str]]:
    """Every member's opinion on rows of a task; arguments as of :func:`label`.

    Returns:
        The merged store, and the digests of the stages that it came from.
    """
    made, digests = [], []
    for k, member in enumerate(members):
        stage = label(
            stages,
            member,
            task,
            rows,
            device=device,
            max_tokens=max_tokens,
            what=f"{what}, {k + 1}/{len(members)}",
        )
        made.append(read_labels(stage, member, task, rows))
        digests.append(stage.digest)
    return merge(made), digests


def _facts(member: Member, task: Task, rows: Sequence[Split]) -> StoreFacts:
    bare = [split.without_labels() for split in rows]
    joined = member.source == "scores"
    unlabelled = [split.keyed_digest if joined else split.digest for split in bare]
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
    folder: Path,
) -> tuple[np.ndarray, np.ndarray]:
    inputs: Mapping[str, list[Any]] = {
        c: [v for split in rows for v in split.inputs[c]] for c in task.inputs.columns
    }
    n = sum(len(split) for split in rows)
    if member.source == "scores":
        return scores_outputs(member, task, rows)
    with stages.progress.bar(what, n, keep=False) as bar:
        done = stoppable(stages, bar, what)
        if member.source == "classifier":
            ask = open_classifier(member, task, device=device, max_tokens=max_tokens, done=done)
        else:
            network = load_encoder_network(member.folder)

            def ask(part: Mapping[str, list[Any]]) -> np.ndarray:
                tokens = network.tokenise(task.name, part)
                return network.outputs(tokens, (task.name,), device, done=done)[task.name]

        def answer(start: int, end: int) -> np.ndarray:
            return ask({column: values[start:end] for column, values in inputs.items()})

        outputs = in_parts(folder, n, answer, bar)
    return outputs, cover_of(member, task, rows)


def cover_of(member: Member, task: Task, rows: Sequence[Split]) -> np.ndarray:
    """(N,) whether a member may speak of rows: of the train rows those that it has not seen."""
    parts = []
    for split in rows:
        if member.fold is not None and member.n_folds is not None and split is task.train:
            parts.append(folds(task, member.n_folds) == member.fold)
        else:
            parts.append(np.ones(len(split), bool))
    return np.concatenate(parts)


def stoppable(stages: StageFolder, bar: Bar, what: str) -> Callable[[int], None]:
    """What is to be called with the rows of each batch: it moves the bar, and obeys a stop."""

    def done(n_rows: int) -> None:
        bar.advance(n_rows)
        stages.progress.stop.check(what)

    return done


def in_parts(
    folder: Path, n: int, answer: Callable[[int, int], np.ndarray], bar: Bar
) -> np.ndarray:
    """(S, C) outputs, a part of the rows at a time; parts that an earlier attempt wrote stand.

    Args:
        folder: Of the unfinished stage.
        n: N, the number of rows.
        answer: Gives the outputs of rows from a start to an end; advances the bar.
        bar: Advanced by the rows of parts that stand.
    """
    parts = Parts(folder)
    found = []
    for start in range(0, max(n, 1), _PART_ROWS):
        end = min(start + _PART_ROWS, n)
        name = f"{start}-{end}"
        known = parts.known(name)
        if known is not None:
            bar.advance(end - start)
            found.append(safetensors.numpy.load(known)["outputs"])
            continue
        found.append(answer(start, end))
        if n > _PART_ROWS:
            outputs = np.ascontiguousarray(found[-1])
            parts.keep(name, safetensors.numpy.save({"outputs": outputs}))
    return np.concatenate(found)
