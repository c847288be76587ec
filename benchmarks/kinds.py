"""Tasks of several kinds: SNIPS whole, one student for eight tasks, and the cost of a pass.

    python benchmarks/kinds.py snips  --data DATA --folder WORK [--seed 0]
    python benchmarks/kinds.py eight  --data DATA --folder WORK --seed 0 [--rows 3000]
    python benchmarks/kinds.py passes

DATA holds ``<name>/train.parquet``, ``dev.parquet`` and, for snips and wnut17, ``test.parquet``.

snips    intent and slots with all rows, 5 epochs: a model each, and one from shared passes
eight    SST-2, MRPC, RTE, STS-B, WNUT-17 tags, SNIPS intent and slots, SQuAD: single models,
         ensembles, one student. One seed a command; ``--seed 0,1,2`` reads what stands and
         leaves one with intervals over the seeds
passes   milliseconds of eight tasks on one text against one task on it, outputs compared
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

import potstill
from potstill.core.device import resolve_device
from potstill.core.files import write_json
from potstill.kinds import Classification, Kind, Multilabel, Tagging
from potstill.metrics.metric import Metric
from potstill.tasks.inputs import READERS
from potstill.tasks.predictor import TaskHead, leader
from potstill.training.network import Network, new_network

_REPEATS = 7
SHARED_ROWS = {"mrpc": "pair_in_stsb_train", "stsb": "pair_in_mrpc_train"}


def main() -> None:
    """Run one experiment."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("experiment", choices=["snips", "eight", "passes"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seed", default="0", help="one, or several with commas")
    parser.add_argument("--rows", type=int, default=3000, help="eight: rows a task at most")
    parser.add_argument(
        "--test-rows", type=int, default=2000, help="of tests that come from a dev split, at most"
    )
    parser.add_argument("--epochs", type=int, help="of every side; snips 5, eight 3")
    parser.add_argument("--only", help="eight: some of its tasks, with commas")
    parser.add_argument("--balance", choices=["gradients", "none"], default="gradients")
    parser.add_argument(
        "--head-rate", type=float, help="of all heads; 1e-4 is the encoder's; default: by outputs"
    )
    parser.add_argument("--members", type=int, default=3, help="eight: of each ensemble")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once")
    args = parser.parse_args()
    if args.experiment == "passes":
        measure_passes()
        return
    if args.data is None or args.folder is None:
        parser.error("--data and --folder are needed")
    asked = snips(args) if args.experiment == "snips" else eight(args)
    result = potstill.run(asked, quiet=not sys.stderr.isatty(), jobs=args.jobs)
    some = "" if args.only is None else f"-{args.only.replace(',', '_')}-{args.rows}rows"
    names = ("epochs", "members", "test_rows", "head_rate", *(() if some else ("rows",)))
    some += marks(parser, args, *names)
    some += "" if args.balance == "gradients" else f"-balance-{args.balance}"
    name = f"{args.experiment}{some}-seed{args.seed.replace(',', '_')}.json"
    write_json(args.folder / "results" / "kinds" / name, result.results)
    print_table(result.results)


def marks(parser: argparse.ArgumentParser, args: argparse.Namespace, *names: str) -> str:
    """What of the options differs from its default, for the name of a file of results."""
    values = {name: getattr(args, name) for name in names}
    changed = {n: v for n, v in values.items() if v != parser.get_default(n)}
    return "".join(f"-{v}{n.replace('_', '')}".replace(",", "_") for n, v in changed.items())


def files(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """A task's files; where a test split is public, dev chooses and test is reported."""
    folder = (args.data / name).resolve()
    if (folder / "test.parquet").exists():
        return {split: str(folder / f"{split}.parquet") for split in ("train", "dev", "test")}
    test = args.folder / "data" / f"{name}-test.parquet"
    thin(folder / "dev.parquet", test, args.test_rows, without=SHARED_ROWS.get(name))
    return {"train": str(folder / "train.parquet"), "test": str(test.resolve())}


def thin(source: Path, target: Path, most: int, *, without: str | None = None) -> None:
    """Copy at most so many rows, evenly spread (SQuAD's are sorted by article).

    Args:
        source: A parquet file.
        target: Where they go.
        most: How many.
        without: A column that is true for rows that another of the tasks trains on.
    """
    kept = pq.read_table(source)
    if without is not None:
        kept = kept.filter(pc.invert(kept[without]))
    if len(kept) > most:
        kept = kept.take(np.linspace(0, len(kept) - 1, most).round().astype(np.int64))
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(kept, target)


def run_file(args: argparse.Namespace, epochs: int, tasks: dict[str, Any]) -> dict[str, Any]:
    """What both experiments share."""
    numbers = [int(part) for part in args.seed.split(",")]
    return {
        "name": args.experiment,
        "output": str((args.folder / "runs").resolve()),
        "seed": numbers[0] if len(numbers) == 1 else numbers,
        "training": {
            "epochs": args.epochs or epochs,
            "learning_rate": 1e-4,
            "head_learning_rate": args.head_rate,
            "balance": args.balance,
        },
        "tasks": tasks,
    }


def snips(args: argparse.Namespace) -> dict[str, Any]:
    """Intent and slots of the same utterances, without teachers."""
    tasks = {
        "intent": {"kind": "classification", "text": "tokens", **files(args, "snips")},
        "slots": {"kind": "tagging", **files(args, "snips")},
    }
    asked = run_file(args, 5, tasks)
    return asked | {"teachers": {"tasks": []}, "evaluate": {"baselines": ["single"]}}


def eight(args: argparse.Namespace) -> dict[str, Any]:
    """Eight tasks of four kinds."""
    pair, rows = ["sentence1", "sentence2"], {"rows": args.rows}
    # RTE has 2,490 rows of which a tenth is set aside: `rows` above what is there takes all.
    tasks: dict[str, Any] = {
        "sst2": {"kind": "classification", "text": "sentence"},
        "mrpc": {"kind": "classification", "text": pair},
        "rte": {"kind": "classification", "text": pair},
        "stsb": {"kind": "regression", "text": pair, "range": [0, 5]},
    }
    tasks = {name: {**keys, **files(args, name), **rows} for name, keys in tasks.items()}
    words = {**files(args, "snips"), **rows}
    tasks["wnut"] = {"kind": "tagging", **files(args, "wnut17"), **rows}
    tasks["intent"] = {"kind": "classification", "text": "tokens", **words}
    tasks["slots"] = {"kind": "tagging", **words}
    tasks["squad"] = {"kind": "span", **files(args, "squad"), **rows}
    if args.only is not None:
        if unknown := set(args.only.split(",")) - set(tasks):
            raise SystemExit(f"--only: {sorted(unknown)} are none of {', '.join(tasks)}")
        tasks = {name: tasks[name] for name in args.only.split(",")}
    return run_file(args, 3, tasks) | {"teachers": {"members": args.members}}


def print_table(results: dict[str, Any]) -> None:
    """Scores of each system and the student's intervals."""
    systems = ("single", "multitask", "teacher_best", "ensemble", "student")
    rivals = ("single", "multitask", "ensemble")
    head = ["task", "metric", *systems, *(f"student − {rival}" for rival in rivals)]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    rows = {**results["tasks"], "**mean**": results["mean"] | {"scores": results["mean"]}}
    for task, entry in rows.items():
        cells = [task, entry.get("metric", "")]
        cells += [f"{entry['scores'][s]:.3f}" if s in entry["scores"] else "–" for s in systems]
        for rival in rivals:
            gap = entry.get(f"student_vs_{rival}")
            if gap is None:
                cells.append("–")
            else:
                cells.append(f"{gap['delta']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]")
        print("| " + " | ".join(cells) + " |")


def measure_passes() -> None:
    """Eight heads on one text against one: both in one run, in turns, medians."""
    network = eight_heads()
    device = resolve_device("auto", "auto")
    texts = [" ".join(f"word{(i * j) % 97}" for j in range(8 + i % 24)).split() for i in range(512)]
    tasks = tuple(network.tasks)
    reading = leader(network.tasks, tasks)

    def timed(asked: tuple[str, ...]) -> tuple[float, dict[str, np.ndarray]]:
        start = time.perf_counter()
        lead = leader(network.tasks, asked)
        reader = network.tasks[lead].inputs
        tokens = network.tokenise(lead, {"tokens": [reader.value(t) for t in texts]})
        outputs = network.outputs(tokens, asked, device)
        return time.perf_counter() - start, outputs

    timed(tasks)
    times: dict[str, list[float]] = {"all": [], "one": []}
    for _ in range(_REPEATS):
        seconds, together = timed(tasks)
        times["all"].append(seconds)
        seconds, _ = timed((reading,))
        times["one"].append(seconds)
    alone = {task: timed((task,))[1][task] for task in tasks}
    apart = max(float(np.abs(alone[t] - together[t]).max()) for t in tasks)
    one, every = (statistics.median(times[k]) for k in ("one", "all"))
    print(f"{len(texts)} texts, {device.name}, {device.precision}, medians of {_REPEATS}")
    print(f"one task ('{reading}'): {1000 * one / len(texts):.3f} ms a text")
    print(f"{len(tasks)} tasks: {1000 * every / len(texts):.3f} ms a text, {every / one:.3f} times")
    print(f"largest difference of an output from the task alone: {apart:.2g}")


def eight_heads() -> Network:
    """A student of eight tasks that read one column; what its heads know does not matter here."""
    names = tuple(f"class {i}" for i in range(8))
    tags = ("O", *(f"{mark}-{i}" for i in range(20) for mark in "BI"))
    kinds: list[Kind] = [Classification(classes=names) for _ in range(4)]
    kinds += [Multilabel(classes=names) for _ in range(2)]
    kinds += [Tagging(tags=tags) for _ in range(2)]
    heads = {
        f"{kind.name} {i}": TaskHead(
            kind=kind, inputs=READERS[kind.reads](columns=("tokens",)), metric=_metric(kind).name
        )
        for i, kind in enumerate(kinds)
    }
    network = new_network("minilm", heads, seed=0, max_tokens=128)
    network.model.eval()
    return network


def _metric(kind: Kind) -> Metric:
    return kind.metric(kind.metric_names[0])


if __name__ == "__main__":
    main()
