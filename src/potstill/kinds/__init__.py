"""The task kinds. A new kind is one file here and one entry in ``KINDS``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from potstill.kinds.base import Kind, Space
from potstill.kinds.classification import Classification
from potstill.kinds.ranking import Ranking
from potstill.kinds.regression import Regression

KINDS: dict[str, type[Kind]] = {k.name: k for k in (Classification, Regression, Ranking)}


def kind_from_json(facts: Mapping[str, Any]) -> Kind:
    """Restore a kind with its label space from what ``kind.to_json()`` gave."""
    return KINDS[facts["kind"]].from_json(facts)


def classes_of(kind: Kind) -> tuple[str, ...]:
    """The classes of a kind that has classes, in the order of its outputs."""
    return kind.classes if isinstance(kind, Classification) else ()


__all__ = [
    "KINDS",
    "Classification",
    "Kind",
    "Ranking",
    "Regression",
    "Space",
    "classes_of",
    "kind_from_json",
]
