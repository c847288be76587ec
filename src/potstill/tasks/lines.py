"""The lines of a text file, plain or gz, with the faults of their bytes.

Knows bytes, UTF-8 and line ends; not what a line means. Memory stays constant, whatever the
file's size, but for a single line, which is held whole.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from potstill.core.errors import DataError
from potstill.tasks.records import NOT_UTF8, Chunk, Origin

BLOCK_BYTES = 1 << 20
CHUNK_BYTES = 16 << 20  # of file that a chunk of rows may come from: bounds memory for long rows
LONGEST_LINE_BYTES = 1 << 27  # csv needs 4 bytes a character for a field: 512 MiB at this length

_BOM = b"\xef\xbb\xbf"
_SIGNATURES = (
    (b"\xff\xfe", "UTF-16 text", "save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "save it as UTF-8"),
    (b"\x1f\x8b", "gzip data", "end the file's name in .gz"),
    (b"PAR1", "a parquet file", "end the file's name in .parquet"),
    (b"PK\x03\x04", "a zip or Excel file", "unpack it, or save it as .csv in UTF-8"),
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself: git lfs pull"),
)

_PIECE_ROWS = 256  # rows as tuples at one time: beyond 700 the garbage collector costs 5 times more


class TextLines:
    """Iterates once over the lines of a file; each keeps its line end.

    A line whose bytes are faulty comes too (with surrogate escapes), so that a reader of quoted
    text keeps its place; its fault stands in ``bad`` before the line is given.

    Attributes:
        bad: Fault of each faulty line, by line number from 1; the reader may remove what it used.
        n_bytes: Bytes read so far (of the unpacked text where the file is gz).
    """

    def __init__(self, path: Path, origin: Origin) -> None:
        self.bad: dict[int, str] = {}
        self.n_bytes = 0
        self._path = path
        self._origin = origin
        self._packed = path.suffix.lower() == ".gz"

    def __iter__(self) -> Iterator[str]:
        """The lines.

        Raises:
            DataError: The file cannot be read, is empty, is packed or damaged, is no text, or has
                a line longer than ``LONGEST_LINE_BYTES``.
        """
        line, offset = 1, 0
        for block in self._blocks():
            data = block
            if not offset:
                self._refuse_other_formats(data)
                if data.startswith(_BOM):
                    data = data[len(_BOM) :]
                    offset = len(_BOM)
            try:
                text = data.decode()
            except UnicodeDecodeError:
                text = "\0"
            if "\0" in text:
                yield from self._faulty_lines(data, line, offset)
            elif data.find(b"\n") in (-1, len(data) - 1):
                yield text  # as it is: StringIO would take 4 bytes a character for a long line
            else:
                yield from io.StringIO(text, newline="\n")
            line += data.count(b"\n")
            offset += len(data)
        if not offset:
            raise self._origin.fault(
                got="an empty file",
                wanted="rows",
                todo="check that the file was written, or name another",
            )

    def _faulty_lines(self, block: bytes, line: int, offset: int) -> Iterator[str]:
        """The lines of a block of which at least one has a fault, which goes into ``bad``."""
        of = "of the unpacked file" if self._packed else "of the file"
        for number, raw in enumerate(io.BytesIO(block), line):
            nul = raw.find(b"\0")
            if nul >= 0:
                self.bad[number] = f"a NUL byte at byte offset {offset + nul} {of}"
            try:
                text = raw.decode()
            except UnicodeDecodeError as error:
                self.bad[number] = (
                    f"{NOT_UTF8}: byte 0x{raw[error.start]:02x} at byte offset "
                    f"{offset + error.start} {of}"
                )
                text = raw.decode(errors="surrogateescape")
            yield text
            offset += len(raw)

    def _blocks(self) -> Iterator[bytes]:
        """Blocks of whole lines; a line longer than a block comes alone."""
        pending: list[bytes] = []
        n_pending = 0
        with self._open() as file:
            while data := self._read(file):
                self.n_bytes += len(data)
                end = data.rfind(b"\n") + 1
                start = 0
                if end and n_pending > BLOCK_BYTES:
                    start = data.find(b"\n") + 1
                    yield b"".join((*pending, data[:start]))
                    pending = []
                if end > start:
                    yield b"".join((*pending, data[start:end]))
                if end:
                    pending, n_pending = [], 0
                if end < len(data):
                    pending.append(data[end:])
                    n_pending += len(data) - end
                if n_pending > LONGEST_LINE_BYTES:
                    raise self._origin.fault(
                        got=f"a line of more than {LONGEST_LINE_BYTES >> 20} MiB",
                        wanted="one row a line",
                        todo="check that the file is what its name says; a single JSON document "
                        "is not .jsonl",
                    )
        if pending:
            yield b"".join(pending)

    def _open(self) -> io.BufferedIOBase:
        try:
            return gzip.open(self._path, "rb") if self._packed else self._path.open("rb")
        except OSError as error:
            raise unreadable(error, self._origin) from error

    def _read(self, file: io.BufferedIOBase) -> bytes:
        try:
            return file.read(BLOCK_BYTES)
        except EOFError as error:
            raise self._origin.fault(
                got=f"a gz file that ends too early, after {self.n_bytes} bytes of text",
                wanted="a whole gz file",
                todo="copy or download it again",
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise self._origin.fault(
                got=f"not a sound gz file ({error})",
                wanted="a gz file",
                todo="copy or download it again; if it is not packed, drop .gz from its name",
            ) from error
        except OSError as error:
            raise unreadable(error, self._origin) from error

    def _refuse_other_formats(self, head: bytes) -> None:
        for signature, name, todo in _SIGNATURES:
            if head.startswith(signature):
                raise self._origin.fault(got=name, wanted="text in UTF-8", todo=todo)


def unreadable(error: OSError, origin: Origin) -> DataError:
    """The error for a file that the operating system does not let us read."""
    return origin.fault(
        got=f"{error.strerror or error}",
        wanted="a file that can be read",
        todo="check the path and its permissions",
    )


def take_chunk(
    records: Iterator[tuple[int, Sequence[object]]], lines: TextLines, chunk_rows: int
) -> Chunk | None:
    """The next records of ``lines``, or None after the last.

    Args:
        records: Place and values of each row; where they come from reads ``lines``.
        lines: The file's lines.
        chunk_rows: Most rows to take; fewer come where they fill ``CHUNK_BYTES``.
    """
    places: list[int] = []
    columns: list[list[object]] = []
    stop = lines.n_bytes + CHUNK_BYTES
    while piece := _take_piece(records, lines, min(_PIECE_ROWS, chunk_rows - len(places)), stop):
        found, rows = zip(*piece, strict=True)
        places += found
        if not columns:
            columns = [[] for _ in rows[0]]
        for column, values in zip(columns, zip(*rows, strict=True), strict=True):
            column.extend(values)
        if lines.n_bytes > stop:
            break
    return Chunk(places=places, columns=columns) if places else None


def _take_piece(
    records: Iterator[tuple[int, Sequence[object]]], lines: TextLines, n_rows: int, stop: int
) -> list[tuple[int, Sequence[object]]]:
    piece: list[tuple[int, Sequence[object]]] = []
    if n_rows:
        for record in records:
            piece.append(record)
            if len(piece) == n_rows or lines.n_bytes > stop:
                break
    return piece
