"""Parts of a long labelling, kept in the unfinished stage so that a stop costs one part at most."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from potstill.core.files import read_json, write_bytes, write_json

TIMING_FILE = "timing.json"
_SO_FAR = "seconds-so-far.json"
SCRATCH = ("part-*.bin", _SO_FAR)
"""The files that are of no use to a finished labelling."""


@contextmanager
def timed(folder: Path) -> Iterator[None]:
    """Write how long the block took, over all sittings: of a broken one, up to its last part."""
    before, start = _seconds_so_far(folder), time.monotonic()
    yield
    write_json(folder / TIMING_FILE, {"seconds": round(before + time.monotonic() - start, 2)})


def _seconds_so_far(folder: Path) -> float:
    file = folder / _SO_FAR
    return float(read_json(file)["seconds"]) if file.is_file() else 0.0


class Parts:
    """Named pieces of work in a folder; each file's name holds the digest of its bytes.

    Args:
        folder: Of the unfinished stage.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before, self._start = _seconds_so_far(folder), time.monotonic()

    def known(self, name: str) -> bytes | None:
        """The bytes of a part; None where it is not written, or its bytes have changed."""
        for path in self._folder.glob(f"part-{name}-*.bin"):
            data = path.read_bytes()
            if path.name == _file(name, data):
                return data
        return None

    def keep(self, name: str, data: bytes) -> None:
        """Write a part."""
        write_bytes(self._folder / _file(name, data), data)
        seconds = self._before + time.monotonic() - self._start
        write_json(self._folder / _SO_FAR, {"seconds": seconds})


def _file(name: str, data: bytes) -> str:
    return f"part-{name}-{hashlib.sha256(data).hexdigest()}.bin"
