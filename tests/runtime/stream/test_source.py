"""Sources of frames that need no network: files, standard input, cameras that are none, and frames from Python."""

import io
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from videos import draw, make_video

from tubelet.preprocess.errors import OutOfBounds, VideoError
from tubelet.preprocess.live import LiveSource
from tubelet.runtime.stream.address import source_of
from tubelet.runtime.stream.back_off import BackOff
from tubelet.runtime.stream.frames import Segments
from tubelet.runtime.stream.source import SourceFrame, SourceState, open_source

AT_ONCE = BackOff(first=0.01, longest=0.01)
CAMERA = "lavfi:testsrc=size=64x48:rate=25"


def read(source, **options):
    """The states, and the frames, of a source until it ends."""
    items = list(open_source(source, **options))
    return [item for item in items if isinstance(item, SourceState)], [
        item for item in items if isinstance(item, SourceFrame)
    ]


def test_a_file_is_read_from_its_start_to_its_end(video):
    for given in (video, str(video), video.read_bytes(), io.BytesIO(video.read_bytes())):
        states, frames = read(given)
        assert [(state.state, state.attempt, state.reason, state.live) for state in states] == [
            ("connected", 0, None, False),
            ("ended", 0, None, False),
        ]
        assert [frame.seconds for frame in frames] == [number / 30 for number in range(30)]
        assert {frame.segment for frame in frames} == {0}


def test_a_file_that_is_live_keeps_its_own_speed(video):
    states, frames = read(video, live=True)
    assert all(state.live for state in states)
    # A loaded machine makes a frame late, and none early.
    for frame in frames:
        assert frame.seconds is not None
        assert frame.arrived - frames[0].arrived > frame.seconds - 0.01


def test_standard_input(tmp_path, monkeypatch):
    make_video(tmp_path / "a.ts")
    with (tmp_path / "a.ts").open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        states, frames = read("-")
    assert len(frames) == 30
    assert not states[0].live
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(VideoError, match="nothing comes in on standard input"):
        open_source("-")


def test_a_camera_is_live_and_has_its_own_clock():
    begun = time.monotonic()
    items = open_source(f"{CAMERA},realtime")
    assert next(items) == SourceState("connected", 0, None, 0, live=True)
    frames = [item for item, _ in zip(items, range(10), strict=False) if isinstance(item, SourceFrame)]
    assert [frame.seconds for frame in frames] == [number / 25 for number in range(10)]
    assert all(begun < frame.arrived < time.monotonic() for frame in frames)
    assert frames[-1].arrived - frames[0].arrived > 0.2


def test_a_camera_that_ends_is_opened_again_as_another_segment():
    states, frames = read(f"{CAMERA}:duration=0.2", retries=2, back_off=AT_ONCE)
    assert [(state.state, state.attempt, state.reason, state.segment) for state in states] == [
        ("connected", 0, None, 0),
        ("lost", 0, "it ended", 0),
        ("connected", 1, None, 1),
        ("lost", 1, "it ended", 1),
        ("connected", 2, None, 2),
        ("lost", 2, "it ended", 2),
        ("ended", 2, "it ended", 2),
    ]
    assert [frame.segment for frame in frames] == [0] * 5 + [1] * 5 + [2] * 5
    # Read as a file, it ends.
    states, frames = read(f"{CAMERA}:duration=0.2", live=False)
    assert [state.state for state in states] == ["connected", "ended"]
    assert len(frames) == 5


def test_stop_ends_a_camera_and_a_wait():
    stop = threading.Event()
    items = open_source(CAMERA, stop=stop)
    assert len([next(items) for _ in range(5)]) == 5
    stop.set()
    assert list(items) == []
    stop = threading.Event()
    items = open_source(f"{CAMERA}:duration=0.2", stop=stop, back_off=BackOff(first=600, longest=600))
    threading.Timer(0.3, stop.set).start()
    assert next(reversed(list(items))).state == "lost"  # type: ignore[union-attr]


def test_frames_from_python():
    pixels = draw(0, (64, 48))
    decoded = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    states, frames = read((frame, seconds) for frame, seconds in [(pixels, -0.5), (decoded, None), (pixels, 1)])
    assert [state.state for state in states] == ["connected", "ended"]
    assert [frame.seconds for frame in frames] == [-0.5, None, 1.0]
    assert frames[0].frame is pixels
    assert frames[1].frame is decoded


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "a source must be a path, a URL, a camera or pairs of frame and seconds, got int"),
        ([5], r"frame 0 must be given as \(frame, seconds\), got int"),
        ([(np.zeros((4, 4, 3)), 0)], r"frame 0 must be .* got float64 \(4, 4, 3\)"),
        ([(np.zeros((4, 4), np.uint8), 0)], r"got uint8 \(4, 4\)"),
        ([("a.png", 0)], "got str"),
        ([(np.zeros((4, 4, 3), np.uint8), "late")], "the time of frame 0 must be seconds or None, got 'late'"),
        (Path("none.mp4"), "none.mp4 does not exist"),
        ("/dev/video99", "No such file or directory"),
        ("lavfi:nosuchfilter", "Filter not found"),
        ("nosuch://host/live", "Protocol not found"),
    ],
)
def test_what_is_no_source(given, message):
    with pytest.raises(VideoError, match=message):
        read(given)


@pytest.mark.parametrize("options", [{"stall_seconds": 0}, {"stall_seconds": float("nan")}, {"retries": -1}])
def test_numbers_that_make_no_sense(options):
    with pytest.raises(OutOfBounds):
        open_source(CAMERA, **options)


def test_segments():
    small, large, upright = (np.zeros(shape, np.uint8) for shape in [(4, 6, 3), (8, 6, 3), (6, 4, 3)])
    segments = Segments()
    coming = [(small, 0.0), (small, None), (small, 0.1), (small, 0.1), (small, 0.05), (small, None), (large, 0.1)]
    assert [segments.of(*item) for item in coming] == [0, 0, 0, 0, 1, 1, 2]
    segments.cut()
    segments.cut()  # nothing came since
    assert [segments.of(upright, -5.0), segments.of(upright, 5.0), segments.of(small, 6.0)] == [3, 3, 4]


@pytest.mark.parametrize(
    ("platform", "name", "expected"),
    [
        ("linux", "0", ("/dev/video0", "v4l2", {})),
        ("linux", "/dev/v4l/by-id/usb", ("/dev/v4l/by-id/usb", "v4l2", {})),
        ("darwin", "0", ("0", "avfoundation", {"framerate": "30"})),
        ("win32", "Integrated Camera", ("video=Integrated Camera", "dshow", {})),
    ],
)
def test_a_camera_of_each_platform(monkeypatch, platform, name, expected):
    monkeypatch.setattr(sys, "platform", platform)
    found = source_of(f"camera:{name}")
    assert isinstance(found, LiveSource)
    assert (found.content, found.format, found.options) == expected


def test_addresses():
    rtsp = source_of("rtsp://admin:geheim@camera/live", options={"buffer_size": "1"})
    assert isinstance(rtsp, LiveSource)
    assert (rtsp.name, rtsp.content) == ("rtsp://***@camera/live", "rtsp://admin:geheim@camera/live")
    assert (rtsp.seconds, rtsp.options) == (
        10,
        {"fpsprobesize": "0", "rtsp_transport": "tcp", "buffer_size": "1"},
    )
    by_udp = source_of("rtsp://camera/live?udp")
    assert isinstance(by_udp, LiveSource)
    assert by_udp.options == {"fpsprobesize": "0"}
    hls = source_of("https://host/live.m3u8?token=a")
    assert isinstance(hls, LiveSource)
    assert hls.seconds == 30
    udp = source_of("udp://239.0.0.1:1234", stall_seconds=2)
    assert isinstance(udp, LiveSource)
    assert (udp.format, udp.seconds) == ("mpegts", 2)
    assert not isinstance(source_of("clip.mp4"), LiveSource)
    assert not isinstance(source_of(Path("clip.mp4")), LiveSource)


def test_back_off_doubles_up_to_its_limit_and_jitters():
    steady = BackOff(jitter=0)
    assert [steady.seconds(attempt) for attempt in (1, 2, 3, 4, 5, 6, 7, 1000)] == [1, 2, 4, 8, 16, 30, 30, 30]
    waits = {BackOff().seconds(3) for _ in range(100)}
    assert len(waits) > 50
    assert 3 <= min(waits) < max(waits) <= 5
