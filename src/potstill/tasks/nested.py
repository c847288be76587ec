"""Label columns that stand inside one: SQuAD's ``answers: {text: [...], answer_start: [...]}``.

Knows how such a value comes apart; no source, no kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def is_nest(values: Sequence[object], nested: Sequence[str]) -> bool:
    """Whether a column holds others: every value that is there has all of these names."""
    there = [value for value in values if value is not None]
    return any(holds_others(value) for value in there) and all(
        part(value, field) is not None for value in there for field in nested
    )


def holds_others(value: object) -> bool:
    """Whether a value is a mapping of lists, or a list of mappings as SQuAD's own file has it."""
    if isinstance(value, list | tuple | np.ndarray):
        return any(isinstance(item, Mapping) for item in value)
    return isinstance(value, Mapping)


def part_or_all(value: object, field: str) -> object:
    """One label of a value; of a mapping with other names the whole, for a message to quote."""
    found = part(value, field)
    return value if found is None and isinstance(value, Mapping) else found


def part(value: object, field: str) -> object:
    """One label of a value; None where the value has none of that name."""
    if isinstance(value, Mapping):
        found = value.get(field)
        return found.tolist() if isinstance(found, np.ndarray) else found
    if isinstance(value, list | tuple | np.ndarray):
        items = list(value)
        if all(isinstance(item, Mapping) and field in item for item in items):
            return [item[field] for item in items]
    return None
