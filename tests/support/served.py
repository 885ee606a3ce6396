"""A server of bundles in this process, and a client that speaks to it plainly."""

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tubelet.runtime.classifier import VideoClassifier
from tubelet.serve.http.application import create_app
from tubelet.serve.http.limits import Limits
from tubelet.serve.http.server import listening, server_of


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """Speaks to the server on a port of this machine, in a connection of its own for each request."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("POST", path, body, headers)

    def metric(self, line: str) -> float:
        """The value of one line of /metrics, 0 where there is none yet."""
        for found in self.get("/metrics").body.decode().splitlines():
            if found.startswith(line + " "):
                return float(found.rpartition(" ")[2])
        return 0.0


@contextmanager
def served(models: Mapping[str, VideoClassifier], limits: Limits | None = None) -> Iterator[Client]:
    """Serve models until the block ends; they are closed then, and what was taken has been answered."""
    limits = limits or Limits()
    socket = listening("127.0.0.1", 0)
    server = server_of(create_app(models, limits), timeout_s=limits.timeout_s)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([socket])))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        yield Client(socket.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


def form(content: bytes, *, more: bytes = b"") -> tuple[bytes, dict[str, str]]:
    """A form with a video as its one file: its body and headers. more: parts in front of it."""
    head = b'--limit\r\nContent-Disposition: form-data; name="video"; filename="../../etc/passwd"\r\n\r\n'
    return more + head + content + b"\r\n--limit--\r\n", {"Content-Type": "multipart/form-data; boundary=limit"}
