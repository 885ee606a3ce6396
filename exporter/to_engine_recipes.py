"""How an engine's graph is made from the bundle's, and what is tried instead where its numbers are wrong.

Fused attention that is silently wrong exists on some GPUs (NVIDIA/TensorRT issues 4822 and 4837: half precision, fp32
exact). So an engine that does not compute what torch computes is not kept, and the next recipe is tried, each one
further from the kernel that is suspected:

    fp16                    the bundle's fp16 graph; attention may be fused
    bf16                    other kernels, and a range in which nothing overflows
    fp16-attention32        queries, keys and values in float32
    fp16-written-out        MatMul, Softmax, MatMul, with the softmax in float32
    fp32
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..runtime.bundle import Bundle
from ..runtime.engines import SOURCES
from .precision_fp16 import to_lower
from .to_engine_graph import ATTENTION, attribute, element_types, load_standard_graph, require_types

# The first TensorRT whose parser reads Attention (its change log).
FIRST_WITH_ATTENTION = (10, 14)

# Precision of an engine -> type of its matrix products' operands.
OPERANDS = {"fp32": "FLOAT", "tf32": "FLOAT", "fp16": "FLOAT16", "bf16": "BFLOAT16", "int8-static": "INT8"}


@dataclass(frozen=True)
class Recipe:
    """precision: what the engine is; attention: how its attention is done, "" for as TensorRT likes."""

    precision: str
    attention: str = ""

    @property
    def name(self) -> str:
        return f"{self.precision}-{self.attention}" if self.attention else self.precision


def recipes_for(precision: str, tensorrt: tuple[int, int]) -> list[Recipe]:
    """What is asked for, and then what to fall back to, in order."""
    upcast, written_out = Recipe(precision, "attention32"), Recipe(precision, "written-out")
    steps = {
        "fp32": [written_out],
        "tf32": [written_out, Recipe("fp32")],
        "fp16": [Recipe("bf16"), upcast, written_out, Recipe("fp32")],
        "bf16": [upcast, written_out, Recipe("fp32")],
        "int8-static": [written_out, Recipe("fp32")],
    }
    found = [Recipe(precision), *steps[precision]]
    if tensorrt >= FIRST_WITH_ATTENTION:
        return found
    # Without Attention, each precision is left with its one form that does without.
    return list(dict.fromkeys(Recipe(recipe.precision, "written-out") for recipe in found))


def make_graph(bundle: Bundle, recipe: Recipe, folder: Path) -> ModelProto:
    """The graph of `recipe`, proven to multiply what its precision says. `folder` is for files in between.

    Raises BundleError for a graph that the bundle lacks or that is damaged, BackendError for one that multiplies
    something else.
    """
    graph = bundle.graph(SOURCES[recipe.precision])
    path, *_ = [bundle.verified(file) for file in graph.files]
    if recipe.precision == "bf16":
        lowered = folder / "bf16.onnx"
        ir.save(to_lower(path, frozenset(), ir.DataType.BFLOAT16), lowered, external_data="bf16.onnx.data")
        path = lowered
    model = load_standard_graph(path)
    kept = set(graph.kept)
    if recipe.precision == "int8-static":  # what is not a linear layer stays in float32 there
        kept |= {node.name for node in model.graph.node if node.op_type != "MatMul"}
    require_types(model, OPERANDS[recipe.precision], kept=kept)
    if recipe.attention:
        _CHANGES[recipe.attention](model)
    return model


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
    """Softmax(Q K^T * scale) V as its own operators, the softmax in float32. Half of the scale goes to Q and half to K,
    so that the product between stays small."""

    def written_out(node: NodeProto, type_: int) -> Iterable[NodeProto]:
        query, key, value = node.input
        dtype = helper.tensor_dtype_to_np_dtype(type_)
        scale = numpy_helper.from_array(np.array(np.sqrt(attribute(node, "scale")), dtype), f"{node.name}.scale")
        model.graph.initializer.append(scale)
        names = [f"{node.name}.{part}" for part in ("q", "k", "kt", "scores", "wide", "weights", "narrow")]
        q, k, kt, scores, wide, weights, narrow = names
        yield helper.make_node("Mul", [query, scale.name], [q], q)  # (B, heads, N, D)
        yield helper.make_node("Mul", [key, scale.name], [k], k)
        yield helper.make_node("Transpose", [k], [kt], kt, perm=[0, 1, 3, 2])  # (B, heads, D, N)
        yield helper.make_node("MatMul", [q, kt], [scores], scores)  # (B, heads, N, N)
        if type_ == TensorProto.FLOAT:
            yield helper.make_node("Softmax", [scores], [narrow], weights, axis=-1)
        else:
            yield _cast(scores, wide, TensorProto.FLOAT)
            yield helper.make_node("Softmax", [wide], [weights], weights, axis=-1)
            yield _cast(weights, narrow, type_)
        yield helper.make_node("MatMul", [narrow, value], [node.output[0]], node.name)  # (B, heads, N, D)

    _replace_attention(model, written_out)


_CHANGES = {"attention32": raise_attention_to_float32, "written-out": write_attention_out}


def _cast(given: str, returned: str, type_: int) -> NodeProto:
    return helper.make_node("Cast", [given], [returned], returned, to=type_)


def _replace_attention(
    model: ModelProto, replace: Callable[[NodeProto, int], Iterable[NodeProto]], *, but: int | None = None
) -> None:
    """Puts what `replace` makes of each Attention and its type in that node's place; those of type `but` stay."""
    types = element_types(model)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type == ATTENTION and types[node.input[0]] != but:
            model.graph.node.extend(replace(node, types[node.input[0]]))
        else:
            model.graph.node.append(node)
