"""Experiments on GLUE tasks: baselines, the student table, the paper's recipe, sizes.

    python benchmarks/glue.py baselines --data DATA --folder WORK
    python benchmarks/glue.py student   --data DATA --folder WORK --seed 0 [--only rest,others]
    python benchmarks/glue.py paper     --data DATA --folder WORK --seed 0
    python benchmarks/glue.py sizes     --data DATA --folder WORK --seed 0
    python benchmarks/glue.py table     --folder WORK --out docs/results

DATA holds ``<task>/train.parquet`` and ``dev.parquet``; GLUE's dev is our test, and dev is set
aside from train. Dev rows of MRPC and STS-B that stand in the other's train are left out of the
tests. Every variant is one potstill run in WORK/runs, so all share teachers and baselines, and a
command that was stopped continues. Each finished variant leaves ``results.json`` in
WORK/results/<experiment>/<variant>-seed<k>.json; ``--seed 0,1,2`` takes the networks of the three
commands before it and leaves one with intervals over the seeds; ``table`` prints what is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from kinds import SHARED_ROWS, marks, thin

import potstill
from potstill.core.files import write_json

TASKS: dict[str, dict[str, Any]] = {
    "rte": {"text": ["sentence1", "sentence2"]},
    "mrpc": {"text": ["sentence1", "sentence2"]},
    "stsb": {"text": ["sentence1", "sentence2"], "kind": "regression", "range": [0, 5]},
    "cola": {"text": "sentence", "metric": "matthews"},
    "sst2": {"text": "sentence"},
    "qqp": {"text": ["sentence1", "sentence2"]},
    "mnli": {"text": ["sentence1", "sentence2"]},
    "qnli": {"text": ["sentence1", "sentence2"]},
}
FOUR = ("rte", "mrpc", "stsb", "cola")
EIGHT = ("mnli", "qqp", "rte", "qnli", "mrpc", "cola", "sst2", "stsb")

STUDENT_VARIANTS: dict[str, dict[str, Any]] = {
    "average": {"distill": {}},
    "average-rest": {"distill": {"pool": "rest"}},
    "average-others": {"distill": {"pool": "others"}},
    "average-rest-others": {"distill": {"pool": ["rest", "others"]}},
    "soft_only": {"distill": {"objective": "soft_only"}},
    "soft_only-rest": {"distill": {"objective": "soft_only", "pool": "rest"}},
    "annealed": {"distill": {"objective": "annealed"}},
    "annealed-rest": {"distill": {"objective": "annealed", "pool": "rest"}},
    "logit_mse": {"distill": {"objective": "logit_mse"}},
    "logit_mse-rest": {"distill": {"objective": "logit_mse", "pool": "rest"}},
    "cross_fit": {"distill": {}, "teachers": {"cross_fit": True}},
    "cross_fit-rest": {"distill": {"pool": "rest"}, "teachers": {"cross_fit": True}},
    "single-rest": {"distill": {"pool": "rest"}, "teachers": {"recipe": "single"}},
    "single-others": {"distill": {"pool": "others"}, "teachers": {"recipe": "single"}},
    "finetuned-rest": {"distill": {"pool": "rest"}, "teachers": {"recipe": "finetuned"}},
    "second-generation-rest": {"distill": {"pool": "rest"}, "generations": 2},
}
RATES = (5e-5, 1e-4, 2e-4)
EXPERIMENTS = ("baselines", "student", "paper", "sizes")


def main() -> None:
    """Run one experiment."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("experiment", choices=[*EXPERIMENTS, "table"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=seeds, default=0, help="one, or several with commas")
    parser.add_argument("--rows", type=int, default=2500)
    parser.add_argument("--only", help="variants, with commas")
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate of every side")
    parser.add_argument("--epochs", type=int, default=3, help="of every side")
    parser.add_argument("--student-epochs", type=int, help="of student and multi-task baseline")
    parser.add_argument("--teacher-epochs", type=int, help="of the teachers of `student`")
    parser.add_argument("--batch", type=int, default=32, help="rows a step of every side")
    parser.add_argument("--balance", choices=["gradients", "none"], default="gradients")
    parser.add_argument("--nets", type=int, default=6, help="paper: multi-task nets")
    parser.add_argument("--teacher-rate", type=float, help="paper: their rate, not the recipe's")
    parser.add_argument("--test-rows", type=int, help="test on so many rows a task at most")
    parser.add_argument("--no-long", action="store_true", help="no baseline of equal steps yet")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once")
    parser.add_argument("--out", type=Path, help="table: copy the results there")
    args = parser.parse_args()
    if args.experiment == "table":
        print_tables(args.folder, args.out)
        return
    if args.data is None:
        parser.error("--data is needed: a folder with <task>/train.parquet and dev.parquet")
    setting = marks(parser, args, "nets", "teacher_rate", "test_rows") + (
        "-nolong" if args.no_long else ""
    )
    for variant, asked in variants(args).items():
        run_variant(args, variant, asked, setting)


def seeds(text: str) -> int | list[int]:
    """``0`` is one seed, ``0,1,2`` are three."""
    numbers = [int(part) for part in text.split(",")]
    return numbers[0] if len(numbers) == 1 else numbers


def variants(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The run files of an experiment, by variant."""
    if args.experiment == "baselines":
        made = {}
        for rate in RATES:
            for size in ("full", str(args.rows)):
                rows = None if size == "full" else args.rows
                asked = run_file(args, FOUR, rows)
                asked["training"]["learning_rate"] = rate
                asked["teachers"] = {"tasks": []}
                made[f"{size}-{rate:.0e}"] = asked
    elif args.experiment == "student":
        made = {}
        for variant, keys in STUDENT_VARIANTS.items():
            asked = run_file(args, FOUR, args.rows) | keys
            generations = asked.pop("generations", 1)
            longer = {} if args.teacher_epochs is None else {"epochs": args.teacher_epochs}
            made[variant] = asked | {
                "student": asked["student"] | {"generations": generations},
                "teachers": {**asked.get("teachers", {}), "training": longer},
            }
    elif args.experiment == "paper":
        taught = ["mnli", "qqp", "rte", "qnli"]
        recipe = {"recipe": "mt-dnn-kd", "tasks": taught, "nets": args.nets}
        recipe["select_on"] = ["mnli", "rte"]
        # Keys for all sides would win over the recipe's: only the epochs are the same for all.
        asked = run_file(args, EIGHT, args.rows)
        own = asked.pop("training")
        teachers: dict[str, Any] = {"max_tokens": 128}
        if args.teacher_rate is not None:
            teachers["learning_rate"] = args.teacher_rate
        student = own | student_training(args).get("training", {})
        asked |= {
            "training": {"epochs": args.epochs},
            "teachers": {**recipe, "training": teachers},
            "student": {"training": student},
            "evaluate": {**asked["evaluate"], "training": own},
        }
        made = {
            "mt-dnn-kd": asked | {"student": {"training": student, "finetune": True}},
            "mt-dnn-kd-rest": asked | {"distill": {"pool": "rest"}},
        }
    else:
        made = {
            "small-student": run_file(args, FOUR, args.rows)
            | {
                "student": {**student_training(args), "layers": 3},
                "distill": {"pool": "rest"},
            },
            "large-student": run_file(args, FOUR, args.rows)
            | {"teachers": {"layers": 3}, "distill": {"pool": "rest"}},
            "large-student-gated": run_file(args, FOUR, args.rows)
            | {
                "teachers": {"layers": 3},
                "distill": {"pool": "rest", "stop_when_ahead": 0.0},
            },
        }
    chosen = args.only.split(",") if args.only else list(made)
    if unknown := set(chosen) - set(made):
        raise SystemExit(f"--only: {sorted(unknown)} are none of {', '.join(made)}")
    return {name: made[name] for name in chosen}


def run_file(args: argparse.Namespace, tasks: tuple[str, ...], rows: int | None) -> dict[str, Any]:
    """A run file as a mapping, with absolute paths."""
    return {
        "name": "glue",
        "output": str((args.folder / "runs").resolve()),
        "seed": args.seed,
        "training": {
            "learning_rate": args.rate,
            "epochs": args.epochs,
            "batch": args.batch,
            "balance": args.balance,
        },
        "student": student_training(args),
        "evaluate": {"match_steps": not args.no_long},
        "tasks": {
            name: {
                "kind": "classification",
                "train": str((args.data / name / "train.parquet").resolve()),
                "test": str(test_file(args, name)),
                **TASKS[name],
                **({} if rows is None else {"rows": min(rows, n_rows(args, name))}),
            }
            for name in tasks
        },
    }


def student_training(args: argparse.Namespace) -> dict[str, Any]:
    """What the student's training has of its own."""
    return {} if args.student_epochs is None else {"training": {"epochs": args.student_epochs}}


def n_rows(args: argparse.Namespace, task: str) -> int:
    """Nine tenths of the train rows: what is left when dev is set aside."""
    return int(0.9 * pq.read_metadata(args.data / task / "train.parquet").num_rows) - 1


def test_file(args: argparse.Namespace, task: str) -> Path:
    """GLUE's dev, without the rows that another task trains on; evenly thinned where asked."""
    most = args.test_rows or sys.maxsize
    name = f"{task}-test-{most}" if args.test_rows else f"{task}-test"
    target: Path = (args.folder / "data" / f"{name}.parquet").resolve()
    if not target.exists():
        thin(args.data / task / "dev.parquet", target, most, without=SHARED_ROWS.get(task))
    return target


def run_variant(
    args: argparse.Namespace, variant: str, asked: dict[str, Any], setting: str
) -> None:
    """Run one variant, and keep its results."""
    suffix = "" if args.rate == RATES[1] or args.experiment == "baselines" else f"-{args.rate:.0e}"
    suffix += "" if args.epochs == 3 else f"-{args.epochs}epochs"
    suffix += "" if args.student_epochs is None else f"-{args.student_epochs}student"
    suffix += "" if args.teacher_epochs is None else f"-{args.teacher_epochs}teacher"
    suffix += "" if args.batch == 32 else f"-batch{args.batch}"
    suffix += "" if args.balance == "gradients" else f"-balance-{args.balance}"
    suffix += "" if args.rows == 2500 else f"-{args.rows}rows"
    suffix += setting
    seed = args.seed if isinstance(args.seed, int) else "_".join(map(str, args.seed))
    name = f"{variant}{suffix}-seed{seed}"
    print(f"== {args.experiment}: {name}", flush=True)
    result = potstill.run(asked, quiet=not sys.stderr.isatty(), jobs=args.jobs)
    kept = args.folder / "results" / args.experiment / f"{name}.json"
    write_json(kept, result.results)
    mean = result.results["mean"]
    print({k: v for k, v in mean.items() if k != "tasks"}, flush=True)
    for task, entry in result.results["tasks"].items():
        print(f"   {task}: {entry['scores']}", flush=True)


SYSTEMS = ("single", "multitask", "teacher_best", "ensemble", "student", "student_finetuned")


def print_tables(folder: Path, out: Path | None) -> None:
    """Print one table an experiment, with the intervals of each file, and copy the files."""
    for experiment in (folder / "results" / name for name in EXPERIMENTS):
        if not experiment.is_dir():
            continue
        print(f"\n## {experiment.name}\n")
        print("| variant | task | " + " | ".join(SYSTEMS), end="")
        print(" | student − multitask | student − ensemble |")
        print("|---" * (len(SYSTEMS) + 4) + "|")
        for file in sorted(experiment.glob("*.json")):
            results = json.loads(file.read_text())
            if out is not None:
                write_json(out / experiment.name / file.name, results)
            for task, entry in results["tasks"].items():
                print(row(file.stem, task, entry["scores"], entry))
            print(row(file.stem, "**mean**", results["mean"], results["mean"]))


def row(variant: str, task: str, scores: dict[str, Any], entry: dict[str, Any]) -> str:
    """One line of a table."""
    cells = [f"{scores[s]:.3f}" if s in scores else "–" for s in SYSTEMS]
    for other in ("multitask", "ensemble"):
        gap = entry.get(f"student_vs_{other}")
        cells.append(
            "–" if gap is None else f"{gap['delta']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"
        )
    return "| " + " | ".join([variant, task, *cells]) + " |"


if __name__ == "__main__":
    main()
