"""TensorRT's builder: a graph of standard operators becomes a plan."""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ...preprocess.errors import BackendError
from ...runtime.backends.trt_library import is_rtx, library_name
from ...runtime.bundle.engines import HIDDEN, EngineOptions
from ...runtime.bundle.files import TensorInfo
from ...runtime.progress import Progress
from .network import read_network

GIGABYTE = 10**9


class BuildFailed(BackendError):
    """Raised when TensorRT reads a graph and then finds no way to build it."""


@dataclass(frozen=True)
class BuiltPlan:
    """timing_cache: what TensorRT learned of its kernels' speed, for the next build; empty where it keeps no times."""

    plan: bytes
    timing_cache: bytes


def build_plan(
    trt: ModuleType,
    graph: Path,
    given: TensorInfo,
    options: EngineOptions,
    *,
    tf32: bool,
    timing_cache: bytes = b"",
    compute_capabilities: Sequence[tuple[int, int]] = (),
    progress: Progress,
) -> BuiltPlan:
    """Build the plan of a graph.

    Args:
        trt: TensorRT, or TensorRT for RTX.
        graph: where the graph is.
        given: the one input that it takes, with a dynamic batch.
        options: precision, batch sizes, and how TensorRT searches.
        tf32: whether products of float32 may be rounded to it.
        timing_cache: that of an earlier build.
        compute_capabilities: of the GPUs that a plan of TensorRT for RTX is for. TensorRT builds for the GPU here.
        progress: called with a line for each step.

    Raises:
        BackendError: with the parser's own errors, node by node, where it does not read the graph.
        BuildFailed: where the builder gives up.
        KeyboardInterrupt: soon, on Ctrl-C.
    """
    network = read_network(trt, graph)
    builder = network.builder
    config = builder.create_builder_config()
    _configure(trt, config, options, tf32=tf32)
    _add_profiles(builder, config, given, options)
    _set_compute_capabilities(trt, config, compute_capabilities)
    cache = None if is_rtx(trt) else _set_timing_cache(config, timing_cache)
    monitor = build_monitor(trt, progress)
    config.progress_monitor = monitor
    plan = _run_cancellable(monitor, lambda: builder.build_serialized_network(network.definition, config))
    if plan is None:
        raise BuildFailed(f"TensorRT could not build the engine:\n  {network.log.take_errors()}")
    return BuiltPlan(bytes(memoryview(plan)), b"" if cache is None else bytes(memoryview(cache.serialize())))


def _set_compute_capabilities(trt: ModuleType, config: Any, wanted: Sequence[tuple[int, int]]) -> None:
    if not wanted:
        return
    config.num_compute_capabilities = len(wanted)
    for index, (major, minor) in enumerate(wanted):
        known = getattr(trt.ComputeCapability, f"SM{major}{minor}", None)
        if known is None or not config.set_compute_capability(known, index):
            raise BackendError(f"{library_name(trt)} does not build for compute capability {major}.{minor}")


def _configure(trt: ModuleType, config: Any, options: EngineOptions, *, tf32: bool) -> None:
    # On by default, and it rounds the operands of float32 products to 10 bits after the point.
    (config.set_flag if tf32 else config.clear_flag)(trt.BuilderFlag.TF32)
    config.builder_optimization_level = options.opt_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the types of layers can be read from the engine then
    if options.workspace_gb is not None:
        limit = int(options.workspace_gb * GIGABYTE)
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, limit)


def _add_profiles(builder: Any, config: Any, given: TensorInfo, options: EngineOptions) -> None:
    for wanted in options.profiles:
        profile = builder.create_optimization_profile()
        # (B, ...) at the smallest, the tuned and the largest batch
        profile.set_shape(given.name, *((size, *given.shape[1:]) for size in (wanted.min, wanted.opt, wanted.max)))
        if config.add_optimization_profile(profile) < 0:
            raise BackendError(f"TensorRT refuses the batch sizes {wanted} for {given.describe()}")


def _set_timing_cache(config: Any, timing_cache: bytes) -> Any:
    """Set the cache and return it. It is a new one where TensorRT refuses the given one (another GPU or version)."""
    cache = config.create_timing_cache(timing_cache)
    if timing_cache and (cache is None or not config.set_timing_cache(cache, ignore_mismatch=False)):
        return _set_timing_cache(config, b"")
    if not timing_cache and not config.set_timing_cache(cache, ignore_mismatch=False):
        raise BackendError("TensorRT refuses a new timing cache")
    return cache


def build_monitor(trt: ModuleType, progress: Progress) -> Any:
    """TensorRT's progress, said to `progress`; its `cancel` makes the build end at the next step."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._lock = threading.Lock()  # called from TensorRT's own threads
            self._cancelled = False

        def cancel(self) -> None:
            self._cancelled = True

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            with self._lock:
                self._steps[phase_name] = num_steps
                progress(f"{phase_name}, {num_steps} steps")

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                progress(f"{phase_name}, step {step + 1} of {self._steps.get(phase_name, '?')}")
            return not self._cancelled

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._steps.pop(phase_name, None)

    return Monitor()


def _run_cancellable(monitor: Any, build: Callable[[], Any]) -> Any:
    """What `build` returns. It runs beside this thread, which could not hear Ctrl-C from inside TensorRT.

    Raises KeyboardInterrupt on Ctrl-C, once the build has ended.
    """
    with ThreadPoolExecutor(1) as pool:
        # A thread that is interrupted while it waits for another to start leaves one that the pool does not know, and
        # does not wait for. This one does nothing yet.
        pool.submit(int).result()
        try:
            return _result(pool.submit(build))
        except KeyboardInterrupt:
            _end(monitor, pool)
            raise


def _result(running: Future[Any]) -> Any:
    """Its result. Waits are short: a signal that comes just as one begins is heard when it ends."""
    while not wait([running], timeout=0.1).done:
        pass
    return running.result()


def _end(monitor: Any, pool: ThreadPoolExecutor) -> None:
    """Cancel a build and wait, however often Ctrl-C is pressed: TensorRT still works on what is freed after this."""
    while True:
        try:
            monitor.cancel()
            _result(pool.submit(int))  # which its one thread comes to after the build
            return
        except KeyboardInterrupt:
            continue


def layer_types(information: str) -> dict[str, int]:
    """How many layers of an engine take in each floating-point or 8-bit type, from the inspector's JSON.

    A layer counts as the narrowest type among its inputs, which is what it multiplies. Where it takes in none it counts
    by its outputs, and without any such tensor not at all. What TensorRT compiled as a whole and shows from outside
    counts as HIDDEN. So does an engine that it does not describe in JSON. Raises BuildFailed where the JSON shows no
    layers.
    """
    counts: Counter[str] = Counter()
    try:
        layers = json.loads(information).get("Layers", [])
    except ValueError:
        return {HIDDEN: 1}
    for layer in layers:
        if not isinstance(layer, dict):
            raise BuildFailed("the engine carries no types of its layers")
        if "ForeignNode[" in str(layer.get("Name")):
            counts[HIDDEN] += 1
            continue
        found = _types_in(layer.get("Inputs", [])) or _types_in(layer.get("Outputs", []))
        if found:
            counts[min(found, key=_NARROWEST_FIRST.index)] += 1
    if not counts:
        raise BuildFailed("TensorRT's inspector shows no layer of the engine")
    return dict(counts.most_common())


# Type as tubelet writes it -> how the inspector may write it, narrowest first. A word must begin there, since uint8
# is neither, and "float" begins other names too.
_INSPECTED = {
    "fp8": re.compile(r"\b(fp8|float8)", re.IGNORECASE),
    "int8": re.compile(r"\bint8", re.IGNORECASE),
    "bf16": re.compile(r"\b(bf16|bfloat16)", re.IGNORECASE),
    "fp16": re.compile(r"\b(fp16|half|float16)", re.IGNORECASE),
    "fp32": re.compile(r"\b(fp32|float)(?!8|16)", re.IGNORECASE),
}
_NARROWEST_FIRST = list(_INSPECTED)


def _types_in(tensors: list[Any]) -> set[str]:
    """Types of tensors in the inspector's JSON: "Format/Datatype" is "Half", or "Row major linear FP16 format"."""
    described = [tensor for tensor in tensors if isinstance(tensor, dict)]
    written = [str(tensor.get("Format/Datatype") or tensor.get("Datatype") or "") for tensor in described]
    return {name for text in written for name, form in _INSPECTED.items() if form.search(text)}
