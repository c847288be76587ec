"""Kill a run again and again, continue it, and compare its weights with an uninterrupted run.

    python benchmarks/kills.py --rounds 20 --inside-writes 5 --folder DIR

Each round starts a run (all stages, a tiny base made on the spot, fp32, one thread) in a fresh
folder as a process of its own, kills it with SIGKILL, continues it (sometimes killing it once
more) and at the end compares the digest of every network and every soft-target shard with those
of a run that nobody disturbed. Of the rounds, ``--inside-writes`` are killed by the process itself
in the middle of a write, after a random byte of a random file; the others from outside at a random
moment. Exit code 1 where any weight differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CHUNK_BYTES = 512  # of a write between two looks at the fault hook
MOST_BYTES = 40_000  # a death inside a write comes after at most so many bytes of the file
MORE_KILLS = 0.3  # chance that a continued run is killed once more
READY, DYING = "ready", "dying"


# -- the child ----------------------------------------------------------------------------------


def child(folder: Path, base: Path, write: int, after: int, jobs: int) -> None:
    """Do the run; die inside the ``write``-th write (0: never) after ``after`` bytes of it."""
    import torch  # noqa: PLC0415 (the parent needs none of this)

    import potstill  # noqa: PLC0415
    from potstill.core import files  # noqa: PLC0415

    sys.path.insert(0, str(ROOT))
    from tests.toys import TOYS, toy_rows  # noqa: PLC0415

    torch.set_num_threads(1)
    n_writes = 0

    def hook(path: Path, written: int) -> None:
        nonlocal n_writes
        n_writes += written == 0
        if write and (n_writes > write or (n_writes == write and written >= after)):
            print(f"{DYING} {path.name} {written}", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    files._CHUNK_BYTES = CHUNK_BYTES  # noqa: SLF001
    files.fault_hook = hook
    columns: dict[str, dict[str, Any]] = {
        "classification": {"text": "text"},
        "regression": {"text": "text", "range": [0, 5]},
        "ranking": {"query": "query", "text": "candidate"},
    }
    tasks = {
        kind: {
            "kind": kind,
            "train": toy_rows(kind, 96, 0),
            "dev": toy_rows(kind, 24, 1),
            "label": TOYS[kind].label,
            **keys,
        }
        for kind, keys in columns.items()
    }
    run = {
        "name": "killed",
        "output": str(folder),
        "base": str(base),
        "precision": "fp32",
        "device": "cpu",
        "tasks": tasks,
        "training": {
            "epochs": 3,
            "learning_rate": 5e-3,
            "batch": 8,
            "checkpoint_seconds": 0.1,
        },
        "teachers": {"members": 2, "recipe": "finetuned"},
        "distill": {"pool": None, "stop_when_ahead": 0.02},
        "evaluate": {"resamples": 50},
    }
    print(READY, flush=True)
    start = time.monotonic()
    potstill.run(run, jobs=jobs)
    print(json.dumps({"seconds": time.monotonic() - start, "writes": n_writes}), flush=True)


# -- the parent ---------------------------------------------------------------------------------


class Killer:
    """Starts children over one base and kills them."""

    def __init__(self, folder: Path, base: Path, jobs: int) -> None:
        self.folder = folder
        self.base = base
        self.jobs = jobs

    def start(self, output: Path, *, write: int = 0, after: int = 0) -> subprocess.Popen[str]:
        """A child that has loaded everything and begins to work."""
        command = [sys.executable, __file__, "--child", str(output), "--folder", str(self.base)]
        command += ["--write", str(write), "--after", str(after), "--jobs", str(self.jobs)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        if process.stdout.readline().strip() != READY:
            raise RuntimeError("the child did not start")
        return process

    def finish(self, output: Path) -> dict[str, float]:
        """Run to the end; returns its time and number of writes."""
        out, _ = (process := self.start(output)).communicate()
        if process.returncode:
            raise RuntimeError(f"the run failed with exit code {process.returncode}")
        facts: dict[str, float] = json.loads(out.splitlines()[-1])
        return facts

    def kill_inside_write(self, output: Path, n_writes: int, rng: random.Random) -> str | None:
        """Let a child kill itself inside a write; None where it came to its end before."""
        write, after = rng.randint(1, n_writes), rng.randrange(MOST_BYTES)
        process = self.start(output, write=write, after=after)
        out, _ = process.communicate()
        if process.returncode != -signal.SIGKILL:
            return None
        _, name, written = out.splitlines()[-1].split()
        return f"inside {name}, after {written} bytes"

    def kill_from_outside(self, output: Path, seconds: float, rng: random.Random) -> str | None:
        """Kill a child at a random moment; None where it came to its end before."""
        process = self.start(output)
        moment = rng.uniform(0, seconds)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return f"after {moment:.2f} s"
        return None


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
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--after", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.folder, args.write, args.after, args.jobs)
        return 0
    sys.path.insert(0, str(ROOT))
    from tests.toys import make_base  # noqa: PLC0415

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    folder: Path = args.folder
    shutil.rmtree(folder / "whole", ignore_errors=True)
    killer = Killer(folder, make_base(folder / "base"), args.jobs)
    facts = killer.finish(folder / "whole")
    wanted = digests(folder / "whole")
    seconds, n_writes = facts["seconds"], int(facts["writes"])
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
