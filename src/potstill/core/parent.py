"""A process that ends with its parent. Imports nothing heavy."""

from __future__ import annotations

import os
import threading
import time

SECONDS_TO_SAVE = 10.0
"""The longest that a process which is told to stop may take."""

_WATCH_SECONDS = 0.5


class Tie:
    """What binds this process to its parent.

    Args:
        parent: The parent's process id.

    Attributes:
        at_work: There is something to save, and what does it looks for the parent itself.
    """

    def __init__(self, parent: int) -> None:
        self.at_work = False
        threading.Thread(target=self._watch, args=(parent,), daemon=True).start()

    def _watch(self, parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        if self.at_work:
            time.sleep(SECONDS_TO_SAVE)
        os._exit(1)
