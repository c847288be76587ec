"""Several seeds' results.json in one table: means, and intervals over rows and seeds.

    python benchmarks/seeds.py docs/results/few_labels/800labels*-seed[012].json

For seeds that were run on different machines or days, whose networks no longer stand together.
Where they do, ``seed: [0, 1, 2]`` in the run file is exact: it draws the rows of all seeds at
once. Here the seeds' own intervals say how much the choice of rows matters, as if it moved all
seeds alike: that is the widest that it can be.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from potstill.evaluation.compare import interval_of_seeds

_SYSTEMS = ("single", "multitask", "teacher_best", "ensemble", "student", "student_finetuned")
_TAILS = 2 * 1.96


def main() -> None:
    """Print one line a task, and the mean."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("files", type=Path, nargs="+", help="one results.json for each seed")
    files = parser.parse_args().files
    if len(files) < 2:
        parser.error("at least two files are wanted: one for each seed")
    results = [json.loads(file.read_text()) for file in files]
    if any(each == other for i, each in enumerate(results) for other in results[:i]):
        parser.error("two of the files say the same: each seed once is wanted")
    rows = [
        each["tasks"] | {"**mean**": each["mean"] | {"scores": each["mean"]}} for each in results
    ]
    if any(row.keys() != rows[0].keys() for row in rows):
        parser.error("the files have different tasks")
    print_table(rows)


def print_table(rows: list[dict[str, Any]]) -> None:
    """Means of the systems' scores, and the student's differences with their intervals.

    Args:
        rows: For each seed, what results.json says of each task (and of the mean).
    """
    tasks = list(rows[0])
    systems = [s for s in _SYSTEMS if all(s in row[t]["scores"] for row in rows for t in tasks)]
    rivals = [
        r for r in _SYSTEMS if all(f"student_vs_{r}" in row[t] for row in rows for t in tasks)
    ]
    head = ["task", *systems, *(f"student − {rival}" for rival in rivals)]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for task in tasks:
        cells = [f"{np.mean([row[task]['scores'][s] for row in rows]):.3f}" for s in systems]
        cells += [combined([row[task][f"student_vs_{rival}"] for row in rows]) for rival in rivals]
        print("| " + " | ".join([task, *cells]) + " |")


def combined(gaps: list[dict[str, float]]) -> str:
    """The mean difference of the seeds, its interval, and what each seed says."""
    deviations = [(gap["high"] - gap["low"]) / _TAILS for gap in gaps]
    by_seed = np.array([gap["delta"] for gap in gaps])
    all_ = interval_of_seeds(by_seed, float(np.mean(deviations)) ** 2)
    each = ", ".join(f"{delta:+.3f}" for delta in by_seed)
    return f"{all_.delta:+.3f} [{all_.low:+.3f}, {all_.high:+.3f}] ({each})"


if __name__ == "__main__":
    main()
