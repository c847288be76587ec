"""The first lines of a worker process: it ends with its parent, even while it still starts up.

Imports nothing heavy: torch takes seconds, in which the parent may go.
"""

from __future__ import annotations

import signal
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler

from potstill.core.errors import DataError
from potstill.core.parent import Tie


def begin(parent: int, pipe: Connection, asked: bytes) -> None:
    """Work for the parent; ``asked`` are the last arguments of ``worker.work``, pickled."""
    tie = Tie(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    from potstill.pipeline.worker import Done, work  # noqa: PLC0415 (torch: seconds)

    try:
        arguments = ForkingPickler.loads(asked)
    except Exception as error:  # noqa: BLE001 (it runs code of the objects' own)
        pipe.send(Done(unreadable(error)))
        return
    work(tie, pipe, *arguments)


def unreadable(error: Exception) -> DataError:
    """Rows that cannot be sent to another process, or not be made again there."""
    return DataError(
        "rows given in Python",
        got=f"an object that no other process can load ({type(error).__name__}: {error})",
        wanted="with jobs=2 or more: plain values, or classes of a module that can be imported",
        todo="give str(...), int(...) or float(...) of them, or jobs=1",
    )
