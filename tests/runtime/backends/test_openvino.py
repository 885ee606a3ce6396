"""The OpenVINO backend, on the CPU at hand: what that lacks must be refused."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from tubelet.exporter.lower.search import add_graph
from tubelet.preprocess.errors import BackendError, BundleError, MissingExtra
from tubelet.runtime.backends import open_backend
from tubelet.runtime.backends import openvino as backend_module
from tubelet.runtime.backends.openvino import CAPABILITIES, SOURCES, OpenVinoBackend
from tubelet.runtime.backends.product_graph import quantized_product_graph
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.reference import load_reference
from tubelet.runtime.precisions import PRECISIONS, Precision
from tubelet.runtime.proof.parity import check_parity

HAS = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
SATURATES = backend_module.integer_products_saturate()


def is_able(wanted: Precision) -> bool:
    kinds = {wanted.multiplies, wanted.floats}
    return all(CAPABILITIES[kind][0] in HAS for kind in kinds & CAPABILITIES.keys()) and not (
        SATURATES and wanted.multiplies == "int8"
    )


ABLE = [name for name in SOURCES if is_able(PRECISIONS[name])]
UNABLE = [name for name in SOURCES if name not in ABLE]


@pytest.fixture(scope="module", params=["vivit_bundle", "videomae_bundle"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny bundle with an int8-static graph; VideoMAE's takes uint8 frames."""
    path = tmp_path_factory.mktemp(request.param) / "bundle"
    calibrated, _ = add_graph(Bundle.open(shutil.copytree(request.getfixturevalue(request.param), path)), "int8-static")
    return calibrated


def batch_for(bundle: Bundle) -> np.ndarray:
    graph_input = bundle.graphs[0].inputs[0]
    shape = (2, *(int(size) for size in graph_input.shape[1:]))
    return np.random.default_rng(0).integers(0, 3, shape).astype(graph_input.dtype)


@pytest.mark.parametrize("precision", ABLE)
def test_it_computes_what_torch_computed(bundle: Bundle, precision: str) -> None:
    reference = load_reference(bundle)
    with open_backend("openvino", bundle, precision) as backend:
        report = check_parity(backend.infer, reference, bundle.spec, backend="openvino", precision=precision)
    assert report.passed, report.table()
    assert report.backend == "openvino"


@pytest.mark.parametrize("precision", UNABLE)
def test_what_the_cpu_lacks_is_an_error(vivit_bundle: Path, precision: str) -> None:
    with pytest.raises(BackendError, match=rf"cannot compute in {precision} here: the CPU \(.*\) has no .* OpenVINO"):
        open_backend("openvino", Bundle.open(vivit_bundle), precision)


def test_it_is_known_whether_products_of_integers_saturate() -> None:
    random = np.random.default_rng(0)
    left, right = random.integers(0, 256, (9, 320)), random.integers(-127, 128, (320, 48)).astype(np.int8)
    given = (left / 255).astype(np.float32)
    compiled = openvino.Core().compile_model(
        openvino.Core().read_model(quantized_product_graph(given, right)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    (product,) = compiled([given]).values()
    largest_difference = np.abs(product * 255 * 127 - left @ right).max()
    assert (largest_difference > 100) == SATURATES  # of sums that reach 500,000 and are rounded to float32


@pytest.mark.parametrize("precision", ["int8", "int8-bf16"])
def test_products_that_saturate_are_refused(
    vivit_bundle: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setattr(backend_module, "integer_products_saturate", lambda: True)
    monkeypatch.setitem(CAPABILITIES, "bf16", ("INT8", "what every CPU has"))
    with pytest.raises(BackendError, match=r"has no VNNI, and OpenVINO's products of 8-bit.*\n  fix: .*onnxruntime"):
        open_backend("openvino", Bundle.open(vivit_bundle), precision)


def test_lower_precision_is_taken_up(bundle: Bundle) -> None:
    answers = {}
    for precision in ABLE:
        with open_backend("openvino", bundle, precision) as backend:
            answers[precision] = backend.infer(batch_for(bundle))
    for precision in ABLE[1:]:
        difference = np.abs(answers[precision] - answers["fp32"]).max()
        assert 1e-5 < difference < 0.5, precision  # another precision shows


@pytest.mark.parametrize("changes", [{"floats": "bf16"}, {"multiplies": "int8"}])
def test_another_precision_than_asked_for_is_seen(vivit_bundle: Path, changes: dict[str, Any]) -> None:
    compiled = openvino.Core().compile_model(vivit_bundle / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with pytest.raises(BackendError, match="fp32 was requested, OpenVINO computes in f32, with matrix products in f32"):
        backend_module.require_precision(compiled, replace(PRECISIONS["fp32"], **changes))
    backend_module.require_precision(compiled, PRECISIONS["fp32"])


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_honoured(vivit_bundle: Path, threads: int) -> None:
    with open_backend("openvino", Bundle.open(vivit_bundle), "fp32", threads=threads) as backend:
        assert isinstance(backend, OpenVinoBackend)
        assert backend.threads == threads


def test_the_caller_owns_what_infer_returns(bundle: Bundle) -> None:
    batch = batch_for(bundle)
    with open_backend("openvino", bundle, "fp32") as backend:
        first = backend.infer(batch)
        kept = first.copy()
        second = backend.infer(batch[::-1].copy())
    assert first.dtype == np.float32
    assert first.shape == (2, 5)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(second, first[::-1], atol=1e-5)


def test_a_closed_backend_says_so(bundle: Bundle) -> None:
    backend = open_backend("openvino", bundle, "fp32")
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="the backend is closed"):
        backend.infer(batch_for(bundle))


def test_a_batch_of_the_wrong_kind_is_a_backend_error(vivit_bundle: Path) -> None:
    with open_backend("openvino", Bundle.open(vivit_bundle), "fp32") as backend:
        with pytest.raises(BackendError, match="pixel_values must be float32, got float64"):
            backend.infer(np.zeros((1, 4, 3, 32, 32)))
        with pytest.raises(BackendError, match=r"OpenVINO failed on a batch of float32 \(1, 3, 3, 32, 32\)"):
            backend.infer(np.zeros((1, 3, 3, 32, 32), np.float32))


def test_a_damaged_graph_is_named_as_such_and_not_by_its_symptom(vivit_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(vivit_bundle, tmp_path / "bundle")
    graph = copy / "model.onnx"
    graph.write_bytes(b"\xff" * graph.stat().st_size)
    with pytest.raises(BundleError, match=r"model\.onnx is not the file that was exported"):
        open_backend("openvino", Bundle.open(copy), "fp32")


def test_int8_needs_the_calibrated_graph(vivit_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"has no int8-static graph; .*\n  fix: tubelet quantize .* int8-static$"):
        open_backend("openvino", Bundle.open(vivit_bundle), "int8")


def test_without_openvino_the_extra_is_named(vivit_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r"openvino is not installed.*\n  fix: pip install 'tubelet\[openvino\]'"):
        open_backend("openvino", Bundle.open(vivit_bundle), "fp32")


CTRL_C = """
import os, signal, sys, threading, time
from tubelet import load

first, second = (load(sys.argv[1], backend="openvino", threads=1) for _ in range(2))
for model in (first, second):
    closing = threading.Thread(target=model.close)
    closing.start()
    closing.join()
del first, second, model
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_is_heard_after_models_are_closed(vivit_bundle: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", CTRL_C, vivit_bundle], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "interrupted\n"), ended.stderr
