"""TensorRT for RTX: an engine that was built anywhere, on an RTX GPU.

Its machine code is made here, when a batch size is first run. It is kept beside the plan for the next process. Code is
a program as a plan is one, and so lies in the same private folder.
"""

import warnings
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from ...preprocess.errors import BackendError, NotWritten
from ..bundle.bundle import Bundle
from ..bundle.engine_files import FOLDER, read_plan, require_private, write_private
from ..bundle.engine_search import find_rtx_engine
from ..bundle.engines import EngineMachine
from ..bundle.parity_report import ParityReport
from ..bundle.rtx_engines import RTX_SOURCES, Proof, RtxRecord, sm
from .cuda import Cuda
from .signature import require_signature
from .trt import TensorRtBackend
from .trt_engine import LoadedEngine
from .trt_library import load_tensorrt_rtx, this_machine


class RtxEngine(LoadedEngine):
    """A plan for RTX GPUs, and the code that was made of it here, in the file at `cache`."""

    def __init__(self, trt: ModuleType, plan: bytes, cache: Path) -> None:
        super().__init__(trt, plan)
        self._path = cache
        self._config = self.engine.create_runtime_config()
        self._config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        # At once, for each batch size: otherwise a slower kernel stands in until another thread has made the right one,
        # and a captured graph would hold the slower one for good. The graph is captured by the lane, copies included.
        self._config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        self._config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED
        self._cache = self._config.create_runtime_cache()
        self._known = self._read_cache()
        if not self._config.set_runtime_cache(self._cache):
            raise BackendError(f"TensorRT for RTX refuses its own cache: {self.log.take_errors()}")

    def _read_cache(self) -> bytes:
        """What is in the file, where it is code for this GPU, driver and version; TensorRT says whether it is."""
        if not self._path.exists():
            return b""
        require_private(self._path)
        known = self._path.read_bytes()
        if known and not self._cache.deserialize(known):
            self.log.take_errors()
            return b""
        return known

    def create_context(self) -> Any:
        return self.engine.create_execution_context(self._config)

    def keep_cache(self) -> None:
        """Write what was made since it was loaded, for the next process."""
        made = bytes(memoryview(self._cache.serialize()))
        if made == self._known:
            return
        try:
            write_private(self._path.parent, self._path.name, made)
        except NotWritten as error:
            warnings.warn(
                f"the code for this GPU is not kept, which costs time only, when it is loaded again: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
        self._known = made


class RtxBackend(TensorRtBackend):
    """An engine for RTX GPUs on the GPU that is here."""

    def __init__(self, engine: RtxEngine, cuda: Cuda, folder: Path, record: RtxRecord, machine: EngineMachine) -> None:
        super().__init__(engine, cuda)
        self._rtx: RtxEngine | None = engine
        self._folder = folder
        self._record = record
        self._machine = machine

    @property
    def caution(self) -> str | None:
        proof = self._record.proof_on(self._machine)
        if proof is not None and proof.parity.passed:
            return None
        found = "is not yet proven on this GPU" if proof is None else "was outside tolerance on this GPU"
        bundle, precision = self._folder.parent, self._record.options.precision
        fix = f"tubelet check {bundle} --backend tensorrt-rtx --precision {precision}"
        if proof is not None:
            fix = "build another precision, such as bf16 or fp32"
        return f"{self._record.plan.name} {found} ({self._machine.gpu})\n  fix: {fix}"

    def note_check(self, report: ParityReport) -> None:
        """Write the check into the engine's record."""
        proof = Proof(self._machine, report, datetime.now(UTC).isoformat(timespec="microseconds"))
        self._record = self._record.with_proof(proof)
        try:
            self._record.save(self._folder)
        except NotWritten as error:
            warnings.warn(f"the check is not noted beside the engine: {error}", RuntimeWarning, stacklevel=2)

    def close(self) -> None:
        engine, self._rtx = self._rtx, None
        try:
            if engine is not None:
                engine.keep_cache()
        finally:
            super().close()


def open_tensorrt_rtx(bundle: Bundle, precision: str, threads: int | None) -> RtxBackend:
    """The engine of that precision which `tubelet build --target rtx` left in the bundle.

    Raises BackendError, with the command that builds it, where there is none. Raises MissingExtra where TensorRT for
    RTX or cuda.bindings is not installed.
    """
    if threads is not None:
        raise BackendError("TensorRT computes on the GPU, so a number of CPU threads has no meaning for it")
    trt, cuda = load_tensorrt_rtx(), Cuda()
    machine = this_machine(cuda, trt)
    record = find_rtx_engine(bundle, precision, machine)
    folder = bundle.path / FOLDER
    cache = folder / f"{Path(record.plan.name).stem}.sm{sm(machine.compute_capability)}.code"
    engine = RtxEngine(trt, read_plan(folder, record), cache)
    backend = RtxBackend(engine, cuda, folder, record, machine)
    require_signature(bundle, bundle.graph(RTX_SOURCES[precision]), *backend.signature())
    return backend
