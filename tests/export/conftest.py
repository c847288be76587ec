"""One exported toy student for the whole room."""

from __future__ import annotations

from pathlib import Path

import pytest

from potstill.export.bundle import read_bundle
from potstill.export.engines import GraphName
from potstill.export.graph import to_int8
from tests.bundles import ToyBundle, make_bundle


@pytest.fixture(scope="session")
def toys(base: Path, tmp_path_factory: pytest.TempPathFactory) -> ToyBundle:
    """A student and its bundle; never write into them."""
    return make_bundle(base, tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="session")
def graphs(toys: ToyBundle) -> dict[GraphName, bytes]:
    """The student's graphs."""
    fp32 = read_bundle(toys.done.folder).graph  # an exact engine won, the others were not asked
    return {"model.onnx": fp32, "model.int8.onnx": to_int8(fp32)}
