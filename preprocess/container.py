"""Opening a file as a video, and saying why where it cannot be."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .errors import TooManyFiles, VideoError
from .pyav import (
    UNDECODABLE,
    UNEXPECTED,
    bytes_of,
    hide_secrets,
    listed_frames,
    open_container,
    pyav,
    refuse_shortage,
    unexpected,
)
from .sources import FRAME_SHARE, Source

_WIDTH = 1280  # that a video is advised to be made, where that is small enough
_BLOCK = 128  # pixels; no decoder pads a side to a multiple of more
# FFmpeg opens these as video too: bytes drawn as text, and pictures (also every format that ends in _pipe).
_TEXT_FORMATS = {"tty", "bin", "xbin", "adf", "idf"}
_PICTURE_FORMATS = {"image2"}
PLAYLIST_FORMATS = {"hls", "dash"}

_WEBP = "it is an animated WebP, which this build of FFmpeg cannot decode; convert it to a GIF or an MP4"


@dataclass
class OpenVideo:
    """A file that is open, and the stream of it that is read.

    skips_damage: whether to pass over what cannot be decoded, where FFmpeg's error is raised otherwise
    skipped:      pts, dts and place in the file of each packet passed over, each once
    """

    source: Source
    container: InputContainer
    stream: VideoStream
    skips_damage: bool
    skipped: set[tuple[int | None, int | None, int | None]] = field(default_factory=set)

    def packets(self) -> Iterator["Packet[VideoStream]"]:
        """The packets of the stream from where the file stands; one of size 0 marks the end."""
        for packet in self._demuxed((self.stream,)):
            self.source.check_time()
            yield packet

    def packets_of_all(self) -> Iterator["Packet[Any]"]:
        """The packets of sound and all else as well: they show that a source lives whose video has ended."""
        return self._demuxed(())

    def _demuxed(self, streams: "tuple[VideoStream, ...]") -> Iterator["Packet[Any]"]:
        try:
            yield from self.container.demux(*streams)
        except IndexError:
            # PyAV 18 ends by marking the end of each stream, and trips over one that turned up while it read.
            # That of the video, which was there before, is marked by then.
            return
        except av.FFmpegError as error:
            hide_secrets(error)
            refuse_shortage(self.source, error)
            if not self.skips_damage:
                raise
            self.skipped.add((None, None, None))  # what follows, however much it is
            end = Packet()
            end.stream = self.stream
            yield cast("Packet[VideoStream]", end)
        except VideoError:  # of a file object that could not be read
            raise
        except UNEXPECTED as error:
            raise unexpected(self.source, error) from error

    def start_pts(self, first: int) -> int:
        """The timestamp at which the file begins: `first`, of its first frame, or before it where sound starts
        earlier."""
        start_time, tick = self.container.start_time, self.stream.time_base
        if start_time is None or tick is None:
            return first
        return min(first, round(Fraction(start_time, av.time_base) / tick))

    def decode(self, packet: "Packet[VideoStream]") -> list[VideoFrame]:
        """The frames that a packet completes: none, one or several."""
        try:
            return packet.decode()
        except UNDECODABLE as error:
            refuse_shortage(self.source, error)
            if self.skips_damage:
                self.skipped.add((packet.pts, packet.dts, packet.pos))
                return []
            if isinstance(error, av.FFmpegError):
                raise
            raise unexpected(self.source, error) from error
        except UNEXPECTED as error:
            raise unexpected(self.source, error) from error

    def frames(self) -> Iterator[VideoFrame]:
        """The frames of the stream, decoded from where the file stands."""
        for packet in self.packets():
            yield from self.decode(packet)


@contextmanager
def open_video(source: Source, *, skips_damage: bool = False) -> Iterator[OpenVideo]:
    """Open the video of `source` until the block ends.

    Args:
        source: what is read, and which of its tracks.
        skips_damage: whether to pass over what cannot be decoded; otherwise FFmpeg's error is raised.

    Yields:
        The open file, and the stream of it that is read.

    Raises:
        VideoError: where it holds no video that can be decoded.
    """
    source.check()
    # Before the decoder claims memory for what a header says. It counts pixels that pad a frame to whole blocks, too.
    limits = {"max_pixels": str(min((math.isqrt(source.max_pixels) + _BLOCK) ** 2, 2**31 - 1))}
    try:
        container = _open(source, limits)
    except TooManyFiles:
        raise
    except (av.FFmpegError, OSError) as error:
        refuse_shortage(source, error)  # of the system's as well: PyAV imports more of itself as it opens a file
        raise VideoError(f"{source} cannot be opened as a video: {_reason(source, error)}") from error
    with container:
        with pyav(source):
            stream = video_stream(source, container)
            _check_size(source, stream)
            stream.codec_context.options = limits
        yield OpenVideo(source, container, stream, skips_damage)


def _open(source: Source, options: dict[str, str]) -> InputContainer:
    content, own = source.for_pyav()
    with pyav(source):
        return open_container(content, **own | {"options": own.get("options", {}) | options})


def _check_size(source: Source, stream: VideoStream) -> None:
    """Raise VideoError for frames that are too large to be decoded, and for a live stream."""
    width, height = stream.codec_context.width, stream.codec_context.height
    name = stream.codec_context.name
    # Without a size it has none to tell, or has refused to decode one that is too large. png tells by decoding.
    if 0 in (width, height) and source.reopens and name not in ("png", "apng"):
        with suppress(av.FFmpegError, OSError), _open(source, {"skip_frame": "all"}) as container:
            codec = cast("VideoStream", container.streams[stream.index]).codec_context
            width, height = codec.width, codec.height
    if width * height > source.max_pixels:
        raise too_large(source, width, height)


def too_large(source: Source, width: int, height: int) -> VideoError:
    """Make the error for frames of this size, above what one may take. A size of 0 is one that is not known."""
    size = f"{width}x{height}, {width * height * 3 / (1 << 20):.3g} MB each" if width else "a size that is not known"
    damaged = "" if width else ", or their header is damaged"
    smaller = min(_WIDTH, _width_within(source.max_pixels, width, height)) if width else _WIDTH
    return VideoError(
        f"{source} has frames of {size}, and one may take {source.max_mb / FRAME_SHARE:.3g} MB, a quarter of what a "
        f"reading may hold{damaged}",
        fix=f"make it smaller: ffmpeg -i IN -vf scale={smaller}:-2 OUT, or allow more: --max-mb, or "
        "Reading(max_mb=...) in Python",
    )


def _width_within(pixels: int, width: int, height: int) -> int:
    """An even width at which frames of that shape have no more pixels: the largest, but of very wide frames. FFmpeg
    makes their height the nearest even one."""
    smaller = math.isqrt(pixels * width // height) // 2 * 2 + 2
    while smaller > 2 and smaller * 2 * ((smaller * height + width) // (2 * width)) > pixels:
        smaller -= 2
    return smaller


def _reason(source: Source, error: av.FFmpegError | OSError) -> str:
    """Why the video cannot be opened: FFmpeg's words, or better ones where the first bytes tell."""
    if isinstance(error, OSError) or source.is_url:
        return str(error.strerror)
    with source.reader() as file:
        head = file.read(16)
        file.seek(0)
        kinds = list(_boxes(file))
    if not head:
        return "it is empty"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _WEBP
    if kinds[:1] == [b"ftyp"] and b"moov" not in kinds:
        return "it is an MP4 file without its index (moov), cut short or never finished"
    return str(error.strerror)


def _boxes(file: Any) -> Iterator[bytes]:
    """The kinds of the boxes of an MP4 file, as far as their sizes lead (ISO/IEC 14496-12, 4.2)."""
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


def video_tracks(container: InputContainer) -> list[VideoStream]:
    """The video tracks, without the pictures that are attached to sound."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def video_stream(source: Source, container: InputContainer) -> VideoStream:
    """The track of a video that `source` asks for, or that FFmpeg takes for the best."""
    if container.format.name in _TEXT_FORMATS:
        raise VideoError(f"{source} is not a video: FFmpeg could only draw its bytes as text")
    if container.format.name == "webp_pipe" and _is_animated_webp(source):
        raise VideoError(f"{source} cannot be decoded: {_WEBP}")
    if container.format.name in _PICTURE_FORMATS or container.format.name.endswith("_pipe"):
        raise VideoError(f"{source} is a picture, not a video")
    tracks = video_tracks(container)
    if not tracks:
        videos = container.streams.video
        kinds = sorted({"cover art" if stream in videos else stream.type for stream in container.streams})
        raise VideoError(f"{source} holds no video, only {' and '.join(kinds) or 'an empty header'}")
    stream = _track(source, container, tracks)
    if cast("object", stream.codec_context) is None:  # PyAV's types say that it always exists
        raise VideoError(f"{source} holds video in a codec that this build of FFmpeg cannot decode")
    listed, size = len(listed_frames(stream)), bytes_of(container)
    if listed > size > 0:  # a lie that costs gigabytes each time the file is opened
        raise VideoError(f"{source} is damaged: it lists {listed} frames in {size} bytes", fix="copy the file again")
    if source.is_url and not source.may_be_endless and is_endless(container):
        raise VideoError(f"{source} is live: it has no end", fix="record a part of it, and give that")
    return stream


def _track(source: Source, container: InputContainer, tracks: list[VideoStream]) -> VideoStream:
    if source.track is not None:
        if not 0 <= source.track < len(tracks):
            has = "1 video track, 0" if len(tracks) == 1 else f"{len(tracks)} video tracks, 0 to {len(tracks) - 1}"
            raise VideoError(f"{source} has {has}, but track {source.track} was asked for")
        return tracks[source.track]
    best = container.streams.best("video")  # av_find_best_stream
    if best in tracks:
        return best
    return max(tracks, key=lambda track: track.codec_context.width * track.codec_context.height)


def is_endless(container: InputContainer) -> bool:
    """Whether nothing says how long it is: a stream over a network that goes on. A playlist's own size says nothing."""
    return container.duration is None and (bytes_of(container) == 0 or container.format.name in PLAYLIST_FORMATS)


def _is_animated_webp(source: Source) -> bool:
    """Whether the flags of a WebP file say so (RFC 9649, section 2.7)."""
    with source.reader() as file:
        head = file.read(21)
    return head[12:16] == b"VP8X" and bool(head[20] & 0x02)


def stated_bytes(video: OpenVideo) -> int | None:
    """How many bytes a Matroska, WebM or AVI file says that it has, where it says so.

    Matroska: the size of the first two elements, EBML and Segment (RFC 8794 and RFC 9559). AVI: the size of
    the first RIFF chunk. Only the start of the file is read.
    """
    with video.source.reader() as file:
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
