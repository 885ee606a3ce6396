"""Frames by timestamp become windows: a ring of prepared frames, and the clips that are taken from it.

Each point of the grid takes the frame on show: the last one that is not later. A frame stays on show for `longest_hold`
at most. Where frames are missing the grid begins anew, so that no window lies over the place.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import VideoError
from ...preprocess.sampling import clip_views
from ...preprocess.spec import Sampling
from .frames import SourceFrame, SourceState
from .grid import ROUNDING, Grid

# How far a time may be off and still be the grid's: streams and files count in whole ticks, of a millisecond at most.
_TICK = 1e-3

# A frame of the source -> the frame as each crop shows it, prepared: float32 (3, H, W) or uint8 (H, W, 3).
Prepare = Callable[[SourceFrame], tuple[NDArray[Any], ...]]


@dataclass(frozen=True, eq=False)
class PreparedFrame:
    """A frame as the model takes it.

    number:  in the stream, counted over all of its segments
    seconds: media time
    arrived: by `time.monotonic()`
    crops:   float32 (3, H, W), or uint8 (H, W, 3) for layout THWC, one for each crop
    """

    number: int
    seconds: float
    arrived: float
    crops: tuple[NDArray[Any], ...]


@dataclass(frozen=True, eq=False)
class DueWindow:
    """A window on its way to the model.

    frames:   T of them, with repeats where one stays on show
    due:      media time at which it was to end; windows of a run are due exactly `every` apart
    follows:  whether no frame is missing between the window before and this one
    skipped:  windows that were due since the one before, and are not asked
    dropped:  frames that only such windows would have shown
    left_out: frames that came since the one before and can be in none
    """

    segment: int
    frames: tuple[PreparedFrame, ...]
    due: float
    follows: bool
    skipped: int = 0
    dropped: int = 0
    left_out: int = 0

    def batch(self) -> NDArray[Any]:
        """The model input: float32 (crops, T, 3, H, W), or uint8 (crops, T, H, W, 3) for layout THWC."""
        crops = range(len(self.frames[0].crops))
        return np.stack([np.stack([frame.crops[crop] for frame in self.frames]) for crop in crops])


class _Run:
    """Frames of which none is missing, and the windows that end in them."""

    def __init__(self, grid: Grid, prepare: Prepare, number: int, frame: SourceFrame, seconds: float) -> None:
        self._grid, self._prepare = grid, prepare
        self.segment, self._start = frame.segment, seconds
        self._ring: dict[int, PreparedFrame] = {}  # by the point of the grid
        self._point = self._window = 0  # that come next
        self._show(number, frame, seconds)

    def _show(self, number: int, frame: SourceFrame, seconds: float) -> None:
        self._number, self._frame, self.seconds = number, frame, seconds
        self._prepared: PreparedFrame | None = None

    def take(self, number: int, frame: SourceFrame, seconds: float) -> Iterator[DueWindow]:
        """Let the next frame come on show; the windows that are complete by that."""
        yield from self._until(seconds - _TICK - ROUNDING)
        self._show(number, frame, seconds)

    def end(self) -> Iterator[DueWindow]:
        """The windows that the last frame completes, for the moment that it is known to be on show."""
        yield from self._until(self.seconds + _TICK + ROUNDING)

    def whole(self, sampling: Sampling) -> DueWindow:
        """A run too short for a window as one, looped or held as the family does with a short file."""
        taken = [frame for point, frame in sorted(self._ring.items()) if point % self._grid.parts == 0]
        sampling = replace(sampling, stride=1)  # the ring has every stride-th frame
        (positions,) = clip_views(sampling, num_frames=self._grid.num_frames, available=len(taken), clips=1)
        return DueWindow(self.segment, tuple(taken[position] for position in positions), self.seconds, follows=False)

    def _until(self, seconds: float) -> Iterator[DueWindow]:
        """Take the frame on show at each point before `seconds`."""
        grid = self._grid
        while self._start + self._point * grid.step < seconds:
            if grid.takes(self._point, self._window):
                self._ring[self._point] = self._on_show()
            # Two windows may be due at one point, where `every` is a hair shorter than the step.
            while (points := grid.points(self._window))[-1] == self._point:
                frames = tuple(self._ring[point] for point in points)
                due = self._start + grid.span + self._window * grid.every
                yield DueWindow(self.segment, frames, due, follows=self._window > 0)
                self._window += 1
                kept_from = grid.points(self._window).start
                self._ring = {point: frame for point, frame in self._ring.items() if point >= kept_from}
            self._point += 1

    def _on_show(self) -> PreparedFrame:
        if self._prepared is None:
            crops = self._prepare(self._frame)
            self._prepared = PreparedFrame(self._number, self.seconds, self._frame.arrived, crops)
        return self._prepared


class _Runs:
    """The runs of one stream, one after the other, and the windows that were due between them."""

    def __init__(self, grid: Grid, prepare: Prepare) -> None:
        self._grid, self._prepare = grid, prepare
        self._run: _Run | None = None
        self._before: DueWindow | None = None
        self._has_times = False
        self._frames = self._left_out = 0

    def take(self, frame: SourceFrame) -> Iterator[DueWindow]:
        """Take the next frame. One without a time, or with that of the frame before it, is left out."""
        run, seconds = self._run, frame.seconds
        number, self._frames = self._frames, self._frames + 1
        self._left_out += frame.left_out
        if seconds is None:
            self._left_out += 1
        elif run is None or run.segment != frame.segment or seconds > run.seconds + self._grid.longest_hold:
            yield from self.end()
            self._has_times = True
            self._run = _Run(self._grid, self._prepare, number, frame, seconds)
        elif seconds <= run.seconds:
            self._left_out += 1
        else:
            yield from self._counted(run.take(number, frame, seconds))

    def end(self) -> Iterator[DueWindow]:
        """The last windows of the run."""
        run, self._run = self._run, None
        if run is not None:
            yield from self._counted(run.end())

    def end_of_source(self, sampling: Sampling, name: str) -> Iterator[DueWindow]:
        """The last windows of a source that came to its end: one in any case."""
        run = self._run
        if self._frames and not self._has_times:
            raise VideoError(
                f"windows are seconds, and {name} does not tell the time of its frames",
                fix="convert it: ffmpeg -i IN OUT.mp4",
            )
        yield from self.end()
        if run is not None and self._before is None:
            yield replace(run.whole(sampling), left_out=self._left_out)

    def _counted(self, due: Iterator[DueWindow]) -> Iterator[DueWindow]:
        for window in due:
            before, self._before = self._before, window
            window = replace(window, left_out=self._left_out)
            self._left_out = 0
            if not window.follows and before is not None and before.segment == window.segment:
                apart = window.due - before.due
                yield replace(window, skipped=max(0, round(apart / self._grid.every) - 1))
            else:
                yield window


def windows(
    coming: Iterable[SourceFrame | SourceState], grid: Grid, prepare: Prepare, sampling: Sampling, *, name: str
) -> Generator[DueWindow | SourceState, None, None]:
    """Make windows of frames as they come.

    A source that comes to its end before it has filled a window gives one all the same.

    Args:
        coming: the frames of a source, and its states.
        grid: where windows take their frames.
        prepare: makes model input of a frame.
        sampling: of the family, which says whether a source that is too short is looped or held.
        name: what messages call the source.

    Yields:
        Each window as soon as it is known to be complete, and the states in between.

    Raises:
        VideoError: for a source that ends and gave no frame a time.
    """
    runs = _Runs(grid, prepare)
    for item in coming:
        if isinstance(item, SourceFrame):
            yield from runs.take(item)
            continue
        if item.state == "ended" and item.reason is None:
            yield from runs.end_of_source(sampling, name)
        elif item.state != "connected":
            yield from runs.end()
        yield item
