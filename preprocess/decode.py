"""Decoding: exactly the frames that were asked for, upright.

Frame i is the i-th picture that decoding the file from its start yields. To decode a whole file for 16 or 32 of its
frames would be slow. So seeking.py finds them by seeking, and holds each against its timestamp. A file that does not
bear this out is decoded whole and its frames are counted. That is slower and exact as well.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal, TypeVar

import av
import numpy as np
from numpy.typing import NDArray

from .container import OpenVideo, open_video, too_large
from .convert import Converter, Scaling
from .errors import VideoError
from .frames import Frames, Timeline
from .gather import Arrival, Decoding, Fit, gather
from .pyav import UNDECODABLE, pyav, refuse_shortage
from .sampling import distinct
from .seeking import (
    CutShort,
    FrameIndex,
    UnreliableIndex,
    frames_by_seeking,
    index_packets,
    list_frames,
    nearest_frames,
)
from .sources import FileLike, Source
from .video_info import CountedBy, VideoInfo, describe

Choose = Callable[[Timeline], NDArray[np.int64]]
OnError = Literal["raise", "skip"]

Result = TypeVar("Result")

_NO_TIMESTAMP = np.iinfo(np.int64).min  # as in FFmpeg
_WAYS: dict[CountedBy, Callable[[OpenVideo], FrameIndex]] = {"list": list_frames, "packets": index_packets}


def probe(video: FileLike | Source) -> VideoInfo:
    """Say what a video holds.

    Decodes its first frame, and reads its packets where it has no list of them.

    Args:
        video: a path, bytes, or a seekable binary file; a Source says more about how it is read.

    Returns:
        What its headers, its first frame and the times of its frames say.

    Raises:
        VideoError: for what is no video, and for one that cannot be decoded.
    """

    def first(_: Timeline) -> NDArray[np.int64]:
        return np.zeros(1, np.int64)

    def receive(reading: Decoding) -> VideoInfo:
        frame = next(reading.arriving).frame
        with pyav(reading.video.source):
            return describe(reading.video, frame, reading.timeline, reading.counted_by)

    return _read(Source.of(video), first, receive, "raise")


def read_frames(
    video: FileLike | Source,
    choose: Choose,
    *,
    rotate: bool = True,
    on_error: OnError = "raise",
    scale_to: Scaling | None = None,
) -> Frames:
    """Read the frames that `choose` wants, in the order in which it names them.

    Args:
        video: a path, bytes, or a seekable binary file; a Source says more about how it is read.
        choose: takes the times of all frames in the file and returns indices int64 (T,), from 0. They may come in any
            order, and repeats are kept. It is called again, with better knowledge, where the file had promised other
            frames than it holds.
        rotate: whether frames are turned and mirrored as the file asks a player to. Without it they are as stored, as
            many readers give them.
        on_error: what to do about corrupt packets. "raise" is VideoError with the position of the first. "skip" passes
            over them. The nearest frame that can be decoded then stands in (`Frames.stood_in`), where the file has
            timestamps. Where it has none, the frames that can be decoded are
            all there are. What FFmpeg repairs by itself counts as decoded, with either.
        scale_to: resize while converting to RGB. That is several times faster on large frames, and does not give the
            pixels that prepare.py makes (see Scaling).

    Returns:
        The frames: pixels uint8 (T, H, W, 3) in RGB, converted as Converter says. Seconds count from the start of the
        file. They are all NaN where its timestamps are missing or do not rise.

    Raises:
        VideoError: for a file that is no video, or is damaged in a part that is needed. For one that changes its frame
            size between the frames taken, or lacks a frame that is asked for. Also where the pixels are more than a
            reading may hold (`Source.max_mb`).
    """
    (frames,) = read_fitted(video, choose, lambda pixels: [pixels], rotate=rotate, on_error=on_error, scale_to=scale_to)
    return frames


def read_fitted(
    video: FileLike | Source,
    choose: Choose,
    fit: Fit,
    *,
    rotate: bool = True,
    on_error: OnError = "raise",
    scale_to: Scaling | None = None,
) -> list[Frames]:
    """Read the frames that `choose` wants as `fit` makes them, as they arrive.

    A reading so never holds more large frames than a few. Frames may change their size midway, as long as `fit` makes
    them one size. The other arguments, and the errors, are those of `read_frames`.

    Returns:
        One Frames for each that `fit` gives.
    """
    source = Source.of(video)
    converter = Converter(source, rotate=rotate, scaling=scale_to)
    return _read(source, choose, lambda reading: gather(reading, converter, fit), on_error)


def _read(source: Source, choose: Choose, receive: Callable[[Decoding], Result], on_error: OnError) -> Result:
    """What `receive` makes of the chosen frames; damage is looked at closer only where there is some."""
    try:
        try:
            return _try_to_read(source, choose, receive, skips_damage=False)
        except (av.FFmpegError, CutShort):
            if on_error == "raise":
                raise
            return _try_to_read(source, choose, receive, skips_damage=True)
    except av.FFmpegError as error:
        raise _damage(source, error) from error


def _try_to_read(
    source: Source, choose: Choose, receive: Callable[[Decoding], Result], *, skips_damage: bool
) -> Result:
    """Try each way to find frames, fastest first. FFmpeg's errors pass through."""
    for counted_by, find in _WAYS.items():
        with open_video(source, skips_damage=skips_damage) as video, suppress(UnreliableIndex):
            index = find(video)
            timeline = _timeline(video, index.pts)
            indices = _chosen(source, choose, timeline)
            arriving = _frames_by_index(video, index, distinct(indices))
            return receive(Decoding(video, timeline, counted_by, indices, arriving))
    with open_video(source, skips_damage=skips_damage) as video:
        timeline = _timeline(video, _pts_of_all(video))
    indices = _chosen(source, choose, timeline)
    with open_video(source, skips_damage=skips_damage) as video:
        arriving = _frames_by_counting(video, distinct(indices))
        return receive(Decoding(video, timeline, "decoding", indices, arriving))


def _pts_of_all(video: OpenVideo) -> NDArray[np.int64]:
    """pts (N,) of all frames, by decoding the whole file."""
    pts = (_NO_TIMESTAMP if frame.pts is None else frame.pts for frame in video.frames())
    return np.fromiter(pts, np.int64)


def _timeline(video: OpenVideo, pts: NDArray[np.int64]) -> Timeline:
    """Times from the start of the file, which is before its first frame if sound starts earlier."""
    tick = video.stream.time_base
    steps = np.diff(pts)
    if tick is None or (pts == _NO_TIMESTAMP).any() or (steps <= 0).any() or len(pts) == 0:
        return Timeline(np.full(len(pts), np.nan), rounding_seconds=0.0)
    seconds = (pts - video.start_pts(int(pts[0]))) * tick.numerator / tick.denominator
    # Ticks as long as a frame count frames, and nothing was rounded.
    counts_frames = len(steps) > 0 and steps.min() == 1
    return Timeline(seconds, rounding_seconds=0.0 if counts_frames else float(tick) / 2)


def _chosen(source: Source, choose: Choose, timeline: Timeline) -> NDArray[np.int64]:
    count = len(timeline)
    if count == 0:
        raise VideoError(f"{source} holds no frame that can be decoded")
    indices = choose(timeline)
    if indices.ndim != 1 or len(indices) == 0:
        raise VideoError(f"indices must be (T,), at least one of them, got indices.shape = {indices.shape}")
    outside = indices[(indices < 0) | (indices >= count)]
    if len(outside):
        raise VideoError(f"{source} has {count} frames, 0 to {count - 1}, but frame {outside[0]} was asked for")
    return indices


def _frames_by_index(video: OpenVideo, index: FrameIndex, wanted: NDArray[np.int64]) -> Iterator[Arrival]:
    if video.skips_damage:
        return map(Arrival._make, nearest_frames(video, index, wanted))
    found = frames_by_seeking(video, index, wanted)
    return (Arrival(position, position, frame) for position, frame in found)


def _frames_by_counting(video: OpenVideo, wanted: NDArray[np.int64]) -> Iterator[Arrival]:
    """Each of `wanted`, by decoding from the start of the file."""
    missing = set(wanted.tolist())
    for position, frame in enumerate(video.frames()):
        if position in missing:
            missing.remove(position)
            yield Arrival(position, position, frame)
        if not missing:
            return
    raise VideoError(f"{video.source} changed while it was read: {len(missing)} frames have gone")


def _damage(source: Source, error: av.FFmpegError) -> VideoError:
    """Which frame of a damaged file cannot be decoded, and how many can: found by trying all of them."""
    pts: list[int | None] = []
    broken: list[int | None] = []
    readable = 0
    with open_video(source) as video:
        with suppress(av.FFmpegError):  # where the file cannot even be split into packets any further
            for packet in video.packets():
                if packet.size:
                    pts.append(packet.pts)
                try:
                    readable += len(packet.decode())
                except UNDECODABLE as undecodable:
                    refuse_shortage(source, undecodable)  # FFmpeg's first word for it may be that the data are invalid
                    width, height = video.stream.codec_context.width, video.stream.codec_context.height
                    if not broken and (width * height > source.max_pixels or width * height == 0):
                        return too_large(source, width, height)
                    broken.append(packet.pts)
        place = "it cannot be decoded to its end"
        shown = np.array(sorted(value for value in pts if value is not None), np.int64)
        if broken and broken[0] is not None and broken[0] in shown:
            frame = int(np.searchsorted(shown, broken[0]))
            place = f"frame {frame} at {_timeline(video, shown).seconds[frame]:.3f} seconds cannot be decoded"
    return VideoError(
        f"{source} is damaged: {place} ({error.strerror}); {readable} of {len(pts)} frames are readable",
        fix='copy the file again, or pass over the damage: --on-error skip, or Reading(on_error="skip") in Python',
    )
