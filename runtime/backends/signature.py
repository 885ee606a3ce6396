"""What a loaded graph takes and gives, held against what the manifest says. An engine runs whatever is in the file."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...preprocess.errors import BundleError
from ..bundle.bundle import Bundle
from ..bundle.files import Graph, TensorInfo

if TYPE_CHECKING:
    import onnxruntime

# What ONNX Runtime calls the types that graphs of a bundle take and give.
_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int64)": "int64"}


def require_signature(
    bundle: Bundle, graph: Graph, inputs: Iterable[TensorInfo], outputs: Iterable[TensorInfo]
) -> None:
    """Raise BundleError unless the loaded graph has these inputs and outputs by the manifest, in this order.

    Names, dtypes, ranks and fixed sides are compared; how an engine calls a side that is open does not matter.
    """
    for what, found, declared in (("takes", inputs, graph.inputs), ("gives", outputs, graph.outputs)):
        loaded = tuple(found)
        if list(map(_essence, loaded)) != list(map(_essence, declared)):
            raise BundleError(
                f"{bundle.path / graph.files[0].name} {what} {_described(loaded)}; bundle.json says "
                f"{_described(declared)}",
                fix="export the bundle again",
            )


def require_session_signature(bundle: Bundle, graph: Graph, session: "onnxruntime.InferenceSession") -> None:
    """`require_signature` of a session of ONNX Runtime."""
    require_signature(bundle, graph, map(_tensor_info, session.get_inputs()), map(_tensor_info, session.get_outputs()))


def _tensor_info(value: "onnxruntime.NodeArg") -> TensorInfo:
    shape = tuple(side if isinstance(side, int) else "open" for side in value.shape)
    return TensorInfo(value.name, _DTYPES.get(value.type, value.type), shape)


def _essence(tensor: TensorInfo) -> tuple[str, str, tuple[int | None, ...]]:
    return tensor.name, tensor.dtype, tuple(side if isinstance(side, int) else None for side in tensor.shape)


def _described(tensors: tuple[TensorInfo, ...]) -> str:
    return ", ".join(tensor.describe() for tensor in tensors) or "nothing"
