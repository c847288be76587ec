"""The model card is Markdown, whatever classes are called."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from potstill.students.card import model_card


def test_many_and_odd_classes() -> None:
    names = ["yes\n\n# Injected", "a `code` word", *(f"class {i}" for i in range(148))]
    kind = SimpleNamespace(name="classification", class_names=names, generates=False, slotted=False)
    head = SimpleNamespace(kind=kind, inputs=SimpleNamespace(columns=("text",)))
    network: Any = SimpleNamespace(tasks={"mood": head}, n_parameters=1, max_tokens=8)
    card = model_card(network, {"tasks": {}}, name="run", base="minilm", version="0")
    assert "; answers yes \\# Injected, a \\`code\\` word, class 0, " in card
    assert "class 17, … (150 in all)\n" in card
    assert "class 18" not in card
