"""What comes out of a source: frames, and what becomes of the source itself."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Event
from typing import Literal

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

Picture = VideoFrame | NDArray[np.uint8]
# Frames from Python with their times: a VideoFrame of PyAV or uint8 (H, W, 3) in RGB, and seconds or None.
GivenFrames = Iterable[tuple[Picture, float | None]]

LATE_SECONDS = 1.0  # behind its own speed, after which a stream starts over with it
FAR_SECONDS = 60.0  # ahead of it likewise: a live playlist lists less


@dataclass(frozen=True, eq=False, slots=True)
class SourceFrame:
    """A frame of a source.

    Attributes:
        frame: as decoded, or uint8 (H, W, 3) in RGB where pixels are given.
        seconds: media time. From the start of a file, which classify counts from as well; as a stream has it, which may
            be negative. None where the frame has none.
        arrived: when it came, by `time.monotonic()`, before it was decoded.
        segment: which uninterrupted part of the source it is of, from 0. Another one begins where a stream comes back,
            media time steps back, or the size or rotation of frames changes.
        left_out: how many frames that came since the one before were left out: damaged, or before a key frame.
    """

    frame: Picture
    seconds: float | None
    arrived: float
    segment: int
    left_out: int = 0


@dataclass(frozen=True)
class SourceState:
    """What becomes of a source.

    Attributes:
        state: "connected" before the first frame and whenever it comes back; "lost"; "ended", which is the last.
        attempt: how many times it was opened again since it was last well, which is a minute of frames.
        reason: why it was lost. One that ended has a reason where it was given up, and None where it came to its end.
        segment: the part of the source that begins, or that was cut off.
        live: whether frames are dropped rather than waited with.
    """

    state: Literal["connected", "lost", "ended"]
    attempt: int
    reason: str | None
    segment: int
    live: bool


class Segments:
    """Counts the uninterrupted parts of a source as its frames come by."""

    def __init__(self) -> None:
        self.number = 0
        self._shape: tuple[int, ...] | None = None  # of its frames so far, None where there was none
        self._seconds: float | None = None

    def cut(self) -> None:
        """End the segment, so that the next frame begins another; one without frames goes on."""
        self.number += self._shape is not None
        self._shape = self._seconds = None

    def of(self, picture: Picture, seconds: float | None) -> int:
        """The number of the segment that the next frame is of."""
        shape = _shape(picture)
        steps_back = seconds is not None and self._seconds is not None and seconds < self._seconds
        if steps_back or (self._shape is not None and shape != self._shape):
            self.cut()
        self._shape = shape
        if seconds is not None:
            self._seconds = seconds
        return self.number


def _shape(picture: Picture) -> tuple[int, ...]:
    if isinstance(picture, VideoFrame):
        return picture.height, picture.width, picture.rotation
    return picture.shape


class Pace:
    """Holds frames back until their time, where they come faster than they are to be shown."""

    def __init__(self, stop: Event) -> None:
        self._stop = stop
        self._begin: float | None = None  # when second 0 was

    def wait(self, seconds: float | None) -> None:
        """Return when a frame of this media time is due, or `stop` is set. Without a time it returns at once.

        One late by more than a second, or too far ahead to be of the same run, is due now. Those behind it follow from
        there.
        """
        if seconds is None:
            return
        now = time.monotonic()
        due = now if self._begin is None else self._begin + seconds
        if self._begin is None or not -LATE_SECONDS <= due - now <= FAR_SECONDS:
            self._begin, due = now - seconds, now
        self._stop.wait(max(due - now, 0))
