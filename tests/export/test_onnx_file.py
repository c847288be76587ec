"""A graph may not reach outside its own file."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from potstill.core.errors import ArtefactError
from potstill.core.files import seal
from potstill.export.bundle import read_bundle
from potstill.export.onnx_file import reaches_outside
from tests.bundles import ToyBundle


def outside() -> TensorProto:
    """A tensor whose numbers stand in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return tensor


def model(place: str) -> onnx.ModelProto:
    """A model with an outside tensor in one of the places where a tensor can stand."""
    inside = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor = outside()
    plain = helper.make_node("Add", ["x", "w"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    branch = helper.make_graph([constant], "branch", [], [y])
    nodes = {
        "constant": [constant, plain],
        "branch": [helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)],
    }.get(place, [plain])
    graph = helper.make_graph(nodes, "g", [x], [y], [tensor if place == "weight" else inside])
    if place == "sparse":
        graph.sparse_initializer.add().values.CopyFrom(tensor)
    made = helper.make_model(graph)
    if place == "function":
        function = made.functions.add()
        function.name = "f"
        function.node.append(constant)
    if place == "training":
        made.training_info.add().algorithm.initializer.append(tensor)
    return made


@pytest.mark.parametrize(
    "place", ["weight", "constant", "branch", "sparse", "function", "training"]
)
def test_an_outside_tensor_is_found_wherever_it_stands(place: str) -> None:
    assert reaches_outside(model(place).SerializeToString())


def test_an_exported_graph_stays_inside(toys: ToyBundle) -> None:
    assert not reaches_outside(model("none").SerializeToString())
    assert not reaches_outside(read_bundle(toys.done.folder).graph)


def test_a_bundle_with_such_a_graph_is_refused(toys: ToyBundle, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(toys.done.folder, tmp_path / "copy"))
    next(copy.glob("*.onnx")).write_bytes(model("weight").SerializeToString())
    (copy / "manifest.json").unlink()
    seal(copy, {})
    with pytest.raises(ArtefactError, match="weights in other files"):
        read_bundle(copy)


def test_bits_that_readers_drop_hide_nothing() -> None:
    """Field 7 with bit 32 set: to a reader of protocol buffers the graph, to a careless one not."""
    graph = model("weight").graph.SerializeToString()
    key = 0x3A | 1 << 32
    tag = bytes([key >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21)]) + bytes([key >> 28])
    with pytest.raises(ValueError, match="not a protocol buffer"):
        reaches_outside(tag + _size(graph) + graph)


@given(st.binary(max_size=200))
def test_any_bytes_end_in_an_answer_or_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        reaches_outside(data)


def test_graphs_in_graphs_without_end_are_refused() -> None:
    data = b""
    for _ in range(200):  # attribute g of a node of a graph of an attribute ...
        data = b"\x32" + _size(data) + data
        data = b"\x2a" + _size(data) + data
        data = b"\x0a" + _size(data) + data
    with pytest.raises(ValueError, match="nested"):
        reaches_outside(b"\x3a" + _size(data) + data)


def _size(data: bytes) -> bytes:
    size, out = len(data), b""
    while size > 127:
        out += bytes([size & 127 | 128])
        size >>= 7
    return out + bytes([size])
