"""What the report shows beside ``results.json``: confusion, reliability, curves, differing rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from potstill.evaluation.outcome import TaskOutcome
from potstill.kinds import Classification

_N_DIFFERENCES = 10
_N_POINTS = 500
_N_BINS = 10


def task_details(outcome: TaskOutcome, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the report draws of one task.

    Args:
        outcome: What the systems said.
        facts: Counts of rows and anything else to pass on.
    """
    details: dict[str, Any] = {**facts, "members": outcome.members}
    systems = [s for s in ("student", "ensemble", "multitask") if s in outcome.predictions]
    if isinstance(outcome.kind, Classification):
        details["labels"] = list(outcome.kind.classes)
        details["confusion"] = {
            s: _confusion(outcome.truth, outcome.predictions[s]).tolist() for s in systems
        }
        details["reliability"] = {
            s: _reliability(outcome.truth, outcome.predictions[s]) for s in systems
        }
    elif outcome.kind.name == "regression":
        rows = np.linspace(0, len(outcome.truth) - 1, min(_N_POINTS, len(outcome.truth))).astype(
            int
        )
        details["scatter"] = {
            "truth": _rounded(outcome.truth[rows]),
            **{s: _rounded(outcome.predictions[s][rows]) for s in systems},
        }
    if "ensemble" in outcome.predictions:
        details["differences"] = _differences(outcome)
    return details


def curve(name: str, training: Mapping[str, Any]) -> dict[str, Any]:
    """The learning curves of one training from its record."""
    return {"name": name, "loss": training["loss"], "dev": training["dev"]}


def folder_bytes(folder: Path) -> int:
    """Bytes of the weights in a network's folder."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def _confusion(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    n = probabilities.shape[1]
    table = np.zeros((n, n), np.int64)
    np.add.at(table, (truth, probabilities.argmax(1)), 1)
    return table


def _reliability(truth: np.ndarray, probabilities: np.ndarray) -> list[dict[str, float]]:
    confidence, right = probabilities.max(1), probabilities.argmax(1) == truth
    bins = np.minimum((confidence * _N_BINS).astype(int), _N_BINS - 1)
    return [
        {
            "confidence": round(float(confidence[bins == b].mean()), 4),
            "accuracy": round(float(right[bins == b].mean()), 4),
            "n": int((bins == b).sum()),
        }
        for b in range(_N_BINS)
        if (bins == b).any()
    ]


def _differences(outcome: TaskOutcome) -> list[dict[str, Any]]:
    """The rows on which student and ensemble differ most."""
    student, ensemble = outcome.predictions["student"], outcome.predictions["ensemble"]
    if student.ndim == 2:  # total variation distance of the class probabilities
        distance = 0.5 * np.abs(student - ensemble).sum(1)
    elif outcome.kind.grouped:
        return []  # scores of lists have no common unit
    else:
        spread = float(np.ptp(outcome.truth)) or 1.0
        distance = np.abs(student - ensemble) / spread
    worst = np.argsort(-distance, kind="stable")[:_N_DIFFERENCES]
    answers = {
        "student": outcome.kind.decode(student[worst]),
        "ensemble": outcome.kind.decode(ensemble[worst]),
    }
    rows = []
    for place, row in enumerate(worst):
        truth: Any = float(outcome.truth[row])
        if isinstance(outcome.kind, Classification):
            truth = outcome.kind.classes[int(outcome.truth[row])]
        rows.append(
            {
                "row": int(outcome.split.places[row]),
                "inputs": {c: values[row] for c, values in outcome.split.inputs.items()},
                "truth": truth,
                "student": answers["student"][place],
                "ensemble": answers["ensemble"][place],
                "divergence": round(float(distance[row]), 4),
            }
        )
    return rows


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(v), 4) for v in values]
