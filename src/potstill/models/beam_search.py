"""What encoder-decoders say: a beam search, by one model or by several together.

Shapes: B rows, T source tokens, V pieces without the padding token. Knows tensors only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import LongTensor, Tensor
from transformers import DynamicCache, EncoderDecoderCache

from potstill.models.pieces import END, UNKNOWN
from potstill.models.sequence import SequenceModel


@torch.inference_mode()
def generate(
    models: Sequence[SequenceModel],
    ids: Tensor,
    mask: Tensor,
    *,
    beams: int,
    length_penalty: float,
    most: int | Sequence[int],
) -> list[list[int]]:
    """The best target that a beam search finds for each source.

    Several models say one target together: at each place the mean of their probabilities.

    A hypothesis that ended counts with its log-probability over its length to the power of
    ``length_penalty``; a source is done when as many have ended as there are beams. (To stop where
    no open one stands better than the best that ended is too early: an open one may still gain.)

    Args:
        models: One or more, of the same pieces, in evaluation mode.
        ids: (B, T) sources.
        mask: (B, T) true where they are not padding.
        beams: Open hypotheses of a source; 1 is greedy.
        length_penalty: 0 prefers short targets, 1 is the mean over pieces.
        most: Pieces of the longest target, its end included; one number, or one a source.

    Returns:
        For each source its pieces, without the end.
    """
    n_rows, device = len(ids), ids.device
    encoded = [model.encode(ids, mask).repeat_interleave(beams, 0) for model in models]
    wide_mask = mask.repeat_interleave(beams, 0)
    caches = [EncoderDecoderCache(DynamicCache(), DynamicCache()) for _ in models]
    rows = torch.arange(n_rows, device=device)  # which source each group of beams is of
    scores = torch.full((n_rows, beams), -torch.inf, device=device)
    scores[:, 0] = 0
    said = torch.empty((n_rows, beams, 0), dtype=torch.long, device=device)
    last = torch.full((n_rows * beams, 1), models[0].start, dtype=torch.long, device=device)
    best = torch.full((n_rows,), -torch.inf, device=device)
    n_ended = torch.zeros(n_rows, dtype=torch.long, device=device)
    found: list[list[int]] = [[] for _ in range(n_rows)]
    n_pieces = models[0].n_pieces
    # Each source its own limit, not that of the longest: no target depends on its neighbours.
    longest = most if isinstance(most, int) else max(most)
    limits = torch.tensor([most] * n_rows if isinstance(most, int) else most, device=device)
    for length in range(1, longest + 1):
        steps = []
        for model, features, cache in zip(models, encoded, caches, strict=True):
            hidden = model.backbone.model.decoder(
                input_ids=last,
                encoder_hidden_states=features,
                encoder_attention_mask=wide_mask,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
            logits = model.logits(hidden).float()
            logits[:, UNKNOWN] = -torch.inf  # no text says it
            steps.append(logits.log_softmax(-1))
        step = (
            steps[0] if len(steps) == 1 else torch.stack(steps).logsumexp(0) - math.log(len(steps))
        )
        totals = (scores.unsqueeze(-1) + step.view(len(rows), beams, -1)).flatten(1)
        top, places = totals.topk(2 * beams, dim=1)  # at most half of them end
        beam, piece = places // n_pieces, places % n_pieces
        last_chance = limits[rows] == length
        ends = (piece == END) | last_chance.unsqueeze(1)
        measure = length**length_penalty
        # Only an end among the first `beams` counts: with one beam that is the greedy choice.
        ended = torch.where(ends, top, -torch.inf)[:, :beams] / measure
        top_end, at = ended.max(1)
        for i in torch.nonzero(top_end > best[rows]).flatten().tolist():
            row, place = int(rows[i]), int(at[i])
            best[row] = top_end[i]
            pieces = said[i, int(beam[i, place])].tolist()
            closing = int(piece[i, place])
            found[row] = pieces if closing == END else [*pieces, closing]
        if length == longest:
            break
        open_first = torch.where(ends, -torch.inf, top).topk(beams, dim=1)
        scores, chosen = open_first.values, open_first.indices
        beam, piece = beam.gather(1, chosen), piece.gather(1, chosen)
        n_ended[rows] += torch.isfinite(ended).sum(1)
        going = (n_ended[rows] < beams) & ~last_chance
        if not going.any():
            break
        keep = going.nonzero().flatten()
        base = keep.unsqueeze(1) * beams
        flat = (base + beam[keep]).flatten()
        said = torch.cat(
            [
                said[keep.unsqueeze(1), beam[keep]],
                piece[keep].unsqueeze(-1),
            ],
            -1,
        )
        last = piece[keep].reshape(-1, 1)
        scores = scores[keep]
        shrunk = len(keep) < len(rows)
        rows = rows[keep]
        for cache in caches:
            if beams > 1 or shrunk:
                cache.self_attention_cache.reorder_cache(cast("LongTensor", flat))
        if shrunk:
            own = (base + torch.arange(beams, device=device)).flatten()
            wide_mask = wide_mask[own]
            encoded = [features[own] for features in encoded]
            for cache in caches:
                cache.cross_attention_cache.reorder_cache(cast("LongTensor", own))
    return found
