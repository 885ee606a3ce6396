"""`tubelet build`, driven through the real code over doubles of TensorRT and CUDA."""

import json
import os
import re
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner, Result
from gpu import Gpu, plug_in
from keyboard import keyboard
from killed import litter, put_in_place
from onnx import ModelProto, TensorProto
from tensorrt_double import VERSIONS

from tubelet.cli.tree import main
from tubelet.exporter.tensorrt.build import build_engine
from tubelet.exporter.tensorrt.plan import BuildFailed, layer_types
from tubelet.preprocess.errors import BackendError, BundleError, MissingExtra, ParityError
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.engine_files import graph_sha256
from tubelet.runtime.bundle.engines import SOURCES, EngineOptions, Profile

LATEST = VERSIONS[-1]


@pytest.fixture(params=VERSIONS)
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return plug_in(monkeypatch, request.param)


@pytest.fixture
def latest(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return plug_in(monkeypatch, LATEST)


@pytest.fixture
def bundle(lowered_bundles: dict[str, Path], tmp_path: Path) -> Bundle:
    return _copy(lowered_bundles["vivit"], tmp_path)


def _copy(source: Path, folder: Path) -> Bundle:
    """A bundle that shares its files with `source` and can get engines of its own."""
    (folder / "bundle").mkdir()
    for file in source.iterdir():
        os.link(file, folder / "bundle" / file.name)
    return Bundle.open(folder / "bundle")


def tubelet(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tubelet")


def operands(graph: ModelProto) -> set[int]:
    """The types of what MatMul multiplies."""
    inferred = onnx.shape_inference.infer_shapes(graph, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    return {types[node.input[0]] for node in graph.graph.node if node.op_type == "MatMul"}


def has_attention(graph: ModelProto) -> bool:
    return any(node.op_type == "Attention" for node in graph.graph.node)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16", "int8-static", "fp8"])
def test_an_engine_is_built_proven_and_kept(gpu: Gpu, bundle: Bundle, precision: str) -> None:
    options = EngineOptions(precision, (Profile(1, 1, 1), Profile(2, 4, 8)), opt_level=4, workspace_gb=1.5)
    said: list[str] = []
    built = build_engine(bundle, options, progress=said.append)
    assert built.failed == ()
    assert built.report.passed
    assert [row.batch for row in built.report.batches] == [1, 2, 3, 8]
    version = ".".join(gpu.tensorrt.__version__.split(".")[:2])
    assert built.plan.name == f"sm90-trt{version}-{precision}-b1-1-1+2-4-8.plan"
    assert f"{precision}: Building Engine, step 2 of 3" in said
    assert gpu.cuda.live() == {}

    (config,) = gpu.behaviour.configs
    assert config.get_flag(gpu.tensorrt.BuilderFlag.TF32) == (precision == "tf32")
    assert config.builder_optimization_level == 4
    assert config.get_memory_pool_limit(gpu.tensorrt.MemoryPoolType.WORKSPACE) == 1_500_000_000

    record = json.loads(built.plan.with_suffix(".json").read_text())
    assert record["machine"]["gpu"] == "NVIDIA H200"
    assert record["machine"]["compute_capability"] == [9, 0]
    assert record["machine"]["tensorrt"] == gpu.tensorrt.__version__
    assert {"driver", "cuda", "multiprocessors", "memory_bytes"} <= set(record["machine"])
    assert record["parity"]["passed"] is True
    assert record["build_seconds"] > 0
    assert record["graph_sha256"] == graph_sha256(bundle.graph(SOURCES[precision]))
    assert (record["options"]["opt_level"], record["options"]["workspace_gb"]) == (4, 1.5)
    assert record["options"]["profiles"] == [{"min": 1, "opt": 1, "max": 1}, {"min": 2, "opt": 4, "max": 8}]
    narrow = {"tf32": "fp32", "int8-static": "int8"}.get(precision, precision)
    assert record["layers"][narrow] > 10
    if narrow in ("int8", "fp8"):  # the rest is where the fp16 graph has it
        assert record["layers"]["fp16"] > 10
    folder = built.plan.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {
        built.plan.name,
        built.plan.with_suffix(".json").name,
        f"sm90-trt{version}.timing",
    }
    assert stat.S_IMODE(built.plan.stat().st_mode) == 0o600


def test_uint8_frames_go_in_as_they_are(latest: Gpu, lowered_bundles: dict[str, Path], tmp_path: Path) -> None:
    bundle = _copy(lowered_bundles["videomae"], tmp_path)
    built = build_engine(bundle, EngineOptions("fp16"))
    assert built.report.passed
    (graph,) = latest.behaviour.graphs
    assert graph.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8


@pytest.mark.parametrize(
    ("wrong", "kept", "tried"),
    [
        (lambda graph: operands(graph) == {TensorProto.FLOAT16}, "bf16", ["fp16"]),
        (
            # Half precision is wrong in fused attention, whatever its inputs.
            lambda graph: has_attention(graph) and TensorProto.FLOAT not in operands(graph),
            "fp16-unfused",
            ["fp16", "bf16", "fp16-attention32"],
        ),
        (
            lambda graph: operands(graph) != {TensorProto.FLOAT},
            "fp32",
            ["fp16", "bf16", "fp16-attention32", "fp16-unfused"],
        ),
    ],
)
def test_what_is_outside_tolerance_is_not_kept_and_the_next_recipe_is_tried(
    latest: Gpu, bundle: Bundle, wrong: Any, kept: str, tried: list[str]
) -> None:
    latest.behaviour.wrong = wrong
    built = build_engine(bundle, EngineOptions("fp16"))
    assert built.record.recipe == kept
    assert [attempt.recipe.name for attempt in built.failed] == tried
    assert all("outside tolerance" in attempt.describe() for attempt in built.failed)
    assert [path.name for path in built.plan.parent.glob("*.plan")] == [f"sm90-trt11.4-{kept}-b1-4-8.plan"]
    # It is called what it is.
    assert built.record.options.precision == kept.split("-")[0]
    assert latest.cuda.live() == {}


def test_without_fallback_a_wrong_engine_is_the_end(latest: Gpu, bundle: Bundle) -> None:
    latest.behaviour.wrong = lambda _: True
    with pytest.raises(ParityError, match="none was kept\n\nfp16 is outside tolerance\n\ntensorrt fp16 against torch"):
        build_engine(bundle, EngineOptions("fp16"), fallbacks=False)
    assert len(latest.behaviour.graphs) == 1
    assert not list((bundle.path / "engines").glob("*.plan"))


def test_every_recipe_wrong_leaves_nothing_and_exits_with_3(latest: Gpu, bundle: Bundle) -> None:
    latest.behaviour.wrong = lambda _: True
    result = tubelet("build", bundle.path)
    assert result.exit_code == 3
    for recipe in ("fp16", "bf16", "fp16-attention32", "fp16-unfused", "fp32"):
        assert f"{recipe} is outside tolerance" in result.stderr
    assert not list((bundle.path / "engines").glob("*.plan"))
    assert not list((bundle.path / "engines").glob("*.json"))
    assert latest.cuda.live() == {}


def test_an_engine_without_half_layers_is_not_called_fp16(latest: Gpu, bundle: Bundle) -> None:
    latest.behaviour.typeless = True
    built = build_engine(bundle, EngineOptions("fp16"))
    assert built.record.recipe == "fp32"
    assert built.failed[0].describe().startswith("fp16: TensorRT built an engine without a layer in fp16: it has ")


def test_where_tensorrt_hides_the_layers_the_proof_is_that_of_the_graph(latest: Gpu, bundle: Bundle) -> None:
    # A strongly typed network has the types of its graph, which were proven before the build.
    latest.behaviour.opaque = True
    built = build_engine(bundle, EngineOptions("fp16"))
    assert (built.record.recipe, built.record.layers) == ("fp16", {"hidden": 1})
    assert built.record.describe_layers() == "of 1 layers, by what they take in: 1 (100%) do not show their types"


@pytest.mark.parametrize(
    ("precision", "capability", "needed"), [("fp8", (8, 6), "8.9"), ("bf16", (7, 5), "8.0"), ("tf32", (7, 5), "8.0")]
)
def test_a_gpu_that_is_too_old_for_a_precision_is_refused(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle, precision: str, capability: tuple[int, int], needed: str
) -> None:
    gpu = plug_in(monkeypatch, LATEST, name="NVIDIA A10", compute_capability=capability)
    result = tubelet("build", bundle.path, "--precision", precision)
    assert result.exit_code == 1
    assert (
        f"Error: {precision} needs a GPU of compute capability {needed} or newer, this is NVIDIA A10 (" in result.stderr
    )
    assert "\n  fix: build another precision, such as fp16 or int8-static" in result.stderr
    assert gpu.behaviour.configs == []
    assert not (bundle.path / "engines").exists()


def test_fp8_is_built_where_it_can_be(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    gpu = plug_in(monkeypatch, LATEST, name="NVIDIA L4", compute_capability=(8, 9))
    built = build_engine(bundle, EngineOptions("fp8"))
    assert built.plan.name == "sm89-trt11.4-fp8-b1-4-8.plan"
    (graph,) = gpu.behaviour.graphs
    assert TensorProto.FLOAT8E4M3FN in {tensor.data_type for tensor in graph.graph.initializer}
    checked = tubelet("check", bundle.path, "--backend", "tensorrt", "--precision", "fp8")
    assert checked.exit_code == 0, checked.output


@pytest.mark.parametrize("precision", ["int8-static", "fp8"])
def test_a_projection_that_is_wrong_in_8_bits_is_taken_back(latest: Gpu, bundle: Bundle, precision: str) -> None:
    def eight_bit(graph: ModelProto) -> int:
        return sum(node.op_type == "DequantizeLinear" and "output" in node.name for node in graph.graph.node)

    counts: list[int] = []
    latest.behaviour.wrong = lambda graph: counts.append(eight_bit(graph)) or len(counts) == 1
    result = tubelet("build", bundle.path, "--precision", precision)
    assert result.exit_code == 0, result.output
    assert counts[1] < counts[0]
    assert f"note: {precision} is outside tolerance" in result.stderr
    assert f"note: the engine that was kept is {precision}-projection16, after 1 that did not do" in result.stderr
    record = json.loads(next((bundle.path / "engines").glob("*.json")).read_text())
    assert (record["recipe"], record["options"]["precision"]) == (f"{precision}-projection16", precision)


def test_what_cannot_be_built_says_what_tensorrt_logged(latest: Gpu, bundle: Bundle) -> None:
    latest.behaviour.unbuildable = lambda _: True
    with pytest.raises(BackendError) as caught:
        build_engine(bundle, EngineOptions("fp32"))
    message = str(caught.value)
    assert "no engine could be built\n\nfp32: TensorRT could not build the engine:\n  Could not find any" in message
    assert "fp32-unfused: " in message
    assert "warning" not in message


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-static", "fp8"])
def test_attention_may_be_taken_apart_where_no_kernel_does_it_at_once(
    latest: Gpu, bundle: Bundle, precision: str
) -> None:
    # The double, like TensorRT, has no fused kernel for float32, and fails where it may not.
    assert build_engine(bundle, EngineOptions(precision)).failed == ()
    assert latest.behaviour.decomposable == [True, True]


def test_parser_errors_come_with_the_names_of_nodes(latest: Gpu, bundle: Bundle) -> None:
    latest.behaviour.parser_errors = (("vivit.embeddings.Pad", "Pad", "mode is not supported"), ("", "Add", "why not"))
    result = tubelet("build", bundle.path, "--precision", "fp32")
    assert result.exit_code == 1
    assert "\n  vivit.embeddings.Pad (Pad): mode is not supported\n  node 0 (Add): why not\n  fix: " in result.stderr
    assert len(latest.behaviour.configs) == 0


def test_a_parser_without_attention_is_given_none(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    gpu = plug_in(monkeypatch, VERSIONS[0], calls_itself="10.13.2.6")
    del gpu.tensorrt.IAttentionInputLayer
    built = build_engine(bundle, EngineOptions("fp16"))
    assert built.record.recipe == "fp16-written-out"
    assert built.plan.name == "sm90-trt10.13-fp16-written-out-b1-4-8.plan"


def test_a_tensorrt_that_is_too_old(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    plug_in(monkeypatch, VERSIONS[0], calls_itself="8.6.1")
    with pytest.raises(BackendError, match=r"TensorRT 8\.6\.1 is too old; 10\.13 or newer is needed"):
        build_engine(bundle, EngineOptions("fp16"))


def test_ctrl_c_ends_the_build_soon_and_leaves_nothing(latest: Gpu, bundle: Bundle) -> None:
    steps = []
    with keyboard() as press_ctrl_c:

        def interrupt() -> None:
            steps.append(threading.current_thread() is threading.main_thread())
            if len(steps) == 1:
                press_ctrl_c()
                threading.Event().wait(0.2)  # a step takes a while, in which the build is cancelled

        latest.behaviour.at_step = interrupt
        with pytest.raises(KeyboardInterrupt):
            build_engine(bundle, EngineOptions("fp16"))
    assert steps == [False]
    assert list((bundle.path / "engines").iterdir()) == []


def test_timings_are_kept_for_the_next_build_and_those_of_another_version_are_not_used(
    latest: Gpu, bundle: Bundle
) -> None:
    timings = build_engine(bundle, EngineOptions("fp32")).plan.parent / "sm90-trt11.4.timing"
    assert timings.read_bytes() == LATEST.encode()
    assert stat.S_IMODE(timings.stat().st_mode) == 0o600
    build_engine(bundle, EngineOptions("tf32"))
    timings.write_bytes(b"of another version")
    assert build_engine(bundle, EngineOptions("bf16")).report.passed
    # What each build was given: nothing yet, what the first one learned, nothing again.
    assert [config._cache._data for config in latest.behaviour.configs] == [b"", LATEST.encode(), b""]
    assert timings.read_bytes() == LATEST.encode()
    timings.chmod(0o666)
    with pytest.raises(BackendError, match="can be written by other users"):
        build_engine(bundle, EngineOptions("fp16"))


@pytest.mark.usefixtures("latest")
def test_an_engine_that_is_there_is_replaced_only_on_demand(bundle: Bundle) -> None:
    first = build_engine(bundle, EngineOptions("fp32"))
    with pytest.raises(BackendError, match="replace it with --force"):
        build_engine(bundle, EngineOptions("fp32"))
    second = build_engine(bundle, EngineOptions("fp32"), force=True)
    assert second.plan == first.plan
    assert second.record.built > first.record.built


@pytest.mark.usefixtures("latest")
@pytest.mark.parametrize("moment", ["fp32: preparing the graph", "batch "])
def test_a_bundle_that_is_replaced_during_the_build(bundle: Bundle, videomae_bundle: Path, moment: str) -> None:
    replacing = [put_in_place(videomae_bundle)]

    def replace_once(message: str) -> None:
        if replacing and moment in message:
            replacing.pop()(bundle.path)

    with pytest.raises(BundleError, match="was replaced while its engine was being built, so it was not kept"):
        build_engine(bundle, EngineOptions("fp32"), progress=replace_once)
    assert replacing == []
    assert litter(bundle.path) == []


@pytest.mark.usefixtures("latest")
def test_the_precision_must_be_in_the_bundle(vivit_bundle: Path, tmp_path: Path) -> None:
    bundle = _copy(vivit_bundle, tmp_path)
    result = tubelet("build", bundle.path, "--precision", "fp16")
    assert result.exit_code == 1
    assert "has no fp16 graph; it has fp32\n  fix: tubelet quantize " in result.stderr


def test_the_command_says_what_was_built(latest: Gpu, bundle: Bundle) -> None:
    latest.behaviour.wrong = lambda graph: operands(graph) == {TensorProto.FLOAT16}
    result = tubelet("build", bundle.path, "--batch", "2", "--batch", "1:4:8")
    assert result.exit_code == 0, result.output
    assert "note: fp16 is outside tolerance" in result.stderr
    assert "note: the engine that was kept is bf16, after 1 that did not do" in result.stderr
    plan = bundle.path / "engines" / "sm90-trt11.4-bf16-b2-2-2+1-4-8.plan"
    assert f"{plan} is ready\n  tubelet classify {bundle.path} VIDEO --backend tensorrt" in result.stdout
    assert re.search(
        r"\nof \d+ layers, by what they take in: \d+ \(\d+%\) in bf16, \d+ \(\d+%\) in fp32\n", result.stdout
    )
    checked = tubelet("check", bundle.path, "--backend", "tensorrt", "--precision", "bf16")
    assert checked.exit_code == 0, checked.output
    document = json.loads(tubelet("build", bundle.path, "--precision", "fp32", "--json").stdout)
    assert document["recipe"] == "fp32"
    assert document["engine"].endswith("sm90-trt11.4-fp32-b1-4-8.plan")


@pytest.mark.parametrize("profile", ["0:1:2", "4:2:8", "1:2", "a", "1:2:3:4", "-1"])
def test_a_profile_that_is_none(profile: str, vivit_bundle: Path) -> None:
    result = tubelet("build", vivit_bundle, "--batch", profile)
    assert result.exit_code == 2
    assert "a profile is MIN:OPT:MAX" in result.stderr


def test_without_tensorrt_the_extra_is_named(vivit_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tubelet\[tensorrt\]'"):
        build_engine(Bundle.open(vivit_bundle), EngineOptions("fp32"))


def test_the_inspectors_words_for_types() -> None:
    def layer(*given: str, key: str = "Format/Datatype") -> dict[str, Any]:
        return {"Name": "x", "Inputs": [{key: text} for text in given], "Outputs": [{key: "Float"}]}

    layers = [
        layer("Half"),
        layer("Row major linear FP16 format"),
        layer("BFloat16", "Float"),
        layer("Int8", "Float"),
        layer("UInt8"),
        layer("FP8", key="Datatype"),
        layer("Int64"),
        layer(),
    ]
    assert layer_types(json.dumps({"Layers": layers})) == {"fp16": 2, "bf16": 1, "int8": 1, "fp8": 1, "fp32": 3}
    named_only = {"Name": "y", "Inputs": ["a"], "Outputs": ["b"]}
    assert layer_types(json.dumps({"Layers": [layer("Half"), named_only]})) == {"fp16": 1}
    assert layer_types('{"Layers": [{"Alpha": nan}]}') == {"hidden": 1}
    with pytest.raises(BuildFailed, match="carries no types"):
        layer_types('{"Layers": ["a", "b"]}')
    with pytest.raises(BuildFailed, match="shows no layer"):
        layer_types("{}")


@pytest.mark.parametrize("fixture", ["attentive_bundle", "masked_bundle"])
def test_engines_are_of_classifiers(fixture: str, request: pytest.FixtureRequest) -> None:
    bundle = Bundle.open(request.getfixturevalue(fixture))
    with pytest.raises(BundleError, match="; an engine takes a bundle for video-classification that gives logits"):
        build_engine(bundle, EngineOptions("fp32", (Profile(1, 1, 1),)))
