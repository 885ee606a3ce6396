"""The TensorRT backend and its plan files, over doubles of TensorRT and CUDA."""

import dataclasses
import gc
import json
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import cuda_double
import numpy as np
import pytest
from gpu import Gpu, plug_in
from tensorrt_double import VERSIONS, Behaviour, make_tensorrt

from tubelet.exporter.tensorrt.build import build_engine
from tubelet.preprocess.errors import BackendError, MissingExtra
from tubelet.runtime.backends import open_backend
from tubelet.runtime.backends.backend import Backend
from tubelet.runtime.backends.cuda import Cuda, MirroredArray, OutOfDeviceMemory, Stream
from tubelet.runtime.backends.timed_steps import RunsInSteps
from tubelet.runtime.backends.trt_engine import BatchPart, split_batch
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.engine_files import read_plan
from tubelet.runtime.bundle.engine_search import find_engine
from tubelet.runtime.bundle.engines import EngineOptions, EngineRecord, Profile
from tubelet.runtime.bundle.typed import typed

LATEST = VERSIONS[-1]
PROFILES = (Profile(1, 1, 1), Profile(2, 3, 4))


@pytest.fixture(scope="module")
def built(lowered_bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with an fp32 engine. Not to be changed."""
    bundle = Path(shutil.copytree(lowered_bundles["vivit"], tmp_path_factory.mktemp("built") / "bundle"))
    with pytest.MonkeyPatch.context() as patch:
        plug_in(patch, LATEST)
        build_engine(Bundle.open(bundle), EngineOptions("fp32", PROFILES))
    return bundle


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(built, tmp_path / "bundle"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return plug_in(monkeypatch, LATEST)


def clips(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(size=(count, 4, 3, 32, 32)).astype(np.float32)


def on_cpu(bundle: Bundle, batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with open_backend("onnxruntime", bundle, "fp32") as backend:
        return backend.infer(batch)


def open_engine(bundle: Bundle) -> Backend:
    return open_backend("tensorrt", bundle, "fp32")


# Running


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9, 13])
def test_batches_of_every_size(gpu: Gpu, bundle: Bundle, size: int) -> None:
    batch = clips(size)
    with open_engine(bundle) as backend:
        first = backend.infer(batch)
        again = backend.infer(batch)  # from captured graphs
        other = backend.infer(clips(size, seed=1))
    np.testing.assert_allclose(first, on_cpu(bundle, batch), atol=2e-6)
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.float32
    assert not np.shares_memory(first, again)
    assert not np.array_equal(again, other)
    assert gpu.cuda.live() == {}


def test_steps_are_told_apart_and_give_the_same(gpu: Gpu, bundle: Bundle) -> None:
    steps: list[str] = []
    with open_engine(bundle) as backend:
        assert isinstance(backend, RunsInSteps)
        in_steps = backend.infer_in_steps(clips(5), steps.append)
        np.testing.assert_array_equal(in_steps, backend.infer(clips(5)))
    assert steps == ["copy in", "execute", "copy out"] * 2  # 5 clips are a run of 4 and one of 1
    assert gpu.cuda.live() == {}


def test_sizes_may_come_in_any_order(gpu: Gpu, bundle: Bundle) -> None:
    # A graph that was captured is void once its context takes another shape: each size has its own.
    expected = on_cpu(bundle, clips(13))
    with open_engine(bundle) as backend:
        for size in (1, 4, 2, 1, 3, 4, 2, 13, 1):
            np.testing.assert_allclose(backend.infer(clips(13)[:size]), expected[:size], atol=2e-6)
    assert gpu.behaviour.contexts == 4
    assert gpu.cuda.calls["cudaStreamBeginCapture"] == 4


@pytest.mark.parametrize(
    ("clips", "profiles", "runs"),
    [
        (1, ["1:4:8"], [BatchPart(0, 1, 1)]),
        (8, ["1:4:8"], [BatchPart(0, 8, 8)]),
        (19, ["1:4:8"], [BatchPart(0, 8, 8), BatchPart(0, 8, 8), BatchPart(0, 3, 3)]),
        (3, ["1", "2:8:16", "3:3:4"], [BatchPart(2, 3, 3)]),
        (2, ["1", "4:4:8"], [BatchPart(1, 4, 2)]),
        (10, ["8"], [BatchPart(0, 8, 8), BatchPart(0, 8, 2)]),
        (1, ["4:4:4", "2:2:2"], [BatchPart(1, 2, 1)]),
    ],
)
def test_how_a_batch_is_split(clips: int, profiles: list[str], runs: list[BatchPart]) -> None:
    assert split_batch(clips, [Profile.parse(profile) for profile in profiles]) == runs


def test_padding_is_not_seen(gpu: Gpu, bundle: Bundle) -> None:
    build_engine(bundle, EngineOptions("fp32", (Profile(4, 4, 4),)), force=True)
    with open_engine(bundle) as backend:
        np.testing.assert_allclose(backend.infer(clips(6)), on_cpu(bundle, clips(6)), atol=2e-6)
    assert gpu.cuda.live() == {}


def test_a_thousand_inferences_leak_nothing(gpu: Gpu, bundle: Bundle) -> None:
    batch = clips(4)
    with open_engine(bundle) as backend:
        for size in (1, 2, 3, 4):
            backend.infer(batch[:size])
        held = gpu.cuda.live()
        allocations = gpu.cuda.calls["cudaMalloc"], gpu.cuda.calls["cudaMallocHost"], gpu.behaviour.contexts
        objects = len(gc.get_objects())
        for i in range(1000):
            backend.infer(batch[: 1 + i % 4])
        gc.collect()
        assert len(gc.get_objects()) < objects + 500
        assert gpu.cuda.live() == held == {"device": 3, "host": 2, "streams": 1, "executables": 4}
        assert allocations == (
            gpu.cuda.calls["cudaMalloc"],
            gpu.cuda.calls["cudaMallocHost"],
            gpu.behaviour.contexts,
        )
    assert gpu.cuda.live() == {}


def test_threads_have_contexts_of_their_own(gpu: Gpu, bundle: Bundle) -> None:
    batches = [clips(2, seed) for seed in range(4)]
    expected = [on_cpu(bundle, batch) for batch in batches]
    wrong: list[int] = []
    start = threading.Barrier(4)

    with open_engine(bundle) as backend:

        def work(i: int) -> None:
            start.wait()
            got = [backend.infer(batches[i]) for _ in range(20)]
            wrong.extend(i for logits in got if not np.allclose(logits, expected[i], atol=2e-6))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert 1 <= gpu.behaviour.contexts <= 4
    assert gpu.cuda.live() == {}


def test_where_capturing_fails_it_runs_without_and_says_so(gpu: Gpu, bundle: Bundle) -> None:
    gpu.behaviour.refuse_capture = True
    with open_engine(bundle) as backend:
        with pytest.warns(
            RuntimeWarning, match="a batch of 2 runs without a CUDA graph, which costs time only: CUDA's "
        ):
            first = backend.infer(clips(2))
        second = backend.infer(clips(2))
    np.testing.assert_allclose(first, on_cpu(bundle, clips(2)), atol=2e-6)
    np.testing.assert_array_equal(first, second)
    assert gpu.cuda.calls["cudaGraphLaunch"] == 0
    assert gpu.cuda.live() == {}


# Failing


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaMallocHost"])
def test_out_of_memory(gpu: Gpu, bundle: Bundle, call: str) -> None:
    with open_engine(bundle) as backend:
        gpu.cuda.failures[call] = gpu.cuda.cudaError_t.cudaErrorMemoryAllocation
        with pytest.raises(
            OutOfDeviceMemory, match=rf"CUDA's {call} failed: out of memory \(cudaErrorMemoryAllocation\)"
        ):
            backend.infer(clips(1))
        assert gpu.cuda.live() == {}
        gpu.cuda.failures.clear()
        assert backend.infer(clips(1)).shape == (1, 5)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("create_execution_context", "TensorRT gave no execution context: "),
        ("set_optimization_profile_async", "TensorRT could not take optimization profile 0: "),
        ("set_input_shape", r"TensorRT could not take pixel_values of shape \(1, 4, 3, 32, 32\): "),
        ("set_tensor_address", "TensorRT could not take the address of pixel_values: "),
        ("execute_async_v3", "TensorRT could not execute a batch of 1: "),
    ],
)
def test_whatever_tensorrt_refuses_is_named(gpu: Gpu, bundle: Bundle, method: str, message: str) -> None:
    gpu.behaviour.refused = {method}
    with open_engine(bundle) as backend:
        with pytest.raises(BackendError, match=message + "TensorRT logged no reason"):
            backend.infer(clips(1))
        gpu.behaviour.refused = ()
        assert backend.infer(clips(1)).shape == (1, 5)
    assert gpu.cuda.live() == {}


@pytest.mark.parametrize(
    ("call", "first"),
    [
        ("cudaStreamCreateWithFlags", True),
        ("cudaMemcpyAsync", True),
        ("cudaStreamSynchronize", True),
        ("cudaStreamSynchronize", False),
        ("cudaGraphLaunch", False),
    ],
)
def test_whatever_cuda_refuses_is_named(gpu: Gpu, bundle: Bundle, call: str, first: bool) -> None:
    with open_engine(bundle) as backend:
        if not first:
            backend.infer(clips(1))
        gpu.cuda.failures[call] = gpu.cuda.cudaError_t.cudaErrorIllegalAddress
        with pytest.raises(BackendError, match=f"CUDA's {call} failed: an illegal memory access was encountered"):
            backend.infer(clips(1))
        gpu.cuda.failures.clear()
        assert backend.infer(clips(1)).shape == (1, 5)
    assert gpu.cuda.live() == {}


def test_a_quarter_of_the_bytes_cross_the_bus_as_uint8(
    gpu: Gpu, lowered_bundles: dict[str, Path], tmp_path: Path
) -> None:
    moved = {}
    for family, values in (("vivit", "pixel_values"), ("videomae", "frames")):
        bundle = Bundle.open(shutil.copytree(lowered_bundles[family], tmp_path / family))
        build_engine(bundle, EngineOptions("fp32", (Profile(2, 2, 2),)))
        with open_engine(bundle) as backend:
            given = bundle.graph("fp32").inputs[0]
            batch = np.zeros((2, *map(int, given.shape[1:])), given.dtype)
            gpu.cuda.copied.clear()
            backend.infer(batch)
        moved[values] = gpu.cuda.copied["in"]
        assert set(gpu.cuda.copied["in"]) == {batch.nbytes}
        assert set(gpu.cuda.copied["out"]) == {2 * 5 * 4}
    assert moved["pixel_values"][0] == 4 * moved["frames"][0]


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 4, 3, 32, 31), np.float32),
        np.zeros((1, 4, 3, 32, 32), np.float64),
        np.zeros((0, 4, 3, 32, 32), np.float32),
    ],
)
def test_a_batch_that_does_not_fit(gpu: Gpu, bundle: Bundle, batch: np.ndarray[Any, Any]) -> None:
    with open_engine(bundle) as backend, pytest.raises(BackendError) as caught:
        backend.infer(batch)
    expected = f"the engine takes pixel_values float32 (B, 4, 3, 32, 32), got {batch.dtype} {batch.shape}"
    assert str(caught.value) == expected
    assert gpu.cuda.live() == {}


@pytest.mark.usefixtures("gpu")
def test_a_closed_backend_says_so(bundle: Bundle) -> None:
    backend = open_engine(bundle)
    backend.infer(clips(1))
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="the backend is closed"):
        backend.infer(clips(1))


def test_closing_while_an_inference_runs_lets_it_end_and_frees_everything(gpu: Gpu, bundle: Bundle) -> None:
    backend = open_engine(bundle)
    backend.infer(clips(1))
    gpu.behaviour.at_run = backend.close
    np.testing.assert_allclose(backend.infer(clips(1)), on_cpu(bundle, clips(1)), atol=2e-6)
    assert gpu.cuda.live() == {}
    with pytest.raises(BackendError, match="the backend is closed"):
        backend.infer(clips(1))


@pytest.mark.usefixtures("gpu")
def test_a_number_of_cpu_threads_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="a number of CPU threads has no meaning"):
        open_backend("tensorrt", bundle, "fp32", threads=2)


# Plan files


def change_record(bundle: Bundle, **changes: Any) -> None:
    (path,) = (bundle.path / "engines").glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_rebuild_command_builds_what_was_there() -> None:
    options = EngineOptions("fp16", (Profile(1, 1, 1), Profile(2, 4, 8)), opt_level=5, workspace_gb=0.5)
    assert options.command(Path("my bundle")) == (
        "tubelet build 'my bundle' --precision fp16 --batch 1:1:1 --batch 2:4:8 --opt-level 5 --workspace-gb 0.5"
    )


@pytest.mark.parametrize(
    ("version", "name", "capability", "here"),
    [
        (VERSIONS[0], "NVIDIA H200", (9, 0), "NVIDIA H200 (compute capability 9.0) with TensorRT 10.16.1.11"),
        (LATEST, "NVIDIA L4", (8, 9), "NVIDIA L4 (compute capability 8.9) with TensorRT 11.4.0.106"),
        (LATEST, "NVIDIA H100", (9, 0), "NVIDIA H100 (compute capability 9.0) with TensorRT 11.4.0.106"),
    ],
)
def test_another_machine_is_refused_with_the_command_that_rebuilds(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle, version: str, name: str, capability: tuple[int, int], here: str
) -> None:
    plug_in(monkeypatch, version, name=name, compute_capability=capability)
    with pytest.raises(BackendError) as caught:
        open_engine(bundle)
    assert str(caught.value) == (
        f"{bundle.path}/engines has no fp32 engine for this machine, {here}\n"
        "  sm90-trt11.4-fp32-b1-1-1+2-3-4.plan was built on NVIDIA H200 (compute capability 9.0) "
        "with TensorRT 11.4.0.106\n"
        f"  fix: tubelet build {bundle.path} --precision fp32 --batch 1:1:1 --batch 2:3:4"
    )


@pytest.mark.usefixtures("gpu")
def test_no_engine_yet(lowered_bundles: dict[str, Path]) -> None:
    bundle = Bundle.open(lowered_bundles["vivit"])
    with pytest.raises(
        BackendError, match=r"has no engines yet\n  fix: tubelet build .* --precision fp16 --batch 1:4:8"
    ):
        open_backend("tensorrt", bundle, "fp16")


@pytest.mark.usefixtures("gpu")
def test_an_engine_of_another_precision_is_named(bundle: Bundle) -> None:
    with pytest.raises(
        BackendError, match=r"\n  sm90-trt11\.4-fp32-\S+\.plan computes in fp32\n  fix: .* fp16 --batch"
    ):
        open_backend("tensorrt", bundle, "fp16")
    with pytest.raises(BackendError, match=r"tensorrt computes in fp32, tf32, .*, not in 'int3'"):
        open_backend("tensorrt", bundle, "int3")


@pytest.mark.usefixtures("gpu")
def test_an_engine_of_another_graph_is_refused(bundle: Bundle) -> None:
    change_record(bundle, graph_sha256="0" * 64)
    with pytest.raises(BackendError, match="was built from another version of the graph"):
        open_engine(bundle)


@pytest.mark.usefixtures("gpu")
def test_the_engine_that_was_built_last_is_taken(bundle: Bundle) -> None:
    latest = build_engine(bundle, EngineOptions("fp32", (Profile(1, 2, 2),)))
    found = find_engine(bundle, "fp32", latest.record.machine)
    assert (found.plan, found.built) == (latest.record.plan, latest.record.built)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda plan: plan.write_bytes(plan.read_bytes()[:-1] + b"x"), "is not the engine that was built"),
        (lambda plan: plan.unlink(), "is missing"),
        (lambda plan: plan.with_suffix(".json").write_text("{"), "is not the record of an engine"),
        (lambda plan: plan.with_suffix(".json").write_text("[]"), "is not the record of an engine"),
        (lambda plan: plan.chmod(0o620), "can be written by other users, and an engine is a program"),
        (lambda plan: plan.parent.chmod(0o777), "can be written by other users, and an engine is a program"),
        (lambda plan: plan.rename(plan.parent / "x").symlink_to(plan), "is a symbolic link"),
    ],
)
def test_a_plan_that_is_not_loaded(bundle: Bundle, damage: Any, message: str) -> None:
    (plan,) = (bundle.path / "engines").glob("*.plan")
    if "symbolic" in message:
        plan.rename(plan.parent / "elsewhere")
        plan.symlink_to("elsewhere")
    else:
        damage(plan)
    with pytest.raises(BackendError, match=message):
        open_engine(bundle)


@pytest.mark.usefixtures("gpu")
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_plan_of_another_user_is_not_loaded(bundle: Bundle) -> None:
    (plan,) = (bundle.path / "engines").glob("*.plan")
    os.chown(plan, 65534, -1)
    with pytest.raises(BackendError, match="belongs to another user, and an engine is a program"):
        open_engine(bundle)


@pytest.mark.usefixtures("gpu")
def test_a_record_cannot_name_a_file_elsewhere(bundle: Bundle) -> None:
    (path,) = (bundle.path / "engines").glob("*.json")
    record = typed(json.loads(path.read_text()), EngineRecord, path.name)
    outside = dataclasses.replace(record, plan=dataclasses.replace(record.plan, name="../model.onnx"))
    with pytest.raises(BackendError, match="is missing"):
        read_plan(bundle.path / "engines", outside)


@pytest.mark.usefixtures("gpu")
def test_tensorrt_may_refuse_a_plan_that_looks_right(bundle: Bundle) -> None:
    import hashlib

    (plan,) = (bundle.path / "engines").glob("*.plan")
    plan.write_bytes(b"TRT1")
    change_record(bundle, plan={"name": plan.name, "bytes": 4, "sha256": hashlib.sha256(b"TRT1").hexdigest()})
    with pytest.raises(BackendError, match="TensorRT cannot load the engine: Magic tag does not match"):
        open_engine(bundle)


# What is not there


def test_a_tensorrt_that_does_not_start(gpu: Gpu, bundle: Bundle) -> None:
    gpu.behaviour.does_not_start = True
    with pytest.raises(BackendError, match="TensorRT's Runtime did not start: CUDA initialization failure with error"):
        open_engine(bundle)
    with pytest.raises(BackendError, match="TensorRT's Builder did not start: CUDA initialization failure with error"):
        build_engine(bundle, EngineOptions("bf16"))


def test_without_a_gpu_cuda_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime)
    status, count = runtime.cudaGetDeviceCount()
    if status == runtime.cudaError_t.cudaSuccess and count:
        pytest.skip("there is a GPU")
    with pytest.raises(
        BackendError, match=r"CUDA's cudaSetDevice failed: .*\n  fix: run where a GPU and its driver are"
    ):
        Cuda()


def test_without_cuda_bindings_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(
        MissingExtra, match=r"cuda-bindings is not installed.*\n  fix: pip install 'tubelet\[tensorrt\]'"
    ):
        Cuda()


# The doubles themselves: what they let through would prove nothing


@pytest.mark.parametrize("version", VERSIONS)
def test_the_double_has_what_tensorrt_has_and_nothing_else(version: str, gpu: Gpu) -> None:
    trt = make_tensorrt(version, gpu.cuda, Behaviour())
    logger = trt.ILogger()
    builder = trt.Builder(logger)
    for misuse, error in (
        (lambda: trt.Builder(), TypeError),
        (lambda: trt.Builder(logger, 1), TypeError),
        (lambda: trt.Builder("logger"), TypeError),
        (lambda: builder.create_network(flag=1), TypeError),
        (lambda: builder.build_engine(1), AttributeError),
        (lambda: builder.create_builder_config().set_timing_cache(None), TypeError),
        (lambda: setattr(builder.create_builder_config(), "max_workspace_size", 1), AttributeError),
        (lambda: trt.BuilderFlag.NOTHING, AttributeError),
    ):
        with pytest.raises(error):
            misuse()
    assert hasattr(trt.BuilderFlag, "FP16") == version.startswith("10.")


def test_the_real_cuda_takes_what_the_backend_gives_it() -> None:
    """Without a GPU every call fails, but with a status: types and numbers of arguments are checked before."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    stream, graph, executable = runtime.cudaStream_t(0), runtime.cudaGraph_t(0), runtime.cudaGraphExec_t(0)
    if runtime.cudaGetDeviceCount()[0] == runtime.cudaError_t.cudaSuccess:
        pytest.skip("there is a GPU")
    calls = {
        "cudaSetDevice": (0,),
        "cudaGetDeviceProperties": (0,),
        "cudaMalloc": (16,),
        "cudaFree": (4096,),
        "cudaMallocHost": (16,),
        "cudaFreeHost": (4096,),
        "cudaStreamCreateWithFlags": (runtime.cudaStreamNonBlocking,),
        "cudaStreamSynchronize": (stream,),
        "cudaStreamDestroy": (stream,),
        "cudaMemcpyAsync": (4096, 8192, 16, runtime.cudaMemcpyKind.cudaMemcpyHostToDevice, stream),
        "cudaStreamBeginCapture": (stream, runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal),
        "cudaStreamEndCapture": (stream,),
        "cudaGraphInstantiate": (graph, 0),
        "cudaGraphLaunch": (executable, stream),
        "cudaGraphDestroy": (graph,),
        "cudaGraphExecDestroy": (executable,),
    }
    unchecked = {"cudaDriverGetVersion", "cudaGetLastError"}  # they take nothing
    assert set(calls) | unchecked == set(cuda_double._IMPLEMENTED)
    for name, arguments in calls.items():
        status, *_ = getattr(runtime, name)(*arguments)
        assert status != runtime.cudaError_t.cudaSuccess, name
        with pytest.raises(TypeError):
            getattr(runtime, name)(*arguments, None)


def test_the_double_of_cuda_sees_what_a_gpu_would(gpu: Gpu) -> None:
    cuda = Cuda()
    assert cuda.device().name == "NVIDIA H200"
    with pytest.raises(TypeError, match="takes 1 arguments"):
        cuda.call("cudaMalloc", 1, 2)
    with pytest.raises(AttributeError):
        cuda.call("cudaMallocEverything")
    stream, array = Stream(cuda), MirroredArray(cuda, (2, 3), np.dtype(np.float32))
    array.host[:] = 7
    array.queue_copy_in(2, stream)
    array.queue_copy_out(1, stream)
    array.host[:] = 0
    # Nothing has moved yet, and then only what was asked for.
    stream.wait()
    np.testing.assert_array_equal(array.host, 0)
    array.close()
    with pytest.raises(BackendError, match="cudaFree failed: invalid argument"):
        cuda.call("cudaFree", array.address)
    stream.close()
    assert gpu.cuda.live() == {}
