"""Adaptation: a new task from few labels, with a student as base against the raw base.

    python benchmarks/adaptation.py --data DATA --folder WORK --student STUDENT [--seeds 0,1,2]

DATA holds ``snips/train.parquet``, ``dev.parquet`` and ``test.parquet``; the task is the intent.
STUDENT is the folder of a student of other tasks. For 50, 200 and 1,000 labels the same fine-tune
starts once from the student's encoder and once from the base that the student itself started from.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import pyarrow.parquet as pq

import potstill
from potstill.core.files import write_json

SIZES = (50, 200, 1000)


def main() -> None:
    """Run every size, seed and base, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--seeds", default="0")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for split in ("train", "dev", "test"):  # tokens to text
        table = pq.read_table(args.data / "snips" / f"{split}.parquet").to_pydict()
        rows[split] = [
            {"text": " ".join(tokens), "label": label}
            for tokens, label in zip(table["tokens"], table["label"], strict=True)
        ]
    found: dict[str, list[float]] = {}
    for seed in (int(s) for s in args.seeds.split(",")):
        for size in SIZES:
            # 1,500 rows pass at least, and each three times, so that few labels are not few steps.
            epochs = max(3, round(3 * SIZES[-1] / size / 2))
            for name, base in (("student", str(args.student.resolve())), ("raw", args.base)):
                result = potstill.run(
                    {
                        "name": "snips",
                        "output": str((args.folder / "runs").resolve()),
                        "seed": seed,
                        "base": base,
                        "training": {"epochs": epochs},
                        "teachers": {"tasks": []},
                        "evaluate": {"baselines": []},
                        "tasks": {
                            "intent": {
                                "kind": "classification",
                                "train": rows["train"],
                                "dev": rows["dev"],
                                "test": rows["test"],
                                "text": "text",
                                "rows": size,
                            }
                        },
                    }
                )
                score = result.results["mean"]["student"]
                found.setdefault(f"{size} labels, {name}", []).append(score)
                print(f"seed {seed}, {size} labels, {name}: {score:.4f}", flush=True)
    write_json(args.folder / "results" / "adaptation" / "snips.json", found)
    for name, scores in found.items():
        print(f"| {name} | {statistics.mean(scores):.4f} | {len(scores)} seeds |")


if __name__ == "__main__":
    main()
