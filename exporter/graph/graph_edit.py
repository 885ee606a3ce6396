"""Small edits of an ONNX graph, which graphs of older opsets and of lower precision are made with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .write import mapped_weights

# Matrix products with weights, and between activations: nearly all of the work.
PRODUCTS = frozenset({"Conv", "Gemm", "MatMul", "MultiHeadAttention"})
# The input of MultiHeadAttention that is added to its scores, where there is one.
ADDED_TO_SCORES = 5


def open_graph(path: Path) -> ir.Model:
    """Open the graph at `path` for editing.

    Types and shapes of what flows inside are left out: edits change them, and every reader infers them.

    Raises:
        BundleError: where the weights beside it cannot be mapped into memory.
    """
    model = ir.load(path)
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value = _mapped(path, value.const_value)
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.type = None
                value.shape = None
    return model


def _mapped(path: Path, tensor: ir.ExternalTensor) -> ir.Tensor[NDArray[Any]]:
    """The weights that the graph at `path` says are beside it."""
    start = tensor.offset or 0
    raw = np.asarray(mapped_weights(path, str(tensor.location))[start : start + tensor.nbytes])
    array = raw.view(tensor.dtype.numpy()).reshape(tensor.shape.numpy())
    return ir.Tensor(array, dtype=tensor.dtype, name=tensor.name)


def products(model: ir.Model) -> list[ir.Node]:
    """List the products that may be computed in lower precision: all but those that merge tokens."""
    return [node for node in model.graph if node.op_type in PRODUCTS and not merges_tokens(node)]


def merges_tokens(node: ir.Node) -> bool:
    """Whether a product chooses which tokens are merged, or adds them up (families/merging.py).

    What it gives is asked for its best, or its first operand is where one number equals another.
    """
    if node.op_type != "MatMul":
        return False
    first = given(node, 0).producer()
    if first is not None and first.op_type == "Cast":
        compared = given(first, 0).producer()
        if compared is not None and compared.op_type == "Equal":
            return True
    return any(use.node.op_type == "ArgMax" for use in node.outputs[0].uses())


def linear_layers(model: ir.Model) -> list[ir.Node]:
    """List the products of an activation and a weight matrix (D_in, D_out)."""
    return [
        node
        for node in model.graph
        if node.op_type == "MatMul" and is_constant(given(node, 1)) and constant(given(node, 1)).ndim == 2
    ]


def attentions(model: ir.Model) -> list[ir.Node]:
    """List the products of activations with one another, on inputs query, key, value."""
    return [node for node in model.graph if node.op_type == "MultiHeadAttention"]


def is_constant(value: ir.Value) -> bool:
    return value.const_value is not None


def constant(value: ir.Value) -> NDArray[Any]:
    """Give the array of an initializer."""
    if value.const_value is None:
        raise TypeError(f"{value} is no constant")
    return value.const_value.numpy()


def given(node: ir.Node, index: int) -> ir.Value:
    """Give an input that the operator cannot be without."""
    value = node.inputs[index]
    if value is None:
        raise TypeError(f"{node} has no input {index}")
    return value


def name_of(value: ir.Value | ir.Node) -> str:
    if value.name is None:
        raise TypeError(f"{value} has no name")
    return value.name


def add_constant(model: ir.Model, name: str, array: NDArray[Any]) -> ir.Value:
    """Add an initializer; an array that is there already under that name is taken for the same."""
    if name not in model.graph.initializers:
        value = ir.Value(
            name=name,
            const_value=ir.tensor(array, name=name),
            type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
            shape=ir.Shape(array.shape),
        )
        model.graph.register_initializer(value)
    return model.graph.initializers[name]


def node_after(
    model: ir.Model,
    source: ir.Value,
    op_type: str,
    inputs: Sequence[ir.Value],
    *,
    outputs: Sequence[str],
    **attributes: Any,
) -> tuple[ir.Value, ...]:
    """Add a node right behind the one that makes `source`, or first, for an input of the graph.

    It is named after its first output.

    Returns:
        Its outputs.
    """
    node = ir.node(op_type, inputs, attributes=attributes, num_outputs=len(outputs), name=outputs[0])
    for value, name in zip(node.outputs, outputs, strict=True):
        value.name = name
    producer = source.producer()
    if producer is None:
        model.graph.insert_before(model.graph[0], node)
    else:
        model.graph.insert_after(producer, node)
    return tuple(node.outputs)


def finish(model: ir.Model) -> ir.Model:
    """Drop the weights that edits have left without use, and put the nodes in order."""
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del model.graph.initializers[name]
    model.graph.sort()
    return model
