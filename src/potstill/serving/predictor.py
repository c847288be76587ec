"""The predictor: a bundle that answers rows, with the same ``predict`` as the student itself.

Needs no torch. Rows are tokenised, texts that occur more than once are encoded once, batches hold
texts of similar lengths, and one pass gives every task's outputs. Of an encoder-decoder outputs are
texts, and each task has its own sources: a token before them says which task, so all tasks may be
taken to say the same text to a source, and only the one whose token it has is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tokenizers

from potstill.core.errors import ArtefactError, BaseModelError
from potstill.export.bundle import Bundle, read_bundle
from potstill.export.decoders import Decoder, open_decoder
from potstill.export.engines import BUDGET_TOKENS, Engine, open_engine
from potstill.models.pieces import PieceTokenizer, pieces_of
from potstill.models.token_rows import TokenRows, distinct_rows, join_rows
from potstill.models.tokenizer import TextTokenizer
from potstill.tasks.inputs import Columns
from potstill.tasks.predictor import (
    Predictor,
    TaskHead,
    leader,
    lost_ends,
    of_rows,
    slots_at_last,
)

_BATCH_TOKENS_SAID = 512  # of sources: each takes a search, and nobody is answered before its end


class BundlePredictor(Predictor):
    """A loaded bundle.

    Args:
        bundle: The bundle; its files are not kept.
        threads: Threads of one call; None takes the cores that this process may use.
        engine: Another engine than the one that was chosen.
    """

    def __init__(
        self, bundle: Bundle, *, threads: int | None = None, engine: str | None = None
    ) -> None:
        self.name = bundle.name
        self.digest = bundle.digest
        self.engine_name = engine or bundle.engine
        self._max_tokens = bundle.max_tokens
        self._heads = dict(bundle.heads)
        self._place = {task: i for i, task in enumerate(bundle.heads)}
        self._at_last = slots_at_last(bundle.heads)
        self._task_token = bundle.task_token
        self._padding = bundle.padding
        try:
            backend = tokenizers.Tokenizer.from_str(bundle.tokenizer)
        except Exception as error:  # the Rust library raises plain Exception
            raise ArtefactError(
                f"tokenizer of bundle '{bundle.name}'",
                got=f"it cannot be read: {str(error).splitlines()[0]:.200}",
                wanted="tokenizer.json as an export writes it",
                todo="export the student again",
            ) from error
        self._engine: Engine | Decoder
        if bundle.decoding is None:
            self._tokenizer = TextTokenizer(backend, bundle.padding)
            self._engine = open_engine(self.engine_name, bundle.graph, threads=threads)
            return
        self._tokenizer = pieces = _pieces(backend, bundle)
        self._engine = open_decoder(
            self.engine_name,
            bundle.files,
            pieces,
            decoding=bundle.decoding,
            max_tokens=bundle.max_tokens,
            threads=threads,
        )

    @classmethod
    def load(
        cls, path: str | Path, *, threads: int | None = None, engine: str | None = None
    ) -> BundlePredictor:
        """Load a bundle from its folder or zip file, after checking every byte.

        Raises:
            ArtefactError: No bundle is there, or a file of it is damaged.
            ResourceError: The bundle's engine is not installed.
        """
        return cls(read_bundle(Path(path)), threads=threads, engine=engine)

    @property
    def heads(self) -> Mapping[str, TaskHead]:
        return self._heads

    @property
    def task_token(self) -> bool:
        return self._task_token

    @property
    def max_tokens(self) -> int:
        return self._max_tokens

    @property
    def batch_tokens(self) -> int:
        """Tokens of a service's batch: what is answered in well under a second."""
        return _BATCH_TOKENS_SAID if isinstance(self._engine, Decoder) else BUDGET_TOKENS

    def tokenise(self, task: str, inputs: Columns) -> TokenRows:
        """Token ids of rows of a task."""
        head = self._heads[task]
        return head.inputs.tokenise(
            inputs,
            self._tokenizer,
            max_tokens=self._max_tokens,
            task=head.kind.token or (task if self._task_token else None),
        )

    def n_tokens(self, text: str) -> int:
        """Tokens of a text, however many."""
        return self._tokenizer.count(text)

    def outputs(
        self, tasks: Sequence[str], inputs: Columns
    ) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        tokens = self.tokenise(leader(self._heads, tasks), inputs)
        kept, place = distinct_rows(tokens)
        once = self.run(join_rows([(tokens, kept)]))
        found = {task: of_rows(once[self._place[task]][place], tokens.bounds) for task in tasks}
        return found, lost_ends(self._heads, tasks, tokens)

    def run(self, tokens: TokenRows) -> list[np.ndarray]:
        """Every task's outputs for R tokenised texts, each encoded; see ``Engine.outputs``.

        Of an encoder-decoder (R,) texts.
        """
        if isinstance(self._engine, Decoder):
            return [self._engine.texts(tokens)] * len(self._heads)
        return self._engine.outputs(tokens, self._padding, at_last=self._at_last)

    def sample(self, n_tokens: int) -> TokenRows:
        """Made-up rows of about so many tokens, no two alike: to warm up, and to measure."""
        task, head = next(iter(self._heads.items()))
        texts = [f"{i} texts to begin with, {i * i}" for i in range(max(n_tokens // 16, 1))]
        values = [head.inputs.value(text) for text in texts]
        return self.tokenise(task, dict.fromkeys(head.inputs.columns, values))


def _pieces(backend: tokenizers.Tokenizer, bundle: Bundle) -> PieceTokenizer:
    """The vocabulary of an encoder-decoder, with a token for each task.

    Raises:
        ArtefactError: It is none, or a task's token is missing.
    """
    thing = f"tokenizer of bundle '{bundle.name}'"
    try:
        pieces = pieces_of(backend, thing)
    except BaseModelError as error:
        raise ArtefactError(
            thing, got=error.got, wanted=error.wanted, todo="export the student again"
        ) from None
    for task, head in bundle.heads.items():
        if head.kind.token not in pieces.languages:
            raise ArtefactError(
                thing,
                got=f"no token {head.kind.token}, which stands before the sources of task '{task}'",
                wanted="the token of every task",
                todo="export the student again",
            )
    return pieces
