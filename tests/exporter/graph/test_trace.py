from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.reference
import onnxruntime
import pytest
import torch
from checkpoints import build, seeded_weights, tiny_config
from numpy.typing import NDArray
from specs import VIDEOMAE_SPEC

from tubelet.exporter.families.model import Model
from tubelet.exporter.graph import write as graph_file
from tubelet.exporter.graph.tasks import exported_model
from tubelet.exporter.graph.trace import save_graph, trace
from tubelet.preprocess.prepare import normalise
from tubelet.preprocess.spec import ShortestEdge

SPEC = replace(VIDEOMAE_SPEC, num_frames=4, resize=ShortestEdge(32), crop=(32, 32))
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 4, 32, 32, 3), dtype=np.uint8)  # (B, T, H, W, C)

# Everything but the attention node is of the standard domain, and nothing computes shapes.
EXPECTED_OPERATORS = {
    "vivit": {"Transpose": 2, "Conv": 1, "Reshape": 1, "Pad": 1, "LayerNormalization": 5, "MatMul": 12,
              "Add": 17, "Slice": 2, "MultiHeadAttention": 2, "Gelu": 2, "Gather": 1, "Gemm": 1},
    "videomae": {"Transpose": 2, "Conv": 1, "Reshape": 1, "LayerNormalization": 5, "MatMul": 12, "Add": 15,
                 "MultiHeadAttention": 2, "Gelu": 2, "ReduceMean": 1, "Gemm": 1},
}  # fmt: skip


def seeded_model(family: str) -> Model:
    config = tiny_config(family)
    model = build(config)
    model.load_state_dict(seeded_weights(config))
    return model.eval()


@pytest.fixture(scope="module", params=["vivit", "videomae"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(family: str) -> Model:
    return seeded_model(family)


@pytest.fixture(scope="module")
def graph(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    save_graph(trace(exported_model(model), SPEC), path)
    return path


def ask_torch(model: Model, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return model(torch.from_numpy(normalise(pixels, SPEC))).numpy()


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_onnx_runtime_agrees_with_torch_at_every_batch(model: Model, graph: Path, batch: int) -> None:
    session = onnxruntime.InferenceSession(graph)
    logits: Any
    (logits,) = session.run(["logits"], {"pixel_values": normalise(PIXELS[:batch], SPEC)})
    np.testing.assert_allclose(logits, ask_torch(model, PIXELS[:batch]), atol=1e-5)


def test_the_graph_holds_these_operators_and_no_others(family: str, graph: Path) -> None:
    loaded = onnx.load(graph)
    assert Counter(node.op_type for node in loaded.graph.node) == EXPECTED_OPERATORS[family]
    contrib = {node.op_type for node in loaded.graph.node if node.domain}
    assert contrib == {"MultiHeadAttention"}
    assert {opset.domain: opset.version for opset in loaded.opset_import} == {"": 23, "com.microsoft": 1}


def test_onnx_runtime_takes_its_fused_attention_and_not_the_function_body(graph: Path, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(graph, options)
    optimised = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert optimised["MultiHeadAttention"] == 2
    assert "Attention" not in optimised
    assert "Softmax" not in optimised


def test_inlined_the_graph_is_standard_and_computes_the_same(model: Model, graph: Path) -> None:
    inlined = onnx.inliner.inline_local_functions(onnx.load(graph))
    onnx.checker.check_model(inlined, full_check=True)
    assert {node.domain for node in inlined.graph.node} == {""}
    assert sum(node.op_type == "Attention" for node in inlined.graph.node) == 2
    expected = ask_torch(model, PIXELS[:2])
    feeds = {"pixel_values": normalise(PIXELS[:2], SPEC)}
    (logits,) = onnxruntime.InferenceSession(inlined.SerializeToString()).run(None, feeds)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    # onnx's own reference implementation, which shares no code with ONNX Runtime
    found: Any
    (found,) = onnx.reference.ReferenceEvaluator(inlined).run(None, feeds)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_nodes_and_weights_carry_the_names_of_the_checkpoint(family: str, graph: Path) -> None:
    loaded = onnx.load(graph)
    names = [node.name for node in loaded.graph.node]
    assert len(set(names)) == len(names)
    assert f"{family}.encoder.layer.1.attention.MultiHeadAttention" in names
    weights = {tensor.name for tensor in loaded.graph.initializer}
    assert f"{family}.encoder.layer.0.intermediate.dense.weight.transposed" in weights
    assert "classifier.weight" in weights
    assert not any(node.metadata_props or node.doc_string for node in loaded.graph.node)


def test_frames_are_normalised_inside(family: str, model: Model, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    described = save_graph(trace(exported_model(model), replace(SPEC, layout="THWC")), path)
    assert described.inputs[0].describe() == "frames uint8 (batch, 4, 32, 32, 3)"
    nodes = onnx.load(path).graph.node
    first = next(node for node in nodes if "frames" in node.input)
    assert first.op_type == "Cast"
    assert Counter(node.op_type for node in nodes)["Transpose"] == 2
    assert f"{family}.encoder.layer.1.attention.MultiHeadAttention" in [node.name for node in nodes]
    for batch in (1, 3):
        (logits,) = onnxruntime.InferenceSession(path).run(None, {"frames": PIXELS[:batch]})
        np.testing.assert_allclose(logits, ask_torch(model, PIXELS[:batch]), atol=2e-5)


def test_the_model_is_as_it_was_after_tracing(model: Model, graph: Path) -> None:  # noqa: ARG001
    from tubelet.exporter.families.attention import Attention, sdpa_attention

    attends = [module.attend for module in model.modules() if isinstance(module, Attention)]
    assert attends == [sdpa_attention] * 2


def test_large_weights_lie_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_file, "EXTERNAL_DATA_BYTES", 1000)
    model = seeded_model("videomae")
    described = save_graph(trace(exported_model(model), SPEC), tmp_path / "model.onnx")
    assert [file.name for file in described.files] == ["model.onnx", "model.onnx.data"]
    assert described.files[0].bytes < described.files[1].bytes
    (logits,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(
        None, {"pixel_values": normalise(PIXELS[:2], SPEC)}
    )
    np.testing.assert_allclose(logits, ask_torch(model, PIXELS[:2]), atol=1e-5)


@pytest.mark.slow
def test_opset_24(tmp_path: Path) -> None:
    model = seeded_model("vivit")
    described = save_graph(trace(exported_model(model), SPEC, opset=24), tmp_path / "model.onnx")
    assert described.opset == 24
    (logits,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(
        None, {"pixel_values": normalise(PIXELS[:2], SPEC)}
    )
    np.testing.assert_allclose(logits, ask_torch(model, PIXELS[:2]), atol=1e-5)
