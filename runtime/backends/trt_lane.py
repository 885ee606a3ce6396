"""What one thread runs a TensorRT engine with: a stream, memory, and captured graphs."""

import warnings
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import BackendError
from .cuda import CapturedGraph, Cuda, DeviceMemory, MirroredArray, Stream
from .timed_steps import Timed
from .trt_engine import BatchPart, LoadedEngine


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
