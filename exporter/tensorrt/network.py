"""A graph as TensorRT's own parser reads it: a network, whose layers and types show before anything is built.

For TensorRT 10.13 and newer, 11 included, and for TensorRT for RTX. Networks are strongly typed: the types are those of
the graph. The flags that let the builder choose (gone in 11) are never used.
"""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ...preprocess.errors import BackendError
from ...runtime.backends.trt_library import library_name, start, tensorrt_log


@dataclass(frozen=True)
class Network:
    """What the parser made of a graph. builder and parser are held because `definition` lives in them; log: where both
    of them write."""

    trt: ModuleType
    log: Any
    builder: Any
    parser: Any
    definition: Any


class Layer(NamedTuple):
    """A layer of a network. kind: as TensorRT calls it; operands: the type of each, in tubelet's words."""

    name: str
    kind: str
    operands: tuple[str, ...]


def read_network(trt: ModuleType, graph: Path) -> Network:
    """Parse the graph at `graph`.

    Raises:
        BackendError: with the parser's own errors, node by node, where it does not read the graph.
    """
    log = tensorrt_log(trt)
    log.take_errors()
    builder = start(trt.Builder, log)
    definition = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(definition, log)
    if not parser.parse_from_file(str(graph)):
        raise BackendError(
            "TensorRT's parser does not read the graph:" + _parser_errors(parser),
            fix=f"another precision may be read, or another version may read it; this is {library_name(trt)}",
        )
    _allow_decomposed_attention(trt, definition)
    return Network(trt, log, builder, parser, definition)


def _parser_errors(parser: Any) -> str:
    lines = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        lines.append(f"\n  {error.node_name() or f'node {error.node()}'} ({error.node_operator()}): {error.desc()}")
    return "".join(lines)


def _allow_decomposed_attention(trt: ModuleType, definition: Any) -> None:
    """Let TensorRT do attention step by step where it has no fused kernel; without this such a build fails."""
    if not hasattr(trt, "IAttentionInputLayer"):
        return  # a TensorRT older than its Attention, whose parser takes attention written out only
    for index in range(definition.num_layers):
        layer = definition.get_layer(index)
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer  # the binding gives every layer as a plain ILayer
            layer.attention.decomposable = True


# Types by TensorRT's names, where tubelet has a word of its own.
_WORDS = {"FLOAT": "fp32", "HALF": "fp16"}
# Layers that move values and leave their type.
_MOVING = ("SHUFFLE", "IDENTITY")


def layers_of(network: Network) -> list[Layer]:
    """Describe every layer of a network, in order. An operand that comes out of a dequantization has the type of what
    went in, which is what TensorRT multiplies."""
    definition = network.definition
    layers = [definition.get_layer(index) for index in range(definition.num_layers)]
    makers = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}

    def type_of(tensor: Any) -> str:
        maker = makers.get(tensor.name)
        while maker is not None and maker.type.name in _MOVING:
            maker = makers.get(maker.get_input(0).name)
        if maker is not None and maker.type.name == "DEQUANTIZE":
            tensor = maker.get_input(0)
        name: str = tensor.dtype.name
        return _WORDS.get(name, name.lower())

    return [
        Layer(
            layer.name,
            layer.type.name,
            tuple(type_of(tensor) for tensor in map(layer.get_input, range(layer.num_inputs)) if tensor is not None),
        )
        for layer in layers
    ]
