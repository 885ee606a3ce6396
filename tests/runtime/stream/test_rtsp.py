"""RTSP: pushed to a reader that listens, and pulled from a server of GStreamer that dies and comes back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rtsp_server import rtsp_server
from streams import frames_of, free_port, numbers, states_of

from tubelet.preprocess.errors import VideoError
from tubelet.runtime.stream.source import BackOff, SourceFrame, SourceState, open_source

SUPPORT = Path(__file__).parents[2] / "support"
SOON = BackOff(first=0.2, longest=0.2)
PATIENT = 30.0  # seconds: what a loaded machine may take


def test_what_is_pushed_to_a_reader_that_listens():
    url = f"rtsp://127.0.0.1:{free_port()}/live"
    command = [sys.executable, str(SUPPORT / "rtsp_push.py"), url, "40", "50"]
    sender = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(SUPPORT)})  # of a wheel, -P leaves it out
    try:
        items = list(
            open_source(url, stall_seconds=PATIENT, retries=0, options={"rtsp_flags": "listen", "listen_timeout": "60"})
        )
    finally:
        assert sender.wait(PATIENT) == 0
    frames = frames_of(items)
    assert [state.state for state in states_of(items)] == ["connected", "lost", "ended"]
    assert numbers(items) == list(range(40))
    # RTSP tells no time of the first frame, and begins below 0.
    assert frames[0].seconds is None
    times = [frame.seconds for frame in frames if frame.seconds is not None]
    assert len(times) == 39
    assert times == sorted(times)
    assert times[0] < 0.04
    assert {frame.segment for frame in frames} == {0}


def test_a_server_that_dies_and_comes_back():
    with rtsp_server() as (host, process):
        items = open_source(f"rtsp://{host}/live", stall_seconds=PATIENT, back_off=SOON)
        begin = [next(items) for _ in range(15)]
        process.kill()
        process.wait()
        lost = next(item for item in items if isinstance(item, SourceState))
    again = []
    with rtsp_server(int(host.rpartition(":")[2])):
        for item in items:
            again.append(item)
            if len(frames_of(again)) == 10:
                break
    assert isinstance(begin[0], SourceState)
    assert begin[0].live
    assert all(isinstance(item, SourceFrame) and item.segment == 0 for item in begin[1:])
    assert lost.state == "lost"
    back = next(state for state in states_of(again) if state.state == "connected")
    assert back.attempt >= 1
    assert {frame.segment for frame in frames_of(again)} == {1}


def test_a_path_that_is_not_there_is_waited_for_and_a_password_is_not():
    with rtsp_server() as (host, _):
        found = list(open_source(f"rtsp://{host}/none", retries=1, back_off=SOON))
    assert [state.state for state in states_of(found)] == ["lost", "lost", "ended"]
    with rtsp_server(0, "admin", "geheim") as (host, _):
        for login in ("", "admin:falschgeheim@"):
            with pytest.raises(VideoError, match="401 Unauthorized") as caught:
                list(open_source(f"rtsp://{login}{host}/live"))
            assert "geheim" not in str(caught.value)
        items = open_source(f"rtsp://admin:geheim@{host}/live", stall_seconds=PATIENT)
        assert "geheim" not in str([next(items) for _ in range(5)])
