"""What is no video, or cannot be read: the message, and that nothing is left open."""

import os
from functools import partial
from pathlib import Path

import av
import pytest
from PIL import Image
from videos import index_of, make_sound, make_video, take

from tubelet.preprocess.decode import probe, read_frames
from tubelet.preprocess.errors import VideoError


def written(content):
    def write(path):
        path.write_bytes(content)
        return path

    return write


def without_index(path):
    content = make_video(path).read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    return path


def without_frames(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.start_encoding()
    return path


def of_unknown_codec(path):
    path.write_bytes(make_video(path).read_bytes().replace(b"avc1", b"zzzz"))
    return path


def picture(path):
    Image.new("RGB", (64, 48)).save(path)
    return path


def folder(path):
    path.mkdir()
    return path


# name of the file -> what makes it, and what is said of it
UNUSABLE = {
    "missing.mp4": (lambda path: path, "does not exist"),
    "folder.mp4": (folder, "is not a file"),
    "empty.mp4": (written(b""), "cannot be opened as a video: it is empty"),
    "text.mp4": (
        written(b"not a video\n" * 20),
        "cannot be opened as a video: Invalid data found when processing input",
    ),
    "text.txt": (written(b"not a video\n" * 50), "is not a video: FFmpeg could only draw its bytes as text"),
    "picture.png": (picture, "is a picture, not a video"),
    "picture.jpg": (picture, "is a picture, not a video"),
    "sound.mp3": (make_sound, "holds no video, only audio"),
    "cover.mp3": (partial(make_sound, cover=True), "holds no video, only audio and cover art"),
    "subtitles.srt": (
        written(b"1\n00:00:00,000 --> 00:00:01,000\nHello\n\n"),
        "holds no video, only subtitle",
    ),
    "nothing.mp4": (without_frames, "holds no video, only an empty header"),
    "nothing.avi": (without_frames, "holds no frame that can be decoded"),
    "unfinished.mp4": (
        without_index,
        "cannot be opened as a video: it is an MP4 file without its index (moov), cut short or never finished",
    ),
    "unknown.mp4": (of_unknown_codec, "holds video in a codec that this build of FFmpeg cannot decode"),
    "diagonal.mp4": (
        partial(make_video, rotation=45, size=(96, 96)),
        "asks for a rotation of 45 degrees; only quarter turns keep pixels as they are\n"
        "  fix: re-encode it upright: ffmpeg -i IN OUT",
    ),
}


@pytest.mark.parametrize("read", [probe, lambda path: read_frames(path, take(0))], ids=["probe", "read_frames"])
@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_read_is_said_and_closed(tmp_path, name, read):
    make, message = UNUSABLE[name]
    path = make(tmp_path / name)
    descriptors = open_descriptors()
    with pytest.raises(VideoError) as error:
        read(path)
    assert str(error.value) == f"{path} {message}"
    assert open_descriptors() == descriptors


def open_descriptors():
    """What this process has open, where the system tells."""
    return sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else []


def test_files_are_closed_after_reading(tmp_path):
    paths = [make_video(tmp_path / "seek.mp4"), make_video(tmp_path / "count.h264")]
    descriptors = open_descriptors()
    for path in paths:
        read_frames(path, take(7))
    assert open_descriptors() == descriptors


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file here that opens and cannot be read")
def test_a_file_that_the_system_cannot_read():
    with pytest.raises(VideoError, match=r"^/proc/self/mem cannot be opened as a video: Input/output error$"):
        probe("/proc/self/mem")


def test_a_name_that_ffmpeg_would_take_for_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "plain.mp4").rename("concat:clip.mp4")
    assert index_of(read_frames("concat:clip.mp4", take(11)).pixels[0]) == 11
