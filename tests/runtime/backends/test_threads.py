"""Many threads on one backend: each gets the answer to what it asked, and closing meanwhile harms nobody."""

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from gpu import plug_in
from numpy.typing import NDArray
from tensorrt_double import VERSIONS

from tubelet.exporter.tensorrt.build import build_engine
from tubelet.preprocess.errors import BackendError
from tubelet.runtime.backends import BACKENDS, open_backend, ort_cuda
from tubelet.runtime.backends.backend import Backend
from tubelet.runtime.backends.ort import CPU_PROVIDER, open_session
from tubelet.runtime.backends.ort_cuda import CUDA_PROVIDER, TENSORRT_PROVIDER
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.engines import EngineOptions, Profile
from tubelet.runtime.precisions import graphs_for

THREADS = 6
CALLS = 120

Answer = dict[str, NDArray[np.float32]]
Ask = Callable[[NDArray[np.float32]], Answer]  # a batch -> what the backend gives for it

ON_CPU = [(backend, precision) for backend in ("onnxruntime", "openvino") for precision in graphs_for(backend)]
OVER_DOUBLES = [("onnxruntime-cuda", "fp32"), ("onnxruntime-tensorrt", "fp16"), ("tensorrt", "fp32")]
EVERY = [*ON_CPU, *OVER_DOUBLES]
# The runner of tensorrt, and the session of onnxruntime-cuda, with other libraries under them.
OF_OTHERS = {"tensorrt-rtx", "onnxruntime-tensorrt-rtx"}


@pytest.fixture
def bundle(lowered_bundles: dict[str, Path], tmp_path: Path) -> Bundle:
    """A tiny ViViT in every precision."""
    return Bundle.open(shutil.copytree(lowered_bundles["vivit"], tmp_path / "bundle"))


@pytest.fixture
def opened(request: pytest.FixtureRequest, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """One of EVERY. The GPU is a double: TensorRT and CUDA made of host memory, and ONNX Runtime's CPU provider in the
    place of those for GPUs."""
    backend, precision = request.param
    if request.param in OVER_DOUBLES:
        plug_in(monkeypatch, VERSIONS[-1])
        monkeypatch.setattr(ort_cuda, "DEVICE", "cpu")
        monkeypatch.setattr(
            ort_cuda, "open_gpu_session", lambda path, _: open_session(Path(path), CPU_PROVIDER, threads=1)
        )
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA_PROVIDER, TENSORRT_PROVIDER])
    if backend == "tensorrt":
        build_engine(bundle, EngineOptions(precision, (Profile(1, 2, 2),)))
    return open_here(bundle, backend, precision)


def open_here(bundle: Bundle, backend: str, precision: str) -> Backend:
    """Skips the test where the CPU has no instructions for the precision; nothing else may be amiss."""
    try:
        # One thread of the engine for each caller: more would spin, waiting for cores that the callers have.
        return open_backend(backend, bundle, precision, threads=None if (backend, precision) in OVER_DOUBLES else 1)
    except BackendError as error:
        if backend == "openvino" and precision != "fp32" and "cannot compute in" in str(error):
            pytest.skip(str(error))
        raise


def batches() -> list[NDArray[np.float32]]:
    """Of one and of two clips, each with other values."""
    random = np.random.default_rng(0)
    return [random.normal(scale=2, size=(1 + i % 2, 4, 3, 32, 32)).astype(np.float32) for i in range(8)]


def agree(got: Answer, expected: Answer) -> bool:
    return all(
        got[name].shape == array.shape and np.allclose(got[name], array, atol=2e-5) for name, array in expected.items()
    )


def ask_from_many_threads(ask: Ask) -> None:
    given = batches()
    expected = [ask(batch) for batch in given]
    # The answers must differ by more than what is let through, or another's would pass.
    assert not any(agree(one, other) for i, one in enumerate(expected) for other in expected[:i])
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda i: ask(given[i % len(given)]), range(CALLS)))
    assert [i for i, answer in enumerate(answers) if not agree(answer, expected[i % len(given)])] == []
    # Nobody writes over what a caller was given.
    memory = [array for answer in answers for array in answer.values()]
    assert len({array.ctypes.data for array in memory}) == len(memory)


def test_every_backend_is_here() -> None:
    assert {backend for backend, _ in EVERY} | OF_OTHERS == set(BACKENDS)


@pytest.mark.parametrize("opened", EVERY, indirect=True, ids="-".join)
def test_each_thread_gets_its_own_answer(opened: Backend) -> None:
    with opened as backend:
        ask_from_many_threads(lambda batch: {"logits": backend.infer(batch)})


@pytest.mark.parametrize("opened", EVERY, indirect=True, ids="-".join)
def test_closing_while_others_run_is_said_and_spoils_no_answer(opened: Backend) -> None:
    given = batches()
    expected = [opened.infer(batch) for batch in given]
    answered = threading.Semaphore(0)

    def ask_until_closed(i: int) -> tuple[str, list[bool]]:
        """What ended it, and whether each answer before was right."""
        right: list[bool] = []
        while True:
            try:
                logits = opened.infer(given[i])
            except BackendError as error:
                return error.message, right
            right.append(agree({"logits": logits}, {"logits": expected[i]}))
            answered.release()

    with ThreadPoolExecutor(THREADS) as pool:
        running = [pool.submit(ask_until_closed, i) for i in range(THREADS)]
        for _ in range(2 * THREADS):
            answered.acquire()
        opened.close()
        ends = [future.result(timeout=60) for future in running]
    assert {message for message, _ in ends} == {"the backend is closed"}
    assert all(ok for _, right in ends for ok in right)


OUTPUTS = [("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "fp16")]


@pytest.mark.parametrize(("backend", "precision"), OUTPUTS)
def test_each_thread_gets_all_outputs_of_its_own(attentive_bundle: Path, backend: str, precision: str) -> None:
    with open_here(Bundle.open(attentive_bundle), backend, precision) as several:
        given = [output.name for output in Bundle.open(attentive_bundle).graphs[0].outputs]
        assert {name.partition(".")[0] for name in given} > {"hidden_states", "attentions"}
        ask_from_many_threads(lambda batch: several.run({"pixel_values": batch}))
