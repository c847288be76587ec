"""Rows that Python holds: dicts, Arrow tables, DataFrames, whose packages are not imported."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from potstill.core.errors import UsageError
from potstill.tasks.records import with_text_names


def dicts_of(rows: object, columns: Collection[str]) -> Sequence[Mapping[str, object]]:
    """Rows as dicts, whatever table they come in; of tables only ``columns`` are read.

    Raises:
        UsageError: ``rows`` is no table, or has a column twice.
    """
    if isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows):
        return [{k: plain(v) for k, v in with_text_names(row).items()} for row in rows]
    if hasattr(rows, "to_pandas") and not hasattr(rows, "__arrow_c_stream__"):
        rows = rows.to_pandas()
    is_frame = hasattr(rows, "iloc")
    if is_frame or hasattr(rows, "__arrow_c_stream__"):
        table: Any = rows if is_frame else _arrow_table(rows)
        names = [str(name) for name in (table.columns if is_frame else table.column_names)]
        kept = [i for i, name in enumerate(names) if name in columns]
        twice = sorted({names[i] for i in kept if names.count(names[i]) > 1})
        if twice:
            raise UsageError(
                "rows to predict",
                got=f"several columns '{twice[0]}'",
                wanted="one",
                todo="rename or drop the others: which one is meant cannot be known",
            )
        unread = dict.fromkeys(names)  # a message may name them
        if not kept:
            return [unread] * len(table)
        if not is_frame:
            return [unread | row for row in table.select([names[i] for i in kept]).to_pylist()]
        cells = {names[i]: series_values(table.iloc[:, i]) for i in kept}
        return [
            unread | dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)
        ]
    raise UsageError(
        "rows to predict",
        got=f"{type(rows).__name__} {rows!r:.60}",
        wanted="a dict (column to text), a list of dicts, an Arrow table or a DataFrame",
        todo="put the text under the column that the task reads: {'text': ...}",
    )


def _arrow_table(rows: object) -> Any:
    import pyarrow as pa  # noqa: PLC0415 (a service answers dicts only)

    return pa.table(rows)


def series_values(series: Any) -> list[object]:
    """The values of a DataFrame's column.

    pandas marks missing values in many ways; here they are None, but for NaN in a column of
    plain floats, which may have been computed.
    """
    values = [plain(value) for value in series.tolist()]
    missing = series.isna().tolist()
    floats = getattr(series.dtype, "kind", "O") == "f"
    return [
        None if gone and not (floats and isinstance(value, float)) else value
        for value, gone in zip(values, missing, strict=True)
    ]


def plain(value: object) -> object:
    """Python's own value for a NumPy scalar, and its own list for an array."""
    if isinstance(value, np.ndarray) and value.ndim:
        return [plain(item) for item in value.tolist()]
    return value.item() if isinstance(value, np.generic | np.ndarray) else value
