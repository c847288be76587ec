"""The task kinds. A new kind is one file here and one entry in ``KINDS``, or a package of its own.

A package outside of potstill adds kinds by the entry point group ``potstill.kinds``; see
``docs/kinds.md`` for what a kind must say.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from potstill.kinds.base import Inputs, Key, Kind, Space
from potstill.kinds.classification import Classification
from potstill.kinds.generation import Generation
from potstill.kinds.multilabel import Multilabel
from potstill.kinds.ranking import Ranking
from potstill.kinds.regression import Regression
from potstill.kinds.span import Span
from potstill.kinds.tagging import Tagging
from potstill.kinds.translation import Translation

GROUP = "potstill.kinds"
"""The entry point group of kinds that other packages bring."""

KINDS: dict[str, type[Kind]] = {
    kind.name: kind
    for kind in (
        Classification,
        Regression,
        Ranking,
        Multilabel,
        Tagging,
        Span,
        Generation,
        Translation,
    )
}

BROKEN: dict[str, str] = {}
"""Kinds of other packages that could not be loaded, and why: said to who asks for one."""


def _load(point: EntryPoint) -> type[Kind]:
    kind = point.load()
    if not (isinstance(kind, type) and issubclass(kind, Kind)):
        raise TypeError(f"{point.value} is no subclass of potstill.kinds.Kind")
    if inspect.isabstract(kind):
        raise TypeError(f"{point.value} lacks {', '.join(sorted(kind.__abstractmethods__))}")
    if not getattr(kind, "metric_names", None):
        raise ValueError(f"{point.value} has no metric_names")
    if not kind.keys:
        raise ValueError(f"{point.value} names no keys of the run file")
    if kind.name != point.name:
        raise ValueError(f"{point.value} calls itself '{kind.name}'")
    return kind


for _point in entry_points(group=GROUP):
    if _point.name in KINDS:
        BROKEN[_point.name] = f"{_point.value} has the name of another kind"
        continue
    try:
        KINDS[_point.name] = _load(_point)
    except Exception as error:  # noqa: BLE001 (of a stranger's code; potstill must start without it)
        BROKEN[_point.name] = f"{_point.value} cannot be loaded ({type(error).__name__}: {error})"


class UnknownKindError(ValueError):
    """A kind of a package that is not installed here, or cannot be loaded."""


def kind_from_json(facts: Mapping[str, Any]) -> Kind:
    """Restore a kind with its label space from what ``kind.to_json()`` gave.

    Raises:
        UnknownKindError: The kind is unknown here.
    """
    name = facts["kind"]
    if name not in KINDS:
        why = BROKEN.get(name, "install the package that brings it")
        raise UnknownKindError(f"unknown kind '{name}' (known: {', '.join(KINDS)}): {why}")
    return KINDS[name].from_json(facts)


__all__ = [
    "BROKEN",
    "GROUP",
    "KINDS",
    "Classification",
    "Generation",
    "Inputs",
    "Key",
    "Kind",
    "Multilabel",
    "Ranking",
    "Regression",
    "Space",
    "Span",
    "Tagging",
    "Translation",
    "UnknownKindError",
    "kind_from_json",
]
