"""ONNX Runtime on NVIDIA GPUs: its CUDA provider, and its TensorRT provider, which needs TensorRT 10."""

import io
import threading
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import BackendError, MissingExtra, NotAvailable
from ...preprocess.shortage import raise_shortage
from ..bundle.bundle import Bundle
from ..bundle.engine_files import FOLDER, require_private
from .backend import Backend
from .linked_graph import LinkedGraph, find_graph
from .ort import CPU_PROVIDER, import_onnxruntime, model_for_session
from .signature import require_session_signature
from .timed_steps import Timed, untimed
from .trt_library import load_tensorrt, tensorrt_version

if TYPE_CHECKING:
    import onnxruntime

CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"
_INSTALL = "pip uninstall onnxruntime, then pip install 'tubelet[gpu]'"
_COMPLETE = (
    "pip install 'tubelet[gpu]' brings CUDA's libraries, the system the driver; ONNX Runtime's log names what lacks"
)

# The TensorRT that ONNX Runtime's wheel is linked to.
LINKED_TENSORRT = 10
# The largest batch that the TensorRT provider builds for; larger ones are split.
LARGEST_TENSORRT_BATCH = 8
# Where bound buffers lie.
DEVICE = "cuda"
# Graphs that are captured at most, one for each batch size: each keeps memory on the GPU.
MOST_CAPTURED = 16


class BoundSession(Backend):
    """A session whose input and output stay on the device: for each batch size, one buffer each, bound once."""

    def __init__(
        self,
        session: "onnxruntime.InferenceSession",
        *,
        device: str,
        capture: bool = False,
        largest: int | None = None,
    ) -> None:
        """device: "cuda", or "cpu". capture: let ONNX Runtime record each batch size as a CUDA graph. largest: the
        batch size beyond which batches are split, if there is one."""
        self._session: onnxruntime.InferenceSession | None = session
        self._device = device
        self._capture = capture
        self._largest = largest
        self._input, self._output = session.get_inputs()[0], session.get_outputs()[0]
        self._only_output = len(session.get_outputs()) == 1
        dtypes: dict[str, np.dtype[Any]] = {
            "tensor(float)": np.dtype(np.float32),
            "tensor(uint8)": np.dtype(np.uint8),
        }
        self._dtype = dtypes[self._input.type]
        self._bindings: dict[int, tuple[Any, Any, Any]] = {}  # batch -> input on the device, binding, run options
        # One call at a time: CUDA's provider lets no two threads run a session with captured graphs, and TensorRT's
        # holds a lock of its own.
        self._lock = threading.Lock()

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """batch (B, ...) of the graph's one input -> logits float32 (B, K), which the caller owns."""
        return self.infer_in_steps(batch, untimed)

    def infer_in_steps(self, batch: NDArray[Any], timed: Timed) -> NDArray[np.float32]:
        """`infer`, which waits for each step anyway."""
        if batch.dtype != self._dtype or list(batch.shape[1:]) != self._input.shape[1:] or not len(batch):
            raise BackendError(
                f"the graph takes {self._input.name} {self._dtype} "
                f"(B, {', '.join(map(str, self._input.shape[1:]))}), got {batch.dtype} {batch.shape}"
            )
        step = self._largest or len(batch)
        with self._lock:
            if self._session is None:
                raise BackendError("the backend is closed")
            try:
                parts = [self._run(self._session, batch[i : i + step], timed) for i in range(0, len(batch), step)]
            except Exception as error:  # ONNX Runtime's own exceptions share no base but Exception
                raise_shortage(error)
                raise BackendError(f"ONNX Runtime failed on a batch of {batch.dtype} {batch.shape}: {error}") from error
        return np.concatenate(parts)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        if self._only_output and list(inputs) == [self._input.name]:
            return {self._output.name: self.infer(inputs[self._input.name])}
        return super().run(inputs)

    def _run(self, session: "onnxruntime.InferenceSession", batch: NDArray[Any], timed: Timed) -> NDArray[np.float32]:
        if len(batch) not in self._bindings:
            self._bindings[len(batch)] = self._bind(session, batch.shape)
        given, binding, options = self._bindings[len(batch)]
        given.update_inplace(np.ascontiguousarray(batch))
        timed("copy in")
        session.run_with_iobinding(binding, options)
        timed("execute")
        (returned,) = binding.copy_outputs_to_cpu()
        logits = np.array(returned, dtype=np.float32)  # a copy: the next run of this size writes over the buffer
        timed("copy out")
        return logits

    def _bind(self, session: "onnxruntime.InferenceSession", shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
        onnxruntime = import_onnxruntime()
        place = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        given = place(shape, self._dtype.type, self._device, 0)
        returned = place((shape[0], *self._output.shape[1:]), np.float32, self._device, 0)
        binding = session.io_binding()
        binding.bind_ortvalue_input(self._input.name, given)
        binding.bind_ortvalue_output(self._output.name, returned)
        options = onnxruntime.RunOptions()
        if self._capture:
            # The number under which a batch size's graph is kept; -1 is for one that is not captured.
            captured = shape[0] if len(self._bindings) < MOST_CAPTURED else -1
            options.add_run_config_entry("gpu_graph_id", str(captured))
        return given, binding, options

    def close(self) -> None:
        with self._lock:
            self._bindings.clear()  # before the session whose memory they use
            self._session = None


def open_onnxruntime_cuda(bundle: Bundle, precision: str, threads: int | None) -> BoundSession:
    """The bundle's graph of that precision on ONNX Runtime's CUDA provider, fp32 without TF32.

    Raises BackendError where the provider is absent or cannot start.
    """
    graph = usable_graph(bundle, precision, threads)
    options = {"device_id": "0", "use_tf32": "0"}
    try:
        session = open_gpu_session(graph, [(CUDA_PROVIDER, {**options, "enable_cuda_graph": "1"})])
    except BackendError as error:
        session = open_gpu_session(graph, [(CUDA_PROVIDER, options)])
        require_session_signature(bundle, bundle.graph(precision), session)
        # It starts without: so capturing was what failed.
        warnings.warn(
            f"ONNX Runtime runs without CUDA graphs, which costs time only: {error.message}",
            RuntimeWarning,
            stacklevel=2,
        )
        return BoundSession(session, device=DEVICE)
    require_session_signature(bundle, bundle.graph(precision), session)
    return BoundSession(session, device=DEVICE, capture=True)


def open_onnxruntime_tensorrt(bundle: Bundle, precision: str, threads: int | None) -> BoundSession:
    """The bundle's graph of that precision on ONNX Runtime's TensorRT provider, which takes its types from the graph.

    Attention, for which the graph has ONNX Runtime's own operator, is done by the CUDA provider. Engines are kept in
    the bundle's engines/, for the user alone. Raises BackendError as `open_onnxruntime_cuda` does, and NotAvailable
    where TensorRT 10 is not installed.
    """
    graph = usable_graph(bundle, precision, threads)
    require_provider(TENSORRT_PROVIDER)  # before anything is made
    folder = bundle.path / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    require_private(folder)
    options = {
        "device_id": "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_engine_cache_prefix": f"onnxruntime-{precision}",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
    }
    providers = [(TENSORRT_PROVIDER, options), (CUDA_PROVIDER, {"device_id": "0", "use_tf32": "0"})]
    found = _import_tensorrt()
    try:
        session = open_gpu_session(graph, providers)
    except BackendError as error:
        if found is None or tensorrt_version(found)[0] != LINKED_TENSORRT:
            have = "it is not installed" if found is None else f"{found.__version__} is installed"
            raise NotAvailable(
                f"ONNX Runtime's {TENSORRT_PROVIDER} links to TensorRT {LINKED_TENSORRT}, and {have}: {error.message}",
                fix=f"pip install 'tensorrt<{LINKED_TENSORRT + 1}', or use --backend tensorrt",
            ) from error
        raise
    require_session_signature(bundle, bundle.graph(precision), session)
    backend = BoundSession(session, device=DEVICE, largest=LARGEST_TENSORRT_BATCH)
    # Its engines are built at the first run, for the sizes that were seen, and again for any size outside of those. To
    # name them beforehand it would want those of every tensor on the border between it and the CUDA provider.
    given = bundle.graph(precision).inputs[0]
    for size in (LARGEST_TENSORRT_BATCH, 1):
        backend.infer(np.zeros((size, *map(int, given.shape[1:])), given.dtype))
    return backend


def _import_tensorrt() -> ModuleType | None:
    """tensorrt's module, whose libraries are then in the process, where ONNX Runtime's provider finds them; None where
    it is not installed: they may be the system's."""
    try:
        return load_tensorrt()
    except MissingExtra:
        return None


def usable_graph(bundle: Bundle, precision: str, threads: int | None) -> Path | LinkedGraph:
    """Where the graph is, its files verified."""
    if threads is not None:
        raise BackendError("the GPU computes here, so a number of CPU threads has no meaning")
    graph = bundle.graph(precision)
    for file in graph.files:
        bundle.verified(file)
    return find_graph(bundle, graph)


def require_provider(name: str) -> None:
    """Raise NotAvailable where ONNX Runtime was built without it, MissingExtra where ONNX Runtime is absent."""
    if name not in import_onnxruntime().get_available_providers():
        raise NotAvailable(f"this ONNX Runtime was built without {name}", fix=_INSTALL)


def open_gpu_session(
    graph: Path | LinkedGraph | bytes, providers: list[tuple[str, dict[str, str]]]
) -> "onnxruntime.InferenceSession":
    """A session on the first of `providers`, and on nothing but those. The CPU alone is added, for what every graph
    computes there. Raises BackendError where ONNX Runtime gives something else, MissingExtra where it is absent.
    """
    onnxruntime = import_onnxruntime()
    wanted = providers[0][0]
    require_provider(wanted)
    # CUDA and cuDNN from the packages of the gpu extra, where they are installed. What it cannot load it prints.
    with redirect_stdout(io.StringIO()) as printed:
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; warnings about graph optimisation are not for the user
    model = model_for_session(graph, options)
    try:
        session = onnxruntime.InferenceSession(
            model, options, providers=[*providers, (CPU_PROVIDER, {})], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's own exceptions share no base but Exception
        raise_shortage(error)
        reason = str(error).strip()
        raise BackendError(f"ONNX Runtime could not load the graph on {wanted}: {reason}") from error
    given = session.get_providers()
    # A provider whose libraries cannot be loaded is dropped with no more than a line of log.
    missing = [name for name, _ in providers if name not in given]
    if missing:
        reasons = "".join(f"\n  {line}" for line in printed.getvalue().splitlines())
        raise BackendError(
            f"{', '.join(missing)} was requested, ONNX Runtime gave {', '.join(given)}{reasons}", fix=_COMPLETE
        )
    session.disable_fallback()
    return session
