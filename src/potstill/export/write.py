"""A student's bundle, written: graphs made, engines measured, the winner kept, files sealed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from potstill.export.choose_decoder import choose_decoder
from potstill.export.decoders import DECODERS
from potstill.export.engines import ENGINES, GraphName
from potstill.export.graph import to_int8, to_onnx
from potstill.models.pieces import Decoding
from potstill.models.to_ctranslate import to_ctranslate
from potstill.tasks.task import Split
from potstill.training.network import AnyNetwork, Network
from potstill.training.sequence_network import SequenceNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A written bundle.

    Attributes:
        folder: Where it is.
        packed: Its zip file, where one was asked for.
        engine: The engine that was chosen.
        candidates: All that were measured.
        scores: The student's own dev scores in fp32, by task.
        timed: What ``Candidate.ms`` are milliseconds of, and what its keys are.
        threads: Threads of each engine in the measurement.
    """

    folder: Path
    packed: Path | None
    engine: str
    candidates: Sequence[Candidate]
    scores: Mapping[str, float]
    timed: str
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """The engine that was chosen, and what was measured; ``files`` are those of that engine."""

    engine: str
    candidates: Sequence[Candidate]
    scores: Mapping[str, float]
    timed: str
    files: Mapping[str, bytes]
    decoding: Decoding | None = None


def write_bundle(
    network: AnyNetwork,
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
    """Export a student: an encoder with heads, or an encoder-decoder.

    Args:
        network: The student.
        folder: Where the bundle goes: a new or empty folder, with nothing at :func:`aside_of` it.
        name: Name of the bundle.
        student: The student's folder, for its model card and digest.
        splits: Task to its dev rows.
        engines: Keys of ``ENGINES`` to measure; of ``DECODERS`` for an encoder-decoder.
        max_drop: Largest loss of a task's dev score.
        threads: Of each engine in the measurement.
        packed: Also pack the bundle into this zip file.
        progress: Where to report.

    Raises:
        ResourceError: The exporter or an engine is not installed.
        ArtefactError: No engine keeps the scores.
    """
    if isinstance(network, SequenceNetwork):
        chosen = _choose_decoder(
            network, splits, engines, max_drop=max_drop, threads=threads, progress=progress
        )
    else:
        chosen = _choose_graph(
            network, splits, engines, max_drop=max_drop, threads=threads, progress=progress
        )
    made = {
        "potstill": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "student": read_manifest(student).get("digest"),
        "hardware": {**describe_hardware(FP32), "threads": threads},
        "max_drop": max_drop,
        "rows": {task: len(split) for task, split in splits.items()},
        "student_scores": dict(chosen.scores),
    }
    facts = bundle_facts(
        name=name,
        heads=network.tasks,
        padding=network.tokenizer.padding,
        max_tokens=network.max_tokens,
        task_token=network.task_token,
        files=list(chosen.files),
        decoding=chosen.decoding,
        engine=chosen.engine,
        engines=[c.to_json() for c in chosen.candidates],
        made=made,
    )
    try:
        with written_aside(folder) as aside:
            network.tokenizer.save(aside)
            for file, content in chosen.files.items():
                write_bytes(aside / file, content)
            write_json(aside / BUNDLE_FILE, facts)
            write_text(aside / CARD_FILE, _card(student, chosen, made))
            seal(aside, {"format": FORMAT, "version": VERSION})
            if packed is not None:
                pack(aside, packed)
    except BaseException:
        if packed is not None:
            packed.unlink(missing_ok=True)  # it was not there before, as its caller has seen
        raise
    return Exported(
        folder=folder,
        packed=packed,
        engine=chosen.engine,
        candidates=chosen.candidates,
        scores=chosen.scores,
        timed=chosen.timed,
        threads=threads,
    )


def aside_of(folder: Path) -> Path:
    """Where what is exported is written before it appears in its folder."""
    return folder.with_name(folder.name + PARTIAL_SUFFIX)


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """What the block writes appears whole in a new or empty folder; of what broke nothing stays."""
    aside = aside_of(folder)
    try:
        yield aside
        if folder.is_dir():
            folder.rmdir()
        publish(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _choose_graph(
    network: Network,
    splits: Mapping[str, Split],
    engines: Sequence[str],
    *,
    max_drop: float,
    threads: int,
    progress: Progress,
) -> _Chosen:
    """For an encoder: one graph with all heads."""
    with progress.bar("making graphs", 2) as bar:
        graphs: dict[GraphName, bytes] = {"model.onnx": to_onnx(network)}
        bar.advance(info="fp32")
        if any(ENGINES[e].graph == "model.int8.onnx" for e in engines):
            graphs["model.int8.onnx"] = to_int8(graphs["model.onnx"])
        bar.advance(info="int8")
    name, candidates, scores = choose_engine(
        network, graphs, splits, engines, max_drop=max_drop, threads=threads, progress=progress
    )
    graph = ENGINES[name].graph
    return _Chosen(
        engine=name,
        candidates=candidates,
        scores=scores,
        timed="a batch (rows x tokens)",
        files={graph: graphs[graph]},
    )


def _choose_decoder(
    network: SequenceNetwork,
    splits: Mapping[str, Split],
    engines: Sequence[str],
    *,
    max_drop: float,
    threads: int,
    progress: Progress,
) -> _Chosen:
    """For an encoder-decoder: a CTranslate2 model."""
    files = {}
    with progress.bar("making models", len(engines)) as bar:
        for name in engines:
            files[name] = to_ctranslate(
                network.model,
                network.tokenizer.pieces,
                compute_type=DECODERS[name].compute_type,
            )
            bar.advance(info=name)
    name, candidates, scores = choose_decoder(
        network, files, splits, max_drop=max_drop, threads=threads, progress=progress
    )
    return _Chosen(
        engine=name,
        candidates=candidates,
        scores=scores,
        timed="a text (texts a batch)",
        files=files[name],
        decoding=network.decoding,
    )


def _card(student: Path, chosen: _Chosen, made: Mapping[str, Any]) -> str:
    """The student's model card, and how its engine was chosen."""
    card = student / CARD_FILE
    before = card.read_text(encoding="utf-8").rstrip() if card.is_file() else "# A student"
    candidates, scores = chosen.candidates, chosen.scores
    shapes = list(candidates[0].ms)
    lines = [
        before,
        "",
        "## Engine",
        "",
        f"`{chosen.engine}`, the fastest that loses at most {made['max_drop']:g} of a task's dev "
        f"score. Milliseconds {chosen.timed} on {made['hardware']['cpu']}, "
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
        why = (
            "chosen" if c.engine == chosen.engine else f"refused: {c.refused}" if c.refused else ""
        )
        lines.append(f"| {c.engine} | {ms} | {c.size_bytes / 1e6:.0f} | {kept} | {why} |")
    return "\n".join([*lines, ""])
