"""The points in time at which windows take their frames.

A window is seconds, not frames. Its frames lie as far apart as those that the model was trained on, whatever rate the
stream has. All windows take their frames at the points of one grid. Each frame is prepared once, however many of them
share it:

    frames of the stream     |  |  |  |    |  |  |  |  |  |
    grid                     .     .     .     .     .
    window 0, of 4           0     1     2     3
    window 1                       0     1     2     3

A window is due every so many seconds. It ends at the last point that is not later, a step before that at most.
"""

import math
from dataclasses import dataclass

from ...preprocess.errors import OutOfBounds
from ...preprocess.sampling import sample
from ...preprocess.spec import ClipSpec
from ..bounds import shown

TRAINING_FPS = 30.0  # of the files that models were trained on, of which their stride counts frames
WHOLE_FILE_SECONDS = 4.0  # of a model whose clips are spread over the file: the mean length in Something-Something v2
GAP_SECONDS = 0.5  # for which a frame may stand, or for two steps of the clip where those are longer
LEAST_EVERY, MOST_EVERY = 0.01, 86_400.0

ROUNDING = 1e-9  # the last digits of float64


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
        return max(1, math.ceil(self.spacing / self.every - ROUNDING))

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
        last = (self.num_frames - 1) * self.parts + math.floor(window * self.every / self.step + ROUNDING)
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
