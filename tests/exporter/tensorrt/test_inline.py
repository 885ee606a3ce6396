"""The graphs that TensorRT is given: standard operators only, of types that its parser documents, and the same function
as the bundle's."""

import dataclasses
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from checkpoints import write_checkpoint
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tensorrt_double import _session

from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.exporter.graph.tasks import exported_model
from tubelet.exporter.graph.trace import trace
from tubelet.exporter.plan import clip_spec
from tubelet.exporter.tensorrt.inline import (
    element_types,
    load_standard_graph,
    matrix_types,
    require_documented,
    require_types,
    undocumented_nodes,
)
from tubelet.exporter.tensorrt.recipes import Recipe, make_graph, recipes_for
from tubelet.preprocess.errors import BackendError, BundleError
from tubelet.runtime.backends import open_backend
from tubelet.runtime.bundle.bundle import Bundle

BATCH: dict[str, Callable[[], NDArray[Any]]] = {
    "pixel_values": lambda: np.random.default_rng(0).normal(size=(3, 4, 3, 32, 32)).astype(np.float32),
    "frames": lambda: np.random.default_rng(0).integers(0, 256, (3, 4, 32, 32, 3), dtype=np.uint8),
}


def run(graph: ModelProto, batch: np.ndarray) -> np.ndarray:
    (logits,) = _session(graph.SerializeToString()).run(None, {graph.graph.input[0].name: batch})
    return logits


@pytest.fixture(params=["vivit", "videomae"])
def bundle(request: pytest.FixtureRequest, lowered_bundles: dict[str, Path]) -> Bundle:
    return Bundle.open(lowered_bundles[request.param])


def test_the_standard_graph_computes_what_the_bundle_computes(bundle: Bundle) -> None:
    path = bundle.path / bundle.graph("fp32").files[0].name
    graph = load_standard_graph(path)
    assert {opset.domain for opset in graph.opset_import} == {""}
    assert not graph.functions
    onnx.checker.check_model(graph, full_check=True)
    attention = [node for node in graph.graph.node if node.op_type == "Attention"]
    assert len(attention) == 2
    assert all("attention" in node.name for node in attention)
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in inferred.value_info}
    assert {ranks[name] for node in attention for name in node.input} == {4}

    batch = BATCH[graph.graph.input[0].name]()
    with open_backend("onnxruntime", bundle, "fp32") as backend:
        expected = backend.infer(batch)
    np.testing.assert_allclose(run(graph, batch), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("recipe", "tolerance"),
    [
        (Recipe("fp32", "written-out"), 2e-6),
        (Recipe("fp32", "unfused"), 2e-6),
        (Recipe("fp16"), 0.02),
        (Recipe("fp16", "attention32"), 0.02),
        (Recipe("fp16", "written-out"), 0.02),
        (Recipe("fp16", "unfused"), 0.02),
        (Recipe("bf16"), 0.1),
        (Recipe("bf16", "attention32"), 0.1),
        (Recipe("bf16", "written-out"), 0.1),
        (Recipe("bf16", "unfused"), 0.1),
        (Recipe("int8-static"), 0.3),
        (Recipe("int8-static", "projection16"), 0.3),
        (Recipe("int8-static", "written-out"), 0.3),
        (Recipe("int8-static", "unfused"), 0.3),
        (Recipe("int8-static", "rest32"), 0.3),
        (Recipe("fp8"), 0.3),
        (Recipe("fp8", "projection16"), 0.3),
        (Recipe("fp8", "written-out"), 0.3),
        (Recipe("fp8", "unfused"), 0.3),
    ],
    ids=lambda value: value.name if isinstance(value, Recipe) else "",
)
def test_every_recipe_computes_the_same_with_documented_operators(
    bundle: Bundle, recipe: Recipe, tolerance: float, tmp_path: Path
) -> None:
    graph = make_graph(bundle, recipe, tmp_path)
    require_documented(graph)
    onnx.checker.check_model(graph, full_check=True)
    batch = BATCH[graph.graph.input[0].name]()
    with open_backend("onnxruntime", bundle, "fp32") as backend:
        expected = backend.infer(batch)
    np.testing.assert_allclose(run(graph, batch), expected, atol=tolerance)
    operators = {node.op_type for node in graph.graph.node}
    assert ("Attention" in operators) == (recipe.change not in ("written-out", "unfused"))


@pytest.mark.parametrize(
    "activation",
    [
        "mish",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("hardswish", "leaky_relu", "quick_gelu", "relu6")),
    ],
)
def test_other_activations_are_documented_too(activation: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "videomae", hidden_act=activation, num_hidden_layers=1)
    checkpoint = load_checkpoint(str(folder), report=lambda _: None)
    ir.save(trace(exported_model(checkpoint.model), clip_spec(checkpoint, "frames")), tmp_path / "model.onnx")
    require_documented(load_standard_graph(tmp_path / "model.onnx"))


def test_weights_beside_the_graph_are_read_and_no_others(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.path / bundle.graph("fp32").files[0].name
    for location, folder in (("m.onnx.data", tmp_path / "one"), ("below/m.onnx.data", tmp_path / "other")):
        (folder / location).parent.mkdir(parents=True)
        onnx.save(onnx.load(path), folder / "m.onnx", save_as_external_data=True, location=location, size_threshold=0)
    assert load_standard_graph(tmp_path / "one" / "m.onnx") == load_standard_graph(path)
    with pytest.raises(BundleError, match=r"m\.onnx has weights at 'below/m\.onnx\.data', which is no file beside it"):
        load_standard_graph(tmp_path / "other" / "m.onnx")
    (tmp_path / "one" / "m.onnx.data").unlink()
    with pytest.raises(BundleError, match=r"the weights of .*m\.onnx cannot be read"):
        load_standard_graph(tmp_path / "one" / "m.onnx")


def test_what_multiplies_in_which_type(bundle: Bundle, tmp_path: Path) -> None:
    half = make_graph(bundle, Recipe("fp16"), tmp_path)
    assert set(matrix_types(half).values()) == {("FLOAT16",) * 2, ("FLOAT16",) * 3}
    raised = matrix_types(make_graph(bundle, Recipe("fp16", "attention32"), tmp_path))
    wide = {name for name, types in raised.items() if set(types) == {"FLOAT"}}
    assert len(wide) == 2
    assert all(name.endswith("MultiHeadAttention") for name in wide)


@pytest.mark.parametrize(("precision", "narrow"), [("int8-static", "INT8"), ("fp8", "FLOAT8E4M3FN")])
def test_in_8_bits_linear_layers_and_nothing_else_multiply_8_bits(
    bundle: Bundle, precision: str, narrow: str, tmp_path: Path
) -> None:
    graph = make_graph(bundle, Recipe(precision), tmp_path)
    found = Counter(matrix_types(graph).values())
    # Linear layers; the embedding and the classifier; attention
    assert found == {(narrow,) * 2: 12, ("FLOAT16",) * 2: 2, ("FLOAT16",) * 3: 2}
    # An operand in 8 bits has nothing but its scale, in float16, between it and the product.
    makers = {name: node for node in graph.graph.node for name in node.output}
    types = element_types(graph)
    for node in graph.graph.node:
        if node.op_type == "MatMul":
            assert {makers[name].op_type for name in node.input} == {"DequantizeLinear"}
            assert {types[makers[name].input[1]] for name in node.input} == {TensorProto.FLOAT16}
    # The residual stream and the norms stay where the fp16 graph has them.
    half = make_graph(bundle, Recipe("fp16"), tmp_path)
    for operator in ("LayerNormalization", "Gelu", "Add", "Softmax"):
        inputs = [
            Counter(types[node.input[0]] for node in model.graph.node if node.op_type == operator)
            for model, types in ((graph, types), (half, element_types(half)))
        ]
        assert inputs[0] == inputs[1], operator


@pytest.mark.parametrize("precision", ["int8-static", "fp8"])
def test_projections_can_be_taken_back_alone(bundle: Bundle, precision: str, tmp_path: Path) -> None:
    before = matrix_types(make_graph(bundle, Recipe(precision), tmp_path))
    graph = make_graph(bundle, Recipe(precision, "projection16"), tmp_path)
    after = matrix_types(graph)
    changed = {name for name in before if before[name] != after[name]}
    assert len(changed) == 2
    assert all("attention.output.dense" in name for name in changed)
    assert {after[name] for name in changed} == {("FLOAT16",) * 2}
    read = {name for node in graph.graph.node for name in node.input} | {"logits"}
    assert {name for node in graph.graph.node for name in node.output} <= read
    assert {tensor.name for tensor in graph.graph.initializer} <= read


def test_the_rest_can_stay_in_float32(bundle: Bundle, tmp_path: Path) -> None:
    found = Counter(matrix_types(make_graph(bundle, Recipe("int8-static", "rest32"), tmp_path)).values())
    assert found == {("INT8",) * 2: 12, ("FLOAT",) * 2: 2, ("FLOAT",) * 3: 2}


def test_what_float16_cannot_hold_stays_in_float32_beside_int8(bundle: Bundle, tmp_path: Path) -> None:
    # As the fp16 graph of the bundle says: here one of the layers that share what they take in, and an attention.
    nodes = onnx.load(bundle.path / "model.onnx").graph.node
    linear = [node for node in nodes if node.op_type == "MatMul"]
    sharing = [node.name for node in linear if node.input[0] == linear[0].input[0]]
    assert len(sharing) == 3
    attention = next(node.name for node in nodes if node.op_type == "MultiHeadAttention")
    half = dataclasses.replace(bundle.graph("fp16"), kept=(sharing[1], attention))
    others = tuple(graph for graph in bundle.graphs if graph.precision != "fp16")
    graph = make_graph(dataclasses.replace(bundle, graphs=(*others, half)), Recipe("int8-static"), tmp_path)
    onnx.checker.check_model(graph, full_check=True)
    found = matrix_types(graph)
    assert found[attention] == ("FLOAT",) * 3
    types, makers = element_types(graph), {name: node for node in graph.graph.node for name in node.output}
    wide = set()
    for node in graph.graph.node:
        if node.op_type == "MatMul":
            assert found[node.name] == ("INT8", "INT8")
            (scale,) = {types[makers[name].input[1]] for name in node.input}
            wide |= {node.name} if scale == TensorProto.FLOAT else set()
    assert wide == set(sharing)
    batch = BATCH[graph.graph.input[0].name]()
    with open_backend("onnxruntime", bundle, "fp32") as backend:
        np.testing.assert_allclose(run(graph, batch), backend.infer(batch), atol=0.3)


def test_an_fp32_graph_is_never_taken_for_another(bundle: Bundle) -> None:
    graph = load_standard_graph(bundle.path / bundle.graph("fp32").files[0].name)
    with pytest.raises(
        BackendError, match=r"matrix products of the graph must be FLOAT16, they are \d+ of FLOAT x FLOAT"
    ):
        require_types(graph, "FLOAT16", kept=())
    some = list(matrix_types(graph))[1:]
    with pytest.raises(BackendError, match="must be FLOAT16"):
        require_types(graph, "FLOAT16", kept=some)
    with pytest.raises(BackendError, match="absent"):
        require_types(ModelProto(), "FLOAT16", kept=())


def test_an_8_bit_graph_with_another_rest_is_not_taken_either(bundle: Bundle, tmp_path: Path) -> None:
    wide = make_graph(bundle, Recipe("int8-static", "rest32"), tmp_path)
    with pytest.raises(BackendError, match=r"INT8 in linear layers and FLOAT16 elsewhere, they are 2 of FLOAT x"):
        require_types(wide, "INT8", kept=(), rest="FLOAT16")
    half = make_graph(bundle, Recipe("fp16"), tmp_path)
    with pytest.raises(BackendError, match="must be INT8 in linear layers"):
        require_types(half, "INT8", kept=list(matrix_types(half)), rest="FLOAT16")


def test_dynamic_int8_is_refused_node_by_node(lowered_bundles: dict[str, Path]) -> None:
    bundle = Bundle.open(lowered_bundles["vivit"])
    graph = load_standard_graph(bundle.path / bundle.graph("int8").files[0].name)
    with pytest.raises(BackendError, match="is a DynamicQuantizeLinear, which is not among the operators") as caught:
        require_documented(graph)
    assert "is a MatMulInteger" in str(caught.value)


def _graph(*nodes: onnx.NodeProto, type_: int = TensorProto.FLOAT, **constants: np.ndarray) -> ModelProto:
    given = helper.make_tensor_value_info("x", type_, ["batch", 4])
    returned = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    return helper.make_model(helper.make_graph(list(nodes), "g", [given], [returned], initializers))


ONE = np.array(1, np.float32)


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (
            _graph(helper.make_node("Transpose", ["x"], ["y"], "turn", perm=[1, 0]), type_=TensorProto.UINT8),
            "turn is a Transpose of UINT8",
        ),
        (
            _graph(helper.make_node("MatMul", ["x", "x"], ["y"], "m"), type_=TensorProto.DOUBLE),
            "m is a MatMul of DOUBLE",
        ),
        (_graph(helper.make_node("Swish", ["x"], ["y"], "s")), "s is a Swish, which is not among the operators"),
        (
            _graph(helper.make_node("Thing", ["x"], ["y"], "t", domain="com.microsoft")),
            "t is a com.microsoft::Thing, which",
        ),
        (
            _graph(
                helper.make_node("ReduceMean", ["x", "axes"], ["y"], "r"), helper.make_node("Shape", ["x"], ["axes"])
            ),
            "r reduces over axes that are not constant",
        ),
        (
            _graph(helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], "q"), s=ONE, z=np.array(3, np.int8)),
            "q has a zero point that is not 0",
        ),
        (_graph(helper.make_node("QuantizeLinear", ["x", "s"], ["y"], "q"), s=ONE), "q has a zero point"),
        (
            _graph(
                helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
                helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "d"),
                s=ONE,
                z=np.array(1, ml_dtypes.float8_e4m3fn),
            ),
            "d has a zero point that is not 0",
        ),
        (
            _graph(
                helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
                helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "d"),
                s=ONE,
                z=np.array(0, ml_dtypes.float8_e5m2),
            ),
            "d is a DequantizeLinear of FLOAT8E5M2",
        ),
        (
            _graph(helper.make_node("LayerNormalization", ["x", "s"], ["y", "mean"], "n"), s=np.ones(4, np.float32)),
            "n uses more than the first output",
        ),
    ],
)
def test_what_the_parser_does_not_document(graph: ModelProto, reason: str) -> None:
    assert any(found.startswith(reason) for found in undocumented_nodes(graph))


def test_fallbacks_come_in_order_and_an_old_parser_or_graph_gets_no_attention() -> None:
    def names(precision: str, *, attention: bool = True, gpu: tuple[int, int] = (9, 0), opset: int = 23) -> list[str]:
        found = recipes_for(precision, attention=attention, compute_capability=gpu, opset=opset)
        return [recipe.name for recipe in found]

    assert names("fp16") == ["fp16", "bf16", "fp16-attention32", "fp16-unfused", "fp32"]
    without = ["fp16-written-out", "bf16-written-out", "fp16-unfused", "fp32-written-out"]
    assert names("fp16", attention=False) == names("fp16", opset=22) == without
    assert names("fp16", gpu=(7, 5)) == ["fp16", "fp16-attention32", "fp16-unfused", "fp32"]
    assert names("fp8") == ["fp8", "fp8-projection16", "fp8-unfused", "bf16", "fp32"]
    assert names("int8-static") == [
        "int8-static",
        "int8-static-projection16",
        "int8-static-unfused",
        "int8-static-rest32",
        "bf16",
        "fp32",
    ]


def test_building_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import tubelet.exporter.tensorrt.build"
    subprocess.run([sys.executable, "-c", code], check=True)
