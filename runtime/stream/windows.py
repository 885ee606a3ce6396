"""Frames by timestamp become windows: a ring of prepared frames, and the clips that are taken from it.

A window is seconds, not frames. Its frames lie as far apart as those that the model was trained on, whatever rate the
stream has. At most half a second of it is repeated where a frame stays on show. All windows take their frames at the
points of one grid. Each frame is prepared once, however many of them share it:

    frames of the stream     |  |  |  |    |  |  |  |  |  |
    grid                     .     .     .     .     .
    window 0, of 4           0     1     2     3
    window 1                       0     1     2     3

A point takes the frame on show: the last one that is not later. Where frames are missing the grid begins anew, so that
no window lies over the place.
"""

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import OutOfBounds, VideoError
from ...preprocess.sampling import clip_views, sample
from ...preprocess.spec import ClipSpec, Sampling
from ..bounds import shown
from .frames import SourceFrame, SourceState

TRAINING_FPS = 30.0  # of the files that models were trained on, of which their stride counts frames
WHOLE_FILE_SECONDS = 4.0  # of a model whose clips are spread over the file: the mean length in Something-Something v2
GAP_SECONDS = 0.5  # for which a frame may stand, or for two steps of the clip where those are longer
LEAST_EVERY, MOST_EVERY = 0.01, 86_400.0

# How far a time may be off and still be the grid's: streams and files count in whole ticks, of a millisecond at most.
_TICK = 1e-3
_ROUNDING = 1e-9  # the last digits of float64

# A frame of the source -> the frame as each crop shows it, prepared: float32 (3, H, W) or uint8 (H, W, 3).
Prepare = Callable[[SourceFrame], tuple[NDArray[Any], ...]]


@dataclass(frozen=True)
class Grid:
    """The points in time at which windows take their frames, counted from the first frame of an unbroken run.

    num_frames: of a clip, T
    spacing:    seconds from one frame of a clip to the next
    every:      seconds from one window to the next
    """

    num_frames: int
    spacing: float
    every: float

    def __post_init__(self) -> None:
        if not LEAST_EVERY <= self.every <= MOST_EVERY:
            raise OutOfBounds(
                f"every must be from {LEAST_EVERY:g} to {MOST_EVERY:g} seconds from one window to the next, got "
                f"{shown(self.every)}"
            )

    def __str__(self) -> str:
        return f"{self.num_frames} frames in {self.span:.2f} s, {self.spacing:.3f} s apart, one every {self.every:g} s"

    @property
    def parts(self) -> int:
        """Points from one frame of a clip to the next: 1, or more where windows follow one another faster."""
        return max(1, math.ceil(self.spacing / self.every - _ROUNDING))

    @property
    def step(self) -> float:
        """Seconds from one point to the next."""
        return self.spacing / self.parts

    @property
    def span(self) -> float:
        """Seconds from the first frame of a window to its last."""
        return (self.num_frames - 1) * self.spacing

    @property
    def longest_hold(self) -> float:
        """Seconds for which a frame may be on show; where the next is later, frames are missing."""
        return max(GAP_SECONDS, 2 * self.spacing)

    def points(self, window: int) -> range:
        """The points of a window, by its number in the run. It ends at the last one not after its time is due."""
        last = (self.num_frames - 1) * self.parts + math.floor(window * self.every / self.step + _ROUNDING)
        return range(last - (self.num_frames - 1) * self.parts, last + 1, self.parts)

    def takes(self, point: int, window: int) -> bool:
        """Whether a window from the number `window` on takes the frame at `point`."""
        points = self.points(window)
        while points.start <= point:
            if point in points:
                return True
            window += 1
            points = self.points(window)
        return False


def spreads_over_file(spec: ClipSpec) -> bool:
    """Whether the model's clips are spread over the whole file, however long it is."""
    available = 1000 * spec.num_frames * spec.evaluation.sampling.stride
    return _pitch(spec, available) * spec.num_frames > available / 2


def default_fps(spec: ClipSpec) -> float:
    """Frames a second of the files that a model was trained on; of its clips, where those span a file."""
    return spec.num_frames / WHOLE_FILE_SECONDS if spreads_over_file(spec) else TRAINING_FPS


def grid_of(spec: ClipSpec, *, fps: float | None, every: float) -> Grid:
    """Make the grid for a model.

    Args:
        spec: its input contract.
        fps: frames a second of the files that it was trained on; see `default_fps`.
        every: seconds from one window to the next.

    Raises:
        OutOfBounds: for an `every` that makes no sense.
    """
    rate = default_fps(spec) if fps is None else fps
    pitch = 1.0 if spreads_over_file(spec) else _pitch(spec, 1000 * spec.num_frames * spec.evaluation.sampling.stride)
    return Grid(spec.num_frames, pitch / rate, every)


def _pitch(spec: ClipSpec, available: int) -> float:
    """Frames from one of a clip to the next, on average, in the evaluation of a file of `available` frames."""
    sampling = spec.evaluation.sampling
    if spec.num_frames == 1:
        return float(sampling.stride)
    indices = sample(sampling, num_frames=spec.num_frames, available=available)
    return float(indices[-1] - indices[0]) / (spec.num_frames - 1)


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

    frames:  T of them, with repeats where one stays on show
    follows: whether no frame is missing between the window before and this one
    skipped: windows that were due since the one before, and are not asked
    dropped: frames that only such windows would have shown
    """

    segment: int
    frames: tuple[PreparedFrame, ...]
    follows: bool
    skipped: int = 0
    dropped: int = 0

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
        yield from self._until(seconds - _TICK - _ROUNDING)
        self._show(number, frame, seconds)

    def end(self) -> Iterator[DueWindow]:
        """The windows that the last frame completes, for the moment that it is known to be on show."""
        yield from self._until(self.seconds + _TICK + _ROUNDING)

    def whole(self, sampling: Sampling) -> DueWindow:
        """A run too short for a window as one, looped or held as the family does with a short file."""
        taken = [frame for point, frame in sorted(self._ring.items()) if point % self._grid.parts == 0]
        sampling = replace(sampling, stride=1)  # the ring has every stride-th frame
        (positions,) = clip_views(sampling, num_frames=self._grid.num_frames, available=len(taken), clips=1)
        return DueWindow(self.segment, tuple(taken[position] for position in positions), follows=False)

    def _until(self, seconds: float) -> Iterator[DueWindow]:
        """Take the frame on show at each point before `seconds`."""
        grid = self._grid
        while self._start + self._point * grid.step < seconds:
            if grid.takes(self._point, self._window):
                self._ring[self._point] = self._on_show()
            points = grid.points(self._window)
            if self._point == points[-1]:
                yield DueWindow(self.segment, tuple(self._ring[point] for point in points), follows=self._window > 0)
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
        self.frames = 0

    def take(self, frame: SourceFrame) -> Iterator[DueWindow]:
        """Take the next frame; one without a time, or with that of the frame before it, is passed over."""
        run, seconds = self._run, frame.seconds
        number, self.frames = self.frames, self.frames + 1
        if seconds is None:
            return
        if run is not None and run.segment == frame.segment:
            if seconds <= run.seconds:
                return
            if seconds <= run.seconds + self._grid.longest_hold:
                yield from self._counted(run.take(number, frame, seconds))
                return
        yield from self.end()
        self._run = _Run(self._grid, self._prepare, number, frame, seconds)

    def end(self) -> Iterator[DueWindow]:
        """The last windows of the run."""
        run, self._run = self._run, None
        if run is not None:
            yield from self._counted(run.end())

    def end_of_source(self, sampling: Sampling, name: str) -> Iterator[DueWindow]:
        """The last windows of a source that came to its end: one in any case."""
        run = self._run
        if run is None and self._before is None and self.frames:
            raise VideoError(
                f"windows are seconds, and {name} does not tell the time of its frames",
                fix="convert it: ffmpeg -i IN OUT.mp4",
            )
        yield from self.end()
        if run is not None and self._before is None:
            yield run.whole(sampling)

    def _counted(self, due: Iterator[DueWindow]) -> Iterator[DueWindow]:
        for window in due:
            before, self._before = self._before, window
            if not window.follows and before is not None and before.segment == window.segment:
                apart = window.frames[-1].seconds - before.frames[-1].seconds
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
