"""Where something is to be written: whether it can be, and whether it fits."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from potstill.core.errors import ResourceError, UsageError


def resolved(path: Path) -> Path:
    """An absolute path without links; ``Path.resolve`` raises where links lead in a circle."""
    return Path(os.path.realpath(path))


def free_bytes(folder: Path) -> int:
    """Free disk where ``folder`` stands, or will stand."""
    return shutil.disk_usage(_nearest_there(folder)).free


def need_file_place(file: Path, thing: str) -> None:
    """Check that a file can be written, before work is spent on what shall stand in it.

    Args:
        file: Where it shall stand; its folders are made when it is written.
        thing: What the user named it by, for the message: ``--out answers.csv``.

    Raises:
        UsageError: A folder stands there, or nothing can be written.
    """
    need_folder_place(file.parent, thing)
    if file.is_dir():
        raise UsageError(thing, got="a folder", wanted="a file", todo="name a file in it")


def need_folder_place(folder: Path, thing: str) -> None:
    """Check that files can be written in a folder, there already or not.

    Args:
        folder: The folder.
        thing: As :func:`need_file_place`.

    Raises:
        UsageError: Nothing can be written there.
    """
    near = _nearest_there(folder)
    for place in (folder, *folder.absolute().parents):
        if place.is_symlink() and not place.exists():
            raise UsageError(
                thing,
                got=f"{place} is a link that leads nowhere",
                wanted="a place in a folder that can be written",
                todo="mend the link, or name another",
            )
    try:  # by trying: the system knows more reasons against it than permissions
        with tempfile.TemporaryFile(dir=near):
            pass
    except OSError as error:
        raise UsageError(
            thing,
            got=f"a place where nothing can be written ({error.strerror})",
            wanted="a place in a folder that can be written",
            todo="name another",
        ) from error


def _nearest_there(folder: Path) -> Path:
    """``folder``, or the nearest above it that is there."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return place


def need_disk(folder: Path, size_bytes: int, what: str) -> None:
    """Refuse work for which the disk of ``folder`` is too small.

    Raises:
        ResourceError: Fewer than ``size_bytes`` are free.
    """
    free = free_bytes(folder)
    if free < size_bytes:
        raise ResourceError(
            f"disk of {folder}",
            got=f"{free / 2**30:.2f} GiB free",
            wanted=f"{size_bytes / 2**30:.2f} GiB for {what}",
            todo="free some disk (`potstill clean`), or set another `output:` in the run file",
        )
