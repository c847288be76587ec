"""Teachers of texts that exist already: encoder-decoders, and files of texts.

An encoder-decoder is one of transformers, of one direction, or a student of potstill. They have
vocabularies of their own, so what they teach is the text that they say, not what they think of each
piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from potstill.core.characters import is_unseen
from potstill.core.device import Device
from potstill.core.errors import BaseModelError, DataError, MismatchError
from potstill.core.files import changed, verify
from potstill.models.base_folder import STUDENT_FILE, check_weights
from potstill.models.pieces import Decoding, PieceTokenizer, load_pieces
from potstill.models.weights import longest_text, refuse_unfit, silence
from potstill.tasks.batches import token_batches
from potstill.tasks.inputs import Columns, text_fault
from potstill.tasks.predictor import TaskHead
from potstill.tasks.rowids import sort_keys
from potstill.tasks.sources import read_rows
from potstill.tasks.task import Split, Task
from potstill.teachers.given_models import need_unchanged
from potstill.teachers.joining import (
    digest_of_table,
    ids_of_split,
    ids_of_table,
    taught_rows,
)
from potstill.teachers.member import Member
from potstill.training.network import load_network
from potstill.training.sequence_network import SequenceNetwork

Speak: TypeAlias = Callable[[Columns, Callable[[int], None]], list[str]]
"""Rows as columns, and what is called with the rows of each batch, to a text a row."""

_BUDGET_TOKENS = 1024  # padded source tokens a batch of a model that nobody has measured
PREDICTION = "prediction"
"""The column of a file of texts."""


def given_speaker(
    members: Sequence[Member],
    task: Task,
    *,
    beams: int,
    length_penalty: float,
    device: Device,
    max_tokens: int,
) -> Speak:
    """What a given encoder-decoder, or students together, say to rows given as columns.

    Args:
        members: A transformers folder, or those of students, which decide on each piece together.
        task: The task.
        beams: Of the search.
        length_penalty: Of the search.
        device: Where.
        max_tokens: Limit of a source and of what is said.

    Raises:
        BaseModelError: The folder is no encoder-decoder that transformers can load.
        ArtefactError: A student's files are damaged; a file has changed since the run began.
        MismatchError: A student that does not say such texts; students of several vocabularies.
    """
    if is_student(members[0]):
        decoding = Decoding(beams=beams, length_penalty=length_penalty)
        speaker = _students_speaker(members, task, decoding, device, max_tokens)
        for member in members:
            need_unchanged(member, says=True)
        return speaker
    (member,) = members
    model, tokenizer = load_translator(member)
    need_unchanged(member, says=True)
    model.to(device.torch).eval()
    places = longest_text(model)  # of both halves; a text begins with a mark that takes one
    longest = max_tokens if places is None else min(max_tokens, places)
    said_most = max_tokens if places is None else min(max_tokens, places - 1)

    def speak(inputs: Columns, done: Callable[[int], None]) -> list[str]:
        sources = [str(value) for value in inputs[task.inputs.columns[0]]]
        encoded = tokenizer(sources, truncation=True, max_length=longest)["input_ids"]
        said = [""] * len(sources)
        lengths = np.array([len(ids) for ids in encoded])
        with torch.inference_mode(), device.autocast():
            for rows in token_batches(lengths, max(_BUDGET_TOKENS // beams, 1)):
                batch = tokenizer.pad(
                    {"input_ids": [encoded[i] for i in rows]}, return_tensors="pt"
                ).to(device.torch)
                found = model.generate(
                    **batch,
                    num_beams=beams,
                    length_penalty=length_penalty,
                    do_sample=False,
                    max_new_tokens=said_most,
                )
                texts = tokenizer.batch_decode(found, skip_special_tokens=True)
                for i, text in zip(rows, texts, strict=True):
                    said[int(i)] = str(text)
                done(len(rows))
        return said

    return speak


def try_speaker(member: Member, task: Task) -> None:
    """Open a given encoder-decoder, to know that it can teach a task.

    Raises:
        BaseModelError: As :func:`given_speaker`, likewise the others.
    """
    if is_student(member):
        _load_student(member, task)
    else:
        load_translator(member)


def try_together(members: Sequence[Member], task: Task) -> None:
    """Refuse given students that cannot speak together.

    Raises:
        MismatchError: Their vocabularies differ.
    """
    if len(members) > 1 and all(map(is_student, members)):
        need_one_vocabulary(task, [load_pieces(m.folder / "encoder") for m in members])


def is_student(member: Member) -> bool:
    """Whether a given member is a student of potstill."""
    return (member.folder / STUDENT_FILE).is_file()


def need_one_vocabulary(task: Task, vocabularies: Sequence[PieceTokenizer]) -> None:
    """Refuse teachers that cannot decide on each piece together.

    Raises:
        MismatchError: Their vocabularies differ.
    """
    if len({vocabulary.digest for vocabulary in vocabularies}) > 1:
        raise MismatchError(
            f"teachers of task '{task.name}'",
            got="members with different vocabularies",
            wanted="one vocabulary: they decide on each piece together",
            todo="train them in one run, or from one base; or give the best one alone",
        )


def _students_speaker(
    members: Sequence[Member], task: Task, decoding: Decoding, device: Device, max_tokens: int
) -> Speak:
    (network, head), *others = [_load_student(member, task) for member in members]
    partners = [partner for partner, _ in others]
    need_one_vocabulary(task, [one.tokenizer for one in (network, *partners)])
    limit = min(max_tokens, *(one.max_tokens for one in (network, *partners)))

    def speak(inputs: Columns, done: Callable[[int], None]) -> list[str]:
        # The student may know the source's column by another name.
        own = dict(zip(head.inputs.columns, task.inputs.in_order(inputs), strict=True))
        tokens = head.inputs.tokenise(
            own, network.tokenizer, max_tokens=limit, task=head.kind.token
        )
        texts = network.texts(tokens, device, decoding=decoding, partners=partners, done=done)
        return [str(text) for text in texts]

    return speak


def _load_student(member: Member, task: Task) -> tuple[SequenceNetwork, TaskHead]:
    """A student, and its task whose token asks for what the given task wants."""
    verify(member.folder)
    network = load_network(member.folder)
    thing = f"teacher {member.folder} of task '{task.name}'"
    if not isinstance(network, SequenceNetwork):
        raise MismatchError(
            thing,
            got="a student that answers with classes, numbers or words",
            wanted="one that says texts",
            todo="name a student of tasks of generation or translation",
        )
    for head in network.tasks.values():
        if head.kind.token == task.kind.token:
            return network, head
    tokens = ", ".join(f"{head.kind.token} ({name})" for name, head in network.tasks.items())
    raise MismatchError(
        thing,
        got=f"a student whose tasks have the tokens {tokens}",
        wanted=f"a task with the token {task.kind.token}",
        todo="set the task's `language:` (or `token:`) to one of them, if it is what they say",
    )


def load_translator(member: Member) -> tuple[Any, Any]:
    """The model and the tokenizer of a given encoder-decoder.

    Raises:
        BaseModelError: transformers cannot load it, or it is unsafe.
    """
    try:
        check_weights(member.folder)
        with silence():
            model, report = AutoModelForSeq2SeqLM.from_pretrained(
                member.folder,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(member.folder, local_files_only=True)
        refuse_unfit(model, [n for n in report["missing_keys"] if "embed_positions" not in n])
    except (  # a tokenizer whose file is missing raises nearly anything
        *(OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError),
        *(TypeError, AttributeError, AssertionError),
    ) as error:
        raise BaseModelError(
            f"teacher {member.folder}",
            got=f"transformers cannot load it: {(str(error) or repr(error)).splitlines()[0]}",
            wanted="an encoder-decoder with its tokenizer, in transformers' format",
            todo="save it with AutoModelForSeq2SeqLM, or give a file of its texts: `scores:`",
        ) from error
    config = model.generation_config
    if getattr(tokenizer, "src_lang", None) is not None and config.forced_bos_token_id is None:
        raise BaseModelError(
            f"teacher {member.folder}",
            got="a model of many languages that does not say into which it translates",
            wanted="`forced_bos_token_id` in its generation_config.json",
            todo="set it there for this direction, or give a file of its texts: `scores:`",
        )
    return model, tokenizer


def texts_of_file(member: Member, task: Task, rows: Iterable[Split]) -> list[str | None]:
    """The texts of a file for rows of a task; None where it has none.

    Raises:
        DataError: A text is missing, or rows of one source differ.
        ArtefactError: The table has changed since the run began.
    """
    joint = list(task.inputs.columns) if member.key is None else [member.key]
    source = member.folder if member.scores is None else member.scores
    what = f"task '{task.name}', texts of its teacher"
    table = read_rows(source, columns=[*joint, PREDICTION], what=what)
    if digest_of_table(table, member.key) != member.digest:
        raise changed(f"{what}, {table.source}")
    by_row: dict[bytes, str] = {}
    known = sort_keys(ids_of_table(task, member.key, table.columns))
    for i, (key, text) in enumerate(zip(known, table.columns[PREDICTION], strict=True)):
        if not isinstance(text, str) or is_unseen(text) or "\0" in text:
            raise DataError(
                table.where(i),
                got=f"{text_fault(text) or 'empty text'} as '{PREDICTION}'",
                wanted="what the teacher said",
                todo="leave the row out where it said nothing",
            )
        if by_row.setdefault(key.tobytes(), text) != text:
            raise DataError(
                table.where(i),
                got="another text than an earlier row has for the same source",
                wanted="one text for each " + ", ".join(joint),
                todo="decide on one of them",
            )
    splits = list(rows)
    wanted = sort_keys(np.concatenate([ids_of_split(s, member.key, what) for s in splits]))
    found = [by_row.get(key.tobytes()) for key in wanted]
    taught = taught_rows(task, splits)
    if taught.any() and not any(text for text, own in zip(found, taught, strict=True) if own):
        raise DataError(
            what,
            got=f"none of the {taught.sum()} rows to learn from has a text in {table.source}",
            wanted="rows that agree in " + ", ".join(joint),
            todo="compare the columns of both files, or join with `teachers: {key: column}`",
        )
    return found
