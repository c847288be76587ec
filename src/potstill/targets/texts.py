"""Teachers that say texts: what they say to rows, and what they think of each piece of a target.

Two things are written down. *Texts*: a stage with what an ensemble says to each row, for scores,
for pools and for sequence-level distilling (Kim and Rush 2016, arXiv 1606.07947). *Pieces*: a
store with the likeliest pieces of each place of the training targets, one member at a time, for
word-level distilling. Rows of the latter are pairs: a source may have several targets.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from potstill.core.device import Device
from potstill.core.errors import MismatchError
from potstill.core.files import digest_json, read_json, write_json
from potstill.core.stages import Stage, StageFolder
from potstill.models.ctranslate import open_translator
from potstill.models.pieces import Decoding, load_pieces
from potstill.models.to_ctranslate import to_ctranslate
from potstill.models.token_rows import join_rows
from potstill.targets.label import SHARD, cover_of, in_parts, stoppable
from potstill.targets.parts import SCRATCH, Parts, timed
from potstill.targets.store import SoftTargets, StoreFacts, merge, read_store, write_store
from potstill.tasks.inputs import Columns
from potstill.tasks.task import Split, Task, pair_ids
from potstill.teachers.given_texts import (
    Speak,
    given_speaker,
    is_student,
    need_one_vocabulary,
    texts_of_file,
)
from potstill.teachers.member import Member
from potstill.training.network import load_network
from potstill.training.sequence_network import SequenceNetwork

Engine = Literal["torch", "ctranslate2-int8"]

TEXTS_FILE = "texts.json"
SAYING_VERSION = 1
"""Raised when what finished networks say changes: older texts are not reused."""

_PART_ROWS = 2048


def say(
    stages: StageFolder,
    members: Sequence[Member],
    task: Task,
    rows: Sequence[Split],
    *,
    decoding: Decoding,
    device: Device,
    max_tokens: int,
    what: str,
    engine: Engine = "torch",
) -> tuple[list[str | None], str]:
    """What members together say to rows of a task, or find what they said.

    Networks of one vocabulary decide on each piece together, by the mean of their probabilities.
    Where members have not seen all rows (cross-fitting), those say a row's text that have not.

    Args:
        stages: Where texts stand.
        members: Who says them: networks, one given teacher, or given students.
        task: Of which task.
        rows: Splits, one after the other.
        decoding: How texts are looked for.
        device: Where.
        max_tokens: Limit of a source for given models.
        what: How progress names it.
        engine: Who runs a network that speaks alone; several together always run in torch.

    Returns:
        A text a row, None where nobody says one; and the stage's digest.

    Raises:
        Stopped: Stop was requested.
        MismatchError: Members of several vocabularies, or of several origins.
    """
    given = [member for member in members if member.source != "network"]
    if given and len(members) > 1 and not all(map(is_student, members)):
        raise MismatchError(
            f"teachers of task '{task.name}'",
            got=f"{len(members)} teachers that say texts of their own",
            wanted="one: texts of several have no mean",
            todo="give the best one",
        )
    from_file = bool(given) and given[0].source == "scores"
    together = len(members) > 1 and all(member.fold is None for member in members)
    if given or together or device.torch.type != "cpu":
        engine = "torch"  # whoever is asked for: it would say nothing here, or slower
    bare = [split.without_labels() for split in rows]
    facts = {
        "task": task.name,
        "token": task.kind.token,
        "data": digest_json([s.keyed_digest if from_file else s.digest for s in bare]),
        "teachers": [member.digest for member in members],
        "folds": [member.fold for member in members],
        "version": SAYING_VERSION,
        "inputs": task.inputs.to_json(),
    }
    if not from_file:
        facts |= {"engine": engine, "decoding": asdict(decoding)}
        facts |= {"precision": device.precision} if engine == "torch" else {}
        facts |= {"max_tokens": max_tokens} if given else {}

    def build(folder: Path) -> None:
        with timed(folder):
            said: list[str | None]
            if from_file:
                said = texts_of_file(given[0], task, rows)
            else:
                speakers = _Speakers(members, task, decoding, device, max_tokens, engine)
                said = _say(speakers, members, task, rows, stages, what, folder)
            write_json(folder / TEXTS_FILE, {"texts": said})

    stage = stages.make("texts", facts, build, what=what, scratch=SCRATCH)
    found: list[str | None] = read_json(stage.folder / TEXTS_FILE)["texts"]
    return found, stage.digest


def label_pieces(
    stages: StageFolder, members: Sequence[Member], task: Task, *, device: Device, what: str
) -> tuple[Callable[[], SoftTargets], list[str]]:
    """What each member thinks of each piece of the training targets.

    Returns:
        What opens the merged store, its rows being pairs (``tasks.task.pair_ids``): it is large,
        and only a training reads it; and the stages' digests.

    Raises:
        Stopped: Stop was requested.
        ArtefactError: Something that stands is damaged.
        MismatchError: Members of several vocabularies.
    """
    need_one_vocabulary(task, [load_pieces(member.folder / "encoder") for member in members])
    made: list[tuple[Stage, StoreFacts]] = []
    for k, member in enumerate(members):
        name = f"{what}, {k + 1}/{len(members)}"
        facts = StoreFacts(
            task=task.name,
            kind=task.kind.to_json(),
            data=digest_json({"pairs": task.train.digest, "inputs": task.inputs.to_json()}),
            teachers=(member.digest,),
        )
        made.append((_label_pieces(stages, member, task, facts, device, name), facts))

    def opened() -> SoftTargets:
        return merge([read_store(stage.folder / SHARD, facts, task.kind) for stage, facts in made])

    return opened, [stage.digest for stage, _ in made]


def _label_pieces(
    stages: StageFolder,
    member: Member,
    task: Task,
    facts: StoreFacts,
    device: Device,
    what: str,
) -> Stage:
    train = task.train

    def build(folder: Path) -> None:
        with timed(folder):
            network = _network(member)
            texts = [] if train.labels is None else [str(text) for text in train.labels]
            sources = network.tokenise(task.name, train.inputs)
            targets = network.tokenise_targets(texts)
            with stages.progress.bar(what, len(train), keep=False) as bar:
                done = stoppable(stages, bar, what)

                def answer(start: int, end: int) -> np.ndarray:
                    own, said = (
                        join_rows([(tokens, np.arange(start, end))])
                        for tokens in (sources, targets)
                    )
                    return network.kept_pieces(own, said, device, done=done)

                outputs = in_parts(folder, len(train), answer, bar)
            seen = cover_of(member, task, [train])
            ids, lengths = pair_ids(train), targets.lengths
            write_store(folder / SHARD, facts, task.kind, ids, [outputs], [seen], lengths)

    stage_facts = facts.to_json() | {
        "precision": device.precision,
        "fold": member.fold,
        "saying": SAYING_VERSION,
        **task.kind.version_facts,
    }
    return stages.make("targets", stage_facts, build, what=what, scratch=SCRATCH)


@dataclass(slots=True, kw_only=False, eq=False)
class _Speakers:
    """Sets of members that say texts, each made ready once."""

    members: Sequence[Member]
    task: Task
    decoding: Decoding
    device: Device
    max_tokens: int
    engine: Engine
    _ready: dict[tuple[int, ...], Speak] = field(default_factory=dict)

    def of(self, who: Sequence[int]) -> Speak:
        """What these members together say to rows given as columns."""
        key = tuple(who)
        if key not in self._ready:
            self._ready[key] = self._make([self.members[k] for k in who])
        return self._ready[key]

    def _make(self, members: Sequence[Member]) -> Speak:
        if members[0].source != "network":
            return given_speaker(
                members,
                self.task,
                beams=self.decoding.beams,
                length_penalty=self.decoding.length_penalty,
                device=self.device,
                max_tokens=self.max_tokens,
            )
        first, *others = (_network(member) for member in members)
        need_one_vocabulary(self.task, [network.tokenizer for network in (first, *others)])
        translator = None
        if self.engine != "torch" and not others:
            files = to_ctranslate(first.model, first.tokenizer.pieces, compute_type="int8")
            threads = torch.get_num_threads()
            translator = open_translator(files, threads=threads, compute_type="int8")

        def speak(inputs: Columns, done: Callable[[int], None]) -> list[str]:
            tokens = first.tokenise(self.task.name, inputs)
            if translator is None:
                texts = first.texts(
                    tokens, self.device, decoding=self.decoding, partners=others, done=done
                )
                return [str(text) for text in texts]
            pieces = translator.translate(
                tokens,
                beams=self.decoding.beams,
                length_penalty=self.decoding.length_penalty,
                max_tokens=first.max_tokens,
                longest=first.decoding.longest,
                done=done,
            )
            return first.tokenizer.decode(pieces)

        return speak


def _say(
    speakers: _Speakers,
    members: Sequence[Member],
    task: Task,
    rows: Sequence[Split],
    stages: StageFolder,
    what: str,
    folder: Path,
) -> list[str | None]:
    inputs = {c: [v for split in rows for v in split.inputs[c]] for c in task.inputs.columns}
    n = sum(len(split) for split in rows)
    cover = np.stack([cover_of(member, task, rows) for member in members])
    said: list[str | None] = [None] * n
    parts = Parts(folder)
    with stages.progress.bar(what, n, keep=False) as bar:
        done = stoppable(stages, bar, what)
        for who, places in _by_cover(cover):
            for start in range(0, len(places) if who else 0, _PART_ROWS):
                own = places[start : start + _PART_ROWS]
                part = f"{'+'.join(map(str, who))}-{start}"  # sets of members may begin alike
                known = parts.known(part)
                if known is None:
                    some = {c: [values[i] for i in own] for c, values in inputs.items()}
                    known = json.dumps(speakers.of(who)(some, done)).encode()
                    if n > _PART_ROWS:
                        parts.keep(part, known)
                else:
                    bar.advance(len(own))
                for i, text in zip(own, json.loads(known), strict=True):
                    said[int(i)] = text
    return said


def quick_engine() -> Engine:
    """CTranslate2 in int8 where it is installed: several times faster than torch on a CPU."""
    return "ctranslate2-int8" if importlib.util.find_spec("ctranslate2") else "torch"


def _network(member: Member) -> SequenceNetwork:
    network = load_network(member.folder)
    if not isinstance(network, SequenceNetwork):
        raise TypeError(f"{member.folder} holds no encoder-decoder")
    return network


def _by_cover(cover: np.ndarray) -> Iterable[tuple[list[int], np.ndarray]]:
    """Rows by who covers them: members' numbers, and the rows' places."""
    patterns, own = np.unique(cover, axis=1, return_inverse=True)
    for k in range(patterns.shape[1]):
        yield np.flatnonzero(patterns[:, k]).tolist(), np.flatnonzero(own.reshape(-1) == k)
