"""ONNX models of one matrix product. With them an engine is asked about this CPU, and its speed is measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .protobuf import field

# ONNX's numbers for the types of elements.
_FLOAT, _INT32 = 1, 6
_TYPES = {"float32": _FLOAT, "uint8": 2, "int8": 3}


def product_graph(operator: str, left: NDArray[Any], right: NDArray[Any]) -> bytes:
    """An ONNX model of one node, MatMul or MatMulInteger: `left` is its input, `right` a constant, as weights are."""
    out_type = _INT32 if operator == "MatMulInteger" else _FLOAT
    node = _node(operator, [b"left", b"right"], b"out")
    return _model([node], {b"right": right}, left, (left.shape[0], right.shape[1]), out_type)


def quantized_product_graph(left: NDArray[np.float32], right: NDArray[np.int8]) -> bytes:
    """An ONNX model of a product in int8 as engines other than ONNX Runtime want it said. It is in float32, between
    nodes that quantize `left`, of values from 0 to 1, and dequantize.
    """
    constants: dict[bytes, NDArray[Any] | np.generic] = {
        b"right": right,
        b"left_scale": np.float32(1 / 255),
        b"left_zero": np.uint8(0),
        b"right_scale": np.float32(1 / 127),
        b"right_zero": np.int8(0),
    }
    nodes = [
        _node("QuantizeLinear", [b"left", b"left_scale", b"left_zero"], b"integers"),
        _node("DequantizeLinear", [b"integers", b"left_scale", b"left_zero"], b"left_again"),
        _node("DequantizeLinear", [b"right", b"right_scale", b"right_zero"], b"right_again"),
        _node("MatMul", [b"left_again", b"right_again"], b"out"),
    ]
    return _model(nodes, constants, left, (left.shape[0], right.shape[1]), _FLOAT)


def largest_operands() -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """(1, 64) and (64, 16), whose product is the first to suffer where sums are kept in too few bits."""
    return np.full((1, 64), 255, np.uint8), np.full((64, 16), 127, np.int8)


# The numbers of the fields are those of onnx.proto.


def _model(
    nodes: Sequence[bytes],
    constants: Mapping[bytes, NDArray[Any] | np.generic],
    left: NDArray[Any],
    out_shape: tuple[int, int],
    out_type: int,
) -> bytes:
    """A ModelProto with one input, "left", and one output, "out"."""
    graph = (
        b"".join(field(1, node) for node in nodes)
        + field(2, b"product")
        + b"".join(field(5, _constant(name, value)) for name, value in constants.items())
        + field(11, value_info(b"left", _TYPES[left.dtype.name], left.shape))
        + field(12, value_info(b"out", out_type, out_shape))
    )
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))  # IR version 8, opset 13


def _node(operator: str, inputs: Sequence[bytes], output: bytes) -> bytes:
    """A NodeProto."""
    return b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, operator.encode())


def _constant(name: bytes, value: NDArray[Any] | np.generic) -> bytes:
    """A TensorProto."""
    sizes = b"".join(field(1, size) for size in value.shape)
    return sizes + field(2, _TYPES[value.dtype.name]) + field(8, name) + field(9, value.tobytes())


def value_info(name: bytes, element_type: int, shape: Sequence[int]) -> bytes:
    """A ValueInfoProto of a tensor."""
    dimensions = b"".join(field(1, field(1, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, element_type) + field(2, dimensions)))
