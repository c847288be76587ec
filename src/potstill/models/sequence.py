"""An encoder-decoder that reads a text and says another: transformers' Marian.

One embedding table serves source, target and output. Its last row is that of the padding token,
which is also what a decoder starts from: the row is zero and stays zero, and the output has no
place for it, so that other runtimes, which start from a zero vector, say the same.

Shapes: B rows, T source tokens, U target tokens, V pieces without the padding token. Knows
tensors and model folders; no task.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from transformers import MarianConfig, MarianMTModel
from transformers.initialization import no_init_weights

from potstill.core.errors import BaseModelError
from potstill.core.files import write_bytes, write_text
from potstill.models.attention import ATTENTION
from potstill.models.base_folder import check_weights
from potstill.models.dropout import Noise
from potstill.models.pieces import END
from potstill.models.weights import refuse_unfit, silence, tensors_to_bytes

_TIED = ("lm_head.weight", "model.encoder.embed_tokens", "model.decoder.embed_tokens")
_LAYERS = ("encoder_layers", "decoder_layers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The size of an encoder-decoder that starts from nothing.

    Attributes:
        width: D, a multiple of ``heads``.
        layers: Of the encoder, and as many of the decoder.
        heads: Of every attention.
        feed_forward: Width inside a layer.
        dropout: Everywhere.
        max_tokens: Longest text that it has places for.
    """

    width: int = 256
    layers: int = 3
    heads: int = 4
    feed_forward: int = 1024
    dropout: float = 0.1
    max_tokens: int = 512

    def n_parameters(self, n_pieces: int) -> int:
        """Parameters of a model of this size: table, places, and the layers' matrices."""
        attention = 4 * self.width * (self.width + 1)
        inner = self.feed_forward * (2 * self.width + 1) + self.width
        norm = 2 * self.width
        encoder = attention + inner + 2 * norm
        decoder = 2 * attention + inner + 3 * norm
        tables = (n_pieces + 2 * self.max_tokens) * self.width
        return tables + self.layers * (encoder + decoder)

    def config(self, n_pieces: int) -> MarianConfig:
        """The same as transformers says it, with ``n_pieces`` pieces, the padding token last."""
        return MarianConfig(
            vocab_size=n_pieces,
            d_model=self.width,
            encoder_layers=self.layers,
            decoder_layers=self.layers,
            encoder_attention_heads=self.heads,
            decoder_attention_heads=self.heads,
            encoder_ffn_dim=self.feed_forward,
            decoder_ffn_dim=self.feed_forward,
            dropout=self.dropout,
            attention_dropout=0.0,
            activation_dropout=0.0,
            activation_function="swish",
            max_position_embeddings=self.max_tokens,
            scale_embedding=True,
            share_encoder_decoder_embeddings=True,
            tie_word_embeddings=True,
            pad_token_id=n_pieces - 1,
            decoder_start_token_id=n_pieces - 1,
            eos_token_id=END,
            bos_token_id=END,
            forced_eos_token_id=END,
        )


class SequenceModel(nn.Module):
    """A Marian whose padding token is nothing.

    Args:
        backbone: The model; its padding token is its last piece.
        dropout: Rate everywhere; None keeps the model's own.
    """

    def __init__(self, backbone: MarianMTModel, dropout: float | None = None) -> None:
        super().__init__()
        backbone.set_attn_implementation(ATTENTION)
        self.backbone = backbone
        self.noise = Noise()
        if dropout is not None:
            for module in backbone.modules():
                # Attention has a rate of its own under the same name; it stays 0.
                own = isinstance(getattr(module, "dropout", None), float)
                if own and not hasattr(module, "num_heads"):
                    setattr(module, "dropout", dropout)  # noqa: B010 (typed as tensors)
            backbone.config.dropout = dropout

    @property
    def config(self) -> MarianConfig:
        """Sizes."""
        return self.backbone.config

    @property
    def n_pieces(self) -> int:
        """V, the pieces that it can say: all but the padding token."""
        return int(self.config.vocab_size) - 1

    @property
    def start(self) -> int:
        """What a target starts from: the padding token."""
        return self.n_pieces

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest text that it has places for."""
        return int(self.config.max_position_embeddings)

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Sources (B, T) to their features (B, T, D)."""
        found = self.backbone.model.encoder(input_ids=ids, attention_mask=mask)
        return cast("Tensor", found.last_hidden_state)

    def forward(self, ids: Tensor, mask: Tensor, before: Tensor, places: Tensor) -> Tensor:
        """Logits (S, V) of the pieces at some places of the targets.

        Args:
            ids: (B, T) sources.
            mask: (B, T) true where they are not padding.
            before: (B, U) what stands before each place: the start, then the target without its
                end.
            places: (B, U) true where a logit is wanted: S of them, row by row.
        """
        features = self.backbone.model.decoder(
            input_ids=before,
            encoder_hidden_states=self.encode(ids, mask),
            encoder_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
        return self.logits(features[places])

    def logits(self, features: Tensor) -> Tensor:
        """Features (..., D) to logits (..., V); in fp32 but while it learns.

        In bf16 one likeliest piece in a hundred is another one; but it is the largest product of a
        training step.
        """
        table = cast("Tensor", self.backbone.model.shared.weight)[:-1]
        bias = cast("Tensor", self.backbone.final_logits_bias)[0, :-1]
        if self.training:
            return functional.linear(features, table) + bias
        with torch.autocast(features.device.type, enabled=False):
            return functional.linear(features.float(), table) + bias

    def keep_layers(self, n_layers: int) -> None:
        """Keep ``n_layers`` evenly spaced layers of the encoder and as many of the decoder.

        Raises:
            BaseModelError: It has fewer than that.
        """
        halves = (self.backbone.model.encoder, self.backbone.model.decoder)
        for half, name in zip(halves, _LAYERS, strict=True):
            have = len(half.layers)
            if not 1 <= n_layers <= have:
                raise BaseModelError(
                    "`layers`, those kept of the base",
                    got=f"layers: {n_layers}",
                    wanted=f"1 to {have}, the number of layers of the base",
                    todo="set a smaller `layers:`, or choose a deeper base",
                )
            kept = [half.layers[round((i + 1) * have / n_layers) - 1] for i in range(n_layers)]
            half.layers = nn.ModuleList(kept)
            for index, layer in enumerate(kept):
                for module in layer.modules():
                    if hasattr(module, "layer_idx"):
                        setattr(module, "layer_idx", index)  # noqa: B010 (typed as tensors)
            setattr(self.config, name, n_layers)
        self.config.num_hidden_layers = n_layers

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The weights under transformers' names, each once: what is tied or computed is left out.

        No prefix: what is saved is a transformers model's own file.
        """
        return {
            name: tensor
            for name, tensor in self.backbone.state_dict().items()
            if not name.startswith(_TIED) and "embed_positions" not in name
        }

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> None:
        """Put what :meth:`state_dict` gave into the model.

        Raises:
            ValueError: A weight is missing, or one too many.
        """
        wrong = set(self.state_dict()) ^ set(state_dict)
        if wrong:
            raise ValueError(f"weights that differ: {', '.join(sorted(wrong)[:3])}")
        self.backbone.load_state_dict(state_dict, strict=False)
        self.backbone.tie_weights()

    def embedding_parameters(self) -> list[nn.Parameter]:
        """The table of pieces: never decayed."""
        return list(self.backbone.model.shared.parameters())


def fresh_model(
    folder: Path, *, seed: int, layers: int | None = None, dropout: float | None = None
) -> SequenceModel:
    """A model of the size that ``config.json`` of a folder says, with weights drawn by the seed."""
    config = MarianConfig(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
    if layers is not None:
        config.encoder_layers = config.decoder_layers = config.num_hidden_layers = layers
    torch.manual_seed(seed)
    with silence():
        backbone = MarianMTModel(config)
    # 0.02, as transformers draws, is for tables that are not scaled up at the input.
    nn.init.normal_(backbone.model.shared.weight, std=config.d_model**-0.5)
    for name, parameter in backbone.named_parameters():
        if parameter.ndim == 2 and "shared" not in name and "embed" not in name:
            nn.init.xavier_uniform_(parameter)
    _silence_padding(backbone)
    return SequenceModel(backbone, dropout)


def load_model(
    folder: Path, *, layers: int | None = None, dropout: float | None = None
) -> SequenceModel:
    """Load a Marian from a transformers folder.

    Raises:
        BaseModelError: The folder is unsafe, not a Marian, or one whose tables differ.
    """
    check_weights(folder)
    try:
        _need_marian(folder)
        with silence():
            loaded: Any = MarianMTModel.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        backbone: MarianMTModel = loaded[0]
        missing = [n for n in loaded[1]["missing_keys"] if "embed_positions" not in n]
        refuse_unfit(backbone, missing)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BaseModelError(
            f"base folder {folder}",
            got=f"transformers cannot load it: {str(error).splitlines()[0]}",
            wanted="an encoder-decoder of Marian's type",
            todo="check the folder, or start from nothing with `base: marian`",
        ) from error
    config = backbone.config
    if not config.share_encoder_decoder_embeddings or config.pad_token_id != config.vocab_size - 1:
        raise BaseModelError(
            f"base folder {folder}",
            got="a Marian with a table for each side, or whose padding token is not its last piece",
            wanted="one table, the padding token last",
            todo="choose another base, or start from nothing with `base: marian`",
        )
    _silence_padding(backbone)
    model = SequenceModel(backbone, dropout)
    if layers is not None:
        model.keep_layers(layers)
    return model


def build_model(config_file: Path) -> SequenceModel:
    """A model of the size of ``config_file`` with weights that are still to come."""
    config = MarianConfig(**json.loads(config_file.read_text(encoding="utf-8")))
    with silence(), no_init_weights():
        backbone = MarianMTModel(config)
    halves = (backbone.model.encoder, backbone.model.decoder)
    places = halves[0].embed_positions.create_weight()  # computed, so in no file
    with torch.no_grad():
        for half in halves:
            half.embed_positions.weight.copy_(places)
    return SequenceModel(backbone)


def save_model(model: SequenceModel, folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors`` as transformers reads them."""
    config = json.loads(model.config.to_json_string())
    config["architectures"] = ["MarianMTModel"]
    write_text(folder / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
    write_bytes(folder / "model.safetensors", tensors_to_bytes(model.state_dict()))
    says = {  # for transformers' own search, whose output has a place for the padding token
        "bad_words_ids": [[model.start]],
        "decoder_start_token_id": model.start,
        "pad_token_id": model.start,
        "eos_token_id": END,
    }
    write_text(folder / "generation_config.json", json.dumps(says, indent=2) + "\n")


def _need_marian(folder: Path) -> None:
    """Transformers would take the weights that fit, of whatever model."""
    family = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if family != "marian":
        raise ValueError(f"a model of type {family!r}")


def _silence_padding(backbone: MarianMTModel) -> None:
    """The start of every target is a zero vector."""
    with torch.no_grad():
        backbone.model.shared.weight[-1].zero_()
    backbone.tie_weights()
