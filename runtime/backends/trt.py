"""TensorRT: an engine on the GPU, without torch."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import BackendError
from ..bundle.bundle import Bundle
from ..bundle.engine_files import FOLDER, read_plan
from ..bundle.engine_search import find_engine
from ..bundle.engines import SOURCES
from ..bundle.files import TensorInfo
from .backend import Backend
from .cuda import Cuda
from .signature import require_signature
from .timed_steps import Timed
from .trt_engine import BatchPart, LoadedEngine, split_batch
from .trt_lane import Lane
from .trt_library import load_tensorrt, this_machine


class TensorRtBackend(Backend):
    """A TensorRT engine. `infer` may be called from several threads at once: each then has a lane of its own."""

    def __init__(self, engine: LoadedEngine, cuda: Cuda) -> None:
        self._cuda = cuda
        self._engine: LoadedEngine | None = engine
        self._lock = threading.Lock()
        self._idle: list[Lane] = []

    def inspect(self) -> str:
        """The engine's layers as TensorRT's inspector describes them, in JSON."""
        engine = self._open_engine()
        formats = engine.trt.LayerInformationFormat
        return str(engine.engine.create_engine_inspector().get_engine_information(formats.JSON))

    def signature(self) -> tuple[list[TensorInfo], list[TensorInfo]]:
        """What the engine takes, and what it gives."""
        engine = self._open_engine()
        taken = TensorInfo(engine.input_name, str(engine.input_dtype), ("batch", *engine.clip_shape))
        return [taken], [TensorInfo(engine.output_name, "float32", ("batch", engine.labels))]

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """batch (B, ...) of the graph's one input, B of any size -> logits float32 (B, K). The caller owns them."""
        return self._run_all(batch, Lane.infer)

    def infer_in_steps(self, batch: NDArray[Any], timed: Timed) -> NDArray[np.float32]:
        return self._run_all(batch, lambda lane, clips, part: lane.infer_in_steps(clips, part, timed))

    def _run_all(
        self, batch: NDArray[Any], infer: Callable[[Lane, NDArray[Any], BatchPart], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        engine = self._open_engine()
        if batch.dtype != engine.input_dtype or batch.shape[1:] != engine.clip_shape or not len(batch):
            raise BackendError(
                f"the engine takes {engine.input_name} {engine.input_dtype} "
                f"(B, {', '.join(map(str, engine.clip_shape))}), got {batch.dtype} {batch.shape}"
            )
        lane = self._take_lane(engine)
        try:
            done, logits = 0, []
            for part in split_batch(len(batch), engine.profiles):
                logits.append(infer(lane, batch[done : done + part.clips], part))
                done += part.clips
        finally:
            self._give_back(lane)
        return np.concatenate(logits)

    def _open_engine(self) -> LoadedEngine:
        if self._engine is None:
            raise BackendError("the backend is closed")
        return self._engine

    def _take_lane(self, engine: LoadedEngine) -> Lane:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Lane(self._cuda, engine)

    def _give_back(self, lane: Lane) -> None:
        with self._lock:
            if self._engine is not None:
                self._idle.append(lane)
                return
        lane.close()  # the backend was closed meanwhile

    def close(self) -> None:
        with self._lock:
            lanes, self._idle = self._idle, []
            self._engine = None
        with ExitStack() as closing_all:
            for lane in lanes:
                closing_all.callback(lane.close)


def open_tensorrt(bundle: Bundle, precision: str, threads: int | None) -> TensorRtBackend:
    """The engine of that precision which `tubelet build` left in the bundle for this machine.

    Raises BackendError, with the command that builds it, where there is none; MissingExtra where TensorRT or
    cuda.bindings is not installed.
    """
    if threads is not None:
        raise BackendError("TensorRT computes on the GPU, so a number of CPU threads has no meaning for it")
    trt, cuda = load_tensorrt(), Cuda()
    record = find_engine(bundle, precision, this_machine(cuda, trt))
    backend = TensorRtBackend(LoadedEngine(trt, read_plan(bundle.path / FOLDER, record)), cuda)
    require_signature(bundle, bundle.graph(SOURCES[precision]), *backend.signature())
    return backend
