"""A video from its start to its end: every frame in order, as a stream is read."""

from collections.abc import Iterator
from typing import NamedTuple

import av
from av.video.frame import VideoFrame

from .container import OpenVideo, open_video
from .decode import OnError
from .errors import VideoError
from .seeking import refuse_cut_short
from .sources import Source


class TimedFrame(NamedTuple):
    """A frame as decoded.

    Attributes:
        frame: as FFmpeg gives it.
        seconds: from the start of the file; None where it has no time.
        skipped: how many damaged packets were passed over since the frame before it.
    """

    frame: VideoFrame
    seconds: float | None
    skipped: int


def read_through(source: Source, *, on_error: OnError = "raise") -> Iterator[TimedFrame]:
    """Decode every frame of a video; frame i is the one that `read_frames` calls i.

    Args:
        source: what is read. A pipe is read once, from where it is.
        on_error: "raise" for damage, or "skip" what cannot be decoded.

    Yields:
        Each frame with its time, which is the one that `read_frames` gives.

    Raises:
        VideoError: for what is no video, and for damage.
    """
    if on_error == "raise" and source.reopens:
        with open_video(source) as video:
            refuse_cut_short(video)
    with open_video(source, skips_damage=on_error == "skip") as video:
        yield from frames_in_order(video)


def frames_in_order(video: OpenVideo) -> Iterator[TimedFrame]:
    """Decode every frame of a video that is open; see `read_through`."""
    start: int | None = None
    seconds: float | None = None
    count = skipped = 0
    try:
        for frame in video.frames():
            if frame.pts is not None and video.stream.time_base is not None:
                start = video.start_pts(frame.pts) if start is None else start
                tick = video.stream.time_base
                seconds = (frame.pts - start) * tick.numerator / tick.denominator
            else:
                seconds = None
            count += 1
            yield TimedFrame(frame, seconds, len(video.skipped) - skipped)
            skipped = len(video.skipped)
    except av.FFmpegError as error:
        place = f"behind frame {count - 1}" if count else "at its start"
        place += "" if seconds is None else f" at {seconds:.3f} seconds"
        raise VideoError(
            f"{video.source} is damaged {place} ({error.strerror})",
            fix='copy the file again, or pass over the damage: --on-error skip, or on_error="skip" in Python',
        ) from error
    if count == 0:
        raise VideoError(f"{video.source} holds no frame that can be decoded")
