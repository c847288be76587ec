"""Kill a run again and again, continue it, and compare its weights with an uninterrupted run.

    python benchmarks/kills.py --rounds 20 --inside-writes 5 --folder DIR

Each round starts a run (all stages, a tiny base made on the spot, fp32, one thread) in a fresh
folder in a process of its own, kills it with SIGKILL, continues it (sometimes killing it once
more) and at the end compares the digest of every network and every soft-target shard with those
of a run that nobody disturbed. Of the rounds, ``--inside-writes`` are killed by the process itself
in the middle of a write, after a random byte of a random file; the others from outside at a random
moment. Exit code 1 where any weight differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import multiprocessing.process
import os
import random
import shutil
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch

from potstill import api  # not the lazy front door: imported once, before the forks
from potstill.core import files
from tests.toys import TOYS, make_base, toy_rows

CHUNK_BYTES = 512  # of a write between two looks at the fault hook
MOST_BYTES = 1e5  # of a file before a death inside its writing; few files are longer
MORE_KILLS = 0.3  # chance that a continued run is killed once more


# -- the child ----------------------------------------------------------------------------------


def run_of(folder: Path, base: Path) -> dict[str, Any]:
    """All stages over two toy tasks, with a checkpoint at about every step."""
    columns: dict[str, dict[str, Any]] = {
        "classification": {"text": "text"},
        "regression": {"text": "text", "range": [0, 5]},
    }
    tasks = {
        kind: {
            "kind": kind,
            "train": toy_rows(kind, 48, 0),
            "dev": toy_rows(kind, 16, 1),
            "label": TOYS[kind].label,
            **keys,
        }
        for kind, keys in columns.items()
    }
    training = {"epochs": 2, "learning_rate": 5e-3, "batch": 8, "checkpoint_seconds": 0.02}
    return {
        "name": "killed",
        "output": str(folder),
        "base": str(base),
        "precision": "fp32",
        "device": "cpu",
        "tasks": tasks,
        "training": training,
        "teachers": {"members": 1, "recipe": "finetuned"},
        "distill": {"pool": "others", "stop_when_ahead": 0.0},
        "evaluate": {"resamples": 200, "baselines": ["multitask"]},
    }


def child(
    news: Connection, folder: Path, base: Path, death: tuple[int, int] | None, jobs: int
) -> None:
    """Do the run; die inside the n-th write after so many bytes of it, where ``death`` says so."""
    n_writes = 0

    def hook(path: Path, written: int) -> None:
        nonlocal n_writes
        n_writes += written == 0
        if death is None:
            return
        write, after = death
        if n_writes > write or (n_writes == write and written >= after):
            news.send(f"inside {path.name}, after {written} bytes")
            os.kill(os.getpid(), signal.SIGKILL)

    files._CHUNK_BYTES = CHUNK_BYTES
    files.fault_hook = hook
    start = time.monotonic()
    api.run(run_of(folder, base), jobs=jobs)
    news.send((time.monotonic() - start, n_writes))


# -- the parent ---------------------------------------------------------------------------------


class Killer:
    """Starts processes over one base and kills them.

    They are forked, which spares each the seconds of importing torch; the parent computes nothing
    but the base's random weights before.
    """

    def __init__(self, base: Path, jobs: int) -> None:
        self.base = base
        self.jobs = jobs

    def finish(self, output: Path) -> tuple[float, int]:
        """Run to the end; returns its seconds and number of writes."""
        process, news = self._start(output, None)
        process.join()
        if process.exitcode:
            raise RuntimeError(f"the run failed with exit code {process.exitcode}")
        seconds, n_writes = news.recv()
        return seconds, n_writes

    def kill_inside_write(self, output: Path, n_writes: int, rng: random.Random) -> str | None:
        """Let a process kill itself inside a write; None where it came to its end before."""
        # Evenly over orders of magnitude: most files are small. Where the file is shorter, death
        # comes at the start of the next one.
        death = (rng.randint(1, n_writes), int(MOST_BYTES ** rng.random()))
        process, news = self._start(output, death)
        process.join()
        return str(news.recv()) if process.exitcode == -signal.SIGKILL else None

    def kill_from_outside(self, output: Path, seconds: float, rng: random.Random) -> str | None:
        """Kill a process at a random moment; None where it came to its end before."""
        process, _ = self._start(output, None)
        moment = rng.uniform(0, seconds)
        process.join(moment)
        if process.exitcode is not None:
            return None
        process.kill()
        process.join()
        return f"after {moment:.2f} s"

    def _start(
        self, output: Path, death: tuple[int, int] | None
    ) -> tuple[multiprocessing.process.BaseProcess, Connection]:
        context = multiprocessing.get_context("fork")
        news, tell = context.Pipe(duplex=False)
        arguments = (tell, output, self.base, death, self.jobs)
        process = context.Process(target=child, args=arguments)
        process.start()
        tell.close()
        return process, news


def digests(output: Path) -> dict[str, str]:
    """SHA-256 of all networks and shards, and of what the results say of scores."""
    found = {
        path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*.safetensors"))
    }
    for path in output.glob("*/results.json"):
        results = json.loads(path.read_text(encoding="utf-8"))
        scores = json.dumps([results["tasks"], results["mean"]], sort_keys=True)
        found["scores"] = hashlib.sha256(scores.encode()).hexdigest()
    left = [p.name for p in (output / "stages").iterdir() if p.suffix == ".partial"]
    left += [p.name for p in (output / "stages").rglob(".*.tmp")]
    if left:
        found["left over"] = ", ".join(left)
    return found


def main() -> int:
    """Do all rounds and say what came of them."""
    parser = argparse.ArgumentParser(description="Kill a run, continue it, compare its weights.")
    parser.add_argument("--rounds", type=int, default=20, help="kills in all, at least")
    parser.add_argument("--inside-writes", type=int, default=5, help="of them inside a write")
    parser.add_argument("--folder", type=Path, required=True, help="where the runs stand")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of death")
    parser.add_argument("--jobs", type=int, default=1, help="as `potstill run` takes it")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    args = parser.parse_args()
    torch.set_num_threads(1)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    folder: Path = args.folder
    shutil.rmtree(folder / "whole", ignore_errors=True)
    killer = Killer(make_base(folder / "base"), args.jobs)
    seconds, n_writes = killer.finish(folder / "whole")
    wanted = digests(folder / "whole")
    say(f"undisturbed: {seconds:.1f} s, {n_writes} writes, {len(wanted)} digests")
    rng = random.Random(args.seed)  # noqa: S311 (moments of death, no secrets)
    kills: list[str] = []
    n_inside = n_different = n_rounds = 0
    while len(kills) < args.rounds or n_inside < args.inside_writes:
        output = folder / "killed"
        shutil.rmtree(output, ignore_errors=True)
        own: list[str] = []
        while not own or rng.random() < MORE_KILLS:
            if n_inside < args.inside_writes:
                death = killer.kill_inside_write(output, n_writes, rng)
                n_inside += death is not None
            else:
                death = killer.kill_from_outside(output, seconds, rng)
            if death is None:  # it was done before its time; a whole run is a round too
                break
            own.append(death)
        killer.finish(output)
        same = digests(output) == wanted
        n_different += not same
        n_rounds += 1
        kills += own
        say(f"{n_rounds:3}  {'same' if same else 'DIFFERENT'}  {'; '.join(own) or 'not killed'}")
        if not same:
            output.rename(folder / f"different-{n_rounds}")
    summary = {
        "runs": n_rounds,
        "kills": len(kills),
        "inside_writes": n_inside,
        "different": n_different,
        "digests": len(wanted),
        "writes": n_writes,
        "seconds_undisturbed": round(seconds, 2),
        "deaths": kills,
    }
    if args.json:
        print(json.dumps(summary, indent=1))
    else:
        print(
            f"{len(kills)} kills ({n_inside} inside a write) in {n_rounds} runs: "
            f"{n_different} ended in other weights ({len(wanted)} digests each)"
        )
    return 1 if n_different else 0


if __name__ == "__main__":
    sys.exit(main())
