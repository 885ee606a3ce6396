"""What executes a graph: one module per engine, each behind the same small protocol."""

from collections.abc import Callable
from importlib import import_module

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

# The module of each, imported when it is opened, and the function that does so.
BACKENDS: dict[BackendName, tuple[str, str]] = {
    "onnxruntime": ("ort", "open_onnxruntime"),
    "onnxruntime-cuda": ("ort_cuda", "open_onnxruntime_cuda"),
    "onnxruntime-tensorrt": ("ort_cuda", "open_onnxruntime_tensorrt"),
    "onnxruntime-tensorrt-rtx": ("ort_rtx", "open_onnxruntime_tensorrt_rtx"),
    "tensorrt": ("trt", "open_tensorrt"),
    "tensorrt-rtx": ("trt_rtx", "open_tensorrt_rtx"),
    "openvino": ("openvino", "open_openvino"),
}
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
    module, function = BACKENDS[_computing(name, precision)]
    opened: Open = getattr(import_module(f".{module}", __name__), function)
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
