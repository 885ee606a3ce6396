"""Any version of PyAV from 16 on: what differs, and what it raises besides FFmpeg's errors."""

from typing import Any

import av
import pytest
from videos import everything, make_video, take

from tubelet.preprocess import container as opening
from tubelet.preprocess import pyav
from tubelet.preprocess.convert import Scaling
from tubelet.preprocess.decode import probe, read_frames
from tubelet.preprocess.errors import VideoError, VideoOutOfMemory
from tubelet.preprocess.pyav import UNEXPECTED
from tubelet.preprocess.spec import ExactSize


def test_a_call_that_the_installed_pyav_does_not_take(tmp_path, monkeypatch):
    path = make_video(tmp_path / "v.mp4")
    unknown: dict[str, Any] = {"no_such_option": 1}
    monkeypatch.setattr(opening, "open_container", lambda source, **_: av.open(source, **unknown))
    for read in (probe, lambda path: read_frames(path, take(0))):
        with pytest.raises(
            VideoError, match=r"cannot be read: PyAV [\d.]+ raised TypeError: .*no_such_option"
        ) as error:
            read(path)
        assert "pip install 'av>=16,<20'" in str(error.value)


def test_no_file_is_opened_where_memory_is_short(tmp_path, monkeypatch):
    path = make_video(tmp_path / "v.mp4")
    monkeypatch.setattr(pyav, "_TO_OPEN", 1 << 62)  # more than any process has
    monkeypatch.setattr(av, "open", lambda *_, **__: pytest.fail("FFmpeg was asked"))
    for read in (probe, lambda path: read_frames(path, take(0))):
        with pytest.raises(VideoOutOfMemory, match=r"v\.mp4 cannot be read: FFmpeg gets no memory"):
            read(path)


@pytest.mark.parametrize("kind", UNEXPECTED)
@pytest.mark.parametrize("place", ["demux", "decode", "seek", "reformat"])
def test_no_error_of_another_package_passes_the_border(tmp_path, monkeypatch, place, kind):
    """Wherever PyAV is called, an error that is not FFmpeg's is a VideoError with its words."""
    path = make_video(tmp_path / "v.mkv")

    def fail(*_, **__):
        raise kind("changed in this version")

    class Packet:
        size, pts, dts, pos = 1, 0, 0, 0
        is_keyframe, is_corrupt, is_discard = True, False, False
        decode = fail

    class Container:
        """A real one but for one method."""

        def __init__(self, real):
            self._real = real

        def __getattr__(self, name):
            if name == place:
                return fail
            if place == "decode" and name == "demux":
                return lambda stream: (setattr(packet := Packet(), "stream", stream) or packet for _ in range(1))
            return getattr(self._real, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._real.close()

    if place == "reformat":
        monkeypatch.setattr("tubelet.preprocess.convert.VideoReformatter", lambda: type("R", (), {"reformat": fail})())
    else:
        monkeypatch.setattr(opening, "open_container", lambda source, **_: Container(av.open(source)))
    with pytest.raises(VideoError, match=rf"cannot be read: PyAV [\d.]+ raised {kind.__name__}: '?changed in this"):
        read_frames(path, everything)


def test_tags_that_are_not_utf_8(tmp_path):
    path = make_video(tmp_path / "v.mkv")
    with av.open(str(path)) as read, av.open(str(tmp_path / "tagged.mkv"), "w") as write:
        write.metadata["title"] = "A TITLE OF ITS TIME"
        stream = write.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.size:
                packet.stream = stream
                write.mux(packet)
    content = (tmp_path / "tagged.mkv").read_bytes()
    assert b"A TITLE OF ITS TIME" in content
    path.write_bytes(content.replace(b"A TITLE OF ITS TIME", b"A \xff\xfe\xe9LE OF ITS TIME"))
    assert probe(path).frames == 30


def test_chroma_at_full_width_with_every_version(tmp_path):
    frames = read_frames(
        make_video(tmp_path / "v.mp4"), take(0), scale_to=Scaling(ExactSize(height=32, width=48), "bilinear")
    )
    assert frames.pixels.shape == (1, 32, 48, 3)
