"""Teachers of texts that exist already: transformers encoder-decoders, and files of texts.

They have vocabularies of their own, so what they teach is the text that they say, not what they
think of each piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from potstill.core.characters import is_unseen
from potstill.core.device import Device
from potstill.core.errors import BaseModelError, DataError
from potstill.models.base_folder import check_weights
from potstill.models.encoder import refuse_missing, silence
from potstill.tasks.batches import token_batches
from potstill.tasks.inputs import Columns, text_fault
from potstill.tasks.rowids import row_ids, sort_keys
from potstill.tasks.sources import read_rows
from potstill.tasks.task import Split, Task
from potstill.teachers.member import Member

Speak: TypeAlias = Callable[[Columns, Callable[[int], None]], list[str]]
"""Rows as columns, and what is called with the rows of each batch, to a text a row."""

_BUDGET_TOKENS = 1024  # padded source tokens a batch of a model that nobody has measured
PREDICTION = "prediction"
"""The column of a file of texts."""


def given_speaker(
    member: Member,
    task: Task,
    *,
    beams: int,
    length_penalty: float,
    device: Device,
    max_tokens: int,
) -> Speak:
    """What a given encoder-decoder says to rows given as columns.

    Args:
        member: A transformers folder.
        task: The task.
        beams: Of the search.
        length_penalty: Of the search.
        device: Where.
        max_tokens: Limit of a source.

    Raises:
        BaseModelError: The folder is no encoder-decoder that transformers can load.
    """
    model, tokenizer = load_translator(member)
    model.to(device.torch).eval()

    def speak(inputs: Columns, done: Callable[[int], None]) -> list[str]:
        sources = [str(value) for value in inputs[task.inputs.columns[0]]]
        encoded = tokenizer(sources, truncation=True, max_length=max_tokens)["input_ids"]
        said = [""] * len(sources)
        lengths = np.array([len(ids) for ids in encoded])
        with torch.inference_mode(), device.autocast():
            for places in token_batches(lengths, max(_BUDGET_TOKENS // beams, 1)):
                batch = tokenizer.pad(
                    {"input_ids": [encoded[i] for i in places]}, return_tensors="pt"
                ).to(device.torch)
                found = model.generate(
                    **batch,
                    num_beams=beams,
                    length_penalty=length_penalty,
                    do_sample=False,
                    max_new_tokens=int(2 * lengths[places].max() + 16),
                )
                texts = tokenizer.batch_decode(found, skip_special_tokens=True)
                for i, text in zip(places, texts, strict=True):
                    said[int(i)] = str(text)
                done(len(places))
        return said

    return speak


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
        refuse_missing(n for n in report["missing_keys"] if "embed_positions" not in n)
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
        DataError: As :func:`given_texts`.
    """
    joint = list(task.inputs.columns) if member.key is None else [member.key]
    source = member.folder if member.scores is None else member.scores
    what = f"task '{task.name}', texts of its teacher"
    table = read_rows(source, columns=[*joint, PREDICTION], what=what)
    by_row: dict[bytes, str] = {}
    known = sort_keys(_ids(task, member.key, table.columns))
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
    ids: list[np.ndarray] = []
    splits = list(rows)
    for split in splits:
        if member.key is not None and split.keys is None:
            raise DataError(
                f"{what}, column '{member.key}' of {split.source}",
                got="rows without that column",
                wanted="the key that joins rows with texts",
                todo="add the column, or join by the source (no `key:`)",
            )
        ids.append(split.ids if split.keys is None else row_ids([split.keys]))
    wanted = sort_keys(np.concatenate(ids))
    found = [by_row.get(key.tobytes()) for key in wanted]
    if any(split is task.train for split in splits) and not any(found):
        raise DataError(
            what,
            got=f"none of the {len(wanted)} rows has a text in {table.source}",
            wanted="rows that agree in " + ", ".join(joint),
            todo="compare the columns of both files, or join with `teachers: {key: column}`",
        )
    return found


def _ids(task: Task, key: str | None, columns: Mapping[str, Sequence[object]]) -> np.ndarray:
    if key is not None:
        return row_ids([[str(value) for value in columns[key]]])
    reader = task.inputs
    return reader.ids(
        {
            c: [reader.value(v if reader.value_fault(v) is None else str(v)) for v in columns[c]]
            for c in reader.columns
        }
    )
