"""An encoder-decoder's weights as a CTranslate2 model, which needs no torch to be run.

Written with CTranslate2's own specifications, so that weights, options and file format are as its
converter for Marian writes them; that converter itself wants a folder and a tokenizer of the hub's
form.

    file                      what it holds
    model.bin                 weights; those of the encoder, of the decoder and of the output table
                              that are one tensor are stored once
    config.json               names of the tokens that end and start a target
    shared_vocabulary.json    names of the pieces in order of their numbers
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from potstill.models.ctranslate import COMPUTE_TYPES, FILES, need_ctranslate
from potstill.models.pieces import END, UNKNOWN
from potstill.models.sequence import SequenceModel


def to_ctranslate(
    model: SequenceModel, names: Sequence[str], *, compute_type: str = "fp32"
) -> dict[str, bytes]:
    """A model as CTranslate2 reads it.

    Args:
        model: The encoder-decoder; it stays as it is.
        names: Names of its pieces in order of their numbers, the padding token last.
        compute_type: Number format of the weights, a key of
            :data:`potstill.models.ctranslate.COMPUTE_TYPES`; norms and biases of int8 stay fp32.

    Returns:
        Name to content of :data:`potstill.models.ctranslate.FILES`; equal weights give equal bytes.

    Raises:
        ResourceError: CTranslate2 is not installed.
        ValueError: A wrong number of names.
    """
    if len(names) != model.n_pieces + 1:
        raise ValueError(f"{len(names)} names for {model.n_pieces + 1} pieces")
    need_ctranslate()
    from ctranslate2.specs import common_spec, transformer_spec  # noqa: PLC0415 (an extra)

    config = model.config
    spec = transformer_spec.TransformerSpec.from_config(
        (config.encoder_layers, config.decoder_layers),
        config.encoder_attention_heads,
        pre_norm=False,
        activation=_activation(common_spec.Activation, str(config.activation_function)),
    )
    backbone = model.backbone.model
    table = _array(backbone.shared.weight)[:-1]  # a row of zeros is what the decoder starts from
    for half, own in ((spec.encoder, backbone.encoder), (spec.decoder, backbone.decoder)):
        half.scale_embeddings = config.d_model**0.5 if config.scale_embedding else 1.0
        half.position_encodings.encodings = _array(own.embed_positions.weight)
        for layer, weights in zip(half.layer, own.layers, strict=True):
            _set_layer(layer, weights)
    spec.encoder.embeddings[0].weight = table
    spec.decoder.embeddings.weight = table
    spec.decoder.start_from_zero_embedding = True
    spec.decoder.projection.weight = table
    spec.decoder.projection.bias = _array(cast("Tensor", model.backbone.final_logits_bias)[0, :-1])
    spoken = list(names[:-1])
    spec.register_source_vocabulary(spoken)
    spec.register_target_vocabulary(spoken)
    spec.config.eos_token = spec.config.bos_token = spoken[END]
    spec.config.decoder_start_token = spoken[END]  # any: its vector is not looked at
    spec.config.unk_token = spoken[UNKNOWN]
    spec.config.layer_norm_epsilon = float(backbone.encoder.layers[0].self_attn_layer_norm.eps)
    spec.validate()
    spec.optimize(quantization=COMPUTE_TYPES[compute_type])
    with TemporaryDirectory() as folder:
        spec.save(folder)
        return {name: (Path(folder) / name).read_bytes() for name in FILES}


def _set_layer(spec: Any, layer: nn.Module) -> None:
    """The weights of one layer of the encoder or of the decoder."""
    parts: Any = layer
    _set_attention(spec.self_attention, parts.self_attn, across=False)
    _set_norm(spec.self_attention.layer_norm, parts.self_attn_layer_norm)
    if hasattr(parts, "encoder_attn"):
        _set_attention(spec.attention, parts.encoder_attn, across=True)
        _set_norm(spec.attention.layer_norm, parts.encoder_attn_layer_norm)
    _set_linear(spec.ffn.linear_0, parts.fc1)
    _set_linear(spec.ffn.linear_1, parts.fc2)
    _set_norm(spec.ffn.layer_norm, parts.final_layer_norm)


def _set_attention(spec: Any, attention: Any, *, across: bool) -> None:
    """Queries, keys and values are one product, or two where queries are another text's."""
    queries, keys, values = attention.q_proj, attention.k_proj, attention.v_proj
    groups = [[queries], [keys, values]] if across else [[queries, keys, values]]
    for linear, group in zip(spec.linear, groups, strict=False):
        _set_linear(linear, *group)
    _set_linear(spec.linear[-1], attention.out_proj)


def _set_linear(spec: Any, *layers: Any) -> None:
    spec.weight = _array(torch.cat([layer.weight for layer in layers]))
    spec.bias = _array(torch.cat([layer.bias for layer in layers]))


def _set_norm(spec: Any, norm: Any) -> None:
    spec.gamma, spec.beta = _array(norm.weight), _array(norm.bias)


def _array(tensor: Tensor) -> np.ndarray:
    """A copy: CTranslate2 scales what it makes integers of where it stands."""
    return np.array(tensor.detach().float().cpu().numpy())


def _activation(theirs: Any, name: str) -> Any:
    """CTranslate2's number of an activation that transformers knows by name.

    Raises:
        ValueError: It has no such activation.
    """
    known = {"swish": theirs.SWISH, "silu": theirs.SWISH, "relu": theirs.RELU, "gelu": theirs.GELU}
    if name not in known:
        raise ValueError(f"activation '{name}': wanted one of {', '.join(known)}")
    return known[name]
