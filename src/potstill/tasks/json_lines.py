"""JSON lines: one object a line, plain or gz.

A column is a key of the objects. Blank lines hold no row.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from potstill.tasks.lines import TextLines, take_chunk
from potstill.tasks.records import ABSENT, Chunk, RowColumns, RowFaults

_WANTED = "one JSON object a line"


def json_columns(path: Path, faults: RowFaults) -> list[str]:
    """The keys of the first record.

    Raises:
        DataError: The file cannot be read or is empty, or its first record is faulty.
    """
    with closing(_objects(TextLines(path, faults.origin), faults)) as objects:
        for _, row in objects:
            return list(row)
    raise faults.origin.fault(
        got="blank lines only", wanted=_WANTED, todo="check that the file was written"
    )


def json_keys(path: Path, faults: RowFaults) -> Iterator[tuple[int, list[str]]]:
    """Line and keys of each record.

    Raises:
        DataError: The file cannot be read or is empty, or there are more bad rows than may be
            skipped.
    """
    with closing(_objects(TextLines(path, faults.origin), faults)) as objects:
        for number, row in objects:
            yield number, list(row)


def json_chunks(
    path: Path,
    columns: Sequence[str],
    faults: RowFaults,
    chunk_rows: int,
    *,
    may_lack: bool = False,
) -> Iterator[Chunk]:
    """The rows of a file, in chunks of ``chunk_rows`` rows or fewer where rows are long.

    Args:
        path: The file.
        columns: Keys to read.
        faults: Takes the bad rows.
        chunk_rows: Most rows a chunk.
        may_lack: A row may lack some of the columns: their values are ``ABSENT``.

    Raises:
        DataError: The file cannot be read or is empty, no row has one of the columns, or there
            are more bad rows than may be skipped.
    """
    lines = TextLines(path, faults.origin)
    rows = _some_values if may_lack else _records
    with closing(rows(lines, columns, faults)) as records:
        while chunk := take_chunk(records, lines, chunk_rows):
            yield chunk


def _some_values(
    lines: TextLines, columns: Sequence[str], faults: RowFaults
) -> Generator[tuple[int, list[object]], None, None]:
    """Place and values of each row, whatever columns it has."""
    for number, row in _objects(lines, faults):
        yield number, [row.get(column, ABSENT) for column in columns]


def _records(
    lines: TextLines, columns: Sequence[str], faults: RowFaults
) -> Generator[tuple[int, list[object]], None, None]:
    """Place and values of each row that has all columns."""
    picked = RowColumns(columns, faults)
    for number, row in _objects(lines, faults):
        values = picked.pick(number, row)
        if values is not None:
            yield number, values
    picked.finish()


def _objects(
    lines: TextLines, faults: RowFaults
) -> Generator[tuple[int, dict[str, object]], None, None]:
    """Line number and object of each sound line."""
    for number, text in enumerate(lines, 1):
        if lines.bad and number in lines.bad:
            faults.add(number, None, lines.bad.pop(number), wanted="UTF-8 text without NUL bytes")
            continue
        try:
            row = json.loads(text)
        except RecursionError:
            faults.add(number, None, "JSON that is nested too deeply", wanted=_WANTED)
            continue
        except json.JSONDecodeError as error:
            if not text.strip():
                continue
            hint = _array_hint(text) if number == 1 else ""
            what = error.msg.removesuffix(" at")  # some of json's messages end so
            reason = f"not valid JSON: {what} at character {error.pos + 1} of the line{hint}"
            faults.add(number, None, reason, wanted=_WANTED)
            continue
        except ValueError as error:  # an integer of more digits than Python reads
            faults.add(number, None, f"not usable JSON: {error}", wanted=_WANTED)
            continue
        if not isinstance(row, dict):
            reason = f"a JSON {_json_type(row)}, not an object{_array_hint(text)}"
            faults.add(number, None, reason, wanted=_WANTED)
            continue
        # Only an escape can smuggle half a surrogate pair past the UTF-8 check.
        if "\\u" in text:
            broken = next((k for k, v in row.items() if not (encodable(k) and encodable(v))), None)
            if broken is not None:
                name = broken.encode(errors="replace").decode()
                reason = "half of a surrogate pair (\\ud800 to \\udfff alone): not Unicode text"
                faults.add(number, name, reason, wanted="whole characters")
                continue
        yield number, row


def encodable(value: object) -> bool:
    """Whether every string in ``value`` is Unicode text, which half a surrogate pair is not."""
    left = [value]  # no recursion: it could not follow JSON as deep as json reads it
    while left:
        part = left.pop()
        if isinstance(part, str):
            try:
                part.encode()
            except UnicodeEncodeError:
                return False
        elif isinstance(part, dict):
            left += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple):
            left += part
    return True


def _array_hint(text: str) -> str:
    if not text.lstrip().startswith("["):
        return ""
    return " (is the file one JSON array? .jsonl wants an object a line, without brackets around)"


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    names: dict[type, str] = {list: "array", str: "string", bool: "boolean"}
    return names.get(type(value), "number")
