"""`tubelet build --dry-run`: with the real parser, and where there is none."""

import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from gpu import plug_in
from real_tensorrt import real_tensorrt
from tensorrt_double import VERSIONS

from tubelet.cli.tree import main
from tubelet.exporter.tensorrt import dry_run
from tubelet.runtime.bundle.bundle import Bundle

trt = real_tensorrt()


@pytest.fixture
def bundle(lowered_bundles: dict[str, Path], tmp_path: Path) -> Bundle:
    (tmp_path / "bundle").mkdir()
    for file in lowered_bundles["vivit"].iterdir():
        os.link(file, tmp_path / "bundle" / file.name)
    return Bundle.open(tmp_path / "bundle")


def tubelet(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tubelet")


def products(document: dict, kind: str) -> dict[str, int]:
    layers = document["recipes"][0]["layers"]
    return {" x ".join(layer["operands"]): layer["count"] for layer in layers if layer["kind"] == kind}


@pytest.mark.parametrize("precision", ["fp16", "int8-static"])
def test_it_shows_what_the_real_parser_and_the_graph_itself_have(
    bundle: Bundle, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = tubelet("build", bundle.path, "--target", "rtx", "--precision", precision, "--dry-run", "--json")
    assert read.exit_code == 0, read.output
    by_parser = json.loads(read.stdout)
    assert by_parser["reader"] == f"TensorRT for RTX {trt.__version__}"
    assert by_parser["would_build"] is True
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    without = tubelet("build", bundle.path, "--precision", precision, "--dry-run", "--json")
    assert without.exit_code == 0, without.output
    by_list = json.loads(without.stdout)
    assert by_list["reader"] is None
    for ours, theirs in (("MatMul", "MATRIX_MULTIPLY"), ("Attention", "ATTENTION_INPUT")):
        found = products(by_list, ours)
        for operands, count in (products(by_list, "Gemm") if ours == "MatMul" else {}).items():
            found[operands] = found.get(operands, 0) + count
        assert found == products(by_parser, theirs)
    assert not (bundle.path / "engines").exists()


def test_the_table_shows_layers_and_what_would_be_tried(bundle: Bundle) -> None:
    result = tubelet("build", bundle.path, "--precision", "fp8", "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(
        f"for the GPU of the machine that builds (compute capability 8.9 or newer), read by TensorRT for RTX "
        f"{trt.__version__}\n\nfp8\n"
    )
    assert "    12  MATRIX_MULTIPLY      fp8 x fp8\n" in result.stdout
    assert "\nwould be tried after it: fp8-projection16, fp8-unfused, bf16, fp32\n" in result.stdout
    assert result.stdout.endswith("\nnothing would be refused\n")
    alone = tubelet("build", bundle.path, "--precision", "fp8", "--dry-run", "--no-fallback")
    assert "would be tried" not in alone.stdout


def test_it_says_what_would_be_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tubelet("build", bundle.path, "--target", "rtx", "--sm", "86", "--precision", "fp8", "--dry-run")
    assert old.exit_code == 1
    assert old.stdout.startswith("for RTX GPUs of compute capability 8.6, read by ")
    assert "would be refused: TensorRT for RTX builds fp8 for compute capability 8.9, 12.0, 12.1, not for" in old.stdout
    built = tubelet("build", bundle.path, "--target", "rtx")
    assert built.exit_code == 0, built.output
    again = tubelet("build", bundle.path, "--target", "rtx", "--dry-run")
    assert again.exit_code == 1
    assert "rtx1.7-fp16-b1-4-8.plan is there, built " in again.stdout
    assert tubelet("build", bundle.path, "--target", "rtx", "--dry-run", "--force").exit_code == 0
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    missing = tubelet("build", bundle.path, "--target", "rtx", "--dry-run")
    assert missing.exit_code == 1
    assert (
        "would be refused: tensorrt_rtx is not installed; it is needed to build engines for RTX GPUs" in missing.stdout
    )


def test_what_the_graph_of_a_recipe_is_refused_for_is_said(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def drop(model: object) -> None:
        model.graph.node.remove(next(node for node in model.graph.node if node.op_type == "Gelu"))  # type: ignore[attr-defined]

    monkeypatch.setattr(dry_run, "require_documented", drop)
    result = tubelet("build", bundle.path, "--target", "rtx", "--dry-run")
    assert result.exit_code == 1
    assert "would be refused: fp16: TensorRT's parser does not read the graph:" in result.stdout


def test_a_gpu_that_is_too_old_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, VERSIONS[-1], name="NVIDIA A10", compute_capability=(8, 6))
    monkeypatch.setattr(dry_run, "_parser_for", lambda _: trt)  # the double has no layers to show
    result = tubelet("build", bundle.path, "--precision", "fp8", "--dry-run")
    assert result.exit_code == 1
    assert "fp8 needs a GPU of compute capability 8.9 or newer, this is NVIDIA A10 (" in result.stdout
