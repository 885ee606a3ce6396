"""Providers of ONNX Runtime that are packages of their own: real plugins, each in a process of its own, and the checks
around them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tubelet.preprocess.errors import BackendError, MissingExtra
from tubelet.runtime.backends import open_backend, ort_plugin, ort_rtx
from tubelet.runtime.backends.ort_plugin import Plugin, register, require_only
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.files import TensorInfo

SUPPORT = Path(__file__).parents[2] / "support"
ORACLES = Path(sys.prefix) / "oracles"
RTX = "NvTensorRTRTXExecutionProvider"


def ask(name: str, bundle: Path) -> dict[str, Any]:
    folder = ORACLES / f"onnxruntime-{name}"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}: python scripts/install_oracles.py onnxruntime-{name}")
    asked = subprocess.run(
        [sys.executable, SUPPORT / "plugin_process.py", name, bundle],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    answer: dict[str, Any] = json.loads(asked.stdout.splitlines()[-1])
    return answer


def test_the_real_plugin_of_rtx_is_an_error_where_there_is_no_gpu(vivit_bundle: Path) -> None:
    answer = ask("rtx", vivit_bundle)
    if answer["ran_on"] is not None:
        assert answer["ran_on"] == [RTX]
        return
    if answer["devices"] is None:  # there is no driver
        assert answer["error"].startswith(f"ONNX Runtime cannot load {RTX}: ")
        assert "libcuda.so.1: cannot open shared object file" in answer["error"]
    else:
        assert answer["devices"] == 0
        assert answer["error"].startswith(f"{RTX} finds no device here that it supports: ")
    assert "RTX GPU" in answer["fix"]


def test_a_real_plugin_runs_the_whole_graph_or_is_an_error(vivit_bundle: Path) -> None:
    # OpenVINO's, which loads everywhere, has a device on CPUs of Intel, and none on others.
    answer = ask("openvino", vivit_bundle)
    if answer["devices"] == 0:
        expected = "OpenVINOExecutionProvider finds no device here that it supports: "
        assert answer["error"].startswith(expected)
        assert answer["error"].endswith("Must provide one or more OrtEpDevice instances.")
    elif answer["error"] is None:
        assert answer["ran_on"] == ["OpenVINOExecutionProvider"]
        clip = np.random.default_rng(0).normal(size=(1, 4, 3, 32, 32)).astype(np.float32)
        with open_backend("onnxruntime", Bundle.open(vivit_bundle), "fp32") as backend:
            np.testing.assert_allclose(answer["logits"], backend.infer(clip), atol=1e-3)
    else:  # it takes a part of the graph, and the rest may not go to the CPU
        assert "ONNX Runtime could not load the graph on OpenVINOExecutionProvider" in answer["error"]


def test_what_ran_elsewhere_is_seen_in_the_assignment(vivit_bundle: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(str(vivit_bundle / "model.onnx"), options)
    assigned = session.get_provider_graph_assignment_info()
    require_only(assigned, "CPUExecutionProvider")
    with pytest.raises(
        BackendError, match=rf"{RTX} was asked for the whole graph; .* \d+ nodes to CPUExecutionProvider"
    ):
        require_only(assigned, RTX)
    with pytest.raises(BackendError, match="gave nothing to any"):
        require_only([], RTX)


def plug_in(monkeypatch: pytest.MonkeyPatch, library: Path) -> Plugin:
    module = ModuleType("some_plugin")
    module.get_library_path = lambda: str(library)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some_plugin", module)
    return Plugin("some_plugin", f"Provider{library.name}", "rtx-ort", fix="a driver")


def test_a_library_that_does_not_load_is_an_error_with_onnx_runtimes_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "libbroken.so"
    broken.write_bytes(b"no library")
    with pytest.raises(
        BackendError, match=r"cannot load Providerlibbroken\.so: .*(invalid ELF|too short|not a mach-o)"
    ):
        register(plug_in(monkeypatch, broken))
    with pytest.raises(BackendError, match=r"cannot load Providerabsent\.so: .*absent\.so.*\n  fix: a driver"):
        register(plug_in(monkeypatch, tmp_path / "absent.so"))


def test_without_the_plugin_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tensorrt_rtx", "onnxruntime_ep_nv_tensorrt_rtx"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tubelet\[rtx-ort\]'"):
        ort_rtx.rtx_devices()


def test_beside_tensorrt_for_rtx_it_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", ModuleType("tensorrt_rtx"))
    with pytest.raises(BackendError, match="cannot be loaded beside TensorRT for RTX itself"):
        ort_rtx.rtx_devices()


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, str], int | None]]:
    """Sessions on the CPU in the place of those on a GPU: the options and the fixed batch of each."""
    opened: list[tuple[dict[str, str], int | None]] = []

    def open_session(graph: Any, plugin: Plugin, options: dict[str, str], *, batch: int | None = None) -> Any:
        assert plugin is ort_rtx.RTX_PLUGIN
        opened.append((options, batch))
        session_options = onnxruntime.SessionOptions()
        if batch is not None:
            session_options.add_free_dimension_override_by_name(ort_plugin.BATCH, batch)
        return onnxruntime.InferenceSession(str(graph), session_options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort_rtx, "open_plugin_session", open_session)
    monkeypatch.setattr(ort_rtx, "rtx_devices", lambda: ["a GPU"])
    return opened


def test_batches_of_every_size_and_a_cuda_graph_for_one_clip(
    lowered_bundles: dict[str, Path], tmp_path: Path, sessions: list[tuple[dict[str, str], int | None]]
) -> None:
    (tmp_path / "bundle").mkdir()
    for file in lowered_bundles["vivit"].iterdir():
        os.link(file, tmp_path / "bundle" / file.name)
    bundle = Bundle.open(tmp_path / "bundle")
    with (
        open_backend("onnxruntime", bundle, "fp16") as expected,
        open_backend("onnxruntime-tensorrt-rtx", bundle, "fp16") as backend,
    ):
        for size in (1, 3, 8, 9, 1):
            clips = np.random.default_rng(size).normal(size=(size, 4, 3, 32, 32)).astype(np.float32)
            np.testing.assert_allclose(backend.infer(clips), expected.infer(clips), atol=0.02)
        with pytest.raises(BackendError, match="must hold a clip"):
            backend.infer(clips[:0])
        with pytest.raises(BackendError, match="failed on a batch of float64"):
            backend.infer(clips.astype(np.float64))
    (any_size, none), (single, one) = sessions
    assert (none, one) == (None, 1)
    folder = bundle.path / "engines" / "onnxruntime-rtx-fp16"
    assert any_size == {
        "nv_runtime_cache_path": str(folder),
        "nv_profile_min_shapes": "pixel_values:1x4x3x32x32",
        "nv_profile_opt_shapes": "pixel_values:4x4x3x32x32",
        "nv_profile_max_shapes": "pixel_values:8x4x3x32x32",
    }
    assert single == {
        "nv_runtime_cache_path": str(folder),
        "enable_cuda_graph": "1",
        **dict.fromkeys(
            ("nv_profile_min_shapes", "nv_profile_opt_shapes", "nv_profile_max_shapes"), "pixel_values:1x4x3x32x32"
        ),
    }
    assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(BackendError, match="closed"):
        backend.infer(clips)
    folder.chmod(0o777)
    with pytest.raises(BackendError, match="can be written by other users"):
        open_backend("onnxruntime-tensorrt-rtx", bundle, "fp16")
    with pytest.raises(BackendError, match="a number of CPU threads has no meaning"):
        open_backend("onnxruntime-tensorrt-rtx", bundle, "fp16", threads=2)


def test_options_are_those_of_the_providers_own_header() -> None:
    folder = ORACLES / "onnxruntime-rtx"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}: python scripts/install_oracles.py onnxruntime-rtx")
    header = (folder / "onnxruntime_ep_nv_tensorrt_rtx" / "tensorrt_rtx_provider_options.h").read_text()
    given = TensorInfo("pixel_values", "float32", ("batch", 4, 3, 32, 32))
    for option in ("nv_runtime_cache_path", *ort_rtx.profile_options(given, 1)):
        assert f'"{option}"' in header
