"""The graph in the standard operators of an older opset, for readers that know no newer one.

These are TensorRT 8, OpenCV, DeepStream and older ONNX Runtime.

Opset 23 is the first with Attention. Before it, the one node that stands for attention becomes the products and
softmax that it is. No function is left. Opset 20 is the first with Gelu. The tracer can write that out for opset 18.
But ONNX Runtime does not fuse its order, and OpenCV 4.14 and 5.0 crash on it. So a graph is traced at opset
20 or newer, and everything older is written here. The version converter of ONNX has no part in it: where it fails, it
leaves a graph as it is.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from .graph_edit import ADDED_TO_SCORES, add_constant, constant, finish, given, name_of

OLDEST_TRACED = 20
FIRST_WITH_ATTENTION = 23
# 8-bit floats are a type since opset 19, and Transpose takes them since 21: ONNX Runtime, which proves an fp8 graph,
# moves them through one.
FIRST_WITH_FLOAT8 = 21

# The version of the file format that came with each opset: readers of that opset refuse a newer one.
_IR_VERSIONS = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10}


def write_for(model: ir.Model, opset: int) -> None:
    """Rewrite a graph of ours, traced at `opset` or OLDEST_TRACED if that is newer, in the operators of `opset`.

    Args:
        model: changed in place. Its attentions are MultiHeadAttention nodes on (B, N, D).
        opset: from the oldest of OPSETS to below FIRST_WITH_ATTENTION.
    """
    for node in list(model.graph):
        if node.op_type in _FIRST_WITH:
            first, write_out = _FIRST_WITH[node.op_type]
            if opset < first:
                _take_place(model, node, write_out(model, node))
    model.opset_imports.clear()
    model.opset_imports[""] = opset
    model.ir_version = _IR_VERSIONS[opset]
    finish(model)


class _Steps:
    """Nodes in front of `node`, each named after it and the part that it gives."""

    def __init__(self, model: ir.Model, node: ir.Node) -> None:
        self.model = model
        self.node = node
        self.name = name_of(node)

    def step(self, op_type: str, part: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        made = ir.node(op_type, inputs, attributes=attributes, name=f"{self.name}.{part}")
        made.outputs[0].name = made.name
        self.model.graph.insert_before(self.node, made)
        return made.outputs[0]

    def number(self, part: str, value: float) -> ir.Value:
        return add_constant(self.model, f"{self.name}.{part}", np.array(value, np.float32))


def _attention(model: ir.Model, node: ir.Node) -> ir.Value:
    """softmax(scale * query key^T) value for each head, on queries (B, M, D), keys and values (B, N, D). What is added
    to the scores, (B, 1, M, N), is there where tokens were merged.
    """
    steps, heads = _Steps(model, node), node.attributes["num_heads"].as_int()
    split = add_constant(model, f"heads.{heads}", np.array([0, 0, heads, -1], np.int64))  # 0 keeps an axis as it is
    joined = add_constant(model, "heads.joined", np.array([0, 0, -1], np.int64))

    def of_heads(index: int, part: str, axes: Sequence[int]) -> ir.Value:
        parted = steps.step("Reshape", f"{part}.split", given(node, index), split)  # (B, N, D) -> (B, N, h, D / h)
        return steps.step("Transpose", part, parted, perm=axes)

    query = of_heads(0, "query", (0, 2, 1, 3))  # (B, h, M, D / h)
    key = of_heads(1, "key", (0, 2, 3, 1))  # (B, h, D / h, N)
    value = of_heads(2, "value", (0, 2, 1, 3))  # (B, h, N, D / h)
    # Queries are the smallest that the scale could go to.
    scaled = steps.step("Mul", "scaled", query, steps.number("scale", node.attributes["scale"].as_float()))
    scores = steps.step("MatMul", "scores", scaled, key)  # (B, h, M, N)
    if len(node.inputs) > ADDED_TO_SCORES:
        scores = steps.step("Add", "sized", scores, given(node, ADDED_TO_SCORES))
    weights = steps.step("Softmax", "weights", scores, axis=-1)  # (B, h, M, N)
    context = steps.step("MatMul", "context", weights, value)  # (B, h, M, D / h)
    by_token = steps.step("Transpose", "by_token", context, perm=(0, 2, 1, 3))  # (B, M, h, D / h)
    return steps.step("Reshape", "joined", by_token, joined)  # (B, M, D)


def _gelu(model: ir.Model, node: ir.Node) -> ir.Value:
    """Write GELU out: x * (1 + erf(x / sqrt(2))) / 2. Its other form has tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)). Its
    order is the one that ONNX Runtime and OpenCV take for one operator.
    """
    steps, x = _Steps(model, node), given(node, 0)
    half, one = steps.number("half", 0.5), steps.number("one", 1.0)
    approximate = node.attributes.get("approximate")
    if approximate is None or approximate.as_string() == "none":
        scaled = steps.step("Div", "scaled", x, steps.number("root", 2**0.5))
        shifted = steps.step("Add", "shifted", steps.step("Erf", "erf", scaled), one)
        return steps.step("Mul", "halved", steps.step("Mul", "product", x, shifted), half)
    cube = steps.step(
        "Mul", "part", steps.step("Pow", "cube", x, steps.number("three", 3.0)), steps.number("c", 0.044715)
    )
    scaled = steps.step("Mul", "scaled", steps.step("Add", "sum", x, cube), steps.number("root", (2 / np.pi) ** 0.5))
    shifted = steps.step("Add", "shifted", steps.step("Tanh", "tanh", scaled), one)
    return steps.step("Mul", "product", steps.step("Mul", "halved", x, half), shifted)


def _mish(model: ir.Model, node: ir.Node) -> ir.Value:
    """x * tanh(softplus(x))."""
    steps, x = _Steps(model, node), given(node, 0)
    return steps.step("Mul", "product", x, steps.step("Tanh", "tanh", steps.step("Softplus", "softplus", x)))


def _reduce(model: ir.Model, node: ir.Node) -> ir.Value:
    """With its axes as an attribute, which are an input since opset 18."""
    axes = [int(axis) for axis in constant(given(node, 1)).flat]
    keepdims = node.attributes["keepdims"].as_int()
    part = node.op_type.removeprefix("Reduce").lower()
    return _Steps(model, node).step(node.op_type, part, given(node, 0), axes=axes, keepdims=keepdims)


# The first opset with an operator in the form that the tracer writes, and what stands for it before.
_FIRST_WITH: dict[str, tuple[int, Callable[[ir.Model, ir.Node], ir.Value]]] = {
    "MultiHeadAttention": (FIRST_WITH_ATTENTION, _attention),
    "Gelu": (20, _gelu),
    "Mish": (18, _mish),
    "ReduceMax": (18, _reduce),
    "ReduceMean": (18, _reduce),
}


def _take_place(model: ir.Model, node: ir.Node, value: ir.Value) -> None:
    """Put `value` in the place of what `node` gives, under the same name, and take the node away."""
    returned = node.outputs[0]
    value.type, value.shape = returned.type, returned.shape
    name = name_of(returned)
    ir.convenience.replace_all_uses_with(returned, value, replace_graph_outputs=True)
    model.graph.remove(node, safe=True)
    value.name = name
