"""An ONNX graph as files of a bundle."""

from pathlib import Path

import onnx
import onnx_ir as ir

from ..preprocess.errors import BundleError
from ..runtime.bundle import BundleFile

# Weights above this lie beside the graph: ONNX Runtime maps them into memory instead of parsing them.
EXTERNAL_DATA_BYTES = 64 * 2**20


def write_graph(model: ir.Model, path: Path) -> tuple[BundleFile, ...]:
    """Writes the graph to `path`, its weights beside it as `<name>.data` where they are large, and has it checked by
    the ONNX checker, shapes included.

    Raises BundleError where the checker refuses the graph.
    """
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    external = f"{path.name}.data" if weights > EXTERNAL_DATA_BYTES else None
    ir.save(model, path, external_data=external)
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BundleError(f"the ONNX checker refuses {path.name}: {error}") from error
    names = [path.name] if external is None else [path.name, external]
    return tuple(BundleFile.of(path.parent / name) for name in names)
