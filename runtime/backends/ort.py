"""ONNX Runtime."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import BackendError, MissingExtra
from ...preprocess.shortage import raise_shortage
from ..bundle.bundle import Bundle
from .backend import Backend
from .linked_graph import LinkedGraph, find_graph
from .product_graph import largest_operands, product_graph
from .signature import require_session_signature

if TYPE_CHECKING:
    import onnxruntime

CPU_PROVIDER = "CPUExecutionProvider"

# Builds of 1.31 and newer for Linux and macOS report to Microsoft how they are used: they keep an identifier and a
# database in the user's cache, and a file among the temporary ones. This is read once, when they are imported.
TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"


class OnnxRuntimeBackend(Backend):
    """An ONNX Runtime session on one execution provider, which runs the calls of several threads side by side."""

    def __init__(self, session: "onnxruntime.InferenceSession") -> None:
        self._session: onnxruntime.InferenceSession | None = session
        self._input = session.get_inputs()[0].name
        self._outputs = [output.name for output in session.get_outputs()]

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """batch (B, ...) of the graph's one input -> its first output, which the caller owns."""
        first = self._outputs[0]
        return self._run([first], {self._input: batch})[first]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        return self._run(self._outputs, inputs)

    def _run(self, outputs: list[str], inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        session = self._session  # which lives until this call is done, whoever closes the backend meanwhile
        if session is None:
            raise BackendError("the backend is closed")
        try:
            arrays = session.run(outputs, dict(inputs))
        except Exception as error:  # ONNX Runtime's own exceptions share no base but Exception
            raise_shortage(error)
            given = ", ".join(f"{array.dtype} {array.shape}" for array in inputs.values())
            raise BackendError(f"ONNX Runtime failed on a batch of {given}: {error}") from error
        return {name: np.asarray(array, dtype=np.float32) for name, array in zip(outputs, arrays, strict=True)}

    def close(self) -> None:
        self._session = None


def open_onnxruntime(bundle: Bundle, precision: str, threads: int | None) -> OnnxRuntimeBackend:
    """The bundle's graph of that precision on ONNX Runtime's CPU provider."""
    graph = bundle.graph(precision)
    with bundle.verifying(graph):
        session = open_session(
            find_graph(bundle, graph),
            CPU_PROVIDER,
            threads=threads,
            # In float32, and beside the graph: see open_session.
            weights_as_they_lie=graph.precision == "fp32" and len(graph.files) > 1,
        )
    require_session_signature(bundle, graph, session)
    return OnnxRuntimeBackend(session)


def import_onnxruntime() -> ModuleType:
    """Imports ONNX Runtime with its telemetry off, unless the environment says otherwise.

    Raises:
        MissingExtra: where it is absent.
        BackendError: where it is installed and does not load.
    """
    is_off = os.environ.setdefault(TELEMETRY_OFF, "1") != "0"
    try:
        import onnxruntime
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime":
            raise MissingExtra("onnxruntime", "cpu", purpose="to run a graph") from error
        raise BackendError(
            f"ONNX Runtime is installed, but does not load: {error}",
            fix="pip install --force-reinstall onnxruntime (or onnxruntime-gpu, where that is installed)",
        ) from error
    if is_off:
        onnxruntime.disable_telemetry_events()  # for those who imported it before, and for builds that ask Windows
    module: ModuleType = onnxruntime  # ships no types
    return module


@functools.cache
def integer_products_saturate() -> bool:
    """Say whether ONNX Runtime's products of uint8 by int8 lose what exceeds 16 bits on this CPU.

    They do on x86 without VNNI, where the instruction adds two products in 16 bits. So 255 x 127 + 255 x 127 becomes
    32767. No call of ONNX Runtime tells which instructions it takes. So a product of the largest operands is computed,
    in 1 ms.

    Raises MissingExtra where ONNX Runtime is absent.
    """
    left, right = largest_operands()
    options = import_onnxruntime().SessionOptions()
    options.intra_op_num_threads = 1
    graph = product_graph("MatMulInteger", left, right)
    session = import_onnxruntime().InferenceSession(graph, options, providers=[CPU_PROVIDER])
    (product,) = session.run(None, {"left": left})
    return not np.array_equal(product, left.astype(np.int32) @ right.astype(np.int32))


def multiply_integers_exactly(options: "onnxruntime.SessionOptions") -> None:
    """Set what a session on this CPU needs so that its products of integers are those of every other CPU.

    Where they would saturate, ONNX Runtime makes weights unsigned and takes a slower instruction that is exact. With
    VNNI that would only cost time. A product of 1568 x 768 by 768 x 3072 took 2.7 times as long. The alternatives
    lose: weights of 7 bits half of their levels on every CPU, signed activations the fused kernels.
    """
    if integer_products_saturate():
        options.add_session_config_entry("session.x64quantprecision", "1")


def model_for_session(graph: Path | LinkedGraph | bytes, options: "onnxruntime.SessionOptions") -> str | bytes:
    """What ONNX Runtime makes a session of. Where weights are behind a link, `options` name their folder."""
    if isinstance(graph, LinkedGraph):
        folder = str(graph.weights.parent)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        return graph.with_weights_at(graph.weights.name)
    return graph if isinstance(graph, bytes) else str(graph)


# What ONNX Runtime says where it makes weights unsigned whose zero points are one tensor, as int8-static graphs of
# bundles of format 2 have them.
_SHARED_ZERO_POINTS = "Attempt to replace the existing tensor"


def open_session(
    graph: Path | LinkedGraph | bytes, provider: str, *, threads: int | None = None, weights_as_they_lie: bool = False
) -> "onnxruntime.InferenceSession":
    """A session on `provider` and nothing else, except the CPU for what every graph computes there.

    weights_as_they_lie: multiply by weights where their file is mapped into memory, not by a copy in another order

    ONNX Runtime drops a provider that cannot start with no more than a line of log. So it is asked afterwards what it
    really gave. Raises BackendError, or MissingExtra where ONNX Runtime is absent.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; warnings about graph optimisation are not for the user
    if threads is not None:
        options.intra_op_num_threads = threads
    # What follows was measured on two cores with VideoMAE-B and ViViT-B, in turn, batch 1.
    # A plan of one block for all activations saves no time on a CPU and takes 4 % (fp32) to 12 % (int8) more memory at
    # the peak.
    options.enable_mem_pattern = False
    if weights_as_they_lie:
        # In float32 with a thousand rows and more, every product packs the weights that it needs on the way at no cost:
        # 1.02 and 1.01 times as fast as with a packed copy. Loading takes 0.02 s instead of 0.4 to 0.5 s, and of the
        # 436 and 523 MB that the process holds for itself 326 MB become pages of the file, which the system shares
        # between processes. Products of int8 take 1.14 to 1.17 times as long without the copy, and keep it.
        options.add_session_config_entry("session.disable_prepacking", "1")
    if provider == CPU_PROVIDER:
        multiply_integers_exactly(options)
    # Left as they are: the arena (without it a peak of 27 to 41 % more in fp32, 33 % in int8), its growth by powers of
    # two (2 to 9 % more as requested), waiting threads that spin (4 % slower without), blocks of work that shrink,
    # denormals and the allocator of weights (no difference). A cache of optimised graphs would save nothing: without
    # packing, a session is there after 0.04 s.
    model = model_for_session(graph, options)
    try:
        session = onnxruntime.InferenceSession(
            model,
            options,
            providers=[provider],
            enable_fallback=0,
        )
    except Exception as error:  # ONNX Runtime's own exceptions share no base but Exception
        raise_shortage(error)
        fix = None
        if _SHARED_ZERO_POINTS in str(error):
            fix = "make the graph anew, which keeps them apart: tubelet quantize BUNDLE --precision int8-static --force"
        raise BackendError(f"ONNX Runtime could not load the graph on {provider}: {error}", fix=fix) from error
    given = session.get_providers()[0]
    if given != provider:
        raise BackendError(f"{provider} was requested, ONNX Runtime gave {given}")
    session.disable_fallback()
    return session
