"""An ONNX graph as files of a bundle."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ...preprocess.errors import BundleError
from ...runtime.bundle.files import BundleFile

# Weights above this lie beside the graph: ONNX Runtime maps them into memory instead of parsing them.
EXTERNAL_DATA_BYTES = 64 * 2**20


def write_graph(model: ir.Model, path: Path) -> tuple[BundleFile, ...]:
    """Write the graph to `path`, its weights beside it as `<name>.data` where they are large.

    The ONNX checker has checked it then, shapes included.

    Raises:
        BundleError: where the checker refuses the graph.
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


def mapped_weights(path: Path, location: str) -> NDArray[np.uint8]:
    """Map the bytes of the weights beside the graph at `path` into memory.

    They are found through links of either kind. onnx and onnx_ir refuse those, because a graph that somebody made
    could have any file read. The files of a bundle are known by their checksums.

    Raises:
        BundleError: where they cannot be read.
    """
    if Path(location).name != location:
        raise BundleError(f"{path} has weights at {location!r}, which is no file beside it", fix="export it again")
    try:
        return np.memmap(path.parent / location, np.uint8, "r")
    except (OSError, ValueError) as error:  # an empty file is a ValueError
        raise BundleError(f"the weights of {path} cannot be read: {error}", fix="copy the bundle again") from error


def take_weights_in(model: onnx.ModelProto, path: Path) -> None:
    """Read the weights that lie beside the graph at `path` into `model`, which was loaded from there without them."""
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            place = {entry.key: entry.value for entry in tensor.external_data}
            start = int(place.get("offset", 0))
            stop = start + int(place["length"]) if "length" in place else None
            tensor.raw_data = mapped_weights(path, place["location"])[start:stop].tobytes()
            tensor.ClearField("data_location")
            del tensor.external_data[:]
