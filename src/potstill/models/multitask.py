"""One encoder, one head a task. Knows tensors; what the numbers mean is the kind's business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from potstill.models.dropout import Dropout
from potstill.models.encoder import Encoder, Features, TokenBatch


class LinearHead(nn.Module):
    """Dropout and one linear layer, on the pooled features or on those of tokens.

    Args:
        n_features: D.
        n_outputs: C.
        tokens: Read the features of tokens.
        at_last: Outputs that are read at a slot's last token; the others at its first.
    """

    def __init__(
        self, n_features: int, n_outputs: int, *, tokens: bool = False, at_last: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, n_outputs)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)
        self.dropout: Dropout | None = None
        self.tokens = tokens
        self.at_last = tuple(at_last)

    def forward(self, features: Features) -> Tensor:
        """(B, C) outputs, fp32; of tokens (S, C) at the slots, or (B, T, C) without slots."""
        if not self.tokens:
            return self._outputs(features.pooled)
        slots = features.slots
        if slots is None:
            return self._outputs(features.tokens.float())
        outputs = self._outputs(features.tokens[slots.rows, slots.first].float())
        if self.at_last:
            last = self._outputs(features.tokens[slots.rows, slots.last].float())
            columns = torch.zeros(outputs.shape[1], dtype=torch.bool, device=outputs.device)
            columns[list(self.at_last)] = True
            outputs = torch.where(columns, last, outputs)
        return outputs

    def _outputs(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.linear(features if self.dropout is None else self.dropout(features))
        return outputs


class MultiTaskModel(nn.Module):
    """A shared encoder with one head a task.

    Args:
        encoder: The shared encoder.
        heads: Task name to head; a head maps :class:`Features` to its outputs.
    """

    def __init__(self, encoder: Encoder, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.tasks = tuple(heads)
        self._heads = nn.ModuleList(heads.values())  # a ModuleDict refuses dots in names

    def head(self, task: str) -> nn.Module:
        """The head of a task."""
        return self._heads[self.tasks.index(task)]

    def set_head_dropout(self, rates: Mapping[str, float]) -> None:
        """Set each task's dropout on the features that its head reads."""
        for task, rate in rates.items():
            head = self.head(task)
            if isinstance(head, LinearHead):
                head.dropout = Dropout(rate, self.encoder.noise)

    def forward(self, batch: TokenBatch, tasks: tuple[str, ...]) -> dict[str, Tensor]:
        """Outputs of ``tasks`` for one batch of texts, from one encoder pass."""
        features = self.encoder(batch)
        with torch.autocast(batch.ids.device.type, enabled=False):
            return {task: self.head(task)(features) for task in tasks}

    def head_state(self) -> dict[str, Tensor]:
        """Parameters of the heads, named ``task/parameter``."""
        return {
            f"{task}/{name}": value
            for task in self.tasks
            for name, value in self.head(task).state_dict().items()
        }

    def load_head_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what :meth:`head_state` gave."""
        for task in self.tasks:
            prefix = f"{task}/"
            own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            self.head(task).load_state_dict(own)
