"""Five small text tasks about one made-up shop, written by a grammar from a seed.

The texts are this package's own: templates and word lists in the files beside this one. Which
split a text belongs to is decided by the text's digest, not by the seed, so train, dev, test and
pool share no text whatever their sizes. Train labels carry noise; dev and test are clean; the
pool has no labels in its file. Knows nothing of training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from potstill.core import files
from potstill.demo import messages, pairs
from potstill.demo.draw import Draw

Split = Literal["train", "dev", "test", "pool"]
Kind = Literal["classification", "regression", "ranking"]

NOISE = 0.1
"""Share of train labels (ranking: of train queries) that are wrong."""

# Upper ends of each split's share of the 256 values of a digest's first byte.
_SHARES: Mapping[Split, tuple[int, int]] = {
    "train": (0, 64),
    "dev": (64, 96),
    "test": (96, 160),
    "pool": (160, 256),
}
RUN_FILE = "demo.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTask:
    """One task of the demo.

    Args:
        kind: The kind of the run file's section.
        inputs: Names of the input columns, in the order in which a model reads them.
        label: Name of the label column.
        labels: The classes of a classification task, else empty.
        sizes: Rows per split (ranking: queries, each of 4 to 6 rows).
    """

    kind: Kind
    inputs: tuple[str, ...]
    label: str
    labels: tuple[str, ...] = ()
    sizes: Mapping[Split, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRow:
    """One row of the demo.

    Args:
        texts: The input texts, one for each of the task's ``inputs``.
        label: What the file says: wrong in a ``NOISE`` share of train, right elsewhere.
        clean_label: What the grammar meant.
        query: Place of the row's query in its split, from 0 (ranking; else the row's own place).
    """

    texts: tuple[str, ...]
    label: str | float
    clean_label: str | float
    query: int


_SIZES: Mapping[Split, int] = {"train": 140, "dev": 60, "test": 180, "pool": 130}
_QUERIES: Mapping[Split, int] = {"train": 35, "dev": 15, "test": 45, "pool": 32}

TASKS: Mapping[str, DemoTask] = {
    "verdict": DemoTask(
        kind="classification", inputs=("text",), label="verdict",
        labels=messages.VERDICTS, sizes=_SIZES,
    ),
    "fault": DemoTask(
        kind="classification", inputs=("text",), label="fault",
        labels=messages.FAULTS, sizes=_SIZES,
    ),
    "reply": DemoTask(
        kind="classification", inputs=("message", "reply"), label="stance",
        labels=pairs.REPLIES, sizes=_SIZES,
    ),
    "stars": DemoTask(kind="regression", inputs=("text",), label="stars", sizes=_SIZES),
    "answer": DemoTask(
        kind="ranking", inputs=("question", "answer"), label="relevance", sizes=_QUERIES,
    ),
}  # fmt: skip


def make_rows(task: str, split: Split, n: int, seed: int) -> list[DemoRow]:
    """Write ``n`` examples of a task (ranking: ``n`` queries, each of 4 to 6 rows).

    Classes come in turn, so their counts differ by at most one. No text occurs twice, nor in
    another split: a text's digest decides the split (pairs: the first text's; ranking: the
    query's).

    Args:
        task: A key of ``TASKS``.
        split: ``train``, ``dev``, ``test`` or ``pool``.
        n: Number of examples, at least 1.
        seed: Any integer; the same arguments give the same rows everywhere.

    Returns:
        The rows in a shuffled order, the rows of one query together.

    Raises:
        ValueError: ``task`` or ``split`` is unknown.
    """
    if task not in TASKS or split not in _SHARES:
        raise ValueError(f"no such task or split: {task!r}, {split!r}")
    draw = Draw(f"{seed}/{task}/{split}")
    seen: set[str] = set()
    examples: list[list[DemoRow]] = []
    while len(examples) < n:
        rows = _example(draw, task, len(examples))
        text = rows[0].texts[0]
        low, high = _SHARES[split]
        if low <= hashlib.sha256(text.encode()).digest()[0] < high and text not in seen:
            seen.add(text)
            examples.append(rows)
    examples = draw.shuffled(examples)
    if split == "train":
        for place in draw.sample(range(n), round(NOISE * n)):
            examples[place] = _with_wrong_labels(draw, TASKS[task], examples[place])
    return [
        DemoRow(texts=row.texts, label=row.label, clean_label=row.clean_label, query=place)
        for place, rows in enumerate(examples)
        for row in rows
    ]


def _example(draw: Draw, task: str, turn: int) -> list[DemoRow]:
    """One example with right labels; ``turn`` chooses the class, so that classes are balanced."""
    labels = TASKS[task].labels
    wanted = labels[turn % len(labels)] if labels else ""
    if task == "answer":
        query, candidates, best = pairs.answer(draw)
        return [
            _right((query, text), float(place == best)) for place, text in enumerate(candidates)
        ]
    if task == "stars":
        text, value = messages.stars(draw)
        return [_right((text,), value)]
    if task == "reply":
        return [_right(pairs.reply(draw, wanted), wanted)]
    write = {"verdict": messages.verdict, "fault": messages.fault}
    return [_right((write[task](draw, wanted),), wanted)]


def _right(texts: tuple[str, ...], label: str | float) -> DemoRow:
    return DemoRow(texts=texts, label=label, clean_label=label, query=0)


def _with_wrong_labels(draw: Draw, task: DemoTask, rows: Sequence[DemoRow]) -> list[DemoRow]:
    """The same texts under wrong labels: another class, another query's candidate, other stars."""
    labels: list[str | float]
    if task.kind == "ranking":
        wrong = draw.pick([place for place, row in enumerate(rows) if row.label == 0.0])
        labels = [float(place == wrong) for place in range(len(rows))]
    elif task.kind == "regression":
        # Another draw at least one star away, so that a wrong label is never nearly right.
        value = float(rows[0].clean_label)
        tenths = [tenth / 10 for tenth in range(51) if abs(tenth / 10 - value) >= 1.0]
        labels = [draw.pick(tenths)]
    else:
        labels = [draw.pick([name for name in task.labels if name != rows[0].clean_label])]
    return [
        DemoRow(texts=row.texts, label=label, clean_label=row.clean_label, query=row.query)
        for row, label in zip(rows, labels, strict=True)
    ]


def make_demo(folder: Path, *, seed: int) -> Path:
    """Write the demo's data and run file into ``folder`` and return the run file's path.

    Writes ``<task>-train.parquet``, ``-dev``, ``-test`` and ``-pool`` (texts alone) for each task
    of ``TASKS``, and ``demo.yaml``.

    Args:
        folder: Made if missing; files of the same names are replaced.
        seed: Seed of the grammar and of the run.

    Raises:
        ResourceError: The disk is full.
    """
    for name, task in TASKS.items():
        for split, n in task.sizes.items():
            rows = make_rows(name, split, n, seed)
            columns: dict[str, list[str] | list[str | float]] = {
                column: [row.texts[place] for row in rows]
                for place, column in enumerate(task.inputs)
            }
            if split != "pool":
                columns[task.label] = [row.label for row in rows]
            stream = pa.BufferOutputStream()
            pq.write_table(pa.table(columns), stream)
            files.write_bytes(folder / f"{name}-{split}.parquet", stream.getvalue().to_pybytes())
    run_file = folder / RUN_FILE
    files.write_text(run_file, _run_file(seed))
    return run_file


def _run_file(seed: int) -> str:
    lines = [
        "# Five small tasks about one made-up shop; `potstill demo` wrote this file and its data.",
        f"# One train label in {round(1 / NOISE)} is wrong on purpose; dev and test are clean.",
        "name: demo",
        "output: runs",
        f"seed: {seed}",
        "base: minilm",
        "",
        "tasks:",
    ]
    for name, task in TASKS.items():
        lines += [f"  {name}:", f"    kind: {task.kind}"]
        lines += [f"    {split}: {name}-{split}.parquet" for split in ("train", "dev", "test")]
        lines += [f"    pool: {name}-pool.parquet"]
        if task.kind == "ranking":
            lines += [f"    query: {task.inputs[0]}", f"    text: {task.inputs[1]}"]
        else:
            several = len(task.inputs) > 1
            lines += [f"    text: {'[' + ', '.join(task.inputs) + ']' if several else 'text'}"]
        lines += [f"    label: {task.label}"]
        if task.kind == "regression":
            low, high = messages.STARS_RANGE
            lines += [f"    range: [{low:g}, {high:g}]"]
    lines += [
        "",
        "training: {epochs: 6, learning_rate: 2.0e-4, batch: 8, max_tokens: 64, balance: none}",
        "teachers: {members: 2}",
        "student: {training: {epochs: 3}}  # with the pool, the steps of six epochs of labels",
        "distill: {soft_weight: 0.5, temperature: 1.0}",
        "evaluate: {baselines: [single, multitask]}",
    ]
    return "\n".join(lines) + "\n"
