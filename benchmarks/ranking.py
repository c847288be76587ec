"""Ranking: the sentences of each SQuAD context, ranked for its question.

    python benchmarks/ranking.py --data DATA --folder WORK [--questions 1500] [--seed 0]

DATA holds ``squad/train.parquet`` and ``dev.parquet``. The relevant sentence is the one in which
the first answer starts. Three systems on the same test questions, by mean reciprocal rank: BM25
over sentences, a pointwise classifier (does this sentence hold the answer?), and the listwise
ranking kind, of which the single model and the ensemble are scored too; the listwise student
against both by paired bootstrap over questions. Sentences are cut by a simple rule, the same for
all.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import potstill
from potstill.core.files import write_json
from potstill.evaluation.compare import Draw, SeedPair, paired_bootstrap
from potstill.metrics.named import metric

_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(\[])")
_WORD = re.compile(r"\w+")
_K1, _B = 1.5, 0.75  # the usual constants of BM25


def main() -> None:
    """Build the rows, run both kinds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=1500)
    parser.add_argument("--test-questions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    train = sentences(args.data / "squad" / "train.parquet", args.questions, rng)
    test = sentences(args.data / "squad" / "dev.parquet", args.test_questions, rng)
    truth, groups = np.array([float(row["label"]) for row in test]), groups_of(test)
    scores = {"bm25": bm25(test)}
    asked = {
        "name": "squad-sentences",
        "output": str((args.folder / "runs").resolve()),
        "seed": args.seed,
        "training": {"max_tokens": 96},
    }
    ranking = potstill.run(
        asked | {"tasks": {"sentence": task("ranking", train, test)}}, jobs=args.jobs
    )
    scores["listwise student"] = answers(ranking.student, test, "prediction")
    alone: dict[str, Any] = {"evaluate": {"baselines": []}}  # of them nothing is scored
    pointwise = potstill.run(
        asked | alone | {"tasks": {"sentence": task("classification", train, test)}}, jobs=args.jobs
    )
    scores["pointwise student"] = answers(pointwise.student, test, "scores")
    mrr = metric("mrr")
    table: dict[str, Any] = {name: mrr.score(truth, own, groups) for name, own in scores.items()}
    listwise = ranking.results["tasks"]["sentence"]["scores"]
    table |= {f"listwise {k}": v for k, v in listwise.items() if k != "student"}
    table["questions"], table["tested"] = args.questions, int(groups.max()) + 1
    best, draw = scores["listwise student"], Draw(number=0, size=int(groups.max()) + 1)
    for name in ("bm25", "pointwise student"):
        pair = SeedPair(truth=truth, groups=groups, a=best, b=scores[name], draw=draw)
        table[f"listwise student - {name}"] = asdict(paired_bootstrap(mrr, [pair]).interval)
    write_json(args.folder / "results" / "ranking" / f"seed{args.seed}.json", table)
    print(json.dumps(table, indent=1))


def sentences(file: Path, n_questions: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """One row a (question, sentence) of questions with two sentences or more."""
    rows = pq.read_table(file).to_pylist()
    made: list[dict[str, Any]] = []
    n = 0
    for index in rng.permutation(len(rows)):
        row = rows[index]
        spans = cut(row["context"])
        start = row["answer_starts"][0]
        holds = [a <= start < b for a, b in spans]
        if len(spans) < 2 or sum(holds) != 1:
            continue
        n += 1
        made += [
            {"question": row["question"], "sentence": row["context"][a:b].strip(), "label": int(h)}
            for (a, b), h in zip(spans, holds, strict=True)
        ]
        if n == n_questions:
            break
    return made


def cut(text: str) -> list[tuple[int, int]]:
    """Begin and end of each sentence."""
    ends = [match.end() for match in _END.finditer(text)]
    return list(zip([0, *ends], [*ends, len(text)], strict=True))


def task(kind: str, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows as a task of one kind."""
    columns: dict[str, Any] = {"kind": kind, "train": pa.Table.from_pylist(train)}
    columns["test"] = pa.Table.from_pylist(test)
    if kind == "ranking":
        return columns | {"query": "question", "text": "sentence"}
    return columns | {"text": ["question", "sentence"], "metric": "f1", "positive": 1}


def groups_of(rows: list[dict[str, Any]]) -> np.ndarray:
    """The question of each row."""
    numbers = {q: i for i, q in enumerate(dict.fromkeys(row["question"] for row in rows))}
    return np.array([numbers[row["question"]] for row in rows])


def bm25(rows: list[dict[str, Any]]) -> np.ndarray:
    """Scores of Okapi BM25, with document frequencies over all sentences of the test contexts."""
    bags = [Counter(_WORD.findall(row["sentence"].lower())) for row in rows]
    frequency = Counter(word for bag in bags for word in bag)
    mean = sum(sum(bag.values()) for bag in bags) / len(bags)
    scores = []
    for row, bag in zip(rows, bags, strict=True):
        size = sum(bag.values())
        score = 0.0
        for word in set(_WORD.findall(row["question"].lower())):
            seen = frequency[word]
            idf = math.log(1 + (len(bags) - seen + 0.5) / (seen + 0.5))
            score += idf * bag[word] * (_K1 + 1) / (bag[word] + _K1 * (1 - _B + _B * size / mean))
        scores.append(score)
    return np.array(scores)


def answers(student: potstill.Student, rows: list[dict[str, Any]], what: str) -> np.ndarray:
    """A student's score of each row: its own, or the probability that the answer is there."""
    said = [answer["tasks"]["sentence"][what] for answer in student.predict(rows)]
    return np.array([one["1"] if isinstance(one, dict) else one for one in said])


if __name__ == "__main__":
    main()
