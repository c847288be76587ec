"""Text tables with a header: csv and tsv, plain or gz.

csv is RFC 4180: commas, quotes doubled inside quotes, line breaks allowed inside quotes. tsv has
one row a line; a field that stands whole in quotes, as spreadsheets write it, loses them, and any
other quote is text. All values are strings: what is a number is for the task kind to say.
"""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from operator import itemgetter
from pathlib import Path

from potstill.core.errors import DataError
from potstill.tasks.lines import LONGEST_LINE_BYTES, TextLines, take_chunk
from potstill.tasks.records import Chunk, Origin, RowFaults, need_columns

_QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"')
_LIMIT_LOCK = threading.Lock()

_TSV_HINT = "; a row of tsv cannot hold a line break or a stray tab: csv can"

_Records = Generator[tuple[int, list[str]], None, None]


def delimited_columns(path: Path, origin: Origin, *, tabs: bool) -> list[str]:
    """The names in the header.

    Raises:
        DataError: The file cannot be read or is empty, or its header is faulty.
    """
    faults = RowFaults(origin=origin, may_skip=False)
    with closing(_records(TextLines(path, origin), faults, tabs=tabs)) as records, _long_fields():
        return next(records)[1]


def delimited_chunks(
    path: Path, columns: Sequence[str], faults: RowFaults, chunk_rows: int, *, tabs: bool
) -> Iterator[Chunk]:
    """The rows of a file, in chunks of ``chunk_rows`` rows or fewer where rows are long.

    Raises:
        DataError: The file cannot be read or is empty, lacks a column or has it twice, a quote is
            never closed, or there are more bad rows than may be skipped.
    """
    lines = TextLines(path, faults.origin)
    with closing(_records(lines, faults, tabs=tabs)) as records:
        with _long_fields():
            names = next(records)[1]
        need_columns(columns, names, faults.origin)
        pick = _picker([names.index(column) for column in columns])
        picked = ((place, pick(fields)) for place, fields in records)
        while True:
            with _long_fields():
                chunk = take_chunk(picked, lines, chunk_rows)
            if chunk is None:
                return
            yield chunk


def _records(lines: TextLines, faults: RowFaults, *, tabs: bool) -> _Records:
    """Line number and fields: the header first, then each sound row."""
    return _tsv_records(lines, faults) if tabs else _csv_records(lines, faults)


def _csv_records(lines: TextLines, faults: RowFaults) -> _Records:
    checks = _Checks(lines, faults)
    reader = csv.reader(lines, strict=True)
    first, more = 1, True
    while more:
        try:
            for fields in reader:
                last = reader.line_num
                if checks.keep(first, last, fields):
                    yield first, fields
                first = last + 1
            more = False
        except csv.Error as error:  # the reader goes on with the next line
            last = reader.line_num
            reason = _csv_reason(error, first, faults.origin)
            checks.refuse(first, last, reason, "a row of csv")
            first = last + 1
    checks.finish()


def _tsv_records(lines: TextLines, faults: RowFaults) -> _Records:
    checks = _Checks(lines, faults)
    for number, text in enumerate(lines, 1):
        body = text.removesuffix("\n").removesuffix("\r")
        fields = body.split("\t") if body else []
        if '"' in body:
            fields = _unquote(body, fields, len(checks.names) or len(fields))
        if checks.keep(number, number, fields, _TSV_HINT if '"' in body else ""):
            yield number, fields
    checks.finish()


class _Checks:
    """What csv and tsv have in common: a header, and rows that must fit it.

    Attributes:
        names: The header; empty before it came.
    """

    def __init__(self, lines: TextLines, faults: RowFaults) -> None:
        self.names: list[str] = []
        self._lines = lines
        self._faults = faults
        self._blank: list[int] = []

    def keep(self, first: int, last: int, fields: list[str], hint: str = "") -> bool:
        """Whether the record is the header or a sound row; a faulty row is counted.

        Args:
            first: Its first line.
            last: Its last line.
            fields: What it holds; nothing where the line is blank.
            hint: What to add to the fault of a row with a wrong number of fields.

        Raises:
            DataError: The header is faulty, or there are more bad rows than may be skipped.
        """
        if not fields:
            if self.names:
                self._blank.append(first)
            return False
        if not self.names:
            bad = [n for n in range(first, last + 1) if n in self._lines.bad]
            if bad:
                raise self._bad_header(bad[0], self._lines.bad[bad[0]])
            self.names = fields
            return True
        if self._blank:
            self._add_blank()
        if self._lines.bad and self._has_bad_bytes(first, last, fields):
            return False
        n, n_wanted = len(fields), len(self.names)
        if n != n_wanted:
            reason = f"{n} field{'s' * (n != 1)}, wanted {n_wanted}{hint or _quote_hint(fields)}"
            self.refuse(first, last, reason, f"{n_wanted} fields, as in the header")
            return False
        return True

    def refuse(
        self, first: int, last: int, reason: str, wanted: str, column: str | None = None
    ) -> None:
        """Count a faulty row.

        Raises:
            DataError: It is the header, or one more than may be skipped.
        """
        if not self.names:
            raise self._bad_header(first, reason)
        self._faults.add_lines(first, last, column, reason, wanted)

    def finish(self) -> None:
        """Refuse a file without a header.

        Raises:
            DataError: There was none.
        """
        if not self.names:
            raise self._faults.origin.fault(
                got="blank lines only",
                wanted="column names in the first line, then rows",
                todo="check that the file was written",
            )

    def _add_blank(self) -> None:
        """Blank lines hold no row; in a table of one column one may be an empty text."""
        if len(self.names) == 1:
            for line in self._blank:
                reason = 'a blank line; an empty text is written ""'
                self._faults.add(line, self.names[0], reason, wanted="a value")
        self._blank.clear()

    def _has_bad_bytes(self, first: int, last: int, fields: list[str]) -> bool:
        bad = self._lines.bad
        found = [(n, bad.pop(n)) for n in range(first, last + 1) if n in bad]
        if not found:
            return False
        line, reason = found[0]
        where = "" if line == first else f"line {line}: "
        pairs = zip(self.names, fields, strict=False)  # a ragged row may be damaged too
        column = next((name for name, field in pairs if _damaged(field)), None)
        wanted = "UTF-8 text without NUL bytes"
        self.refuse(first, last, where + reason, wanted, column)
        return True

    def _bad_header(self, place: int, reason: str) -> DataError:
        return self._faults.origin.fault(
            place=place,
            got=f"a faulty header: {reason}",
            wanted="column names in the first line",
            todo="mend the header",
        )


def _unquote(body: str, fields: list[str], n_wanted: int) -> list[str]:
    """Fields of a tsv line with quotes: tabs inside quotes count only if they must."""
    if len(fields) == n_wanted:
        return [_bare(field) for field in fields]
    quoted, position = [], 0
    while position <= len(body):
        match = _QUOTED.match(body, position)
        if match and body[match.end() : match.end() + 1] in ("", "\t"):
            quoted.append(_bare(match[0]))
            position = match.end() + 1
            continue
        tab = body.find("\t", position)
        end = len(body) if tab < 0 else tab
        quoted.append(body[position:end])
        position = end + 1
    return quoted if len(quoted) == n_wanted else fields


def _bare(field: str) -> str:
    match = _QUOTED.fullmatch(field)
    return match[1].replace('""', '"') if match else field


def _quote_hint(fields: Sequence[str]) -> str:
    """What else may be wrong with a row of csv that has too many fields."""
    if any(field[:1].isspace() and field.lstrip().startswith('"') for field in fields):
        return " (a blank stands before a quote, which quotes nothing then)"
    return ""


def _damaged(field: str) -> bool:
    try:
        field.encode()
    except UnicodeEncodeError:
        return True
    return "\0" in field


def _csv_reason(error: csv.Error, first: int, origin: Origin) -> str:
    """Our words for csv's.

    Raises:
        DataError: The quote that opens in this row is never closed: all that follows is lost, and
            that is no single row.
    """
    words = str(error)
    if "unexpected end" in words or "field limit" in words:
        raise origin.fault(
            place=first,
            got=f"a quote that is not closed by the end of the file, or within "
            f"{LONGEST_LINE_BYTES >> 20} Mi characters",
            wanted="a closing quote; a quote inside quotes is doubled",
            todo="mend the row; it cannot be skipped, for the rows after it stand inside the quote",
        ) from error
    if "new-line character" in words:
        return "a carriage return outside quotes (lines must end in LF or CR LF)"
    return 'text after a closing quote (a quote inside quotes is doubled: "")'


def _picker(indices: list[int]) -> Callable[[list[str]], Sequence[str]]:
    """The values of some fields, always as a sequence."""
    if len(indices) == 1:
        only = indices[0]
        return lambda fields: (fields[only],)
    return itemgetter(*indices)


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let csv read long fields: its limit of 131,072 characters belongs to the whole process."""
    with _LIMIT_LOCK:
        before = csv.field_size_limit(LONGEST_LINE_BYTES)
        try:
            yield
        finally:
            csv.field_size_limit(before)
