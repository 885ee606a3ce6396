"""What executes a graph: one module per engine, each behind the same small protocol."""

from collections.abc import Callable
from typing import assert_never, get_args

from ...preprocess.errors import BackendError
from ..bounds import THREADS
from ..bundle.bundle import Bundle
from ..precisions import BackendName, GraphPrecision, graphs_for, require_computes
from .backend import Backend

__all__ = [
    "BACKENDS",
    "DEFAULT_BACKEND",
    "DEFAULT_PRECISION",
    "ON_CPU",
    "Backend",
    "cpu_threads",
    "graph_for",
    "open_backend",
]

# Opens the bundle's graph for a precision; threads None leaves their number to the engine.
Open = Callable[[Bundle, str, int | None], Backend]

BACKENDS: tuple[BackendName, ...] = get_args(BackendName)
DEFAULT_BACKEND = "onnxruntime"
DEFAULT_PRECISION = "fp32"
# Those that compute in threads of the CPU. The others refuse a number of threads.
ON_CPU = ("onnxruntime", "openvino")


def cpu_threads(backend: str, threads: int | None) -> int | None:
    """How many of `threads` a backend is given: all on the CPU; None, which is no number, elsewhere."""
    return threads if backend in ON_CPU else None


def open_backend(name: str, bundle: Bundle, precision: str, *, threads: int | None = None) -> Backend:
    """Load the bundle's graph for that precision into the engine called `name`.

    What is asked for runs, or it is an error.

    Args:
        name: the engine.
        bundle: the bundle.
        precision: which of its graphs, or what the engine makes of one.
        threads: CPU threads that compute one batch. None leaves their number to the engine.

    Raises:
        BackendError: for an unknown or unusable engine, and for a precision that it does not compute in.
        BundleError: for a graph that is missing or damaged.
        MissingExtra: where the engine is not installed.
        OutOfBounds: for more threads than the cores can use.
    """
    opened = _opener(_computing(name, precision))
    return opened(bundle, precision, None if threads is None else THREADS.check(threads))


def graph_for(name: str, precision: str) -> GraphPrecision:
    """Say which of a bundle's graphs the engine called `name` takes to compute in a precision.

    Raises BackendError for an unknown engine, and for a precision that it does not compute in.
    """
    return graphs_for(_computing(name, precision))[precision]


def _computing(name: str, precision: str) -> BackendName:
    for backend in BACKENDS:
        if backend == name:
            require_computes(backend, precision)
            return backend
    raise BackendError(f"there is no backend {name!r}; there are {', '.join(BACKENDS)}")


def _opener(name: BackendName) -> Open:
    """Import the module of an engine and no other: a start has no need of those that do not run."""
    match name:
        case "onnxruntime":
            from .ort import open_onnxruntime

            return open_onnxruntime
        case "onnxruntime-cuda":
            from .ort_cuda import open_onnxruntime_cuda

            return open_onnxruntime_cuda
        case "onnxruntime-tensorrt":
            from .ort_cuda import open_onnxruntime_tensorrt

            return open_onnxruntime_tensorrt
        case "onnxruntime-tensorrt-rtx":
            from .ort_rtx import open_onnxruntime_tensorrt_rtx

            return open_onnxruntime_tensorrt_rtx
        case "tensorrt":
            from .trt import open_tensorrt

            return open_tensorrt
        case "tensorrt-rtx":
            from .trt_rtx import open_tensorrt_rtx

            return open_tensorrt_rtx
        case "openvino":
            from .openvino import open_openvino

            return open_openvino
        case _:
            assert_never(name)
