"""What an ONNX file holds, read without the onnx package: a service has none.

ONNX is a protocol buffer; this walks the fields in which tensors can stand and nothing else.
Reference: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

_DEEPEST = 64  # graphs within graphs

# Message to field number to the message in that field.
_CHILDREN: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        "model": {7: "graph", 20: "training", 25: "function"},
        "training": {1: "graph", 2: "graph"},
        "graph": {1: "node", 5: "tensor", 15: "sparse"},
        "function": {7: "node", 11: "attribute"},
        "node": {5: "attribute"},
        "attribute": {
            5: "tensor",
            6: "graph",
            10: "tensor",
            11: "graph",
            22: "sparse",
            23: "sparse",
        },
        "sparse": {1: "tensor", 2: "tensor"},
    }
)
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor


def reaches_outside(model: bytes) -> bool:
    """Whether a tensor of the model keeps its numbers in another file, which could be any file.

    Raises:
        ValueError: The bytes are no protocol buffer, or graphs are nested too deeply.
    """
    return _reaches(memoryview(model), "model", 0)


def _reaches(message: memoryview, what: str, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError("a graph that is nested too deeply")
    for number, value in _fields(message):
        if what == "tensor":
            if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
                return True
            continue
        child = _CHILDREN[what].get(number)
        if child is not None:
            if not isinstance(value, memoryview):
                raise ValueError("not an ONNX model")
            if _reaches(value, child, depth + 1):
                return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Field numbers and values: bytes, or an integer."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key >> 32:  # readers drop these bits, so the field would be another one to them
            raise ValueError("not a protocol buffer")
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError("not a protocol buffer")
        if at + size > len(message):
            raise ValueError("a protocol buffer that ends too early")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("not a protocol buffer")
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
