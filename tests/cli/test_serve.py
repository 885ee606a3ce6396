"""`tubelet serve` as a process: it says where it is, and ends in good order."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from served import Client

from tubelet.cli.serve import name_of
from tubelet.cli.tree import main


@contextmanager
def serving(*arguments: object) -> Iterator[tuple["subprocess.Popen[str]", Client]]:
    """A server on a free port; it is killed where the block leaves it running."""
    command = [sys.executable, "-m", "tubelet", "serve", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r" on http://127\.0\.0\.1:([0-9]+)$", line)
        assert found, line + process.communicate(timeout=30)[1]
        yield process, Client(int(found[1]))
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_when_what_was_taken_is_answered(number: int, vivit_bundle: Path, video: Path) -> None:
    body = video.read_bytes()
    with serving(vivit_bundle) as (process, client):
        with socket.create_connection(("127.0.0.1", client.port)) as connection:
            head = f"POST /v1/classify HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[:1000])
            while client.metric("tubelet_requests_held") == 0:
                pass
            process.send_signal(number)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)  # it waits for the rest
            connection.sendall(body[1000:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b'"label":"activity ' in answer
        assert process.wait(30) == 0
        assert process.stderr is not None
        log = process.stderr.read()
        assert re.search(r"^\S+\+00:00 POST /v1/classify 200 \d+ ms trace=[0-9a-f]{32}$", log, re.MULTILINE)
        assert "Traceback" not in log


def test_a_second_signal_ends_it_at_once(vivit_bundle: Path) -> None:
    with serving(vivit_bundle) as (process, client), socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: here\r\nContent-Length: 99\r\n\r\n")
        while client.metric("tubelet_requests_held") == 0:
            pass
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["serve", *map(str, arguments)], prog_name="tubelet")
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit)
    return result.output


def test_what_cannot_be_served(vivit_bundle: Path, masked_bundle: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"Error: cannot listen on 127.0.0.1 port {port}: Address already in use" in refused(
            vivit_bundle, "--port", port
        )
    assert "cannot listen on no-such-host.invalid port 0" in refused(
        vivit_bundle, "--port", 0, "--host", "no-such-host.invalid"
    )
    assert "two bundles are called bundle" in refused(vivit_bundle, vivit_bundle, "--port", 0)
    assert "is for masked-modeling" in refused(masked_bundle, "--port", 0)
    assert "a bundle is a folder" in refused(tmp_path / "nothing", "--port", 0)


@pytest.mark.parametrize(
    ("bundle", "name"),
    [
        (Path("artifacts/demo"), "demo"),
        (Path("artifacts/demo/."), "demo"),
        ("hf://owner/name", "name"),
        ("hf://owner/name@v1.0", "name"),
    ],
)
def test_what_clients_call_a_bundle(bundle: Path | str, name: str) -> None:
    assert name_of(bundle) == name


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--batch=0", "batch must be a whole number from 1"),
        ("--workers=0", "workers must be a whole number from 1"),
        ("--queue=0", "queue must be a whole number from 1"),
        ("--max-mb=0", "max_mb must be a whole number from 1"),
        ("--max-pixel-mb=-1", "max_pixel_mb must be a whole number from 1"),
        ("--delay-ms=-1", "delay_ms must be from 0 to 60000, got -1.0"),
        ("--timeout-s=0", "timeout_s must be above 0, got 0.0"),
        ("--max-seconds=nan", "max_seconds must be above 0, got nan"),
        ("--port=70000", "70000 is not in the range 0<=x<=65535"),
    ],
)
def test_options_that_make_no_sense(option: str, message: str, vivit_bundle: Path) -> None:
    assert message in refused(vivit_bundle, option)


def test_without_the_extra(vivit_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("tubelet.serve.http")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    output = refused(vivit_bundle)
    assert output.startswith("Error: uvicorn is not installed; it is needed to serve bundles over HTTP\n")
    assert "pip install 'tubelet[serve]'" in output
