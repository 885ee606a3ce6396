"""What flows inside a graph: it is run with more outputs, and the largest values are kept."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...preprocess.errors import BundleError
from ...runtime.backends.ort import CPU_PROVIDER, open_session
from ...runtime.storage.scratch import scratch
from ..graph.graph_edit import node_after, open_graph
from .join_graph import SCRATCH


def observe(
    path: Path,
    batches: Iterable[Mapping[str, NDArray[Any]]],
    add_observers: Callable[[ir.Model], dict[str, ir.Value]],
) -> dict[str, NDArray[np.float64]]:
    """Run a graph with more outputs, and keep the largest values that they take.

    Args:
        path: the graph.
        batches: its inputs by name.
        add_observers: adds nodes to the graph that it is given, and returns their float32 outputs by name.

    Returns:
        The largest over all batches by name, element by element; NaN where it ever was NaN.
    """
    model = open_graph(path)
    observed = add_observers(model)
    for value in observed.values():
        value.dtype = ir.DataType.FLOAT
    model.graph.outputs.extend(observed.values())
    model.graph.sort()
    largest: dict[str, NDArray[np.float64]] = {}
    with scratch(path.parent, SCRATCH) as folder:  # as large as the graph, which the system's own folder need not hold
        observing = folder / "observing.onnx"
        ir.save(model, observing, external_data="observing.data")
        session = open_session(observing, CPU_PROVIDER)
        for batch in batches:
            seen = session.run([value.name for value in observed.values()], dict(batch))
            for name, array in zip(observed, seen, strict=True):
                largest[name] = np.maximum(largest.get(name, -np.inf), array.astype(np.float64))
    if largest.keys() != observed.keys():
        raise BundleError("nothing was observed: there were no clips")
    return largest


def measure_magnitudes(
    path: Path, batches: Iterable[Mapping[str, NDArray[Any]]], names: Iterable[str]
) -> dict[str, float]:
    """Measure the largest absolute value that each of the named tensors of a graph takes over the batches."""

    def add_observers(model: ir.Model) -> dict[str, ir.Value]:
        values = {value.name: value for node in model.graph for value in (*node.inputs, *node.outputs) if value}
        observed = {}
        for name in names:
            (size,) = node_after(model, values[name], "Abs", [values[name]], outputs=[f"{name}.size"])
            (observed[name],) = node_after(model, size, "ReduceMax", [size], outputs=[f"{name}.largest"], keepdims=0)
        return observed

    return {name: float(value) for name, value in observe(path, batches, add_observers).items()}
