"""The real tritonserver, started on loopback ports over a model repository (see scripts/install_triton.py)."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HOME = Path(sys.prefix) / "triton"
READY_SECONDS = 120


@dataclass(frozen=True)
class Triton:
    """A server that runs. log: the file of what it says."""

    http: int
    grpc: int
    process: "subprocess.Popen[bytes]"
    log: Path

    def ask(self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """The status and body of a request over HTTP; with a body it is a POST."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", body, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=READY_SECONDS) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def batches(self, model: str) -> dict[int, int]:
        """How many batches of each size the model has run."""
        _, body = self.ask(f"/v2/models/{model}/stats")
        (stats,) = json.loads(body)["model_stats"]
        return {batch["batch_size"]: batch["compute_infer"]["count"] for batch in stats["batch_stats"]}

    def infer(self, folder: Path, *groups: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """What tritonclient makes of groups of requests, those of a group at once; see triton_client.py."""
        asked = folder / "requests.json"
        asked.write_text(json.dumps({"http": self.http, "grpc": self.grpc, "groups": groups}))
        program = Path(__file__).with_name("triton_client.py")
        done = subprocess.run(
            [HOME / "python" / "bin" / "python", program, asked],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        answers: list[list[dict[str, Any]]] = json.loads(done.stdout)
        return answers


def require_triton() -> None:
    """Skip the tests where there is no server."""
    if not (HOME / "installed.json").exists():
        absent = HOME / "absent.txt"
        pytest.skip(absent.read_text() if absent.exists() else "python scripts/install_triton.py installs it")


@contextmanager
def triton(repository: Path, log: Path, *options: str) -> Iterator[Triton]:
    """A server over the repository, ready when the block begins. It must end well, and leave no shared memory."""
    home = HOME / "server" / "pytriton" / "tritonserver"
    library = json.loads((HOME / "installed.json").read_text())["library"]
    http, grpc = free_ports(2)
    command = [
        str(home / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={home / 'backends'}",
        "--http-address=127.0.0.1",
        f"--http-port={http}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc}",
        "--allow-metrics=false",
        "--exit-timeout-secs=5",
        *options,
    ]
    # The stub embeds a Python in isolated mode, whose environment is that of the first one in PATH.
    path = f"{HOME / 'python' / 'bin'}:{os.environ['PATH']}"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env={**os.environ, "PATH": path, "LD_LIBRARY_PATH": library}, stdout=file, stderr=file
        )
    server = Triton(http, grpc, process, log)
    try:
        wait_until_ready(server)
        yield server
    finally:
        regions = shared_memory(process.pid)
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(60)
        finally:
            process.kill()
    assert code == 0, log.read_text()
    assert not [region for region in regions if region.exists()]


def wait_until_ready(server: Triton) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        assert server.process.poll() is None, server.log.read_text()
        try:
            if server.ask("/v2/health/ready")[0] == 200:
                return
        except urllib.error.URLError:
            pass
        time.sleep(0.1)
    pytest.fail(f"not ready after {READY_SECONDS} s\n{server.log.read_text()}")


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def shared_memory(process: int) -> set[Path]:
    """The regions by which a server speaks with its python models."""
    lines = Path(f"/proc/{process}/maps").read_text().splitlines()
    return {Path(line.split()[-1]) for line in lines if "/dev/shm/triton_python_backend" in line}
