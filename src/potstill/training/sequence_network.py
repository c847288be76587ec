"""An encoder-decoder in a folder, with the tasks that it answers by saying texts.

    encoder/        config.json, model.safetensors, tokenizer.json: a transformers folder
    student.json    tasks with kinds and input columns; limits; how it decodes

The same folder layout as that of an encoder with heads (``network.py``), without heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from potstill.core.device import Device
from potstill.core.errors import BaseModelError
from potstill.core.files import read_json, write_json
from potstill.kinds import Kind
from potstill.kinds.generation import MOST_PIECES, N_KEPT
from potstill.models.base_folder import STUDENT_FILE, check_safetensors
from potstill.models.beam_search import generate
from potstill.models.pieces import Decoding, PieceTokenizer, load_pieces, most_pieces
from potstill.models.sequence import (
    SequenceModel,
    build_model,
    fresh_model,
    load_model,
    save_model,
)
from potstill.models.token_rows import TokenRows, padded_lengths
from potstill.tasks.batches import token_batches
from potstill.tasks.inputs import Columns
from potstill.tasks.predictor import TaskHead, heads_from_json, heads_to_json

FAMILY = "sequence"
_BUDGET_TOKENS = 4096  # padded source tokens a batch, beams counted


@dataclass(slots=True, kw_only=True, eq=False)
class SequenceNetwork:
    """An encoder-decoder and all that turns rows into texts.

    Attributes:
        model: The encoder-decoder.
        tokenizer: Its vocabulary.
        tasks: The tasks in order.
        max_tokens: Longer sources and targets lose their end.
        decoding: How it looks for targets where nobody says otherwise.
    """

    model: SequenceModel
    tokenizer: PieceTokenizer
    tasks: dict[str, TaskHead]
    max_tokens: int
    decoding: Decoding = field(default_factory=Decoding)

    @property
    def task_token(self) -> bool:
        """A token stands before each source: no two tasks share a pass."""
        return True

    @property
    def n_parameters(self) -> int:
        """Parameters, the table of pieces counted once."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def shape(self) -> str:
        """What networks that take the same time have in common."""
        config = self.model.config
        layers = f"{config.encoder_layers} + {config.decoder_layers} layers"
        width = f"width {config.d_model}, {self.max_tokens} tokens"
        return f"{layers}, {width}, {self.n_parameters}, {self.decoding}"

    def tokenise(self, task: str, inputs: Columns) -> TokenRows:
        """Sources as this network reads them."""
        head = self.tasks[task]
        return head.inputs.tokenise(
            inputs, self.tokenizer, max_tokens=self.max_tokens, task=head.kind.token
        )

    def tokenise_targets(self, texts: Sequence[str]) -> TokenRows:
        """Targets as this network says them, each with its end unless it was cut."""
        return self.tokenizer.encode(texts, None, max_tokens=self.max_tokens, close=False)

    def passes(self, tasks: Sequence[str]) -> list[tuple[str, ...]]:
        """Each task has its own pass: its sources begin with its own token."""
        return [(task,) for task in tasks]

    def texts(
        self,
        tokens: TokenRows,
        device: Device,
        *,
        decoding: Decoding | None = None,
        done: Callable[[int], object] | None = None,
        partners: Sequence[SequenceNetwork] = (),
    ) -> np.ndarray:
        """(N,) what it says to tokenised sources, as numpy's strings.

        Args:
            tokens: The sources.
            device: Where.
            decoding: Instead of the network's own, but for its ``longest``.
            done: Called after each batch with the rows that it ends; it may raise to stop.
            partners: Networks of the same vocabulary that decide with this one.
        """
        how = decoding or self.decoding
        models = [self.model, *(partner.model for partner in partners)]
        modes = [model.training for model in models]
        for model in models:
            model.to(device.torch).eval()
        found: list[str] = [""] * len(tokens)
        lengths = tokens.lengths
        widths = padded_lengths(lengths, self.model.max_tokens)
        for rows in token_batches(widths, max(_BUDGET_TOKENS // how.beams, 1)):
            ids, mask = padded(self, tokens, rows, device)
            with device.autocast():
                pieces = generate(
                    models,
                    ids,
                    mask,
                    beams=how.beams,
                    length_penalty=how.length_penalty,
                    most=[
                        most_pieces(int(n), self.max_tokens, self.decoding.longest)
                        for n in lengths[rows]
                    ],
                )
            for row, text in zip(rows, self.tokenizer.decode(pieces), strict=True):
                found[int(row)] = text
            if done is not None:
                done(len(rows))
        for model, mode in zip(models, modes, strict=True):
            model.train(mode)
        return as_texts(found)

    def kept_pieces(
        self,
        sources: TokenRows,
        targets: TokenRows,
        device: Device,
        *,
        done: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        """What it thinks of each place of given targets: the likeliest pieces.

        Args:
            sources: N sources.
            targets: N targets, each with its end: S places.
            device: Where.
            done: As in :meth:`texts`.

        Returns:
            (S, 2 K) fp32: K log-probabilities, likeliest first, and the pieces' numbers.
        """
        self.model.to(device.torch).eval()
        found = np.empty((len(targets.ids), 2 * N_KEPT), np.float32)
        longest = padded_lengths(np.maximum(sources.lengths, targets.lengths))
        with torch.inference_mode():
            for rows in token_batches(longest, _BUDGET_TOKENS // 2):
                with device.autocast():
                    logits = self.model(*forced(self, sources, targets, rows, device))
                top = logits.float().log_softmax(-1).topk(N_KEPT, dim=-1)
                places = np.concatenate(
                    [np.arange(targets.offsets[r], targets.offsets[r + 1]) for r in rows]
                )
                found[places, :N_KEPT] = top.values.cpu().numpy()
                found[places, N_KEPT:] = top.indices.cpu().numpy()
                if done is not None:
                    done(len(rows))
        return found


def as_texts(texts: Sequence[str]) -> np.ndarray:
    """(N,) strings of numpy's own, which take no object a text."""
    return np.array(texts, np.dtypes.StringDType())


def padded(
    network: SequenceNetwork, tokens: TokenRows, rows: np.ndarray, device: Device
) -> tuple[Tensor, Tensor]:
    """Ids (B, T) and mask of some rows, padded to one of few lengths."""
    width = int(padded_lengths(tokens.lengths[rows], network.model.max_tokens).max())
    ids, mask, _ = tokens.pad(rows, network.tokenizer.padding, width)
    return torch.from_numpy(ids).to(device.torch), torch.from_numpy(mask).to(device.torch)


def forced(
    network: SequenceNetwork,
    sources: TokenRows,
    targets: TokenRows,
    rows: np.ndarray,
    device: Device,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What :meth:`SequenceModel.forward` takes for some rows, their targets given."""
    ids, mask = padded(network, sources, rows, device)
    said, places = padded(network, targets, rows, device)
    before = torch.cat([torch.full_like(said[:, :1], network.tokenizer.padding), said[:, :-1]], 1)
    return ids, mask, before, places


def new_sequence_network(
    base: str,
    tasks: Mapping[str, TaskHead],
    *,
    seed: int,
    max_tokens: int,
    layers: int | None = None,
    dropout: float | None = None,
) -> SequenceNetwork:
    """A network on a base: its weights, or fresh ones where the base holds sizes only.

    Args:
        base: A folder with ``config.json`` and ``tokenizer.json``; one of a student; with
            ``model.safetensors`` its weights are taken.
        tasks: What it will answer.
        seed: Decides fresh weights.
        max_tokens: Limit of source and target; lowered to what the base has places for.
        layers: Of encoder and of decoder: fresh ones have so many, others keep so many.
        dropout: None keeps the base's own.

    Raises:
        BaseModelError: The base is missing or unfit, or lacks a task's token.
    """
    folder = model_folder(base)
    tokenizer = load_pieces(folder)
    need_tokens(tokenizer, {name: head.kind for name, head in tasks.items()}, base)
    load = load_model if any(folder.glob("*.safetensors")) else None
    model = (
        load(folder, layers=layers, dropout=dropout)
        if load is not None
        else fresh_model(folder, seed=seed, layers=layers, dropout=dropout)
    )
    if tokenizer.padding >= MOST_PIECES:
        raise BaseModelError(
            f"base folder {folder}",
            got=f"a vocabulary of {tokenizer.padding + 1:,} pieces",
            wanted=f"at most {MOST_PIECES:,}: the store keeps their numbers in 16 bits",
            todo="choose another base",
        )
    if model.config.vocab_size != tokenizer.padding + 1:
        raise BaseModelError(
            f"base folder {folder}",
            got=f"a vocabulary of {tokenizer.padding + 1} pieces for a model of "
            f"{model.config.vocab_size}",
            wanted="the same number",
            todo="copy the folder anew, or choose another base",
        )
    return SequenceNetwork(
        model=model,
        tokenizer=tokenizer,
        tasks=dict(tasks),
        max_tokens=min(max_tokens, model.max_tokens),
    )


def model_folder(base: str) -> Path:
    """Where a base has its model: a student keeps it a floor down."""
    folder = Path(base)
    return folder / "encoder" if (folder / STUDENT_FILE).is_file() else folder


def need_tokens(tokenizer: PieceTokenizer, kinds: Mapping[str, Kind], base: str) -> None:
    """Refuse a vocabulary that lacks the token of a task.

    Raises:
        BaseModelError: It does.
    """
    for name, kind in kinds.items():
        if kind.token not in tokenizer.languages:
            known = ", ".join(tokenizer.languages) or "none"
            raise BaseModelError(
                f"task '{name}', base {base}",
                got=f"a vocabulary without the token {kind.token}",
                wanted=f"one of its tokens ({known})",
                todo="set the task's `language:` (or `token:`) to one of them, or start from "
                "nothing with `base: marian`",
            )


def save_sequence_network(network: SequenceNetwork, folder: Path, version: int) -> None:
    """Write a network's files; the caller seals the folder."""
    save_model(network.model, folder / "encoder")
    network.tokenizer.save(folder / "encoder")
    write_json(
        folder / STUDENT_FILE,
        {
            "format": "potstill network",
            "version": version,
            "family": FAMILY,
            "max_tokens": network.max_tokens,
            "decoding": asdict(network.decoding),
            "tasks": heads_to_json(network.tasks),
        },
    )


def note_decoding(folder: Path, decoding: Decoding) -> None:
    """Write into a network's folder how it looks for texts; its training does not depend on it."""
    facts = read_json(folder / STUDENT_FILE)
    own = replace(decoding, longest=int(facts["decoding"]["longest"]))
    write_json(folder / STUDENT_FILE, {**facts, "decoding": asdict(own)})


def load_sequence_network(folder: Path, facts: Mapping[str, Any]) -> SequenceNetwork:
    """Read what :func:`save_sequence_network` wrote; ``facts`` are those of ``student.json``."""
    weights = folder / "encoder" / "model.safetensors"
    check_safetensors(weights)
    model = build_model(folder / "encoder" / "config.json")
    model.load_state_dict(safetensors.torch.load_file(weights))
    return SequenceNetwork(
        model=model.eval(),
        tokenizer=load_pieces(folder / "encoder"),
        tasks=heads_from_json(facts["tasks"]),
        max_tokens=int(facts["max_tokens"]),
        decoding=Decoding(**facts["decoding"]),
    )
