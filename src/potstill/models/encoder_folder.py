"""Encoders in transformers' folders: loaded, tried with six tokens, built empty, saved."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.initialization import no_init_weights

from potstill.core.errors import BaseModelError
from potstill.core.files import write_bytes, write_text
from potstill.models.attention import ATTENTION
from potstill.models.base_folder import check_weights
from potstill.models.encoder import Encoder, Pooling, TokenBatch
from potstill.models.weights import refuse_unfit, silence, tensors_to_bytes

_FAR = 0.5  # of the features' spread: FNet, which has no mask, 1.6; Funnel .4; ConvBERT .004


def load_encoder(
    folder: Path, *, pooling: Pooling, layers: int | None = None, dropout: float | None = None
) -> Encoder:
    """Load an encoder from a transformers folder.

    Args:
        folder: ``config.json`` and safetensors weights.
        pooling: ``mean`` or ``cls``.
        layers: Keep this many evenly spaced layers; None keeps all.
        dropout: Dropout rate inside the encoder; None keeps the base's own.

    Raises:
        BaseModelError: The folder is unsafe or not an encoder that transformers can load.
    """
    check_weights(folder)
    try:
        with silence():
            backbone, report = AutoModel.from_pretrained(
                folder,
                attn_implementation=ATTENTION,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        # transformers would fill the gaps with random numbers; the pooler is not used anyway
        refuse_unfit(backbone, [n for n in report["missing_keys"] if not n.startswith("pooler.")])
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BaseModelError(
            f"base folder {folder}",
            got=f"transformers cannot load it: {str(error).splitlines()[0]}",
            wanted="an encoder such as BERT, RoBERTa, DistilBERT or MiniLM",
            todo="check the folder, or choose another base",
        ) from error
    fault = None
    if any(getattr(module, "is_causal", False) for module in backbone.modules()):
        fault = "its first token sees no other"
    encoder = _finish(backbone, pooling, layers, dropout)
    if fault := fault or _fault(encoder):
        raise BaseModelError(
            f"base folder {folder}",
            got=f"a model that is no encoder of single texts ({type(backbone).__name__}): {fault}",
            wanted="an encoder such as BERT, RoBERTa, DistilBERT or MiniLM",
            todo="choose another base",
        )
    return encoder


@torch.inference_mode()
def _fault(encoder: Encoder) -> str | None:
    """What a base does with a text of six tokens that no encoder does, or None."""
    n_ids = int(encoder.backbone.config.vocab_size)
    padding = getattr(encoder.backbone.config, "pad_token_id", None) or 0
    ids = torch.arange(1, 13) * n_ids // 13
    ids = torch.where(ids == padding, (ids + 1) % n_ids, ids)
    alone, padded, other = ids[:6], ids.clone(), ids[:6].clone()
    padded[6:] = padding
    other[-1] = ids[-1]
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        features = [
            encoder(
                TokenBatch(
                    ids=text[None],
                    mask=(torch.arange(len(text)) < 6)[None],
                    types=torch.zeros_like(text)[None],
                )
            )
            for text in (alone, padded, other)
        ]
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        return f"it cannot read six tokens: {str(error).splitlines()[0]}"
    finally:
        for module, training in modes:
            module.training = training
    own, beside, changed = features
    if torch.equal(own.tokens[:, 0], changed.tokens[:, 0]):
        return "its first token sees no other"
    if (own.pooled - beside.pooled).abs().max() > _FAR * own.pooled.std():
        return "what it says of a text depends on how long the texts beside it are"
    return None


def build_encoder(config_file: Path, *, pooling: Pooling, dropout: float | None = None) -> Encoder:
    """An encoder with the architecture of ``config_file`` and weights that are still to come."""
    settings = json.loads(config_file.read_text(encoding="utf-8"))
    config = AutoConfig.for_model(**settings)
    with silence(), no_init_weights():  # drawing random ones takes longer than loading
        backbone = AutoModel.from_config(config, attn_implementation=ATTENTION)
    return _finish(backbone, pooling, None, dropout)


def save_encoder(encoder: Encoder, folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors`` as transformers reads them."""
    config = copy.deepcopy(encoder.backbone.config)
    config.architectures = [type(encoder.backbone).__name__]
    write_text(folder / "config.json", config.to_json_string())
    write_bytes(folder / "model.safetensors", tensors_to_bytes(encoder.backbone.state_dict()))


def _finish(
    backbone: PreTrainedModel, pooling: Pooling, layers: int | None, dropout: float | None
) -> Encoder:
    if hasattr(backbone, "pooler"):
        setattr(backbone, "pooler", None)  # noqa: B010 (modules are typed as tensors)
    encoder = Encoder(backbone, pooling, dropout)
    if layers is not None:
        encoder.keep_layers(layers)
    return encoder
