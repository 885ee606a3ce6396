"""POST /v1/timeline and /v1/explain: the parts of a video, one after another."""

import base64
import http.client
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from served import Client, served
from videos import everything, make_video, take

from tubelet.preprocess.decode import read_frames
from tubelet.preprocess.errors import BackendError
from tubelet.preprocess.views import cut_views
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.load import load
from tubelet.runtime.visual.drawing import enlarged
from tubelet.serve.http.limits import Limits
from tubelet.serve.http.pictures import LEAST_SIDE
from tubelet.serve.http.windows import window_starts


@pytest.fixture(scope="module")
def client(explained_bundle: Path, vivit_bundle: Path) -> Iterator[Client]:
    with served({"explained": load(explained_bundle), "vivit": load(vivit_bundle)}, Limits(timeout_s=30)) as client:
        yield client


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("long") / "long.mp4", frames=100)


def lines_of(client: Client, path: str, video: bytes) -> list[Any]:
    answer = client.post(path, video)
    assert answer.status == 200, answer.body
    return [json.loads(line) for line in answer.body.splitlines()]


@pytest.mark.parametrize(
    ("frames", "span", "most", "starts"),
    [
        (100, 32, 24, [0, 33, 66, 100]),
        (31, 32, 24, [0, 31]),
        (1, 32, 24, [0, 1]),
        (64, 32, 24, [0, 32, 64]),
        (1000, 10, 4, [0, 250, 500, 750, 1000]),
    ],
)
def test_windows_are_as_long_as_a_clip_or_longer(frames: int, span: int, most: int, starts: list[int]) -> None:
    assert window_starts(frames, span, most).tolist() == starts


@pytest.mark.parametrize("query", ["", "&windows=3", "&fps=15"])
def test_each_part_is_what_the_library_says_of_its_frames(
    query: str, client: Client, long_video: Path, vivit_bundle: Path
) -> None:
    first, *parts, last = lines_of(client, f"/v1/timeline?model=vivit&top_k=5{query}", long_video.read_bytes())
    assert first == {"model": "vivit", "windows": len(parts), "num_frames": 4}
    assert [part["window"] for part in parts] == list(range(len(parts)))
    assert parts[0]["from"] == 0
    assert parts[-1]["to"] == pytest.approx(99 / 30 if not query.endswith("15") else 98 / 30, abs=1e-3)
    assert [part["to"] for part in parts[:-1]] == [part["from"] for part in parts[1:]]
    with load(vivit_bundle) as model:
        whole = []
        for part in parts:
            assert part["from"] <= part["seconds"][0] < part["seconds"][-1] <= part["to"]
            frames = read_frames(long_video, take(*(round(at * 30) for at in part["seconds"])))
            said = dict(model.classify(frames, top_k=5))
            assert {one["label"]: one["score"] for one in part["predictions"]} == pytest.approx(said, abs=1e-5)
            whole.append(model.logits(model.prepare(model.read(frames)))[0])
        scores = dict(zip(model.labels, model.scores(np.stack(whole)).tolist(), strict=True))
        assert {one["label"]: one["score"] for one in last["predictions"]} == pytest.approx(scores, abs=1e-5)
    assert {"receive", "decode", "prepare", "execute"} <= set(last["stages_ms"])


def picture(url: str) -> Any:
    """uint8 (H, W, 3) of a data URL."""
    kind, _, content = url.partition(",")
    assert kind == "data:image/jpeg;base64"
    with av.open(io.BytesIO(base64.b64decode(content)), "r") as file:
        return next(file.decode(video=0)).to_ndarray(format="rgb24")


def test_frames_are_those_that_the_model_saw(client: Client, long_video: Path, vivit_bundle: Path) -> None:
    """Each is nearer to its own frame, as the model takes it, than to any other of the file."""
    spec = Bundle.open(vivit_bundle).spec
    (whole,) = cut_views(read_frames(long_video, everything).pixels, spec, 1)
    larger = enlarged(whole, LEAST_SIDE).astype(np.int16)
    _, *parts, _ = lines_of(client, "/v1/timeline?model=vivit&frames=true", long_video.read_bytes())
    for part in parts:
        shown = np.split(picture(part["frames"]).astype(np.int16), 4, axis=1)  # (H, T * W, 3) -> T of (H, W, 3)
        nearest = [int(np.abs(larger - frame).mean(axis=(1, 2, 3)).argmin()) for frame in shown]
        assert nearest == [round(at * 30) for at in part["seconds"]]


def test_a_video_without_times_has_parts_all_the_same(client: Client, tmp_path: Path) -> None:
    video = make_video(tmp_path / "raw.h264", frames=40)
    _, *parts, _ = lines_of(client, "/v1/timeline?model=vivit", video.read_bytes())
    assert len(parts) > 1
    assert all(part["from"] is None and part["seconds"] == [None] * 4 for part in parts)


def test_where_the_model_looked(client: Client, long_video: Path) -> None:
    video = long_video.read_bytes()
    _, *parts, _ = lines_of(client, "/v1/timeline?model=explained&frames=true", video)
    found = client.post("/v1/explain?model=explained&window=1", video)
    assert found.status == 200, found.body
    assert found.json["frames"] == parts[1]["frames"]
    assert {name: found.json[name] for name in ("from", "to", "seconds")} == {
        name: parts[1][name] for name in ("from", "to", "seconds")
    }
    assert picture(found.json["overlay"]).shape == picture(found.json["frames"]).shape
    assert found.json["overlay"] != found.json["frames"]
    refused = client.post("/v1/explain?model=vivit", video)
    assert refused.status == 400
    assert "exported without attentions" in refused.json["error"]
    refused = client.post("/v1/explain?model=explained&window=47", video)
    assert refused.status == 400
    assert refused.json["error"].startswith("window is 47, and the video has ")


def test_a_model_says_whether_it_can_show_where_it_looked(client: Client) -> None:
    found = {model["name"]: model["attention"] for model in client.get("/v1/models").json["models"]}
    assert found == {"explained": True, "vivit": False}


def test_what_is_no_video_has_a_status(client: Client) -> None:
    for path in ("/v1/timeline", "/v1/explain"):
        answer = client.post(f"{path}?model=explained", b"no video")
        assert answer.status == 422
        assert answer.json["error"].startswith("the video cannot be opened")
        assert client.post(f"{path}?model=explained", b"").status == 400
        assert (
            client.post(f"{path}?model=explained&clips=2", b"x").json["error"].startswith("there is no option 'clips'")
        )


def test_parts_come_as_they_are_known(vivit_bundle: Path, long_video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second pair waits for this test to have read the first."""
    model = load(vivit_bundle)
    logits, runs, may_run = model.logits, [], threading.Event()

    def held(batch: Any) -> Any:
        runs.append(len(batch))
        if len(runs) == 2:
            assert may_run.wait(30)
        if len(runs) == 3:
            raise BackendError("it broke")
        return logits(batch)

    monkeypatch.setattr(model, "logits", held)
    with served({"vivit": model}, Limits(timeout_s=30)) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
        connection.request("POST", "/v1/timeline", long_video.read_bytes())
        response = connection.getresponse()
        assert json.loads(response.readline())["windows"] > 4
        assert [json.loads(response.readline())["window"] for _ in range(2)] == [0, 1]
        may_run.set()
        assert [json.loads(response.readline())["window"] for _ in range(2)] == [2, 3]
        # The status has been sent long ago: what goes wrong now is a last line.
        assert json.loads(response.readline()) == {"error": "the server failed; its log says how"}
        assert response.read() == b""
        connection.close()
        assert client.metric("tubelet_requests_held") == 0


def test_who_hangs_up_in_a_long_answer_holds_no_place(
    vivit_bundle: Path, long_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also long after the time in which an answer has to begin."""
    model = load(vivit_bundle)
    logits, runs, may_run = model.logits, [], threading.Event()

    def held(batch: Any) -> Any:
        runs.append(len(batch))
        assert len(runs) == 1 or may_run.wait(60)
        return logits(batch)

    monkeypatch.setattr(model, "logits", held)
    with served({"vivit": model}, Limits(timeout_s=2)) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
        connection.request("POST", "/v1/timeline", long_video.read_bytes())
        response = connection.getresponse()
        assert json.loads(response.readline())["windows"] > 4
        time.sleep(2.5)
        assert client.metric("tubelet_requests_held") == 1
        response.close()
        connection.close()
        end = time.monotonic() + 30
        while client.metric("tubelet_requests_held"):
            assert time.monotonic() < end
        may_run.set()
    assert len(runs) == 2
