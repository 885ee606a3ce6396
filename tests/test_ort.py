import shutil
from pathlib import Path

import numpy as np
import pytest
from tubelet.runtime import BackendError, Bundle, BundleError
from tubelet.runtime.backends import open_backend
from tubelet.runtime.backends.ort import CPU_PROVIDER, open_session


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


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_are_a_positive_number(vivit_bundle: Path, threads: int) -> None:
    with pytest.raises(ValueError, match=rf"threads must be a whole number from 1 to \d+ \(.*\), got {threads}"):
        open_backend("onnxruntime", Bundle.open(vivit_bundle), "fp32", threads=threads)


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_threads_are_honoured(vivit_bundle: Path, threads: int | None) -> None:
    session = open_session(vivit_bundle / "model.onnx", CPU_PROVIDER, threads=threads)
    assert session.get_session_options().intra_op_num_threads == (threads or 0)
