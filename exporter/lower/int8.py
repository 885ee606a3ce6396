"""fp32 graph -> int8 graphs: the products of activations with weight matrices in 8-bit integers, the rest in float32.

Weights are int8 with a scale for each output column, symmetric. Activations have one scale a tensor:

    int8          measured anew for each input (uint8, asymmetric). DynamicQuantizeLinear and MatMulInteger, which ONNX
                  Runtime fuses on CPUs; TensorRT has neither.
    int8-static   from the largest magnitude over calibration clips (int8, symmetric, zero point 0), written as
                  QuantizeLinear and DequantizeLinear, which TensorRT and OpenVINO compile to integer products.

The tubelet embedding sees pixels and the classifier decides; both stay in float32. Together they are less than 1 % of
the work of a base model.

In attention, int8-static rounds queries and keys, whose product OpenVINO then computes in integers. ViViT-B becomes 1.2
times as fast, which is what NNCF's choice of roundings makes of it too. What softmax gives stays as it is. With one
scale for 0 to 1, weights of about 1 / N vanish where N tokens share them evenly. With 3137 tokens the output of
attention had a cosine of 0.60 to the exact one. In the int8 graph attention is in float32 throughout, for ONNX Runtime
has no fused kernel for less. Integer products head by head need less CPU time, and more time on the clock with two
threads (docs/precision.md).
"""

from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..graph.graph_edit import (
    add_constant,
    attentions,
    constant,
    finish,
    given,
    linear_layers,
    name_of,
    node_after,
    open_graph,
)
from .observe import observe
from .rounding import QUERY_AND_KEY, round_linear_layers, round_queries_and_keys

LEVELS = 127  # of a sign: -128 is left out, so that the range is symmetric


def quantized_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize a weight (D_in, D_out) to int8, with a scale for each column, float32 (D_out,)."""
    largest = np.abs(weight).max(axis=0)  # (D_out,)
    scale = np.where(largest > 0, largest / LEVELS, 1).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


def to_int8(path: Path, keep: Set[str]) -> ir.Model:
    """Make the int8 form (dynamic activations) of the fp32 graph; products named in `keep` stay in float32."""
    model = open_graph(path)
    quantized: dict[ir.Value, tuple[ir.Value, ...]] = {}
    for node in linear_layers(model):
        if node.name not in keep:
            activation = given(node, 0)
            if activation not in quantized:
                quantized[activation] = _quantize_as_it_comes(model, activation)
            _replace_by_integer_product(model, node, quantized[activation])
    return finish(model)


def to_int8_static(path: Path, keep: Set[str], magnitudes: Mapping[str, float]) -> ir.Model:
    """Make the int8-static form of the fp32 graph.

    Args:
        path: the graph.
        keep: names of products that stay in float32.
        magnitudes: the largest absolute value of each of `static_activations`, by tensor name.
    """
    model = open_graph(path)
    scales = {name: np.array(size / LEVELS if size > 0 else 1, np.float32) for name, size in magnitudes.items()}
    round_linear_layers(model, keep, scales, quantized_weight)
    round_queries_and_keys(model, keep, scales, np.zeros((), np.int8))
    return finish(model)


def static_activations(model: ir.Model) -> set[str]:
    """Name the tensors that int8-static rounds."""
    names = {name_of(given(node, 0)) for node in linear_layers(model)}
    return names | {name_of(given(node, index)) for node in attentions(model) for index in QUERY_AND_KEY}


def measure_noise(path: Path, batches: Iterable[Mapping[str, NDArray[Any]]]) -> dict[str, float]:
    """Measure how much each linear layer of a graph loses to int8 on real activations.

    Returns:
        By name of the layer, the energy of the difference that dynamic int8 makes to its output. It is a share of that
        output's energy, and the largest over the batches.
    """

    def add_observers(model: ir.Model) -> dict[str, ir.Value]:
        observed = {}
        quantized: dict[ir.Value, tuple[ir.Value, ...]] = {}
        for node in linear_layers(model):
            activation, exact = given(node, 0), node.outputs[0]
            if activation not in quantized:
                quantized[activation] = _quantize_as_it_comes(model, activation)
            name = name_of(node)
            rounded = _integer_product(model, node, quantized[activation])
            observed[name] = _noise_share(model, name, rounded, exact)
        return observed

    return {name: float(value) for name, value in observe(path, batches, add_observers).items()}


def measure_attention_noise(path: Path, batches: Iterable[Mapping[str, NDArray[Any]]]) -> dict[str, float]:
    """Measure the same for each attention, whose queries and keys are rounded."""

    def add_observers(model: ir.Model) -> dict[str, ir.Value]:
        observed = {}
        for node in attentions(model):
            name = name_of(node)
            operands = list(node.inputs)
            for index in QUERY_AND_KEY:
                operand = given(node, index)
                quantized = _quantize_as_it_comes(model, operand)
                (operands[index],) = node_after(
                    model, quantized[0], "DequantizeLinear", quantized, outputs=[f"{name_of(operand)}.rounded"]
                )
            rounded = ir.node(node.op_type, operands, domain=node.domain, attributes=node.attributes)
            rounded.outputs[0].name = f"{name}.attended"
            model.graph.insert_after(node, rounded)
            observed[name] = _noise_share(model, name, rounded.outputs[0], node.outputs[0])
        return observed

    return {name: float(value) for name, value in observe(path, batches, add_observers).items()}


def _noise_share(model: ir.Model, name: str, rounded: ir.Value, exact: ir.Value) -> ir.Value:
    """The energy of the difference as a share of the exact energy."""
    (difference,) = node_after(model, rounded, "Sub", [rounded, exact], outputs=[f"{name}.difference"])
    noise, signal = (
        node_after(model, value, "ReduceSumSquare", [value], outputs=[f"{name}.{part}"], keepdims=0)[0]
        for part, value in (("noise", difference), ("signal", exact))
    )
    (share,) = node_after(model, noise, "Div", [noise, signal], outputs=[f"{name}.share"])
    return share


def _quantize_as_it_comes(model: ir.Model, activation: ir.Value) -> tuple[ir.Value, ...]:
    """Its uint8 form, scale and zero point."""
    name = name_of(activation)
    parts = [f"{name}.{part}" for part in ("quantized", "scale", "zero_point")]
    return node_after(model, activation, "DynamicQuantizeLinear", [activation], outputs=parts)


def _integer_product(model: ir.Model, node: ir.Node, quantized: tuple[ir.Value, ...]) -> ir.Value:
    """The product of `node` from the 8-bit form of its activation, in float32."""
    name, weight = name_of(node), name_of(given(node, 1))
    values, scales = quantized_weight(constant(given(node, 1)))
    integers = add_constant(model, f"{weight}.int8", values)
    column_scales = add_constant(model, f"{weight}.scale", scales)
    activation, scale, zero_point = quantized
    # The order of operations is the one that ONNX Runtime fuses into a single kernel.
    (sums,) = node_after(model, scale, "MatMulInteger", [activation, integers, zero_point], outputs=[f"{name}.sums"])
    (products,) = node_after(model, sums, "Cast", [sums], outputs=[f"{name}.products"], to=ir.DataType.FLOAT)
    (scales_of_both,) = node_after(model, products, "Mul", [scale, column_scales], outputs=[f"{name}.scale"])
    (product,) = node_after(model, scales_of_both, "Mul", [products, scales_of_both], outputs=[f"{name}.scaled"])
    return product


def _replace_by_integer_product(model: ir.Model, node: ir.Node, quantized: tuple[ir.Value, ...]) -> None:
    product = _integer_product(model, node, quantized)
    ir.convenience.replace_all_uses_with(node.outputs[0], product)
    model.graph.remove(node, safe=True)
