"""tubelet bench: real processes on tiny models, what they report, and how they end."""

import dataclasses
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from checkpoints import build, tiny_config, write_checkpoint
from click.testing import CliRunner, Result
from torch.utils.flop_counter import FlopCounterMode

from tubelet.bench import process, worker
from tubelet.bench import subject as subject_process
from tubelet.bench.baselines import BASELINES, is_made
from tubelet.bench.bench import bench_bundle, checkpoint_for_torch
from tubelet.bench.gemm import heaviest_shapes
from tubelet.bench.machine import peak_memory_mb
from tubelet.bench.measure import smallest_cosine, write_inputs
from tubelet.bench.peer import CONVERTS, load_peer
from tubelet.bench.report import LatencyReport
from tubelet.bench.worker import Settings, load_backend, stage_times
from tubelet.cli.tree import main
from tubelet.exporter.families.attention import attend_with, eager_attention, sdpa_attention
from tubelet.exporter.graph.cost import matrix_products
from tubelet.exporter.graph.tasks import exported_model
from tubelet.preprocess.errors import BackendError, BundleError, CheckpointError, MissingExtra
from tubelet.runtime.backends import BACKENDS, ON_CPU, Backend, open_backend
from tubelet.runtime.backends.ort import CPU_PROVIDER, open_session
from tubelet.runtime.backends.ort_cuda import BoundSession
from tubelet.runtime.backends.product_graph import product_graph, quantized_product_graph
from tubelet.runtime.backends.timed_steps import RunsInSteps
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.files import MatrixProduct
from tubelet.runtime.precisions import BackendName, graphs_for

FAMILIES = ("vivit", "videomae")
QUICK = ["--rounds", "3", "--starts", "1", "--threads", "1"]


def tubelet(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tubelet")


@pytest.fixture(scope="module")
def benched(videomae_bundle: Path, video: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One bench of a graph that takes frames, beside two baselines in torch, on a video, with a page."""
    folder = tmp_path_factory.mktemp("bench")
    checkpoint = write_checkpoint(folder / "videomae", "videomae")  # the one that the bundle was exported from
    page = folder / "bench.html"
    against = ["--against", "torch-transformers", "--against", "torch", "--model", checkpoint]
    result = tubelet("bench", videomae_bundle, *against, "--video", video, "--report", page, "--json", *QUICK)
    assert result.exit_code == 0, result.output
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_every_subject_is_measured_in_every_round(benched: dict[str, Any]) -> None:
    measurements = benched["measurements"]
    assert [one["name"] for one in measurements] == ["onnxruntime fp32", "torch-transformers", "torch-sdpa"]
    for one in measurements:
        assert len(one["rounds_ms"]) == 3
        assert 0 < one["latency_ms"]["p50"] <= one["latency_ms"]["p99"] <= one["latency_ms"]["largest"]
        assert 0 < one["load_ms"][0] < one["cold_start_ms"][0]
        assert list(one["stages_ms"]) == ["decode", "prepare", "execute", "rank"]
        # The reference clips were run, and by what they were recorded with.
        assert one["cosine"] == pytest.approx(1, abs=1e-9)
    graph, theirs, sdpa = measurements
    assert graph["peak_memory_mb"] < min(theirs["peak_memory_mb"], sdpa["peak_memory_mb"])  # it has no torch to load


def test_the_first_against_is_the_baseline(benched: dict[str, Any]) -> None:
    assert benched["baseline"] == "torch-transformers"
    assert [one["subject"]["engine"] for one in benched["comparisons"]] == ["onnxruntime", "torch-sdpa"]


def test_the_limit_of_the_machine_is_measured(benched: dict[str, Any]) -> None:
    rates = {(rate["engine"], rate["precision"]): rate["gflops"] for rate in benched["limits"]}
    assert {("numpy", "fp32"), ("onnxruntime", "fp32"), ("onnxruntime", "int8")} <= set(rates)
    assert all(rate > 0 for rate in rates.values())


def against(baseline: str, bundle: Path, folder: Path, batches: tuple[int, ...] = (1,)) -> LatencyReport:
    """A bench of one baseline and nothing else, on the checkpoint that the bundle was exported from."""
    checkpoint = write_checkpoint(folder / "vivit", "vivit")
    return bench_bundle(
        Bundle.open(bundle),
        [],
        against=[baseline],
        batches=batches,
        rounds=3,
        starts=1,
        threads=1,
        model=str(checkpoint),
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile needs a C++ compiler on a CPU"
)
def test_what_torch_compiles_is_a_baseline_too(
    vivit_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(cache))
    (one,) = against("torch-compiled", vivit_bundle, tmp_path).measurements
    assert one.cosine == pytest.approx(1, abs=1e-9)
    assert list(cache.rglob("*.cpp"))  # it was compiled, and not run as it stands


PEERS = [name for name in BASELINES if is_made(name)]


def test_every_peer_has_its_converter() -> None:
    assert set(CONVERTS) == set(PEERS)


def test_what_another_tool_makes_is_compared_with(vivit_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    (one,) = against("openvino-convert", vivit_bundle, tmp_path, (3,)).measurements
    assert one.cosine == pytest.approx(1, abs=1e-9)
    assert one.subject.batch == 3


def test_a_peer_that_cannot_convert_says_why(
    vivit_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("an operator that it lacks")

    monkeypatch.setitem(CONVERTS, "openvino-convert", fail)
    settings = Settings(
        engine="openvino-convert",
        precision="fp32",
        batch=1,
        threads=1,
        bundle=str(vivit_bundle),
        inputs="",
        video=None,
        model=str(write_checkpoint(tmp_path / "vivit", "vivit")),
        made=str(tmp_path / "made.xml"),
    )
    with pytest.raises(BackendError, match=r"openvino-convert cannot convert .*: 'an operator that it lacks'"):
        load_peer(dataclasses.asdict(settings))


def test_the_notes_say_whose_model_a_baseline_is(benched: dict[str, Any]) -> None:
    assert any("torch-transformers is the model of transformers" in note for note in benched["notes"])
    assert any("the modules that the bundle was exported from" in note for note in benched["notes"])


@pytest.mark.slow
def test_the_model_of_transformers_is_a_baseline_by_itself(vivit_bundle: Path, tmp_path: Path) -> None:
    report = against("torch-transformers", vivit_bundle, tmp_path)
    (one,) = report.measurements
    assert one.cosine == pytest.approx(1, abs=1e-9)
    assert any("torch-transformers is the model of transformers" in note for note in report.notes)
    assert not any("the modules that the bundle was exported from" in note for note in report.notes)


def test_a_baseline_without_its_package_says_what_to_install(
    vivit_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else find_spec(name))
    bundle = Bundle.open(vivit_bundle)
    with pytest.raises(MissingExtra, match=r"transformers is not .* with torch-transformers\n.*'tubelet\[compare\]'"):
        checkpoint_for_torch(bundle, "./folder", ["torch-sdpa", "torch-transformers"])
    assert checkpoint_for_torch(bundle, "./folder", ["torch-sdpa"]) == "./folder"


def test_transformers_says_why_it_does_not_load(vivit_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"transformers does not load .*empty"):
        bench_bundle(
            Bundle.open(vivit_bundle), [], against=["torch-transformers"], rounds=3, model=str(tmp_path / "empty")
        )


def test_copies_are_told_apart_where_an_engine_can(vivit_bundle: Path) -> None:
    bundle = Bundle.open(vivit_bundle)
    with BoundSession(open_session(vivit_bundle / "model.onnx", CPU_PROVIDER), device="cpu", largest=2) as bound:
        assert isinstance(bound, RunsInSteps)
        asked = Settings(
            "", "fp32", batch=3, threads=1, bundle=str(vivit_bundle), inputs="", video=None, model=None, made=None
        )
        times = stage_times(bound.infer_in_steps, bundle, bundle.spec, asked)
    assert list(times) == ["prepare", "copy in", "execute", "copy out", "rank"]
    assert min(times.values()) > 0
    with open_backend("onnxruntime", bundle, "fp32") as backend:
        assert not isinstance(backend, RunsInSteps)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_number_of_threads_is_for_backends_on_the_cpu(
    name: BackendName, vivit_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name not in ON_CPU:
        with pytest.raises(BackendError, match="a number of CPU threads has no meaning"):
            open_backend(name, Bundle.open(vivit_bundle), next(iter(graphs_for(name))), threads=3)
    given: list[int | None] = []

    def opened(*_: object, threads: int | None) -> Backend:
        given.append(threads)
        return open_backend("onnxruntime", Bundle.open(vivit_bundle), "fp32")

    monkeypatch.setattr(worker, "open_backend", opened)
    np.save(tmp_path / "inputs.npy", np.zeros(1))
    load_backend(
        dataclasses.asdict(Settings(name, "fp32", 1, 3, str(vivit_bundle), str(tmp_path / "inputs.npy"), None, None))
    )
    assert given == [3 if name in ON_CPU else None]


@pytest.mark.parametrize("family", FAMILIES)
def test_products_are_those_that_torch_counts(family: str) -> None:
    model = build(tiny_config(family)).eval()
    products = matrix_products(exported_model(model))
    attend_with(model, eager_attention)  # the counter does not know the fused kernel of the CPU
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *model.config.clip_shape))
    assert sum(product.macs for product in products) * 2 == counter.get_total_flops()
    assert list(products) == sorted(products, key=lambda product: -product.macs)


def test_eager_attention_is_attention() -> None:
    query, key, value = torch.randn(3, 2, 7, 12, generator=torch.Generator().manual_seed(0))
    eager, fused = (
        attend(query[:, :1], key, value, num_heads=3, scale=0.5) for attend in (eager_attention, sdpa_attention)
    )
    torch.testing.assert_close(eager.context, fused.context)
    assert fused.weights is None
    assert eager.weights is not None
    torch.testing.assert_close(eager.weights.sum(-1), torch.ones(2, 3, 1))


@pytest.mark.parametrize("operator", ["MatMul", "MatMulInteger"])
def test_a_graph_written_by_hand_is_onnx(operator: str) -> None:
    random = np.random.default_rng(0)
    left, right = random.integers(0, 100, (5, 300)), random.integers(-100, 100, (300, 7))
    types = (np.float32, np.float32) if operator == "MatMul" else (np.uint8, np.int8)
    given, constant = left.astype(types[0]), right.astype(types[1])
    graph = product_graph(operator, given, constant)
    onnx.checker.check_model(onnx.load_from_string(graph), full_check=True)
    (got,) = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"left": given})
    np.testing.assert_array_equal(got, left @ right)


def test_a_quantized_graph_written_by_hand_is_onnx() -> None:
    random = np.random.default_rng(0)
    left, right = random.random((5, 300), np.float32), random.integers(-127, 128, (300, 7)).astype(np.int8)
    graph = quantized_product_graph(left, right)
    onnx.checker.check_model(onnx.load_from_string(graph), full_check=True)
    (got,) = open_session(graph, CPU_PROVIDER).run(None, {"left": left})
    np.testing.assert_allclose(got, np.round(left * 255) / 255 @ (right / 127), rtol=1e-3, atol=1e-3)


def test_the_shapes_of_the_limit_are_the_heaviest_that_are_not_thin() -> None:
    attention = MatrixProduct(1568, 64, 1568, 144)
    mlp, small = MatrixProduct(1568, 768, 3072, 12), MatrixProduct(1, 768, 400, 1)
    assert heaviest_shapes([small, attention, mlp]) == ((1568, 768, 3072),)
    assert heaviest_shapes([small, attention]) == ((1568, 64, 1568),)


def test_the_smallest_cosine_of_a_batch() -> None:
    got = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert smallest_cosine(got, np.array([[2.0, 0.0], [3.0, 0.0]])) == pytest.approx(2**-0.5)


def settings(bundle: Path, inputs: Path, **changes: Any) -> str:
    values: dict[str, Any] = {
        "engine": "onnxruntime",
        "precision": "fp32",
        "batch": 2,
        "threads": 1,
        "video": None,
        "model": None,
        "made": None,
    }
    return Settings(bundle=str(bundle), inputs=str(inputs), **{**values, **changes}).to_json()


def started(text: str) -> AbstractContextManager[process.Process]:
    return process.start(subject_process, text, name="the subject", threads=1)


def test_a_process_answers_and_is_gone_afterwards(vivit_bundle: Path, tmp_path: Path) -> None:
    inputs = write_inputs(Bundle.open(vivit_bundle), 2, tmp_path)["graph"]
    with started(settings(vivit_bundle, inputs)) as subject:
        assert subject.logits.shape == (2, 5)
        assert 0 < subject.load_ms < subject.cold_start_ms
        runs = subject.run(0.05)
        assert len(runs) > 1
        assert sum(runs) >= 0.8 * 50
        assert len(subject.run(0)) == 1
        peak = subject.peak_memory_mb()
        assert peak is None or 20 < peak < 1000
        child = subject._worker
    assert child.returncode is not None


def test_a_process_that_dies_is_an_error_with_its_last_words(vivit_bundle: Path, tmp_path: Path) -> None:
    inputs = write_inputs(Bundle.open(vivit_bundle), 2, tmp_path)["graph"]
    with started(settings(vivit_bundle, inputs)) as subject:
        subject._worker.kill()
        subject._worker.wait()  # what is asked now finds nobody
        with pytest.raises(BackendError, match=r"the subject was ended by signal 9\n  fix: fewer clips at once"):
            subject.run(0)
    with (
        pytest.raises(BackendError, match=r"(?s)ended with exit code 1:\n.*FileNotFoundError") as ended,
        started(settings(vivit_bundle, tmp_path / "missing.npy")),
    ):
        pass
    assert ended.value.fix is None  # its last words say more


def test_what_a_process_raises_is_raised_here(vivit_bundle: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(BundleError, match="has no int8 graph; it has fp32") as raised,
        started(settings(vivit_bundle, tmp_path / "unused.npy", precision="int8")),
    ):
        pass
    assert raised.value.fix is not None


def test_peak_memory_grows_with_what_is_held() -> None:
    before = peak_memory_mb()
    if before is None:
        pytest.skip("this system does not say how much memory a process had")
    held = np.ones(60 * 2**17)  # 60 MB
    after = peak_memory_mb()
    assert after is not None
    assert after >= before
    assert after >= held.nbytes / 2**20


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--batch", "0"], 2, "0 is not in the range x>=1"),
        (["--backend", "tpu"], 2, "'tpu' is not one of"),
        (["--rounds", "2"], 2, "rounds must be a whole number from 3 to 10000"),
        (["--against", "jax"], 2, "'jax' is not one of"),
        (["--video", "missing.mp4"], 2, "File 'missing.mp4' does not exist"),
        (["--report", "no-such-folder/bench.html"], 2, "the folder no-such-folder does not exist"),
        (["--precision", "int8"], 1, "has no int8 graph; it has fp32"),
        (["--against", "torch"], 1, "--model FOLDER, where vivit is"),
    ],
)
def test_bad_input(vivit_bundle: Path, arguments: list[str], code: int, message: str) -> None:
    result = tubelet("bench", vivit_bundle, *QUICK[2:], *arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert result.stdout == ""


def test_a_file_that_is_no_video(vivit_bundle: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    report = tmp_path / "bench.html"
    result = tubelet("bench", vivit_bundle, "--video", text, "--report", report, *QUICK)
    assert result.exit_code == 1
    assert "notes.mp4" in result.stderr
    assert not report.exists()


def test_a_page_without_what_writes_it_is_told_at_once(
    vivit_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    report = tmp_path / "bench.html"
    result = tubelet("bench", vivit_bundle, "--report", report, "--rounds", "10000")
    assert result.exit_code == 1
    assert "jinja2 is not installed; it is needed to write the page" in result.stderr
    assert "pip install 'tubelet[bench]'" in result.stderr
    assert not report.exists()


def test_torch_is_given_what_the_bundle_was_exported_from(vivit_bundle: Path) -> None:
    bundle = Bundle.open(vivit_bundle)
    from_the_hub = replace(bundle, model_id="owner/name", commit="c0ffee")
    assert checkpoint_for_torch(from_the_hub, None, ["torch-sdpa"]) == "owner/name@c0ffee"
    assert checkpoint_for_torch(bundle, "./folder", ["torch-sdpa"]) == "./folder"
    with pytest.raises(CheckpointError, match="not from the Hub"):
        checkpoint_for_torch(bundle, None, ["torch-sdpa"])


def children_of(parent: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="children are counted in /proc")
def test_an_interrupt_ends_all_processes_and_leaves_no_report(vivit_bundle: Path, tmp_path: Path) -> None:
    report = tmp_path / "bench.html"
    command = [sys.executable, "-c", "from tubelet.cli.tree import main; main()"]
    command += ["bench", str(vivit_bundle), "--rounds", "10000", "--starts", "1", "--report", str(report)]
    bench = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(children := children_of(bench.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children) >= 2
    bench.send_signal(signal.SIGINT)
    output, errors = bench.communicate(timeout=30)
    assert bench.returncode == 130
    assert output == ""
    assert errors.strip() == "Aborted!"
    # One that was just being started was not killed: it ends by itself, when its standard input does.
    while any(map(is_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, children))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fixture", ["attentive_bundle", "masked_bundle"])
def test_the_bench_is_of_classifiers(fixture: str, request: pytest.FixtureRequest) -> None:
    bundle = Bundle.open(request.getfixturevalue(fixture))
    with pytest.raises(
        BundleError, match="; the bench takes a bundle for video-classification that gives logits alone"
    ):
        bench_bundle(bundle, [("onnxruntime", "fp32")])
