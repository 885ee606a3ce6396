"""An engine for RTX GPUs where there is one: over doubles, whose classes are those of the real library."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from gpu import Gpu, plug_in_rtx
from real_tensorrt import real_tensorrt

from tubelet.cli.tree import main
from tubelet.exporter.tensorrt.rtx import build_rtx_engine
from tubelet.preprocess.errors import BackendError, MissingExtra
from tubelet.runtime.backends import open_backend
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.engines import EngineOptions, Profile
from tubelet.runtime.bundle.rtx_engines import read_rtx_records
from tubelet.runtime.load import load

REAL = real_tensorrt()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return plug_in_rtx(monkeypatch, REAL)


@pytest.fixture
def bundle(lowered_bundles: dict[str, Path], tmp_path: Path, gpu: Gpu) -> Bundle:
    """A bundle with an engine that the double built."""
    (tmp_path / "bundle").mkdir()
    for file in lowered_bundles["vivit"].iterdir():
        os.link(file, tmp_path / "bundle" / file.name)
    made = Bundle.open(tmp_path / "bundle")
    build_rtx_engine(made, EngineOptions("fp16", (Profile(1, 1, 1), Profile(2, 4, 8))))
    assert gpu.behaviour.graphs
    return made


def tubelet(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tubelet")


def batch(size: int) -> np.ndarray:
    return np.random.default_rng(size).normal(size=(size, 4, 3, 32, 32)).astype(np.float32)


def test_it_computes_what_onnx_runtime_computes_and_gives_everything_back(bundle: Bundle, gpu: Gpu) -> None:
    with open_backend("onnxruntime", bundle, "fp16") as expected, open_backend("tensorrt-rtx", bundle, "fp16") as rtx:
        for size in (1, 3, 8, 9):
            np.testing.assert_allclose(rtx.infer(batch(size)), expected.infer(batch(size)), atol=0.02)
    assert gpu.cuda.live() == {}
    with pytest.raises(BackendError, match="closed"):
        rtx.infer(batch(1))


def test_classify_says_once_that_an_engine_is_not_proven_until_check_has_run(
    bundle: Bundle, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    unproven = r"rtx1\.7-fp16-.*\.plan is not yet proven on this GPU \(NVIDIA GeForce RTX 4090\)\n  fix: tubelet check "
    with pytest.warns(RuntimeWarning, match=unproven) as said:
        load(bundle.path, backend="tensorrt-rtx", precision="fp16").close()
    assert len(said) == 1
    checked = tubelet("check", bundle.path, "--backend", "tensorrt-rtx", "--precision", "fp16")
    assert checked.exit_code == 0, checked.output
    load(bundle.path, backend="tensorrt-rtx", precision="fp16").close()  # warnings are errors
    (record,) = read_rtx_records(bundle.path / "engines")
    (proof,) = record.proofs
    assert (proof.machine.gpu, proof.machine.tensorrt, proof.parity.passed) == (gpu.cuda.gpu[0], REAL.__version__, True)
    # On another GPU that it was built for nobody knows.
    plug_in_rtx(monkeypatch, REAL, name="NVIDIA GeForce RTX 5090", compute_capability=(12, 0))
    with pytest.warns(RuntimeWarning, match="not yet proven"):
        load(bundle.path, backend="tensorrt-rtx", precision="fp16").close()
    tubelet("check", bundle.path, "--backend", "tensorrt-rtx", "--precision", "fp16")
    (record,) = read_rtx_records(bundle.path / "engines")
    assert [proof.machine.compute_capability for proof in record.proofs] == [(8, 9), (12, 0)]


def test_an_engine_that_is_wrong_on_a_gpu_is_remembered_as_that(bundle: Bundle, gpu: Gpu) -> None:
    gpu.behaviour.wrong = lambda _: True
    build_rtx_engine(bundle, EngineOptions("fp16", (Profile(1, 1, 1), Profile(2, 4, 8))), force=True)
    checked = tubelet("check", bundle.path, "--backend", "tensorrt-rtx", "--precision", "fp16")
    assert checked.exit_code == 3
    with pytest.warns(RuntimeWarning, match="was outside tolerance on this GPU .*\n  fix: build another precision"):
        load(bundle.path, backend="tensorrt-rtx", precision="fp16").close()


def test_code_that_was_made_here_is_kept_for_the_next_process_and_no_other_gpu_takes_it(
    bundle: Bundle, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = bundle.path / "engines" / "rtx1.7-fp16-b1-1-1+2-4-8.sm89.code"
    for loaded in (0, 1):
        with open_backend("tensorrt-rtx", bundle, "fp16") as backend:
            backend.infer(batch(2))
        assert gpu.behaviour.code_loaded == loaded
        assert code.stat().st_mode & 0o777 == 0o600
    other = plug_in_rtx(monkeypatch, REAL, name="NVIDIA L4")
    with open_backend("tensorrt-rtx", bundle, "fp16") as backend:
        backend.infer(batch(2))
    assert other.behaviour.code_loaded == 0
    assert b"NVIDIA L4" in code.read_bytes()
    code.chmod(0o666)
    with pytest.raises(BackendError, match="can be written by other users, and an engine is a program"):
        open_backend("tensorrt-rtx", bundle, "fp16")


@pytest.mark.parametrize(
    ("name", "capability", "changes", "reason"),
    [
        ("NVIDIA H100", (9, 0), {}, "is for compute capability 7.5, 8.0, 8.6, 8.9, 12.0, 12.1"),
        ("NVIDIA L4", (8, 9), {"tensorrt_rtx": "1.6.1.120"}, "was built with TensorRT for RTX 1.6.1.120"),
        ("NVIDIA L4", (8, 9), {"graph_sha256": "0" * 64}, "was built from another version of the graph"),
    ],
)
def test_an_engine_that_does_not_serve_is_named_with_the_command_that_builds_one(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    capability: tuple[int, int],
    changes: dict[str, str],
    reason: str,
) -> None:
    (path,) = (bundle.path / "engines").glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    plug_in_rtx(monkeypatch, REAL, name=name, compute_capability=capability)
    with pytest.raises(BackendError) as caught:
        open_backend("tensorrt-rtx", bundle, "fp16")
    assert reason in caught.value.message
    assert f"no fp16 engine for {name} (compute capability {'{}.{}'.format(*capability)})" in caught.value.message
    assert caught.value.fix is not None
    assert caught.value.fix.startswith(f"tubelet build {bundle.path} --target rtx --precision fp16")


@pytest.mark.usefixtures("gpu")
def test_what_is_missing_is_named(bundle: Bundle, vivit_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match=r"has no bf16 engine .*\n  rtx1\.7-fp16-.* computes in fp16"):
        open_backend("tensorrt-rtx", bundle, "bf16")
    with pytest.raises(BackendError, match=r"no engines yet\n  fix: tubelet build .* --target rtx --precision fp32"):
        open_backend("tensorrt-rtx", Bundle.open(vivit_bundle), "fp32")
    with pytest.raises(BackendError, match="a number of CPU threads has no meaning"):
        open_backend("tensorrt-rtx", bundle, "fp16", threads=2)
    (path,) = (bundle.path / "engines").glob("*.json")
    path.write_text("{}")
    with pytest.raises(BackendError, match=r"is not the record of an engine: .* is missing\n  fix: rm "):
        open_backend("tensorrt-rtx", bundle, "fp16")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tubelet\[rtx\]'"):
        open_backend("tensorrt-rtx", bundle, "fp16")
