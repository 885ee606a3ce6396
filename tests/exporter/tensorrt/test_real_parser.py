"""The graphs of engines, read by NVIDIA's own parser: what each network multiplies, and what is refused."""

import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from checkpoints import write_checkpoint
from onnx import ModelProto, TensorProto, helper, numpy_helper
from real_tensorrt import graph_file, real_tensorrt, written

from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.exporter.export import export_bundle
from tubelet.exporter.families.config import ACTIVATIONS
from tubelet.exporter.families.registry import FAMILIES
from tubelet.exporter.families.timesformer_encoder import DividedLayer, TimesformerProjections
from tubelet.exporter.graph.tasks import exported_model
from tubelet.exporter.graph.trace import trace
from tubelet.exporter.lower.fp16 import to_lower
from tubelet.exporter.lower.search import add_graph
from tubelet.exporter.options import ExportOptions
from tubelet.exporter.plan import clip_spec
from tubelet.exporter.tensorrt.inline import DOCUMENTED, load_standard_graph, matrix_types, require_documented
from tubelet.exporter.tensorrt.network import Layer, layers_of, read_network
from tubelet.exporter.tensorrt.plan import build_plan
from tubelet.exporter.tensorrt.recipes import ENGINE_GRAPHS, ONNX_TYPES, Recipe, recipes_for
from tubelet.preprocess.errors import BackendError
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.engines import SOURCES, EngineOptions
from tubelet.runtime.precisions import PRECISIONS, GraphPrecision
from tubelet.runtime.progress import silent

DEMO = Path(__file__).parents[3] / "artifacts" / "demo"
trt = real_tensorrt()


LOWERED: tuple[GraphPrecision, ...] = ("fp16", "int8-static", "fp8")


@dataclass(frozen=True)
class Row:
    """A model that the parser must read. folder: of the demo checkpoint, None for the family's tiny one; lowered: the
    graphs beside the one in fp32; built: the precisions that an engine is built in as well; merge: tokens that each
    layer merges."""

    name: str
    family: str
    folder: Path | None = None
    lowered: tuple[GraphPrecision, ...] = LOWERED
    built: tuple[str, ...] = ()
    merge: int | None = None


FOLDERS = [folder for folder in sorted(DEMO.iterdir()) if folder.is_dir()]
# To build takes long: here each demo model in some precision, and each precision for some demo model; all are slow.
DEMOS = tuple(
    Row(f"{folder.name} demo", folder.name, folder, built=tuple(ENGINE_GRAPHS)[number :: len(FOLDERS)])
    for number, folder in enumerate(FOLDERS)
)
# The export leaves their linear layers as torch has them; of others it joins, splits or computes some beforehand.
PLAIN = ("vivit", "videomae")
# A family that has a demo model is read in that one; of the others what takes long, to calibrate 8 bits, is slow.
_READ_ALREADY = {row.family for row in DEMOS}
ROWS = (
    *DEMOS,
    *(
        Row(f"tiny {family.name}", family.name, lowered=("fp16",))
        for family in FAMILIES
        if family.name not in _READ_ALREADY
    ),
    Row("tiny vivit, merged", "vivit", lowered=("fp16",), merge=2),
    Row("tiny videomae, merged", "videomae", lowered=(), merge=8),
    *(pytest.param(Row(f"tiny {family.name}, all", family.name), marks=pytest.mark.slow) for family in FAMILIES),
    *(
        pytest.param(replace(row, name=f"{row.name}, all built", built=tuple(ENGINE_GRAPHS)), marks=pytest.mark.slow)
        for row in DEMOS
    ),
    *(
        pytest.param(
            replace(row, name=f"{row.name}, merged", built=tuple(ENGINE_GRAPHS), merge=16), marks=pytest.mark.slow
        )
        for row in DEMOS
        if row.family in PLAIN
    ),
)
RECIPES = [
    recipe
    for precision, made in ENGINE_GRAPHS.items()
    for recipe in (Recipe(precision), *made.fallbacks, Recipe(precision, "written-out"))
    if recipe.precision == precision
]


# Linear layers and attentions of the demo models: layers of six, and the classifier. V-JEPA 2 has a pooler of a layer
# and a query; that is the same for every clip, so its projection is folded, and none follows its attention. TimeSformer
# attends twice in a layer.
OF_DEMOS = {
    "vivit": (4 * 6 + 1, 4),
    "videomae": (4 * 6 + 1, 4),
    "timesformer": (4 * 10 + 1, 8),
    "vjepa2": (3 * 6 + 6 + 4 + 1, 5),
}
FOLDED = UNPROJECTED = {"vjepa2": 1}


@dataclass(frozen=True)
class Exported:
    """A bundle with every graph that engines come from, and what torch has: linear layers, attentions, and projections
    behind those."""

    bundle: Bundle
    linear: int
    attentions: int
    projections: int


def export(row: Row, work: Path, demo_bundle: Callable[[str], Path]) -> Exported:
    folder = row.folder or write_checkpoint(work / "checkpoint", row.family)
    checkpoint = load_checkpoint(str(folder), report=lambda _: None)
    if row.folder and row.merge is None:
        bundle = Bundle.open(shutil.copytree(demo_bundle(row.family), work / "bundle"))
    else:
        bundle, _ = export_bundle(checkpoint, work / "bundle", ExportOptions(merge=row.merge))
    for precision in row.lowered:
        bundle, _ = add_graph(bundle, precision)
    modules = list(checkpoint.model.modules())
    linear = sum(isinstance(module, torch.nn.Linear) for module in modules) - FOLDED.get(row.family, 0)
    # Queries, keys and values in one matrix, which a graph multiplies by its parts; and two maps that are one there.
    linear += 2 * sum(isinstance(module, TimesformerProjections) for module in modules)
    linear -= sum(isinstance(module, DividedLayer) for module in modules)
    attentions = sum(hasattr(module, "attend") for module in modules)
    return Exported(bundle, linear, attentions, projections=attentions - UNPROJECTED.get(row.family, 0))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_network_multiplies_what_its_recipe_says_and_demo_models_are_built(
    row: Row, tmp_path: Path, demo_bundle: Callable[[str], Path]
) -> None:
    exported = export(row, tmp_path, demo_bundle)
    if row.folder:
        assert (exported.linear, exported.attentions) == OF_DEMOS[row.family]
    there = {"fp32", *row.lowered}
    for recipe in (recipe for recipe in RECIPES if SOURCES[recipe.precision] in there):
        with graph_file(exported.bundle, recipe) as graph:
            network = read_network(trt, graph)
            require_products(layers_of(network), graph)
            if row.family in PLAIN and row.merge is None:
                require_types(layers_of(network), exported, recipe)
            if recipe.precision in row.built and not recipe.change:
                given = exported.bundle.graph(SOURCES[recipe.precision]).inputs[0]
                build_plan(
                    trt,
                    graph,
                    given,
                    EngineOptions(recipe.precision),
                    tf32=recipe.precision == "tf32",
                    compute_capabilities=[(8, 9)],
                    progress=silent,
                )


KINDS = {"MatMul": "MATRIX_MULTIPLY", "Gemm": "MATRIX_MULTIPLY", "Conv": "CONVOLUTION", "Attention": "ATTENTION_INPUT"}


def require_products(layers: list[Layer], graph: Path) -> None:
    """Hold the products of a network against those of the graph, by the types of their operands."""
    model = onnx.load(graph, load_external_data=False)
    words = {name: word for word, name in ONNX_TYPES.items()}
    kinds = {node.name: KINDS[node.op_type] for node in model.graph.node if node.op_type in KINDS}
    expected: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for name, types in matrix_types(model).items():
        operands = tuple(words[one] for one in types)
        # A convolution has its weights as constants, and takes one operand then.
        expected[kinds[name], operands[:1] if kinds[name] == "CONVOLUTION" else operands] += 1
    # What is added to the scores of an attention, where tokens were merged, is its fourth.
    found = Counter((layer.kind, layer.operands[:3]) for layer in layers if layer.kind in KINDS.values())
    assert found == expected


def require_types(layers: list[Layer], exported: Exported, recipe: Recipe) -> None:
    """Hold a network against what the recipe says of it."""
    operands: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for layer in layers:
        operands[layer.kind][layer.operands] += 1
    row = PRECISIONS[recipe.precision]
    rest = row.multiplies if not row.is_8_bit else "fp32" if recipe.change == "rest32" else "fp16"
    attentions = 0 if recipe.change in ("written-out", "unfused") else exported.attentions
    # The classifier is never in 8 bits; written out, each attention is two products more.
    left_out = 1 + (exported.projections if recipe.change == "projection16" else 0)
    if row.is_8_bit:  # and what its graph keeps, because it loses most
        left_out += sum(name.endswith("MatMul") for name in exported.bundle.graph(SOURCES[recipe.precision]).kept)
    in_8_bits = exported.linear - left_out if row.is_8_bit else 0
    products: Counter[tuple[str, ...]] = Counter()
    products[row.multiplies, row.multiplies] += in_8_bits
    products[rest, rest] += exported.linear - in_8_bits + 2 * (exported.attentions - attentions)
    assert operands["MATRIX_MULTIPLY"] == products, recipe.name
    assert set(operands["CONVOLUTION"]) == {(rest,)}, recipe.name
    attending = "fp32" if recipe.change == "attention32" else rest
    assert operands["ATTENTION_INPUT"] == Counter({(attending,) * 3: attentions}), recipe.name
    assert set(operands["NORMALIZATION"]) == {("fp32",) * 3}, recipe.name
    # In float32 always, and where nothing may be fused there is none.
    softmaxes = exported.attentions if recipe.change == "written-out" else 0
    assert operands["SOFTMAX"] == Counter({("fp32",): softmaxes}), recipe.name


# Operators whose other inputs a graph of ours always has: (attributes, constants beside the first input).
INT = np.int64
BESIDE: dict[str, tuple[dict[str, Any], tuple[np.ndarray[Any, Any], ...]]] = {
    "Pad": ({}, (np.array([0, 0, 0, 1, 0, 0, 0, 0], INT),)),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceSum"), ({"keepdims": 1}, (np.array([-1]),))),
    "Reshape": ({}, (np.array([0, -1], INT),)),
    "Transpose": ({"perm": [0, 1, 3, 2]}, ()),
    "Squeeze": ({}, (np.array([1], INT),)),
    "Unsqueeze": ({}, (np.array([0], INT),)),
    "Slice": ({}, (np.array([0], INT), np.array([1], INT), np.array([2], INT))),
    "Gather": ({"axis": 2}, (np.array(0, INT),)),
    "Expand": ({}, (np.array([1, 1, 8, 16], INT),)),
    "Concat": ({"axis": 2}, ()),
    "Cast": ({"to": TensorProto.FLOAT}, ()),
    "ArgMax": ({"axis": 2, "keepdims": 0}, ()),
    "TopK": ({"axis": 2, "largest": 1, "sorted": 1}, (np.array([4], INT),)),
    "GatherElements": ({"axis": 2}, (np.zeros((1, 1, 4, 16), INT),)),
}
PAIRS = (
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Max",
    "Min",
    "Equal",
    "MatMul",
    "Gemm",
    "Conv",
    "LayerNormalization",
    "Clip",
)


def one_node(operator: str, kind: int) -> ModelProto:
    """x (B, 1, 8, 16) of that type through one operator, and out again as float32, as graphs of ours end."""
    shape: list[str | int | None] = ["B", 1, 8, 16]
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    attributes, beside = BESIDE.get(operator, ({}, ()))
    if operator in PAIRS:
        size = {"MatMul": (16, 16), "Gemm": (16, 16), "Conv": (4, 1, 8, 8), "LayerNormalization": (16,), "Clip": ()}
        beside = (np.ones(size.get(operator, (8, 16)), dtype),)
    if operator == "Gemm":
        shape = ["B", 16]
    nodes = []
    x = "x"
    if operator == "DequantizeLinear":
        shape, beside = ["B", 1, 8, 16], (np.array(0.5, np.float32), np.array(0, dtype))
        nodes.append(helper.make_node("QuantizeLinear", ["x", "i0", "i1"], ["q"], "quantize"))
        x = "q"
    if operator == "QuantizeLinear":
        beside = (np.array(0.5, dtype), np.array(0, np.int8))
    given = [x] * {"Attention": 3, "Concat": 2}.get(operator, 1)
    inputs = [*given, *(f"i{index}" for index in range(len(beside)))]
    outputs = ["y", "numbers"] if operator == "TopK" else ["y"]
    nodes.append(helper.make_node(operator, inputs, outputs, operator, **attributes))
    last = "y"
    if operator == "QuantizeLinear":
        nodes.append(helper.make_node("DequantizeLinear", ["y", "i0", "i1"], ["d"], "dequantize"))
        last = "d"
    nodes.append(helper.make_node("Cast", [last], ["out"], "out", to=TensorProto.FLOAT))
    taken = TensorProto.FLOAT if operator == "DequantizeLinear" else kind
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", taken, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), f"i{index}") for index, value in enumerate(beside)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)


@pytest.mark.parametrize("operator", DOCUMENTED)
def test_what_is_taken_for_documented_is_read(operator: str) -> None:
    refused = []
    for kind in sorted(DOCUMENTED[operator]):
        with written(one_node(operator, kind)) as path:
            try:
                read_network(trt, path)
            except BackendError as error:
                refused.append(f"{TensorProto.DataType.Name(kind)}: {error.message}")
    assert refused == []


# With operators of their own; the others are made of those that every graph has.
_OPERATORS = ("hardswish", "leaky_relu", "mish")


@pytest.mark.parametrize(
    "activation", [pytest.param(name, marks=[] if name in _OPERATORS else [pytest.mark.slow]) for name in ACTIVATIONS]
)
def test_every_activation_is_read_in_every_type(activation: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "videomae", hidden_act=activation, num_hidden_layers=1)
    checkpoint = load_checkpoint(str(folder), report=lambda _: None)
    exported = tmp_path / "model.onnx"
    ir.save(trace(exported_model(checkpoint.model), clip_spec(checkpoint, "frames")), exported)
    graphs = [exported]
    for low in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        graphs.append(tmp_path / f"model.{low}.onnx")
        ir.save(to_lower(exported, frozenset(), low), graphs[-1])
    for graph in graphs:
        model = load_standard_graph(graph)
        require_documented(model)
        with written(model) as path:
            read_network(trt, path)


@pytest.mark.parametrize("opset", [17, *(pytest.param(opset, marks=pytest.mark.slow) for opset in (20, 22))])
def test_graphs_of_older_opsets_are_read(opset: int, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "vivit")
    checkpoint = load_checkpoint(str(folder), report=lambda _: None)
    bundle, _ = export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(opset=opset, precisions=("fp16",)))
    for precision in ("fp32", "fp16", "bf16"):
        for recipe in recipes_for(precision, attention=True, compute_capability=(8, 9), opset=opset):
            with graph_file(bundle, recipe) as path:
                read_network(trt, path)


def test_what_is_not_read_comes_with_the_names_of_nodes(lowered_bundles: dict[str, Path]) -> None:
    # Dynamic int8 is for ONNX Runtime alone; our own list refuses it before the parser does.
    bundle = Bundle.open(lowered_bundles["vivit"])
    model = load_standard_graph(bundle.path / bundle.graph("int8").files[0].name)
    with pytest.raises(BackendError, match="which is not among the operators it documents"):
        require_documented(model)
    with written(model) as path, pytest.raises(BackendError) as caught:
        read_network(trt, path)
    assert caught.value.message.startswith("TensorRT's parser does not read the graph:\n  ")
    assert "\n  vivit.encoder.layer.1.output.dense.MatMul.sums (MatMulInteger): " in caught.value.message
    assert caught.value.fix is not None
    assert trt.__version__ in caught.value.fix
