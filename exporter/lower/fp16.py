"""fp32 graph -> fp16 (or bf16) graph: float32 in and out, matrix products in float16.

The residual stream and every LayerNormalization remain in float32. So does its epsilon, which float16 could not hold:
VideoMAE's is 1e-12. Casts are explicit, because some readers ignore `stash_type`. The stream is where transformers
carry their largest values. (See "Massive Activations in Large Language Models", Sun et al. 2024, arXiv:2402.17762, for
vision transformers too.) It costs no more casts than a stream in float16. There is one behind each norm and one behind
each block, instead of two around each norm.

Biases and activation functions follow their product in float16, so that a reader can fuse them into it. The tanh form
of GELU overflows in its cube for |x| > 40, harmlessly: tanh of infinity is 1.

Where tokens are merged (families/merging.py), what chooses them and what adds them up stays in float32 as well: the one
decides, and the other is the residual stream.

In a graph with 8-bit products, what quantizes and dequantizes follows the product too. Scales and what comes out are
in float16, so that nothing lies between a product and its 8-bit operands.
"""

from collections.abc import Mapping, Set
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..graph.graph_edit import (
    PRODUCTS,
    add_constant,
    constant,
    finish,
    given,
    is_constant,
    merges_tokens,
    name_of,
    node_after,
    open_graph,
    products,
)

LARGEST = float(np.finfo(np.float16).max)  # 65504
# Clips that are not among the reference may reach further than those that are.
HEADROOM = 4.0

# What may follow a product in its type: element by element, or moving elements only.
_FOLLOWERS = frozenset(
    {
        *("Add", "Clip", "Div", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "Relu", "Sigmoid"),
        *("Softplus", "Sub", "Swish", "Tanh"),
        *("Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Squeeze", "Transpose"),
        *("Unsqueeze",),
    }
)
# What may move integers.
_MOVERS = _FOLLOWERS | {"GatherElements", "TopK"}
# What TensorRT's parser does not read in a type.
_NOT_IN = {ir.DataType.BFLOAT16: frozenset({"HardSwish"})}
_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})


def to_lower(path: Path, keep: Set[str], low: ir.DataType = ir.DataType.FLOAT16) -> ir.Model:
    """Make the form of the fp32 graph whose floats are multiplied in `low`. What is in 8 bits already remains so.

    Args:
        path: the graph.
        keep: names of products that stay in float32.
        low: FLOAT16 or BFLOAT16.
    """
    return lower(open_graph(path), keep, low)


def lower(model: ir.Model, keep: Set[str], low: ir.DataType = ir.DataType.FLOAT16) -> ir.Model:
    """Lower a graph that is open for editing; see `to_lower`."""
    keep = _with_shared_operands(model, keep)
    types: dict[ir.Value, ir.DataType] = {value: value.dtype for value in model.graph.inputs if value.dtype}
    for node in list(model.graph):
        target = low if _computes_in_low(node, low, types, keep) else ir.DataType.FLOAT
        for index, value in enumerate(node.inputs):
            if value is not None and _type_of(value, types) in (low, ir.DataType.FLOAT) and node.op_type != "Cast":
                node.replace_input_with(index, _as_type(model, value, types, target))
        if node.op_type in _QUANTIZERS:
            _keep_scale_above_zero(given(node, 1))
        for value in node.outputs:
            types[value] = _type_given(node, value, types) or target
    for index, value in enumerate(model.graph.outputs):
        if types[value] != ir.DataType.FLOAT:
            name = name_of(value)
            value.name, value.type = f"{name}.{low.numpy()}", None
            output = _as_type(model, value, types, ir.DataType.FLOAT)
            output.name, output.type, output.shape = name, ir.TensorType(ir.DataType.FLOAT), value.shape
            value.shape = None
            model.graph.outputs[index] = output
    return finish(model)


def beyond_half(path: Path, magnitudes: Mapping[str, float]) -> list[str]:
    """Name the products that float16 cannot hold.

    Those have an input, weight or output that comes within HEADROOM of its largest number.

    Args:
        path: the graph.
        magnitudes: by tensor, see `observe.measure_magnitudes`.
    """
    found = []
    for node in products(open_graph(path)):
        reached = [magnitudes[name_of(value)] for value in half_tensors(node) if not is_constant(value)]
        reached += [float(np.abs(constant(value)).max()) for value in half_tensors(node) if is_constant(value)]
        if not max(reached) < LARGEST / HEADROOM:
            found.append(name_of(node))
    return found


def half_tensors(product: ir.Node) -> list[ir.Value]:
    """List what would be in float16 around a product: its inputs, its output, and the sum with a bias."""
    values = [value for value in (*product.inputs, *product.outputs) if value is not None]
    for value in product.outputs:
        values += [use.node.outputs[0] for use in value.uses() if _adds_bias(use.node)]
    return values


def _computes_in_low(node: ir.Node, low: ir.DataType, types: Mapping[ir.Value, ir.DataType], keep: Set[str]) -> bool:
    if node.op_type in PRODUCTS:
        return node.name not in keep and not merges_tokens(node)
    if node.op_type in _QUANTIZERS:
        return all(product.name not in keep for product in _products_behind(node))
    if node.op_type in _NOT_IN.get(low, ()):
        return False
    if node.op_type not in _FOLLOWERS or (node.op_type == "Add" and not _adds_bias(node)):
        return False  # what adds two activations, or positions to one, is the residual stream
    types_here = {types[value] for value in node.inputs if value is not None and not is_constant(value)}
    return bool(types_here) and ir.DataType.FLOAT not in types_here


def _type_given(node: ir.Node, value: ir.Value, types: Mapping[ir.Value, ir.DataType]) -> ir.DataType | None:
    """The type of what a node gives where that is fixed; None where it gives numbers to compute with."""
    if node.op_type == "QuantizeLinear":
        return _quantized_type(node)
    if node.op_type == "Equal":
        return ir.DataType.BOOL
    if node.op_type == "ArgMax" or (node.op_type == "TopK" and value is not node.outputs[0]):
        return ir.DataType.INT64
    if node.op_type == "Cast":
        to = ir.DataType(node.attributes["to"].as_int())
        return to if to.is_integer() else None
    return _integers(node, types)


def _integers(node: ir.Node, types: Mapping[ir.Value, ir.DataType]) -> ir.DataType | None:
    """The type of integers that are moved, such as the numbers of tokens. None where a node moves none."""
    first = node.inputs[0]
    if first is None or node.op_type not in _MOVERS:
        return None
    moved = _type_of(first, types)
    return moved if moved is not None and moved.is_integer() else None


def _products_behind(quantizer: ir.Node) -> list[ir.Node]:
    """The products whose operands it quantizes or dequantizes."""
    found = []
    for use in quantizer.outputs[0].uses():
        found += _products_behind(use.node) if use.node.op_type in _QUANTIZERS else [use.node]
    return found


def _with_shared_operands(model: ir.Model, keep: Set[str]) -> frozenset[str]:
    """`keep`, and the products that share an 8-bit operand with one of those, since it has one type around it."""
    quantizers = [node for node in model.graph if node.op_type in _QUANTIZERS]
    groups = [{name_of(product) for product in _products_behind(node)} for node in quantizers]
    return frozenset(keep).union(*(group for group in groups if group & keep))


def _quantized_type(node: ir.Node) -> ir.DataType:
    """What a QuantizeLinear of ours makes: the type of its zero point, a constant."""
    zero_point = given(node, 2).const_value
    if zero_point is None:
        raise TypeError(f"{node} has no constant zero point")
    return zero_point.dtype


def _keep_scale_above_zero(scale: ir.Value) -> None:
    """Make a scale that float16 rounds to 0 the least number above 0. What is divided by 0 may be NaN."""
    array = constant(scale)
    if (array == 0).any():
        least = np.nextafter(array.dtype.type(0), array.dtype.type(1))
        scale.const_value = ir.tensor(np.where(array == 0, least, array), name=scale.name)


def _adds_bias(node: ir.Node) -> bool:
    constants = [value for value in node.inputs if value is not None and is_constant(value)]
    return node.op_type == "Add" and len(constants) == 1 and constant(constants[0]).ndim <= 1


def _type_of(value: ir.Value, types: Mapping[ir.Value, ir.DataType]) -> ir.DataType | None:
    return value.const_value.dtype if value.const_value is not None else types[value]


def _as_type(model: ir.Model, value: ir.Value, types: dict[ir.Value, ir.DataType], target: ir.DataType) -> ir.Value:
    """`value` itself where it is of that type, otherwise the one cast of it."""
    if _type_of(value, types) == target:
        return value
    name = f"{name_of(value)}.{target.numpy()}"
    if is_constant(value):
        return add_constant(model, name, constant(value).astype(target.numpy()))
    for use in value.uses():
        if use.node.op_type == "Cast" and types.get(use.node.outputs[0]) == target:
            return use.node.outputs[0]
    (cast,) = node_after(model, value, "Cast", [value], outputs=[name], to=target)
    types[cast] = target
    return cast
