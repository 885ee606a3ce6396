"""The bundle's graph as TensorRT's parser reads it: standard operators only, and attention on four axes. Before
anything is built it is proven that the parser documents each operator. Matrix products are proven to have the type that
the engine is named after.

TensorRT takes the types from the graph, always: a graph in float32 becomes an engine in float32, without a word.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ...preprocess.errors import BackendError
from ..graph.older_opsets import FIRST_WITH_ATTENTION
from ..graph.write import take_weights_in

ATTENTION = "Attention"
REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceSum")
MATRIX_OPERATORS = ("MatMul", "Gemm", "Conv", ATTENTION)

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16})
_NUMBERS = _FLOATS | {TensorProto.INT32, TensorProto.INT64}
_ANY = _NUMBERS | {TensorProto.BOOL}
_QUANTIZED = frozenset({TensorProto.INT8, TensorProto.FLOAT8E4M3FN, TensorProto.INT4})

# Operator -> types of its first input, for the operators that a graph of ours may hold, as documented in
# docs/operators.md of github.com/onnx/onnx-tensorrt for TensorRT 10.15, opset 9 to 24, less what the parser of TensorRT
# for RTX 1.7 refuses (tests/exporter/tensorrt/test_real_parser.py asks it): HardSwish in bfloat16, Relu of integers.
DOCUMENTED: dict[str, frozenset[int]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", *REDUCTIONS, "Pad", "Max", "Min"), _NUMBERS),
    **dict.fromkeys(("Conv", "Gemm", "MatMul", "Softmax", "LayerNormalization", "Gelu", "QuantizeLinear"), _FLOATS),
    **dict.fromkeys(("Sqrt", "Exp", "Erf", "Tanh", "Sigmoid", "Reciprocal", "Clip", "Relu", "LeakyRelu"), _FLOATS),
    **dict.fromkeys(("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather", "Concat"), _ANY),
    **dict.fromkeys(("Expand", "Identity", "Shape", "Flatten"), _ANY),
    # What merges tokens (exporter/families/merging.py), in the types that it has there.
    **dict.fromkeys(("ArgMax", "Log"), frozenset({TensorProto.FLOAT})),
    **dict.fromkeys(("TopK", "GatherElements"), frozenset({TensorProto.FLOAT, TensorProto.INT64})),
    "Equal": frozenset({TensorProto.INT64}),
    **dict.fromkeys(("Mish", "HardSwish"), frozenset({TensorProto.FLOAT, TensorProto.FLOAT16})),
    "Cast": _ANY | {TensorProto.UINT8},
    "DequantizeLinear": _QUANTIZED,
    ATTENTION: _FLOATS,
}


def load_standard_graph(path: Path) -> ModelProto:
    """Read the graph at `path` with its weights, and inline its functions. Every Attention is on (B, heads, N, D), the
    only form that the parser documents. Raises BackendError where the graph is not one that tubelet exports."""
    # Inlined and reshaped without the weights: they may be larger than one protobuf message can be.
    model = onnx.load(path, load_external_data=False)
    names = {node.output[0]: node.name for node in model.graph.node}
    model = onnx.inliner.inline_local_functions(model)
    _raise_opset(model)
    for node in model.graph.node:
        if not node.name:  # it came from a function: let it be called as the call was
            node.name = names.get(node.output[0], node.output[0])
    _take_rounding_from_attention(model)
    _put_attention_on_four_axes(model)
    used = {node.domain for node in model.graph.node}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    take_weights_in(model, path)
    return model


def _raise_opset(model: ModelProto) -> None:
    """Take a graph of an older opset to the one that graphs of ours have. There its operators mean the same, and take
    bfloat16 and float16 wherever engines have them. The axes of ReduceMean alone are given otherwise, as an input since
    opset 18."""
    (standard,) = (opset for opset in model.opset_import if opset.domain == "")
    if standard.version >= FIRST_WITH_ATTENTION:
        return
    for node in model.graph.node:
        if node.op_type == "ReduceMean" and len(node.input) == 1:
            axes = numpy_helper.from_array(np.array(attribute(node, "axes"), np.int64), f"{node.name}.axes")
            model.graph.initializer.append(axes)
            node.input.append(axes.name)
            (older,) = (found for found in node.attribute if found.name == "axes")
            node.attribute.remove(older)
    standard.version = FIRST_WITH_ATTENTION
    model.ir_version = max(model.ir_version, helper.OP_SET_ID_VERSION_MAP["ai.onnx", FIRST_WITH_ATTENTION])


def _take_rounding_from_attention(model: ModelProto) -> None:
    """Give every Attention the operands that it had before they were quantized and dequantized. The int8-static graph
    rounds queries and keys only, for OpenVINO. TensorRT fuses attention whose operands are all of one type."""
    makers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type == ATTENTION:
            for index, name in enumerate(node.input):
                dequantize = makers.get(name)
                if dequantize is not None and dequantize.op_type == "DequantizeLinear":
                    node.input[index] = makers[dequantize.input[0]].input[0]
    for operator in ("DequantizeLinear", "QuantizeLinear"):  # in the order in which they lose their readers
        used = {name for node in model.graph.node for name in node.input}
        for node in list(model.graph.node):
            if node.op_type == operator and node.output[0] not in used:
                model.graph.node.remove(node)


def _put_attention_on_four_axes(model: ModelProto) -> None:
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input)
    }
    nodes = list(model.graph.node)
    del model.graph.node[:]
    del model.graph.value_info[:]  # of tensors that may no longer be what it says
    for node in nodes:
        if node.op_type != ATTENTION:
            model.graph.node.append(node)
            continue
        added = [name for name in node.input[3:] if name]  # to the scores, on four axes, where tokens were merged
        if len(node.input) < 3 or len(added) > 1 or len(node.output) != 1 or len(shapes.get(node.input[0], [])) != 3:
            raise BackendError(f"{node.name} is not an attention that tubelet exports: query, key, value on (B, N, D)")
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        heads = attributes["q_num_heads"]
        inputs = []
        for name, input_name in zip(("query", "key", "value"), node.input[:3], strict=True):
            width = shapes[input_name][2]
            inputs.append(f"{node.name}.{name}")
            # (B, N, width) -> (B, N, heads, D) -> (B, heads, N, D)
            model.graph.node.extend(
                (
                    _reshape(model, input_name, f"{inputs[-1]}.split", (0, 0, heads, width // heads)),
                    _transpose(f"{inputs[-1]}.split", inputs[-1]),
                )
            )
        attended = f"{node.name}.attended"
        scale = {"scale": attributes["scale"]}
        model.graph.node.append(helper.make_node(ATTENTION, [*inputs, *added], [attended], node.name, **scale))
        # (B, heads, N, D) -> (B, N, heads, D) -> (B, N, width)
        model.graph.node.extend(
            (
                _transpose(attended, f"{attended}.transposed"),
                _reshape(model, f"{attended}.transposed", node.output[0], (0, 0, shapes[node.input[2]][2])),
            )
        )


def _reshape(model: ModelProto, given: str, returned: str, shape: tuple[int, ...]) -> NodeProto:
    """0 keeps an axis as it is."""
    constant = f"{returned}.shape"
    model.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), constant))
    return helper.make_node("Reshape", [given, constant], [returned], f"{returned}.Reshape")


def _transpose(given: str, returned: str) -> NodeProto:
    """Swaps axes 1 and 2 of four."""
    return helper.make_node("Transpose", [given], [returned], f"{returned}.Transpose", perm=[0, 2, 1, 3])


def element_types(model: ModelProto) -> dict[str, int]:
    """The element type of every tensor of a graph of standard operators, by name."""
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        for index, output in enumerate(node.output):
            types[output] = _output_type(node, index, types)
    return types


def _output_type(node: NodeProto, index: int, types: dict[str, int]) -> int:
    if node.op_type == "Cast":
        return int(attribute(node, "to"))
    if node.op_type == "Constant":
        return int(attribute(node, "value").data_type)
    if node.op_type in ("ArgMax", "Shape") or (node.op_type == "TopK" and index == 1):
        return int(TensorProto.INT64)
    if node.op_type == "Equal":
        return int(TensorProto.BOOL)
    if node.op_type == "QuantizeLinear":
        return types[node.input[2]] if len(node.input) > 2 else int(TensorProto.UINT8)
    if node.op_type == "DequantizeLinear":
        return types[node.input[1]]  # of its scale
    return types[node.input[0]]


def attribute(node: NodeProto, name: str) -> Any:
    """The value of an attribute that the node must have."""
    return next(helper.get_attribute_value(found) for found in node.attribute if found.name == name)


def undocumented_nodes(model: ModelProto) -> Iterator[str]:
    """Each node that the parser does not document, with the reason."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    types = element_types(model)
    for node in model.graph.node:
        if node.domain or node.op_type not in DOCUMENTED:
            operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            yield f"{node.name} is a {operator}, which is not among the operators it documents"
            continue
        given = types[node.input[0]]
        if given not in DOCUMENTED[node.op_type]:
            yield f"{node.name} is a {node.op_type} of {TensorProto.DataType.Name(given)}"
        if node.op_type == "LayerNormalization" and len(node.output) > 1:
            yield f"{node.name} uses more than the first output of LayerNormalization"
        if node.op_type in REDUCTIONS and len(node.input) > 1 and node.input[1] not in constants:
            yield f"{node.name} reduces over axes that are not constant"
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and not _symmetric(node, constants):
            yield f"{node.name} has a zero point that is not 0"


def _symmetric(node: NodeProto, constants: dict[str, TensorProto]) -> bool:
    if len(node.input) < 3:
        return node.op_type == "DequantizeLinear"  # without one, QuantizeLinear makes uint8
    zero_point = constants.get(node.input[2])
    return zero_point is not None and not numpy_helper.to_array(zero_point).any()


def require_documented(model: ModelProto) -> None:
    """Raise BackendError, naming every node, where TensorRT's parser would not read the graph."""
    found = list(undocumented_nodes(model))
    if found:
        raise BackendError(
            "TensorRT's parser does not read this graph:\n  " + "\n  ".join(found),
            fix="build from another precision of the bundle; a graph with dynamic int8 is for ONNX Runtime alone",
        )


def matrix_types(model: ModelProto) -> dict[str, tuple[str, ...]]:
    """The node of each matrix product -> the types of its operands. An operand that comes out of DequantizeLinear is
    "INT8" or "FLOAT8E4M3FN", since TensorRT multiplies what went in."""
    types = element_types(model)
    quantized = {
        node.output[0]: types[node.input[0]] for node in model.graph.node if node.op_type == "DequantizeLinear"
    }
    return {
        node.name: tuple(
            TensorProto.DataType.Name(quantized.get(name, types[name]))
            for name in node.input[: 3 if node.op_type == ATTENTION else 2]
        )
        for node in model.graph.node
        if node.op_type in MATRIX_OPERATORS
    }


def _merging(model: ModelProto) -> set[str]:
    """The products that choose which tokens are merged, or add them up, by name: in float32 in every graph (see
    graph_edit.merges_tokens)."""
    makers = {name: node for node in model.graph.node for name in node.output}
    judged = {node.input[0] for node in model.graph.node if node.op_type == "ArgMax"}
    cast = {node.output[0] for node in model.graph.node if node.op_type == "Cast" and node.input[0] in makers}
    equal = {name for name in cast if makers[makers[name].input[0]].op_type == "Equal"}
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    return {node.name for node in products if node.output[0] in judged or node.input[0] in equal}


def _linear_layers(model: ModelProto) -> set[str]:
    """The products of an activation and a weight, by name. A product of two activations is part of an attention that is
    written out."""
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("DequantizeLinear", "Cast") and node.input[0] in constants:
            constants.add(node.output[0])
    return {node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in constants}


def require_types(model: ModelProto, wanted: str, *, kept: Collection[str], rest: str | None = None) -> None:
    """Raise BackendError unless every matrix product of the graph multiplies `wanted`. That is "FLOAT", "FLOAT16",
    "BFLOAT16", "INT8" or "FLOAT8E4M3FN". The nodes in `kept` are known to compute in something wider, and so do those
    that merge tokens.

    rest: what products other than linear layers must multiply, where that is another type
    """
    merging = _merging(model)
    found = {name: types for name, types in matrix_types(model).items() if name not in merging}
    linear = _linear_layers(model)
    wrong = {}
    for name, types in found.items():
        expected = wanted if rest is None or name in linear else rest
        if set(types) != {expected} and name not in kept:
            wrong[name] = types
    if wrong or not any(set(types) == {wanted} for types in found.values()):
        counts = Counter(" x ".join(types) for types in found.values())
        listed = "".join(f"\n  {name}: {' x '.join(types)}" for name, types in list(wrong.items())[:10])
        beside = "" if rest is None else f" in linear layers and {rest} elsewhere"
        raise BackendError(
            f"the matrix products of the graph must be {wanted}{beside}, they are "
            f"{', '.join(f'{count} of {types}' for types, count in counts.items()) or 'absent'}{listed}"
        )
