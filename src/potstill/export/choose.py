"""Which engine serves a student best: measured on this machine, on its dev rows.

The fastest engine wins whose score of every task drops by at most ``max_drop`` below the student's
own in fp32. No engine is the fastest everywhere, so nothing here is assumed.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from potstill.core.device import Device
from potstill.core.errors import ArtefactError
from potstill.core.progress import Progress
from potstill.export.engines import ENGINES, Engine, GraphName, open_engine
from potstill.models.token_rows import TokenRows
from potstill.tasks.predictor import TaskHead, leader, of_rows, passes, slots_at_last
from potstill.tasks.task import Split, groups_of, truth_of
from potstill.training.network import Network

FP32 = Device(name="cpu", precision="fp32")
MOST_DIFFERENCE = 1e-3  # of an fp32 graph's outputs; rounding alone gives about 1e-6
_ROUNDS = 5
_SECONDS = 0.15  # of one engine and shape in a round, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One engine, measured.

    Attributes:
        engine: A key of ``ENGINES``, or of ``DECODERS``.
        size_bytes: Of its graph, or of its files.
        ms: Milliseconds of a batch, by ``rows x tokens``, or of a text, by texts a batch: median
            of the rounds.
        scores: Dev score of each task; empty without rows.
        drops: The student's own score less this one's.
        difference: Largest difference of an output from the student's, over the tasks; share of
            texts that are not the student's, both found without a search.
        refused: Why it may not be chosen, or None.
    """

    engine: str
    size_bytes: int
    ms: Mapping[str, float]
    scores: Mapping[str, float]
    drops: Mapping[str, float]
    difference: float
    refused: str | None

    def to_json(self) -> dict[str, Any]:
        """As ``bundle.json`` keeps it."""
        return {
            "engine": self.engine,
            "bytes": self.size_bytes,
            "ms": {k: round(v, 3) for k, v in self.ms.items()},
            "scores": {k: round(v, 6) for k, v in self.scores.items()},
            "drops": {k: round(v, 6) for k, v in self.drops.items()},
            "difference": (
                float(f"{self.difference:.3g}") if math.isfinite(self.difference) else None
            ),
            "refused": self.refused,
        }


def choose_engine(
    network: Network,
    graphs: Mapping[GraphName, bytes],
    splits: Mapping[str, Split],
    names: Sequence[str],
    *,
    max_drop: float,
    threads: int,
    progress: Progress,
) -> tuple[str, list[Candidate], dict[str, float]]:
    """Measure engines, and choose one.

    Args:
        network: The student.
        graphs: Graph name to ONNX bytes.
        splits: Task to its dev rows; without any, only engines that compute in fp32 may win.
        names: Keys of ``ENGINES`` to try.
        max_drop: Largest loss of a task's score.
        threads: Of each engine.
        progress: A bar.

    Returns:
        The chosen engine, all candidates in the order of ``names``, and the student's own scores.

    Raises:
        ArtefactError: The fp32 graph does not compute what the student computes, or no engine
            keeps the scores.
    """
    engines = {
        name: open_engine(name, graphs[ENGINES[name].graph], threads=threads) for name in names
    }
    shapes = shapes_of(network)
    with progress.bar("measuring engines", _ROUNDS * len(shapes) + len(names)) as bar:

        def measured() -> None:
            progress.stop.check("measuring engines")
            bar.advance(info="speed")

        ms = measure(engines, network, shapes, done=measured)
        rows = _rows(network, splits)
        own = {
            task: values
            for tasks, tokens in rows
            for task, values in network.outputs(tokens, tasks, FP32).items()
        }
        own_scores = scores_of(network.tasks, splits, own)
        candidates = []
        for name, engine in engines.items():
            found = engine_outputs(engine, network, rows)
            finite = all(np.isfinite(values).all() for values in found.values())
            scores = scores_of(network.tasks, splits, found) if finite else {}
            drops = {task: own_scores[task] - score for task, score in scores.items()}
            apart = max((float(np.abs(found[t] - own[t]).max()) for t in own), default=0.0)
            refused = _refusal(name, drops, apart, max_drop, bool(splits))
            if not finite:
                refused, apart = "outputs that are not finite", math.inf
            candidates.append(
                Candidate(
                    engine=name,
                    size_bytes=len(graphs[ENGINES[name].graph]),
                    ms=ms[name],
                    scores=scores,
                    drops=drops,
                    difference=apart,
                    refused=refused,
                )
            )
            bar.advance(info=f"scores of {name}")
    return fastest(candidates), candidates, own_scores


def fastest(candidates: Sequence[Candidate]) -> str:
    """The engine of the fastest candidate that is not refused.

    Raises:
        ArtefactError: All are.
    """
    fit = [c for c in candidates if c.refused is None]
    if not fit:
        raise ArtefactError(
            "export",
            got="; ".join(f"{c.engine}: {c.refused}" for c in candidates),
            wanted="an engine that keeps the scores",
            todo="allow a larger --max-drop, or try other --engines"
            if any(c.scores for c in candidates)
            else "try other --engines: those in fp32 need no rows to be scored on",
        )
    return min(fit, key=lambda c: slowness(c, fit)).engine


def slowness(candidate: Candidate, among: Sequence[Candidate]) -> float:
    """Time relative to the fastest of each shape, geometric mean over the shapes."""
    logs = [math.log(ms / min(c.ms[shape] for c in among)) for shape, ms in candidate.ms.items()]
    return math.exp(statistics.mean(logs))


def shapes_of(network: Network) -> list[tuple[int, int]]:
    """Rows and tokens of the batches that are timed: 1 and 16 rows, short and longest texts."""
    short, long = min(16, network.max_tokens), network.max_tokens
    return [(n, t) for n in (1, 16) for t in dict.fromkeys((short, long))]


def measure(
    engines: Mapping[str, Engine],
    network: Network,
    shapes: Sequence[tuple[int, int]],
    done: Callable[[], object],
) -> dict[str, dict[str, float]]:
    """Milliseconds of a batch of each shape.

    The engines take turns in each round, so that what else the machine does falls on all; kept
    is the median of the rounds. ``done`` is called after each shape of a round.
    """
    rng = np.random.default_rng(0)
    times: dict[str, dict[str, list[float]]] = {
        name: {f"{n}x{t}": [] for n, t in shapes} for name in engines
    }
    for _ in range(_ROUNDS):
        for n, t in shapes:
            ids = rng.integers(0, network.tokenizer.n_tokens, (n, t)).astype(np.int64)
            feeds = {
                "input_ids": ids,
                "attention_mask": np.ones_like(ids),
                "token_type_ids": np.zeros_like(ids),
            }
            for name, engine in engines.items():
                mine = {k: feeds[k] for k in engine.inputs}
                engine.run(mine)  # the first call of a shape prepares it
                start, calls = time.perf_counter(), 0
                while (spent := time.perf_counter() - start) < _SECONDS or not calls:
                    engine.run(mine)
                    calls += 1
                times[name][f"{n}x{t}"].append(1000 * spent / calls)
            done()
    return {n: {s: statistics.median(v) for s, v in ms.items()} for n, ms in times.items()}


def engine_outputs(
    engine: Engine, network: Network, rows: Sequence[tuple[tuple[str, ...], TokenRows]]
) -> dict[str, np.ndarray]:
    """Each task's outputs for its own rows."""
    order = list(network.tasks)
    found: dict[str, np.ndarray] = {}
    for tasks, tokens in rows:
        outputs = engine.outputs(
            tokens, network.tokenizer.padding, at_last=slots_at_last(network.tasks)
        )
        found |= {task: of_rows(outputs[order.index(task)], tokens.bounds) for task in tasks}
    return found


def _rows(network: Network, splits: Mapping[str, Split]) -> list[tuple[tuple[str, ...], TokenRows]]:
    """Dev rows of each task, tokenised; without any, one made-up row for all tasks of a pass."""
    if splits:
        return [((t,), network.tokenise(t, split.inputs)) for t, split in splits.items()]
    found = []
    for group in passes(network.tasks, network.tasks, task_token=network.task_token):
        task = leader(network.tasks, group)
        reader = network.tasks[task].inputs
        row = {column: [reader.value("one two three")] for column in reader.columns}
        found.append((group, network.tokenise(task, row)))
    return found


def scores_of(
    heads: Mapping[str, TaskHead],
    splits: Mapping[str, Split],
    outputs: Mapping[str, np.ndarray],
) -> dict[str, float]:
    """Each task's dev score, from its outputs for its rows."""
    scores = {}
    for task, split in splits.items():
        head = heads[task]
        groups = groups_of(head, split)
        answers = head.kind.predict(outputs[task], groups)
        scores[task] = head.kind.metric(head.metric).score(
            truth_of(head, split), answers, head.kind.score_groups(groups)
        )
    return scores


def _refusal(
    name: str, drops: Mapping[str, float], apart: float, max_drop: float, scored: bool
) -> str | None:
    if ENGINES[name].exact:
        if not apart <= MOST_DIFFERENCE:
            return f"outputs are {apart:.2g} away from the student's"
        return None
    return lost_too_much(drops, max_drop, scored)


def lost_too_much(drops: Mapping[str, float], max_drop: float, scored: bool) -> str | None:
    """Why an engine that is not exact may not be chosen, or None."""
    if not scored:
        return "not exact, and no dev rows to score it with"
    lost = {task: drop for task, drop in drops.items() if drop > max_drop}
    if lost:
        worst = max(lost, key=lambda task: lost[task])
        return f"task '{worst}' drops by {lost[worst]:.4f}"
    return None
