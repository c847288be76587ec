"""Teachers that exist already: transformers models, and scores that somebody computed.

classifier   a folder or hub id in the transformers format of the task's kind: sequence
             classification, token classification for words, question answering for passages
scores       a table with a score per class (or ``value``), joined by inputs or by a key
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from potstill.core.arrays import parts_of
from potstill.core.device import Device
from potstill.core.errors import BaseModelError, DataError, MismatchError
from potstill.core.files import digest_file, digest_json
from potstill.models.base_folder import check_weights, find_base
from potstill.models.encoder import longest_text, refuse_missing, silence
from potstill.models.token_rows import TokenRows, pick_slots
from potstill.models.tokenizer import load_tokenizer
from potstill.tasks.batches import token_batches
from potstill.tasks.rowids import digest_rows, row_ids, sort_keys
from potstill.tasks.sources import Source, read_rows
from potstill.tasks.task import Split, Task, slots_of
from potstill.teachers.given_texts import load_translator, texts_of_file
from potstill.teachers.member import Member
from potstill.training.inference import BUDGET_TOKENS, to_batch

VALUE = "value"

_FORMATS: Mapping[str, tuple[Any, str]] = {
    "text": (AutoModelForSequenceClassification, "sequence-classification"),
    "words": (AutoModelForTokenClassification, "token-classification"),
    "passage": (AutoModelForQuestionAnswering, "question-answering"),
}
"""What a model must be loaded as, by how a kind reads its rows."""


_OF_TEXTS = ("generation_config.json", "special_tokens_map.json", "*.spm")
"""What decides, beside weights and tokenizer, what an encoder-decoder says."""


def classifier_member(
    model: str, labels: Sequence[str] | None, name: str, *, says: bool = False
) -> Member:
    """A member from a model's folder or hub id; nothing is opened but its digests.

    Args:
        model: The folder or hub id.
        labels: What its outputs mean, in their order.
        name: What reports call it.
        says: It says texts.

    Raises:
        BaseModelError: It is not there.
    """
    try:
        found = find_base(model)
    except BaseModelError as error:
        raise BaseModelError(
            f"teacher '{model}'",
            got=error.got,
            wanted="a classifier's folder, or the hub id of one that is stored on this machine",
            todo="correct `teachers: {models: …}` of its task",
        ) from error
    facts: dict[str, object] = {"model": found.digest, "labels": list(labels or [])}
    if says:
        files = sorted(path for form in _OF_TEXTS for path in found.path.glob(form))
        facts["texts"] = {path.name: digest_file(path) for path in files}
    digest = digest_json(facts)
    return Member(
        name=name, folder=found.path, digest=digest, source="classifier", labels=tuple(labels or ())
    )


def scores_member(task: Task, scores: Source, key: str | None, name: str) -> Member:
    """A member from a table of scores; its digest is that of the values themselves.

    Raises:
        DataError: The file is missing, or lacks a column.
    """
    columns = _score_table_columns(task, key)
    table = read_rows(scores, columns=columns, what=f"task '{task.name}', scores")
    values = row_ids([[str(v) for v in table.columns[c]] for c in columns])
    digest = digest_json({"scores": digest_rows(values, None), "key": key})
    path = Path(scores) if isinstance(scores, str | Path) else Path()
    given = None if isinstance(scores, str | Path) else scores
    return Member(name=name, folder=path, digest=digest, source="scores", key=key, scores=given)


def look_at(member: Member, task: Task) -> list[str]:
    """Try a given teacher on a task, without asking it anything.

    Returns:
        Warnings: splits that its scores do not cover.

    Raises:
        BaseModelError: It is no classifier that transformers can load.
        MismatchError: Its labels are not the task's.
        DataError: A score is missing or no number, or rows of one text differ.
    """
    if member.source == "classifier":
        if task.kind.generates:
            load_translator(member)
            return []
        _label_order(_load(member, task), member, task)
        load_tokenizer(member.folder)
        return []
    splits = {"train": task.train, "pool": task.pool, "dev": task.dev, "test": task.test}
    there = {name: split for name, split in splits.items() if split is not None}
    if task.kind.generates:
        cover = np.array([text is not None for text in texts_of_file(member, task, there.values())])
    else:
        cover = scores_outputs(member, task, list(there.values()))[1]
    found, start = [], 0
    for name, split in there.items():
        n = int(cover[start : start + len(split)].sum())
        start += len(split)
        if n < len(split):
            why = "the others have no soft targets"
            if name in ("dev", "test"):
                reported = split is task.reported
                why = "the ensemble has no score" if reported else "no member can be chosen by it"
            found.append(f"its scores cover {n} of {len(split)} rows of {name}: {why}")
    return found


def classifier_outputs(
    member: Member,
    task: Task,
    rows: Sequence[Split],
    *,
    device: Device,
    max_tokens: int,
    done: Callable[[int], object],
) -> np.ndarray:
    """Outputs (S, C) of a model in the task's label order.

    Raises:
        BaseModelError: The folder is not a classifier that transformers can load.
        MismatchError: Its labels are not the task's.
    """
    model = _load(member, task)
    order = _label_order(model, member, task)
    tokenizer = load_tokenizer(member.folder)
    columns = task.inputs.columns
    inputs: dict[str, list[Any]] = {
        c: [v for split in rows for v in split.inputs[c]] for c in columns
    }
    limit = longest_text(model) or max_tokens
    tokens = task.inputs.tokenise(inputs, tokenizer, max_tokens=min(max_tokens, limit), task=None)
    model = nn.Module.to(model, device.torch).train(mode=False)
    has_types = int(getattr(model.config, "type_vocab_size", 0) or 0) > 1
    slots = tokens.slots
    n_outputs = len(tokens) if slots is None else len(slots.first)
    outputs = np.empty((n_outputs, len(order)), np.float32)
    silent = np.empty((len(tokens), len(order)), np.float32)  # what the first token of a text says
    with torch.inference_mode(), device.autocast():
        for batch_rows in token_batches(tokens.lengths, BUDGET_TOKENS):
            batch = to_batch(tokens, batch_rows, tokenizer.padding, device.torch)
            types = {"token_type_ids": batch.types} if has_types else {}
            found = model(input_ids=batch.ids, attention_mask=batch.mask.long(), **types)
            if task.kind.reads == "passage":
                logits = torch.stack([found.start_logits, found.end_logits], -1)
            else:
                logits = found.logits
            values = logits.float().cpu().numpy()
            if slots is None:
                outputs[batch_rows] = values[:, order]
            else:
                places, texts = slots.of(batch_rows)
                silent[batch_rows] = values[:, 0, order]
                outputs[places] = pick_slots(values, texts, slots, places, task.kind.at_last)[
                    :, order
                ]
            done(len(batch_rows) if tokens.windows is None else 0)
    if tokens.windows is not None:
        done(tokens.n_rows)
    if task.kind.reads == "passage":
        _no_answer(outputs, silent, tokens)
    if task.kind.n_outputs == 1 and not task.kind.class_names:
        return task.kind.from_scores([{VALUE: float(v)} for v in outputs[:, 0]])
    return outputs


def _no_answer(outputs: np.ndarray, silent: np.ndarray, tokens: TokenRows) -> None:
    """Put what a question answerer says of "no answer" into each row's first slot.

    It says so for each window, and does for every window without the answer: the row has none only
    where all windows say so. So the window that says it least speaks (as in SQuAD's script).
    """
    if tokens.slots is None or tokens.windows is None:
        return
    for start, end in pairwise(tokens.windows):
        least = start + int(silent[start:end].sum(1).argmin())
        outputs[tokens.slots.offsets[start]] = silent[least]


def scores_outputs(
    member: Member, task: Task, rows: Sequence[Split]
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (S, C) and cover (N,) from a table of scores; rows that it lacks are not covered.

    Raises:
        DataError: A column is missing, a score is no number, or no row to learn from is covered.
    """
    source: Source = member.folder if member.scores is None else member.scores
    names = task.kind.score_columns
    columns = _score_table_columns(task, member.key)
    joint = columns[: len(columns) - len(names)]
    what = f"task '{task.name}', scores"
    table = read_rows(source, columns=columns, what=what)
    known = _joint_ids(task, member.key, {c: table.columns[c] for c in joint})
    wanted = np.concatenate([_join_ids(split, member.key, what) for split in rows])
    dicts: list[Mapping[str, object]] = []
    counts = np.ones(table.n_rows, np.int64)
    for i in range(table.n_rows):
        row = {name: table.columns[name][i] for name in names}
        try:
            counts[i] = len(task.kind.from_scores([row]))
        except ValueError as error:
            raise DataError(
                table.where(i),
                got=str(error),
                wanted="a number" if not task.kind.slotted else "a list of numbers a word",
                todo="mend the scores",
            ) from error
        dicts.append(row)
    outputs = task.kind.from_scores(dicts)
    keys = sort_keys(known)
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    ends = np.cumsum(counts)
    parts = np.split(outputs, ends[:-1])
    clashes = [
        i
        for i in np.flatnonzero(first[group] != np.arange(len(keys)))
        if not np.array_equal(parts[i], parts[first[group[i]]])
    ]
    if clashes:
        i = int(clashes[0])
        raise DataError(
            table.where(i),
            got=f"other scores than {table.where(int(first[group[i]]))} has for the same row",
            wanted="one row of scores for each " + ", ".join(joint),
            todo="decide on one of them",
        )
    order = np.argsort(keys, kind="stable")
    places = np.searchsorted(keys[order], sort_keys(wanted)).clip(max=max(len(keys) - 1, 0))
    found = order[places]
    cover = keys[found] == sort_keys(wanted)
    if not cover.any() and any(split is task.train for split in rows):
        raise DataError(
            what,
            got=f"none of the {len(wanted)} rows has a score in {table.source}",
            wanted="rows that agree in " + ", ".join(joint),
            todo="compare the columns of both files, or join with `teachers: {key: column}`",
        )
    slots = [own for split in rows if (own := slots_of(task, split)) is not None]
    if not slots:
        return np.where(cover[:, None], outputs[found], np.float32(0)), cover
    wanted_slots = np.concatenate(slots)
    unfit = np.flatnonzero(cover & (counts[found] != wanted_slots))
    if len(unfit):
        i = int(unfit[0])
        raise DataError(
            table.where(int(found[i])),
            got=f"{counts[found[i]]} scores",
            wanted=f"{wanted_slots[i]}, one for each place where the task answers",
            todo="compute the scores for these words, in their order",
        )
    known_rows = np.flatnonzero(cover)
    spread = np.zeros((int(wanted_slots.sum()), outputs.shape[1]), np.float32)
    spread[parts_of(wanted_slots, known_rows)] = outputs[parts_of(counts, found[known_rows])]
    return spread, cover


def _joint_ids(task: Task, key: str | None, columns: Mapping[str, Sequence[object]]) -> np.ndarray:
    """Ids of a table's rows by the columns that join it, as the task's own rows have them."""
    if key is not None:
        return row_ids([[str(value) for value in columns[key]]])
    reader = task.inputs
    return reader.ids(
        {
            c: [reader.value(v if reader.value_fault(v) is None else str(v)) for v in values]
            for c, values in columns.items()
        }
    )


def _join_ids(split: Split, key: str | None, what: str) -> np.ndarray:
    if key is None:
        return split.ids
    if split.keys is None:
        raise DataError(
            f"{what}, column '{key}' of {split.source}",
            got="rows without that column",
            wanted="the key that joins rows with scores",
            todo="add the column, or join by the input columns (no `key:`)",
        )
    return row_ids([split.keys])


def _score_table_columns(task: Task, key: str | None) -> list[str]:
    """The columns that join rows and scores, then those of the scores."""
    joint = list(task.inputs.columns) if key is None else [key]
    return [*joint, *task.kind.score_columns]


def _load(member: Member, task: Task) -> PreTrainedModel:
    auto, form = _FORMATS[task.kind.reads]
    try:
        check_weights(member.folder)
        with silence():
            model, report = auto.from_pretrained(
                member.folder,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
        refuse_missing(report["missing_keys"])
        return cast("PreTrainedModel", model)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BaseModelError(
            f"teacher {member.folder}",
            got=f"transformers cannot load it: {str(error).splitlines()[0]}",
            wanted=f"a model in transformers' {form} format",
            todo=f"save it with {auto.__name__}, or give its `scores:` instead",
        ) from error


def _label_order(model: PreTrainedModel, member: Member, task: Task) -> list[int]:
    """Where each class of the task stands among the model's outputs."""
    if task.kind.reads == "passage":
        return [0, 1]  # start and end
    own: dict[Any, Any] = dict(model.config.id2label or {})
    given = list(member.labels) or [str(own[i]) for i in range(len(own))]
    classes = task.kind.class_names
    if not classes:
        if model.config.num_labels != 1:
            raise _mismatch(member, task, given, ["one output"])
        return [0]
    if sorted(given) != sorted(classes) or len(given) != model.config.num_labels:
        raise _mismatch(member, task, given, list(classes))
    return [given.index(label) for label in classes]


def _mismatch(member: Member, task: Task, got: list[str], wanted: list[str]) -> MismatchError:
    return MismatchError(
        f"teacher {member.folder} of task '{task.name}'",
        got=f"labels {', '.join(got)}",
        wanted=f"the labels of the task: {', '.join(wanted)}",
        todo="say what its outputs mean, in their order: `teachers: {models: …, labels: […]}`",
    )
