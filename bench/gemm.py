"""The machine's own limit: how fast an engine multiplies matrices of the model's shapes, and nothing else.

python -m tubelet.bench.gemm SETTINGS answers like worker.py; a run is one product of each shape.
"""

import dataclasses
import importlib.util
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.backends import openvino as openvino_backend
from ..runtime.backends.ort import import_onnxruntime, multiply_integers_exactly
from ..runtime.backends.product_graph import product_graph, quantized_product_graph
from ..runtime.bundle.files import MatrixProduct
from .machine import Machine
from .worker import Loaded, serve

# A product that is thinner than this is held up by memory before arithmetic and cannot show the limit of either.
THINNEST = 256
MOST_SHAPES = 3

Shape = tuple[int, int, int]  # rows, inner, columns


@dataclass(frozen=True)
class GemmSettings:
    """What a process computes; see worker.Settings."""

    engine: str
    precision: str
    threads: int
    shapes: tuple[Shape, ...]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


def heaviest_shapes(products: Iterable[MatrixProduct]) -> tuple[Shape, ...]:
    """The shapes that a model spends most on, of those that no side of is thin. Where all of them are thin, it is the
    one it spends most on.
    """
    by_work = sorted(products, key=lambda product: product.macs, reverse=True)
    shapes = [(product.rows, product.inner, product.columns) for product in by_work]
    thick = [shape for shape in shapes if min(shape) >= THINNEST]
    return tuple((thick or shapes[:1])[:MOST_SHAPES])


def gigaflop(shapes: Iterable[Shape]) -> float:
    """Count the operations of one product of each shape, in billions; a multiplication and an addition are two."""
    return 2e-9 * sum(rows * inner * columns for rows, inner, columns in shapes)


def gemm_engines(machine: Machine) -> tuple[tuple[str, str], ...]:
    """(engine, precision) of what is installed here and can multiply in that precision on the CPU."""
    engines = [("numpy", "fp32")]
    if importlib.util.find_spec("onnxruntime"):
        engines += [("onnxruntime", "fp32"), ("onnxruntime", "int8")]
    if importlib.util.find_spec("openvino"):
        engines.append(("openvino", "fp32"))
        if not openvino_backend.integer_products_saturate():  # otherwise the backend refuses int8
            engines.append(("openvino", "int8"))
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
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    # Each shape has a session with threads of its own, which must not spin while the next shape is multiplied.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    multiply_integers_exactly(options)  # as the backend does
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


if __name__ == "__main__":
    serve(load_gemm)
