"""A text encoder: a transformers model, pooled into one vector a text.

Shapes: B texts, T tokens, D features. Knows tensors; no task and no file.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from potstill.core.errors import BaseModelError
from potstill.models.attention import cast_once
from potstill.models.dropout import Dropout, Noise
from potstill.models.weights import longest_text

Pooling = Literal["mean", "cls"]

_RATES = ("attention_dropout", "dropout")
"""Rates that modules keep as numbers: attention for its weights, XLM's layers for all of theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotIndex:
    """Where in a batch the S slots of its rows lie, such as the words of its texts.

    Attributes:
        rows: (S,) int64 row of each slot.
        first: (S,) int64 its first token in that row.
        last: (S,) int64 its last token.
    """

    rows: Tensor
    first: Tensor
    last: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What heads read.

    Attributes:
        pooled: (B, D) one vector a text, fp32.
        tokens: (B, T, D) one vector a token.
        mask: (B, T) true where a token is not padding.
        slots: Places that token heads answer at; None where they answer at every token.
    """

    pooled: Tensor
    tokens: Tensor
    mask: Tensor
    slots: SlotIndex | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """Token ids of a batch of texts, padded to the longest.

    Attributes:
        ids: (B, T) int64.
        mask: (B, T) bool.
        types: (B, T) int64, 1 in the second text of a pair; ignored by encoders without types.
        slots: What token heads answer at; None where no head needs it.
    """

    ids: Tensor
    mask: Tensor
    types: Tensor
    slots: SlotIndex | None = None

    def to(self, device: torch.device) -> TokenBatch:
        """The same batch on another device."""
        if device.type == "cpu":
            return self
        slots = self.slots
        if slots is not None:
            slots = SlotIndex(
                rows=slots.rows.to(device), first=slots.first.to(device), last=slots.last.to(device)
            )
        return TokenBatch(
            ids=self.ids.to(device),
            mask=self.mask.to(device),
            types=self.types.to(device),
            slots=slots,
        )


class Encoder(nn.Module):
    """A transformers encoder and its pooling.

    ``mean`` is the mean over the tokens, scaled to zero mean and unit variance over its features
    (layer normalisation without parameters); ``cls`` is the first token's vector.

    Args:
        backbone: A transformers encoder without pooler.
        pooling: How tokens become one vector.
        dropout: Rate for every dropout that the encoder has; None keeps the base's own rates. A
            ModernBERT whose configuration has none leaves out that of the attention's output.
    """

    def __init__(
        self, backbone: PreTrainedModel, pooling: Pooling, dropout: float | None = None
    ) -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            raise ValueError(f"pooling {pooling!r} is none of {', '.join(get_args(Pooling))}")
        self.backbone = backbone
        self.pooling = pooling
        self.noise = Noise()
        self._only_fp32 = backbone.config.model_type == "deberta"
        self.has_types = int(getattr(backbone.config, "type_vocab_size", 0) or 0) > 1
        for parent in list(backbone.modules()):
            for name, child in list(parent._modules.items()):  # one may have several names
                if isinstance(child, nn.Dropout):
                    rate = child.p if dropout is None else dropout
                    setattr(parent, name, Dropout(rate, self.noise))
                    parent.__dict__["noise"] = self.noise  # read by the attention below
            for name in _RATES if dropout is not None else ():
                if isinstance(getattr(parent, name, None), float):
                    parent.__dict__.update({name: dropout, "noise": self.noise})
        cast_once(backbone)
        self._narrow: tuple[object, PreTrainedModel] | None = None  # in a tuple: not a submodule
        self._narrow_users: list[None] = []

    @property
    def n_features(self) -> int:
        """D, the width of the pooled vector."""
        return int(self.backbone.config.hidden_size)

    @property
    def n_layers(self) -> int:
        """Number of transformer layers."""
        return len(_layers(self.backbone))

    @property
    def max_tokens(self) -> int | None:
        """Tokens of the longest text that it can read; None for no limit."""
        return longest_text(self.backbone)

    def forward(self, batch: TokenBatch) -> Features:
        """Encode a batch. Runs in the caller's autocast context; ``pooled`` is always fp32.

        Raises:
            BaseModelError: The base does not work in the number format of that context.
        """
        if self._only_fp32 and torch.is_autocast_enabled(batch.ids.device.type):
            raise BaseModelError(
                "a base of the first DeBERTa",
                got="products in bf16, in which it hides padding behind a number that bf16 has not",
                wanted="fp32, or another base",
                todo="set `precision: fp32` (--precision fp32), or choose DeBERTa v2 or v3",
            )
        types = {"token_type_ids": batch.types} if self.has_types else {}
        narrow = self._narrow if self._narrow_users else None
        tokens = (self.backbone if narrow is None else narrow[1])(
            input_ids=batch.ids, attention_mask=batch.mask.long(), **types
        ).last_hidden_state
        if self.pooling == "cls":
            pooled = tokens[:, 0].float()
        else:
            weights = batch.mask.unsqueeze(-1).to(tokens.dtype)
            total = (tokens * weights).sum(1, dtype=torch.float32)
            mean = total / batch.mask.sum(1, keepdim=True)
            pooled = functional.layer_norm(mean, mean.shape[-1:])
        return Features(pooled=pooled, tokens=tokens, mask=batch.mask, slots=batch.slots)

    @contextmanager
    def weights_in(self, dtype: torch.dtype) -> Iterator[None]:
        """Within the block, encode with a copy of the weights in ``dtype``; for inference only.

        Autocast casts the weights in every call, and what passes between layers back and forth.
        The copy is kept for the next block, as long as the weights stay the same.
        """
        now = dtype, [_state(p) for p in self.backbone.parameters()]
        if self._narrow is None or self._narrow[0] != now:
            self._narrow = now, _narrowed(self.backbone, dtype)
        self._narrow_users.append(None)  # of several threads the last one out turns it off
        try:
            yield
        finally:
            self._narrow_users.pop()

    def keep_layers(self, n_layers: int) -> None:
        """Keep ``n_layers`` evenly spaced layers, the last one always among them.

        Raises:
            BaseModelError: The base has fewer layers than that, or layers of different make.
        """
        have = self.n_layers
        makes = {tuple(layer.state_dict()) for layer in _layers(self.backbone)}
        types = set(getattr(self.backbone.config, "layer_types", None) or [])
        if n_layers != have and (len(makes) > 1 or len(types) > 1):
            raise BaseModelError(
                f"`layers`, those kept of a base of type {type(self.backbone).__name__}",
                got="layers that differ from one to the next",
                wanted="layers of one make, of which any can be left out",
                todo="leave `layers:` out, or choose another base",
            )
        if not 1 <= n_layers <= have:
            raise BaseModelError(
                "`layers`, those kept of the base",
                got=f"layers: {n_layers}",
                wanted=f"1 to {have}, the number of layers of the base",
                todo="set a smaller `layers:`, or choose a deeper base",
            )
        kept = [round((i + 1) * have / n_layers) - 1 for i in range(n_layers)]
        layers = _layers(self.backbone)
        chosen = nn.ModuleList([layers[i] for i in kept])
        for parent in self.backbone.modules():
            for name, child in list(parent.named_children()):
                if child is layers:
                    setattr(parent, name, chosen)
        for index, layer in enumerate(chosen):
            for module in layer.modules():
                if hasattr(module, "layer_idx"):
                    setattr(module, "layer_idx", index)  # noqa: B010 (modules are typed as tensors)
        self.backbone.config.num_hidden_layers = n_layers
        if types:
            self.backbone.config.layer_types = self.backbone.config.layer_types[:n_layers]

    def grow_vocabulary(self, n_tokens: int, *, seed: int) -> None:
        """Make room for token ids up to ``n_tokens``.

        A new row starts as a draw from the normal distribution of the old ones: near them, and
        no two alike (Hewitt 2021, "Initializing new word embeddings").
        """
        old = self._table()
        have = old.weight.shape[0]
        if n_tokens <= have:
            return
        known = old.weight.detach()
        noise = torch.randn(
            n_tokens - have, known.shape[1], generator=torch.Generator().manual_seed(seed)
        )
        rows = torch.cat([known, known.mean(0) + noise.to(known.device) * known.std(0)])
        self._set_embedding(rows)
        self.backbone.config.vocab_size = n_tokens

    def compact_vocabulary(self, used: np.ndarray) -> CompactVocabulary:
        """Train only the embedding rows of the tokens that occur in the data.

        A token that never occurs has a zero gradient at every step, and embeddings are not
        decayed: leaving its row out changes no number, but spares the dense gradient, the
        optimiser state and the checkpoint of a table that is half of a small encoder.

        Args:
            used: Token ids that occur (any order, repeats allowed).
        """
        table = self._table()
        padding = table.padding_idx if table.padding_idx is not None else 0
        kept = np.unique(np.concatenate([np.asarray(used, np.int64), np.arange(padding + 1)]))
        vocabulary = CompactVocabulary(kept=kept, full=table.weight.detach().clone())
        self._set_embedding(vocabulary.full[torch.from_numpy(kept)])
        return vocabulary

    def expand_vocabulary(self, vocabulary: CompactVocabulary) -> None:
        """Put the trained rows back into the full table."""
        trained = self._table().weight.detach()
        full = vocabulary.full.to(trained.device).clone()
        full[torch.from_numpy(vocabulary.kept).to(trained.device)] = trained
        self._set_embedding(full)

    def embedding_parameters(self) -> list[nn.Parameter]:
        """The token table: never decayed."""
        return list(self._table().parameters())

    def _table(self) -> nn.Embedding:
        return cast("nn.Embedding", self.backbone.get_input_embeddings())

    def _set_embedding(self, rows: Tensor) -> None:
        n_rows, width = rows.shape
        padding = self._table().padding_idx
        new = nn.Embedding(n_rows, width, padding_idx=padding, _weight=rows.clone())
        self.backbone.set_input_embeddings(new)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompactVocabulary:
    """Which rows of the token table are in training.

    Attributes:
        kept: (V',) sorted ids of the full vocabulary.
        full: (V, D) the table before training.
    """

    kept: np.ndarray
    full: Tensor

    def renumber(self, ids: np.ndarray) -> np.ndarray:
        """Ids of the full vocabulary to ids of the compact one."""
        places = np.searchsorted(self.kept, ids).clip(max=len(self.kept) - 1)
        if not np.array_equal(self.kept[places], ids):
            raise ValueError("a token id was not announced to compact_vocabulary")
        return places


def _narrowed(backbone: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """A copy with weights in ``dtype``; rotary frequencies are angles a token, and stay exact."""
    narrow = cast("Any", copy.deepcopy(backbone).eval()).to(dtype)
    for module, own in zip(narrow.modules(), backbone.modules(), strict=True):
        for name, buffer in own.named_buffers(recurse=False):
            if name.endswith("inv_freq"):
                setattr(module, name, buffer.clone())
    return cast("PreTrainedModel", narrow)


def _state(parameter: nn.Parameter) -> tuple[int, int, torch.device]:
    """Another value after every change of the parameter; those of inference mode cannot change."""
    version = 0 if parameter.is_inference() else parameter._version
    return id(parameter), version, parameter.device


def _layers(backbone: PreTrainedModel) -> nn.ModuleList:
    """The list of transformer layers: the longest module list of equal classes."""
    lists: Iterable[nn.ModuleList] = (m for m in backbone.modules() if isinstance(m, nn.ModuleList))
    alike = [m for m in lists if len({type(layer) for layer in m}) == 1]
    wanted = backbone.config.num_hidden_layers
    for modules in alike:
        if len(modules) == wanted:
            return modules
    raise BaseModelError(
        f"base of type {type(backbone).__name__}",
        got="no list of transformer layers",
        wanted="an encoder such as BERT, RoBERTa, DistilBERT or MiniLM",
        todo="choose another base",
    )
