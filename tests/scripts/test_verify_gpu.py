"""scripts/verify_gpu.py: over the doubles it passes, where a result is wrong or no GPU is there it fails; and what it
measures with, on the CPU."""

import dataclasses
import json
import os
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gpu_timing
import numpy as np
import pytest
import torch
import verify_gpu
from checkpoints import write_checkpoint
from click.testing import CliRunner, Result
from gpu import Gpu, plug_in, plug_in_rtx
from gpu_timing import BASELINE, Failure, Subject, Timing, clips_of, goal_line, time_everything, timing_table
from onnx import ModelProto, TensorProto
from real_tensorrt import real_tensorrt
from tensorrt_double import VERSIONS

from tubelet.preprocess.errors import BackendError
from tubelet.runtime.backends import open_backend
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.limits import CosineLimit
from tubelet.runtime.precisions import PRECISIONS

COMPILE = torch.compile


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return plug_in(monkeypatch, VERSIONS[-1])


@pytest.fixture
def torch_on_cpu(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """torch's part of the script, on the CPU, with small products, and compiled without a compiler; what was asked of
    torch.compile."""
    asked = []

    def compile_eagerly(module: torch.nn.Module, **options: Any) -> Any:
        asked.append(options)
        return COMPILE(module, backend="eager", dynamic=options["dynamic"])

    monkeypatch.setattr(gpu_timing, "torch_device", lambda: "cpu")
    monkeypatch.setattr(gpu_timing, "matrix_peak", partial(gpu_timing.matrix_peak, size=64))
    monkeypatch.setattr(torch, "compile", compile_eagerly)
    return asked


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "videomae", "videomae")


@pytest.fixture
def bundle(lowered_bundles: dict[str, Path], tmp_path: Path) -> Bundle:
    """One that may get engines."""
    return Bundle.open(shutil.copytree(lowered_bundles["vivit"], tmp_path / "lowered", copy_function=os.link))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(verify_gpu.main, [str(argument) for argument in arguments])


def is_half(graph: ModelProto) -> bool:
    """The fp16 graph: weights of MatMul in float16, none in 8 bits."""
    types = {tensor.data_type for tensor in graph.graph.initializer if len(tensor.dims) == 2}
    return TensorProto.FLOAT16 in types and not types & {TensorProto.INT8, TensorProto.FLOAT8E4M3FN}


# The whole of it


@pytest.mark.usefixtures("gpu")
def test_a_checkpoint_is_exported_built_checked_and_timed_beside_torch(
    checkpoint: Path, torch_on_cpu: list[dict[str, Any]], tmp_path: Path
) -> None:
    report = tmp_path / "gpu.json"
    result = run("--model", checkpoint, "--batch", 1, "--batch", 8, "--batch", 9, "--report", report)
    assert result.exit_code == 0, result.output
    assert result.output.endswith("\nPASS\n")
    engines = [
        f"tensorrt {precision} {given}" for given in ("pixel_values", "frames") for precision in ("fp32", "fp16")
    ]
    engines += [f"tensorrt {precision} pixel_values" for precision in ("tf32", "bf16", "int8-static", "fp8")]
    for name in engines:
        assert f"pass    {name}: built in " in result.output
    for backend in ("onnxruntime-cuda fp32", "onnxruntime-cuda fp16", "onnxruntime-tensorrt fp16"):
        for given in ("pixel_values", "frames"):
            assert f"absent  {backend} {given}: this ONNX Runtime was built without" in result.output
    document = json.loads(report.read_text())
    assert document["verdict"] == "PASS"
    assert document["failures"] == []
    assert document["machine"]["packages"]["torch"] == torch.__version__
    torch_names = {"torch eager fp16", "torch sdpa fp16", BASELINE}
    rows = {(row["subject"], row["batch"]): row for row in document["timings"]}
    assert set(rows) == {(name, batch) for name in {*engines, *torch_names} for batch in (1, 8, 9)}
    for (name, batch), row in rows.items():
        assert row["cosine"] > 0.99
        assert row["clips_per_second"] == pytest.approx(1000 * batch / row["latency_ms"])
        assert row["against_baseline"] == pytest.approx(rows[BASELINE, batch]["latency_ms"] / row["latency_ms"]), name
        assert row["share_of_peak"] > 0
    assert torch_on_cpu == [{"mode": "reduce-overhead", "dynamic": False}]
    assert f"goal (1.3x {BASELINE} on Hopper): " in result.output
    assert "x at batch 1, " in result.output
    assert f"matrix peak: {document['peak_flops'] / 1e12:.4g} TFLOP/s in float16" in result.output


@pytest.mark.usefixtures("gpu")
def test_a_bundle_is_checked_and_not_changed(bundle: Bundle, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle.path, tmp_path / "bundle"))
    before = sorted(copy.iterdir())
    result = run("--bundle", copy, "--batch", 2)
    assert result.exit_code == 0, result.output
    assert "absent  torch: it is not installed, or sees no GPU" in result.output
    assert "matrix peak: not measured" in result.output
    assert "on Hopper): not measured" in result.output
    assert sorted(copy.iterdir()) == before


def test_a_gpu_without_fp8_passes_without_it(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, VERSIONS[-1], name="NVIDIA A100", compute_capability=(8, 0))
    result = run("--bundle", bundle.path, "--batch", 1)
    assert result.exit_code == 0, result.output
    assert "absent  tensorrt fp8 pixel_values: fp8 needs a GPU of compute capability 8.9" in result.output


def test_engines_for_rtx_gpus_are_built_and_checked_on_one(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in_rtx(monkeypatch, real_tensorrt())
    result = run("--bundle", bundle.path, "--batch", 1, "--batch", 9)
    assert result.exit_code == 0, result.output
    for precision in ("fp32", "tf32", "bf16", "fp16", "int8-static", "fp8"):
        assert f"pass    tensorrt-rtx {precision} pixel_values: built in " in result.output
        assert f"absent  tensorrt {precision} pixel_values: tensorrt is not installed" in result.output
    assert "absent  onnxruntime-tensorrt-rtx fp16 pixel_values: onnxruntime-ep-nv-tensorrt-rtx-cu13 is" in result.output


def test_on_hopper_the_road_of_rtx_is_absent_for_a_reason(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real = real_tensorrt()
    plug_in(monkeypatch, VERSIONS[-1])
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", real)
    result = run("--bundle", bundle.path, "--batch", 1)
    assert result.exit_code == 0, result.output
    reason = "TensorRT for RTX does not build for compute capability 9.0; it builds for 7.5, 8.0, 8.6, 8.9, 12.0, 12.1"
    assert f"absent  tensorrt-rtx fp16 pixel_values: {reason}" in result.output


@pytest.mark.usefixtures("gpu")
def test_graphs_that_the_bundle_lacks_are_absent(vivit_bundle: Path) -> None:
    result = run("--bundle", vivit_bundle, "--batch", 1)
    assert result.exit_code == 0, result.output
    assert "absent  tensorrt fp16 pixel_values: the bundle has no fp16 graph\n  fix: tubelet quantize " in result.output
    assert "pass    tensorrt bf16 pixel_values" in result.output


def test_one_wrong_engine_fails_and_the_others_are_timed(gpu: Gpu, bundle: Bundle) -> None:
    gpu.behaviour.wrong = is_half
    result = run("--bundle", bundle.path, "--batch", 1)
    assert result.exit_code == 1
    assert result.output.endswith("\nFAIL: tensorrt fp16 pixel_values\n")
    assert "fail    tensorrt fp16 pixel_values: no engine computes what torch computed" in result.output
    assert "pass    tensorrt fp32 pixel_values: built in " in result.output
    (row,) = (line for line in result.output.splitlines() if line.startswith("tensorrt fp32"))
    assert row.split()[3] == "1"


def test_every_engine_wrong_is_no_gpu_backend(gpu: Gpu, bundle: Bundle) -> None:
    gpu.behaviour.wrong = lambda _: True
    result = run("--bundle", bundle.path)
    assert result.exit_code == 1
    assert result.output.endswith("\nFAIL: no GPU backend could run here\n")


def test_an_error_that_nobody_thought_of_fails_that_check_alone(
    gpu: Gpu, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = gpu.tensorrt.Builder.create_builder_config

    def create_once(_: Any) -> Any:
        monkeypatch.setattr(gpu.tensorrt.Builder, "create_builder_config", create)
        raise RuntimeError("Unable to cast Python instance")

    monkeypatch.setattr(gpu.tensorrt.Builder, "create_builder_config", create_once)
    result = run("--bundle", bundle.path, "--batch", 1)
    assert result.exit_code == 1
    assert result.output.endswith("\nFAIL: tensorrt fp32 pixel_values\n")
    assert "RuntimeError: Unable to cast Python instance" in result.output
    assert "pass    tensorrt fp16 pixel_values" in result.output


def test_without_a_gpu_it_fails_and_says_what_is_absent(bundle: Bundle) -> None:
    result = run("--bundle", bundle.path)
    assert result.exit_code == 1
    assert "absent  tensorrt fp32 pixel_values: tensorrt is not installed" in result.output
    assert result.output.endswith("\nFAIL: no GPU backend could run here\n")


@pytest.mark.usefixtures("gpu")
def test_torch_that_does_not_start_is_said_and_no_fault_of_the_engines(
    checkpoint: Path, bundle: Bundle, torch_on_cpu: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(verify_gpu, "export_forms", lambda *_: iter([bundle]))  # which is not what this is about
    monkeypatch.setattr(verify_gpu, "torch_baselines", out_of_memory)
    result = run("--model", checkpoint, "--batch", 1)
    assert result.exit_code == 0, result.output
    assert "fail    torch: " in result.output
    assert "CUDA out of memory" in result.output
    assert torch_on_cpu == []


@pytest.mark.usefixtures("gpu", "torch_on_cpu")
def test_a_model_that_8_bits_do_not_suit_is_verified_without(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRECISIONS, "fp8", replace(PRECISIONS["fp8"], limit=CosineLimit(1 - 1e-12)))
    result = run("--model", checkpoint, "--batch", 1)
    assert result.exit_code == 0, result.output
    assert "the fp8 graph does not compute what torch computes" in result.output
    assert "absent  tensorrt fp8 pixel_values: the bundle has no fp8 graph" in result.output
    assert "pass    tensorrt int8-static pixel_values" in result.output


def test_an_engine_that_does_not_load_beside_the_others_fails(
    gpu: Gpu, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    open_one = open_backend

    def open_twice(backend: str, bundle: Bundle, precision: str) -> Any:
        opened.append(f"{backend} {precision}")
        if opened.count("tensorrt fp16") == 2 and opened[-1] == "tensorrt fp16":
            gpu.cuda.failures["cudaSetDevice"] = gpu.cuda.cudaError_t.cudaErrorMemoryAllocation
        try:
            return open_one(backend, bundle, precision)
        finally:
            gpu.cuda.failures.clear()

    monkeypatch.setattr(verify_gpu, "open_backend", open_twice)
    result = run("--bundle", bundle.path, "--batch", 1)
    assert result.exit_code == 1
    assert result.output.endswith("\nFAIL: tensorrt fp16 pixel_values, loaded beside the others\n")
    assert "CUDA's cudaSetDevice failed: out of memory" in result.output
    assert "\ntensorrt fp32 pixel_values   " in result.output


def test_one_of_model_and_bundle() -> None:
    assert run().exit_code == 2
    assert run("--bundle", "no/such/bundle").exit_code == 1


# What it measures with


def subject(bundle: Bundle, name: str, infer: Any, precision: str = "fp32") -> Subject:
    return Subject(name, precision, bundle, infer)


def test_what_is_wrong_or_fails_at_one_batch_size_is_left_out_there(bundle: Bundle) -> None:
    with open_backend("onnxruntime", bundle, "fp32") as backend:

        def wrong_at_9(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return backend.infer(batch)[::-1] if len(batch) == 9 else backend.infer(batch)

        def out_of_memory_at_4(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            if len(batch) == 4:
                raise BackendError("out of memory")
            return backend.infer(batch)

        subjects = [
            subject(bundle, "good", backend.infer),
            subject(bundle, "wrong", wrong_at_9),
            subject(bundle, "large", out_of_memory_at_4),
        ]
        timings, failures = time_everything(subjects, (4, 9), peak=None)
    assert {(row.subject, row.batch) for row in timings} == {("good", 4), ("good", 9), ("wrong", 4), ("large", 9)}
    assert [(one.subject, one.batch) for one in failures] == [("large", 4), ("wrong", 9)]
    assert failures[0].reason == "BackendError: out of memory"
    assert failures[1].reason.startswith("its logits are outside 0.0001 + 0.0001 x |torch|, top-5 equal: cosine ")
    assert verify_gpu.verdict([verify_gpu.Check("good", "pass", "")], failures) == (
        "FAIL: large at batch 4, wrong at batch 9"
    )


def test_the_share_of_the_peak_is_counted_from_the_products_of_the_bundle(bundle: Bundle) -> None:
    with open_backend("onnxruntime", bundle, "fp32") as backend:
        (row,), _ = time_everything([subject(bundle, "one", backend.infer)], (3,), peak=2e9)
    flop = 2 * sum(product.macs for product in bundle.products) * 3
    assert row.share_of_peak == pytest.approx(flop / (row.latency_ms / 1000) / 2e9)
    assert row.against_baseline is None


def test_clips_are_those_that_the_logits_are_compared_with(bundle: Bundle) -> None:
    batch = clips_of(bundle, 6)
    np.testing.assert_array_equal(batch[0], batch[4])  # there are four
    assert not np.array_equal(batch[0], batch[1])


def test_the_peak_is_the_rate_of_the_best_of_several_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    products: list[tuple[torch.Tensor, torch.Tensor]] = []
    matmul = torch.matmul
    monkeypatch.setattr(torch, "matmul", lambda *given: products.append(given) or matmul(*given))
    times = iter([0.5, 0.25, *[1.0] * 8])
    monkeypatch.setattr(gpu_timing, "seconds", lambda run: run() or next(times))
    assert gpu_timing.matrix_peak("cpu", size=64) == 2 * 64**3 * 10 / 0.25
    assert len(products) == 11 * 10
    assert {(given.shape, given.dtype) for pair in products for given in pair} == {((64, 64), torch.float16)}


@pytest.mark.parametrize("family", ["vivit", "videomae"])
def test_torch_in_half_precision_computes_what_torch_computed(
    family: str, vivit_bundle: Path, plain_bundle: Path, torch_on_cpu: list[dict[str, Any]]
) -> None:
    path = {"vivit": vivit_bundle, "videomae": plain_bundle}[family]
    bundle = Bundle.open(path)
    subjects = gpu_timing.torch_baselines(str(path.parent / family), bundle, "cpu")
    assert [one.name for one in subjects] == ["torch eager fp16", "torch sdpa fp16", BASELINE]
    timings, failures = time_everything(subjects, (1, 2, 3), peak=None)
    assert failures == []
    assert len(timings) == 9
    assert len(torch_on_cpu) == 1
    broken = dataclasses.replace(subjects[0], infer=lambda batch: subjects[0].infer(batch[:, :1]))
    _, (failure,) = time_everything([broken], (1,), peak=None)
    assert failure.reason.startswith("ValueError: pixel_values must be (B, 4, 3, 32, 32)")


def timing(name: str, batch: int, against: float | None) -> Timing:
    return Timing(name, batch, 1.0, 1.0, against, 0.5, 0.99999)


def test_the_goal_is_of_engines_in_fp16_at_batches_1_and_8() -> None:
    rows = [
        timing("tensorrt fp16 frames", 1, 1.5),
        timing("tensorrt fp32 frames", 1, 9.0),
        timing("torch sdpa fp16", 1, 8.0),
        timing("onnxruntime-cuda fp16 pixel_values", 8, 1.25),
        timing("tensorrt fp16 frames", 8, 1.1),
    ]
    assert goal_line(rows) == f"goal (1.3x {BASELINE} on Hopper): 1.50x at batch 1, 1.25x at batch 8"
    assert goal_line(rows[:3]).endswith("not measured")
    assert goal_line([timing("tensorrt fp16 frames", batch, None) for batch in (1, 8)]).endswith("not measured")


def test_the_table_shows_what_was_not_measured_as_such() -> None:
    table = timing_table([Timing("tensorrt fp16 frames", 8, 12.5, 640.0, None, None, 0.99999)])
    assert table.splitlines()[1].split() == ["tensorrt", "fp16", "frames", "8", "12.50", "640.0", "-", "-", "0.999990"]


def test_failures_of_torch_are_no_failure_of_the_engines() -> None:
    good = [verify_gpu.Check("tensorrt fp16", "pass", "")]
    assert verify_gpu.verdict(good, [Failure("torch eager fp16", 32, "out of memory")]) == "PASS"
    assert verify_gpu.verdict([], []) == "FAIL: no GPU backend could run here"
