"""ONNX Runtime's GPU providers, as far as a machine without a GPU shows them: bound buffers, really, on the CPU; which
provider was given; and what is refused."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from gpu import plug_in
from tensorrt_double import VERSIONS

from tubelet.preprocess.errors import BackendError, NotAvailable, OutOfMemory
from tubelet.runtime import doctor
from tubelet.runtime.backends import open_backend, ort_cuda
from tubelet.runtime.backends.ort import CPU_PROVIDER, open_session
from tubelet.runtime.backends.ort_cuda import CUDA_PROVIDER, TENSORRT_PROVIDER, BoundSession, open_gpu_session
from tubelet.runtime.bundle.bundle import Bundle


def clips(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(size=(count, 4, 3, 32, 32)).astype(np.float32)


@pytest.fixture
def graph(vivit_bundle: Path) -> Path:
    return vivit_bundle / "model.onnx"


def test_bound_buffers_run_graphs_of_one_output_and_no_others(graph: Path, attentive_bundle: Path) -> None:
    with BoundSession(open_session(graph, CPU_PROVIDER), device="cpu") as bound:
        found = bound.run({"pixel_values": clips(2)})
        np.testing.assert_array_equal(found["logits"], bound.infer(clips(2)))
    several = open_session(attentive_bundle / "model.onnx", CPU_PROVIDER)
    with BoundSession(several, device="cpu") as bound, pytest.raises(BackendError, match="runs graphs of one input"):
        bound.run({"pixel_values": clips(2)})


@pytest.mark.parametrize("largest", [None, 2])
def test_bound_buffers_give_what_the_session_gives(graph: Path, largest: int | None) -> None:
    session = open_session(graph, CPU_PROVIDER)
    with BoundSession(open_session(graph, CPU_PROVIDER), device="cpu", capture=True, largest=largest) as bound:
        kept = []
        for size in (1, 3, 2, 5, 3, 1):
            batch = clips(size, seed=size)
            (expected,) = session.run(None, {"pixel_values": batch})
            got = bound.infer(batch)
            np.testing.assert_allclose(got, expected, atol=2e-6)
            kept.append((got, got.copy()))
    assert all(np.array_equal(got, copy) for got, copy in kept)  # the caller owns them
    with pytest.raises(BackendError, match="the backend is closed"):
        bound.infer(clips(1))


def test_buffers_are_bound_once_for_each_size(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_session(graph, CPU_PROVIDER)
    bound = BoundSession(session, device="cpu")
    made = []
    io_binding = session.io_binding
    monkeypatch.setattr(session, "io_binding", lambda: made.append(1) or io_binding())
    for size in (1, 2, 1, 2, 1):
        bound.infer(clips(size))
    assert len(made) == 2


@pytest.mark.parametrize("batch", [clips(1)[:, :3], clips(1).astype(np.float64), clips(0)])
def test_a_batch_that_does_not_fit(graph: Path, batch: np.ndarray[Any, Any]) -> None:
    bound = BoundSession(open_session(graph, CPU_PROVIDER), device="cpu")
    with pytest.raises(BackendError, match=r"the graph takes pixel_values float32 \(B, 4, 3, 32, 32\), got float"):
        bound.infer(batch)


def test_too_little_memory_of_the_host_is_said_as_on_the_cpu(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_session(graph, CPU_PROVIDER)

    def run_out(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("std::bad_alloc")

    monkeypatch.setattr(session, "run_with_iobinding", run_out)
    with pytest.raises(OutOfMemory), BoundSession(session, device="cpu") as bound:
        bound.infer(clips(1))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA_PROVIDER, CPU_PROVIDER])
    monkeypatch.setattr(onnxruntime, "InferenceSession", run_out)
    with pytest.raises(OutOfMemory):
        open_gpu_session(graph, [(CUDA_PROVIDER, {})])


@pytest.mark.skipif(CUDA_PROVIDER in onnxruntime.get_available_providers(), reason="this ONNX Runtime is for GPUs")
@pytest.mark.parametrize(
    ("backend", "provider"),
    [("onnxruntime-cuda", CUDA_PROVIDER), ("onnxruntime-tensorrt", TENSORRT_PROVIDER)],
)
def test_an_onnx_runtime_for_cpus_is_refused(backend: str, provider: str, lowered_bundles: dict[str, Path]) -> None:
    with pytest.raises(BackendError, match=rf"was built without {provider}\n  fix: .* pip install 'tubelet\[gpu\]'"):
        open_backend(backend, Bundle.open(lowered_bundles["vivit"]), "fp16")


def test_a_provider_that_is_dropped_without_a_word_is_noticed(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # ONNX Runtime lists what it was built with, and drops what cannot be loaded.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA_PROVIDER, CPU_PROVIDER])
    with (
        pytest.warns(UserWarning, match="is not in available provider names"),
        pytest.raises(BackendError, match=rf"(?s){CUDA_PROVIDER}.*"),
    ):
        open_gpu_session(graph, [(CUDA_PROVIDER, {})])


def test_what_preloading_prints_goes_into_the_error_and_not_to_stdout(
    graph: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session = onnxruntime.InferenceSession(str(graph), providers=[CPU_PROVIDER])
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA_PROVIDER, CPU_PROVIDER])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcublasLt.so.13: no such file"))
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: session)
    with pytest.raises(BackendError) as caught:
        open_gpu_session(graph, [(CUDA_PROVIDER, {})])
    assert str(caught.value) == (
        f"{CUDA_PROVIDER} was requested, ONNX Runtime gave {CPU_PROVIDER}\n"
        "  Failed to load libcublasLt.so.13: no such file\n"
        "  fix: pip install 'tubelet[gpu]' brings CUDA's libraries, the system the driver; "
        "ONNX Runtime's log names what lacks"
    )
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("version", "said"), [(None, "and it is not installed: "), (VERSIONS[-1], f"and {VERSIONS[-1]} is installed: ")]
)
def test_the_tensorrt_provider_needs_tensorrt_10(
    lowered_bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, said: str
) -> None:
    if version is None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
    else:
        plug_in(monkeypatch, version)
    bundle = Bundle.open(shutil.copytree(lowered_bundles["vivit"], tmp_path / "bundle"))
    dropped = BackendError(f"{TENSORRT_PROVIDER} was requested, ONNX Runtime gave {CPU_PROVIDER}")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT_PROVIDER, CPU_PROVIDER])
    monkeypatch.setattr(ort_cuda, "open_gpu_session", lambda *_: (_ for _ in ()).throw(dropped))
    with pytest.raises(NotAvailable, match=f"links to TensorRT 10, {said}.*(?s:.*)fix: pip install 'tensorrt<11'"):
        open_backend("onnxruntime-tensorrt", bundle, "fp16")
    plug_in(monkeypatch, VERSIONS[0])  # with the right one, the reason is another
    with pytest.raises(BackendError) as caught:
        open_backend("onnxruntime-tensorrt", bundle, "fp16")
    assert caught.value is dropped


def test_tensorrt_is_in_the_process_before_its_provider_starts(
    lowered_bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The provider's library names libnvinfer.so.10, which lies in a folder of Python's packages.
    order: list[str] = []
    bundle = Bundle.open(shutil.copytree(lowered_bundles["vivit"], tmp_path / "bundle"))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT_PROVIDER])
    monkeypatch.setattr(ort_cuda, "DEVICE", "cpu")
    monkeypatch.setattr(ort_cuda, "load_tensorrt", lambda: order.append("tensorrt"))
    monkeypatch.setattr(
        ort_cuda, "open_gpu_session", lambda path, _: order.append("session") or open_session(Path(path), CPU_PROVIDER)
    )
    open_backend("onnxruntime-tensorrt", bundle, "fp16").close()
    assert order == ["tensorrt", "session"]


def test_doctor_starts_gpu_providers_as_backends_do(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not by a plain session, which finds neither CUDA's libraries in Python's packages nor TensorRT's.
    started: list[str] = []

    def start(_: bytes, providers: list[tuple[str, dict[str, str]]]) -> None:
        started.append(providers[0][0])
        if providers[0][0] == TENSORRT_PROVIDER:
            raise BackendError("libnvinfer.so.10 is missing")

    every = [TENSORRT_PROVIDER, CUDA_PROVIDER, CPU_PROVIDER]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: every)
    monkeypatch.setattr(doctor, "open_gpu_session", start)
    tensorrt = plug_in(monkeypatch, VERSIONS[-1]).tensorrt
    monkeypatch.setattr(doctor, "load_tensorrt", lambda: started.append("tensorrt") or tensorrt)
    found = {provider.name: provider.error for provider in doctor.examine().providers}
    assert found == {TENSORRT_PROVIDER: "libnvinfer.so.10 is missing", CUDA_PROVIDER: None, CPU_PROVIDER: None}
    assert started == ["tensorrt", TENSORRT_PROVIDER, CUDA_PROVIDER]


def test_without_cuda_graphs_it_runs_and_says_so(vivit_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def start(graph: str, providers: list[tuple[str, dict[str, str]]]) -> Any:
        asked.append(providers)
        if providers[0][1].get("enable_cuda_graph"):
            raise BackendError("not all nodes are on the GPU")
        return open_session(Path(graph), CPU_PROVIDER)

    monkeypatch.setattr(ort_cuda, "open_gpu_session", start)
    with pytest.warns(RuntimeWarning, match="runs without CUDA graphs, which costs time only: not all nodes"):
        open_backend("onnxruntime-cuda", Bundle.open(vivit_bundle), "fp32")
    assert [options["use_tf32"] for ((_, options),) in asked] == ["0", "0"]


def test_the_tensorrt_provider_keeps_its_engines_to_the_user(
    lowered_bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bundle").mkdir()
    for file in lowered_bundles["videomae"].iterdir():
        os.link(file, tmp_path / "bundle" / file.name)
    bundle = Bundle.open(tmp_path / "bundle")
    asked = []

    def start(graph: str, providers: list[tuple[str, dict[str, str]]]) -> Any:
        asked.extend(providers)
        return open_session(Path(graph), CPU_PROVIDER)

    monkeypatch.setattr(ort_cuda, "open_gpu_session", start)
    monkeypatch.setattr(ort_cuda, "DEVICE", "cpu")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT_PROVIDER])
    ran = []
    infer = BoundSession.infer
    monkeypatch.setattr(BoundSession, "infer", lambda self, batch: ran.append(batch.shape) or infer(self, batch))
    with open_backend("onnxruntime-tensorrt", bundle, "fp16") as backend:
        # The range of batch sizes that its engines are built for, before anybody waits.
        assert ran == [(8, 4, 32, 32, 3), (1, 4, 32, 32, 3)]
        with open_backend("onnxruntime", bundle, "fp16") as expected:
            batch = np.random.default_rng(0).integers(0, 256, (11, 4, 32, 32, 3), dtype=np.uint8)
            np.testing.assert_allclose(backend.infer(batch), expected.infer(batch), atol=2e-3)
    assert [name for name, _ in asked] == [TENSORRT_PROVIDER, CUDA_PROVIDER]
    options = asked[0][1]
    assert options["trt_engine_cache_path"] == str(bundle.path / "engines")
    assert not any("profile" in option for option in options)  # see open_onnxruntime_tensorrt
    (bundle.path / "engines").chmod(0o777)
    with pytest.raises(BackendError, match="can be written by other users"):
        open_backend("onnxruntime-tensorrt", bundle, "fp16")


@pytest.mark.parametrize(
    ("backend", "precision", "message"),
    [
        ("onnxruntime-cuda", "int8", "onnxruntime-cuda computes in fp32, fp16, not in 'int8'"),
        ("onnxruntime-tensorrt", "fp32", "onnxruntime-tensorrt computes in fp16, not in 'fp32'"),
    ],
)
def test_precisions_that_a_provider_does_not_compute_in(
    vivit_bundle: Path, backend: str, precision: str, message: str
) -> None:
    with pytest.raises(BackendError, match=message):
        open_backend(backend, Bundle.open(vivit_bundle), precision)


@pytest.mark.parametrize("backend", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_number_of_cpu_threads_is_refused(vivit_bundle: Path, backend: str) -> None:
    with pytest.raises(BackendError, match="a number of CPU threads has no meaning"):
        open_backend(backend, Bundle.open(vivit_bundle), "fp16", threads=2)
