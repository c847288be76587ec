"""From a network to ONNX: one graph with encoder and all heads, in fp32 and in int8.

Batch and length are dynamic. The graph is made from the transformers model with its plain
attention, not from the training module, whose attention and dropout are for training.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel

from potstill.core.errors import ResourceError, UsageError
from potstill.export.engines import INPUTS
from potstill.models.encoder import Features
from potstill.training.network import Network

MOST_BYTES = 2**31 - 1  # of a protocol buffer


class _Graph(nn.Module):
    """Token ids to the outputs of every head."""

    def __init__(self, network: Network, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleList(network.model.head(task) for task in network.tasks)
        self.pooling = network.pooling

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        tokens = self.backbone(
            input_ids=input_ids, attention_mask=attention_mask, **types
        ).last_hidden_state
        if self.pooling == "cls":
            pooled = tokens[:, 0]
        else:
            weights = attention_mask.unsqueeze(-1).to(tokens.dtype)
            mean = (tokens * weights).sum(1) / weights.sum(1)
            pooled = functional.layer_norm(mean, mean.shape[-1:])
        features = Features(pooled=pooled, tokens=tokens, mask=attention_mask.bool())
        return tuple(head(features) for head in self.heads)


def to_onnx(network: Network) -> bytes:
    """The network as an fp32 ONNX graph; output i is that of task i.

    Raises:
        ResourceError: The exporter is not installed.
        UsageError: The network is over the 2 GiB that one file can hold.
    """
    config = network.model.encoder.backbone.config
    with _quiet():
        # Plain attention: no masks of dropout, and nothing that only torch can run.
        backbone = AutoModel.from_config(config, attn_implementation="eager")
        if hasattr(backbone, "pooler"):
            setattr(backbone, "pooler", None)  # noqa: B010 (modules are typed as tensors)
        backbone.load_state_dict(network.model.encoder.backbone.state_dict())
    size = sum(p.numel() * p.element_size() for p in network.model.parameters())
    if size > MOST_BYTES:
        raise UsageError(
            "student",
            got=f"{size / 2**30:.1f} GiB of weights",
            wanted="less than 2 GiB, which one ONNX file can hold",
            todo="distil into a smaller student (`student: {layers: …}`)",
        )
    names = INPUTS if network.model.encoder.has_types else INPUTS[:2]
    ids = torch.full((2, 8), 5, dtype=torch.int64)
    example = {INPUTS[0]: ids, INPUTS[1]: torch.ones_like(ids), INPUTS[2]: torch.zeros_like(ids)}
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    graph = _Graph(network, backbone).eval().float().cpu()
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                tuple(example[name] for name in names),
                input_names=list(names),
                output_names=[f"output_{i}" for i in range(len(network.tasks))],
                dynamic_shapes=tuple(shape for _ in names),
                dynamo=True,
                verbose=False,
            )
    except ImportError as error:
        raise no_exporter(error) from error
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def to_int8(graph: bytes) -> bytes:
    """The graph with int8 weights, one scale a channel; activations get theirs when it runs.

    Weights keep seven bits: processors without VNNI add two products in 16 bits, and eight would
    overflow there without a word.

    Raises:
        ResourceError: The quantiser is not installed.
    """
    try:
        import onnx  # noqa: PLC0415 (an extra)
        from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415
    except ImportError as error:
        raise no_exporter(error) from error
    model = onnx.load_model_from_string(graph)
    del model.graph.value_info[:]  # shapes that the exporter noted contradict those of int8
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder) / "model.onnx", Path(folder) / "model.int8.onnx"
        onnx.save_model(model, source)
        quantize_dynamic(
            source, target, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
        )
        return target.read_bytes()


def no_exporter(error: ImportError) -> ResourceError:
    """The error for a package of the ``export`` extra that is not there."""
    return ResourceError(
        "export",
        got=f"a package is missing ({error})",
        wanted="onnx, onnxscript and onnxruntime",
        todo="pip install 'potstill[export]'",
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' reports off the user's screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
