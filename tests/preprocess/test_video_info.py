"""What `probe` says of a file."""

import json

import pytest
from videos import (
    VARIANTS,
    make_video,
)

from tubelet.preprocess.decode import probe


def test_probe(tmp_path):
    path = make_video(tmp_path / "tall.mp4", size=(48, 96), rate=25, frames=10, rotation=-90)
    info = probe(str(path))
    assert info.to_json() == {
        "path": str(path),
        "container": "mov,mp4,m4a,3gp,3g2,mj2",
        "codec": "h264",
        "width": 48,
        "height": 96,
        "rotation": -90,
        "mirrored": False,
        "pixel_format": "yuv420p",
        "colour_space": None,
        "colour_range": None,
        "frames": 10,
        "counted_by": "list",
        "timestamps": "rising",
        "frame_rate": 25.0,
        "variable_rate": False,
        "duration_seconds": 0.4,
        "tracks": 1,
        "track": 0,
    }
    json.dumps(info.to_json())
    assert (
        info.summary()
        == f"""\
video      {path}
format     h264 in mov,mp4,m4a,3gp,3g2,mj2
size       48x96, turned by -90 degrees
colour     yuv420p, untagged, read as BT.601 limited
frames     10, as the file lists them
rate       25 per second, constant
duration   0.400 seconds"""
    )


def test_probe_of_a_stream_without_times(tmp_path):
    raw = probe(make_video(tmp_path / "raw.h264", frames=10, rate=25))
    assert (raw.frames, raw.counted_by) == (10, "decoding")
    assert (raw.frame_rate, raw.variable_rate, raw.duration_seconds) == (None, None, None)
    assert raw.summary().splitlines()[-3:] == [
        "frames     10, by decoding all of them",
        "rate       no timestamps",
        "duration   not stated",
    ]


def test_probe_of_two_files_joined(tmp_path):
    """What the stream states of itself is then the first part's, or no part's."""
    parts = [make_video(tmp_path / f"{size[0]}.ts", frames=20, size=size) for size in ((64, 48), (96, 64))]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    info = probe(joined)
    assert (info.frames, info.timestamps) == (40, "not rising")
    assert (info.frame_rate, info.variable_rate, info.duration_seconds) == (None, None, None)
    assert "size       64x48, of the first frame" in info.summary()
    assert "rate       not known, for the timestamps do not rise from frame to frame" in info.summary()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("full_range.mp4", ("yuvj420p", None, "full", False)),
        ("10_bits_422.mkv", ("yuv422p10le", None, None, False)),
        ("vp8.webm", ("yuv420p", "BT.601", "limited", False)),
        ("animation.gif", ("bgra", "RGB", None, False)),
        ("uneven.mp4", ("yuv420p", None, None, True)),
        ("uneven.mkv", ("yuv420p", None, None, True)),
    ],
)
def test_colour_and_rate(tmp_path, name, expected):
    info = probe(make_video(tmp_path / name, **VARIANTS[name]))
    assert (info.pixel_format, info.colour_space, info.colour_range, info.variable_rate) == expected


def test_duration_of_matroska(tmp_path):
    assert probe(make_video(tmp_path / "v.mkv", frames=10, rate=25)).duration_seconds == pytest.approx(0.4)
