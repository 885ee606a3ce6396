"""Model repositories on the real tritonserver, asked by the real tritonclient over HTTP, gRPC and shared memory."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from triton_server import HOME, Triton, require_triton, triton
from videos import make_video

import tubelet
from tubelet.serve.triton.planned import TritonOptions
from tubelet.serve.triton.repository import write_models

pytestmark = pytest.mark.slow

RAW = {"Inference-Header-Content-Length": "0"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_triton()
    return tmp_path_factory.mktemp("triton")


@pytest.fixture(scope="module")
def server(folder: Path, vivit_bundle: Path) -> Iterator[Triton]:
    """A server of the bundle in four ways; in the ensemble a python model stands in for ONNX Runtime's backend, which
    no wheel carries."""
    bundles = {name: shutil.copytree(vivit_bundle, folder / name) for name in ("video", "frames", "clips", "joined")}
    repository = folder / "models"
    write_models([bundles["video"]], repository, TritonOptions("video", threads=1, batch=4, delay_ms=100))
    write_models([bundles["frames"]], repository, TritonOptions("frames", threads=1))
    write_models([bundles["clips"]], repository, TritonOptions("clips", threads=1, batch=4, delay_ms=100))
    write_models([bundles["joined"]], repository, TritonOptions("video", "onnxruntime", threads=1))
    parse_configs(repository)
    graph = shutil.copytree(vivit_bundle, folder / "joined_graph")
    write_models([graph], repository, TritonOptions("clips", threads=1), force=True)
    options = ("--model-control-mode=explicit", "--load-model=*")
    with triton(repository, folder / "server.log", *options) as started:
        yield started


def parse_configs(repository: Path) -> None:
    """Every config is one of the protocol buffers that Triton reads, field by field."""
    code = (
        "import sys; from google.protobuf import text_format\n"
        "from tritonclient.grpc.model_config_pb2 import ModelConfig\n"
        "for path in sys.argv[1:]: print(text_format.Parse(open(path).read(), ModelConfig()).name)"
    )
    configs = sorted(repository.glob("*/config.pbtxt"))
    command = [str(HOME / "python" / "bin" / "python"), "-c", code, *map(str, configs)]
    parsed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr
    assert parsed.stdout.split() == [path.parent.name for path in configs]


@pytest.fixture(scope="module")
def model(vivit_bundle: Path) -> Iterator[tubelet.VideoClassifier]:
    with tubelet.load(vivit_bundle, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def videos(folder: Path) -> list[Path]:
    """Four, of other sizes in pixels and in bytes."""
    paths = [folder / f"{number}.mp4" for number in range(4)]
    for number, path in enumerate(paths):
        make_video(path, frames=30 + number, size=(96 + 16 * number, 64))
    return paths


def saved(folder: Path, name: str, array: NDArray[Any]) -> str:
    path = folder / f"{name}.npy"
    np.save(path, array)
    return str(path)


def as_bytes(folder: Path, video: Path) -> str:
    return saved(folder, video.stem, np.frombuffer(video.read_bytes(), np.uint8)[np.newaxis])


def clips_of(model: tubelet.VideoClassifier, *videos: Path) -> NDArray[Any]:
    return np.concatenate([model.prepare(model.read(video)) for video in videos])


def test_a_video_over_every_road(
    server: Triton, model: tubelet.VideoClassifier, videos: list[Path], tmp_path: Path
) -> None:
    given = {"video": as_bytes(tmp_path, videos[0])}
    roads = [{"model": "video", "over": over, "inputs": given} for over in ("http", "grpc", "shared-memory")]
    logits = model.logits(clips_of(model, videos[0]))
    best = model.classify(videos[0])
    for (answer,) in server.infer(tmp_path, *([road] for road in roads)):
        assert np.array_equal(np.array(answer["logits"], np.float32), logits)  # to the bit
        assert answer["labels"] == [[said.label for said in best]]
        assert answer["scores"] == [[pytest.approx(said[1], abs=1e-6) for said in best]]


def test_the_command_of_the_readme(server: Triton, model: tubelet.VideoClassifier, videos: list[Path]) -> None:
    """curl -H 'Inference-Header-Content-Length: 0' --data-binary @clip.mp4"""
    status, body = server.ask("/v2/models/video/infer", videos[0].read_bytes(), RAW)
    assert status == 200
    head, end = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    tensors, at = {}, end
    for output in head["outputs"]:
        size = output["parameters"]["binary_data_size"]
        tensors[output["name"]] = body[at : at + size]
        at += size
    assert at == len(body)
    assert tensors["logits"] == model.logits(clips_of(model, videos[0])).tobytes()
    label = model.classify(videos[0])[0].label.encode()
    assert tensors["labels"].startswith(len(label).to_bytes(4, "little") + label)


def test_requests_are_batched_and_a_damaged_video_is_its_own_error(
    server: Triton, model: tubelet.VideoClassifier, videos: list[Path], tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(videos[0].read_bytes()[:500])
    order = [*videos, damaged, *videos, *videos]
    before = server.batches("video")
    requests = [{"model": "video", "over": "grpc", "inputs": {"video": as_bytes(tmp_path, video)}} for video in order]
    (answers,) = server.infer(tmp_path, requests)
    sizes = {size: count - before.get(size, 0) for size, count in server.batches("video").items()}
    assert sum(size * count for size, count in sizes.items()) == len(order)
    assert max(size for size, count in sizes.items() if count) > 1
    for video, answer in zip(order, answers, strict=True):
        if video == damaged:
            assert "the video" in answer["error"]
            assert str(tmp_path) not in answer["error"]
        else:
            logits = model.logits(clips_of(model, video))
            assert np.allclose(np.array(answer["logits"], np.float32), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"not a video", bytes(10_000)])
def test_what_is_no_video(server: Triton, content: bytes) -> None:
    status, body = server.ask("/v2/models/video/infer", content, RAW)
    assert status == 400
    assert "error" in json.loads(body)
    assert server.ask("/v2/models/video/ready")[0] == 200


def test_clips(server: Triton, model: tubelet.VideoClassifier, videos: list[Path], tmp_path: Path) -> None:
    clips = clips_of(model, *videos[:3])
    nan = clips.copy()
    nan[1, 0, 0, 0, 0] = np.nan
    good, bad = ({"pixel_values": saved(tmp_path, name, array)} for name, array in (("good", clips), ("nan", nan)))
    wide = {"pixel_values": saved(tmp_path, "wide", clips[..., :16])}
    many = {"pixel_values": saved(tmp_path, "many", np.concatenate([clips, clips]))}
    requests = [{"model": "clips", "over": "http", "inputs": given} for given in (good, bad, wide, many)]
    alone, together = server.infer(tmp_path, requests[:1], requests)
    assert np.array_equal(np.array(alone[0]["logits"], np.float32), model.logits(clips))  # to the bit
    assert np.allclose(together[0]["logits"], model.logits(clips), rtol=1e-4, atol=1e-5)
    assert together[1]["error"].endswith("clips must be finite, got NaN or infinite values")
    assert "unexpected shape for input 'pixel_values'" in together[2]["error"]
    assert "batch-size must be <= 4" in together[3]["error"]


def test_frames_of_any_size(server: Triton, model: tubelet.VideoClassifier, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shapes = [(1, 4, 40, 64, 3), (2, 4, 90, 70, 3)]
    frames = [random.integers(0, 256, shape, np.uint8) for shape in shapes]
    requests = [
        {"model": "frames", "over": "grpc", "inputs": {"frames": saved(tmp_path, str(i), array)}}
        for i, array in enumerate(frames)
    ]
    for array, (answer,) in zip(frames, server.infer(tmp_path, *([each] for each in requests)), strict=True):
        clips = np.concatenate([model.prepare(model.read(video)) for video in array])
        assert np.array_equal(np.array(answer["logits"], np.float32), model.logits(clips))


def test_an_ensemble(server: Triton, model: tubelet.VideoClassifier, videos: list[Path], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"no video")
    requests = [
        {"model": "joined", "over": "http", "inputs": {"video": as_bytes(tmp_path, video)}}
        for video in (videos[0], damaged)
    ]
    ((good, bad),) = server.infer(tmp_path, requests)
    assert np.array_equal(np.array(good["logits"], np.float32), model.logits(clips_of(model, videos[0])))
    assert "the video" in bad["error"]


def test_labels_by_tritons_own_classification(
    server: Triton, model: tubelet.VideoClassifier, videos: list[Path]
) -> None:
    clips = clips_of(model, videos[0])
    document = {
        "inputs": [{"name": "pixel_values", "datatype": "FP32", "shape": clips.shape, "data": clips.ravel().tolist()}],
        "outputs": [{"name": "logits", "parameters": {"classification": 2}}],
    }
    status, body = server.ask("/v2/models/clips/infer", json.dumps(document).encode())
    assert status == 200
    (said,) = json.loads(body)["outputs"]
    best = model.classify(videos[0], top_k=2)
    assert [text.split(":")[2] for text in said["data"]] == [prediction.label for prediction in best]


def test_a_model_is_replaced_while_it_is_asked(
    server: Triton, folder: Path, model: tubelet.VideoClassifier, videos: list[Path]
) -> None:
    video, label = videos[0].read_bytes(), model.classify(videos[0])[0].label.encode()
    stop = threading.Event()

    def ask() -> list[tuple[int, bool]]:
        answers: list[tuple[int, bool]] = []
        while not stop.is_set() or len(answers) < 3:
            status, body = server.ask("/v2/models/video/infer", video, RAW)
            answers.append((status, label in body))
        return answers

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            write_models([folder / "video"], folder / "models", TritonOptions("video", threads=1, batch=2), force=True)
            assert server.ask("/v2/repository/models/video/load", b"{}")[0] == 200
        finally:
            stop.set()
    answers = [answer for each in asking for answer in each.result()]
    assert len(answers) > 2
    assert set(answers) == {(200, True)}
    _, config = server.ask("/v2/models/video/config")
    assert json.loads(config)["max_batch_size"] == 2


def test_a_model_is_unloaded_and_loaded(server: Triton, videos: list[Path]) -> None:
    video = videos[0].read_bytes()
    assert server.ask("/v2/repository/models/video/unload", b"{}")[0] == 200
    assert server.ask("/v2/models/video/infer", video, RAW)[0] == 404
    assert server.ask("/v2/repository/models/video/load", b"{}")[0] == 200
    assert server.ask("/v2/models/video/infer", video, RAW)[0] == 200
