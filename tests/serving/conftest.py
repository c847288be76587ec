"""One exported toy student for the whole room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundles import ToyBundle, make_bundle


@pytest.fixture(scope="session")
def toys(base: Path, tmp_path_factory: pytest.TempPathFactory) -> ToyBundle:
    """A student and its bundle; never write into them."""
    return make_bundle(base, tmp_path_factory.mktemp("toys"))
