import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tubelet.preprocess.errors import BackendError, BundleError
from tubelet.runtime.backends import open_backend
from tubelet.runtime.backends.ort import CPU_PROVIDER, integer_products_saturate, open_session
from tubelet.runtime.backends.product_graph import product_graph
from tubelet.runtime.bundle.bundle import Bundle

EMULATOR = shutil.which("qemu-x86_64")


def test_the_caller_owns_what_infer_returns(vivit_bundle: Path) -> None:
    batches = np.random.default_rng(0).normal(size=(2, 1, 4, 3, 32, 32)).astype(np.float32)
    with open_backend("onnxruntime", Bundle.open(vivit_bundle), "fp32") as backend:
        first = backend.infer(batches[0])
        kept = first.copy()
        second = backend.infer(batches[1])
    assert first.dtype == np.float32
    assert first.shape == (1, 5)
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(first, second)


def test_a_closed_backend_says_so(vivit_bundle: Path) -> None:
    backend = open_backend("onnxruntime", Bundle.open(vivit_bundle), "fp32")
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="the backend is closed"):
        backend.infer(np.zeros((1, 4, 3, 32, 32), np.float32))


def test_a_batch_of_the_wrong_kind_is_a_backend_error(vivit_bundle: Path) -> None:
    with (
        open_backend("onnxruntime", Bundle.open(vivit_bundle), "fp32") as backend,
        pytest.raises(BackendError, match=r"failed on a batch of float64 \(1, 4, 3, 32, 32\)"),
    ):
        backend.infer(np.zeros((1, 4, 3, 32, 32)))


def test_a_damaged_graph_is_named_as_such_and_not_by_its_symptom(vivit_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(vivit_bundle, tmp_path / "bundle")
    graph = copy / "model.onnx"
    graph.write_bytes(b"\xff" * graph.stat().st_size)
    with pytest.raises(BundleError, match=r"model\.onnx is not the file that was exported"):
        open_backend("onnxruntime", Bundle.open(copy), "fp32")


def test_a_provider_that_is_not_there_is_refused(vivit_bundle: Path) -> None:
    graph = vivit_bundle / "model.onnx"
    with (
        pytest.warns(UserWarning, match="not in available provider names"),
        pytest.raises(BackendError) as caught,
    ):
        open_session(graph, "CUDAExecutionProvider")
    assert "CUDAExecutionProvider" in str(caught.value)


def test_a_graph_that_cannot_be_read_is_a_backend_error() -> None:
    with pytest.raises(BackendError, match=f"could not load the graph on {CPU_PROVIDER}"):
        open_session(b"no graph", CPU_PROVIDER)


def test_an_unknown_backend_names_those_there_are(vivit_bundle: Path) -> None:
    with pytest.raises(BackendError, match="there is no backend 'tpu'; there are onnxruntime"):
        open_backend("tpu", Bundle.open(vivit_bundle), "fp32")


def test_it_is_known_whether_products_of_integers_saturate() -> None:
    random = np.random.default_rng(0)
    left, right = random.integers(0, 256, (9, 300), np.uint8), random.integers(-127, 128, (300, 33)).astype(np.int8)
    graph, exact = product_graph("MatMulInteger", left, right), left.astype(np.int64) @ right.astype(np.int64)
    (plain,) = onnxruntime.InferenceSession(graph, providers=[CPU_PROVIDER]).run(None, {"left": left})
    assert integer_products_saturate() == (not np.array_equal(plain, exact))
    session = open_session(graph, CPU_PROVIDER)
    np.testing.assert_array_equal(session.run(None, {"left": left})[0], exact)
    if integer_products_saturate():
        assert session.get_session_options().get_session_config_entry("session.x64quantprecision") == "1"
    else:  # where it would cost time only
        with pytest.raises(RuntimeError, match="x64quantprecision"):
            session.get_session_options().get_session_config_entry("session.x64quantprecision")


WITHOUT_VNNI = """
import numpy as np
from tubelet.runtime.backends.ort import CPU_PROVIDER, integer_products_saturate, open_session
from tubelet.runtime.backends.product_graph import largest_operands, product_graph
left, right = largest_operands()
(product,) = open_session(product_graph("MatMulInteger", left, right), CPU_PROVIDER).run(None, {"left": left})
print(integer_products_saturate(), np.array_equal(product, left.astype(int) @ right.astype(int)))
"""


@pytest.mark.skipif(not (EMULATOR and platform.machine() == "x86_64"), reason="qemu-user is not installed")
def test_an_emulated_cpu_without_vnni_saturates_and_is_made_exact() -> None:
    command = [str(EMULATOR), "-cpu", "Haswell", sys.executable, "-c", WITHOUT_VNNI]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (result.returncode, result.stdout) == (0, "True True\n"), result.stderr


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_are_a_positive_number(vivit_bundle: Path, threads: int) -> None:
    with pytest.raises(ValueError, match=rf"threads must be a whole number from 1 to \d+ \(.*\), got {threads}"):
        open_backend("onnxruntime", Bundle.open(vivit_bundle), "fp32", threads=threads)


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_threads_are_honoured(vivit_bundle: Path, threads: int | None) -> None:
    session = open_session(vivit_bundle / "model.onnx", CPU_PROVIDER, threads=threads)
    assert session.get_session_options().intra_op_num_threads == (threads or 0)
