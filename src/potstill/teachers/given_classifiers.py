"""Classifiers that exist already, asked of a task's rows.

A folder or hub id in the transformers format of the task's kind: sequence classification, token
classification for words, question answering for passages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
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

from potstill.core.device import Device
from potstill.core.errors import BaseModelError, MismatchError
from potstill.kinds.classification import Classification, as_spelled
from potstill.models.base_folder import check_weights
from potstill.models.token_rows import TokenRows, padded_lengths, pick_slots
from potstill.models.tokenizer import load_tokenizer
from potstill.models.weights import longest_text, refuse_unfit, silence
from potstill.tasks.batches import token_batches
from potstill.tasks.task import Task
from potstill.teachers.given_models import need_unchanged
from potstill.teachers.member import Member
from potstill.training.inference import BUDGET_TOKENS, to_batch

_VALUE = "value"
_TRIED_FROM = 256  # train rows, of which the shortest and the longest are asked of
_TRIED_TOKENS = 64
_TRIED = 64  # rows whose answers are looked at
_NEAR = 0.01  # of the largest output: padding moves those that have a mask by some 1e-6

_FORMATS: Mapping[str, tuple[Any, str]] = {
    "text": (AutoModelForSequenceClassification, "sequence-classification"),
    "words": (AutoModelForTokenClassification, "token-classification"),
    "passage": (AutoModelForQuestionAnswering, "question-answering"),
}
"""What a model must be loaded as, by how a kind reads its rows."""


def try_classifier(member: Member, task: Task) -> list[str]:
    """Ask a model of few train rows, which shows what its settings do not say.

    Two texts of different length are asked of together and alone: a model that answers at the last
    place (XLNet), or has no mask (FNet), gives a text's neighbours a say in its soft targets.

    Returns:
        Warnings: values of an odd scale, outputs that were trained as something else.

    Raises:
        BaseModelError: It is not a classifier that transformers can load, breaks when it is
            asked, or says something else of a text beside others.
        MismatchError: Its labels are not the task's.
    """
    model = _load(member, task)
    order = _label_order(model, member, task)
    tokenizer = load_tokenizer(member.folder)
    found: list[str] = []
    trained_as = getattr(model.config, "problem_type", None)
    if None not in (trained_as, task.kind.problem_type) and trained_as != task.kind.problem_type:
        found.append(
            f"its config.json says `problem_type` {trained_as}, and its outputs are read as those "
            f"of {task.kind.problem_type}"
        )

    def ask(rows: list[int], *, padded: bool = True) -> np.ndarray:
        inputs = {c: [values[i] for i in rows] for c, values in task.train.inputs.items()}
        tokens = task.inputs.tokenise(inputs, tokenizer, max_tokens=limit, task=None)
        most = limit if padded else int(tokens.lengths.max())
        cpu = Device(name="cpu", precision="fp32")
        return _outputs(model, order, task, tokens, tokenizer.padding, most, cpu, lambda _: None)

    limit = min(_TRIED_TOKENS, longest_text(model) or _TRIED_TOKENS)
    model.eval()
    texts = task.train.inputs[task.inputs.columns[-1]][:_TRIED_FROM]
    by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    ends = [by_length[0], by_length[-1]]
    try:
        together, alone = ask(ends), np.concatenate([ask([i], padded=False) for i in ends])
        some = by_length[:: len(texts) // _TRIED or 1]
        odd = _odd(task, some, ask)
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        raise BaseModelError(
            f"teacher {member.folder} of task '{task.name}'",
            got=f"it breaks when it is asked of two texts: {str(error).splitlines()[0]}",
            wanted="outputs for several texts at once",
            todo="what it lacks can be set in its config.json (`pad_token_id`); or give its "
            "`scores:` instead",
        ) from error
    away = np.abs(together - alone)
    if away.max() > _NEAR * np.abs(alone).max():
        worst = away.argmax()
        raise BaseModelError(
            f"teacher {member.folder} of task '{task.name}'",
            got=f"{type(model).__name__} says something else of a text beside a longer one "
            f"({together.flat[worst]:.3g}, alone {alone.flat[worst]:.3g})",
            wanted="outputs that depend on the text alone, also where padding stands behind it",
            todo="give its `scores:` instead, computed one text at a time",
        )
    if odd is not None:
        found.append(f"its outputs look odd: {odd}")
    return found


def _odd(task: Task, rows: list[int], ask: Callable[[list[int]], np.ndarray]) -> str | None:
    """What speaks against a teacher's outputs for some train rows."""
    if not task.kind.class_names and task.kind.reads == "text":
        return task.kind.odd_scores(ask(rows))
    if not isinstance(task.kind, Classification) or task.train.labels is None:
        return None
    labels = task.train.labels[rows].astype(np.int64)
    right = int((ask(rows).argmax(1) == labels).sum())
    commonest = int(np.bincount(labels).max())
    if right >= commonest - np.sqrt(len(rows)):  # two standard deviations of luck
        return None
    return (
        f"right in {right} of {len(rows)} rows of train, of which the commonest label has "
        f"{commonest}: is the order of its labels right?"
    )


def open_classifier(
    member: Member,
    task: Task,
    *,
    device: Device,
    max_tokens: int,
    done: Callable[[int], object],
) -> Callable[[Mapping[str, list[Any]]], np.ndarray]:
    """Load a model; what is returned gives its outputs (S, C) for rows in the task's label order.

    Raises:
        BaseModelError: The folder is not a classifier that transformers can load.
        MismatchError: Its labels are not the task's.
        ArtefactError: Its files have changed since the run began.
    """
    model = _load(member, task)
    order = _label_order(model, member, task)
    tokenizer = load_tokenizer(member.folder)
    need_unchanged(member)
    limit = longest_text(model) or max_tokens
    _answer_exactly(model)
    model = nn.Module.to(model, device.torch).train(mode=False)

    def answer(inputs: Mapping[str, list[Any]]) -> np.ndarray:
        tokens = task.inputs.tokenise(
            inputs, tokenizer, max_tokens=min(max_tokens, limit), task=None
        )
        return _outputs(model, order, task, tokens, tokenizer.padding, limit, device, done)

    return answer


def _answer_exactly(model: PreTrainedModel) -> None:
    """Compute the last layer in fp32: bf16 has no more than 8 bits for a year, or for a rank."""
    n_outputs = model.config.num_labels
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and child.out_features == n_outputs:
                setattr(module, name, _Exact(child))


class _Exact(nn.Module):
    """A layer outside of autocast."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        with torch.autocast(features.device.type, enabled=False):
            found: torch.Tensor = self.layer(features.float())
        return found


def _outputs(
    model: PreTrainedModel,
    order: list[int],
    task: Task,
    tokens: TokenRows,
    padding: int,
    limit: int,
    device: Device,
    done: Callable[[int], object],
) -> np.ndarray:
    has_types = int(getattr(model.config, "type_vocab_size", 0) or 0) > 1
    slots = tokens.slots
    n_outputs = len(tokens) if slots is None else len(slots.first)
    outputs = np.empty((n_outputs, len(order)), np.float32)
    silent = np.empty((len(tokens), len(order)), np.float32)  # what the first token of a text says
    with torch.inference_mode(), device.autocast():
        for batch_rows in token_batches(padded_lengths(tokens.lengths, limit), BUDGET_TOKENS):
            batch = to_batch(tokens, batch_rows, padding, device.torch, most=limit)
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
    if task.kind.reads != "passage" and not task.kind.class_names:
        return task.kind.from_scores([{_VALUE: float(v)} for v in outputs[:, 0]])
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
        refuse_unfit(model, report["missing_keys"])
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
    classes = task.kind.class_names
    said = list(member.labels) or [str(label) for _, label in sorted(own.items())]
    given = [as_spelled(label, classes) for label in said]
    if classes and not member.labels and sorted(own) != list(range(len(own))):
        numbered = [f"{label} as number {i}" for i, label in sorted(own.items())]
        raise _mismatch(member, task, numbered, [*classes, "numbered from 0"])
    if not classes:
        if model.config.num_labels != 1:
            raise MismatchError(
                f"teacher {member.folder} of task '{task.name}'",
                got=f"{model.config.num_labels} outputs",
                wanted=f"one: an amount is what a model for {task.kind.name} says",
                todo="name a model with one output (`num_labels: 1`), or give its `scores:`",
            )
        return [0]
    n_outputs = model.config.num_labels
    if n_outputs != len(classes):
        raise MismatchError(
            f"teacher {member.folder} of task '{task.name}'",
            got=f"{n_outputs} outputs, called {', '.join(given)}",
            wanted=f"an output for each label of the task: {', '.join(classes)}",
            todo="name a model with these outputs, or give its `scores:` for each label",
        )
    if sorted(given) != sorted(classes):
        raise _mismatch(member, task, given, list(classes))
    return [given.index(label) for label in classes]


def _mismatch(member: Member, task: Task, got: list[str], wanted: list[str]) -> MismatchError:
    return MismatchError(
        f"teacher {member.folder} of task '{task.name}'",
        got=f"labels {', '.join(got)}",
        wanted=f"the labels of the task: {', '.join(wanted)}",
        todo="say what its outputs mean, in their order: `teachers: {models: …, labels: […]}`",
    )
