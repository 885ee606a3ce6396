"""The runtime where there is no torch: run as it is used, in processes of its own.

With TUBELET_BUNDLES set, as `make wheel` does it, the bundles were exported elsewhere, tubelet is installed from its
wheel, and torch must be absent. Otherwise torch and everything that comes with it is blocked in the process.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

IS_INSTALLED = "TUBELET_BUNDLES" in os.environ
TORCH_SIDE = ("torch", "transformers", "onnx", "onnxscript", "onnx_ir", "safetensors", "huggingface_hub")

# A module that is None in sys.modules cannot be imported.
BLOCK = f"import sys; sys.modules.update(dict.fromkeys({TORCH_SIDE!r})); "
COMMAND = BLOCK + "from tubelet.cli.tree import main; main()"


@pytest.fixture(scope="module")
def bundle(vivit_bundle: Path) -> Path:
    return vivit_bundle


def python(code: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    # From another folder, so that what is imported is what is installed.
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_the_environment_is_what_it_claims_to_be(tmp_path: Path) -> None:
    result = python("import tubelet; print(tubelet.__file__)", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    if IS_INSTALLED:
        assert "site-packages" in result.stdout
        assert not [name for name in TORCH_SIDE if importlib.util.find_spec(name)]


def test_a_start_imports_no_more_than_it_needs(bundle: Path, video: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from tubelet import load; load(sys.argv[1]).classify(sys.argv[2]); "
        "print([name for name in ('numpy.ma', 'importlib.metadata', 'jinja2', 'click') if name in sys.modules])"
    )
    result = python(code, bundle, video, cwd=tmp_path)
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_classifying_writes_nothing_anywhere(bundle: Path, video: Path, tmp_path: Path) -> None:
    """Nor does ONNX Runtime, whose telemetry would; CI variables are left out because they turn it off too."""
    folders = {name: tmp_path / name for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    for folder in folders.values():
        folder.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    result = subprocess.run(
        [sys.executable, "-c", "from tubelet.cli.tree import main; main()", "classify", bundle, video],
        cwd=tmp_path,
        env=kept | {name: str(folder) for name, folder in folders.items()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert sorted(tmp_path.rglob("*")) == sorted(folders.values())


def test_the_python_of_the_readme(bundle: Path, video: Path, tmp_path: Path) -> None:
    code = BLOCK + (
        "import tubelet\n"
        "with tubelet.load(sys.argv[1]) as model:\n"
        "    for label, score in model.classify(sys.argv[2], top_k=5):\n"
        "        print(f'{score:6.1%}  {label}')\n"
        "assert not [m for m in sys.modules if m.split('.')[0] == 'torch' and sys.modules[m]]"
    )
    result = python(code, bundle, video, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 5


@pytest.mark.parametrize("arguments", [["-h"], ["--version"], ["export", "-h"], ["doctor"], ["info", "{bundle}"]])
def test_commands_that_need_no_torch(arguments: list[str], bundle: Path, tmp_path: Path) -> None:
    result = python(COMMAND, *(argument.format(bundle=bundle) for argument in arguments), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_check_and_classify(bundle: Path, video: Path, tmp_path: Path) -> None:
    result = python(COMMAND, "check", bundle, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["passed"] is True
    result = python(COMMAND, "classify", bundle, video, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)["predictions"]) == 5


def test_tune_and_what_auto_makes_of_it(bundle: Path, video: Path, tmp_path: Path) -> None:
    """With one backend and few rounds: whether it runs."""
    mine = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    quick = (
        "from tubelet.bench.tuning import rounds; from tubelet.bench.tuning.contest import Rounds; "
        "rounds.SCREEN = rounds.FINAL = Rounds(1, 1, 0.0); "
    )
    code = BLOCK + quick + "from tubelet.cli.tree import main; main()"
    result = python(code, "tune", mine, "--backend", "onnxruntime", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    choice = json.loads(result.stdout)["choice"]
    assert (choice["backend"], choice["precision"]) == ("onnxruntime", "fp32")
    result = python(COMMAND, "classify", mine, video, "--backend", "auto", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("note: auto is onnxruntime fp32 on ")


def test_export_names_the_extra_that_is_missing(tmp_path: Path) -> None:
    result = python(COMMAND, "export", "--model", tmp_path, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == (
        "Error: torch is not installed; it is needed to export a checkpoint\n  fix: pip install 'tubelet[cpu,export]'\n"
    )


@pytest.mark.parametrize(
    ("arguments", "purpose"),
    [
        (["classify", "hf://lab/gestures", "video.mp4"], "to fetch lab/gestures"),
        (["pull", "lab/gestures"], "to fetch lab/gestures"),
        (["push", "{bundle}", "lab/gestures"], "to push to lab/gestures"),
    ],
)
def test_the_hub_names_the_extra_that_is_missing(
    arguments: list[str], purpose: str, bundle: Path, tmp_path: Path
) -> None:
    result = python(COMMAND, *(argument.format(bundle=bundle) for argument in arguments), cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == (
        f"Error: huggingface_hub is not installed; it is needed {purpose}\n  fix: pip install 'tubelet[hub]'\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_onnx_runtime_that_does_not_load_is_not_called_absent(bundle: Path, video: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "onnxruntime"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')")
    code = BLOCK + f"sys.path.insert(0, {str(broken.parent)!r}); from tubelet.cli.tree import main; main()"
    result = python(code, "classify", bundle, video, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ONNX Runtime is installed, but does not load: libcudart.so.13: cannot")
    result = python(code, "doctor", "--json", cwd=tmp_path)
    assert result.returncode == 0
    (provider,) = json.loads(result.stdout)["providers"]
    assert "libcudart.so.13" in provider["error"]


def test_without_onnx_runtime_the_extra_is_named(bundle: Path, video: Path, tmp_path: Path) -> None:
    code = BLOCK + "sys.modules['onnxruntime'] = None; from tubelet.cli.tree import main; main()"
    result = python(code, "classify", bundle, video, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == (
        "Error: onnxruntime is not installed; it is needed to run a graph\n  fix: pip install 'tubelet[cpu]'\n"
    )
