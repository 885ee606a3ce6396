"""Reading: a video becomes the clips that a model is asked about."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..preprocess.convert import Scaling
from ..preprocess.decode import OnError, read_frames
from ..preprocess.errors import OutOfBounds, VideoError
from ..preprocess.frames import Frames, Timeline
from ..preprocess.sampling import at_rate, clip_views
from ..preprocess.spec import ClipSpec, Sampling
from ..preprocess.views import prepare_views
from .bounds import CLIPS, MOST_FPS, shown

SamplingName = Literal["eval", "uniform"]
ResizeName = Literal["exact", "fast"]
Video = str | Path | Frames | NDArray[np.uint8]


@dataclass(frozen=True)
class Reading:
    """How videos are read.

    sampling: "eval", the frames of the family's published evaluation, or "uniform", evenly over the whole file
    fps:      resample to this many frames a second by time first; None counts the frames that the file has
    clips:    how many clips, spread over the file as the evaluation does; 1 is its centre view
    crops:    how many crops of each clip, along the longer side; 1 is the centre
    rotate:   turn frames upright where the file asks for it
    on_error: "raise" for damaged packets, or "skip" them and let the nearest good frame stand in
    resize:   "exact", bit for bit as the checkpoint's processor, or "fast", FFmpeg's scaler while it decodes

    Raises ValueError for a value that makes no sense; OutOfBounds, which is one, for a number that is too large.
    """

    sampling: SamplingName = "eval"
    fps: float | None = None
    clips: int = 1
    crops: int = 1
    rotate: bool = True
    on_error: OnError = "raise"
    resize: ResizeName = "exact"

    def __post_init__(self) -> None:
        for name, choices in (("sampling", SamplingName), ("on_error", OnError), ("resize", ResizeName)):
            if getattr(self, name) not in get_args(choices):
                raise ValueError(f"{name} must be {' or '.join(get_args(choices))}, got {getattr(self, name)!r}")
        if self.fps is not None and not 0 < self.fps <= MOST_FPS:
            raise OutOfBounds(
                f"fps must be above 0 and at most {MOST_FPS} (no file has finer times), got {shown(self.fps)}"
            )
        CLIPS.check(self.clips)
        if self.crops not in (1, 3):
            raise ValueError(f"views must be of 1 or 3 crops, got {self.clips}x{self.crops}")
        if self.sampling == "uniform" and self.clips > 1:
            raise ValueError(f"uniform sampling is one clip over the whole file, got {self.clips} clips")

    @property
    def views(self) -> int:
        """How many clips and crops the scores of a video are averaged over."""
        return self.clips * self.crops


@dataclass(frozen=True, eq=False)
class Clips:
    """The clips of one video. frames: each frame that any of them takes, once; positions: int64 (clips, T), which of
    `frames` make each clip."""

    frames: Frames
    positions: NDArray[np.int64]

    def clip(self, number: int) -> Frames:
        """The frames of one clip (T), in order."""
        return self.frames.take(self.positions[number])

    @property
    def indices(self) -> NDArray[np.int64]:
        """Which frames of the file make each clip: int64 (clips, T)."""
        return self.frames.indices[self.positions]

    @property
    def seconds(self) -> NDArray[np.float64]:
        """When they were taken: float64 (clips, T), NaN where the file has no times."""
        return self.frames.seconds[self.positions]


def sampling_of(spec: ClipSpec, reading: Reading) -> Sampling:
    return spec.evaluation.sampling if reading.sampling == "eval" else Sampling(policy="uniform", stride=1)


def read_clips(video: Video, spec: ClipSpec, reading: Reading) -> Clips:
    """The frames of a video that make its clips, as decoded.

    video: a file, frames already read, or uint8 RGB pixels (T, H, W, 3). Frames and pixels are taken as the one clip
    where there are exactly spec.num_frames of them, and as a whole video to sample from otherwise.
    Raises VideoError for what is no video.
    """
    wanted: list[NDArray[np.int64]] = []

    def choose(timeline: Timeline) -> NDArray[np.int64]:
        shown = np.arange(len(timeline)) if reading.fps is None else at_rate(timeline, reading.fps)
        views = clip_views(
            sampling_of(spec, reading), num_frames=spec.num_frames, available=len(shown), clips=reading.clips
        )
        wanted[:] = [shown[views]]  # (clips, T)
        return np.unique(wanted[0])

    if isinstance(video, str | Path):
        scale_to = None if reading.resize == "exact" else _scaling(spec)
        frames = read_frames(video, choose, rotate=reading.rotate, on_error=reading.on_error, scale_to=scale_to)
    else:
        given = video if isinstance(video, Frames) else Frames.from_array(video)
        if len(given) == spec.num_frames and reading.clips == 1:
            return Clips(given, np.arange(len(given))[np.newaxis])
        frames = given.take(choose(given.timeline))
    (chosen,) = wanted
    _, positions = np.unique(chosen, return_inverse=True)
    return Clips(frames, positions.reshape(chosen.shape))


def read_clip(video: Video, spec: ClipSpec) -> Frames:
    """The frames (T) of the one clip that the published evaluation takes for its centre view; see `read_clips`."""
    return read_clips(video, spec, Reading()).clip(0)


def _scaling(spec: ClipSpec) -> Scaling:
    if spec.resize is None:
        raise VideoError("this model's frames are not resized, so there is nothing to do fast")
    return Scaling(spec.resize, spec.resample)


def prepare_clips(clips: Clips, spec: ClipSpec, reading: Reading) -> NDArray[Any]:
    """The model input of every view, clip by clip: (clips * crops, T, C, H, W) float32, or uint8 (..., T, H, W, C) for
    layout THWC. Raises VideoError for frames that cannot become a clip."""
    return prepare_views(clips.frames, spec, clips.positions, reading.crops)
