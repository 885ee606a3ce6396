"""The Open Inference Protocol, spoken by the real client of Triton, and by none that is well."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import oracle
from served import Client, served

from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.load import load
from tubelet.runtime.reading import Reading
from tubelet.serve.http.limits import Limits

LABELS = [f"activity {number}" for number in range(5)]


@pytest.fixture(scope="module")
def client(vivit_bundle: Path, videomae_bundle: Path) -> Iterator[Client]:
    with served({"vivit": load(vivit_bundle), "videomae": load(videomae_bundle)}, Limits(max_mb=24)) as client:
        yield client


def infers(client: Client, model: str, inputs: Any, outputs: Any = (), **options: Any) -> Any:
    return oracle("tritonclient").ask("triton_infers", client.port, model, inputs, outputs, options)


def clips_of(bundle: Path, count: int) -> NDArray[Any]:
    """Seeded clips as the graph takes them: float32 pixel_values or uint8 frames."""
    info = Bundle.open(bundle).graphs[0].inputs[0]
    random = np.random.default_rng(0)
    size = (count, *info.clip_shape)
    if info.dtype == "uint8":
        return random.integers(0, 256, size, np.uint8)
    return random.standard_normal(size).astype(np.float32)


def test_what_the_client_hears_of_the_server(client: Client) -> None:
    heard = oracle("tritonclient").ask("triton_describes", client.port, "vivit")
    assert heard["live"]
    assert heard["ready"]
    assert heard["model ready"] == [True, True, False]
    assert heard["server"]["name"] == "tubelet"
    assert heard["server"]["extensions"] == ["binary_tensor_data", "classification"]
    assert heard["model"] == {
        "name": "vivit",
        "versions": ["1"],
        "platform": "tubelet_bundle",
        "inputs": [
            {"name": "video", "datatype": "UINT8", "shape": [-1]},
            {"name": "pixel_values", "datatype": "FP32", "shape": [-1, 4, 3, 32, 32]},
        ],
        "outputs": [
            {"name": "logits", "datatype": "FP32", "shape": [-1, 5]},
            {"name": "scores", "datatype": "FP32", "shape": [-1, 5]},
        ],
    }
    frames = oracle("tritonclient").ask("triton_describes", client.port, "videomae")["model"]["inputs"][1]
    assert (frames["name"], frames["datatype"]) == ("frames", "UINT8")


@pytest.mark.parametrize("sent_as_bytes", [True, False])
@pytest.mark.parametrize("asked_as_bytes", [True, False])
@pytest.mark.parametrize(("model", "name"), [("vivit", "pixel_values"), ("videomae", "frames")])
def test_logits_of_clips_are_the_local_ones(
    model: str, name: str, sent_as_bytes: bool, asked_as_bytes: bool, client: Client, request: pytest.FixtureRequest
) -> None:
    bundle = request.getfixturevalue(f"{model}_bundle")
    clips = clips_of(bundle, 3)
    outputs = [("logits", asked_as_bytes, 0), ("scores", asked_as_bytes, 0)]
    response, found = infers(client, model, {name: (clips, sent_as_bytes)}, outputs)
    with load(bundle) as local:
        logits = local.logits(clips)
        np.testing.assert_array_equal(found["logits"], logits)
        np.testing.assert_array_equal(found["scores"], np.stack([local.scores(clip[np.newaxis]) for clip in logits]))
    assert (response["model_name"], response["model_version"]) == (model, "1")


def test_what_is_not_asked_for(client: Client, vivit_bundle: Path) -> None:
    clips = clips_of(vivit_bundle, 1)
    response, found = infers(client, "vivit", {"pixel_values": (clips, True)}, request_id="seven", model_version="1")
    assert response["id"] == "seven"
    assert set(found) == {"logits", "scores"}  # all there is
    _, found = infers(client, "vivit", {"pixel_values": (clips, True)}, [("scores", True, 0)])
    assert set(found) == {"scores"}


@pytest.mark.parametrize("sent_as_bytes", [True, False])
def test_a_video_as_bytes_of_uint8(sent_as_bytes: bool, client: Client, vivit_bundle: Path, video: Path) -> None:
    content = np.frombuffer(video.read_bytes(), np.uint8)
    asked = [("logits", True, 0), ("scores", False, 0)]
    _, found = infers(client, "vivit", {"video": (content, sent_as_bytes)}, asked, parameters={"clips": 2, "crops": 3})
    with load(vivit_bundle, reading=Reading(clips=2, crops=3)) as local:
        logits = local.logits(local.prepare(local.read(video)))
        np.testing.assert_allclose(found["logits"], logits, atol=1e-5)
        np.testing.assert_allclose(found["scores"], local.scores(logits)[np.newaxis], atol=1e-6)


@pytest.mark.parametrize("as_bytes", [True, False])
def test_labels_by_the_classification_extension(
    as_bytes: bool, client: Client, vivit_bundle: Path, video: Path
) -> None:
    content = np.frombuffer(video.read_bytes(), np.uint8)
    _, found = infers(client, "vivit", {"video": (content, True)}, [("scores", as_bytes, 2)])
    with load(vivit_bundle) as local:
        best = local.classify(video, top_k=2)
    expected = [f"{score:f}:{LABELS.index(label)}:{label}" for label, score in best]
    said = [text.decode() if isinstance(text, bytes) else text for text in found["scores"].reshape(-1).tolist()]
    assert said == expected


@pytest.mark.parametrize(
    ("model", "name", "array", "message"),
    [
        ("vivit", "pixel_values", np.zeros((1, 4, 3, 32, 31), np.float32), "pixel_values must be float32"),
        ("vivit", "pixel_values", np.zeros((0, 4, 3, 32, 32), np.float32), "pixel_values must be float32"),
        (
            "vivit",
            "pixel_values",
            np.full((1, 4, 3, 32, 32), np.nan, np.float32),
            "has values that are NaN or infinite",
        ),
        (
            "vivit",
            "pixel_values",
            np.zeros((1, 4, 3, 32, 32), np.float64),
            "is 'FP64'; this server takes UINT8 and FP32",
        ),
        (
            "vivit",
            "frames",
            np.zeros((1, 4, 32, 32, 3), np.uint8),
            "takes one input, video or pixel_values, got frames",
        ),
        ("vivit", "video", np.zeros((2, 2), np.uint8), "video must be UINT8"),
        ("vivit", "video", np.frombuffer(b"no video", np.uint8), "the video cannot be opened as a video"),
        ("i3d", "video", np.zeros(4, np.uint8), "there is no model 'i3d'"),
    ],
)
def test_the_client_hears_what_is_wrong(model: str, name: str, array: Any, message: str, client: Client) -> None:
    with pytest.raises(RuntimeError, match=message):
        infers(client, model, {name: (array, True)})


def test_clips_of_one_client_that_overflow_are_its_own_error(client: Client, vivit_bundle: Path) -> None:
    with pytest.raises(RuntimeError, match="the server failed; its log says how"):
        infers(client, "vivit", {"pixel_values": (np.full((1, 4, 3, 32, 32), 3e38, np.float32), True)})
    infers(client, "vivit", {"pixel_values": (clips_of(vivit_bundle, 1), True)})


INPUT = {"name": "video", "shape": [4], "datatype": "UINT8", "data": [1, 2, 3, 4]}
BINARY = {"name": "video", "shape": [4], "datatype": "UINT8", "parameters": {"binary_data_size": 4}}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "the JSON of the request: Input data was truncated"),
        (b"[" * 200_000, "the JSON of the request"),
        (b'{"inputs": 3}', "the JSON of the request: Expected `array`, got `int` - at `$.inputs`"),
        ({"inputs": []}, "vivit takes one input, video or pixel_values, got none"),
        ({"inputs": [INPUT, INPUT]}, "input 'video' is given twice"),
        ({"inputs": [INPUT | {"data": [1, 2, 3]}]}, "input 'video' of shape [4] needs 4 numbers of UINT8"),
        ({"inputs": [INPUT | {"data": [1, 2, 3, 256]}]}, "input 'video' is UINT8, and has a number outside 0 to 255"),
        ({"inputs": [INPUT | {"data": [1, 2, 3, -1]}]}, "input 'video' is UINT8, and has a number outside 0 to 255"),
        ({"inputs": [INPUT | {"data": [1, 2, 3, 4.5]}]}, "input 'video' of shape [4] needs 4 numbers of UINT8"),
        ({"inputs": [INPUT | {"data": ["a", "b", "c", "d"]}]}, "input 'video' of shape [4] needs 4 numbers of UINT8"),
        ({"inputs": [INPUT | {"data": [[1, 2], [3]]}]}, "the data of input 'video' is no tensor"),
        ({"inputs": [INPUT | {"data": [1, 2, 3, 10**40]}]}, "input 'video' of shape [4] needs 4 numbers of UINT8"),
        ({"inputs": [INPUT | {"shape": [-4]}]}, "input 'video' has a shape that no tensor has: [-4]"),
        ({"inputs": [INPUT | {"shape": [1] * 99}]}, "input 'video' has a shape that no tensor has"),
        ({"inputs": [INPUT | {"datatype": "BYTES"}]}, "input 'video' is 'BYTES'; this server takes UINT8 and FP32"),
        ({"inputs": [{"name": "video", "shape": [4], "datatype": "UINT8"}]}, "input 'video' has neither data nor"),
        (
            {"inputs": [INPUT], "outputs": [{"name": "labels"}]},
            "there is no output 'labels'; there are logits and scores",
        ),
        (
            {"inputs": [INPUT], "outputs": [{"name": "scores", "parameters": {"classification": -1}}]},
            "classification must be a number of labels, got -1",
        ),
        ({"inputs": [INPUT], "parameters": {"allow_url": True}}, "there is no option 'allow_url'"),
        ({"inputs": [INPUT], "parameters": {"clips": "99999"}}, "clips is '99999': it must be from 1 to 48"),
        (
            {"inputs": [BINARY | {"parameters": {"binary_data_size": 5}}]},
            "input 'video' of shape [4] is 4 bytes, not 5",
        ),
        (
            {"inputs": [BINARY | {"parameters": {"binary_data_size": -1}}]},
            "input 'video' of shape [4] is 4 bytes, not -1",
        ),
        ({"inputs": [BINARY]}, "input 'video' is 4 bytes, and the body has 0 left"),
        ({"inputs": [BINARY | {"data": [1]}]}, "input 'video' has both data and binary_data_size"),
        ({"inputs": [BINARY | {"shape": [2**62, 4]}]}, "input 'video' of shape"),
    ],
)
def test_requests_that_are_not_of_the_protocol(document: Any, message: str, client: Client) -> None:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer = client.post("/v2/models/vivit/infer", body)
    assert answer.status == 400, answer.body
    assert message in answer.json["error"]


@pytest.mark.parametrize(
    ("length", "more", "message"),
    [
        ("0", b"", "the JSON of the request"),
        ("-1", b"", "Inference-Header-Content-Length is '-1'"),
        ("99999", b"", "Inference-Header-Content-Length is '99999', of a body of"),
        ("9" * 999, b"", "Inference-Header-Content-Length is '999"),
        ("²", b"", "Inference-Header-Content-Length is "),
        (None, b"123", "3 bytes of the body belong to no input"),
    ],
)
def test_lengths_that_are_not_true(length: str | None, more: bytes, message: str, client: Client) -> None:
    document = json.dumps({"inputs": [INPUT]}).encode()
    header = str(len(document)) if length is None else length
    answer = client.post(
        "/v2/models/vivit/infer",
        document + more,
        {"Inference-Header-Content-Length": header.encode().decode("latin-1")},
    )
    assert answer.status == 400, answer.body
    assert message in answer.json["error"]


def test_other_versions_and_too_much_json(client: Client) -> None:
    assert client.get("/v2/models/vivit/versions/1/ready").json == {"name": "vivit", "ready": True}
    answer = client.get("/v2/models/vivit/versions/2")
    assert (answer.status, answer.json) == (404, {"error": "model vivit has version 1 alone, got '2'"})
    answer = client.post("/v2/models/vivit/infer", b" " * (17 << 20))
    assert answer.status == 413
    assert answer.json["error"] == "the JSON is larger than 16 MB: send tensors as binary data"


def test_the_bytes_behind_json_are_those_of_the_protocol(client: Client, vivit_bundle: Path) -> None:
    """Written out by hand, so that the client and the server cannot agree on another layout."""
    clips = clips_of(vivit_bundle, 2)
    described = {"name": "pixel_values", "shape": list(clips.shape), "datatype": "FP32"}
    document = json.dumps(
        {
            "inputs": [described | {"parameters": {"binary_data_size": clips.nbytes}}],
            "outputs": [{"name": "logits", "parameters": {"binary_data": True}}],
        }
    ).encode()
    content = struct.pack(f"<{clips.size}f", *clips.reshape(-1).tolist())
    answer = client.post(
        "/v2/models/vivit/infer", document + content, {"Inference-Header-Content-Length": str(len(document))}
    )
    assert answer.status == 200, answer.body
    length = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.body[:length])["outputs"]
    assert output == {
        "name": "logits",
        "datatype": "FP32",
        "shape": [2, 5],
        "parameters": {"binary_data_size": 40},
    }
    with load(vivit_bundle) as local:
        assert answer.body[length:] == local.logits(clips).astype("<f4").tobytes()
