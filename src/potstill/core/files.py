"""Files that are whole or not there: atomic writes, SHA-256 manifests, folders published by rename.

Knows nothing of what the files mean. Every artefact of a run is written through this module, so
one fault hook can stand for a full disk or for a kill in the middle of any write.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from potstill.core.errors import ArtefactError, ResourceError
from potstill.core.places import free_bytes

MANIFEST = "manifest.json"
PARTIAL_SUFFIX = ".partial"
_OWN_DIGEST = "sha256"
_CHUNK_BYTES = 1 << 20
_LONG_NAME = 200  # bytes; what is written aside has a longer one, and 255 are the most

fault_hook: Callable[[Path, int], None] | None = None
"""Called with the path and the bytes written so far before each chunk; only tests set it."""


def digest_json(value: object) -> str:
    """SHA-256 (hex) of the canonical JSON form of ``value``; NaN is refused with ValueError."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _HookedFile:
    """A binary file whose writes pass the fault hook. Its maker closes it, nobody else."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._path = path
        self._written = 0

    @property
    def closed(self) -> bool:
        return self._file.closed

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Nothing: a library that was handed the file may not end it."""

    def write(self, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _CHUNK_BYTES):
            if fault_hook is not None:
                fault_hook(self._path, self._written)
            self._written += self._file.write(view[start : start + _CHUNK_BYTES])
        return len(view)


@contextmanager
def atomic_writer(path: Path) -> Iterator[_HookedFile]:
    """Open ``path`` for binary writing so that it changes whole or not at all.

    The bytes go to a hidden neighbour, are synced to disk and then renamed over ``path``.

    Raises:
        ResourceError: The disk is full; the old file, if any, still stands.
    """
    name = path.name if len(os.fsencode(path.name)) < _LONG_NAME else digest_json(path.name)[:16]
    aside = path.with_name(f".{name}.{os.getpid()}.tmp")
    with naming_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as raw:
                yield _HookedFile(raw, path)
                raw.flush()
                os.fsync(raw.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Turn the system's "no space left" into an error that names ``path`` and what to do.

    Raises:
        ResourceError: The disk is full, or the user's share of it, or files may not be so large.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise ResourceError(
                f"writing {path}",
                got="a limit on the size of files (ulimit -f)",
                wanted="room for the whole file; the previous one is kept",
                todo="raise the limit and run the same command again: a run continues",
            ) from error
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ResourceError(
            f"disk full while writing {path}",
            got=f"{free_bytes(path.parent) / 2**20:.0f} MiB free",
            wanted="room for the whole file; the previous one is kept",
            todo="free some disk (`potstill clean` lists what no run uses) and run the "
            "same command again: a run continues",
        ) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    with atomic_writer(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all.

    A byte of a file's name that is no UTF-8, which Python keeps as half of a surrogate pair, is
    written as JSON and YAML escape it.
    """
    write_bytes(path, _in_utf8(text))


def _in_utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON, whole or not at all; NaN is refused with ValueError."""
    write_text(path, _json_text(value))


def _json_text(value: object) -> str:
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's bytes; ``target`` changes whole or not at all.

    Raises:
        ResourceError: The disk is full.
    """
    with source.open("rb") as file, atomic_writer(target) as out:
        while chunk := file.read(_CHUNK_BYTES):
            out.write(chunk)


def read_json(path: Path) -> Any:
    """Read a JSON file that potstill wrote.

    Raises:
        ArtefactError: The file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtefactError(
            str(path),
            got="no such file",
            wanted="a file that potstill wrote",
            todo="check the path; if the folder was copied, copy it whole",
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _damaged(path, f"not valid JSON ({error})") from error


def seal(folder: Path, facts: Mapping[str, object], *, without: Sequence[str] = ()) -> None:
    """Write the manifest of ``folder``: ``facts`` and the size and SHA-256 of every file in it.

    It is written last: a folder with a manifest is complete. It holds its own digest too, so
    that a changed fact is found like a changed file.

    Args:
        folder: What to seal.
        facts: What the manifest says beside the files.
        without: Patterns of files that do not belong to it.
    """
    left_out = {folder / MANIFEST}.union(*(folder.glob(pattern) for pattern in without))
    files = {
        path.relative_to(folder).as_posix(): _file_facts(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in left_out
    }
    write_manifest(folder, {**facts, "files": files})


def remove_left_overs(folder: Path) -> None:
    """Remove what writers that were killed left in ``folder``; nobody else may be writing there."""
    for left_over in folder.rglob(".*.tmp"):
        left_over.unlink()


def write_manifest(folder: Path, facts: Mapping[str, object]) -> None:
    """Write ``facts`` as the manifest of ``folder``, with their own digest."""
    write_signed_json(folder / MANIFEST, facts)


def write_signed_json(path: Path, facts: Mapping[str, object]) -> None:
    """Write a JSON object with its own digest in it, whole or not at all."""
    write_json(path, {**facts, _OWN_DIGEST: digest_json(dict(facts))})


def file_facts(folder: Path, names: Sequence[str]) -> dict[str, dict[str, object]]:
    """Size and SHA-256 of some files of a folder, as a manifest lists them."""
    return {name: _file_facts(folder / name) for name in names}


def _file_facts(path: Path) -> dict[str, object]:
    return {"bytes": path.stat().st_size, "sha256": digest_file(path)}


def verify(folder: Path, *, todo: str | None = None) -> dict[str, Any]:
    """Check every file of a sealed folder against its manifest and return the manifest.

    Args:
        folder: The folder.
        todo: What the user can do about a fault; None for what stages want, which can be deleted.

    Raises:
        ArtefactError: The manifest or a file is missing, or a file's bytes have changed.
    """
    try:
        return _verify(folder)
    except ArtefactError as error:
        if todo is None:
            raise
        raise ArtefactError(error.thing, got=error.got, wanted=error.wanted, todo=todo) from error


def _verify(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise _damaged(folder / MANIFEST, "no list of files")
    for name, wanted in files.items():
        path = folder / name
        if not path.is_file():
            raise ArtefactError(
                str(path),
                got="the file is missing",
                wanted="the file that the manifest names",
                todo=f"delete {folder} and run the same command again: the stage is made anew",
            )
        if path.stat().st_size != wanted["bytes"] or digest_file(path) != wanted["sha256"]:
            raise _damaged(path, "its bytes are not those that the manifest recorded", folder)
    return manifest


def verify_bytes(files: Mapping[str, bytes], place: Path, *, todo: str) -> dict[str, Any]:
    """Check files that are in memory against the manifest among them, as :func:`verify` does.

    Args:
        files: Name to bytes.
        place: Where they come from, for messages.
        todo: What the user can do about a fault.

    Returns:
        The manifest.

    Raises:
        ArtefactError: The manifest or a file is missing, or bytes have changed.
    """

    def fault(name: str, got: str) -> ArtefactError:
        wanted = "the bytes that the manifest recorded"
        return ArtefactError(str(place / name), got=got, wanted=wanted, todo=todo)

    if MANIFEST not in files:
        raise fault(MANIFEST, "no manifest")
    try:
        whole = json.loads(files[MANIFEST])
        facts: dict[str, Any] = {k: v for k, v in whole.items() if k != _OWN_DIGEST}
        kept = whole[_OWN_DIGEST] == digest_json(facts)
        listed = {str(name): (e["bytes"], e["sha256"]) for name, e in facts["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        kept = False
    if not kept:
        raise fault(MANIFEST, "a damaged manifest")
    for name, (size, digest) in listed.items():
        if name not in files:
            raise fault(name, "the file is missing")
        if len(files[name]) != size or hashlib.sha256(files[name]).hexdigest() != digest:
            raise fault(name, "a damaged file")
    return facts


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a folder's manifest.

    Raises:
        ArtefactError: It is missing, not JSON, or its bytes have changed.
    """
    if not (folder / MANIFEST).exists():
        raise ArtefactError(
            str(folder / MANIFEST),
            got="no such file",
            wanted="the manifest, which is written last: without it nothing says what is whole",
            todo="check the path; if the folder was copied, copy it whole; a stage of a run is "
            "made anew once its folder is deleted",
        )
    return read_signed_json(folder / MANIFEST)


def read_signed_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_signed_json` wrote, after checking it against its own digest.

    Raises:
        ArtefactError: The file is missing, not JSON, or its bytes have changed.
    """
    whole = read_json(path)
    facts = {k: v for k, v in whole.items() if k != _OWN_DIGEST} if isinstance(whole, dict) else {}
    try:
        kept = facts and whole[_OWN_DIGEST] == digest_json(facts)
        # The digest is of the values; the text may not differ in its spaces either.
        kept = kept and path.read_bytes() == _in_utf8(_json_text(whole))
    except (KeyError, ValueError):  # no digest; NaN, which is never written
        kept = False
    if not kept:
        raise _damaged(path, "its bytes are not those that were written")
    return facts


def changed(thing: str) -> ArtefactError:
    """What was read is not what the digest says that results will be kept under."""
    return ArtefactError(
        thing,
        got="other content than when the run began",
        wanted="the same from beginning to end: results are kept under the digest of what they "
        "were made from",
        todo="run the same command again: it takes the content as it is then",
    )


def publish(partial: Path, final: Path) -> None:
    """Rename a finished folder to its place; if another process was first, keep that one."""
    try:
        partial.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(partial)
    descriptor = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(path: Path, how: str, folder: Path | None = None) -> ArtefactError:
    return ArtefactError(
        str(path),
        got=f"a damaged file: {how}",
        wanted="the bytes that were written",
        todo=f"delete the folder {folder or path.parent} and run the same command again: it is "
        "made anew",
    )
