"""Engines: what runs an encoder's graph. Each takes padded token ids and gives all tasks' outputs.

A new engine is one class here and one entry in ``ENGINES``. Needs no torch. Shapes: B rows, T
tokens, C outputs of a task.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from potstill.core.errors import ArtefactError, ResourceError
from potstill.models.token_rows import TokenRows, pick_slots
from potstill.tasks.batches import token_batches

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
GraphName = Literal["model.onnx", "model.int8.onnx"]
BUDGET_TOKENS = 2048  # padded tokens a batch: what passes between layers fits a CPU's cache


class Engine(ABC):
    """A graph, loaded and ready."""

    inputs: tuple[str, ...]

    @abstractmethod
    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """One batch: each input (B, T) int64 to each task's outputs, fp32.

        They are (B, C), and (B, T, C) of tasks that answer at slots.
        """

    def outputs(
        self,
        tokens: TokenRows,
        padding: int,
        *,
        at_last: Sequence[tuple[int, ...] | None],
        budget_tokens: int = BUDGET_TOKENS,
    ) -> list[np.ndarray]:
        """Each task's outputs for R tokenised texts, in batches of similar lengths.

        Args:
            tokens: The texts.
            padding: Id of the padding token.
            at_last: For each task that answers at slots the outputs that it reads at a slot's last
                token; None for tasks that answer once a text.
            budget_tokens: Padded tokens a batch.

        Returns:
            (R, C) fp32 each; of tasks that answer at slots (R,) arrays (slots of the text, C).
        """
        found: list[np.ndarray] = []
        for rows in token_batches(tokens.lengths, budget_tokens):
            ids, mask, types = tokens.pad(rows, padding)
            feeds = dict(zip(INPUTS, (ids, mask.astype(np.int64), types), strict=True))
            batch = self.run({name: feeds[name] for name in self.inputs})
            if not found:
                found = [
                    np.empty(len(tokens), object)
                    if last is not None
                    else np.empty((len(tokens), *one.shape[1:]), np.float32)
                    for one, last in zip(batch, at_last, strict=True)
                ]
            for whole, part, last in zip(found, batch, at_last, strict=True):
                if last is None:
                    whole[rows] = part
                else:
                    _by_text(whole, part, tokens, rows, last)
        return found


def _by_text(
    whole: np.ndarray,
    part: np.ndarray,
    tokens: TokenRows,
    rows: np.ndarray,
    at_last: tuple[int, ...],
) -> None:
    """Put the slots' outputs of a batch (B, T, C) into their texts' places."""
    if tokens.slots is None:
        for row in rows:
            whole[row] = np.empty((0, part.shape[-1]), np.float32)
        return
    places, texts = tokens.slots.of(rows)
    values = pick_slots(part, texts, tokens.slots, places, at_last)
    ends = np.cumsum(np.bincount(texts, minlength=len(rows)))
    for row, values_of_row in zip(rows, np.split(values, ends[:-1]), strict=True):
        whole[row] = values_of_row


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime on the CPU."""

    module: ClassVar[str] = "onnxruntime"

    def __init__(self, graph: bytes, threads: int) -> None:
        import onnxruntime as ort  # noqa: PLC0415 (one engine of several)

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that wait for work by spinning take the cores from the next worker process.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(i.name for i in self._session.get_inputs())

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        outputs: list[np.ndarray] = self._session.run(None, dict(feeds))
        return outputs


class OpenVinoEngine(Engine):
    """OpenVINO on the CPU."""

    module: ClassVar[str] = "openvino"

    def __init__(self, graph: bytes, threads: int, precision: str) -> None:
        import openvino as ov  # noqa: PLC0415 (an extra)

        core = ov.Core()
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        model = core.read_model(graph, b"")
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        self._n_outputs = len(model.outputs)
        self._lock = threading.Lock()  # a request has one set of inputs and outputs
        self.inputs = tuple(i.get_any_name() for i in model.inputs)

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        with self._lock:
            found = self._request.infer(dict(feeds), share_inputs=True)
            return [np.array(found[i], np.float32) for i in range(self._n_outputs)]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """An engine that an export can choose.

    Attributes:
        graph: The graph that it runs.
        module: The Python package that it needs.
        open: Graph and number of threads to an engine.
        exact: It computes in fp32, so it may be chosen without rows to score.
    """

    graph: GraphName
    module: str
    open: Callable[[bytes, int], Engine]
    exact: bool = False


ENGINES: Mapping[str, EngineKind] = {
    "onnxruntime-fp32": EngineKind(
        graph="model.onnx", module="onnxruntime", open=OnnxRuntimeEngine, exact=True
    ),
    "onnxruntime-int8": EngineKind(
        graph="model.int8.onnx", module="onnxruntime", open=OnnxRuntimeEngine
    ),
    "openvino-fp32": EngineKind(
        graph="model.onnx",
        module="openvino",
        open=lambda graph, threads: OpenVinoEngine(graph, threads, "f32"),
        exact=True,
    ),
    "openvino-bf16": EngineKind(
        graph="model.onnx",
        module="openvino",
        open=lambda graph, threads: OpenVinoEngine(graph, threads, "bf16"),
    ),
    "openvino-int8": EngineKind(
        graph="model.int8.onnx",
        module="openvino",
        open=lambda graph, threads: OpenVinoEngine(graph, threads, "f32"),
    ),
}


def engines_here() -> list[str]:
    """The engines that this machine can run: installed, and bf16 only where it is native."""
    here = []
    for name, kind in ENGINES.items():
        if importlib.util.find_spec(kind.module) is None:
            continue
        if name == "openvino-bf16" and not _openvino_has("BF16"):
            continue
        here.append(name)
    return here


def open_engine(name: str, graph: bytes, *, threads: int | None = None) -> Engine:
    """Load a graph.

    Args:
        name: A key of ``ENGINES``.
        graph: ONNX bytes.
        threads: Threads of one call; None takes the cores that this process may use.

    Raises:
        ResourceError: The engine's package is not installed.
        ArtefactError: The engine is unknown, or refuses the graph.
    """
    kind = need_engine(name)
    try:
        return kind.open(graph, threads or n_cores())
    except Exception as error:  # each engine has exceptions of its own
        raise ArtefactError(
            f"engine '{name}'",
            got=f"it cannot load the graph: {str(error).strip().splitlines()[0]:.300}",
            wanted="a graph that an export wrote",
            todo="export the student again",
        ) from error


def need_engine(name: str) -> EngineKind:
    """An engine that this machine can run.

    Raises:
        ResourceError: Its package is not installed.
        ArtefactError: It is unknown.
    """
    kind = ENGINES.get(name)
    if kind is None:
        raise unknown_engine(name, ENGINES)
    if importlib.util.find_spec(kind.module) is None:
        raise ResourceError(
            f"engine '{name}'",
            got=f"no package {kind.module}",
            wanted=f"{kind.module}, with which this bundle was measured to be fastest",
            todo=f"pip install {kind.module}, or export again with --engines of another kind",
        )
    return kind


def unknown_engine(name: str, known: Iterable[str]) -> ArtefactError:
    """The error for an engine that is not among those of a student's sort."""
    return ArtefactError(
        f"engine '{name}'",
        got="an engine that this potstill does not know",
        wanted=f"one of {', '.join(known)}",
        todo="update potstill, or export the student again with this one",
    )


def n_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(len(os.sched_getaffinity(0)), 1)
    return os.cpu_count() or 1


def _openvino_has(capability: str) -> bool:
    import openvino as ov  # noqa: PLC0415 (an extra)

    found: Sequence[Any] = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return capability in found
