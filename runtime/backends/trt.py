"""TensorRT: an engine on the GPU, without torch."""

import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import BackendError
from ..bundle.bundle import Bundle
from ..bundle.engines import FOLDER, SOURCES, Profile, find_engine, read_plan
from ..bundle.files import TensorInfo
from .backend import Backend
from .cuda import CapturedGraph, Cuda, DeviceMemory, MirroredArray, Stream
from .signature import require_signature
from .timed_steps import Timed
from .trt_library import load_tensorrt, start, tensorrt_log, this_machine


@dataclass(frozen=True)
class BatchPart:
    """One execution: `clips` of the batch, by a profile (its number), at a size that may hold padding beside them."""

    profile: int
    size: int
    clips: int


def split_batch(clips: int, profiles: Sequence[Profile]) -> list[BatchPart]:
    """How a batch of any size goes through an engine.

    As many parts of the largest batch as fit, then one for the rest. That goes to the profile that takes it and was
    tuned nearest to it. Where none takes it (below all or between two), it is padded to the next size that one takes.
    """
    largest = max(range(len(profiles)), key=lambda i: profiles[i].max)
    full, rest = divmod(clips, profiles[largest].max)
    parts = [BatchPart(largest, profiles[largest].max, profiles[largest].max)] * full
    if rest:
        taking = [i for i, profile in enumerate(profiles) if profile.min <= rest <= profile.max]
        if taking:
            parts.append(BatchPart(min(taking, key=lambda i: abs(profiles[i].opt - rest)), rest, rest))
        else:
            next_up = min(
                (i for i, profile in enumerate(profiles) if profile.min > rest), key=lambda i: profiles[i].min
            )
            parts.append(BatchPart(next_up, profiles[next_up].min, rest))
    return parts


class LoadedEngine:
    """A plan, deserialised, and what it says of itself.

    input_name takes input_dtype (B, *clip_shape), output_name gives float32 (B, K).
    """

    def __init__(self, trt: ModuleType, plan: bytes) -> None:
        """Raise BackendError where TensorRT refuses the plan, or where it is not the engine of a bundle's graph."""
        self.trt = trt
        self.log = tensorrt_log(trt)
        self._runtime = start(trt.Runtime, self.log)
        self.engine = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise BackendError(f"TensorRT cannot load the engine: {self.log.take_errors()}", fix="build it again")
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        modes = [self.engine.get_tensor_mode(name) for name in names]
        if sorted(modes, key=int) != [trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT]:
            raise BackendError(f"an engine with one input and one output was expected, this one has {', '.join(names)}")
        self.input_name = names[modes.index(trt.TensorIOMode.INPUT)]
        self.output_name = names[modes.index(trt.TensorIOMode.OUTPUT)]
        self.input_dtype = self._dtype(self.input_name)
        if self._dtype(self.output_name) != np.float32:
            raise BackendError(f"{self.output_name} must be float32, the engine gives {self._dtype(self.output_name)}")
        self.clip_shape = tuple(self.engine.get_tensor_shape(self.input_name))[1:]
        self.labels = tuple(self.engine.get_tensor_shape(self.output_name))[1]
        self.profiles = tuple(
            Profile(*(shape[0] for shape in self.engine.get_tensor_profile_shape(self.input_name, i)))
            for i in range(self.engine.num_optimization_profiles)
        )

    def _dtype(self, name: str) -> np.dtype[Any]:
        types = {self.trt.DataType.FLOAT: np.float32, self.trt.DataType.UINT8: np.uint8}
        found = self.engine.get_tensor_dtype(name)
        if found not in types:
            raise BackendError(f"{name} must be float32 or uint8, the engine has {found}")
        return np.dtype(types[found])

    def create_context(self) -> Any:
        """An execution context that is given its scratch memory, or None where TensorRT gives none."""
        return self.engine.create_execution_context(self.trt.ExecutionContextAllocationStrategy.USER_MANAGED)

    @property
    def scratch_bytes(self) -> int:
        """The memory on the GPU that an execution needs beside its input, output and weights, whatever its profile."""
        return int(self.engine.device_memory_size_v2)


@dataclass
class PreparedPart:
    """A context whose profile, shapes and addresses are set, and all of its work as one captured graph. The graph is
    None where that cannot be captured.
    """

    context: Any
    graph: CapturedGraph | None


class Lane:
    """What one thread at a time needs to run an engine. That is a stream, buffers for the largest batch, scratch
    memory, and a context for each batch size seen.

    A context for each size, because a captured graph is void once the context that it came from has changed. They
    share the scratch memory, because they never run at the same time.
    """

    def __init__(self, cuda: Cuda, engine: LoadedEngine) -> None:
        self._cuda = cuda
        self._engine = engine
        self._prepared: dict[tuple[int, int], PreparedPart] = {}
        largest = max(profile.max for profile in engine.profiles)
        with ExitStack() as resources:
            self._stream = resources.enter_context(closing(Stream(cuda)))
            self._input = resources.enter_context(
                closing(MirroredArray(cuda, (largest, *engine.clip_shape), engine.input_dtype))
            )
            self._output = resources.enter_context(
                closing(MirroredArray(cuda, (largest, engine.labels), np.dtype(np.float32)))
            )
            self._scratch = resources.enter_context(closing(DeviceMemory(cuda, engine.scratch_bytes)))
            resources.callback(self._prepared.clear)  # contexts go before the memory that they use
            self._resources = resources.pop_all()

    def infer(self, clips: NDArray[Any], part: BatchPart) -> NDArray[np.float32]:
        """clips (part.clips, *clip_shape) -> logits float32 (part.clips, K), which the caller owns."""
        prepared = self._prepared_for(part)
        self._write(clips, part)
        if prepared.graph is None:
            self._queue(prepared.context, part.size)
        else:
            prepared.graph.launch(self._stream)
        self._stream.wait()
        logits: NDArray[np.float32] = self._output.host[: part.clips].copy()
        return logits

    def infer_in_steps(self, clips: NDArray[Any], part: BatchPart, timed: Timed) -> NDArray[np.float32]:
        """`infer` without the captured graph, which is one piece."""
        prepared = self._prepared_for(part)
        self._write(clips, part)
        self._input.queue_copy_in(part.size, self._stream)
        self._stream.wait()
        timed("copy in")
        self._queue_execution(prepared.context, part.size)
        self._stream.wait()
        timed("execute")
        self._output.queue_copy_out(part.size, self._stream)
        self._stream.wait()
        logits: NDArray[np.float32] = self._output.host[: part.clips].copy()
        timed("copy out")
        return logits

    def _write(self, clips: NDArray[Any], part: BatchPart) -> None:
        """Into the pinned memory; what is missing to the size of the part repeats the last clip."""
        self._input.host[: part.clips] = clips
        self._input.host[part.clips : part.size] = clips[-1]

    def _prepared_for(self, part: BatchPart) -> PreparedPart:
        key = (part.profile, part.size)
        if key not in self._prepared:
            self._prepared[key] = self._prepare(part)
        return self._prepared[key]

    def _prepare(self, part: BatchPart) -> PreparedPart:
        engine = self._engine
        context = engine.create_context()
        if context is None:
            raise BackendError(f"TensorRT gave no execution context: {engine.log.take_errors()}")
        self._must(
            context.set_optimization_profile_async(part.profile, int(self._stream.handle)),
            f"take optimization profile {part.profile}",
        )
        self._stream.wait()
        shape = (part.size, *engine.clip_shape)
        self._must(context.set_input_shape(engine.input_name, shape), f"take {engine.input_name} of shape {shape}")
        context.set_device_memory(self._scratch.address, self._scratch.size_bytes)
        for name, array in ((engine.input_name, self._input), (engine.output_name, self._output)):
            self._must(context.set_tensor_address(name, array.address), f"take the address of {name}")
        # Once without capturing: TensorRT leaves some of its work for the first execution of a shape.
        self._queue(context, part.size)
        self._stream.wait()
        try:
            graph = CapturedGraph(self._cuda, self._stream, lambda: self._queue(context, part.size))
        except BackendError as error:
            warnings.warn(
                f"a batch of {part.size} runs without a CUDA graph, which costs time only: {error.message}",
                RuntimeWarning,
                stacklevel=2,
            )
            return PreparedPart(context, None)
        self._resources.callback(graph.close)
        return PreparedPart(context, graph)

    def _queue(self, context: Any, size: int) -> None:
        """The whole of one execution: clips in, engine, logits out."""
        self._input.queue_copy_in(size, self._stream)
        self._queue_execution(context, size)
        self._output.queue_copy_out(size, self._stream)

    def _queue_execution(self, context: Any, size: int) -> None:
        self._must(context.execute_async_v3(int(self._stream.handle)), f"execute a batch of {size}")

    def _must(self, succeeded: bool, what: str) -> None:
        if not succeeded:
            raise BackendError(f"TensorRT could not {what}: {self._engine.log.take_errors()}")

    def close(self) -> None:
        self._resources.close()


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
