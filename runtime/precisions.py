"""Every precision that tubelet computes in, one row each.

Whoever needs a fact about a precision reads its row. How the exporter makes one is keyed by its name: LOWERINGS in
exporter/lower/search.py for graphs, ENGINE_GRAPHS in exporter/tensorrt/recipes.py for engines.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from ..preprocess.errors import BackendError
from .limits import CosineLimit, ElementLimit

# The precisions that a bundle has graphs of: what their matrix products compute in. A backend may compute in others.
GraphPrecision = Literal["fp32", "fp16", "int8", "int8-static", "fp8"]
GRAPH_PRECISIONS: tuple[GraphPrecision, ...] = get_args(GraphPrecision)

BackendName = Literal[
    "onnxruntime",
    "onnxruntime-cuda",
    "onnxruntime-tensorrt",
    "onnxruntime-tensorrt-rtx",
    "tensorrt",
    "tensorrt-rtx",
    "openvino",
]
FloatType = Literal["fp32", "fp16", "bf16"]
ElementType = Literal[FloatType, "int8", "fp8"]


@dataclass(frozen=True)
class Precision:
    """What is known of one precision.

    Attributes:
        name: how users, files and reports call it.
        multiplies: the type of the operands of its linear layers.
        floats: the type of the products that 8 bits leave out; the same as `multiplies` where that is a float.
        limit: how far from torch's answers is near enough.
        graphs: the backends that take it, and the graph of the bundle that each computes it from.
        first_gpu: compute capability of the first GPUs that multiply in it; (0, 0) for all that TensorRT runs on.
    """

    name: str
    multiplies: ElementType
    floats: FloatType
    limit: ElementLimit | CosineLimit
    graphs: Mapping[BackendName, GraphPrecision]
    first_gpu: tuple[int, int] = (0, 0)

    @property
    def is_8_bit(self) -> bool:
        """Whether linear layers alone multiply in it, and the rest in `floats`."""
        return self.multiplies != self.floats


_ROWS = (
    Precision(
        "fp32",
        multiplies="fp32",
        floats="fp32",
        limit=ElementLimit(absolute=1e-4, relative=1e-4),
        graphs={
            "onnxruntime": "fp32",
            "onnxruntime-cuda": "fp32",
            "tensorrt": "fp32",
            "tensorrt-rtx": "fp32",
            "openvino": "fp32",
        },
    ),
    # The fp32 graph with products on TF32 tensor cores: float32's range with 10 bits after the point. ONNX Runtime's
    # TensorRT providers have no switch to keep it out of fp32, and so take neither.
    Precision(
        "tf32",
        multiplies="fp32",
        floats="fp32",
        limit=CosineLimit(0.9999),
        graphs={"tensorrt": "fp32", "tensorrt-rtx": "fp32"},
        first_gpu=(8, 0),
    ),
    Precision(
        "bf16",
        multiplies="bf16",
        floats="bf16",
        limit=CosineLimit(0.999),
        graphs={"tensorrt": "fp32", "tensorrt-rtx": "fp32", "openvino": "fp32"},
        first_gpu=(8, 0),
    ),
    Precision(
        "fp16",
        multiplies="fp16",
        floats="fp16",
        limit=CosineLimit(0.9999),
        graphs={
            "onnxruntime": "fp16",
            "onnxruntime-cuda": "fp16",
            "onnxruntime-tensorrt": "fp16",
            "onnxruntime-tensorrt-rtx": "fp16",
            "tensorrt": "fp16",
            "tensorrt-rtx": "fp16",
            "openvino": "fp32",
        },
    ),
    # Activations are quantized as they come; OpenVINO, which reads no such graph, has its scales from calibration.
    Precision(
        "int8",
        multiplies="int8",
        floats="fp32",
        limit=CosineLimit(0.99),
        graphs={"onnxruntime": "int8", "openvino": "int8-static"},
    ),
    # With scales from calibration clips, as fp8. ONNX Runtime's CUDA provider would run 8 bits on the CPU.
    Precision(
        "int8-static",
        multiplies="int8",
        floats="fp32",
        limit=CosineLimit(0.99),
        graphs={"onnxruntime": "int8-static", "tensorrt": "int8-static", "tensorrt-rtx": "int8-static"},
    ),
    Precision(
        "int8-bf16",
        multiplies="int8",
        floats="bf16",
        limit=CosineLimit(0.99),
        graphs={"openvino": "int8-static"},
    ),
    Precision(
        "fp8",
        multiplies="fp8",
        floats="fp16",
        limit=CosineLimit(0.99),
        graphs={"onnxruntime": "fp8", "tensorrt": "fp8", "tensorrt-rtx": "fp8"},
        first_gpu=(8, 9),
    ),
)
PRECISIONS = {row.name: row for row in _ROWS}


def graphs_for(backend: BackendName) -> dict[str, GraphPrecision]:
    """List what a backend computes in.

    Returns:
        Name of each precision -> precision of the bundle's graph that it is computed from.
    """
    return {row.name: row.graphs[backend] for row in _ROWS if backend in row.graphs}


def require_computes(backend: BackendName, precision: str) -> None:
    """Raise BackendError where a backend does not compute in a precision; the fix names what does."""
    taken = graphs_for(backend)
    if precision in taken:
        return
    of_its_graph = [name for name, graph in taken.items() if graph == precision]
    others = PRECISIONS[precision].graphs if precision in PRECISIONS else {}
    ways = [f"--precision {' or '.join(of_its_graph)}" if of_its_graph else "choose one of them with --precision"]
    ways += [f"--backend {' or '.join(others)}"] if others else []
    raise BackendError(f"{backend} computes in {', '.join(taken)}, not in {precision!r}", fix=", or ".join(ways))
