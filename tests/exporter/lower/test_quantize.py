"""`tubelet quantize`, and --precision of the other commands."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from click.testing import CliRunner, Result
from videos import damage, make_video

from tubelet.cli.tree import main
from tubelet.runtime.backends.openvino import integer_products_saturate
from tubelet.runtime.bundle.bundle import Bundle


def tubelet(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tubelet")


@pytest.fixture
def copy(vivit_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(vivit_bundle, tmp_path / "bundle")


def test_quantize_check_classify(copy: Path, video: Path) -> None:
    made = tubelet("quantize", copy, "--precision", "int8,int8-static", "--calibrate", video)
    assert made.exit_code == 0, made.output
    assert made.stdout.count("PASS") == 2
    assert "note: calibrated on 1 video\n" in made.stdout
    assert made.stdout.endswith(f"{copy} has fp32, int8, int8-static\n")
    assert made.stderr == ""
    runs = [("onnxruntime", "int8"), ("onnxruntime", "int8-static"), ("openvino", "int8")]
    if integer_products_saturate():  # and are refused: see test_openvino.py
        runs.remove(("openvino", "int8"))
    for backend, precision in runs:
        checked = tubelet("check", copy, "--backend", backend, "--precision", precision)
        assert checked.exit_code == 0, checked.output
        assert checked.stdout.startswith(f"{backend} {precision} against torch fp32\n")
    classified = tubelet("classify", copy, video, "--precision", "int8", "--top-k", 1, "--json")
    assert len(json.loads(classified.stdout)["predictions"]) == 1


def test_a_list_of_precisions_may_be_given_in_parts(copy: Path) -> None:
    result = tubelet("quantize", copy, "--precision", "fp16", "--precision", "int8,fp16")
    assert result.stdout.endswith(f"{copy} has fp32, fp16, int8\n"), result.output


def test_a_damaged_clip_is_an_error_that_says_what_is_there_by_then(copy: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    damage(make_video(clip, frames=40), range(4, 36))
    result = tubelet("quantize", copy, "--precision", "int8,int8-static", "--calibrate", clip)
    assert result.exit_code == 1
    assert f"note: {copy} has fp32, int8 by now\n" in result.stderr
    assert result.stderr.endswith("  fix: leave it out of --calibrate, or name another\n")


def test_json(copy: Path) -> None:
    document = json.loads(tubelet("quantize", copy, "--precision", "fp16", "--json").stdout)
    assert document["bundle"] == str(copy)
    (parity,) = document["parity"]
    assert (parity["precision"], parity["passed"], parity["limit"]) == ("fp16", True, {"cosine": 0.9999, "top": 1})


def test_a_graph_that_is_there_needs_force(copy: Path) -> None:
    assert tubelet("quantize", copy, "--precision", "int8").exit_code == 0
    again = tubelet("quantize", copy, "--precision", "int8")
    assert again.exit_code == 1
    assert again.stderr == f"Error: {copy} has an int8 graph already\n  fix: replace it with --force\n"
    assert tubelet("quantize", copy, "--precision", "int8", "--force").exit_code == 0


def test_the_fix_for_a_missing_precision_is_the_command_that_adds_it(copy: Path) -> None:
    result = tubelet("check", copy, "--precision", "int8")
    assert result.exit_code == 1
    assert result.stderr.endswith(f"fix: tubelet quantize {copy} --precision int8\n")
    fix = result.stderr.split("fix: tubelet ")[1].split()
    assert tubelet(*fix).exit_code == 0
    assert tubelet("check", copy, "--precision", "int8").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "int4"], "'int4' is none of fp32, fp16, int8, int8-static, fp8"),
        (["--precision", ""], "'' is none of fp32, fp16, int8, int8-static, fp8"),
        ([], "Missing option '--precision'"),
        (["--precision", "int8-static", "--calibrate", "no/such/folder"], "'no/such/folder' does not exist"),
    ],
)
def test_misuse_exits_with_2(copy: Path, arguments: list[str], message: str) -> None:
    result = tubelet("quantize", copy, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_calibration_clips_of_the_wrong_kind(copy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    result = tubelet("quantize", copy, "--precision", "int8-static", "--calibrate", folder)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {folder} holds no videos to calibrate on\n"
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\x00" * 64)
    result = tubelet("quantize", copy, "--precision", "int8-static", "--calibrate", folder)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"note: passed over: {folder / 'picture.png'} ")
    assert result.stderr.endswith(f"Error: {folder} holds no videos to calibrate on\n")
    (folder / "punch").mkdir()
    result = tubelet("quantize", copy, "--precision", "int8-static", "--calibrate", folder)
    assert result.exit_code == 1
    fix = "  fix: name the folders that do, one by one: those in a folder are not looked into\n"
    assert result.stderr.endswith(f"Error: {folder} holds no videos to calibrate on\n{fix}")
    assert [graph.precision for graph in Bundle.open(copy).graphs] == ["fp32"]


def test_what_lies_among_calibration_clips_is_passed_over_and_named_once(
    copy: Path, tmp_path: Path, video: Path
) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    shutil.copy(video, folder / "clip.mp4")
    (folder / "README.md").write_text("# Clips\n")
    result = tubelet("quantize", copy, "--precision", "int8-static,fp16", "--calibrate", folder)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("README.md") == result.stderr.count("\n") == 1
    assert "note: calibrated on 1 video\n" in result.stdout


def test_export_makes_them_at_once(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "gestures", "videomae")
    result = tubelet("export", "--model", folder, "-o", tmp_path / "bundle", "--precision", "fp16,int8")
    assert result.exit_code == 0, result.output
    assert "\nfp16: cosine 0.99999" in result.stdout
    assert "at the least, limit 0.99: PASS" in result.stdout
    assert [graph.precision for graph in Bundle.open(tmp_path / "bundle").graphs] == ["fp32", "fp16", "int8"]


def test_it_needs_no_torch(copy: Path, tmp_path: Path) -> None:
    blocked = ("torch", "transformers", "onnxscript", "safetensors", "huggingface_hub")
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); from tubelet.cli.tree import main; main()"
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        code,
        "quantize",
        str(copy),
        "--precision",
        "fp16,int8,int8-static,fp8",
    ]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr


def test_without_onnx_the_extra_is_named(copy: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['onnx'] = None; from tubelet.cli.tree import main; main()"
    command = [sys.executable, "-c", code, "quantize", str(copy), "--precision", "fp16"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 1
    assert result.stderr == (
        "Error: onnx is not installed; it is needed to make a graph of lower precision\n"
        "  fix: pip install 'tubelet[quantize]'\n"
    )
