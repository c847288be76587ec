"""Parts of a long labelling, kept in the unfinished stage so that a stop costs one part at most."""

from __future__ import annotations

import hashlib
from pathlib import Path

from potstill.core.files import write_bytes

SCRATCH = ("part-*.bin",)
"""The files that are of no use to a finished labelling."""


class Parts:
    """Named pieces of work in a folder; each file's name holds the digest of its bytes.

    Args:
        folder: Of the unfinished stage.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

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


def _file(name: str, data: bytes) -> str:
    return f"part-{name}-{hashlib.sha256(data).hexdigest()}.bin"
