"""torch module -> portable ONNX graph.

The graph is traced from the module with a dynamic batch. Attention becomes one node,
com.microsoft::MultiHeadAttention, for which ONNX Runtime and OpenVINO have a fused kernel. The model carries a
function of that name whose body is the standard Attention operator. A reader that does not know the node inlines
the body instead: one file serves both. Below opset 23 there is no such operator, and attention is written
out (older_opsets.py).
"""

import ast
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxscript
import onnxscript.optimizer
import torch
from torch import Tensor, nn

from ...preprocess.spec import ClipSpec
from ...runtime.bundle.files import Graph, TensorInfo
from ..families.attention import Attended, Attending, added_to_scores, eager_attention
from ..options import OPSET
from .older_opsets import FIRST_WITH_ATTENTION, OLDEST_TRACED, write_for
from .sharing import sharing_weights
from .tasks import ExportedModel, mask
from .write import write_graph

_ANY_SIZE = 2**62
_TRACED_BATCH = 2  # torch.export takes a batch of 1 for a constant

_ATTENTION_FUNCTION = """
<opset_import: ["" : {opset}], domain: "com.microsoft">
MultiHeadAttention <num_heads, scale> ({given}) => (output) {{
    output = Attention <q_num_heads: int = @num_heads, kv_num_heads: int = @num_heads, scale: float = @scale>
        ({taken})
}}
"""
_QKV = "query, key, value"
# A graph that merges tokens adds to scores, which is the sixth input of the one operator and the fourth of the other.
_GIVEN = {False: _QKV, True: f"{_QKV}, bias, key_padding_mask, attention_bias"}
_TAKEN = {False: _QKV, True: f"{_QKV}, attention_bias"}


class NormalisedInside(nn.Module):
    """The model behind uint8 frames: rescaling and normalisation are part of the graph."""

    scale: Tensor
    shift: Tensor

    def __init__(self, exported: ExportedModel, spec: ClipSpec) -> None:
        super().__init__()
        self.exported = exported
        # ((x * factor + offset) - mean) / std as one multiplication and one addition, folded in float64.
        mean, std = np.array(spec.mean or (0.0,) * 3), np.array(spec.std or (1.0,) * 3)
        scale, shift = spec.rescale_factor / std, (spec.rescale_offset - mean) / std
        for name, values in (("scale", scale), ("shift", shift)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)  # (C,)

    def forward(self, frames: Tensor, *indices: Tensor) -> tuple[Tensor, ...]:
        """uint8 (B, T, H, W, C), and what else the model takes."""
        # Cast first: some readers allow uint8 at the border of a graph and nowhere inside. Transpose last, so that
        # it merges with the one that the model begins with.
        pixels = frames.to(torch.float32) * self.scale + self.shift  # (B, T, H, W, C)
        outputs: tuple[Tensor, ...] = self.exported(pixels.permute(0, 1, 4, 2, 3), *indices)  # (B, T, C, H, W)
        return outputs


def onnx_attention(
    query: Tensor, key: Tensor, value: Tensor, *, num_heads: int, scale: float, sizes: Tensor | None = None
) -> Attended:
    """What `Attention.attend` is while a graph is traced: the fused node, on (B, N, D)."""
    inputs: list[Tensor | None] = [query, key, value]
    if sizes is not None:
        # ONNX Runtime repeats what is added over heads, and not over queries.
        by_query = added_to_scores(sizes).expand(-1, -1, query.shape[1], -1)  # (B, 1, 1, N) -> (B, 1, M, N)
        inputs += [None, None, by_query]
    context = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        inputs,
        attrs={"num_heads": num_heads, "scale": scale},
        dtype=query.dtype,
        shape=query.shape,
        version=1,
    )
    return Attended(context, None)


def onnx_sort(
    values: ir.Value, *, dim: int = -1, descending: bool = False, **_stable: bool
) -> tuple[ir.Value, ir.Value]:
    """What torch's stable sort is in a graph, for which the tracer has nothing. Like that, TopK takes the first of
    equals first.
    """
    size = None if values.shape is None else values.shape[dim]
    if not isinstance(size, int):
        raise TypeError(f"{values} has no fixed size along {dim}, so it cannot be sorted")
    op: Any = onnxscript.opset20  # whose types are those of values, not of their names in a graph
    ordered, indices = op.TopK(values, op.Constant(value_ints=[size]), axis=dim, largest=int(descending), sorted=1)
    return ordered, indices


def _with_fused_attention(asked: ExportedModel) -> ExportedModel:
    """`asked` in eval mode, folded, with attention as one node, and `asked` itself as it was. Eager attention, whose
    weights are asked for, stays eager."""
    fused = sharing_weights(asked).eval()
    fused.model.fold()
    for module in fused.modules():
        if isinstance(module, Attending) and module.attend is not eager_attention:
            module.attend = onnx_attention
    return fused


@contextmanager
def _quiet_tracing() -> Iterator[None]:
    """torch's exporter logs that torchvision is absent, and warns of a deprecation inside torch itself. Neither says
    anything about the model.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            # All inputs share the batch, and it has one name.
            warnings.filterwarnings("ignore", message="# The axis name: batch will not be used", category=UserWarning)
            yield
    finally:
        logger.setLevel(level)


def trace(asked: ExportedModel, spec: ClipSpec, *, opset: int = OPSET) -> ir.Model:
    """Trace the graph of `asked` (on the CPU), weights included by reference.

    Its inputs are those of the layout of `spec`. TCHW: float32 `pixel_values` (batch, T, C, H, W). THWC: uint8 `frames`
    (batch, T, H, W, C), normalised inside. For masked modeling also int64 `visible` (batch, V) and `masked` (batch,
    M). Its outputs are float32; see tasks.py.

    Raises:
        ValueError: where the spec leaves the size of clips open.
    """
    if spec.size is None:
        raise ValueError("a graph takes clips of one size, and this spec leaves the size open")
    height, width = spec.size
    fused = _with_fused_attention(asked)
    traced: nn.Module = fused
    if spec.layout == "THWC":
        traced = NormalisedInside(fused, spec).eval()
        example = torch.zeros((_TRACED_BATCH, spec.num_frames, height, width, 3), dtype=torch.uint8)
    else:
        example = torch.zeros((_TRACED_BATCH, spec.num_frames, 3, height, width))
    indices = {name: torch.from_numpy(array) for name, array in mask(asked.model, seed=0, batch=_TRACED_BATCH).items()}
    any_batch = {0: torch.export.Dim("batch")}
    with _quiet_tracing(), torch.no_grad():
        program = torch.onnx.export(
            traced,
            (example, *indices.values()),
            dynamo=True,
            opset_version=max(opset, OLDEST_TRACED),
            input_names=[spec.input_name, *indices],
            output_names=list(asked.names),
            dynamic_shapes=(any_batch, (any_batch,) * len(indices)) if indices else (any_batch,),
            custom_translation_table={torch.ops.aten.sort.stable: onnx_sort},
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    graph = program.model
    # The tracer leaves what it would compute from large constants alone; here the graph is better off without.
    onnxscript.optimizer.optimize(graph, input_size_limit=_ANY_SIZE, output_size_limit=_ANY_SIZE, inline=False)
    _name_after_modules(graph)
    if opset < FIRST_WITH_ATTENTION:
        write_for(graph, opset)
    else:
        merges = asked.model.removed > 0
        text = _ATTENTION_FUNCTION.format(opset=opset, given=_GIVEN[merges], taken=_TAKEN[merges])
        function = ir.serde.deserialize_function(onnx.parser.parse_function(text))
        graph.functions[function.identifier()] = function
    graph.producer_name = "tubelet"
    return graph


def _module_of(node: ir.Node) -> str:
    """The innermost module that a node was traced from, as the checkpoint names it; "" outside of any."""
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]")
    modules: list[str] = ast.literal_eval(scopes)[:-1]  # the last scope is the operator itself
    innermost = next((name for name in reversed(modules) if name), "")
    return _checkpoint_name(innermost)


def _checkpoint_name(name: str) -> str:
    """A module's or parameter's name without the wrapping of NormalisedInside and ExportedModel."""
    return name.removeprefix("exported.").removeprefix("model.")


def _name_after_modules(model: ir.Model) -> None:
    """Name nodes and transposed weights after the module they came from. Whoever meets one in a message then finds it
    in the checkpoint. What else the tracer wrote beside them is dropped, such as stack traces with paths.
    """
    nodes: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for node in model.graph:
        module = _module_of(node)
        name = f"{module}.{node.op_type}" if module else node.op_type
        nodes[name] += 1
        node.name = name if nodes[name] == 1 else f"{name}_{nodes[name]}"
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in list(model.graph.initializers.values()):
        folded = value.metadata_props.get("pkg.onnxscript.optimizer.folded_from", "[]")
        sources: list[str] = ast.literal_eval(folded)
        transposed = len(sources) == 1  # a weight that was transposed beforehand
        name = f"{_checkpoint_name(sources[0])}.transposed" if transposed else _checkpoint_name(value.name or "")
        weights[name] += 1
        value.name = name if weights[name] == 1 else f"{name}_{weights[name]}"  # a weight that is used in two places
        value.metadata_props.clear()
    for value in model.graph.inputs:
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()


def save_graph(model: ir.Model, path: Path) -> Graph:
    """Write the fp32 graph to `path` and describe it; see `write_graph`."""
    return Graph(
        precision="fp32",
        opset=model.opset_imports[""],
        files=write_graph(model, path),
        inputs=tuple(map(_tensor_info, model.graph.inputs)),
        outputs=tuple(map(_tensor_info, model.graph.outputs)),
        kept=(),
        notes=(),
        parity=None,  # until it is checked
    )


def _tensor_info(value: ir.Value) -> TensorInfo:
    if value.name is None or value.dtype is None or value.shape is None:
        raise RuntimeError(f"the tracer left {value} without a name, a type or a shape")
    shape = tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape)
    return TensorInfo(value.name, str(value.dtype.numpy()), shape)
