"""Decoding: exactly the frames that were asked for, upright.

Frame i is the i-th picture that decoding the file from its start yields. To decode a whole file for 16 or 32
of its frames would be slow, so packets.py finds them by seeking and holds each against its timestamp. A file
that does not bear this out is decoded whole and its frames are counted, which is slower and exact as well.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from .convert import Converter, Scaling
from .errors import VideoError
from .frames import Frames, Timeline
from .opening import OpenVideo, open_video
from .packets import (
    CutShort,
    FrameIndex,
    UnreliableIndex,
    frames_by_seeking,
    index_packets,
    list_frames,
    nearest_frames,
)
from .pyav import UNDECODABLE, pyav
from .resize import Pixels
from .video_info import CountedBy, VideoInfo, describe

Choose = Callable[[Timeline], NDArray[np.int64]]
OnError = Literal["raise", "skip"]

Result = TypeVar("Result")

MAX_BYTES = 8 << 30  # of pixels in one reading
_NO_TIMESTAMP = np.iinfo(np.int64).min  # as in FFmpeg
_WAYS: dict[CountedBy, Callable[[OpenVideo], FrameIndex]] = {"list": list_frames, "packets": index_packets}


class _Arrival(NamedTuple):
    """A frame, its position in the file, and the position for which it was wanted: another one where it stands
    in for a frame that cannot be decoded."""

    wanted: int
    position: int
    frame: VideoFrame


class _Reading(NamedTuple):
    """A file on its way through the decoder; `arriving` yields one frame for each of `indices`, once."""

    video: OpenVideo
    timeline: Timeline
    counted_by: CountedBy
    indices: NDArray[np.int64]
    arriving: Iterator[_Arrival]


def probe(path: Path | str) -> VideoInfo:
    """What the file at `path` holds. Decodes its first frame, and reads its packets where it has no list of
    them. Raises VideoError where the file is no video or cannot be decoded."""

    def first(_: Timeline) -> NDArray[np.int64]:
        return np.zeros(1, np.int64)

    def receive(reading: _Reading) -> VideoInfo:
        frame = next(reading.arriving).frame
        with pyav(reading.video.path):
            return describe(reading.video, frame, reading.timeline, reading.counted_by)

    return _read(Path(path), first, receive, "raise")


def read_frames(
    path: Path | str,
    choose: Choose,
    *,
    rotate: bool = True,
    on_error: OnError = "raise",
    scale_to: Scaling | None = None,
) -> Frames:
    """The frames that `choose` wants, in the order in which it names them.

    path:     a file; URLs are not opened
    choose:   times of all frames in the file -> indices int64 (T,), from 0, in any order, repeats kept. It is
              called again, with better knowledge, where the file had promised other frames than it holds.
    rotate:   whether frames are turned and mirrored as the file asks a player to; without it they are as
              stored, as many readers give them
    on_error: what to do about corrupt packets. "raise" is VideoError with the position of the first. "skip"
              passes over them and puts the nearest frame that can be decoded in the place of one that cannot
              (`Frames.stood_in`), where the file has timestamps; where it has none, the frames that can be
              decoded are all there are. What FFmpeg repairs by itself counts as decoded, with either.
    scale_to: resize while converting to RGB: several times faster on large frames, and not the pixels that
              prepare.py makes (see Scaling)

    Returns Frames: pixels uint8 (T, H, W, 3) in RGB, converted as Converter says. Seconds count from the start
    of the file, and are all NaN where its timestamps are missing or do not rise.

    Raises VideoError where the file is no video, is damaged in a part that is needed, changes its frame size
    between the frames taken, or does not hold a frame that is asked for; and for more than MAX_BYTES of pixels.
    """
    path = Path(path)
    converter = Converter(path, rotate=rotate, scaling=scale_to)
    return _read(path, choose, lambda reading: _gather(reading, converter), on_error)


def _read(path: Path, choose: Choose, receive: Callable[[_Reading], Result], on_error: OnError) -> Result:
    """What `receive` makes of the chosen frames; damage is looked at closer only where there is some."""
    try:
        try:
            return _try_to_read(path, choose, receive, skips_damage=False)
        except (av.FFmpegError, CutShort):
            if on_error == "raise":
                raise
            return _try_to_read(path, choose, receive, skips_damage=True)
    except av.FFmpegError as error:
        raise _damage(path, error) from error


def _try_to_read(path: Path, choose: Choose, receive: Callable[[_Reading], Result], *, skips_damage: bool) -> Result:
    """Tries each way to find frames, fastest first. FFmpeg's errors pass through."""
    for counted_by, find in _WAYS.items():
        with open_video(path, skips_damage=skips_damage) as video, suppress(UnreliableIndex):
            index = find(video)
            timeline = _timeline(video, index.pts)
            indices = _chosen(path, choose, timeline)
            arriving = _frames_by_index(video, index, np.unique(indices))
            return receive(_Reading(video, timeline, counted_by, indices, arriving))
    with open_video(path, skips_damage=skips_damage) as video:
        timeline = _timeline(video, _pts_of_all(video))
    indices = _chosen(path, choose, timeline)
    with open_video(path, skips_damage=skips_damage) as video:
        arriving = _frames_by_counting(video, np.unique(indices))
        return receive(_Reading(video, timeline, "decoding", indices, arriving))


def _pts_of_all(video: OpenVideo) -> NDArray[np.int64]:
    """pts (N,) of all frames, by decoding the whole file."""
    pts = (_NO_TIMESTAMP if frame.pts is None else frame.pts for frame in video.frames())
    return np.fromiter(pts, np.int64)


def _timeline(video: OpenVideo, pts: NDArray[np.int64]) -> Timeline:
    """Times from the start of the file, which is before its first frame if sound starts earlier."""
    start_time, tick = video.container.start_time, video.stream.time_base
    steps = np.diff(pts)
    if tick is None or (pts == _NO_TIMESTAMP).any() or (steps <= 0).any() or len(pts) == 0:
        return Timeline(np.full(len(pts), np.nan), rounding_seconds=0.0)
    start = int(pts[0])
    if start_time is not None:
        start = min(start, round(Fraction(start_time, av.time_base) / tick))
    seconds = (pts - start) * tick.numerator / tick.denominator
    # Ticks as long as a frame count frames, and nothing was rounded.
    counts_frames = len(steps) > 0 and steps.min() == 1
    return Timeline(seconds, rounding_seconds=0.0 if counts_frames else float(tick) / 2)


def _chosen(path: Path, choose: Choose, timeline: Timeline) -> NDArray[np.int64]:
    count = len(timeline)
    if count == 0:
        raise VideoError(f"{path} holds no frame that can be decoded")
    indices = choose(timeline)
    if indices.ndim != 1 or len(indices) == 0:
        raise VideoError(f"indices must be (T,), at least one of them, got indices.shape = {indices.shape}")
    outside = indices[(indices < 0) | (indices >= count)]
    if len(outside):
        raise VideoError(f"{path} has {count} frames, 0 to {count - 1}, but frame {outside[0]} was asked for")
    return indices


def _frames_by_index(video: OpenVideo, index: FrameIndex, wanted: NDArray[np.int64]) -> Iterator[_Arrival]:
    if video.skips_damage:
        return map(_Arrival._make, nearest_frames(video, index, wanted))
    found = frames_by_seeking(video, index, wanted)
    return (_Arrival(position, position, frame) for position, frame in found)


def _frames_by_counting(video: OpenVideo, wanted: NDArray[np.int64]) -> Iterator[_Arrival]:
    """Each of `wanted`, by decoding from the start of the file."""
    missing = set(wanted.tolist())
    for position, frame in enumerate(video.frames()):
        if position in missing:
            missing.remove(position)
            yield _Arrival(position, position, frame)
        if not missing:
            return
    raise VideoError(f"{video.path} changed while it was read: {len(missing)} frames have gone")


def _gather(reading: _Reading, converter: Converter) -> Frames:
    """Converts each frame as it arrives, so that none is kept, and puts it where `indices` (T,) wants it."""
    path, indices = reading.video.path, reading.indices
    first = 0
    pixels = np.empty((len(indices), 0, 0, 3), np.uint8)
    stood_in = np.zeros(len(indices), np.bool_)
    for wanted, position, frame in reading.arriving:
        picture = converter.pixels(frame)
        if not pixels.size:
            first = position
            pixels = _empty(path, len(indices), picture)
        elif picture.shape != pixels.shape[1:]:
            raise VideoError(
                f"{path} changes its frame size: {_size(pixels)} at frame {first}, {_size(picture)} at "
                f"frame {position}",
                fix="re-encode it to one size: ffmpeg -i IN -vf scale=WIDTH:HEIGHT OUT",
            )
        places = indices == wanted
        pixels[places], stood_in[places] = picture, position != wanted
    skipped = len(reading.video.skipped)
    return Frames(pixels, indices, reading.timeline.seconds[indices], stood_in, skipped)


def _empty(path: Path, count: int, picture: Pixels) -> Pixels:
    """Room (count, H, W, 3) for `count` pictures (H, W, 3), within reason: a damaged header can claim any size."""
    if count * picture.size > MAX_BYTES:
        raise VideoError(
            f"{count} frames of {path} are {count * picture.size / 1e9:.1f} GB at {_size(picture)}, and at most "
            f"{MAX_BYTES / 1e9:.1f} GB are read at once",
            fix="take fewer, or have them resized while they are read (scale_to)",
        )
    return np.empty((count, *picture.shape), np.uint8)


def _size(pixels: Pixels) -> str:
    height, width, _ = pixels.shape[-3:]
    return f"{width}x{height}"


def _damage(path: Path, error: av.FFmpegError) -> VideoError:
    """Which frame of a damaged file cannot be decoded, and how many can: found by trying all of them."""
    pts: list[int | None] = []
    broken: list[int | None] = []
    readable = 0
    with open_video(path) as video:
        with suppress(av.FFmpegError):  # where the file cannot even be split into packets any further
            for packet in video.packets():
                if packet.size:
                    pts.append(packet.pts)
                try:
                    readable += len(packet.decode())
                except UNDECODABLE:
                    broken.append(packet.pts)
        place = "it cannot be decoded to its end"
        shown = np.array(sorted(value for value in pts if value is not None), np.int64)
        if broken and broken[0] is not None and broken[0] in shown:
            frame = int(np.searchsorted(shown, broken[0]))
            place = f"frame {frame} at {_timeline(video, shown).seconds[frame]:.3f} seconds cannot be decoded"
    return VideoError(
        f"{path} is damaged: {place} ({error.strerror}); {readable} of {len(pts)} frames are readable",
        fix="copy the file again, or pass over the damage",
    )
