"""Few labels and many texts without: what the ensemble's opinion on those texts is worth.

    python benchmarks/few_labels.py --data DATA --folder WORK --seed 0

Six tasks (SST-2, MRPC, STS-B, QQP, QNLI, the intents of SNIPS) of at most ``--texts`` rows each: a
tenth, with its labels, chooses epochs, ``--labels`` rows are learned from, the others are texts
without labels. DATA holds ``<task>/train.parquet`` and ``dev.parquet`` (and
``snips/test.parquet``); tests are GLUE's dev and the test of SNIPS. Teachers and
single models learn for ``--epochs``, the student for ``--student-epochs`` of its longer ones; its
rival without soft targets is the better, on dev, of as many epochs and as many steps.

One seed a command; ``--seed 0,1,2`` takes the networks of the three and leaves one result with
intervals over the seeds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from kinds import SHARED_ROWS, marks, print_table, thin

import potstill
from potstill.core.files import write_json

PAIR = ["sentence1", "sentence2"]
TASKS: dict[str, dict[str, Any]] = {
    "sst2": {"text": "sentence"},
    "mrpc": {"text": PAIR},
    "stsb": {"text": PAIR, "kind": "regression", "range": [0, 5]},
    "qqp": {"text": PAIR},
    "qnli": {"text": PAIR},
    "snips": {"text": "tokens"},
}


def main() -> None:
    """Run one seed, or join several."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", default="0", help="one, or several with commas")
    parser.add_argument(
        "--labels", type=int, default=800, help="labelled rows a task to learn from"
    )
    parser.add_argument("--texts", type=int, default=4000, help="train rows a task at most")
    parser.add_argument("--test-rows", type=int, default=1500, help="of a task at most")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5, help="of teachers and single models")
    parser.add_argument("--student-epochs", type=int, default=3)
    parser.add_argument("--temperature", type=float, default=1.0, help="of the soft targets")
    parser.add_argument("--soft-weight", type=float, default=0.5, help="on rows with labels")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once")
    args = parser.parse_args()
    result = potstill.run(run_file(args), quiet=not sys.stderr.isatty(), jobs=args.jobs)
    setting = f"{args.labels}labels-{args.texts}texts-{args.epochs}-{args.student_epochs}epochs"
    if args.temperature != 1.0:
        setting += f"-temperature{args.temperature:g}"
    if args.soft_weight != 0.5:
        setting += f"-soft{args.soft_weight:g}"
    setting += marks(parser, args, "test_rows")
    name = f"{setting}-{args.members}members-seed{args.seed.replace(',', '_')}.json"
    write_json(args.folder / "results" / "few_labels" / name, result.results)
    print_table(result.results)


def run_file(args: argparse.Namespace) -> dict[str, Any]:
    """The run file as a mapping."""
    numbers = [int(part) for part in args.seed.split(",")]
    return {
        "name": "few-labels",
        "output": str((args.folder / "runs").resolve()),
        "seed": numbers[0] if len(numbers) == 1 else numbers,
        "training": {"epochs": args.epochs},
        "student": {"training": {"epochs": args.student_epochs}},
        "teachers": {"members": args.members},
        "distill": {
            "pool": "rest",
            "temperature": args.temperature,
            "soft_weight": args.soft_weight,
        },
        "tasks": {
            name: {
                "kind": "classification",
                **keys,
                "train": str(thinned(args, name, "train", args.texts)),
                "test": str(thinned(args, name, test_split(name), args.test_rows)),
                "rows": args.labels,
            }
            for name, keys in TASKS.items()
        },
    }


def test_split(name: str) -> str:
    """The split that is reported: GLUE's own tests have no labels."""
    return "test" if name == "snips" else "dev"


def thinned(args: argparse.Namespace, name: str, split: str, most: int) -> Path:
    """At most so many rows of a split; dev without what another task trains on."""
    target: Path = args.folder / "data" / f"{name}-{split}-{most}.parquet"
    without = SHARED_ROWS.get(name) if split == "dev" else None
    thin(args.data / name / f"{split}.parquet", target, most, without=without)
    return target.resolve()


if __name__ == "__main__":
    main()
