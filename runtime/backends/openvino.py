"""OpenVINO, on the CPU."""

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import BackendError, MissingExtra
from ...preprocess.shortage import raise_shortage
from ..bundle.bundle import Bundle
from ..bundle.files import TensorInfo
from ..precisions import PRECISIONS, ElementType, FloatType, Precision, graphs_for
from .backend import Backend
from .linked_graph import LinkedGraph, find_graph
from .product_graph import largest_operands, quantized_product_graph
from .signal_stack import signal_stack_kept
from .signature import require_signature

if TYPE_CHECKING:
    import openvino

DEVICE = "CPU"


# Precision -> precision of the bundle's graph that OpenVINO computes it from.
SOURCES = graphs_for("openvino")
# What OpenVINO calls types: one for what is no integer product, and those of products, one of which a compiled model
# must show.
HINTS: dict[FloatType, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
PRODUCTS: dict[ElementType, frozenset[str]] = {
    "fp32": frozenset({"f32"}),
    "bf16": frozenset({"bf16"}),
    "fp16": frozenset({"f16"}),
    "int8": frozenset({"i8", "u8"}),
}
# The name in OPTIMIZATION_CAPABILITIES, and what a CPU has that lists them.
CAPABILITIES: dict[ElementType, tuple[str, str]] = {
    "bf16": ("BF16", "AVX512_BF16 or AMX-BF16"),
    "fp16": ("FP16", "AVX512_FP16 or AMX-FP16"),
    "int8": ("INT8", "integer products"),
}


class OpenVinoBackend(Backend):
    """A compiled model. Each call has a request of its own, and OpenVINO queues those of several threads.

    threads: how many compute one batch
    """

    def __init__(self, compiled: "openvino.CompiledModel") -> None:
        self.threads: int = compiled.get_property("INFERENCE_NUM_THREADS")
        self._compiled: openvino.CompiledModel | None = compiled
        self._inputs, self._outputs = compiled.inputs, compiled.outputs
        self._lock = threading.Lock()  # of the idle requests
        self._idle = [compiled.create_infer_request()]

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """batch (B, ...) of the graph's one input -> its first output, which the caller owns."""
        return self._infer([batch], self._outputs[:1])[0]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        arrays = self._infer([inputs[expected.any_name] for expected in self._inputs], self._outputs)
        return {output.any_name: array for output, array in zip(self._outputs, arrays, strict=True)}

    def _infer(
        self, arrays: list[NDArray[Any]], outputs: Sequence["openvino.ConstOutput"]
    ) -> list[NDArray[np.float32]]:
        """One array for each of the graph's inputs -> copies of those outputs."""
        for expected, array in zip(self._inputs, arrays, strict=True):
            if array.dtype != expected.element_type.to_dtype():  # OpenVINO would convert it in silence
                raise BackendError(f"{expected.any_name} must be {expected.element_type.to_dtype()}, got {array.dtype}")
        with self._request() as request:
            try:
                result = request.infer(arrays, share_inputs=True)
            except RuntimeError as error:
                raise_shortage(error)
                given = ", ".join(f"{array.dtype} {array.shape}" for array in arrays)
                raise BackendError(f"OpenVINO failed on a batch of {given}: {error}") from error
            # Copied before another call may have the request, whose memory this is.
            return [np.array(result[output], np.float32) for output in outputs]

    @contextmanager
    def _request(self) -> Iterator["openvino.InferRequest"]:
        """A request that no other call has meanwhile; it keeps what it needs of the compiled model alive."""
        with self._lock:
            if self._compiled is None:
                raise BackendError("the backend is closed")
            request = self._idle.pop() if self._idle else self._compiled.create_infer_request()
        try:
            yield request
        finally:
            with self._lock:
                if self._compiled is not None:
                    self._idle.append(request)

    def close(self) -> None:
        with self._lock:
            self._compiled = None
            self._idle.clear()


def import_openvino() -> ModuleType:
    """Raise MissingExtra where OpenVINO is absent, BackendError where it is installed and does not load."""
    try:
        import openvino
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "openvino":
            raise MissingExtra("openvino", "openvino", purpose="to run a graph on it") from error
        raise BackendError(
            f"OpenVINO is installed, but does not load: {error}", fix="pip install --force-reinstall openvino"
        ) from error
    module: ModuleType = openvino
    return module


@signal_stack_kept()
def open_openvino(bundle: Bundle, precision: str, threads: int | None) -> OpenVinoBackend:
    """The bundle's graph for that precision, compiled for this CPU.

    Raises BackendError for a precision that the CPU has no instructions for, or that OpenVINO does not take up.
    """
    openvino = import_openvino()
    wanted = PRECISIONS[precision]
    core = openvino.Core()
    _require_capability(core, wanted)
    graph = bundle.graph(SOURCES[precision])
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": HINTS[wanted.floats]}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    with bundle.verifying(graph):
        try:
            compiled = core.compile_model(_model(core, find_graph(bundle, graph)), DEVICE, settings)
        except RuntimeError as error:
            raise_shortage(error)
            raise BackendError(f"OpenVINO could not compile the {graph.precision} graph: {error}") from error
    given, returned = _tensor_infos(compiled.inputs, graph.inputs), _tensor_infos(compiled.outputs, graph.outputs)
    require_signature(bundle, graph, given, returned)
    require_precision(compiled, wanted)
    return OpenVinoBackend(compiled)


def _tensor_infos(ports: list[Any], declared: Sequence[TensorInfo]) -> list[TensorInfo]:
    """The inputs or outputs of a compiled model. One that has several names goes by the declared name in its place, if
    that is one of them."""
    found = []
    for port, expected in zip_longest(ports, declared[: len(ports)]):
        known = expected is not None and expected.name in port.names
        shape = tuple("open" if side.is_dynamic else side.get_length() for side in port.partial_shape)
        name = expected.name if known else " or ".join(sorted(port.names))
        found.append(TensorInfo(name, str(port.element_type.to_dtype()), shape))
    return found


def _model(core: "openvino.Core", graph: Path | LinkedGraph) -> "str | openvino.Model":
    """What OpenVINO compiles. A graph from memory could have weights below the working directory only, so those behind
    links are put in afterwards."""
    if not isinstance(graph, LinkedGraph):
        return str(graph)
    content, weights = graph.with_weights_as_inputs()
    model = core.read_model(content)
    for parameter in model.get_parameters():
        name = parameter.output(0).any_name
        if name in weights:
            constant = import_openvino().op.Constant(weights[name], shared_memory=True)
            constant.friendly_name = name
            parameter.output(0).replace(constant.output(0))
            model.remove_parameter(parameter)
    model.validate_nodes_and_infer_types()
    return model


def _require_capability(core: "openvino.Core", wanted: Precision) -> None:
    """Raise BackendError where the CPU has no instructions for a type, or none that are exact."""
    has = core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    cannot = (
        f"openvino cannot compute in {wanted.name} here: the CPU ({core.get_property(DEVICE, 'FULL_DEVICE_NAME')}) has"
    )
    needed: tuple[ElementType, ...] = (wanted.floats, wanted.multiplies)
    for capability, instructions in (CAPABILITIES[kind] for kind in needed if kind in CAPABILITIES):
        if capability not in has:
            raise BackendError(
                f"{cannot} no {instructions}; OpenVINO lists {', '.join(has)}", fix="choose another --precision"
            )
    if wanted.multiplies == "int8" and integer_products_saturate():
        raise BackendError(
            f"{cannot} no VNNI, and OpenVINO's products of 8-bit integers saturate without it",
            fix="choose --precision fp32, which takes no longer there, or --backend onnxruntime --precision int8",
        )


@functools.cache
@signal_stack_kept()
def integer_products_saturate() -> bool:
    """Say whether OpenVINO's products of 8-bit integers lose what exceeds 16 bits on this CPU, as on x86 without VNNI.

    No call tells, so a product of the largest operands is computed. Raises MissingExtra where OpenVINO is absent.
    """
    _, right = largest_operands()  # (64, 16)
    left = np.ones((1, len(right)), np.float32)  # 255 in integers
    core = import_openvino().Core()
    graph = core.read_model(quantized_product_graph(left, right))
    compiled = core.compile_model(graph, DEVICE, {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    (product,) = compiled.create_infer_request().infer([left]).values()
    return not np.allclose(product, len(right), rtol=1e-3)  # 1 x 1, so many times; about half of it where it saturates


def require_precision(compiled: "openvino.CompiledModel", wanted: Precision) -> None:
    """Raise BackendError where `compiled` computes in another precision. OpenVINO replaces a hint that it cannot
    follow in silence (float16 by bfloat16, for one).
    """
    floats = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    kinds = set()
    for op in compiled.get_runtime_model().get_ops():
        facts = op.get_rt_info()
        if "layerType" in facts and facts["layerType"].astype(str) in ("FullyConnected", "MatMul"):
            kinds.add(facts["runtimePrecision"].astype(str))
    if floats != HINTS[wanted.floats] or not kinds & PRODUCTS[wanted.multiplies]:
        raise BackendError(
            f"{wanted.name} was requested, OpenVINO computes in {floats}, "
            f"with matrix products in {', '.join(sorted(kinds))}"
        )
