"""What runs an encoder-decoder without torch: CTranslate2, on the CPU, in fp32, bf16 or int8.

``to_ctranslate.py`` makes the files. CTranslate2 knows pieces by their names, we by their numbers:
the padding token has no number there, since its decoder starts from a zero vector anyway.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from potstill.core.errors import ResourceError
from potstill.models.pieces import END, most_pieces
from potstill.models.token_rows import TokenRows

MODULE = "ctranslate2"
VOCABULARY_FILE = "shared_vocabulary.json"
FILES = ("config.json", "model.bin", VOCABULARY_FILE)
"""The files of a model: a folder of them is a model to CTranslate2 itself."""

COMPUTE_TYPES: Mapping[str, str] = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}
"""Number formats of a model, by our names for them."""

_CHUNK_ROWS = 512
_BATCH_TOKENS = 1024  # padded source tokens, beams not counted: more no longer fit a cache


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PieceTranslator:
    """A model, loaded and ready.

    Attributes:
        engine: CTranslate2's own translator.
        names: Names of the pieces in order of their numbers, without the padding token.
        numbers: The inverse.
    """

    engine: Any
    names: Sequence[str]
    numbers: Mapping[str, int]

    def translate(
        self,
        tokens: TokenRows,
        *,
        beams: int,
        length_penalty: float,
        max_tokens: int,
        longest: int = 0,
        done: Callable[[int], object] | None = None,
    ) -> list[list[int]]:
        """The best targets that a search finds.

        Args:
            tokens: N sources, each with the token before it and its end.
            beams: Open hypotheses of a source; 1 is greedy.
            length_penalty: Power of the length that a hypothesis' log-probability is divided by.
            max_tokens: Pieces of the longest target.
            longest: As of :class:`Decoding`.
            done: Called after each chunk of some hundred rows with the number of its rows; it may
                raise to stop.

        Returns:
            For each source its pieces' numbers, without the end.
        """
        found: list[list[int]] = [[] for _ in range(len(tokens))]
        limits = np.array([most_pieces(int(n), max_tokens, longest) for n in tokens.lengths], int)
        order = np.argsort(-tokens.lengths, kind="stable")  # what is long is said together
        # All of a call have one limit, each its own: no answer depends on its neighbours.
        ends = np.flatnonzero(np.diff(limits[order])) + 1
        for same in np.split(order, ends):
            for rows in np.split(same, np.arange(_CHUNK_ROWS, len(same), _CHUNK_ROWS)):
                if not len(rows):
                    continue
                said = self._chunk(tokens, rows, beams, length_penalty, int(limits[rows[0]]))
                for row, pieces in zip(rows, said, strict=True):
                    found[row] = pieces
                if done is not None:
                    done(len(rows))
        return found

    def _chunk(
        self,
        tokens: TokenRows,
        rows: np.ndarray,
        beams: int,
        length_penalty: float,
        most: int,
    ) -> list[list[int]]:
        names, numbers = self.names, self.numbers
        bounds = tokens.offsets
        sources = [[names[i] for i in tokens.ids[bounds[r] : bounds[r + 1]]] for r in rows]
        results = self.engine.translate_batch(
            sources,
            beam_size=beams,
            length_penalty=length_penalty,
            max_batch_size=_BATCH_TOKENS,
            batch_type="tokens",
            max_input_length=0,  # 1,024 unless told: sources were cut already
            max_decoding_length=most,
            disable_unk=True,
            min_decoding_length=0,  # 1 unless told: our own search may end at once
        )
        return [[numbers[name] for name in result.hypotheses[0]] for result in results]


def open_translator(
    files: Mapping[str, bytes], *, threads: int, compute_type: str = "fp32"
) -> PieceTranslator:
    """Load a model from memory.

    Args:
        files: Name to content of ``FILES``.
        threads: Of one call.
        compute_type: A key of ``COMPUTE_TYPES``.

    Raises:
        ResourceError: CTranslate2 is not installed.
        ValueError: The files are no model, or this machine cannot compute in that format.
        RuntimeError: Likewise.
    """
    ctranslate2 = need_ctranslate()
    names = json.loads(files[VOCABULARY_FILE])
    if not isinstance(names, list) or names[END : END + 1] != ["</s>"]:
        raise ValueError(f"{VOCABULARY_FILE} is no list of pieces that begins with the end's")
    engine = ctranslate2.Translator(
        "model",
        device="cpu",
        compute_type=COMPUTE_TYPES[compute_type],
        inter_threads=1,
        intra_threads=threads,
        files={name: files[name] for name in FILES},  # nothing else: no map of words to words
    )
    return PieceTranslator(engine=engine, names=names, numbers={n: i for i, n in enumerate(names)})


def compute_types_here() -> list[str]:
    """The keys of ``COMPUTE_TYPES`` that this machine computes in, not only emulates.

    Raises:
        ResourceError: CTranslate2 is not installed.
    """
    there = need_ctranslate().get_supported_compute_types("cpu")
    return [name for name, theirs in COMPUTE_TYPES.items() if theirs in there]


def need_ctranslate() -> Any:
    """The package.

    Raises:
        ResourceError: It is not installed.
    """
    try:
        import ctranslate2  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise ResourceError(
            "encoder-decoder without torch",
            got=f"a package is missing ({error})",
            wanted="ctranslate2",
            todo="pip install 'potstill[translation]'",
        ) from error
    ctranslate2.set_log_level(logging.ERROR)
    return ctranslate2
