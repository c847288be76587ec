"""The first lines of a worker process: it ends with its parent, even while it still starts up.

Imports nothing heavy: torch takes seconds, in which the parent may go.
"""

from __future__ import annotations

import signal
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler

from potstill.core.parent import Tie


def begin(parent: int, pipe: Connection, asked: bytes) -> None:
    """Work for the parent; ``asked`` are the last arguments of ``worker.work``, pickled."""
    tie = Tie(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    from potstill.pipeline.worker import work  # noqa: PLC0415 (torch: seconds)

    work(tie, pipe, *ForkingPickler.loads(asked))
