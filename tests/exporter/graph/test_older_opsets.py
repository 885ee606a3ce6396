"""Graphs of opset 17 to 22: standard operators of that opset and nothing else, proven like the others."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
from checkpoints import write_checkpoint
from gpu import plug_in
from onnx import helper
from tensorrt_double import VERSIONS, _session

from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.exporter.export import export_bundle
from tubelet.exporter.graph.record import torch_run
from tubelet.exporter.graph.tasks import exported_model
from tubelet.exporter.graph.trace import save_graph, trace
from tubelet.exporter.lower.search import add_graph
from tubelet.exporter.options import ExportOptions
from tubelet.exporter.plan import clip_spec
from tubelet.exporter.tensorrt.build import build_engine
from tubelet.exporter.tensorrt.inline import require_documented
from tubelet.exporter.tensorrt.recipes import make_graph, recipes_for
from tubelet.preprocess.errors import BundleError, OutOfBounds
from tubelet.runtime.backends import open_backend
from tubelet.runtime.bundle.bundle import Bundle, Task
from tubelet.runtime.bundle.engines import EngineOptions, Profile
from tubelet.runtime.load import load

# Opset -> the version of the file format that came with it, which readers of that opset know.
IR_VERSIONS = {opset: helper.OP_SET_ID_VERSION_MAP["ai.onnx", opset] for opset in range(17, 23)}


def export(folder: Path, family: str, opset: int, *, task: Task = "video-classification", **options: Any) -> Bundle:
    changes = {"use_mean_pooling": False} if task == "masked-modeling" else options.pop("changes", {})
    written = write_checkpoint(folder / "checkpoint", family, task=task, **changes)
    checkpoint = load_checkpoint(str(written), report=lambda _: None)
    bundle, report = export_bundle(checkpoint, folder / "bundle", ExportOptions(opset=opset, **options))
    assert report.passed
    assert {row.batch for row in report.batches} == {1, 2, 3, 8}
    return bundle


@pytest.fixture(scope="module", params=["vivit", "videomae"])
def old_bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of opset 17, with every precision that such a graph can have. Not to be changed."""
    name = "pixel_values" if request.param == "vivit" else "frames"
    precisions = ("fp16", "int8", "int8-static")
    return export(tmp_path_factory.mktemp("old"), request.param, 17, input_name=name, precisions=precisions)


def require_standard(path: Path, opset: int) -> Counter[str]:
    """Holds the graph to `opset` and its file format, and counts its operators."""
    model = onnx.load(path)
    assert {found.domain: found.version for found in model.opset_import} == {"": opset}
    assert model.ir_version == IR_VERSIONS[opset]
    assert not model.functions
    onnx.checker.check_model(model, full_check=True)
    for node in model.graph.node:
        assert onnx.defs.get_schema(node.op_type, max_inclusive_version=opset).since_version <= opset
    return Counter(node.op_type for node in model.graph.node)


def test_opset_17_holds_no_newer_operator_in_any_precision(old_bundle: Bundle) -> None:
    assert [graph.precision for graph in old_bundle.graphs] == ["fp32", "fp16", "int8", "int8-static"]
    for graph in old_bundle.graphs:
        assert graph.opset == 17
        found = require_standard(old_bundle.path / graph.files[0].name, 17)
        assert found["Softmax"] == 2
        assert not {"Attention", "MultiHeadAttention", "Gelu", "Shape"} & set(found)
    lowered = require_standard(old_bundle.path / "model.int8.onnx", 17)
    assert lowered["MatMulInteger"] == 12


def test_a_reader_that_is_not_onnx_runtime_computes_the_same(old_bundle: Bundle) -> None:
    with load(old_bundle.path) as model:
        batch = model.prepare(model.read(np.zeros((40, 40, 40, 3), np.uint8) + np.arange(3, dtype=np.uint8) * 80))
        expected = model.logits(batch)
    evaluator = onnx.reference.ReferenceEvaluator(onnx.load(old_bundle.path / "model.onnx"))
    found: Any
    (found,) = evaluator.run(None, {model.spec.input_name: batch})
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_onnx_runtime_fuses_what_is_written_out(old_bundle: Bundle, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(old_bundle.path / "model.onnx", options)
    found = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert found["FusedMatMul"] == 2  # with the scale
    assert found["FastGelu"] + found["BiasGelu"] == 2
    assert not {"Erf", "Tanh"} & set(found)


@pytest.mark.parametrize("opset", [18, *(pytest.param(opset, marks=pytest.mark.slow) for opset in (19, 20, 22))])
def test_every_opset_between(opset: int, tmp_path: Path) -> None:
    found = require_standard(export(tmp_path, "videomae", opset).path / "model.onnx", opset)
    assert ("Gelu" in found, "Erf" in found) == (opset >= 20, opset < 20)


@pytest.mark.parametrize(
    ("family", "task", "opset", "input_name"),
    [
        ("vivit", "feature-extraction", 17, "frames"),
        pytest.param("videomae", "masked-modeling", 17, "pixel_values", marks=pytest.mark.slow),
    ],
)
def test_every_task_and_output(family: str, task: Task, opset: int, input_name: str, tmp_path: Path) -> None:
    extras = ("hidden_states", "attentions")
    bundle = export(tmp_path, family, opset, task=task, input_name=input_name, extras=extras)
    require_standard(bundle.path / "model.onnx", opset)


@pytest.mark.parametrize(
    "activation", ["gelu_new", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gelu_10", "mish", "relu2"))]
)
def test_activations_of_opset_17(activation: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"hidden_act": activation, "num_hidden_layers": 1}
    checkpoint = load_checkpoint(str(write_checkpoint(tmp_path / "m", "videomae", **changes)), report=lambda _: None)
    asked, spec = exported_model(checkpoint.model), clip_spec(checkpoint, "pixel_values")
    save_graph(trace(asked, spec, opset=17), tmp_path / "model.onnx")
    require_standard(tmp_path / "model.onnx", 17)
    batch = {"pixel_values": np.random.default_rng(0).normal(size=(2, 4, 3, 32, 32)).astype(np.float32)}
    (found,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, batch)
    np.testing.assert_allclose(found, torch_run(asked, spec)(batch)["logits"], atol=1e-5)


def test_fp8_needs_opset_21(old_bundle: Bundle, tmp_path: Path) -> None:
    message = r"an fp8 graph must be of opset 21 or newer, .*; got opset 17\n  fix: export with --opset 21 or more"
    with pytest.raises(BundleError, match=message):
        add_graph(old_bundle, "fp8")
    with pytest.raises(BundleError, match="got opset 20"):
        export(tmp_path / "refused", "videomae", 20, precisions=("fp8",))
    assert not (tmp_path / "refused" / "bundle").exists()
    lowered = export(tmp_path / "taken", "videomae", 21, precisions=("fp8",))
    require_standard(lowered.path / "model.fp8.onnx", 21)


@pytest.mark.parametrize("opset", [16, 25])
def test_other_opsets_are_refused(opset: int, tmp_path: Path) -> None:
    with pytest.raises(OutOfBounds, match=f"opset must be a whole number from 17 to 24 .*, got {opset}"):
        export(tmp_path, "vivit", opset)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8-static"])
def test_every_recipe_of_an_engine_computes_the_same_with_documented_operators(
    old_bundle: Bundle, precision: str, tmp_path: Path
) -> None:
    with load(old_bundle.path) as model:
        batch = model.prepare(model.read(np.random.default_rng(0).integers(0, 256, (40, 40, 40, 3), np.uint8)))
        expected = model.logits(batch)
    for recipe in recipes_for(precision, attention=True, compute_capability=(9, 0), opset=17):
        graph = make_graph(old_bundle, recipe, tmp_path)
        require_documented(graph)
        onnx.checker.check_model(graph, full_check=True)
        (found,) = _session(graph.SerializeToString()).run(None, {graph.graph.input[0].name: batch})
        np.testing.assert_allclose(found, expected, atol=2e-6 if recipe.precision == "fp32" else 0.3)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-static"])
def test_an_engine_of_an_older_opset_is_built(
    old_bundle: Bundle, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = plug_in(monkeypatch, VERSIONS[-1])
    bundle = Bundle.open(shutil.copytree(old_bundle.path, tmp_path / "bundle"))
    built = build_engine(bundle, EngineOptions(precision, (Profile(1, 2, 8),)))
    assert (built.failed, built.report.passed) == ((), True)
    assert built.record.recipe == f"{precision}-written-out"
    with open_backend("tensorrt", bundle, precision) as backend:
        assert backend is not None
    assert gpu.cuda.live() == {}
