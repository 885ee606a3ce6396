"""Opening a source of frames: a file, standard input, a stream, a camera, or frames from Python.

    for item in open_source("rtsp://camera/live"):
        if isinstance(item, SourceState): ...      # connected, lost, ended
        else: ...                                  # a SourceFrame

It is read on the thread that iterates. A read that is under way can be ended by its time-out alone. A caller who must
be prompt iterates on a thread of its own, which does not keep the process alive.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from threading import Event
from typing import Any

import numpy as np
from av.video.frame import VideoFrame

from ...preprocess.decode import OnError
from ...preprocess.errors import OutOfBounds, VideoError
from ...preprocess.live import LiveSource
from ...preprocess.sources import MAX_MB, Source, is_file_like
from ...preprocess.through import read_through
from ..bounds import shown
from .address import source_of
from .back_off import BackOff
from .connection import connected
from .frames import Pace, Picture, Segments, SourceFrame, SourceState
from .watching import Watchable

MOST_STALL_SECONDS = 86_400.0

__all__ = ["BackOff", "SourceFrame", "SourceState", "open_source"]


def open_source(
    source: Watchable,
    *,
    live: bool | None = None,
    stall_seconds: float | None = None,
    retries: int | None = None,
    back_off: BackOff | None = None,
    options: Mapping[str, str] | None = None,
    track: int | None = None,
    max_mb: int = MAX_MB,
    on_error: OnError = "raise",
    stop: Event | None = None,
) -> Iterator[SourceFrame | SourceState]:
    """Read a source frame by frame.

    A stream is opened again when it is lost. It begins at its first key frame, and frames that cannot be decoded are
    left out. A file is read once, every frame of it.

    Args:
        source: a path, bytes or binary file, or "-" for standard input. A URL: rtsp, http, HLS, or MPEG-TS over tcp
            and udp. A camera: "/dev/video0" or "camera:0". Or "lavfi:testsrc" and other devices of FFmpeg, or pairs of
            frame and seconds.
        live: whether it is live. None: streams and cameras are, files and pairs are not, nor is a URL that says how
            long it is. A file that is live is read at its own speed.
        stall_seconds: without a frame, after which a stream is lost. None is 10, and 30 for HLS.
        retries: how many times a lost stream is opened again before it is given up; None is for ever.
        back_off: how long to wait before each.
        options: of FFmpeg, for a stream or camera.
        track: which of its video tracks is read, from 0. None is the one that FFmpeg takes for the best.
        max_mb: MiB of pixels that may be held; a quarter of it for one frame.
        on_error: "raise" for damage in a file, or "skip" what cannot be decoded.
        stop: ends it when set, at the next packet or when a wait is over.

    Yields:
        A SourceState "connected", frames, and states in between; "ended" at last, unless `stop` was set.

    Raises:
        VideoError: for what is no source, and for one that cannot be read. A stream that was lost raises nothing.
        OutOfBounds: for numbers that make no sense.
    """
    stop = Event() if stop is None else stop
    if stall_seconds is not None and not 0 < stall_seconds <= MOST_STALL_SECONDS:
        raise OutOfBounds(
            f"stall_seconds must be above 0 and at most {MOST_STALL_SECONDS:g} (a day), got {shown(stall_seconds)}"
        )
    if retries is not None and retries < 0:
        raise OutOfBounds(f"retries must be 0 or more, got {retries!r}")
    if not is_file_like(source):
        return _given(source, bool(live), stop)
    found = source_of(source, stall_seconds=stall_seconds, options=options, track=track, max_mb=max_mb)
    if isinstance(found, LiveSource):
        return connected(found, live=live, retries=retries, back_off=back_off or BackOff(), stop=stop)
    return _file(found, bool(live), on_error, stop)


def _file(source: Source, live: bool, on_error: OnError, stop: Event) -> Iterator[SourceFrame | SourceState]:
    segments, pace = Segments(), Pace(stop) if live else None
    for number, (frame, seconds, skipped) in enumerate(read_through(source, on_error=on_error)):
        if number == 0:
            yield SourceState("connected", 0, None, 0, live)
        if pace is not None:
            pace.wait(seconds)
        if stop.is_set():
            return
        yield SourceFrame(frame, seconds, time.monotonic(), segments.of(frame, seconds), skipped)
    yield SourceState("ended", 0, None, segments.number, live)


def _given(frames: Any, live: bool, stop: Event) -> Iterator[SourceFrame | SourceState]:
    if not isinstance(frames, Iterable):
        raise VideoError(
            f"a source must be a path, a URL, a camera or pairs of frame and seconds, got {type(frames).__name__}"
        )
    return _checked(frames, live, stop)


def _checked(frames: Iterable[Any], live: bool, stop: Event) -> Iterator[SourceFrame | SourceState]:
    segments = Segments()
    yield SourceState("connected", 0, None, 0, live)
    for number, item in enumerate(frames):
        if stop.is_set():
            return
        picture, seconds = _pair(item, number)
        yield SourceFrame(picture, seconds, time.monotonic(), segments.of(picture, seconds))
    yield SourceState("ended", 0, None, segments.number, live)


def _pair(item: Any, number: int) -> tuple[Picture, float | None]:
    if not isinstance(item, tuple) or len(item) != 2:
        raise VideoError(f"frame {number} must be given as (frame, seconds), got {type(item).__name__}")
    picture, seconds = item
    if not isinstance(picture, VideoFrame) and not (
        isinstance(picture, np.ndarray)
        and picture.dtype == np.uint8
        and picture.ndim == 3
        and picture.shape[-1] == 3
        and 0 not in picture.shape
    ):
        found = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise VideoError(f"frame {number} must be a VideoFrame of PyAV, or uint8 (H, W, 3) in RGB, got {found}")
    if seconds is None:
        return picture, None
    try:
        time_of_frame = float(seconds)
    except (TypeError, ValueError) as error:
        raise VideoError(f"the time of frame {number} must be seconds or None, got {seconds!r}") from error
    return picture, time_of_frame if math.isfinite(time_of_frame) else None
