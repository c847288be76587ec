"""A tiny base model and toy tasks whose rule is known: what most tests stand on.

    make_base(folder)            config.json, model.safetensors and tokenizer.json of a tiny BERT
    toy_rows(kind, n, seed)      n rows with labels; equal arguments give equal rows
    oracle(kind, row)            the label that the rule gives
    TOYS[kind]                   columns, label columns, group column and options of a kind
    write_rows(path, rows)       the rows as JSON lines

Kinds: ``classification`` (one text), ``pair`` (classification of two texts), ``regression``,
``ranking`` (lists of ``LIST_ROWS`` candidates), ``multilabel``, ``tagging``, ``span``, and
``unanswerable`` (spans where some rows have no answer). The rule is always one of good and bad
words: a text is as good as it has more good words than bad ones; two of either make a label; runs
of them are tagged, and are the answer to a word of their sort. A tiny network can learn it within
seconds; it never changes, because golden files hang on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

GOOD = ("good", "great", "warm", "clear", "kind", "bright")
BAD = ("bad", "awful", "cold", "dull", "mean", "dark")
PLAIN = (
    *("the", "a", "film", "book", "song", "day", "town", "road", "house", "tree", "river", "cat"),
    *("dog", "bird", "chair", "table", "glass", "stone", "and", "with", "on", "under", "near"),
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = (*SPECIAL, *GOOD, *BAD, *PLAIN, "never", "seen", "spare")
ANIMALS = ("cat", "dog", "bird")
LIST_ROWS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """How the rows of a kind of toy task are read.

    Attributes:
        kind: Name of the task kind.
        stream: Which stream of random numbers its rows come from: another one gives other rows.
        columns: Input columns.
        label: Label column, or columns.
        group: The column whose equal values make a list, or None.
        options: The kind's options.
    """

    kind: str
    stream: int
    columns: tuple[str, ...]
    label: str | tuple[str, ...]
    group: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)


TOYS: Mapping[str, Toy] = {
    "classification": Toy(kind="classification", stream=0, columns=("text",), label="label"),
    "pair": Toy(kind="classification", stream=1, columns=("first", "second"), label="label"),
    "regression": Toy(
        kind="regression", stream=3, columns=("text",), label="score", options={"range": (0.0, 5.0)}
    ),
    "ranking": Toy(
        kind="ranking", stream=2, columns=("query", "candidate"), label="relevance", group="query"
    ),
    "multilabel": Toy(kind="multilabel", stream=4, columns=("remark",), label="labels"),
    "tagging": Toy(kind="tagging", stream=5, columns=("tokens",), label="tags"),
    "span": Toy(
        kind="span", stream=6, columns=("question", "context"), label=("answers", "answer_starts")
    ),
    "unanswerable": Toy(
        kind="span", stream=7, columns=("question", "context"), label=("answers", "answer_starts")
    ),
}


def make_base(folder: Path, *, layers: int = 2, width: int = 16, seed: int = 0) -> Path:
    """Write a tiny BERT with random weights as a base folder; returns ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    rng = np.random.default_rng(seed)  # numpy's streams do not change with torch's version
    weights = BertModel(config, add_pooling_layer=False).state_dict()
    for name, tensor in weights.items():
        if tensor.ndim > 1:  # so small a net learns nothing from BERT's own spread of 0.02
            weights[name] = torch.from_numpy(rng.normal(0, 0.2, tensor.shape).astype(np.float32))
        else:
            weights[name] = torch.full_like(tensor, float(name.endswith("LayerNorm.weight")))
    safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config.to_json_file(folder / "config.json")
    toy_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def toy_tokenizer() -> Tokenizer:
    """One token a word, [CLS] before a text and [SEP] after each."""
    ids = {word: i for i, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return tokenizer


def toy_rows(kind: str, n: int, seed: int = 0) -> list[dict[str, object]]:
    """``n`` rows of a kind with different inputs; for ranking rounded up to whole lists."""
    toy = TOYS[kind]
    rng = np.random.default_rng([seed, toy.stream])
    rows: list[dict[str, object]] = []
    seen: set[tuple[str, ...]] = set()
    while len(rows) < n:
        texts = _list(rng) if toy.group else [_texts(kind, rng)]
        if toy.group and any(text[0] == query for text in seen for query, _ in texts):
            continue
        if seen & set(texts):
            continue
        seen |= set(texts)
        fresh = [dict[str, object](zip(toy.columns, text, strict=True)) for text in texts]
        for row in fresh:
            if toy.group is not None:
                best = max(_balance(str(other["candidate"])) for other in fresh)
                row["relevance"] = float(_balance(str(row["candidate"])) == best)
                continue
            if kind == "tagging":
                row["tokens"] = str(row["tokens"]).split()
            label = oracle(kind, row)
            if isinstance(toy.label, str):
                row[toy.label] = label
            elif isinstance(label, tuple):
                row.update(zip(toy.label, label, strict=True))
        rows += fresh
    return rows


def oracle(kind: str, row: Mapping[str, object]) -> object:
    """The rule's label of a row, one for each column; for ranking the score that orders them."""
    toy = TOYS[kind]
    if kind == "ranking":
        return float(_balance(str(row["candidate"])))
    if toy.kind == "span":
        return _answer(str(row["question"]), str(row["context"]))
    if kind == "tagging":
        words = row["tokens"]
        assert isinstance(words, list)
        return _tags(words)
    if kind == "multilabel":
        words = str(row["remark"]).split()
        counts = {"praise": GOOD, "blame": BAD}
        found = [name for name, bank in counts.items() if sum(w in bank for w in words) > 1]
        return found + ["animal"] * any(w in ANIMALS for w in words)
    balance = sum(_balance(str(row[column])) for column in toy.columns)
    if kind == "regression":
        return float(np.clip(2.5 + 0.5 * balance, 0.0, 5.0))
    return ("bad", "good")[balance > 0] if kind == "classification" else ("no", "yes")[balance > 0]


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """Write rows as JSON lines; returns ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _balance(text: str) -> int:
    words = text.split()
    return sum(w in GOOD for w in words) - sum(w in BAD for w in words)


def _text(rng: np.random.Generator) -> str:
    """Four to ten words, about half of them good or bad; never as many good as bad ones."""
    while True:
        n = int(rng.integers(4, 11))
        mood = GOOD if rng.random() < 0.5 else BAD
        kinds = [mood, GOOD, BAD, PLAIN, PLAIN, PLAIN]
        picked = [kinds[int(rng.integers(0, len(kinds)))] for _ in range(n)]
        words = " ".join(bank[int(rng.integers(0, len(bank)))] for bank in picked)
        if _balance(words):
            return words


def _texts(kind: str, rng: np.random.Generator) -> tuple[str, ...]:
    """The inputs of a row as texts."""
    if TOYS[kind].kind == "span":
        return _question_and_passage(rng, none=0.35 if kind == "unanswerable" else 0.0)
    return tuple(_text(rng) for _ in TOYS[kind].columns)


def _question_and_passage(rng: np.random.Generator, none: float) -> tuple[str, str]:
    """A good or bad word, and plain words with a run of good and one of bad words among them."""
    plain = [PLAIN[int(i)] for i in rng.integers(0, len(PLAIN), int(rng.integers(6, 12)))]
    asked = int(rng.integers(0, 2))
    left_out = asked if rng.random() < none else None
    first, second = sorted(rng.choice(np.arange(1, len(plain)), 2, replace=False).tolist())
    order = rng.permutation(2).tolist()
    for sort, place in zip(order, (second, first), strict=True):  # from behind: places stay
        run = [(GOOD, BAD)[sort][int(i)] for i in rng.integers(0, 6, int(rng.integers(1, 4)))]
        plain[place:place] = [] if sort == left_out else run
    return (GOOD, BAD)[asked][int(rng.integers(0, 6))], " ".join(plain)


def _answer(question: str, context: str) -> tuple[list[str], list[int]]:
    """The run of words of the question's sort, and where it starts."""
    bank = GOOD if question in GOOD else BAD
    words = context.split()
    places = [i for i, word in enumerate(words) if word in bank]
    if not places:
        return [], []
    start = sum(len(word) + 1 for word in words[: places[0]])
    return [" ".join(words[places[0] : places[-1] + 1])], [start]


def _tags(words: list[str]) -> list[str]:
    """Runs of good and of bad words in IOB2."""
    types = ["good" if w in GOOD else "bad" if w in BAD else "" for w in words]
    marks = ["I-" if a == b else "B-" for a, b in zip(["", *types], types, strict=False)]
    return [mark + name if name else "O" for mark, name in zip(marks, types, strict=True)]


def _list(rng: np.random.Generator) -> list[tuple[str, ...]]:
    """A query and its candidates, one of which is best."""
    query = " ".join(PLAIN[int(i)] for i in rng.integers(0, len(PLAIN), 5))
    while True:
        candidates = [_text(rng) for _ in range(LIST_ROWS)]
        balances = sorted(map(_balance, candidates))
        if balances[-1] > balances[-2]:
            return [(query, candidate) for candidate in candidates]
