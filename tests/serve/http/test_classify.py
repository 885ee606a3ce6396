"""POST /v1/classify of a server: what it answers is what the library says, and what it refuses."""

import concurrent.futures
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate
from prometheus_client.parser import text_string_to_metric_families
from served import Client, form, served
from videos import damage, make_video

from tubelet.preprocess.errors import BackendError
from tubelet.runtime.load import load
from tubelet.runtime.reading import Reading
from tubelet.serve.http.application import create_app
from tubelet.serve.http.limits import Limits
from tubelet.serve.http.metrics import STAGES

LIMITS = Limits(max_mb=2, max_pixel_mb=16, max_seconds=5, timeout_s=20)


@pytest.fixture(scope="module")
def client(vivit_bundle: Path, videomae_bundle: Path) -> Iterator[Client]:
    """A server of two models."""
    with served({"vivit": load(vivit_bundle), "videomae": load(videomae_bundle)}, LIMITS) as client:
        yield client


@pytest.mark.parametrize("name", ["vivit", "videomae"])
@pytest.mark.parametrize(
    ("query", "reading", "top_k"),
    [
        ("", Reading(), 5),
        ("&top_k=2", Reading(), 2),
        ("&clips=2&crops=3", Reading(clips=2, crops=3), 5),
        ("&sampling=uniform&fps=10&resize=fast", Reading(sampling="uniform", fps=10, resize="fast"), 5),
        ("&rotate=false&track=0&on_error=skip", Reading(rotate=False, track=0, on_error="skip"), 5),
    ],
)
def test_answers_are_those_of_the_library(
    name: str, query: str, reading: Reading, top_k: int, client: Client, video: Path, request: pytest.FixtureRequest
) -> None:
    answer = client.post(f"/v1/classify?model={name}{query}", video.read_bytes())
    assert answer.status == 200, answer.body
    with load(request.getfixturevalue(f"{name}_bundle"), reading=reading) as model:
        (expected,) = model.classify_many([video], top_k=top_k)
    said = expected.to_json(reading)
    scores = [prediction.pop("score") for prediction in said["predictions"]]
    found = answer.json
    assert [prediction.pop("score") for prediction in found["predictions"]] == pytest.approx(scores, abs=1e-6)
    assert set(found.pop("stages_ms")) == set(STAGES)
    assert found.pop("model") == name
    del said["video"]
    assert found == said


def test_a_form_with_a_file_is_the_same(client: Client, video: Path) -> None:
    plain = client.post("/v1/classify?model=vivit", video.read_bytes()).json
    answer = client.post("/v1/classify?model=vivit", *form(video.read_bytes()))
    assert answer.status == 200, answer.body
    assert answer.json["predictions"] == plain["predictions"]


def test_clients_at_once_get_their_own_answers(client: Client, vivit_bundle: Path, tmp_path: Path) -> None:
    """Videos of different lengths, whose frames tell them apart."""
    videos = [make_video(tmp_path / f"{frames}.mp4", frames=frames) for frames in range(8, 40, 4)]
    with load(vivit_bundle) as model:
        expected = [dict(model.classify(video)) for video in videos]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda video: client.post("/v1/classify?model=vivit", video.read_bytes()), videos * 4))
    for answer, scores in zip(found, expected * 4, strict=True):
        said = {prediction["label"]: prediction["score"] for prediction in answer.json["predictions"]}
        assert said == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("", 400, "there are several models; name one by model=: vivit, videomae"),
        ("?model=i3d", 404, "there is no model 'i3d'; there are vivit, videomae"),
        ("?model=vivit&top_k=0", 400, "top_k is '0': it must be from 1 to 10000"),
        ("?model=vivit&top_k=many", 400, "top_k is 'many': 'many' is no whole number"),
        ("?model=vivit&clips=40&crops=3", 400, "clips x crops must be at most 48"),
        ("?model=vivit&crops=2", 400, "crops must be 1 or 3, got 2"),
        ("?model=vivit&sampling=uniform&clips=2", 400, "uniform sampling is one clip over the whole file, got 2 clips"),
        ("?model=vivit&fps=nan", 400, "fps is 'nan': it must be above 0 and at most 100000"),
        ("?model=vivit&on_error=ignore", 400, "on_error is 'ignore': it must be raise or skip"),
        ("?model=vivit&rotate=maybe", 400, "rotate is 'maybe': it must be true or false"),
        ("?model=vivit&allow_url=true", 400, "there is no option 'allow_url'; there are model, top_k, clips"),
        ("?model=vivit&max_mb=9999", 400, "there is no option 'max_mb'; there are model, top_k, clips"),
        ("?model=vivit&track=7", 422, "the video has 1 video track, 0, but track 7 was asked for"),
    ],
)
def test_options_that_make_no_sense(query: str, status: int, message: str, client: Client, video: Path) -> None:
    answer = client.post(f"/v1/classify{query}", video.read_bytes())
    assert answer.status == status
    assert answer.json["error"].startswith(message)


# Texts that make FFmpeg open another file, {target}, which is a video that could be classified.
HOSTILE = {
    "a playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{target}\n#EXT-X-ENDLIST\n",
    "a list of files": "ffconcat version 1.0\nfile '{target}'\n",
    "a path": "{target}",
    "a URL": "file://{target}",
    "a session": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na={target}\n",
    "a film strip": "<?xml version='1.0'?><MPD><Period><BaseURL>file://{target}</BaseURL></Period></MPD>",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_path_of_a_client_is_opened(kind: str, client: Client, tmp_path: Path) -> None:
    target = make_video(tmp_path / "secret.mp4")
    answer = client.post("/v1/classify?model=vivit", HOSTILE[kind].format(target=target).encode())
    assert answer.status == 422
    assert "the video" in answer.json["error"]
    assert "secret" not in answer.json["error"]
    assert str(tmp_path) not in answer.json["error"]


def test_broken_videos_are_the_error_of_their_request(client: Client, tmp_path: Path) -> None:
    damaged = damage(make_video(tmp_path / "damaged.mp4"), range(5, 20)).read_bytes()
    answer = client.post("/v1/classify?model=vivit", damaged)
    assert answer.status == 422
    assert answer.json["error"].startswith("the video is damaged: ")
    skipped = client.post("/v1/classify?model=vivit&on_error=skip", damaged)
    assert skipped.status == 200
    assert skipped.json["skipped_packets"] > 0
    assert client.post("/v1/classify?model=vivit", damaged[: len(damaged) // 2]).status == 422


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"", {}, 400, "the request has no video"),
        (*form(b""), 400, "the request has no video"),
        (b"--limit--\r\n", {"Content-Type": "multipart/form-data; boundary=limit"}, 400, "a form must hold one file"),
        (b"no form at all", {"Content-Type": "multipart/form-data; boundary=limit"}, 400, ""),
        (b"", {"Content-Type": "multipart/form-data"}, 400, "Missing boundary"),
        (
            *form(b"x", more=b'--limit\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n3\r\n'),
            400,
            "Too many fields",
        ),
        (*form(b"x", more=form(b"y")[0].removesuffix(b"--limit--\r\n")), 400, "Too many files"),
        (
            gzip.compress(b"x", mtime=0),
            {"Content-Encoding": "gzip"},
            415,
            "the body must come as it is, got Content-Encoding 'gzip'",
        ),
        (bytes(3 << 20), {}, 413, "the body is larger than the 2 MB that this server takes"),
        ((bytes(1 << 18) for _ in range(12)), {}, 413, "the body is larger than the 2 MB that this server takes"),
        (*form(bytes(3 << 20)), 413, "the body is larger than the 2 MB that this server takes"),
    ],
)
def test_bodies_that_are_no_video(
    body: Any, headers: dict[str, str], status: int, message: str, client: Client
) -> None:
    answer = client.post("/v1/classify?model=vivit", body, headers)
    assert answer.status == status, answer.body
    assert answer.json["error"].startswith(message)


def test_a_video_that_is_too_long_or_too_large(client: Client, tmp_path: Path) -> None:
    long = make_video(tmp_path / "long.mp4", frames=155)
    answer = client.post("/v1/classify?model=vivit", long.read_bytes())
    assert (answer.status, answer.json["error"]) == (422, "the video lasts 5.1 seconds, and it may last 5")
    large = make_video(tmp_path / "large.mp4", frames=2, size=(1920, 1080))
    answer = client.post("/v1/classify?model=vivit", large.read_bytes())
    assert answer.status == 422
    assert "has frames of 1920x1080" in answer.json["error"]


def test_other_pages_and_methods(client: Client) -> None:
    assert client.get("/v1/classify").status == 405
    assert client.post("/v1/models", b"").status == 405
    assert client.get("/etc/passwd").json == {"error": "Not Found"}
    assert client.get("/v2/health/live").json == {"live": True}
    assert client.get("/v2/health/ready").json == {"ready": True}


def test_models_say_what_they_are(client: Client) -> None:
    found = client.get("/v1/models").json
    assert [model["name"] for model in found["models"]] == ["vivit", "videomae"]
    assert found["models"][0]["labels"] == [f"activity {number}" for number in range(5)]
    assert found["models"][0]["num_frames"] == 4
    assert (found["max_mb"], found["max_seconds"]) == (2, 5)


def test_the_description_is_valid_and_whole(client: Client, vivit_bundle: Path, video: Path) -> None:
    description = client.get("/openapi.json").json
    validate(description)
    with load(vivit_bundle) as model:
        routes = {
            path for route in create_app({"vivit": model}, LIMITS).routes if (path := getattr(route, "path", None))
        }
    for_browsers = {route for route in routes if route == "/" or route.startswith("/page/")}
    assert routes - for_browsers - set(description["paths"]) == {"/metrics", "/openapi.json"}
    for path, schema in (
        (f"/v1/classify?model=vivit{query}", "Classification") for query in ("", "&clips=2", "&on_error=skip")
    ):
        jsonschema.validate(
            client.post(path, video.read_bytes()).json, description["components"]["schemas"][schema] | description
        )
    jsonschema.validate(client.post("/v1/classify", b"").json, description["components"]["schemas"]["Error"])


def test_every_answer_is_safe_to_show(client: Client) -> None:
    for path in ("/v1/models", "/nowhere", "/v1/classify"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("given", "adopted"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", True),
        (f"cc-{TRACE}-00f067aa0ba902b7-01-what-is-to-come", True),
        (f"00-{TRACE}-00f067aa0ba902b7-01-more", False),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", False),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", False),
        ("nonsense", False),
    ],
)
def test_a_trace_is_taken_up(given: str, adopted: bool, client: Client) -> None:
    """W3C Trace Context: another span of the same trace; a header that is not valid is as none."""
    version, trace, span, flags = client.get("/v1/models", {"traceparent": given}).headers["traceparent"].split("-")
    assert version == "00"
    assert (trace == TRACE) is adopted
    assert len(trace) == 32
    assert len(span) == 16
    assert span not in given
    assert flags == ("01" if adopted else "00")


def test_what_is_counted(videomae_bundle: Path, video: Path) -> None:
    with served({"videomae": load(videomae_bundle)}, LIMITS) as client:
        for body in (video.read_bytes(), video.read_bytes(), b"no video"):
            client.post("/v1/classify", body)
        text = client.get("/metrics").body.decode()
        found = {
            sample.name + json.dumps(sample.labels): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    assert found['tubelet_requests_total{"route": "/v1/classify", "status": "200"}'] == 2
    assert found['tubelet_requests_total{"route": "/v1/classify", "status": "422"}'] == 1
    for stage in STAGES:
        assert found[f'tubelet_stage_seconds_count{{"model": "videomae", "stage": "{stage}"}}'] == 2
    assert found['tubelet_run_clips_sum{"model": "videomae"}'] == 2
    assert found["tubelet_requests_held{}"] == 0


def test_a_failure_of_the_engine_is_not_told_to_clients(
    vivit_bundle: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(vivit_bundle)

    def fail(_: Any) -> Any:
        raise BackendError(f"{vivit_bundle} failed")

    monkeypatch.setattr(model, "logits", fail)
    with served({"vivit": model}) as client:
        answer = client.post("/v1/classify", video.read_bytes())
        assert (answer.status, answer.json) == (500, {"error": "the server failed; its log says how"})
        assert client.get("/v2/health/ready").status == 200
