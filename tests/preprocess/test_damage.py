"""Damaged and broken-off files, against what PyAV decodes of them packet by packet."""

from contextlib import suppress
from functools import partial
from typing import Any

import av
import numpy as np
import pytest
from videos import VARIANTS, damage, decode_whole, everything, index_of, make_video, take

from tubelet.preprocess.decode import probe, read_frames
from tubelet.preprocess.errors import VideoError


def test_corrupt_packets(tmp_path):
    path = damage(make_video(tmp_path / "bad.mp4", codec_options={"bf": "0"}), [12, 13])
    with pytest.raises(VideoError) as error:
        read_frames(path, everything)
    assert str(error.value) == (
        f"{path} is damaged: frame 12 at 0.400 seconds cannot be decoded (Invalid data found when processing "
        "input); 28 of 30 frames are readable\n"
        '  fix: copy the file again, or pass over the damage: --on-error skip, or Reading(on_error="skip") in Python'
    )
    assert isinstance(error.value.__cause__, av.FFmpegError)


def test_corrupt_packets_without_timestamps(tmp_path):
    path = make_video(tmp_path / "bad.h264", codec_options={"bf": "0"})
    units = path.read_bytes().split(b"\0\0\1")  # the slices of frames last, one for each
    units[-5] = units[-5][:1] + b"\xff" * 20
    path.write_bytes(b"\0\0\1".join(units))
    with pytest.raises(VideoError, match=r"is damaged: it cannot be decoded to its end \(.*\); \d+ of 30 frames"):
        read_frames(path, everything)


def decodable(path):
    """pts -> picture of every frame that can be had by passing over packets that cannot be decoded."""
    pictures = {}
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with suppress(av.FFmpegError):
                pictures.update({frame.pts: frame.to_ndarray(format="rgb24") for frame in packet.decode()})
    return pictures


DAMAGE = {
    "middle.mp4": ({"codec_options": {"bf": "0"}}, [12, 13]),
    "keyframe.mp4": ({"codec_options": {"bf": "0"}}, [10]),
    "first.mp4": ({}, [0]),
    "last.mp4": ({}, [28, 29]),
    "group.mp4": ({}, range(10, 20)),
    "hevc.mp4": (VARIANTS["hevc.mp4"], [12, 13]),
    "mpeg4.avi": ({"codec": "mpeg4"}, [5, 6, 7, 20]),
    "motion.avi": ({"codec": "mjpeg", "pixel_format": "yuvj420p"}, [0, 1, 2, 17]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_the_nearest_good_frame_stands_in_for_a_lost_one(tmp_path, name):
    options, packets = DAMAGE[name]
    path = make_video(tmp_path / name, **options)
    with av.open(str(path)) as container:
        pts = sorted(packet.pts for packet in container.demux(video=0) if packet.size)  # type: ignore[type-var]
    damage(path, packets)
    pictures = decodable(path)
    good = [position for position, value in enumerate(pts) if value in pictures]
    assert len(good) < 30
    with pytest.raises(VideoError, match="is damaged"):
        read_frames(path, everything)

    for indices in (np.arange(30), np.array([29, 12, 12, 0]), np.array([11]), np.array([13, 14])):
        frames = read_frames(path, take(*indices), on_error="skip")
        assert frames.indices.tolist() == indices.tolist()
        assert np.isfinite(frames.seconds).all()
        for index, picture, stood_in in zip(indices, frames.pixels, frames.stood_in, strict=True):
            nearest = min(good, key=lambda position: abs(position - index))  # the earlier of two as near
            assert stood_in == (nearest != index)
            np.testing.assert_array_equal(picture, pictures[pts[nearest]])
    assert read_frames(path, everything, on_error="skip").skipped_packets == len(packets)


def test_frames_that_damage_puts_out_of_order_are_lost(tmp_path):
    path = damage(make_video(tmp_path / "bad.mp4"), [10])  # a keyframe in the midst of B-frames
    frames = read_frames(path, everything, on_error="skip")
    assert np.flatnonzero(frames.stood_in).tolist() == list(range(8, 17))
    assert [index_of(picture) for picture in frames.pixels[[7, 8, 12, 20, 29]]] == [7, 7, 7, 20, 29]


def test_damage_that_is_not_on_the_way_is_not_looked_for(tmp_path):
    path = make_video(tmp_path / "bad.mp4", frames=60, keyframe_every=20)
    whole = decode_whole(path)
    damage(path, [25])
    frames = read_frames(path, take(3, 59), on_error="skip")
    assert (frames.skipped_packets, frames.stood_in.any()) == (0, False)
    np.testing.assert_array_equal(frames.pixels, whole[[3, 59]])


def test_where_there_are_no_timestamps_lost_frames_do_not_count(tmp_path):
    path = make_video(tmp_path / "bad.h264", codec_options={"bf": "0"})
    units = path.read_bytes().split(b"\0\0\1")
    units[-5] = units[-5][:1] + b"\xff" * 20
    path.write_bytes(b"\0\0\1".join(units))
    whole: list[Any] = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with suppress(av.FFmpegError):
                whole.extend(frame.to_ndarray(format="rgb24") for frame in packet.decode())
    frames = read_frames(path, everything, on_error="skip")
    np.testing.assert_array_equal(frames.pixels, whole)
    assert len(whole) == 29
    assert (frames.skipped_packets, frames.stood_in.any()) == (1, False)


def test_nothing_left_to_stand_in(tmp_path):
    path = damage(make_video(tmp_path / "bad.mp4"), range(30))
    with pytest.raises(VideoError, match=r"holds no frame that can be decoded$"):
        read_frames(path, take(0), on_error="skip")


@pytest.mark.parametrize(
    ("name", "options", "promise"),
    [
        ("cut.mp4", {"container_options": {"movflags": "faststart"}}, "lists 30 frames"),
        ("cut.mkv", {}, r"states \d+ bytes"),
        ("cut.webm", VARIANTS["vp8.webm"], r"states \d+ bytes"),
        ("cut.avi", {"codec": "mpeg4"}, r"states \d+ bytes"),
    ],
)
def test_a_download_that_broke_off(tmp_path, name, options, promise):
    path = make_video(tmp_path / name, **options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    for read in (probe, partial(read_frames, choose=take(0))):
        with pytest.raises(VideoError, match=rf"is cut short: it {promise} and holds \d+\n  fix: copy the file again$"):
            read(path)
    frames = read_frames(path, everything, on_error="skip")
    assert 5 < len(frames) < 30
    assert [index_of(picture) for picture in frames.pixels] == np.rint(frames.seconds * 30).tolist()


def test_a_file_that_never_knew_its_length(tmp_path):
    path = make_video(tmp_path / "live.mkv", container_options={"live": "1"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    assert probe(path).frames == len(decode_whole(path))


def test_a_header_that_lists_more_frames_than_there_are_bytes(tmp_path):
    path = make_video(tmp_path / "lie.mp4", container_options={"movflags": "frag_keyframe+empty_moov"})
    head, _, run = path.read_bytes().partition(b"trun")
    # Flags: a place for the data, and no values for single frames; then the number of frames.
    path.write_bytes(head + b"trun" + (1).to_bytes(4, "big") + (5_000_000).to_bytes(4, "big") + run[8:])
    # FFmpeg 9, which PyAV 19 brings, refuses it by itself.
    refused = r"is damaged: it lists \d{7} frames in \d+ bytes\n  fix: copy the file again$"
    by_ffmpeg = r"cannot be opened as a video: Invalid data found when processing input$"
    with pytest.raises(VideoError, match=f"{refused}|{by_ffmpeg}"):
        probe(path)
