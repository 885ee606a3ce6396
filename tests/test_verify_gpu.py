"""scripts/verify_gpu.py: over the doubles it passes, where a result is wrong or no GPU is there it fails."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result
from gpu import plug_in
from tensorrt_double import VERSIONS

SCRIPT = Path(__file__).parents[1] / "scripts" / "verify_gpu.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script: ModuleType, *arguments: object) -> Result:
    return CliRunner().invoke(script.main, [str(argument) for argument in arguments])


def test_it_passes_and_reports(
    script: ModuleType, lowered_bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    bundle = shutil.copytree(lowered_bundles["videomae"], tmp_path / "bundle")
    plug_in(monkeypatch, VERSIONS[-1])
    report = tmp_path / "gpu.json"
    result = run(script, "--bundle", bundle, "--batch", 1, "--batch", 9, "--report", report)
    assert result.exit_code == 0, result.output
    assert result.output.endswith("\nPASS\n")
    assert "pass    tensorrt fp16 frames: built in " in result.output
    assert "absent  onnxruntime-cuda fp32 frames: this ONNX Runtime was built without" in result.output
    document = json.loads(report.read_text())
    assert document["passed"] is True
    assert {(row["subject"], row["batch"]) for row in document["timings"]} == {
        (f"tensorrt {precision} frames", batch) for precision in ("fp32", "fp16") for batch in (1, 9)
    }


def test_a_wrong_engine_fails(
    script: ModuleType, lowered_bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    bundle = shutil.copytree(lowered_bundles["vivit"], tmp_path / "bundle")
    plug_in(monkeypatch, VERSIONS[-1]).behaviour.wrong = lambda _: True
    result = run(script, "--bundle", bundle)
    assert result.exit_code == 1
    assert result.output.endswith("\nFAIL: no GPU backend could run here\n")
    assert "fail    tensorrt fp16 pixel_values: no engine computes what torch computed" in result.output


def test_without_a_gpu_it_fails_and_says_what_is_absent(script: ModuleType, lowered_bundles: dict[str, Path]) -> None:
    result = run(script, "--bundle", lowered_bundles["vivit"])
    assert result.exit_code == 1
    assert "absent  tensorrt fp32 pixel_values: tensorrt is not installed" in result.output
    assert result.output.endswith("\nFAIL: no GPU backend could run here\n")


def test_one_of_model_and_bundle(script: ModuleType) -> None:
    assert run(script).exit_code == 2
