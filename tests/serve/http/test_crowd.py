"""Many clients, and bad ones: who is too slow, goes away or comes too late, and what is left of them."""

import concurrent.futures
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from served import Client, served
from videos import make_video

from tubelet.runtime.classifier import VideoClassifier
from tubelet.runtime.load import load
from tubelet.serve.http.limits import Limits

HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n"


class Held:
    """A model that answers when it may, and remembers how many clips each run had."""

    def __init__(self, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.model: VideoClassifier = load(bundle)
        self.may_run = threading.Event()
        self.runs: list[int] = []
        logits = self.model.logits

        def held(batch: Any) -> Any:
            self.runs.append(len(batch))
            assert self.may_run.wait(30)
            return logits(batch)

        monkeypatch.setattr(self.model, "logits", held)


@pytest.fixture
def held(videomae_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(videomae_bundle, monkeypatch)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


def requests_held(client: Client) -> float:
    return client.metric("tubelet_requests_held")


@contextmanager
def connected(client: Client, *parts: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
        for part in parts:
            connection.sendall(part)
        yield connection


def received(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionResetError:
        pass  # it closed on what was still being sent
    return found


def test_the_queue_is_bounded_and_says_when_to_come_back(held: Held, video: Path) -> None:
    with served({"held": held.model}, Limits(queue=3, batch=2, timeout_s=30)) as client:
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            taken = [pool.submit(client.post, "/v1/classify", video.read_bytes()) for _ in range(3)]
            until(lambda: requests_held(client) == 3)
            refused = client.post("/v1/classify", video.read_bytes())
            assert refused.status == 503
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert refused.json == {"error": "3 requests are taken, as many as fit"}
            assert client.get("/v2/health/ready").status == 200  # what is no work is still answered
            held.may_run.set()
            assert [answer.result().status for answer in taken] == [200, 200, 200]
        assert client.post("/v1/classify", video.read_bytes()).status == 200
        assert requests_held(client) == 0


def test_clips_of_several_clients_share_a_run(held: Held, video: Path) -> None:
    with served({"held": held.model}, Limits(batch=4, delay_ms=60_000 / 2, timeout_s=30)) as client:
        held.may_run.set()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: client.post("/v1/classify", video.read_bytes()), range(8)))
    assert {answer.status for answer in answers} == {200}
    assert held.runs == [4, 4]


def test_an_answer_that_is_too_late_is_given_up(held: Held, video: Path) -> None:
    with served({"held": held.model}, Limits(timeout_s=0.5)) as client:
        late = client.post("/v1/classify", video.read_bytes())
        assert late.status == 503
        assert late.json == {"error": "the video could not be answered for within 0.5 seconds"}
        assert "retry-after" in late.headers
        held.may_run.set()
        assert client.post("/v1/classify", video.read_bytes()).status == 200


def test_who_goes_while_waiting_costs_the_model_nothing(held: Held, video: Path) -> None:
    body = video.read_bytes()
    with served({"held": held.model}, Limits(batch=1, timeout_s=30)) as client:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.post, "/v1/classify", body)
            until(lambda: held.runs == [1])
            for _ in range(3):
                with connected(client, HEAD % len(body), body):
                    until(lambda: requests_held(client) == 2)
                until(lambda: requests_held(client) == 1)
            held.may_run.set()
            assert first.result().status == 200
        assert client.post("/v1/classify", body).status == 200
        assert held.runs == [1, 1]
        assert client.metric('tubelet_requests_total{route="/v1/classify",status="gone"}') == 3


def test_slow_senders_do_not_hold_a_place_for_ever(videomae_bundle: Path, video: Path) -> None:
    body = video.read_bytes()
    with served({"model": load(videomae_bundle)}, Limits(timeout_s=0.5)) as client:
        with connected(client, HEAD % len(body), body[:100]) as slow:
            answer = received(slow)
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert answer.endswith(b'{"error":"the body did not arrive within 0.5 seconds"}')
        for head in (b"", b"POST /v1/cla", HEAD[:40]):  # not even the head is whole
            with connected(client, head) as slow:
                assert received(slow) == b""
        with connected(client, HEAD % (1 << 30)) as slow:  # refused at once, and never sends the rest
            assert received(slow).startswith(b"HTTP/1.1 413 ")
        assert requests_held(client) == 0
        assert client.post("/v1/classify", body).status == 200


def test_cut_connections_leave_nothing(videomae_bundle: Path, tmp_path: Path) -> None:
    large = make_video(tmp_path / "large.mkv", frames=120, size=(640, 480), codec="ffv1").read_bytes()
    assert len(large) > 2 << 20  # so that it goes to a file
    with served({"model": load(videomae_bundle)}) as client:
        client.post("/v1/classify", large)
        files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
        for share in (0, 1, 1 << 16, len(large) - 1, len(large)):
            with connected(client, HEAD % len(large), large[:share]):
                pass
        until(lambda: requests_held(client) == 0)
        answer = client.post("/v1/classify", large)
        assert answer.status == 200
        if files is not None:
            until(lambda: len(os.listdir("/proc/self/fd")) <= files)


@pytest.mark.parametrize(
    "request_text",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ],
    ids=["tls", "two hosts", "negative", "no chunk", "long"],
)
def test_what_is_no_http_ends_its_own_connection(request_text: bytes, videomae_bundle: Path) -> None:
    with served({"model": load(videomae_bundle)}, Limits(timeout_s=5)) as client:
        with connected(client, request_text) as connection:
            assert re.match(rb"(HTTP/1\.1 40[04] |$)", received(connection))
        assert client.get("/v2/health/ready").status == 200
        assert requests_held(client) == 0
