"""A GPU made of host memory: the CUDA calls that tubelet makes, with the rules that a real one enforces.

Names, arities, types and constants are those of the real cuda.bindings, which must be installed. Work that is put on a
stream is done when the stream is waited for, not before, so that a missing wait shows; copies outside of a live
allocation of the right kind fail; and what is not freed is counted.
"""

import ctypes
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

real: Any = pytest.importorskip(
    "cuda.bindings.runtime", reason="the real cuda.bindings is what the double is made after"
)

OK = real.cudaError_t.cudaSuccess
INVALID = real.cudaError_t.cudaErrorInvalidValue
Work = Callable[[], bool]  # False where it fails


class HostCuda(ModuleType):
    """What stands in for cuda.bindings.runtime.

    failures: function -> status that its next calls give; a function is taken out again by the test.
    """

    def __init__(self, *, name: str = "NVIDIA H200", compute_capability: tuple[int, int] = (9, 0)) -> None:
        super().__init__("cuda.bindings.runtime")
        self.gpu = (name, compute_capability)
        self.failures: dict[str, Any] = {}
        self.calls: Counter[str] = Counter()
        self.copied: defaultdict[str, list[int]] = defaultdict(
            list
        )  # "in" or "out" -> bytes of each copy that was done
        self._lock = threading.RLock()
        self._memory: dict[int, tuple[str, Any]] = {}  # address -> "device" or "host", buffer
        self._streams: dict[int, list[Work]] = {}
        self._recording: dict[int, list[Work]] = {}
        self._spoiled: set[int] = set()  # streams whose recording met a call that cannot be recorded
        self._graphs: dict[int, list[Work]] = {}
        self._executables: dict[int, list[Work]] = {}
        self._next_handle = 1000

    def __getattr__(self, name: str) -> Any:
        found = getattr(real, name)  # AttributeError for what the real one does not have
        if not callable(found) or isinstance(found, type):
            return found
        implementation = _IMPLEMENTED.get(name)
        if implementation is None:
            return found  # pure look-ups, such as the text of an error
        parameters = found.__doc__.split("\n")[0].split("(", 1)[1].rstrip(")")
        arity = len([part for part in parameters.split(",") if part.strip()])

        def call(*arguments: Any) -> tuple[Any, ...]:
            if len(arguments) != arity:
                raise TypeError(f"{name}() takes {arity} arguments, got {len(arguments)}")
            with self._lock:
                self.calls[name] += 1
                if name in self.failures:
                    return (self.failures[name], None)
                return implementation(self, *arguments)

        return call

    # What tests ask

    def live(self) -> dict[str, int]:
        """How much of each thing is allocated and not yet freed."""
        kinds = Counter(kind for kind, _ in self._memory.values())
        handles = {"streams": self._streams, "graphs": self._graphs, "executables": self._executables}
        found = {**kinds, **{name: len(table) for name, table in handles.items()}}
        return {name: count for name, count in found.items() if count}

    # What the double of TensorRT asks

    def room(self, address: int, kind: str) -> int:
        """Bytes from `address` to the end of the allocation of that kind that it lies in; 0 where there is none."""
        for start, (found, buffer) in self._memory.items():
            if found == kind and start <= address < start + len(buffer):
                return start + len(buffer) - address
        return 0

    def queue(self, stream: int, work: Work) -> bool:
        """Puts work on a stream, or into what is being recorded from it; False for a stream that is not there."""
        with self._lock:
            target = self._recording if stream in self._recording else self._streams
            if stream not in target:
                return False
            target[stream].append(work)
            return True

    def spoil_recording(self, stream: int) -> None:
        """What work that cannot be recorded does to a recording."""
        if stream in self._recording:
            self._spoiled.add(stream)

    def _handle(self) -> int:
        self._next_handle += 1
        return self._next_handle

    # The calls

    def _set_device(self, device: int) -> tuple[Any, ...]:
        return (OK,) if device == 0 else (real.cudaError_t.cudaErrorInvalidDevice,)

    def _properties(self, device: int) -> tuple[Any, ...]:
        properties = real.cudaDeviceProp()
        name, (properties.major, properties.minor) = self.gpu
        properties.name = name.encode().ljust(256, b"\0")
        properties.multiProcessorCount = 132
        properties.totalGlobalMem = 140 * 10**9
        return (OK, properties) if device == 0 else (real.cudaError_t.cudaErrorInvalidDevice, None)

    def _driver_version(self) -> tuple[Any, ...]:
        return OK, 13000

    def _last_error(self) -> tuple[Any, ...]:
        return (OK,)

    def _allocate(self, kind: str, size: int) -> tuple[Any, ...]:
        buffer = (ctypes.c_uint8 * size)()
        self._memory[ctypes.addressof(buffer)] = (kind, buffer)
        return OK, ctypes.addressof(buffer)

    def _free(self, kind: str, address: int) -> tuple[Any, ...]:
        if self._memory.get(address, ("",))[0] != kind:
            return (INVALID,)
        del self._memory[address]
        return (OK,)

    def _create_stream(self, flags: int) -> tuple[Any, ...]:
        assert flags == real.cudaStreamNonBlocking
        handle = self._handle()
        self._streams[handle] = []
        return OK, real.cudaStream_t(handle)

    def _destroy_stream(self, stream: Any) -> tuple[Any, ...]:
        return (OK,) if self._streams.pop(int(stream), None) is not None else (INVALID,)

    def _wait(self, stream: Any) -> tuple[Any, ...]:
        if int(stream) in self._recording:
            self._spoiled.add(int(stream))
            return (real.cudaError_t.cudaErrorStreamCaptureUnsupported,)
        works, self._streams[int(stream)] = self._streams[int(stream)], []
        failures = [work for work in works if not work()]
        return (real.cudaError_t.cudaErrorLaunchFailure,) if failures else (OK,)

    def _copy(self, target: int, source: int, size: int, kind: Any, stream: Any) -> tuple[Any, ...]:
        kinds = {
            real.cudaMemcpyKind.cudaMemcpyHostToDevice: ("device", "host"),
            real.cudaMemcpyKind.cudaMemcpyDeviceToHost: ("host", "device"),
        }
        target_kind, source_kind = kinds[kind]
        if self.room(target, target_kind) < size or self.room(source, source_kind) < size:
            return (INVALID,)

        def work() -> bool:
            ctypes.memmove(target, source, size)
            self.copied["in" if target_kind == "device" else "out"].append(size)
            return True

        return (OK,) if self.queue(int(stream), work) else (INVALID,)

    def _begin(self, stream: Any, mode: Any) -> tuple[Any, ...]:
        assert mode == real.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._recording[int(stream)] = []
        return (OK,)

    def _end(self, stream: Any) -> tuple[Any, ...]:
        recorded = self._recording.pop(int(stream))
        if int(stream) in self._spoiled:
            self._spoiled.discard(int(stream))
            return real.cudaError_t.cudaErrorStreamCaptureInvalidated, None
        handle = self._handle()
        self._graphs[handle] = recorded
        return OK, real.cudaGraph_t(handle)

    def _instantiate(self, graph: Any, flags: int) -> tuple[Any, ...]:
        assert flags == 0
        handle = self._handle()
        self._executables[handle] = list(self._graphs[int(graph)])
        return OK, real.cudaGraphExec_t(handle)

    def _launch(self, executable: Any, stream: Any) -> tuple[Any, ...]:
        self._streams[int(stream)] += self._executables[int(executable)]
        return (OK,)

    def _destroy_graph(self, graph: Any) -> tuple[Any, ...]:
        return (OK,) if self._graphs.pop(int(graph), None) is not None else (INVALID,)

    def _destroy_executable(self, executable: Any) -> tuple[Any, ...]:
        return (OK,) if self._executables.pop(int(executable), None) is not None else (INVALID,)


_IMPLEMENTED: dict[str, Callable[..., tuple[Any, ...]]] = {
    "cudaSetDevice": HostCuda._set_device,
    "cudaGetDeviceProperties": HostCuda._properties,
    "cudaDriverGetVersion": HostCuda._driver_version,
    "cudaGetLastError": HostCuda._last_error,
    "cudaMalloc": lambda cuda, size: cuda._allocate("device", size),
    "cudaFree": lambda cuda, address: cuda._free("device", address),
    "cudaMallocHost": lambda cuda, size: cuda._allocate("host", size),
    "cudaFreeHost": lambda cuda, address: cuda._free("host", address),
    "cudaStreamCreateWithFlags": HostCuda._create_stream,
    "cudaStreamDestroy": HostCuda._destroy_stream,
    "cudaStreamSynchronize": HostCuda._wait,
    "cudaMemcpyAsync": HostCuda._copy,
    "cudaStreamBeginCapture": HostCuda._begin,
    "cudaStreamEndCapture": HostCuda._end,
    "cudaGraphInstantiate": HostCuda._instantiate,
    "cudaGraphLaunch": HostCuda._launch,
    "cudaGraphDestroy": HostCuda._destroy_graph,
    "cudaGraphExecDestroy": HostCuda._destroy_executable,
}
