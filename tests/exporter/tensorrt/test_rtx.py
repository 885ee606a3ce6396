"""`tubelet build --target rtx`: with the real library, on a machine without a GPU."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from killed import litter, put_in_place
from real_tensorrt import real_tensorrt

from tubelet.cli.tree import main
from tubelet.exporter.tensorrt.rtx import build_rtx_engine
from tubelet.preprocess.errors import BackendError, BundleError, MissingExtra, NotAvailable
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.engine_files import graph_sha256, read_plan
from tubelet.runtime.bundle.engines import EngineOptions, Profile, read_records
from tubelet.runtime.bundle.rtx_engines import CAPABILITIES, capabilities_for, parse_sm, read_rtx_records, sm

trt = real_tensorrt()


@pytest.fixture
def bundle(lowered_bundles: dict[str, Path], tmp_path: Path) -> Bundle:
    (tmp_path / "bundle").mkdir()
    for file in lowered_bundles["vivit"].iterdir():
        os.link(file, tmp_path / "bundle" / file.name)
    return Bundle.open(tmp_path / "bundle")


def tubelet(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tubelet")


def test_an_engine_for_all_rtx_gpus_is_built_and_not_yet_proven(bundle: Bundle) -> None:
    result = tubelet("build", bundle.path, "--target", "rtx", "--precision", "int8-static", "--batch", "2", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    plan = bundle.path / "engines" / "rtx1.7-int8-static-b2-2-2.plan"
    assert document["engine"] == str(plan)
    (record,) = read_rtx_records(plan.parent)
    assert record.compute_capabilities == CAPABILITIES
    assert record.tensorrt_rtx == trt.__version__
    assert record.proofs == ()
    assert record.graph_sha256 == graph_sha256(bundle.graph("int8-static"))
    assert record.options == EngineOptions("int8-static", (Profile(2, 2, 2),))
    assert read_plan(plan.parent, record) == plan.read_bytes()
    assert list(read_records(plan.parent)) == []  # it is none of an engine for one machine
    assert stat.S_IMODE(plan.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(plan.stat().st_mode) == 0o600
    assert sorted(path.name for path in plan.parent.iterdir()) == [plan.with_suffix(".json").name, plan.name]


def test_an_engine_for_some_gpus_says_so_in_its_name(bundle: Bundle) -> None:
    result = tubelet("build", bundle.path, "--target", "rtx", "--sm", "120,89")
    assert result.exit_code == 0, result.output
    plan = bundle.path / "engines" / "rtx1.7-sm89+120-fp16-b1-4-8.plan"
    assert f"for GPUs of compute capability 8.9, 12.0\n\n{plan} is built, and not yet proven" in result.stdout
    assert f"tubelet check {bundle.path} --backend tensorrt-rtx --precision fp16" in result.stdout
    again = tubelet("build", bundle.path, "--target", "rtx", "--sm", "89,120")
    assert again.exit_code == 1
    assert "replace it with --force" in again.stderr
    forced = tubelet("build", bundle.path, "--target", "rtx", "--sm", "89,120", "--force")
    assert forced.exit_code == 0, forced.output
    (record,) = read_rtx_records(plan.parent)
    assert record.command(bundle.path).endswith("bundle --target rtx --sm 89,120 --precision fp16 --batch 1:4:8")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--sm", "86", "--precision", "fp8"), 1, "builds fp8 for compute capability 8.9, 12.0, 12.1, not for 8.6"),
        (("--sm", "75", "--precision", "bf16"), 1, "builds bf16 for compute capability 8.0, 8.6, 8.9, 12.0, 12.1"),
        (("--sm", "75", "--precision", "fp32"), 1, "not for 7.5\n  fix: --sm 80,86,89,120,121, or another precision"),
        (("--sm", "90"), 1, "does not build for compute capability 9.0; it builds for 7.5, 8.0, 8.6, 8.9, 12.0, 12.1"),
        (("--sm", "8.9"), 2, "a compute capability is written as 89 or 120, got '8.9'"),
        (("--sm", ""), 2, "a compute capability is written as 89 or 120, got ''"),
        (("--no-fallback",), 2, "--no-fallback goes without --target rtx"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_built(
    bundle: Bundle, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = tubelet("build", bundle.path, "--target", "rtx", *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert not (bundle.path / "engines").exists()


def test_sm_is_for_rtx_alone(bundle: Bundle) -> None:
    result = tubelet("build", bundle.path, "--sm", "89")
    assert result.exit_code == 2
    assert "--sm goes with --target rtx" in result.stderr


def test_compute_capabilities_are_read_as_they_are_written() -> None:
    assert [parse_sm(sm(capability)) for capability in CAPABILITIES] == list(CAPABILITIES)
    # Those are all that the library knows.
    known = set(trt.ComputeCapability.__members__) - {"NONE", "CURRENT"}
    assert known == {f"SM{sm(capability)}" for capability in CAPABILITIES}
    assert capabilities_for("fp16", [(12, 0), (8, 9), (8, 9)]) == ((8, 9), (12, 0))
    with pytest.raises(NotAvailable, match=r"compute capability 9\.0"):
        capabilities_for("fp16", [(8, 9), (9, 0)])


def test_without_the_library_the_extra_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tubelet\[rtx\]'"):
        build_rtx_engine(bundle, EngineOptions("fp32"))


def test_beside_the_plugin_of_onnx_runtime_it_is_not_loaded(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", object())
    with pytest.raises(BackendError, match="cannot be loaded beside ONNX Runtime's own"):
        build_rtx_engine(bundle, EngineOptions("fp32"))


def test_a_bundle_that_is_replaced_during_the_build(bundle: Bundle, videomae_bundle: Path) -> None:
    replacing = [put_in_place(videomae_bundle)]

    def replace_once(message: str) -> None:
        if replacing and "TensorRT for RTX" in message:
            replacing.pop()(bundle.path)

    with pytest.raises(BundleError, match="was replaced while its engine was being built, so it was not kept"):
        build_rtx_engine(bundle, EngineOptions("fp32"), progress=replace_once)
    assert replacing == []
    assert litter(bundle.path) == []


def test_engines_are_of_classifiers(masked_bundle: Path) -> None:
    with pytest.raises(BundleError, match="an engine takes a bundle for video-classification"):
        build_rtx_engine(Bundle.open(masked_bundle), EngineOptions("fp32"))
