"""How an engine's graph is made from the bundle's, and what is tried instead where its numbers are wrong.

Fused attention that is silently wrong exists on some GPUs (NVIDIA/TensorRT issues 4822 and 4837: half precision, fp32
exact). So an engine that does not compute what torch computes is not kept. The next recipe is tried, each one further
from the kernel that is suspected:

    fp16                    the bundle's fp16 graph; attention may be fused
    bf16                    other kernels, and a range in which nothing overflows
    fp16-attention32        queries, keys and values in float32
    fp16-unfused            MatMul, a softmax of its own steps in float32, MatMul
    fp32

MatMul, Softmax, MatMul is no way around a fused kernel. TensorRT finds the pattern and fuses it all the same: in fp16,
bf16 and both forms of 8 bits. Only a softmax whose steps are operators of their own was left alone. The names of
kernels show it, in plans of TensorRT for RTX 1.7 (compute capability 8.9 and 12.0). A TensorRT without Attention is
given the pattern, as `written-out`, because it may be fused.

In 8 bits everything that is not a linear layer is done as in fp16. The bundle's int8-static graph has it in float32,
for CPUs, and is lowered here. What follows an attention in float16 was seen to go wrong in 8 bits. (The authors of
rf-detr saw it in TensorRT 10.16 and 11.3.) So it is the first that is taken back:

    int8-static             linear layers in int8, the rest in float16; and so with fp8
    int8-static-projection16    what follows attention in float16 too
    int8-static-unfused
    int8-static-rest32      the bundle's graph as it is
    bf16, fp32              from the fp32 graph
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.engines import SOURCES
from ...runtime.precisions import PRECISIONS, ElementType
from ..graph.older_opsets import FIRST_WITH_ATTENTION as OPSET_WITH_ATTENTION
from ..lower.fp16 import to_lower
from .inline import ATTENTION, attribute, element_types, load_standard_graph, require_types

# What ONNX calls the types of operands.
ONNX_TYPES: dict[ElementType, str] = {
    "fp32": "FLOAT",
    "fp16": "FLOAT16",
    "bf16": "BFLOAT16",
    "int8": "INT8",
    "fp8": "FLOAT8E4M3FN",
}


@dataclass(frozen=True)
class Recipe:
    """precision: what the engine is; change: what is done differently from how TensorRT would like it, "" for
    nothing."""

    precision: str
    change: str = ""

    @property
    def name(self) -> str:
        return f"{self.precision}-{self.change}" if self.change else self.precision


@dataclass(frozen=True)
class EngineGraph:
    """How the graph of an engine is made from the bundle's.

    fallbacks: what is tried instead, in order. lowered_to: the type that floats are lowered to first; None where the
    bundle's graph has its types already.
    """

    fallbacks: tuple[Recipe, ...]
    lowered_to: ir.DataType | None = None


# One for each precision that TensorRT takes.
ENGINE_GRAPHS = {
    "fp32": EngineGraph((Recipe("fp32", "unfused"),)),
    "tf32": EngineGraph((Recipe("tf32", "unfused"), Recipe("fp32"))),
    "fp16": EngineGraph((Recipe("bf16"), Recipe("fp16", "attention32"), Recipe("fp16", "unfused"), Recipe("fp32"))),
    "bf16": EngineGraph(
        (Recipe("bf16", "attention32"), Recipe("bf16", "unfused"), Recipe("fp32")), ir.DataType.BFLOAT16
    ),
    "int8-static": EngineGraph(
        (
            Recipe("int8-static", "projection16"),
            Recipe("int8-static", "unfused"),
            Recipe("int8-static", "rest32"),
            Recipe("bf16"),
            Recipe("fp32"),
        ),
        ir.DataType.FLOAT16,
    ),
    "fp8": EngineGraph((Recipe("fp8", "projection16"), Recipe("fp8", "unfused"), Recipe("bf16"), Recipe("fp32"))),
}


def recipes_for(precision: str, *, attention: bool, compute_capability: tuple[int, int], opset: int) -> list[Recipe]:
    """What is asked for, and then what to fall back to, in order.

    Args:
        precision: of the engine.
        attention: whether TensorRT's parser reads Attention.
        compute_capability: of the GPU; what it cannot multiply in is left out.
        opset: of the bundle's graphs.
    """
    found = [Recipe(precision), *ENGINE_GRAPHS[precision].fallbacks]
    found = [recipe for recipe in found if compute_capability >= PRECISIONS[recipe.precision].first_gpu]
    if attention and opset >= OPSET_WITH_ATTENTION:
        return found
    # Without Attention, each precision is left with the two forms that do without.
    without = [recipe if recipe.change == "unfused" else Recipe(recipe.precision, "written-out") for recipe in found]
    return list(dict.fromkeys(without))


def make_graph(bundle: Bundle, recipe: Recipe, folder: Path) -> ModelProto:
    """The graph of `recipe`, proven to multiply what its precision says. `folder` is for files in between.

    Raises BundleError for a graph that the bundle lacks or that is damaged, BackendError for one that multiplies
    something else.
    """
    graph = bundle.graph(SOURCES[recipe.precision])
    path, *_ = [bundle.verified(file) for file in graph.files]
    kept = set(graph.kept)
    precision, low = PRECISIONS[recipe.precision], ENGINE_GRAPHS[recipe.precision].lowered_to
    if low is not None and recipe.change != "rest32":
        beyond = _beyond_half(bundle) if low == ir.DataType.FLOAT16 else frozenset()
        path = _lowered(path, beyond, low, folder)
        kept |= beyond
    model = load_standard_graph(path)
    rest = None
    if precision.is_8_bit:
        rest = "FLOAT" if recipe.change == "rest32" else "FLOAT16"
    require_types(model, ONNX_TYPES[precision.multiplies], kept=kept, rest=rest)
    if recipe.change in _CHANGES:
        _CHANGES[recipe.change](model)
    return model


def _lowered(path: Path, keep: frozenset[str], low: ir.DataType, folder: Path) -> Path:
    lowered = folder / "lowered.onnx"
    ir.save(to_lower(path, keep, low), lowered, external_data="lowered.onnx.data")
    return lowered


def _beyond_half(bundle: Bundle) -> frozenset[str]:
    """The products that float16 cannot hold, as far as the bundle knows: those that its fp16 graph keeps in float32."""
    return frozenset(name for graph in bundle.graphs if graph.precision == "fp16" for name in graph.kept)


def raise_attention_to_float32(model: ModelProto) -> None:
    """Casts queries, keys and values to float32, and what attention gives back to the type that they had."""

    def raised(node: NodeProto, type_: int) -> Iterable[NodeProto]:
        wide = [f"{name}.float32" for name in node.input]
        given = f"{node.output[0]}.float32"
        yield from (_cast(name, up, TensorProto.FLOAT) for name, up in zip(node.input, wide, strict=True))
        yield helper.make_node(ATTENTION, wide, [given], node.name, scale=attribute(node, "scale"))
        yield _cast(given, node.output[0], type_)

    _replace_attention(model, raised, but=TensorProto.FLOAT)


def write_attention_out(model: ModelProto) -> None:
    """Softmax(Q K^T * scale) V as its own operators, the softmax in float32."""
    _replace_attention(model, lambda node, type_: _written_out(model, node, type_, _softmax))


def unfuse_attention(model: ModelProto) -> None:
    """`write_attention_out`, and the softmax as its own operators too, which TensorRT does not take for attention."""
    _replace_attention(model, lambda node, type_: _written_out(model, node, type_, _softmax_in_steps))


# What computes the softmax over the last axis of float32 scores: (model, scores, weights, name) to nodes.
_Softmax = Callable[[ModelProto, str, str, str], Iterable[NodeProto]]


def _written_out(model: ModelProto, node: NodeProto, type_: int, softmax: _Softmax) -> Iterable[NodeProto]:
    """Attention in steps. Half of the scale goes to Q and half to K, so that the product between stays small."""
    query, key, value, *added = node.input
    dtype = helper.tensor_dtype_to_np_dtype(type_)
    scale = numpy_helper.from_array(np.array(np.sqrt(attribute(node, "scale")), dtype), f"{node.name}.scale")
    model.graph.initializer.append(scale)
    names = [f"{node.name}.{part}" for part in ("q", "k", "kt", "scores", "wide", "weights", "narrow")]
    q, k, kt, scores, wide, weights, narrow = names
    yield helper.make_node("Mul", [query, scale.name], [q], q)  # (B, heads, N, D)
    yield helper.make_node("Mul", [key, scale.name], [k], k)
    yield helper.make_node("Transpose", [k], [kt], kt, perm=[0, 1, 3, 2])  # (B, heads, D, N)
    yield helper.make_node("MatMul", [q, kt], [scores], scores)  # (B, heads, N, N)
    for what in added:
        yield helper.make_node("Add", [scores, what], [f"{scores}.sized"], f"{scores}.sized")
        scores = f"{scores}.sized"
    if type_ == TensorProto.FLOAT:
        yield from softmax(model, scores, narrow, weights)
    else:
        yield _cast(scores, wide, TensorProto.FLOAT)
        yield from softmax(model, wide, weights, weights)
        yield _cast(weights, narrow, type_)
    yield helper.make_node("MatMul", [narrow, value], [node.output[0]], node.name)  # (B, heads, N, D)


def _softmax(_model: ModelProto, scores: str, weights: str, name: str) -> Iterable[NodeProto]:
    yield helper.make_node("Softmax", [scores], [weights], name, axis=-1)


def _softmax_in_steps(model: ModelProto, scores: str, weights: str, name: str) -> Iterable[NodeProto]:
    last = numpy_helper.from_array(np.array([-1]), f"{name}.axis")
    model.graph.initializer.append(last)
    largest, shifted, raised, total = (f"{name}.{part}" for part in ("largest", "shifted", "raised", "total"))
    yield helper.make_node("ReduceMax", [scores, last.name], [largest], largest, keepdims=1)  # (B, heads, N, 1)
    yield helper.make_node("Sub", [scores, largest], [shifted], shifted)
    yield helper.make_node("Exp", [shifted], [raised], raised)
    yield helper.make_node("ReduceSum", [raised, last.name], [total], total, keepdims=1)  # (B, heads, N, 1)
    yield helper.make_node("Div", [raised, total], [weights], name)


def take_projections_back(model: ModelProto) -> None:
    """Let each linear layer behind an attention multiply in the type that attention gives, not in 8 bits. Its weights
    are rounded as before."""
    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        given, weight = (makers.get(name) for name in node.input[:2]) if node.op_type == "MatMul" else (None, None)
        if given is None or weight is None or {given.op_type, weight.op_type} != {"DequantizeLinear"}:
            continue
        activation = makers[given.input[0]].input[0]
        if not _comes_from_attention(activation, makers):
            continue
        values, scales = (numpy_helper.to_array(constants[name]) for name in weight.input[:2])
        # (D_in, D_out) with a scale for each column
        restored = (values.astype(np.float32) * scales.astype(np.float32)).astype(scales.dtype)
        model.graph.initializer.append(numpy_helper.from_array(restored, f"{node.name}.weight"))
        node.input[0], node.input[1] = activation, f"{node.name}.weight"
    _drop_unused(model)


def _comes_from_attention(name: str, makers: dict[str, NodeProto]) -> bool:
    """Whether a tensor is what attention gave, moved about."""
    node = makers.get(name)
    while node is not None and node.op_type in ("Reshape", "Transpose"):
        node = makers.get(node.input[0])
    return node is not None and node.op_type == ATTENTION


def _drop_unused(model: ModelProto) -> None:
    """Nodes whose outputs nobody reads, and then constants."""
    used = {value.name for value in model.graph.output}
    nodes: list[NodeProto] = []
    for node in reversed(model.graph.node):
        if used & set(node.output):
            nodes.append(node)
            used |= set(node.input)
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(reversed(nodes))
    model.graph.initializer.extend(constants)


_CHANGES = {
    "attention32": raise_attention_to_float32,
    "written-out": write_attention_out,
    "unfused": unfuse_attention,
    "projection16": take_projections_back,
}


def _cast(given: str, returned: str, type_: int) -> NodeProto:
    return helper.make_node("Cast", [given], [returned], returned, to=type_)


def _replace_attention(
    model: ModelProto, replace: Callable[[NodeProto, int], Iterable[NodeProto]], *, but: int | None = None
) -> None:
    """Put what `replace` makes of each Attention and its type in that node's place; those of type `but` stay."""
    types = element_types(model)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type == ATTENTION and types[node.input[0]] != but:
            model.graph.node.extend(replace(node, types[node.input[0]]))
        else:
            model.graph.node.append(node)
