"""Decoding: exactly the frames that were asked for, upright.

Frame i is the i-th picture that decoding the file from its start yields. To decode a whole file for 16 or 32
of its frames would be slow, so packets.py finds them by seeking and holds each against its timestamp. A file
that does not bear this out is decoded whole and its frames are counted, which is slower and exact as well.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from .errors import VideoError
from .frames import Frames
from .packets import OpenVideo, UnreliableIndex, frames_by_seeking, index_packets

# FFmpeg opens these as video too: bytes drawn as text, and pictures (also every format that ends in _pipe).
_TEXT_FORMATS = {"tty", "bin", "xbin", "adf", "idf"}
_PICTURE_FORMATS = {"image2"}

Choose = Callable[[int], NDArray[np.int64]]


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds.

    width, height:    pixels as displayed, after the rotation that the file asks for
    rotation:         that rotation in degrees, counter-clockwise, from -180 to 180
    frames:           exact number of frames
    frame_rate:       average in frames per second; None where the file has no timestamps
    duration_seconds: as the file states it; None where it states none
    """

    path: Path
    codec: str
    width: int
    height: int
    rotation: int
    frames: int
    frame_rate: float | None
    duration_seconds: float | None


def probe(path: Path | str) -> VideoInfo:
    """What the file at `path` holds. Reads its packets and decodes its first frame.

    Raises VideoError where the file is no video or cannot be decoded.
    """
    info, _ = _read(Path(path), lambda _: np.zeros(1, np.int64))
    return info


def read_frames(path: Path | str, choose: Choose) -> Frames:
    """The frames that `choose` wants, in the order in which it names them.

    path:   a file; URLs are not opened
    choose: number of frames in the file -> indices int64 (T,), from 0, in any order, repeats kept. It is
            called a second time, with the right number, where packets had promised a wrong one.

    Returns Frames: pixels uint8 (T, H, W, 3), rotated as the file asks (but not mirrored), in RGB as FFmpeg
    converts by default: with the matrix and range that a frame is tagged with, or BT.601 where it has no tag.
    Seconds count from the start of the file, and are all NaN where its timestamps are missing or do not rise.

    Raises VideoError where the file is no video, is damaged in a part that is needed, changes its frame size
    between the frames taken, or does not hold a frame that is asked for.
    """
    _, frames = _read(Path(path), choose)
    return frames


def _read(path: Path, choose: Choose) -> tuple[VideoInfo, Frames]:
    try:
        with _open(path) as video, suppress(UnreliableIndex):
            index = index_packets(video)
            indices = _chosen(path, choose, len(index.pts))
            arriving = frames_by_seeking(video, index, np.unique(indices))
            return _gather(video, index.pts.tolist(), indices, arriving)
        with _open(path) as video:
            pts = [frame.pts for frame in video.container.decode(video.stream)]
        indices = _chosen(path, choose, len(pts))
        with _open(path) as video:
            return _gather(video, pts, indices, _frames_by_counting(video, np.unique(indices)))
    except av.FFmpegError as error:
        raise _damage(path, error) from error


@contextmanager
def _open(path: Path) -> Iterator[OpenVideo]:
    """The file at `path`, until the block ends; VideoError where it holds no video that can be decoded."""
    if not path.exists():
        raise VideoError(f"{path} does not exist")
    if not path.is_file():
        raise VideoError(f"{path} is not a file")
    try:
        container = av.open(path.resolve())  # resolved, because FFmpeg takes "name:rest" for a protocol
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{path} cannot be opened as a video: {_reason(path, error)}") from error
    with container:
        yield OpenVideo(path, container, _video_stream(path, container))


def _reason(path: Path, error: av.FFmpegError | OSError) -> str:
    """Why the file cannot be opened: FFmpeg's words, or better ones where the first bytes tell."""
    if isinstance(error, OSError):
        return str(error.strerror)
    with path.open("rb") as file:
        head = file.read(8)
    if not head:
        return "it is empty"
    if head[4:] == b"ftyp":
        return "it is an MP4 file without its index (moov), cut short or never finished"
    return str(error.strerror)


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
    return streams[0]


def _chosen(path: Path, choose: Choose, count: int) -> NDArray[np.int64]:
    if count == 0:
        raise VideoError(f"{path} holds no frames")
    indices = choose(count)
    if indices.ndim != 1 or len(indices) == 0:
        raise VideoError(f"indices must be (T,), at least one of them, got indices.shape = {indices.shape}")
    outside = indices[(indices < 0) | (indices >= count)]
    if len(outside):
        raise VideoError(f"{path} has {count} frames, 0 to {count - 1}, but frame {outside[0]} was asked for")
    return indices


def _frames_by_counting(video: OpenVideo, wanted: NDArray[np.int64]) -> Iterator[tuple[int, VideoFrame]]:
    """Position and frame of each of `wanted`, by decoding from the start of the file."""
    missing = set(wanted.tolist())
    for position, frame in enumerate(video.container.decode(video.stream)):
        if position in missing:
            missing.remove(position)
            yield position, frame
        if not missing:
            return
    raise VideoError(f"{video.path} changed while it was read: {len(missing)} frames have gone")


def _gather(
    video: OpenVideo,
    pts: Sequence[int | None],
    indices: NDArray[np.int64],
    arriving: Iterator[tuple[int, VideoFrame]],
) -> tuple[VideoInfo, Frames]:
    """Converts each frame as it arrives, so that none is kept, and puts it where `indices` (T,) wants it."""
    reformatter = VideoReformatter()  # one, because it keeps what it sets up for a size and a format
    first = rotation = 0
    pixels = np.empty((len(indices), 0, 0, 3), np.uint8)
    for position, frame in arriving:
        picture = np.asarray(reformatter.reformat(frame, format="rgb24").to_ndarray(), np.uint8)  # (H, W, 3)
        picture = np.rot90(picture, _quarter_turns(video.path, frame.rotation))
        if not pixels.size:
            first, rotation = position, frame.rotation
            pixels = np.empty((len(indices), *picture.shape), np.uint8)  # (T, H, W, 3)
        elif picture.shape != pixels.shape[1:]:
            raise VideoError(
                f"{video.path} changes its frame size: {_size(pixels)} at frame {first}, {_size(picture)} at "
                f"frame {position}",
                fix="re-encode it to one size: ffmpeg -i IN -vf scale=WIDTH:HEIGHT OUT",
            )
        pixels[indices == position] = picture

    stream = video.stream
    rate = stream.average_rate if stream.start_time is not None else None  # a guess without timestamps
    info = VideoInfo(
        path=video.path,
        codec=stream.codec.canonical_name,
        width=pixels.shape[2],
        height=pixels.shape[1],
        rotation=rotation,
        frames=len(pts),
        frame_rate=float(rate) if rate else None,
        duration_seconds=_duration_seconds(video),
    )
    return info, Frames(pixels, indices, _seconds(video, pts)[indices])


def _size(pixels: NDArray[np.uint8]) -> str:
    height, width, _ = pixels.shape[-3:]
    return f"{width}x{height}"


def _quarter_turns(path: Path, rotation: int) -> int:
    turns, rest = divmod(rotation, 90)
    if rest:
        raise VideoError(
            f"{path} asks for a rotation of {rotation} degrees; only quarter turns keep pixels as they are",
            fix="re-encode it upright: ffmpeg -i IN OUT",
        )
    return turns


def _seconds(video: OpenVideo, pts: Sequence[int | None]) -> NDArray[np.float64]:
    """Times (N,) of all frames from the start of the file, which is before the first of them if sound is."""
    start_time, time_base = video.container.start_time, video.stream.time_base
    known = np.array([value for value in pts if value is not None], np.int64)
    if len(known) < len(pts) or (np.diff(known) <= 0).any() or time_base is None:
        return np.full(len(pts), np.nan)
    start = int(known[0])
    if start_time is not None:
        start = min(start, round(Fraction(start_time, av.time_base) / time_base))
    return (known - start) * time_base.numerator / time_base.denominator


def _duration_seconds(video: OpenVideo) -> float | None:
    stream = video.stream
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    duration = video.container.duration  # of the longest stream; Matroska states no other
    return None if duration is None else duration / av.time_base


def _damage(path: Path, error: av.FFmpegError) -> VideoError:
    """Which frame of a damaged file cannot be decoded, and how many can: found by trying all of them."""
    pts: list[int | None] = []
    broken: list[int | None] = []
    readable = 0
    with _open(path) as video:
        with suppress(av.FFmpegError):  # where the file cannot even be split into packets any further
            for packet in video.container.demux(video.stream):
                if packet.size:
                    pts.append(packet.pts)
                try:
                    readable += len(packet.decode())
                except av.FFmpegError:
                    broken.append(packet.pts)
        place = "it cannot be decoded to its end"
        shown = sorted(value for value in pts if value is not None)
        if broken and broken[0] in shown:
            frame = shown.index(broken[0])
            place = f"frame {frame} at {_seconds(video, shown)[frame]:.3f} seconds cannot be decoded"
    return VideoError(
        f"{path} is damaged: {place} ({error.strerror}); {readable} of {len(pts)} frames are readable",
        fix="copy the file again, or save what is readable: ffmpeg -i IN OUT",
    )
