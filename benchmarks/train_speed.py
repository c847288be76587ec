"""Rows a second in training: potstill's loop against transformers' Trainer, same rows and network.

    pip install accelerate        # the Trainer needs it, potstill does not
    python benchmarks/train_speed.py --data DATA --rows 600 --repeats 3 --out results.json

DATA holds ``<task>/train.parquet`` and ``dev.parquet`` for rte, mrpc, stsb and cola. All sides
train the same network (one encoder, mean pooling, one linear head a task, the same first weights
and dropout rates) on the same token ids with the same losses, learning rates and epochs:

    potstill          its loop as it is: bf16 where the CPU multiplies it, token-budget batches
    trainer           Trainer's defaults: fp32, batches of 32 rows drawn from all tasks at random,
                      padded to the longest of the batch
    trainer-by-task   the same, each batch from one task: kinder to the Trainer than its defaults,
                      because short texts are not padded to the length of other tasks' long ones
    trainer-tuned     Trainer with bf16 and ``train_sampling_strategy="group_by_length"``

Loading, tokenising, scoring and writing checkpoints are timed for nobody. The sides take turns in
one process (A B C D A B C D ...), so that what else the machine does falls on all.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Sampler

from potstill.core.device import describe_hardware, resolve_device
from potstill.core.files import write_json
from potstill.core.progress import Progress
from potstill.models.base_folder import find_base
from potstill.tasks.load import load_task
from potstill.tasks.predictor import TaskHead
from potstill.tasks.task import Task, truth_of
from potstill.training import loop
from potstill.training.learner import EncoderLearner
from potstill.training.network import Network, new_network
from potstill.training.prepare import Extra, make_feed
from potstill.training.settings import TrainSettings

PAIR, ONE = ("sentence1", "sentence2"), ("sentence",)
TASKS: dict[str, dict[str, Any]] = {
    "rte": {"kind": "classification", "columns": PAIR, "metric": "accuracy", "options": {}},
    "mrpc": {"kind": "classification", "columns": PAIR, "metric": "accuracy", "options": {}},
    "stsb": {"kind": "regression", "columns": PAIR, "metric": None, "options": {"range": [0, 5]}},
    "cola": {"kind": "classification", "columns": ONE, "metric": "matthews", "options": {}},
}
SETTINGS: dict[str, Any] = {"batch": 32, "max_tokens": 128, "dropout": 0.1, "head_dropout": 0.1}
SIDES = ("potstill", "trainer", "trainer-by-task", "trainer-tuned")
Outcome = tuple[float, dict[str, float]]  # seconds of training, dev scores


def main() -> None:
    """Measure, print a table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=600, help="train rows of each task")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate of all sides")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--threads", type=int, help="1 is steadier on a machine in other use")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    settings = TrainSettings(epochs=args.epochs, learning_rate=args.rate, **SETTINGS)
    tasks = [read(args, name) for name in TASKS]
    n_rows = args.epochs * sum(len(task.train) for task in tasks)
    sides = args.sides.split(",")
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    scores: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for seed in range(args.repeats):
        for side in sides:
            train: Callable[..., Outcome] = train_potstill if side == "potstill" else train_trainer
            taken, dev = train(side, tasks, settings, seed)
            seconds[side].append(taken)
            scores[side].append(dev)
            mean = statistics.mean(dev.values())
            print(f"seed {seed} {side}: {n_rows / taken:.1f} rows/s, dev {mean:.4f}", flush=True)
    report(args, n_rows, seconds, scores)


def read(args: argparse.Namespace, name: str) -> Task:
    """One task; dev is its own file."""
    folder = args.data / name
    return load_task(
        name,
        label="label",
        train=folder / "train.parquet",
        dev=folder / "dev.parquet",
        test=None,
        pool=[],
        rows=args.rows,
        seed=0,
        **TASKS[name],
    )


def fresh(tasks: Sequence[Task], settings: TrainSettings, seed: int) -> Network:
    """The network that all sides start from."""
    heads = {t.name: TaskHead(kind=t.kind, inputs=t.inputs, metric=t.metric.name) for t in tasks}
    return new_network(
        "minilm", heads, seed=seed, max_tokens=settings.max_tokens, dropout=settings.dropout
    )


def train_potstill(side: str, tasks: Sequence[Task], settings: TrainSettings, seed: int) -> Outcome:
    """One training with potstill's loop."""
    network = fresh(tasks, settings, seed)
    network.model.set_head_dropout({t.name: settings.head_dropout for t in tasks})
    feeds = [make_feed(network, t, Extra(), 1.0) for t in tasks]
    with TemporaryDirectory() as folder, training_time() as clock:
        result = loop.fit(
            EncoderLearner(network.model, resolve_device(), network.tokenizer.padding),
            feeds,
            settings=settings,
            seed=seed,
            folder=Path(folder),
            progress=Progress(),
            name=side,
        )
    return clock["train"] - clock["other"], {t: s[-1][1] for t, s in result.state.dev.items()}


@contextmanager
def training_time() -> Iterator[dict[str, float]]:
    """Time the loop; ``other`` is its scoring and its checkpoints."""
    clock = {"train": 0.0, "other": 0.0}
    fit: Any = loop._Fit
    parts = {"train": "train", "_end_epoch": "other", "_save": "other"}
    before = {name: getattr(fit, name) for name in parts}

    def timed(method: Callable[..., None], part: str) -> Callable[..., None]:
        def call(*args: Any) -> None:
            start = time.perf_counter()
            method(*args)
            clock[part] += time.perf_counter() - start

        return call

    for name, part in parts.items():
        setattr(fit, name, timed(before[name], part))
    try:
        yield clock
    finally:
        for name, method in before.items():
            setattr(fit, name, method)


def train_trainer(side: str, tasks: Sequence[Task], settings: TrainSettings, seed: int) -> Outcome:
    """One training with transformers' Trainer."""
    transformers.set_seed(seed)
    network = fresh(tasks, settings, seed)
    model = Multitask(network, tasks, settings.head_dropout)
    tokenizer = transformers.AutoTokenizer.from_pretrained(find_base("minilm").path)
    rows = [row for number, task in enumerate(tasks) for row in items(network, task, number)]
    tuned = side == "trainer-tuned"
    n_steps = settings.epochs * math.ceil(len(rows) / settings.batch)
    with TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=settings.batch,
            num_train_epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.clip,
            warmup_steps=math.ceil(settings.warmup * n_steps),
            seed=seed,
            use_cpu=True,
            bf16=tuned,
            train_sampling_strategy="group_by_length" if tuned else "random",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
        )
        clock = Clock()
        trainer = (ByTask if side == "trainer-by-task" else transformers.Trainer)(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
            callbacks=[clock],
        )
        trainer.train()
    return clock.seconds, score(model, network, tasks)


class Clock(transformers.TrainerCallback):
    """Time from the first step to the last."""

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start."""
        self.seconds = -time.perf_counter()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop."""
        self.seconds += time.perf_counter()


class ByTask(transformers.Trainer):
    """Batches of one task each."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        rows: Any = self.train_dataset
        return OneTaskBatches([row["task"] for row in rows], self.args)


class OneTaskBatches(Sampler[int]):
    """Rows in such an order that each batch holds one task (the rest of each task comes last)."""

    def __init__(self, tasks: Sequence[int], args: transformers.TrainingArguments) -> None:
        self._tasks = np.asarray(tasks)
        self._batch = args.per_device_train_batch_size
        self._rng = np.random.default_rng(args.seed)

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[int]:
        whole, rest = [], []
        for task in np.unique(self._tasks):
            rows = self._rng.permutation(np.flatnonzero(self._tasks == task))
            n_whole = len(rows) // self._batch * self._batch
            whole += list(rows[:n_whole].reshape(-1, self._batch))
            rest += rows[n_whole:].tolist()
        order = [int(r) for i in self._rng.permutation(len(whole)) for r in whole[i]]
        return iter(order + rest)


class Multitask(nn.Module):
    """The same network in plain transformers: mean pooling and a linear head a task."""

    def __init__(self, network: Network, tasks: Sequence[Task], dropout: float) -> None:
        super().__init__()
        self.encoder = transformers.AutoModel.from_pretrained(
            find_base("minilm").path, add_pooling_layer=False, dtype=torch.float32
        )
        self.heads = nn.ModuleList()
        for task in tasks:
            linear = nn.Linear(self.encoder.config.hidden_size, task.kind.n_outputs)
            own: Any = network.model.head(task.name)
            linear.load_state_dict(own.linear.state_dict())
            self.heads.append(nn.Sequential(nn.Dropout(dropout), linear))
        self.kinds = [task.kind for task in tasks]

    def pooled(self, ids: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        """One vector (B, D) a text."""
        tokens = self.encoder(
            input_ids=ids, attention_mask=mask, token_type_ids=types
        ).last_hidden_state
        mean = (tokens * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        return functional.layer_norm(mean, mean.shape[-1:])

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        task: Tensor,
        labels: Tensor,
    ) -> dict[str, Tensor]:
        """Mean loss over the rows of a batch, whichever tasks they are of."""
        pooled = self.pooled(input_ids, attention_mask, token_type_ids)
        losses = []
        for number in sorted(set(task.tolist())):
            mine = task == number
            outputs = self.heads[number](pooled[mine])
            losses.append(self.kinds[number].hard_loss(outputs, labels[mine].float(), None).sum())
        return {"loss": torch.stack(losses).sum() / len(task)}


def items(network: Network, task: Task, number: int) -> Iterator[dict[str, Any]]:
    """Tokenised rows as the Trainer reads them."""
    tokens = network.tokenise(task.name, task.train.inputs)
    labels = task.train.labels
    for i, (start, end) in enumerate(zip(tokens.offsets, tokens.offsets[1:], strict=False)):
        yield {
            "input_ids": tokens.ids[start:end].tolist(),
            "token_type_ids": tokens.types[start:end].tolist(),
            "attention_mask": [1] * int(end - start),
            "task": number,
            "labels": float(labels[i]) if labels is not None else 0.0,
        }


@torch.inference_mode()
def score(model: Multitask, network: Network, tasks: Sequence[Task]) -> dict[str, float]:
    """Dev scores of a model that the Trainer made."""
    model.eval()
    scores = {}
    for number, task in enumerate(tasks):
        tokens = network.tokenise(task.name, task.dev.inputs)
        outputs = []
        for part in np.array_split(np.arange(len(tokens)), math.ceil(len(tokens) / 64)):
            ids, mask, types = (torch.from_numpy(a).long() for a in tokens.pad(part, 0))
            outputs.append(model.heads[number](model.pooled(ids, mask, types)).float().numpy())
        answers = task.kind.predict(np.concatenate(outputs))
        scores[task.name] = task.metric.score(truth_of(task, task.dev), answers, None)
    return scores


def report(
    args: argparse.Namespace,
    n_rows: int,
    seconds: dict[str, list[float]],
    scores: dict[str, list[dict[str, float]]],
) -> None:
    """Print medians and ratios; ratios are taken within a repeat, then their median."""
    speed = {side: [n_rows / s for s in taken] for side, taken in seconds.items()}
    dev = {s: [statistics.mean(d.values()) for d in found] for s, found in scores.items()}
    ratio = {
        side: statistics.median(t / p for t, p in zip(taken, seconds["potstill"], strict=True))
        for side, taken in seconds.items()
        if "potstill" in seconds
    }
    print("\n| side | rows/s (median) | potstill is faster by | mean dev score |")
    print("|---|---|---|---|")
    for side, values in speed.items():
        mean = statistics.mean(dev[side])
        print(
            f"| {side} | {statistics.median(values):.1f} | {ratio.get(side, math.nan):.2f} "
            f"| {mean:.4f} |"
        )
    facts = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "hardware": describe_hardware(resolve_device()),
        "transformers": transformers.__version__,
        "rows": n_rows,
        "settings": {**SETTINGS, "epochs": args.epochs, "learning_rate": args.rate},
        "rows_per_second": speed,
        "ratios": ratio,
        "dev": scores,
        "dev_mean_minus_potstill": {
            side: statistics.mean(values) - statistics.mean(dev["potstill"])
            for side, values in dev.items()
            if "potstill" in dev
        },
    }
    print(facts["date"], facts["hardware"])
    if args.out is not None:
        write_json(args.out, facts)


if __name__ == "__main__":
    main()
