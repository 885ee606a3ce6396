"""The machine's own limit: how fast an engine multiplies matrices of the model's shapes, and nothing else.

python -m tubelet.runtime.bench.gemm SETTINGS answers like child.py; a run is one product of each shape.
"""

import dataclasses
import importlib.util
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import MatrixProduct
from .child import Loaded, serve
from .machine import Machine

# A product that is thinner than this is held up by memory before arithmetic and cannot show the limit of either.
THINNEST = 256
MOST_SHAPES = 3

Shape = tuple[int, int, int]  # rows, inner, columns

# ONNX's numbers for the types of elements.
_FLOAT, _INT32 = 1, 6
_TYPES = {"float32": _FLOAT, "uint8": 2, "int8": 3}


@dataclass(frozen=True)
class GemmSettings:
    """What a process is told; see child.Settings."""

    engine: str
    precision: str
    threads: int
    shapes: tuple[Shape, ...]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


def heaviest_shapes(products: Iterable[MatrixProduct]) -> tuple[Shape, ...]:
    """The shapes that a model spends most on, of those that no side of is thin; the one it spends most on where all
    of them are thin."""
    by_work = sorted(products, key=lambda product: product.macs, reverse=True)
    shapes = [(product.rows, product.inner, product.columns) for product in by_work]
    thick = [shape for shape in shapes if min(shape) >= THINNEST]
    return tuple((thick or shapes[:1])[:MOST_SHAPES])


def gigaflop(shapes: Iterable[Shape]) -> float:
    """Of one product of each shape, a multiplication and an addition being two."""
    return 2e-9 * sum(rows * inner * columns for rows, inner, columns in shapes)


def gemm_engines(machine: Machine) -> tuple[tuple[str, str], ...]:
    """(engine, precision) of what is installed here and can multiply in that precision on the CPU."""
    engines = [("numpy", "fp32")]
    if importlib.util.find_spec("onnxruntime"):
        engines += [("onnxruntime", "fp32"), ("onnxruntime", "int8")]
    if importlib.util.find_spec("openvino"):
        engines += [("openvino", "fp32"), ("openvino", "int8")]
        if {"avx512_bf16", "amx_bf16"} & set(machine.flags):
            engines.append(("openvino", "bf16"))
    return tuple(engines)


def load_gemm(values: dict[str, Any]) -> Loaded:
    settings = GemmSettings(**values)
    open_product = {"numpy": _numpy, "onnxruntime": _onnxruntime, "openvino": _openvino}[settings.engine]
    products = [open_product(settings, shape) for shape in settings.shapes]

    def run() -> NDArray[Any]:
        for multiply in products:
            multiply()
        return np.empty(0)

    return Loaded(run, stages=dict)


def _numpy(settings: GemmSettings, shape: Shape) -> Callable[[], object]:  # noqa: ARG001
    left, right = _matrices(shape)
    out = np.empty((shape[0], shape[2]), np.float32)
    return lambda: np.matmul(left, right, out=out)


def _onnxruntime(settings: GemmSettings, shape: Shape) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    # Each shape has a session with threads of its own, which must not spin while the next shape is multiplied.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    left, right = _matrices(shape)
    given: NDArray[Any] = left
    graph = product_graph("MatMul", left, right)
    if settings.precision == "int8":
        given = (left * 255).astype(np.uint8)
        graph = product_graph("MatMulInteger", given, (right * 127).astype(np.int8))
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    # Into memory that is there already: what a product takes, and not what new pages take.
    out = np.empty((shape[0], shape[2]), np.int32 if settings.precision == "int8" else np.float32)
    binding = session.io_binding()
    binding.bind_cpu_input("left", given)
    binding.bind_output("out", "cpu", 0, out.dtype.type, out.shape, out.ctypes.data)

    def multiply() -> NDArray[Any]:
        session.run_with_iobinding(binding)
        return out  # which the binding writes to, so it must live as long as this function

    return multiply


def _openvino(settings: GemmSettings, shape: Shape) -> Callable[[], object]:
    import openvino

    left, right = _matrices(shape)
    graph = product_graph("MatMul", left, right)
    if settings.precision == "int8":
        graph = quantized_product_graph(left, (right * 127).astype(np.int8))
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(graph),
        "CPU",
        {
            "INFERENCE_NUM_THREADS": settings.threads,
            "INFERENCE_PRECISION_HINT": "bf16" if settings.precision == "bf16" else "f32",
        },
    )
    request = compiled.create_infer_request()
    return lambda: request.infer([left], share_inputs=True, share_outputs=True)


def _matrices(shape: Shape) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(rows, inner) and (inner, columns), values from 0 to 1."""
    rows, inner, columns = shape
    random = np.random.default_rng(0)
    return random.random((rows, inner), np.float32), random.random((inner, columns), np.float32)


def product_graph(operator: str, left: NDArray[Any], right: NDArray[Any]) -> bytes:
    """An ONNX model of one node, MatMul or MatMulInteger: `left` is its input, `right` a constant, as weights are."""
    out_type = _INT32 if operator == "MatMulInteger" else _FLOAT
    node = _node(operator, [b"left", b"right"], b"out")
    return _model([node], {b"right": right}, left, (left.shape[0], right.shape[1]), out_type)


def quantized_product_graph(left: NDArray[np.float32], right: NDArray[np.int8]) -> bytes:
    """An ONNX model of a product in int8 as engines other than ONNX Runtime want it said: in float32, between nodes
    that quantize `left`, of values from 0 to 1, and dequantize."""
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


# Models are written as protobuf by hand, because a machine that runs bundles need not have the onnx package; the
# numbers of the fields are those of onnx.proto.


def _model(
    nodes: Sequence[bytes],
    constants: Mapping[bytes, NDArray[Any] | np.generic],
    left: NDArray[Any],
    out_shape: tuple[int, int],
    out_type: int,
) -> bytes:
    """A ModelProto with one input, "left", and one output, "out"."""
    graph = (
        b"".join(_field(1, node) for node in nodes)
        + _field(2, b"product")
        + b"".join(_field(5, _constant(name, value)) for name, value in constants.items())
        + _field(11, _value(b"left", _TYPES[left.dtype.name], left.shape))
        + _field(12, _value(b"out", out_type, out_shape))
    )
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 13))  # IR version 8, opset 13


def _node(operator: str, inputs: Sequence[bytes], output: bytes) -> bytes:
    """A NodeProto."""
    return b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, operator.encode())


def _constant(name: bytes, value: NDArray[Any] | np.generic) -> bytes:
    """A TensorProto."""
    sizes = b"".join(_field(1, size) for size in value.shape)
    return sizes + _field(2, _TYPES[value.dtype.name]) + _field(8, name) + _field(9, value.tobytes())


def _value(name: bytes, element_type: int, shape: Sequence[int]) -> bytes:
    """A ValueInfoProto of a tensor."""
    dimensions = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, element_type) + _field(2, dimensions)))


def _field(number: int, value: int | bytes) -> bytes:
    """A protobuf field: a number as a varint, bytes with their length before them."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first, the top bit set on all but the last."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


if __name__ == "__main__":
    serve(load_gemm)
