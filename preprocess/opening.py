"""Opening a file as a video, and saying why where it is none."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .errors import VideoError
from .pyav import UNDECODABLE, UNEXPECTED, listed_frames, open_container, pyav, unexpected

# FFmpeg opens these as video too: bytes drawn as text, and pictures (also every format that ends in _pipe).
_TEXT_FORMATS = {"tty", "bin", "xbin", "adf", "idf"}
_PICTURE_FORMATS = {"image2"}


@dataclass
class OpenVideo:
    """A file that is open, and the stream of it that is read.

    skips_damage: whether to pass over what cannot be decoded, where FFmpeg's error is raised otherwise
    skipped:      pts, dts and place in the file of each packet passed over, each once
    """

    path: Path
    container: InputContainer
    stream: VideoStream
    skips_damage: bool
    skipped: set[tuple[int | None, int | None, int | None]] = field(default_factory=set)

    def packets(self) -> Iterator["Packet[VideoStream]"]:
        """The packets of the stream from where the file stands; one of size 0 marks the end."""
        try:
            yield from self.container.demux(self.stream)
        except IndexError:
            # PyAV 18 ends by marking the end of each stream, and trips over one that turned up while it read.
            # That of the video, which was there before, is marked by then.
            return
        except av.FFmpegError:
            if not self.skips_damage:
                raise
            self.skipped.add((None, None, None))  # what follows, however much it is
            end = Packet()
            end.stream = self.stream
            yield cast("Packet[VideoStream]", end)
        except UNEXPECTED as error:
            raise unexpected(self.path, error) from error

    def decode(self, packet: "Packet[VideoStream]") -> list[VideoFrame]:
        """The frames that a packet completes: none, one or several."""
        try:
            return packet.decode()
        except UNDECODABLE as error:
            if self.skips_damage:
                self.skipped.add((packet.pts, packet.dts, packet.pos))
                return []
            if isinstance(error, av.FFmpegError):
                raise
            raise unexpected(self.path, error) from error
        except UNEXPECTED as error:
            raise unexpected(self.path, error) from error

    def frames(self) -> Iterator[VideoFrame]:
        """The frames of the stream, decoded from where the file stands."""
        for packet in self.packets():
            yield from self.decode(packet)


@contextmanager
def open_video(path: Path, *, skips_damage: bool = False) -> Iterator[OpenVideo]:
    """The file at `path`, until the block ends; VideoError where it holds no video that can be decoded."""
    if not path.exists():
        raise VideoError(f"{path} does not exist")
    if not path.is_file():
        raise VideoError(f"{path} is not a file")
    try:
        with pyav(path):
            # Resolved, because FFmpeg takes "name:rest" for a protocol.
            container = open_container(path.resolve())
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{path} cannot be opened as a video: {_reason(path, error)}") from error
    with container:
        with pyav(path):
            stream = _video_stream(path, container)
        yield OpenVideo(path, container, stream, skips_damage)


def _reason(path: Path, error: av.FFmpegError | OSError) -> str:
    """Why the file cannot be opened: FFmpeg's words, or better ones where the first bytes tell."""
    if isinstance(error, OSError):
        return str(error.strerror)
    with path.open("rb") as file:
        kinds = list(_boxes(file))
    if not path.stat().st_size:
        return "it is empty"
    if kinds[:1] == [b"ftyp"] and b"moov" not in kinds:
        return "it is an MP4 file without its index (moov), cut short or never finished"
    return str(error.strerror)


def _boxes(file: BinaryIO) -> Iterator[bytes]:
    """The kinds of the boxes that an MP4 file is made of, as far as their sizes lead (ISO/IEC 14496-12, 4.2)."""
    start = 0
    while len(head := file.read(16)) >= 8:
        yield head[4:8]
        size = int.from_bytes(head[:4], "big")
        if size == 1:  # it does not fit into 32 bits and follows in 64
            size = int.from_bytes(head[8:], "big")
        if size < 8:
            return
        start += size
        file.seek(start)


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    if container.format.name in _TEXT_FORMATS:
        raise VideoError(f"{path} is not a video: FFmpeg could only draw its bytes as text")
    if container.format.name in _PICTURE_FORMATS or container.format.name.endswith("_pipe"):
        raise VideoError(f"{path} is a picture, not a video")
    videos = container.streams.video
    streams = [stream for stream in videos if not stream.disposition & Disposition.attached_pic]
    if not streams:
        kinds = sorted({"cover art" if stream in videos else stream.type for stream in container.streams})
        raise VideoError(f"{path} holds no video, only {' and '.join(kinds) or 'an empty header'}")
    if cast("object", streams[0].codec_context) is None:  # PyAV's types say that it always exists
        raise VideoError(f"{path} holds video in a codec that this build of FFmpeg cannot decode")
    listed, size = len(listed_frames(streams[0])), container.size
    if listed > size > 0:  # a lie that costs gigabytes each time the file is opened
        raise VideoError(f"{path} is damaged: it lists {listed} frames in {size} bytes", fix="copy the file again")
    return streams[0]


def stated_bytes(video: OpenVideo) -> int | None:
    """How many bytes a Matroska, WebM or AVI file says that it has, where it says so.

    Matroska: the size of the first two elements, EBML and Segment (RFC 8794 and RFC 9559). AVI: the size of
    the first RIFF chunk. Only the start of the file is read.
    """
    with video.path.open("rb") as file:
        head = file.read(4096)
    if video.container.format.name == "avi":
        return int.from_bytes(head[4:8], "little") + 8
    if "matroska" not in video.container.format.name:
        return None
    end = 0
    for _ in range(2):
        size = head[end + 4 : end + 12]
        # The number of zeros that it starts with tells its length; the one after them is a marker.
        length = 9 - size[0].bit_length() if size and size[0] else 0
        value = int.from_bytes(size[:length], "big") & ((1 << 7 * length) - 1)
        if value == (1 << 7 * length) - 1:  # not known when it was written, or no size at all
            return None
        end += 4 + length + value
    return end
