"""Peak memory of ``potstill predict`` on a file that is larger than the memory it may take.

    python benchmarks/predict_memory.py --folder DIR                 # 2 GB, the limit 1.5 GB
    python benchmarks/predict_memory.py --folder DIR --size-mb 50    # a quick look

Writes a jsonl of that size, a row at a time, makes a student on a tiny base on the spot, and
watches the command as a process of its own. The encoder is tiny, so the time is that of reading,
tokenising and writing; memory does not grow with the file. ``--student`` takes another student
whose tasks read the column ``text``. Exit code 1 where the peak is above the limit or a row is
missing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import potstill
from tests.toys import GOOD, PLAIN, make_base, toy_rows

MEBI = 2**20
LIMIT_MB = 1500
DIFFERENT_WORDS = 12_000_000  # in lines that are written in turn


def make_student(folder: Path) -> Path:
    """A student of one task on a tiny base."""
    task = {
        "kind": "classification",
        "text": "text",
        "train": toy_rows("classification", 32, 0),
        "dev": toy_rows("classification", 16, 1),
        "teachers": False,
    }
    run = {
        "output": str(folder / "runs"),
        "base": str(make_base(folder / "base")),
        "precision": "fp32",
        "device": "cpu",
        "tasks": {"mood": task},
        "training": {"epochs": 1, "max_tokens": 64},
        "evaluate": {"baselines": []},
    }
    return potstill.run(run).folder


def write_rows(path: Path, size_mb: int, longest: int) -> int:
    """Write rows of up to so many words until the file is that large; returns how many."""
    rng = random.Random(0)  # noqa: S311 (texts, no secrets)
    words = [*GOOD, *PLAIN]
    lines = [
        json.dumps({"text": " ".join(rng.choices(words, k=rng.randint(2, longest))), "number": i})
        + "\n"
        for i in range(DIFFERENT_WORDS // longest)
    ]
    n_bytes = n_rows = 0
    with path.open("w", encoding="utf-8") as file:
        while n_bytes < size_mb * MEBI:
            n_bytes += file.write(lines[n_rows % len(lines)])
            n_rows += 1
    return n_rows


def main() -> int:
    """Make the file, predict it, print what it took."""
    parser = argparse.ArgumentParser(description="Peak memory of `potstill predict`.")
    parser.add_argument("--folder", type=Path, required=True, help="for input, output and student")
    parser.add_argument("--size-mb", type=int, default=2000, help="of the input, in MiB")
    parser.add_argument("--words", type=int, default=600, help="of the longest row")
    parser.add_argument("--limit-mb", type=int, default=LIMIT_MB, help="of memory, in MiB")
    parser.add_argument("--student", type=Path, help="default: a tiny one, made on the spot")
    parser.add_argument("--out", default="out.jsonl", help="name of the output: .jsonl, .csv, …")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    args = parser.parse_args()
    folder: Path = args.folder
    folder.mkdir(parents=True, exist_ok=True)
    student = args.student or make_student(folder)
    source, out = folder / "in.jsonl", folder / args.out
    n_rows = write_rows(source, args.size_mb, args.words)
    command = [str(Path(sys.executable).with_name("potstill")), "predict", str(student)]
    command += [str(source), "--out", str(out), "--json", "--quiet"]
    start = time.monotonic()
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    seconds = time.monotonic() - start
    unit = 1 if sys.platform == "darwin" else 1024
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / MEBI
    answered = json.loads(done.stdout)["rows"]
    facts = {
        "words": args.words,
        "input_mb": round(source.stat().st_size / MEBI),
        "rows": n_rows,
        "answered": answered,
        "peak_mb": round(peak_mb),
        "limit_mb": args.limit_mb,
        "seconds": round(seconds, 1),
        "rows_per_second": round(n_rows / seconds),
    }
    source.unlink()
    out.unlink()
    print(json.dumps(facts, indent=1) if args.json else facts)
    return 0 if peak_mb <= args.limit_mb and answered == n_rows else 1


if __name__ == "__main__":
    sys.exit(main())
