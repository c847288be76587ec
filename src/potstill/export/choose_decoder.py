"""Which engine serves an encoder-decoder best: measured on this machine, on its dev rows.

As ``choose.py`` does it for encoders: the fastest engine wins whose score of every task drops by at
most ``max_drop`` below the student's own in fp32. An fp32 engine is held to the texts that it finds
without a search: they must be the student's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np

from potstill.core.progress import Progress
from potstill.export.choose import FP32, Candidate, fastest, lost_too_much, scores_of
from potstill.export.decoders import DECODERS, Decoder, open_decoder
from potstill.models.pieces import GREEDY, Decoding
from potstill.models.token_rows import TokenRows, join_rows
from potstill.tasks.task import Split
from potstill.training.sequence_network import SequenceNetwork

MOST_ROWS = 300  # of a task: a search over thousands of texts in fp32 takes minutes
MOST_DIFFERENT = 0.02  # of the texts: where two pieces are as likely, rounding decides
_ROUNDS = 5
_TIMED = 16  # texts


def choose_decoder(
    network: SequenceNetwork,
    files: Mapping[str, Mapping[str, bytes]],
    splits: Mapping[str, Split],
    *,
    max_drop: float,
    threads: int,
    progress: Progress,
) -> tuple[str, list[Candidate], dict[str, float]]:
    """Measure engines, and choose one.

    Args:
        network: The student.
        files: Engine, a key of ``DECODERS``, to its files.
        splits: Task to its dev rows, of which some hundreds are used; without any, only engines
            that compute in fp32 may win.
        max_drop: Largest loss of a task's score.
        threads: Of each engine.
        progress: A bar.

    Returns:
        The chosen engine, all candidates in the order of ``files``, and the student's own scores
        on the rows that were used.

    Raises:
        ArtefactError: The fp32 engine does not say what the student says, or no engine keeps the
            scores.
    """
    engines = {
        name: open_decoder(
            name,
            own,
            network.tokenizer,
            decoding=network.decoding,
            max_tokens=network.max_tokens,
            threads=threads,
        )
        for name, own in files.items()
    }
    splits = {task: some_rows(split) for task, split in splits.items()}
    sources = _sources(network, splits)
    n_rows = sum(map(len, sources.values()))
    # Each row twice: by the student's own way of looking, and without a search.
    with progress.bar("measuring engines", _ROUNDS + 2 * n_rows * (1 + len(engines))) as bar:

        def done(n: int) -> None:
            progress.stop.check("measuring engines")
            bar.advance(n)

        ms = measure(engines, join_rows(_timed(sources)), done=lambda: done(1))
        own = _texts(network, sources, network.decoding, done)
        own_greedy = _texts(network, sources, GREEDY, done)
        own_scores = scores_of(network.tasks, splits, own)
        candidates = []
        for name, engine in engines.items():
            found = _texts(engine, sources, network.decoding, done)
            greedy = _texts(engine, sources, GREEDY, done)
            scores = scores_of(network.tasks, splits, found)
            drops = {task: own_scores[task] - score for task, score in scores.items()}
            apart = sum(int((greedy[t] != own_greedy[t]).sum()) for t in sources) / n_rows
            candidates.append(
                Candidate(
                    engine=name,
                    size_bytes=sum(map(len, files[name].values())),
                    ms=ms[name],
                    scores=scores,
                    drops=drops,
                    difference=apart,
                    refused=_refusal(name, drops, apart, max_drop, bool(splits)),
                )
            )
    return fastest(candidates), candidates, own_scores


def some_rows(split: Split) -> Split:
    """``MOST_ROWS`` rows of a split, evenly spaced; all of them where there are no more."""
    if len(split) <= MOST_ROWS:
        return split
    return split.take(np.linspace(0, len(split) - 1, MOST_ROWS).astype(np.int64))


def measure(
    engines: Mapping[str, Decoder], tokens: TokenRows, done: Callable[[], object]
) -> dict[str, dict[str, float]]:
    """Milliseconds of a text, when texts come one by one and when all come at once.

    The engines take turns in each round, so that what else the machine does falls on all; kept is
    the median of the rounds. ``done`` is called after each round.
    """
    n = len(tokens)
    alone = [join_rows([(tokens, np.array([i]))]) for i in range(n)]
    ways = {"1": alone, str(n): [tokens]} if n > 1 else {"1": alone}
    times: dict[str, dict[str, list[float]]] = {name: {w: [] for w in ways} for name in engines}
    for engine in engines.values():
        engine.texts(tokens)  # the first call prepares what later ones use
    for _ in range(_ROUNDS):
        for way, parts in ways.items():
            for name, engine in engines.items():
                start = time.perf_counter()
                for part in parts:
                    engine.texts(part)
                times[name][way].append(1000 * (time.perf_counter() - start) / n)
        done()
    return {name: {w: statistics.median(v) for w, v in ms.items()} for name, ms in times.items()}


def _sources(network: SequenceNetwork, splits: Mapping[str, Split]) -> dict[str, TokenRows]:
    """Dev rows of each task, tokenised; without any, one made-up row a task."""
    if splits:
        return {task: network.tokenise(task, split.inputs) for task, split in splits.items()}
    return {
        task: network.tokenise(task, {column: ["one two three"] for column in head.inputs.columns})
        for task, head in network.tasks.items()
    }


def _texts(
    speaker: SequenceNetwork | Decoder,
    sources: Mapping[str, TokenRows],
    how: Decoding,
    done: Callable[[int], object],
) -> dict[str, np.ndarray]:
    """What the student, or an engine with its weights, says to the sources of each task."""
    if isinstance(speaker, Decoder):
        return {t: speaker.texts(rows, decoding=how, done=done) for t, rows in sources.items()}
    return {t: speaker.texts(rows, FP32, decoding=how, done=done) for t, rows in sources.items()}


def _timed(sources: Mapping[str, TokenRows]) -> list[tuple[TokenRows, np.ndarray]]:
    """The texts that are timed: of all tasks about as many."""
    each = max(_TIMED // len(sources), 1)
    return [
        (tokens, np.linspace(0, len(tokens) - 1, min(each, len(tokens))).astype(np.int64))
        for tokens in list(sources.values())[:_TIMED]
    ]


def _refusal(
    name: str, drops: Mapping[str, float], apart: float, max_drop: float, scored: bool
) -> str | None:
    if not DECODERS[name].exact:
        return lost_too_much(drops, max_drop, scored)
    if apart > MOST_DIFFERENT:
        return f"{apart:.1%} of its texts are not the student's"
    return None
