"""Which device is chosen, asked of cards that are not here."""

from __future__ import annotations

import pytest
import torch

from potstill.core.device import resolve_device
from potstill.core.errors import ResourceError


@pytest.fixture(autouse=True)
def _two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first multiplies bf16, the second does not."""
    capability = {"cuda": (8, 0), "cuda:0": (8, 0), "cuda:1": (7, 0)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", capability.__getitem__)


@pytest.mark.parametrize(
    ("device", "name", "precision"),
    [
        ("auto", "cuda:0", "bf16"),
        ("cuda", "cuda", "bf16"),
        ("cuda:0", "cuda:0", "bf16"),
        ("cuda:1", "cuda:1", "fp32"),
    ],
)
def test_precision_is_that_of_the_card_in_question(device: str, name: str, precision: str) -> None:
    found = resolve_device(device, "auto")
    assert (found.name, found.precision) == (name, precision)


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_without_cuda_no_card_is_taken(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="wanted: one of: cpu"):
        resolve_device(device, "auto")


def test_a_card_that_is_not_there_is_refused() -> None:
    with pytest.raises(ResourceError, match="cpu, cuda:0, cuda:1"):
        resolve_device("cuda:7", "auto")
