"""A real RTSP server on the loopback address: GStreamer's, run by the system's Python, where it is installed."""

import functools
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SYSTEM_PYTHON = "/usr/bin/python3"  # which has Debian's bindings


@functools.cache
def missing() -> str | None:
    """Why GStreamer's server cannot be started here; None where it can."""
    try:
        asked = subprocess.run(
            [SYSTEM_PYTHON, "-c", "import gi; gi.require_version('GstRtspServer', '1.0')"], capture_output=True
        )
    except FileNotFoundError:
        return f"there is no {SYSTEM_PYTHON}"
    return None if asked.returncode == 0 else "Debian's gir1.2-gst-rtsp-server-1.0 and python3-gi are not installed"


@contextmanager
def rtsp_server(port: int = 0, *login: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The host and port of a server with a picture at /live, and its process. Skips the test where there is none."""
    if why := missing():
        pytest.skip(why)
    command = [SYSTEM_PYTHON, str(Path(__file__).with_name("gst_rtsp_server.py")), str(port), *login]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        ready = process.stdout.readline().strip()
        if not ready:
            pytest.skip(process.stderr.read().strip())
        yield f"127.0.0.1:{ready}", process
    finally:
        process.kill()
        process.communicate()
