"""Every frame of a video in order is what `read_frames` reads, with the same times."""

import io
import os
import threading

import numpy as np
import pytest
from videos import VARIANTS, damage, everything, make_video

from tubelet.preprocess.convert import Converter
from tubelet.preprocess.decode import read_frames
from tubelet.preprocess.errors import VideoError
from tubelet.preprocess.live import PipeSource
from tubelet.preprocess.sources import Source
from tubelet.preprocess.through import read_through

KINDS = [
    "h264.mp4", "h264.mkv", "h264.ts", "h264.h264", "h264.avi", "fragmented.mp4", "open_group.ts", "uneven.mp4",
    "starts_late.mkv", "vp8.webm", "rotated_90.mp4", "one_frame.mp4", "motion_jpeg.avi",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_frames_and_times_are_those_of_read_frames(tmp_path, kind):
    source = Source.of(make_video(tmp_path / kind, **VARIANTS[kind]))
    expected = read_frames(source, everything)
    converter = Converter(source, rotate=True, scaling=None)
    found = [(converter.pixels(frame), seconds) for frame, seconds, _ in read_through(source)]
    np.testing.assert_array_equal(np.stack([pixels for pixels, _ in found]), expected.pixels)
    if np.isfinite(expected.seconds).all():
        assert [seconds for _, seconds in found] == expected.seconds.tolist()
    else:  # where not all are known, or they do not rise, a clip counts with none
        assert len(found) == len(expected)


@pytest.mark.parametrize("kind", ["h264.ts", "h264.mkv", "fragmented.mp4"])
def test_a_pipe_is_read_as_it_comes(tmp_path, kind):
    path = make_video(tmp_path / kind, **VARIANTS[kind])
    reading, writing = os.pipe()

    def send():
        with open(writing, "wb") as file:
            file.write(path.read_bytes())

    sender = threading.Thread(target=send)
    sender.start()
    with open(reading, "rb") as file:
        times = [frame.seconds for frame in read_through(PipeSource("a pipe", file))]
    sender.join()
    assert times == [frame.seconds for frame in read_through(Source.of(path))]


def test_damage_is_an_error_that_says_where_or_is_passed_over(tmp_path):
    path = damage(make_video(tmp_path / "a.mp4", codec_options={"bf": "0"}), [12])
    with pytest.raises(
        VideoError, match=r"(?s)a\.mp4 is damaged behind frame 11 at 0\.\d+ seconds \(.*--on-error skip"
    ):
        list(read_through(Source.of(path)))
    skipping = list(read_through(Source.of(path), on_error="skip"))
    assert len(skipping) == 29
    assert sum(frame.skipped for frame in skipping) == 1


@pytest.mark.parametrize("kind", ["h264.mp4", "h264.mkv"])
def test_a_file_that_is_cut_short_is_refused_as_by_classify(tmp_path, kind):
    options = {"movflags": "faststart"} if kind.endswith("mp4") else {}
    path = make_video(tmp_path / kind, **VARIANTS[kind], frames=60, container_options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(VideoError, match="is cut short"):
        list(read_through(Source.of(path)))
    assert 0 < len(list(read_through(Source.of(path), on_error="skip"))) < 60


def test_what_is_no_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    for source in (Source.of(tmp_path / "a.mp4"), PipeSource("a pipe", io.BytesIO(b"no video at all"))):
        with pytest.raises(VideoError, match="cannot be opened as a video"):
            next(read_through(source))
