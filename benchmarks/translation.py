"""Translation from several languages into several: teachers for each direction, one student.

    python benchmarks/translation.py run   --data DATA --folder WORK --seed 0 [--only word,sequence]
    python benchmarks/translation.py table --folder WORK --out docs/results

DATA holds ``train.parquet``, ``dev.parquet`` and ``test_2016.parquet`` with a column a language
(multi30k). Every variant is one potstill run in WORK/runs, so all share teachers and baselines, and
a command that was stopped continues. ``multitask`` in a table is the same student without
distilling, at equal steps; ``single`` is a model of one direction, which is also its teacher.
``--seed 0,1,2`` takes the networks of the three commands before it and leaves one table with
intervals over the seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from kinds import marks

import potstill
from potstill.core.files import write_json

VARIANTS: dict[str, dict[str, Any]] = {
    "word": {"objective": "average"},
    "word-only": {"objective": "soft_only"},
    "always": {"objective": "average", "stop_when_ahead": None},
    "sequence": {"objective": "sequence", "soft_weight": 1.0},
    "half-sequence": {"objective": "sequence", "soft_weight": 0.5},
}
SYSTEMS = ("single", "multitask", "ensemble", "student")


def main() -> None:
    """Run one experiment."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--source", default="en")
    parser.add_argument("--targets", default="de,fr,cs", help="languages, with commas")
    parser.add_argument("--seed", type=seeds, default=0, help="one, or several with commas")
    parser.add_argument("--rows", type=int, help="pairs of a direction; default: all")
    parser.add_argument("--epochs", type=int, default=4, help="of every side")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of every side")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--members", type=int, default=1, help="teachers of a direction")
    parser.add_argument("--only", default="word", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once")
    parser.add_argument("--out", type=Path, help="table: copy the results there")
    args = parser.parse_args()
    if args.what == "table":
        print_table(args.folder, args.out)
        return
    if args.data is None:
        parser.error("--data is needed: a folder with train, dev and test_2016 as parquet")
    setting = marks(parser, args, "rate", "width", "source", "targets")
    for variant in args.only.split(","):
        run_variant(args, variant, setting)


def seeds(text: str) -> int | list[int]:
    """``0`` is one seed, ``0,1,2`` are three."""
    numbers = [int(part) for part in text.split(",")]
    return numbers[0] if len(numbers) == 1 else numbers


def run_file(args: argparse.Namespace, variant: str) -> dict[str, Any]:
    """A run file as a mapping, with absolute paths."""
    splits = {"train": "train", "dev": "dev", "test": "test_2016"}
    files = {key: str((args.data / f"{name}.parquet").resolve()) for key, name in splits.items()}
    rows = {} if args.rows is None else {"rows": args.rows}
    return {
        "name": "translation",
        "output": str((args.folder / "runs").resolve()),
        "seed": args.seed,
        "tasks": {
            f"{args.source}-{target}": {
                "kind": "translation",
                **files,
                "source": args.source,
                "target": target,
                **rows,
            }
            for target in args.targets.split(",")
        },
        "architecture": {"width": args.width, "feed_forward": 4 * args.width, "vocabulary": 8000},
        "training": {"epochs": args.epochs, "learning_rate": args.rate},
        "teachers": {"members": args.members},
        "distill": VARIANTS[variant],
    }


def run_variant(args: argparse.Namespace, variant: str, setting: str) -> None:
    """Run one variant, and keep its results."""
    rows = "" if args.rows is None else f"-{args.rows}rows"
    members = "" if args.members == 1 else f"-{args.members}members"
    seed = "_".join(map(str, args.seed)) if isinstance(args.seed, list) else args.seed
    name = f"{variant}-{args.epochs}epochs{rows}{members}{setting}-seed{seed}"
    print(f"== {name}", flush=True)
    asked = run_file(args, variant)
    result = potstill.run(asked, quiet=not sys.stderr.isatty(), jobs=args.jobs)
    write_json(args.folder / "results" / f"{name}.json", result.results)
    print_rows(name, result.results)


def print_table(folder: Path, out: Path | None) -> None:
    """Print one table of what is there, and copy the files."""
    print("| variant | direction | " + " | ".join(SYSTEMS), end="")
    print(" | student − multitask | student − ensemble |")
    print("|---" * (len(SYSTEMS) + 4) + "|")
    for file in sorted((folder / "results").glob("*.json")):
        results = json.loads(file.read_text())
        if out is not None:
            write_json(out / "translation" / file.name, results)
        print_rows(file.stem, results)


def print_rows(name: str, results: dict[str, Any]) -> None:
    """The rows of one run: BLEU in points."""
    for task, entry in results["tasks"].items():
        print(row(name, task, entry["scores"], entry))
    print(row(name, "**mean**", results["mean"], results["mean"]), flush=True)


def row(name: str, task: str, scores: dict[str, Any], entry: dict[str, Any]) -> str:
    """One line of a table."""
    cells = [f"{100 * scores[s]:.1f}" if s in scores else "–" for s in SYSTEMS]
    for rival in ("multitask", "ensemble"):
        gap = entry.get(f"student_vs_{rival}")
        cells.append(
            "–"
            if gap is None
            else f"{100 * gap['delta']:+.1f} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}]"
        )
    return "| " + " | ".join([name, task, *cells]) + " |"


if __name__ == "__main__":
    main()
