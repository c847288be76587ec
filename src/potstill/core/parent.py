"""A process that ends with its parent. Imports nothing heavy."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

SECONDS_TO_SAVE = 10.0
"""The longest that a process which is told to stop may take."""

_WATCH_SECONDS = 0.5


class Tie:
    """What binds this process to its parent.

    Args:
        parent: The parent's process id.
        leave: Called once the parent is gone, in a thread; returns for how many seconds this
            process may still live. None: to save, where it is at work, else for none.

    Attributes:
        at_work: There is something to save, and what does it looks for the parent itself.
    """

    def __init__(self, parent: int, leave: Callable[[], float] | None = None) -> None:
        self.at_work = False
        watched = (parent, leave or self._to_save)
        threading.Thread(target=self._watch, args=watched, daemon=True).start()

    def _to_save(self) -> float:
        return SECONDS_TO_SAVE if self.at_work else 0.0

    def _watch(self, parent: int, leave: Callable[[], float]) -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        time.sleep(leave())
        os._exit(1)
