"""Engines of encoder-decoders: tokenised sources in, texts out. Needs no torch.

CTranslate2 is the only one, in several number formats; a new one is an entry in ``DECODERS``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from potstill.core.errors import ArtefactError, ResourceError
from potstill.export.engines import n_cores, unknown_engine
from potstill.models.ctranslate import MODULE, PieceTranslator, compute_types_here, open_translator
from potstill.models.pieces import Decoding, PieceTokenizer
from potstill.models.token_rows import TokenRows


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderKind:
    """An engine that an export can choose.

    Attributes:
        compute_type: Number format, a key of ``models.ctranslate.COMPUTE_TYPES``.
        exact: It computes in fp32, so it may be chosen without rows to score.
    """

    compute_type: str
    exact: bool = False


DECODERS: Mapping[str, DecoderKind] = {
    "ctranslate2-fp32": DecoderKind(compute_type="fp32", exact=True),
    "ctranslate2-bf16": DecoderKind(compute_type="bf16"),
    "ctranslate2-int8": DecoderKind(compute_type="int8"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoder:
    """An encoder-decoder, loaded and ready.

    Attributes:
        translator: What runs it.
        tokenizer: Its vocabulary.
        decoding: How it looks for texts.
        max_tokens: Pieces of the longest text.
    """

    translator: PieceTranslator
    tokenizer: PieceTokenizer
    decoding: Decoding
    max_tokens: int

    def texts(
        self,
        tokens: TokenRows,
        *,
        decoding: Decoding | None = None,
        done: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        """(N,) what it says to N tokenised sources, as numpy's strings.

        Args:
            tokens: The sources, each with its token before it.
            decoding: Instead of its own.
            done: Called after each chunk with its rows; it may raise to stop.
        """
        how = decoding or self.decoding
        pieces = self.translator.translate(
            tokens,
            beams=how.beams,
            length_penalty=how.length_penalty,
            max_tokens=self.max_tokens,
            longest=self.decoding.longest,
            done=done,
        )
        return np.array(self.tokenizer.decode(pieces), np.dtypes.StringDType())


def open_decoder(
    name: str,
    files: Mapping[str, bytes],
    tokenizer: PieceTokenizer,
    *,
    decoding: Decoding,
    max_tokens: int,
    threads: int | None = None,
) -> Decoder:
    """Load an encoder-decoder.

    Args:
        name: A key of ``DECODERS``.
        files: Name to content of its files.
        tokenizer: Its vocabulary.
        decoding: How it looks for texts.
        max_tokens: Pieces of the longest text.
        threads: Threads of one call; None takes the cores that this process may use.

    Raises:
        ResourceError: The engine's package is not installed.
        ArtefactError: The engine is unknown, or refuses the files; or they are of another
            vocabulary.
    """
    kind = need_decoder(name)
    try:
        translator = open_translator(
            files, threads=threads or n_cores(), compute_type=kind.compute_type
        )
    except Exception as error:  # what a damaged model raises is up to the engine
        raise _fault(
            name, f"it cannot load the model: {str(error).strip().splitlines()[0]:.300}"
        ) from error
    if list(translator.names) != tokenizer.pieces[:-1]:
        raise _fault(name, "a model of other pieces than those of tokenizer.json")
    return Decoder(
        translator=translator, tokenizer=tokenizer, decoding=decoding, max_tokens=max_tokens
    )


def decoders_here() -> list[str]:
    """The engines that this machine can run: none where the package is not installed."""
    if importlib.util.find_spec(MODULE) is None:
        return []
    here = compute_types_here()
    return [name for name, kind in DECODERS.items() if kind.compute_type in here]


def need_decoder(name: str) -> DecoderKind:
    """An engine that this machine can run.

    Raises:
        ResourceError: Its package is not installed, or this processor lacks its format.
        ArtefactError: It is unknown.
    """
    kind = DECODERS.get(name)
    if kind is None:
        raise unknown_engine(name, DECODERS)
    if importlib.util.find_spec(MODULE) is None:
        raise ResourceError(
            f"engine '{name}'",
            got=f"no package {MODULE}",
            wanted=f"{MODULE}, which runs encoder-decoders",
            todo=f"pip install {MODULE}; with all that training needs: "
            "pip install 'potstill[translation]'",
        )
    # Only this one is looked for: the others are computed everywhere.
    if kind.compute_type == "bf16" and kind.compute_type not in compute_types_here():
        raise ResourceError(
            f"engine '{name}'",
            got="a processor that does not multiply bf16",
            wanted="one that does, as where the student was exported",
            todo="export the student here, or with --engines ctranslate2-int8",
        )
    return kind


def _fault(name: str, got: str) -> ArtefactError:
    return ArtefactError(
        f"engine '{name}'",
        got=got,
        wanted="a model that an export wrote",
        todo="export the student again",
    )
