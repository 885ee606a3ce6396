"""`import tubelet`: which names it gives, where they come from, and what it does not load."""

import ast
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
from checkpoints import write_checkpoint

import tubelet

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "tubelet/__init__.py"


def stubs() -> dict[str, str]:
    """Each name that type checkers are shown -> the module that it is imported from."""
    (block,) = (node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    found = {
        alias.name: node.module or "" for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert len(found) > 20
    return found


HEAVY = ("numpy", "onnxruntime", "av", "torch", "openvino", "msgspec", "tubelet.runtime", "tubelet.cli.classify")


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_all_the_table_and_the_stubs_agree() -> None:
    assert stubs() == tubelet._DEFINED_IN
    assert set(tubelet.__all__) == {*tubelet._DEFINED_IN, "__version__"}
    assert dir(tubelet) == sorted(tubelet.__all__) == tubelet.__all__


@pytest.mark.parametrize("name", tubelet._DEFINED_IN)
def test_every_name_resolves_to_what_is_defined_there(name: str) -> None:
    value = getattr(tubelet, name)
    assert value is getattr(import_module(f"tubelet.{tubelet._DEFINED_IN[name]}"), name)
    assert value.__module__ == f"tubelet.{tubelet._DEFINED_IN[name]}"
    assert value.__doc__


def test_every_error_of_the_tree_is_a_name() -> None:
    def below(error: type[tubelet.TubeletError]) -> set[str]:
        return {error.__name__}.union(*map(below, error.__subclasses__()))

    ours = {name for name in below(tubelet.TubeletError) if hasattr(import_module("tubelet.preprocess.errors"), name)}
    assert ours <= set(tubelet.__all__)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'tubelet' has no attribute 'nonsense'"):
        _ = tubelet.nonsense


def test_the_version_stands_in_pyproject_alone() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert tubelet.__version__ == version("tubelet") == stated
    assert stated not in SOURCE.read_text()


def test_importing_it_loads_next_to_nothing(tmp_path: Path) -> None:
    code = f"import sys, tubelet; print([name for name in {(*HEAVY, 'click')!r} if name in sys.modules])"
    result = python("-c", code, cwd=tmp_path)
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_names_do_not_load_what_others_need(tmp_path: Path) -> None:
    code = "import sys, tubelet; tubelet.load, tubelet.check, tubelet.export; print('torch' in sys.modules)"
    assert python("-c", code, cwd=tmp_path).stdout == "False\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["nonsense"], []])
def test_the_help_of_the_tree_loads_no_command(arguments: list[str], tmp_path: Path) -> None:
    """Neither numpy nor PyAV, which are most of a start."""
    code = "import atexit, sys; atexit.register(lambda: print([m for m in sys.modules if m in HEAVY], file=sys.stderr))"
    code += f"; HEAVY = {HEAVY!r}; from tubelet.__main__ import run; run()"
    result = python("-c", code, *arguments, cwd=tmp_path)
    assert result.stderr.splitlines()[-1] == "[]"


def test_commands_load_what_they_are_for(tmp_path: Path) -> None:
    """A command's file has its options; the rooms behind them are imported where it runs."""
    code = "import sys, tubelet.cli.bench; print(sorted(m for m in sys.modules if m[:8] == 'tubelet.'))"
    loaded = ast.literal_eval(python("-c", code, cwd=tmp_path).stdout)
    assert [name for name in loaded if name.startswith("tubelet.bench.")] == ["tubelet.bench.baselines"]
    assert not [name for name in loaded if name.startswith("tubelet.exporter.") or name == "tubelet.runtime.doctor"]


def test_a_start_that_classifies_a_file_loads_nothing_else(vivit_bundle: Path, video: Path, tmp_path: Path) -> None:
    """No sources of streams, archives or clusters, and no engine but the one that runs."""
    code = (
        "import atexit, sys; from tubelet.__main__ import run; "
        "atexit.register(lambda: print(sorted(m for m in sys.modules if m[:8] == 'tubelet.'))); run()"
    )
    result = python("-c", code, "classify", str(vivit_bundle), str(video), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    loaded = ast.literal_eval(result.stdout.splitlines()[-1])
    assert "tubelet.runtime.backends.ort" in loaded
    others = (
        "stream.watch.",
        "stream.source",
        "stream.reader",
        "stream.connection",
        "visual.picture",
        "archive.run",
        "tuning.record",
        "tuning.machine",
        "proof",
        "bundle.engines",
        "backends.trt",
        "backends.openvino",
    )
    for room in (*(f"tubelet.runtime.{name}" for name in others), "tubelet.serve", "tubelet.bench", "tubelet.exporter"):
        assert not [name for name in loaded if f"{name}.".startswith(room)]


def test_the_command_has_numpy_start_no_threads(tmp_path: Path) -> None:
    """Of its BLAS, unless the environment asks for them; and a library leaves the environment alone."""
    code = "import os, sys; from tubelet.__main__ import run; import atexit; name = 'OPENBLAS_NUM_THREADS'; "
    code += "atexit.register(lambda: print(os.environ.get(name), file=sys.stderr)); "
    free, asked = "os.environ.pop(name, None); ", "os.environ[name] = '3'; "
    assert python("-c", code + free + "run()", "--version", cwd=tmp_path).stderr == "1\n"
    assert python("-c", code + asked + "run()", "--version", cwd=tmp_path).stderr == "3\n"
    assert python("-c", code + free + "import tubelet; tubelet.load", cwd=tmp_path).stderr == "None\n"


@pytest.mark.skipif(sys.platform != "linux", reason="threads are looked up in /proc")
def test_numpy_is_imported_once_its_threads_are_known(vivit_bundle: Path, tmp_path: Path) -> None:
    code = "import atexit, os, sys; os.environ.pop('OPENBLAS_NUM_THREADS', None); from tubelet.__main__ import run; "
    code += "atexit.register(lambda: print('numpy' in sys.modules, len(os.listdir('/proc/self/task')))); run()"
    result = python("-c", code, "info", str(vivit_bundle), cwd=tmp_path)
    assert result.stdout.splitlines()[-1] == "True 1"


@pytest.mark.parametrize("folder", ["elsewhere", "root"])
def test_python_m_tubelet(folder: str, tmp_path: Path) -> None:
    cwd = ROOT if folder == "root" else tmp_path
    result = python("-m", "tubelet", "--version", cwd=cwd)
    assert result.stdout.startswith(f"tubelet {tubelet.__version__}, Python "), result.stderr
    result = python("-m", "tubelet", "info", str(tmp_path / "nothing"), cwd=cwd)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: a bundle is a folder with a bundle.json")
    assert python("-m", "tubelet", "nonsense", cwd=cwd).stderr.startswith("Usage: tubelet [OPTIONS]")


def test_the_whole_road_in_three_calls(tmp_path: Path, video: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checkpoint = write_checkpoint(tmp_path / "gestures", "vivit")
    options = tubelet.ExportOptions(videos=(video,), precisions=("fp32", "fp16"))
    bundle = tubelet.export(checkpoint, tmp_path / "bundle", options)
    assert isinstance(bundle, tubelet.Bundle)
    assert bundle.to_json()["sha256"] == tubelet.Bundle.open(tmp_path / "bundle").to_json()["sha256"]
    assert [graph.parity is not None and graph.parity.passed for graph in bundle.graphs] == [True, True]

    assert tubelet.check(bundle.path).passed
    assert tubelet.check(bundle.path, precision="fp16").precision == "fp16"
    stages = tubelet.check(str(bundle.path), video=video)
    assert stages.passed
    assert stages.video == str(video)
    with tubelet.load(bundle.path) as model:
        best, *_ = model.classify(video)
        assert isinstance(best, tubelet.Prediction)
    assert capfd.readouterr() == ("", "")  # silent, unless a progress is given

    with pytest.raises(tubelet.BundleError, match="exists"):
        tubelet.export(checkpoint, tmp_path / "bundle")
    steps: list[str] = []
    notes: list[str] = []
    tubelet.export(str(checkpoint), str(bundle.path), force=True, progress=steps.append, say=notes.append)
    assert steps[0] == f"loading {checkpoint}"
    assert "checking batch 8" in steps
