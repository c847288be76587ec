"""What networks start from: a base that stands, or one that a run makes of its own texts.

An encoder-decoder that starts from nothing needs a vocabulary and a size. Both are stages: the
vocabulary is learned from all training texts of the run, once, and a base is a folder with it and
a configuration, without weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from potstill.config import RunFile
from potstill.config.fields import SEQUENCE_BASE
from potstill.config.training import Architecture as Section
from potstill.config.training import Training
from potstill.core.errors import DataError, MismatchError
from potstill.core.files import digest_json, write_text
from potstill.core.stages import Stage, StageFolder
from potstill.models.base_folder import facts_of_base, find_base
from potstill.models.pieces import PieceTokenizer, load_pieces
from potstill.models.sequence import Architecture
from potstill.models.vocabulary import train_vocabulary
from potstill.tasks.task import Task
from potstill.training.sequence_network import model_folder, need_tokens

VOCABULARY_VERSION = 2
"""Raised when the same texts make another vocabulary."""


def resolve_base(
    base: str,
    section: Section,
    tasks: Mapping[str, Task],
    stages: StageFolder,
    prefix: str,
    max_tokens: int,
) -> tuple[str, str, str]:
    """What a network starts from, its digest, and what to look at to see that it stays the same.

    The last is empty for a base that is a stage. A hub id becomes the folder of its snapshot.

    Args:
        base: As the run file names it.
        section: Size of a base that starts from nothing.
        tasks: All tasks of the run: their texts make the vocabulary.
        stages: Where made bases stand.
        prefix: Put before the names that progress shows.
        max_tokens: A base that starts from nothing has places for so many.

    Raises:
        BaseModelError: The base is missing or unsafe.
        DataError: The texts make no vocabulary of that size.
    """
    if base != SEQUENCE_BASE:
        found = find_base(base)
        says = any(task.kind.generates for task in tasks.values())
        named = named_folder(base, found.path)
        return str(found.path) if says else named, found.digest, named
    vocabulary = _vocabulary(section.vocabulary, tasks, stages, prefix)
    size = architecture_of(section, max_tokens)
    facts = {"vocabulary": vocabulary.digest, "architecture": asdict(size)}

    def build(folder: Path) -> None:
        tokenizer = load_pieces(vocabulary.folder)
        tokenizer.save(folder)
        config = size.config(tokenizer.padding + 1)
        write_text(folder / "config.json", config.to_json_string())

    stage = stages.make("base", facts, build, what=f"{prefix}base")
    return str(stage.folder), stage.digest, ""


def named_folder(base: str, path: Path) -> str:
    """A base as it is found again: a hub id may be another model later, its snapshot is not."""
    return base if base == "minilm" or Path(base).expanduser().is_dir() else str(path)


def need_agreement(
    run: RunFile, tasks: Mapping[str, Task], stages: StageFolder, prefix: str = ""
) -> None:
    """Refuse, before anything is trained, sides that could not teach each other.

    Raises:
        BaseModelError: A base lacks a task's token.
        MismatchError: Teachers and student have different vocabularies or limits.
    """
    kinds = {name: task.kind for name, task in tasks.items()}
    for task in tasks.values():
        task.kind.signature(task.metric.name)  # what scores is installed
    known: dict[tuple[str, Section], PieceTokenizer] = {}

    def vocabulary(base: str, section: Section) -> PieceTokenizer:
        if (base, section) not in known:
            folder, *_ = resolve_base(base, section, tasks, stages, prefix, longest(run))
            known[base, section] = load_pieces(model_folder(folder))
            need_tokens(known[base, section], kinds, base)
        return known[base, section]

    own = vocabulary(run.student.base or run.base, run.student.architecture)
    if not run.trained_tasks:
        return
    learning = _read_by(run.student.base or run.base, run.training_for("student").max_tokens)
    for net in run.teacher_nets():
        teaching = _read_by(net.base or run.base, run.training_for("teachers").max_tokens)
        theirs = vocabulary(net.base or run.base, run.teachers.architecture)
        if run.distill.objective == "sequence":
            continue
        if theirs.digest != own.digest or teaching != learning:
            other = theirs.digest != own.digest
            raise MismatchError(
                "teachers and student",
                got="different vocabularies"
                if other
                else f"{teaching} tokens read by teachers, {learning} by the student",
                wanted="the same: teachers say what they think of each piece of a target",
                todo="give both sides the same "
                + ("base" if other else "`max_tokens`, which both bases can read")
                + ", or set `distill: {objective: sequence}`",
            )


def longest(run: RunFile) -> int:
    """The longest text that a side of a run reads."""
    return max(run.training_for(side).max_tokens for side in ("teachers", "student", "single"))


def bases_that_cut(run: RunFile) -> list[str]:
    """Which bases read less than the run file asks for; the default is no such wish."""
    default: int = Training.model_fields["max_tokens"].default
    asked = longest(run)
    reads = {base: _read_by(base, asked) for base in run.bases if asked != default}
    return [
        f"base '{base}' reads {read} tokens, not `max_tokens: {asked}`"
        for base, read in reads.items()
        if read < asked
    ]


def _read_by(base: str, max_tokens: int) -> int:
    """Tokens that are read of a text where ``max_tokens`` are asked for."""
    facts = None if base == SEQUENCE_BASE else facts_of_base(str(find_base(base).path))
    known = None if facts is None else facts.n_tokens
    return max_tokens if known is None else min(known, max_tokens)


def architecture_of(section: Section, max_tokens: int) -> Architecture:
    """The size that a section says, with places for texts of ``max_tokens``, and some to spare."""
    return Architecture(
        max_tokens=max(Architecture().max_tokens, max_tokens),
        width=section.width,
        layers=section.layers,
        heads=section.heads,
        feed_forward=section.feed_forward,
    )


def _vocabulary(size: int, tasks: Mapping[str, Task], stages: StageFolder, prefix: str) -> Stage:
    texts = list(dict.fromkeys(_texts(list(tasks.values()))))
    tokens = sorted({str(task.kind.token) for task in tasks.values()})
    facts = {
        "texts": digest_json(texts),
        "size": size,
        "tokens": tokens,
        "version": VOCABULARY_VERSION,
    }

    def build(folder: Path) -> None:
        try:
            tokenizer = train_vocabulary(texts, size=size, tokens=tokens)
        except ValueError as error:
            raise DataError(
                "vocabulary",
                got=str(error),
                wanted=f"pieces for {len(texts):,} texts",
                todo="change `architecture: {vocabulary: …}`",
            ) from error
        write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=False))

    return stages.make("vocabulary", facts, build, what=f"{prefix}vocabulary")


def _texts(tasks: Sequence[Task]) -> Iterator[str]:
    """Sources and targets of all train rows."""
    for task in tasks:
        for column in task.inputs.in_order(task.train.inputs):
            yield from map(str, column)
        if task.train.labels is not None:
            yield from map(str, task.train.labels)
