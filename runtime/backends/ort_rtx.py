"""ONNX Runtime on RTX GPUs: TensorRT for RTX as a plugin, which builds its engine when the bundle is opened."""

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import BackendError
from ..bundle.bundle import Bundle
from ..bundle.engine_files import FOLDER, require_private
from .backend import Backend
from .linked_graph import LinkedGraph
from .ort_cuda import usable_graph
from .ort_plugin import Plugin, devices_of, open_plugin_session
from .signature import require_session_signature
from .trt_library import PLUGIN

if TYPE_CHECKING:
    import onnxruntime

RTX_PLUGIN = Plugin(
    PLUGIN,
    "NvTensorRTRTXExecutionProvider",
    "rtx-ort",
    fix="run where an RTX GPU (compute capability 8.6, 8.9, 12.0 or newer) and NVIDIA's driver are",
)
# The batch sizes that its engine takes, and is tuned for; larger ones are split.
SMALLEST, TUNED, LARGEST = 1, 4, 8


def rtx_devices() -> list[Any]:
    """The RTX GPUs that the plugin finds. Raises MissingExtra where it is not installed, BackendError where it cannot
    be loaded. It cannot beside TensorRT for RTX: both bring the same library, in two builds.
    """
    if "tensorrt_rtx" in sys.modules:
        raise BackendError(
            "ONNX Runtime's TensorRT for RTX cannot be loaded beside TensorRT for RTX itself, which is in this process",
            fix="use one of tensorrt-rtx and onnxruntime-tensorrt-rtx in a process",
        )
    return devices_of(RTX_PLUGIN)


class RtxSessions(Backend):
    """A session for any batch, and one for a single clip. That one's shapes are fixed, so that it runs as a CUDA
    graph.
    """

    def __init__(self, bundle: Bundle, graph: Path | LinkedGraph, precision: str, cache: Path) -> None:
        self._graph = graph
        self._cache = cache
        self._declared = bundle.graph(precision)
        self._sessions: dict[int | None, onnxruntime.InferenceSession] | None = {}
        # One call at a time: a captured graph has one set of buffers.
        self._lock = threading.Lock()
        require_session_signature(bundle, self._declared, self._open(None))

    def _open(self, batch: int | None) -> "onnxruntime.InferenceSession":
        if self._sessions is None:
            raise BackendError("the backend is closed")
        if batch not in self._sessions:
            options = {"nv_runtime_cache_path": str(self._cache)} | profile_options(self._declared.inputs[0], batch)
            self._sessions[batch] = open_plugin_session(self._graph, RTX_PLUGIN, options, batch=batch)
        return self._sessions[batch]

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """batch (B, ...) of the graph's one input, B of any size -> its output, which the caller owns."""
        given, returned = self._declared.inputs[0], self._declared.outputs[0]
        if not len(batch):
            raise BackendError(f"a batch of {given.describe()} must hold a clip, got {batch.shape}")
        parts = []
        with self._lock:
            for start in range(0, len(batch), LARGEST):
                part = batch[start : start + LARGEST]
                session = self._open(1 if len(part) == 1 else None)
                try:
                    (logits,) = session.run([returned.name], {given.name: np.ascontiguousarray(part)})
                except Exception as error:  # ONNX Runtime's own exceptions share no base but Exception
                    raise BackendError(
                        f"ONNX Runtime failed on a batch of {part.dtype} {part.shape}: {error}"
                    ) from error
                parts.append(np.asarray(logits, np.float32))
        return np.concatenate(parts)

    def close(self) -> None:
        with self._lock:
            self._sessions = None


def profile_options(given: Any, batch: int | None) -> dict[str, str]:
    """The batch sizes of an engine in the provider's words. With one size alone it is run as a CUDA graph."""
    sizes = (SMALLEST, TUNED, LARGEST) if batch is None else (batch, batch, batch)
    shapes = ("x".join(map(str, (size, *given.shape[1:]))) for size in sizes)
    options = {
        f"nv_profile_{end}_shapes": f"{given.name}:{shape}"
        for end, shape in zip(("min", "opt", "max"), shapes, strict=True)
    }
    return options if batch is None else options | {"enable_cuda_graph": "1"}


def open_onnxruntime_tensorrt_rtx(bundle: Bundle, precision: str, threads: int | None) -> RtxSessions:
    """The bundle's graph of that precision on ONNX Runtime's TensorRT for RTX, and on nothing else.

    What it compiles is kept in the bundle's engines/, for the user alone. Raises BackendError where the plugin does
    not load, finds no GPU or does not take the whole graph. Raises MissingExtra where it is not installed.
    """
    graph = usable_graph(bundle, precision, threads)
    if not rtx_devices():  # said by a session in ONNX Runtime's own words, before anything is made
        open_plugin_session(b"", RTX_PLUGIN, {})
    folder = bundle.path / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    require_private(folder)
    cache = folder / f"onnxruntime-rtx-{precision}"
    cache.mkdir(mode=0o700, exist_ok=True)
    require_private(cache)
    return RtxSessions(bundle, graph, precision, cache)
