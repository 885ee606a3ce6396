"""The tensorrt module: found, new enough, with one log, and the machine that it sees."""

import functools
import importlib
import sys
from collections import deque
from types import ModuleType
from typing import Any

from ...preprocess.errors import BackendError, MissingExtra
from ..bundle.engines import EngineMachine
from .cuda import Cuda, driver_version

OLDEST_VERSION = (10, 13)
OLDEST_RTX = (1, 7)
# ONNX Runtime's plugin with TensorRT for RTX in it.
PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"
# The first whose parser reads Attention (its change log).
FIRST_WITH_ATTENTION = (10, 14)


def tensorrt_version(trt: ModuleType) -> tuple[int, int]:
    major, minor = trt.__version__.split(".")[:2]
    return int(major), int(minor)


def is_rtx(trt: ModuleType) -> bool:
    """Whether this is TensorRT for RTX, which has versions of its own and builds for GPUs that are not here. It
    compiles the last step where a plan is loaded, and so keeps no times of kernels from builds.
    """
    return hasattr(trt, "ComputeCapability")


def library_name(trt: ModuleType) -> str:
    """Name and version, such as "TensorRT 11.4.0.106"."""
    return f"{'TensorRT for RTX' if is_rtx(trt) else 'TensorRT'} {trt.__version__}"


def reads_attention(trt: ModuleType) -> bool:
    """Whether the parser reads ONNX's Attention."""
    return is_rtx(trt) or tensorrt_version(trt) >= FIRST_WITH_ATTENTION


def load_tensorrt() -> ModuleType:
    """The tensorrt module. Raises MissingExtra where it is not installed, BackendError where it cannot be used."""
    return _load("tensorrt", "TensorRT", OLDEST_VERSION, extra="tensorrt", purpose="to build and run engines")


def load_tensorrt_rtx() -> ModuleType:
    """The module of TensorRT for RTX. Raises MissingExtra where it is not installed, BackendError where it cannot be
    used. It cannot beside ONNX Runtime's plugin: both bring the same library, in two builds.
    """
    if PLUGIN in sys.modules:
        raise BackendError(
            "TensorRT for RTX cannot be loaded beside ONNX Runtime's own, which is in this process already",
            fix="use one of tensorrt-rtx and onnxruntime-tensorrt-rtx in a process",
        )
    purpose = "to build and run engines for RTX GPUs"
    return _load("tensorrt_rtx", "TensorRT for RTX", OLDEST_RTX, extra="rtx", purpose=purpose)


def _load(module: str, name: str, oldest: tuple[int, int], *, extra: str, purpose: str) -> ModuleType:
    try:
        trt = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(module, extra, purpose=purpose) from error
    except (ImportError, OSError) as error:
        raise BackendError(f"{name} is installed and cannot be loaded: {error}") from error
    if tensorrt_version(trt) < oldest:
        raise BackendError(
            f"{name} {trt.__version__} is too old; {'.'.join(map(str, oldest))} or newer is needed",
            fix=f"pip install 'tubelet[{extra}]'",
        )
    return trt


@functools.cache
def tensorrt_log(trt: ModuleType) -> Any:
    """The one logger of the process, which keeps the latest errors. TensorRT reports to the first logger that it was
    given for as long as anything made with it lives. A second one would stay empty.
    """

    class Log(trt.ILogger):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: deque[str] = deque(maxlen=20)

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self._errors.append(msg)

        def take_errors(self) -> str:
            """What was logged since the last call, one error a line; a sentence where there was nothing."""
            errors = list(self._errors)
            self._errors.clear()
            return "\n  ".join(errors) or "TensorRT logged no reason"

    return Log()


def start(kind: Any, log: Any) -> Any:
    """A Builder or a Runtime. Raises BackendError where TensorRT cannot start, for want of a GPU, say."""
    try:
        return kind(log)
    except TypeError as error:  # what the binding makes of nothing that came back
        raise BackendError(f"TensorRT's {kind.__name__} did not start: {log.take_errors()}") from error


def this_machine(cuda: Cuda, trt: ModuleType) -> EngineMachine:
    device = cuda.device()
    return EngineMachine(
        gpu=device.name,
        compute_capability=device.compute_capability,
        multiprocessors=device.multiprocessors,
        memory_bytes=device.memory_bytes,
        driver=driver_version(),
        cuda=device.cuda,
        tensorrt=trt.__version__,
    )
