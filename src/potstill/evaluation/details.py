"""What the report shows beside ``results.json``: confusion, reliability, curves, differing rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from potstill.evaluation.outcome import TaskOutcome

_N_DIFFERENCES = 10


def task_details(outcome: TaskOutcome, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the report draws of one task.

    Args:
        outcome: What the systems said.
        facts: Counts of rows and anything else to pass on.
    """
    details: dict[str, Any] = {**facts, "members": outcome.members}
    systems = [s for s in ("student", "ensemble", "multitask") if s in outcome.predictions]
    details |= outcome.kind.details(
        outcome.truth, {s: outcome.predictions[s] for s in systems}, outcome.groups
    )
    if "ensemble" in outcome.predictions:
        details["differences"] = _differences(outcome)
    return details


def curve(name: str, training: Mapping[str, Any]) -> dict[str, Any]:
    """The learning curves of one training from its record."""
    return {"name": name, "loss": training["loss"], "dev": training["dev"]}


def folder_bytes(folder: Path) -> int:
    """Bytes of the weights in a network's folder."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def _differences(outcome: TaskOutcome) -> list[dict[str, Any]]:
    """The rows on which student and ensemble differ most."""
    student, ensemble = outcome.predictions["student"], outcome.predictions["ensemble"]
    kind, split = outcome.kind, outcome.split
    distance = kind.distance(student, ensemble, outcome.truth, outcome.groups)
    if distance is None or split.labels is None:
        return []
    worst = np.argsort(-distance, kind="stable")[:_N_DIFFERENCES]
    answers = {}
    for system, own_scale in (("student", student), ("ensemble", ensemble)):
        own = outcome.kinds.get(system, kind)
        predictions = own.comparable(own_scale, outcome.groups)
        if own.slotted and len(predictions) != len(split):  # its rows' words stand in a row
            everything = own.decode(predictions, outcome.inputs, outcome.groups)
            answers[system] = [everything[row] for row in worst]
        else:
            inputs = [[column[row] for row in worst] for column in outcome.inputs]
            answers[system] = own.decode(predictions[worst], inputs)
    return [
        {
            "row": int(split.places[row]),
            "unit": split.unit,
            "inputs": {c: _shown(values[row]) for c, values in split.inputs.items()},
            "truth": kind.label_in_words(split.labels[row], [c[row] for c in outcome.inputs]),
            "student": answers["student"][place],
            "ensemble": answers["ensemble"][place],
            "divergence": round(float(distance[row]), 4),
        }
        for place, row in enumerate(worst)
    ]


def _shown(value: Any) -> Any:
    """An input as the report shows it: words as the text that they make."""
    return " ".join(value) if isinstance(value, list) else value
