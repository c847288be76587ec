"""Toy languages whose translation is a rule, and tiny encoder-decoders that can learn it.

Sentences of a few words; each word has one word in either other language, in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from potstill.models.pieces import Decoding, PieceTokenizer, pieces_of
from potstill.models.sequence import Architecture, SequenceModel, fresh_model
from potstill.models.vocabulary import train_vocabulary
from potstill.tasks.load import load_task
from potstill.tasks.predictor import TaskHead
from potstill.tasks.sources import Source
from potstill.tasks.task import Task
from potstill.training.prepare import NetworkPlan
from potstill.training.sequence_network import SequenceNetwork, new_sequence_network

WORDS: Mapping[str, tuple[str, ...]] = {
    "en": ("the", "cat", "saw", "old", "town", "road", "and", "bird", "sang", "green"),
    "de": ("der", "Katze", "sah", "alt", "Stadt", "Weg", "und", "Vogel", "sang", "grün"),
    "fr": ("le", "chat", "vit", "vieux", "ville", "route", "et", "oiseau", "chanta", "vert"),
}
TOKENS = ("<2de>", "<2fr>")
TINY = Architecture(width=16, layers=1, heads=2, feed_forward=32, dropout=0.0, max_tokens=64)

Rows = list[dict[str, Any]]


def say_in(language: str, text: str) -> str:
    """The rule: an English sentence in another language, word by word."""
    return " ".join(WORDS[language][WORDS["en"].index(word)] for word in text.split())


def sentences(n: int, seed: int = 0, *, longest: int = 5) -> list[str]:
    """``n`` different English sentences; equal arguments give equal ones."""
    rng = np.random.default_rng([seed, 17])
    found: dict[str, None] = {}
    while len(found) < n:
        words = rng.integers(0, len(WORDS["en"]), int(rng.integers(2, longest + 1)))
        found[" ".join(WORDS["en"][i] for i in words)] = None
    return list(found)


def pair_rows(n: int, seed: int = 0, *, longest: int = 5) -> Rows:
    """Rows with the columns ``en``, ``de`` and ``fr``."""
    return [
        {"en": text, "de": say_in("de", text), "fr": say_in("fr", text)}
        for text in sentences(n, seed, longest=longest)
    ]


@cache
def _vocabulary(size: int, seed: int) -> str:
    texts = [str(text) for row in pair_rows(60, seed) for text in row.values()]
    return train_vocabulary(texts, size=size, tokens=TOKENS).to_str()


def toy_pieces(*, size: int = 120, seed: int = 0) -> PieceTokenizer:
    """A vocabulary of all three languages."""
    return pieces_of(Tokenizer.from_str(_vocabulary(size, seed)), "the toy vocabulary")


def sequence_base(
    folder: Path, *, architecture: Architecture = TINY, size: int = 120, seed: int = 0
) -> Path:
    """A base folder without weights: sizes and vocabulary; returns ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = toy_pieces(size=size, seed=seed)
    tokenizer.save(folder)
    config = architecture.config(tokenizer.padding + 1)
    (folder / "config.json").write_text(config.to_json_string(), encoding="utf-8")
    return folder


def tiny_model(folder: Path, *, seed: int = 0, sharp: float = 1.0) -> SequenceModel:
    """A fresh model in evaluation mode; ``sharp`` scales its table, and so how sure it is."""
    model = fresh_model(sequence_base(folder), seed=seed)
    with torch.no_grad():
        model.backbone.model.shared.weight.mul_(sharp)
    return model.eval()


def sequence_task(
    language: str = "de",
    *,
    name: str | None = None,
    train: Source | int = 24,
    dev: Source | int = 8,
    test: Source | int | None = None,
    pool: Sequence[Source] = (),
    key: str | None = None,
    kind: str = "translation",
) -> Task:
    """A direction from English; a number of rows stands for that many toy rows."""
    rows = [
        pair_rows(source, seed) if isinstance(source, int) else source
        for seed, source in enumerate((train, dev, test))
    ]
    assert rows[0] is not None
    option = "language" if kind == "translation" else "token"
    return load_task(
        name or language,
        kind=kind,
        columns=["en"],
        label=language,
        options={option: language, "label_smoothing": 0.1},
        metric=None,
        train=rows[0],
        dev=rows[1],
        test=rows[2],
        pool=pool,
        rows=None,
        seed=0,
        key=key,
    )


def heads_of(tasks: Sequence[Task]) -> dict[str, TaskHead]:
    """What a network knows of tasks."""
    return {t.name: TaskHead(kind=t.kind, inputs=t.inputs, metric=t.metric.name) for t in tasks}


def sequence_network(
    base: Path,
    tasks: Sequence[Task],
    *,
    seed: int = 0,
    max_tokens: int = 32,
    layers: int | None = None,
    dropout: float | None = None,
    decoding: Decoding | None = None,
) -> SequenceNetwork:
    """An untrained network for ``tasks``."""
    network = new_sequence_network(
        str(base),
        heads_of(tasks),
        seed=seed,
        max_tokens=max_tokens,
        layers=layers,
        dropout=dropout,
    )
    network.decoding = decoding or Decoding(beams=2)
    return network


def sequence_plan(base: Path, *, base_digest: str = "the toy base") -> NetworkPlan:
    """A plan on a sequence base."""
    return NetworkPlan(base=str(base), base_digest=base_digest, head_dropout={}, task_weights={})


def read_json(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
