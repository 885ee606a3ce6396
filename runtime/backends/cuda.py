"""The CUDA runtime through cuda.bindings: every call checked, every byte given back.

NVIDIA's own Python binding, and nothing else: no torch, no cupy. It needs no CUDA toolkit, only the driver.
"""

import ctypes
import importlib
import math
import operator
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import BackendError, MissingExtra, NotAvailable
from ..system import ask_nvidia_smi

# The GPU that work goes to is the first that the process sees; CUDA_VISIBLE_DEVICES chooses which that is.
DEVICE = 0


class OutOfDeviceMemory(BackendError):
    """Raised when the GPU, or the pinned memory of the host, has no room for what was asked."""


@dataclass(frozen=True)
class Device:
    """The GPU, as CUDA describes it. cuda: the newest CUDA that its driver can run, such as "13.0"."""

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    cuda: str


def load_cuda() -> ModuleType:
    """cuda.bindings' runtime module. Raises MissingExtra where it is not installed."""
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise MissingExtra("cuda-bindings", "tensorrt", purpose="to reach the GPU without torch") from error


class Cuda:
    """The CUDA runtime on DEVICE. It holds nothing itself: what it allocates belongs to the caller."""

    def __init__(self) -> None:
        """Raise MissingExtra without cuda.bindings, and NotAvailable where there is no GPU or no driver."""
        self._runtime = load_cuda()
        self.call("cudaSetDevice", DEVICE)

    def call(self, name: str, *arguments: Any) -> Any:
        """What the runtime's function `name` returns beside its status: nothing, a value, or several.

        Raises BackendError, naming the call, for any status but success; OutOfDeviceMemory for a lack of memory.
        """
        status, *values = getattr(self._runtime, name)(*arguments)
        if status != self._runtime.cudaError_t.cudaSuccess:
            raise self._error(name, status)
        if len(values) == 1:
            return values[0]
        return tuple(values) or None

    def _error(self, name: str, status: Any) -> BackendError:
        _, text = self._runtime.cudaGetErrorString(status)
        message = f"CUDA's {name} failed: {text.decode()} ({status.name})"
        errors = self._runtime.cudaError_t
        if status == errors.cudaErrorMemoryAllocation:
            return OutOfDeviceMemory(message, fix="free the GPU's memory, or use a smaller batch")
        if status in (errors.cudaErrorInsufficientDriver, errors.cudaErrorNoDevice):
            return NotAvailable(message, fix="run where a GPU and its driver are; `tubelet doctor` shows what is there")
        return BackendError(message)

    def constant(self, name: str) -> Any:
        """One of the runtime's constants, such as "cudaMemcpyKind.cudaMemcpyHostToDevice"."""
        return operator.attrgetter(name)(self._runtime)

    def forget_last_error(self) -> None:
        """Clears the error that the runtime keeps of a failed call, so that a later check does not find it."""
        self._runtime.cudaGetLastError()

    def device(self) -> Device:
        properties = self.call("cudaGetDeviceProperties", DEVICE)
        version = self.call("cudaDriverGetVersion")  # 13000 is CUDA 13.0
        return Device(
            name=properties.name.split(b"\0")[0].decode(),
            compute_capability=(properties.major, properties.minor),
            multiprocessors=properties.multiProcessorCount,
            memory_bytes=properties.totalGlobalMem,
            cuda=f"{version // 1000}.{version % 1000 // 10}",
        )


class Stream:
    """A queue of work on the GPU, of its own: it waits for no other."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.handle = cuda.call("cudaStreamCreateWithFlags", cuda.constant("cudaStreamNonBlocking"))

    def wait(self) -> None:
        """Return when all that was queued is done; raises BackendError where any of it failed."""
        self._cuda.call("cudaStreamSynchronize", self.handle)

    def close(self) -> None:
        self._cuda.call("cudaStreamDestroy", self.handle)


class DeviceMemory:
    """Bytes on the GPU."""

    def __init__(self, cuda: Cuda, size_bytes: int) -> None:
        self._cuda = cuda
        self.size_bytes = max(1, size_bytes)
        self.address = int(cuda.call("cudaMalloc", self.size_bytes))

    def close(self) -> None:
        self._cuda.call("cudaFree", self.address)


class MirroredArray:
    """An array in pinned memory of the host, and room for it on the GPU.

    Pinned memory is what the GPU's copy engine reads and writes by itself, without a copy in between.
    """

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._cuda = cuda
        size_bytes = math.prod(shape) * dtype.itemsize
        self._host = int(cuda.call("cudaMallocHost", size_bytes))
        try:
            self._memory = DeviceMemory(cuda, size_bytes)
        except BackendError:
            cuda.call("cudaFreeHost", self._host)
            raise
        raw = (ctypes.c_uint8 * size_bytes).from_address(self._host)
        # The view must not be used after `close`: its memory is then gone.
        self.host: NDArray[Any] = np.ctypeslib.as_array(raw).view(dtype).reshape(shape)

    @property
    def address(self) -> int:
        """On the GPU."""
        return self._memory.address

    def queue_copy_in(self, rows: int, stream: Stream) -> None:
        """Host to GPU, the first `rows` of the first axis."""
        kind = self._cuda.constant("cudaMemcpyKind.cudaMemcpyHostToDevice")
        self._cuda.call("cudaMemcpyAsync", self.address, self._host, self._bytes_of(rows), kind, stream.handle)

    def queue_copy_out(self, rows: int, stream: Stream) -> None:
        """GPU to host, the first `rows` of the first axis."""
        kind = self._cuda.constant("cudaMemcpyKind.cudaMemcpyDeviceToHost")
        self._cuda.call("cudaMemcpyAsync", self._host, self.address, self._bytes_of(rows), kind, stream.handle)

    def _bytes_of(self, rows: int) -> int:
        return int(self.host[:rows].nbytes)

    def close(self) -> None:
        try:
            self._memory.close()
        finally:
            self._cuda.call("cudaFreeHost", self._host)


class CapturedGraph:
    """Work that was recorded from a stream once, to be started as a whole with one call.

    It keeps the addresses and sizes that it was recorded with.
    """

    def __init__(self, cuda: Cuda, stream: Stream, queue: Callable[[], None]) -> None:
        """Records what `queue` puts on the stream, which does not run yet.

        Raises BackendError where the work cannot be recorded; the stream is then as it was before.
        """
        self._cuda = cuda
        # Only this thread's calls are of the recording: others may allocate meanwhile.
        mode = cuda.constant("cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal")
        cuda.call("cudaStreamBeginCapture", stream.handle, mode)
        with ExitStack() as recorded:
            try:
                queue()
            finally:
                try:
                    graph = cuda.call("cudaStreamEndCapture", stream.handle)
                except BackendError:
                    cuda.forget_last_error()
                    raise
                recorded.callback(cuda.call, "cudaGraphDestroy", graph)
            self._handle = cuda.call("cudaGraphInstantiate", graph, 0)

    def launch(self, stream: Stream) -> None:
        self._cuda.call("cudaGraphLaunch", self._handle, stream.handle)

    def close(self) -> None:
        self._cuda.call("cudaGraphExecDestroy", self._handle)


def driver_version() -> str | None:
    """The driver's own version, such as "580.159.04"; None where its tool is absent, as on Jetson."""
    versions, _ = ask_nvidia_smi("driver_version")
    return versions[0] if versions else None
