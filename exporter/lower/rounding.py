"""Rounding to 8 bits as QuantizeLinear and DequantizeLinear say it: symmetric, zero point 0."""

from collections.abc import Callable, Mapping, Set
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..graph.graph_edit import add_constant, attentions, constant, given, linear_layers, name_of, node_after

QUERY_AND_KEY = (0, 1)  # of the inputs of attention

# A weight (D_in, D_out) -> its 8-bit form of that shape, and the scale of each column, float32 (D_out,).
QuantizeWeight = Callable[[NDArray[np.float32]], tuple[NDArray[Any], NDArray[np.float32]]]


def round_linear_layers(
    model: ir.Model, keep: Set[str], scales: Mapping[str, NDArray[np.float32]], quantize_weight: QuantizeWeight
) -> None:
    """Put rounding before both operands of every linear layer; an activation that several layers take is rounded once.

    Args:
        model: changed in place.
        keep: names of layers that stay as they are.
        scales: those of the activations, by tensor name, float32 ().
        quantize_weight: a weight to its 8-bit form and its scales.
    """
    rounded: dict[ir.Value, ir.Value] = {}
    for node in linear_layers(model):
        if node.name not in keep:
            activation = given(node, 0)
            values, column_scales = quantize_weight(constant(given(node, 1)))
            if activation not in rounded:
                zero_point = np.zeros((), values.dtype)
                rounded[activation] = _round_activation(model, activation, scales[name_of(activation)], zero_point)
            node.replace_input_with(0, rounded[activation])
            node.replace_input_with(1, _round_weight(model, node, values, column_scales))


def round_queries_and_keys(
    model: ir.Model, keep: Set[str], scales: Mapping[str, NDArray[np.float32]], zero_point: NDArray[Any]
) -> None:
    """Put rounding before queries and keys of every attention.

    Args:
        model: changed in place.
        keep: names of attentions that stay as they are.
        scales: those of queries and keys, by tensor name, float32 ().
        zero_point: 0, in the type that they are rounded to.
    """
    for node in attentions(model):
        if node.name not in keep:
            for index in QUERY_AND_KEY:
                operand = given(node, index)
                rounded = _round_activation(model, operand, scales[name_of(operand)], zero_point)
                node.replace_input_with(index, rounded)


def _round_activation(
    model: ir.Model, activation: ir.Value, scale: NDArray[np.float32], zero_point: NDArray[Any]
) -> ir.Value:
    name = name_of(activation)
    parameters = [add_constant(model, f"{name}.scale", scale), add_constant(model, "zero_point", zero_point)]
    (quantized,) = node_after(
        model, activation, "QuantizeLinear", [activation, *parameters], outputs=[f"{name}.quantized"]
    )
    (rounded,) = node_after(model, quantized, "DequantizeLinear", [quantized, *parameters], outputs=[f"{name}.rounded"])
    return rounded


def _round_weight(model: ir.Model, node: ir.Node, values: NDArray[Any], scales: NDArray[np.float32]) -> ir.Value:
    name = name_of(given(node, 1))
    quantized = add_constant(model, f"{name}.{values.dtype}", values)
    column_scales = add_constant(model, f"{name}.scale", scales)
    # Not shared with other weights: ONNX Runtime fails where it makes weights unsigned and meets zero points again.
    zero_points = add_constant(model, f"{name}.zero_points", np.zeros(len(scales), values.dtype))
    dequantize = ir.node(
        "DequantizeLinear", [quantized, column_scales, zero_points], attributes={"axis": 1}, name=f"{name}.rounded"
    )
    dequantize.outputs[0].name = f"{name}.rounded"
    model.graph.insert_before(node, dequantize)
    return dequantize.outputs[0]
