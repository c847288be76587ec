"""Texts a second in labelling: potstill against transformers' pipeline, same weights, same texts.

    python benchmarks/label_speed.py --data DATA --rows 1000 --repeats 3 --out results.json

DATA holds ``<task>/train.parquet`` for sst2 (a classifier is trained on some of it first) and
rte, mrpc, stsb and cola, whose first sentences are labelled, ``--rows`` of each, in random order.
From raw texts to class probabilities, tokenising included, loading excluded:

    potstill          tokenise all, then token-budget batches, bf16 where the CPU multiplies it
    pipeline          transformers.pipeline("text-classification", batch_size=32), fp32
    pipeline-tuned    the same in bf16, texts sorted by length before the call

The classifier reads the first token: then both sides do the same work. (A student with mean
pooling is written for transformers with one more layer, which would slow the pipeline down.)
The sides take turns in one process (A B C A B C ...).
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import transformers

from potstill.core.device import describe_hardware, resolve_device
from potstill.core.files import write_json
from potstill.core.progress import Progress
from potstill.students.classifier import save_classifier
from potstill.tasks.load import load_task
from potstill.tasks.predictor import TaskHead
from potstill.training.learner import EncoderLearner
from potstill.training.loop import fit
from potstill.training.network import Network, new_network
from potstill.training.prepare import Extra, make_feed
from potstill.training.settings import TrainSettings

TASK, CLASSES, BATCH = "sst2", 2, 32
TEXTS = {"rte": "sentence1", "mrpc": "sentence1", "stsb": "sentence1", "cola": "sentence"}
Label = Callable[[Sequence[str]], np.ndarray]


def main() -> None:
    """Measure, print a table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1000, help="texts of each data set")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--train-rows", type=int, default=2000)
    parser.add_argument("--threads", type=int, help="1 is steadier on a machine in other use")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    network = trained(args.data, args.train_rows)
    texts = [text for name in TEXTS for text in read(args.data, name, args.rows)]
    np.random.default_rng(0).shuffle(texts)
    with TemporaryDirectory() as folder:
        save_classifier(network, TASK, Path(folder))
        sides: dict[str, Label] = {
            "potstill": lambda rows: potstill_labels(network, rows),
            "pipeline": pipeline_labels(folder, torch.float32),
            "pipeline-tuned": longest_first(pipeline_labels(folder, torch.bfloat16)),
        }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    found: dict[str, np.ndarray] = {}
    for label in sides.values():
        label(texts[: 2 * BATCH])  # what is set up once is nobody's time
    for repeat in range(args.repeats):
        for side, label in sides.items():
            start = time.perf_counter()
            found[side] = label(texts)
            seconds[side].append(time.perf_counter() - start)
            print(f"{repeat} {side}: {len(texts) / seconds[side][-1]:.1f} texts/s", flush=True)
    report(args, len(texts), seconds, found)


def read(data: Path, name: str, rows: int) -> list[str]:
    """The first texts of a data set."""
    table = pq.read_table(data / name / "train.parquet", columns=[TEXTS[name]])
    texts: list[str] = table[TEXTS[name]].slice(0, rows).to_pylist()
    return texts


def trained(data: Path, rows: int) -> Network:
    """A sentiment classifier after one epoch: its answers are clear enough to be compared."""
    task = load_task(
        TASK,
        kind="classification",
        columns=("sentence",),
        label="label",
        options={},
        metric="accuracy",
        train=data / TASK / "train.parquet",
        dev=None,
        test=None,
        pool=[],
        rows=rows,
        seed=0,
    )
    head = TaskHead(kind=task.kind, inputs=task.inputs, metric="accuracy")
    network = new_network("minilm", {TASK: head}, seed=0, max_tokens=128, pooling="cls")
    with TemporaryDirectory() as folder:
        fit(
            EncoderLearner(network.model, resolve_device(), network.tokenizer.padding),
            [make_feed(network, task, Extra(), 1.0)],
            settings=TrainSettings(epochs=1),
            seed=0,
            folder=Path(folder),
            progress=Progress(),
            name="classifier",
        )
    return network


def potstill_labels(network: Network, texts: Sequence[str]) -> np.ndarray:
    """Class probabilities (N, C) from potstill."""
    tokens = network.tokenise(TASK, {"sentence": texts})
    outputs = network.outputs(tokens, (TASK,), resolve_device())[TASK]
    return network.tasks[TASK].kind.predict(outputs)


def pipeline_labels(folder: str, dtype: torch.dtype) -> Label:
    """Class probabilities (N, C) from transformers' pipeline."""
    pipe: Any = transformers.pipeline(
        "text-classification", model=folder, dtype=dtype, device="cpu", top_k=None
    )
    column = pipe.model.config.label2id

    def label(texts: Sequence[str]) -> np.ndarray:
        answers = pipe(list(texts), batch_size=BATCH, truncation=True)
        probabilities = np.zeros((len(texts), CLASSES))
        for row, scores in zip(probabilities, answers, strict=True):
            for entry in scores:
                row[column[entry["label"]]] = entry["score"]
        return probabilities

    return label


def longest_first(label: Label) -> Label:
    """The same with texts sorted by length, so that little is padded."""

    def sorted_label(texts: Sequence[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        probabilities = np.zeros((len(texts), CLASSES))
        probabilities[order] = label([texts[i] for i in order])
        return probabilities

    return sorted_label


def report(
    args: argparse.Namespace,
    n_texts: int,
    seconds: dict[str, list[float]],
    found: dict[str, np.ndarray],
) -> None:
    """Print medians and ratios; ratios are taken within a repeat, then their median."""
    ours = found["potstill"].argmax(1)
    agreement = {side: float((p.argmax(1) == ours).mean()) for side, p in found.items()}
    ratio = {
        side: statistics.median(t / p for t, p in zip(taken, seconds["potstill"], strict=True))
        for side, taken in seconds.items()
    }
    print("\n| side | texts/s (median) | potstill is faster by | same answer |")
    print("|---|---|---|---|")
    for side, taken in seconds.items():
        speed = n_texts / statistics.median(taken)
        print(f"| {side} | {speed:.1f} | {ratio[side]:.2f} | {agreement[side]:.4f} |")
    facts = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "hardware": describe_hardware(resolve_device()),
        "transformers": transformers.__version__,
        "texts": n_texts,
        "seconds": seconds,
        "ratios": ratio,
        "agreement": agreement,
    }
    print(facts["date"], facts["hardware"])
    if args.out is not None:
        write_json(args.out, facts)


if __name__ == "__main__":
    main()
