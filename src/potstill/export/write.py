"""A student's bundle, written: graphs made, engines measured, the winner kept, files sealed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from potstill import __version__
from potstill.core.device import describe_hardware
from potstill.core.files import (
    PARTIAL_SUFFIX,
    publish,
    read_manifest,
    seal,
    write_bytes,
    write_json,
    write_text,
)
from potstill.core.progress import Progress
from potstill.export.bundle import BUNDLE_FILE, CARD_FILE, FORMAT, VERSION, bundle_facts, pack
from potstill.export.choose import FP32, Candidate, choose_engine
from potstill.export.engines import ENGINES, GraphName
from potstill.export.graph import to_int8, to_onnx
from potstill.tasks.task import Split
from potstill.training.network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A written bundle.

    Attributes:
        folder: Where it is.
        packed: Its zip file, where one was asked for.
        engine: The engine that was chosen.
        candidates: All that were measured.
        scores: The student's own dev scores in fp32, by task.
        threads: Threads of each engine in the measurement.
    """

    folder: Path
    packed: Path | None
    engine: str
    candidates: Sequence[Candidate]
    scores: Mapping[str, float]
    threads: int

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "folder": str(self.folder),
            "zip": None if self.packed is None else str(self.packed),
            "engine": self.engine,
            "student_scores": dict(self.scores),
            "threads": self.threads,
            "engines": [c.to_json() for c in self.candidates],
        }


def write_bundle(
    network: Network,
    folder: Path,
    *,
    name: str,
    student: Path,
    splits: Mapping[str, Split],
    engines: Sequence[str],
    max_drop: float,
    threads: int,
    packed: Path | None,
    progress: Progress,
) -> Exported:
    """Export a student.

    Args:
        network: The student.
        folder: Where the bundle goes: a new or empty folder, with nothing at :func:`aside_of` it.
        name: Name of the bundle.
        student: The student's folder, for its model card and digest.
        splits: Task to its dev rows.
        engines: Keys of ``ENGINES`` to measure.
        max_drop: Largest loss of a task's dev score.
        threads: Of each engine in the measurement.
        packed: Also pack the bundle into this zip file.
        progress: Where to report.

    Raises:
        ResourceError: The exporter or an engine is not installed.
        ArtefactError: No engine keeps the scores.
    """
    with progress.bar("making graphs", 2) as bar:
        graphs: dict[GraphName, bytes] = {"model.onnx": to_onnx(network)}
        bar.advance(info="fp32")
        if any(ENGINES[e].graph == "model.int8.onnx" for e in engines):
            graphs["model.int8.onnx"] = to_int8(graphs["model.onnx"])
        bar.advance(info="int8")
    chosen, candidates, scores = choose_engine(
        network, graphs, splits, engines, max_drop=max_drop, threads=threads, progress=progress
    )
    graph_file = ENGINES[chosen].graph
    made = {
        "potstill": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "student": read_manifest(student).get("digest"),
        "hardware": {**describe_hardware(FP32), "threads": threads},
        "max_drop": max_drop,
        "rows": {task: len(split) for task, split in splits.items()},
        "student_scores": scores,
    }
    facts = bundle_facts(
        name=name,
        heads=network.tasks,
        padding=network.tokenizer.padding,
        max_tokens=network.max_tokens,
        task_token=network.task_token,
        graph=graph_file,
        engine=chosen,
        engines=[c.to_json() for c in candidates],
        made=made,
    )
    aside = aside_of(folder)
    try:
        network.tokenizer.save(aside)
        write_bytes(aside / graph_file, graphs[graph_file])
        write_json(aside / BUNDLE_FILE, facts)
        write_text(aside / CARD_FILE, _card(student, chosen, candidates, scores, made))
        seal(aside, {"format": FORMAT, "version": VERSION})
        if folder.is_dir():
            folder.rmdir()  # empty, as its caller has seen
        publish(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)  # of what went wrong nothing stays
    if packed is not None:
        pack(folder, packed)
    return Exported(
        folder=folder,
        packed=packed,
        engine=chosen,
        candidates=candidates,
        scores=scores,
        threads=threads,
    )


def aside_of(folder: Path) -> Path:
    """Where a bundle is written before it appears in its folder."""
    return folder.with_name(folder.name + PARTIAL_SUFFIX)


def _card(
    student: Path,
    chosen: str,
    candidates: Sequence[Candidate],
    scores: Mapping[str, float],
    made: Mapping[str, Any],
) -> str:
    """The student's model card, and how its engine was chosen."""
    card = student / CARD_FILE
    before = card.read_text(encoding="utf-8").rstrip() if card.is_file() else "# A student"
    shapes = list(candidates[0].ms)
    lines = [
        before,
        "",
        "## Engine",
        "",
        f"`{chosen}`, the fastest that loses at most {made['max_drop']:g} of a task's dev score. "
        f"Milliseconds a batch (rows x tokens) on {made['hardware']['cpu']}, "
        f"{made['hardware']['threads']} thread(s), {made['created'][:10]}; dev scores by task.",
        "",
        f"| engine | {' | '.join(shapes)} | MB | {' | '.join(scores)} | |",
        "|---" * (len(shapes) + len(scores) + 3) + "|",
    ]
    own = " | ".join(f"{score:.4f}" for score in scores.values())
    lines.append(f"| student, fp32 |{' – |' * (len(shapes) + 1)} {own} | |")
    for c in candidates:
        ms = " | ".join(f"{c.ms[shape]:.1f}" for shape in shapes)
        kept = " | ".join(f"{c.scores[t]:.4f}" if t in c.scores else "–" for t in scores)
        why = "chosen" if c.engine == chosen else f"refused: {c.refused}" if c.refused else ""
        lines.append(f"| {c.engine} | {ms} | {c.size_bytes / 1e6:.0f} | {kept} | {why} |")
    return "\n".join([*lines, ""])
