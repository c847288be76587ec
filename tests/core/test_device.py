"""What the choice of a device settles for the process."""

from __future__ import annotations

import os

import pytest

from potstill.core.device import resolve_device

KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


@pytest.mark.parametrize(("before", "after"), [(None, "64"), ("512", "512")])
def test_few_kernels_are_kept_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, before: str | None, after: str
) -> None:
    monkeypatch.delenv(KERNELS, raising=False)
    if before is not None:
        monkeypatch.setenv(KERNELS, before)
    resolve_device("cpu")
    assert os.environ[KERNELS] == after
