"""Reading: a video becomes the clips that a model is asked about."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..preprocess.convert import RESIZE_EXACTLY, Scaling
from ..preprocess.decode import OnError, read_fitted
from ..preprocess.errors import OutOfBounds, VideoError
from ..preprocess.frames import Frames, Timeline
from ..preprocess.gather import Fit
from ..preprocess.given import given_frames
from ..preprocess.sampling import at_rate, clip_views, distinct
from ..preprocess.sources import MAX_MB, FileLike, Source, is_file_like
from ..preprocess.spec import ClipSpec, Sampling
from ..preprocess.views import cut_views, join_views, prepare_views, spec_of_crops
from .bounds import CLIPS, MOST_FPS, Bound, check_choice, shown
from .remote import Remote

TRACK = Bound("track", 0, 9999, "no file has more")
MOST_MB = Bound("max_mb", 1, 1 << 20, "a terabyte of pixels")

SamplingName = Literal["eval", "uniform"]
ResizeName = Literal["exact", "fast"]
# What a video may be given as; see `read_clips`. Tensors and pictures of Pillow are known by what they can do.
Video = FileLike | Frames | NDArray[np.uint8] | Sequence[Any] | Any


@dataclass(frozen=True)
class Reading:
    """How videos are read.

    Attributes:
        sampling: "eval", the frames of the family's published evaluation, or "uniform", evenly over the whole file.
        fps: resample to this many frames a second by time first. None counts the frames that the file has.
        clips: how many clips, spread over the file as the evaluation does; 1 is its centre view.
        crops: how many crops of each clip, along the longer side; 1 is the centre.
        rotate: turn frames upright where the file asks for it.
        on_error: "raise" for damaged packets, or "skip" them and let the nearest good frame stand in.
        resize: "exact", bit for bit as the checkpoint's processor, or "fast", FFmpeg's scaler while it decodes.
        track: which video track of a file, from 0. None is the one that FFmpeg takes for the best.
        max_mb: MiB of pixels that may be held while one video is read. A quarter of it is for one decoded frame.
        allow_url: whether a URL, given as str, is opened. FFmpeg decides which protocols there are.
        max_seconds: how long a video may last, by the times of its frames. None is as long as it likes.
        timeout_seconds: how long the reading of one video may take. None is as long as it takes.

    Raises:
        OutOfBounds: for a value that makes no sense.
    """

    sampling: SamplingName = "eval"
    fps: float | None = None
    clips: int = 1
    crops: int = 1
    rotate: bool = True
    on_error: OnError = "raise"
    resize: ResizeName = "exact"
    track: int | None = None
    max_mb: int = MAX_MB
    allow_url: bool = False
    max_seconds: float | None = None
    timeout_seconds: float | None = None

    def __post_init__(self) -> None:
        for name, choices in (("sampling", SamplingName), ("on_error", OnError), ("resize", ResizeName)):
            check_choice(name, getattr(self, name), get_args(choices))
        if self.fps is not None and not (isinstance(self.fps, int | float) and 0 < self.fps <= MOST_FPS):
            raise OutOfBounds(
                f"fps must be above 0 and at most {MOST_FPS} (no file has finer times), got {shown(self.fps)}"
            )
        CLIPS.check(self.clips)
        check_choice("crops", self.crops, (1, 3))
        if self.sampling == "uniform" and self.clips > 1:
            raise OutOfBounds(f"uniform sampling is one clip over the whole file, got {self.clips} clips")
        if self.track is not None:
            TRACK.check(self.track)
        MOST_MB.check(self.max_mb)
        for name in ("max_seconds", "timeout_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise OutOfBounds(f"{name} must be above 0, got {shown(value)}")

    @property
    def views(self) -> int:
        """How many clips and crops the scores of a video are averaged over."""
        return self.clips * self.crops


@dataclass(frozen=True, eq=False)
class Clips:
    """The clips of one video.

    Attributes:
        frames: each frame that any of them takes, once.
        positions: int64 (clips, T), which of `frames` make each clip.
    """

    frames: Frames
    positions: NDArray[np.int64]

    def clip(self, number: int) -> Frames:
        """The frames of one clip (T), in order."""
        return self.frames.take(self.positions[number])

    def damage(self) -> dict[str, int]:
        """Count what was wrong with a file that was read all the same."""
        return {"stood_in": int(self.frames.stood_in.sum()), "skipped_packets": self.frames.skipped_packets}

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


@dataclass(frozen=True, eq=False)
class AlreadyRead:
    """A video that was read in another process, on its way to the model.

    Attributes:
        name: its own.
        crops: what `read_crops` gave.
        error: why it could not be read.
    """

    name: str
    crops: tuple[Clips, ...]
    error: str | None

    def again(self) -> list[Clips]:
        """What reading it here would give. Raises VideoError where it could not be read."""
        if self.error is not None:
            raise VideoError(self.error)
        return list(self.crops)


def read_clips(video: Video, spec: ClipSpec, reading: Reading, *, name: str | None = None) -> Clips:
    """Read the frames of a video that make its clips, as decoded.

    Frames and pixels are taken as the one clip where there are exactly spec.num_frames of them. Otherwise they are a
    whole video to sample from.

    Args:
        video: a path, bytes, a seekable binary file, or a URL where `reading` allows it. Or frames already read: uint8
            RGB pixels (T, H, W, 3), an array or tensor of any library. Or a list of frames (H, W, 3) or pictures of
            Pillow.
        spec: the input contract.
        reading: which frames, and how they are read.
        name: what messages call a video that has no name.

    Returns:
        The clips, with pixels uint8 (T, H, W, 3), RGB.

    Raises:
        VideoError: for what is no video.
    """
    (clips,) = _read(video, spec, reading, lambda pixels: [pixels], name)
    return clips


def read_crops(video: Video, spec: ClipSpec, reading: Reading, *, name: str | None = None) -> list[Clips]:
    """Read the clips of a video as each of its crops shows them, resized and cut for the model.

    Large frames are resized as they arrive, so that only a few are held at once. Where the size changes midway, each
    is resized by itself. `prepare_crops` makes the model input of it. Arguments and errors are those of `read_clips`.

    Returns:
        The clips for each crop.
    """
    if isinstance(video, AlreadyRead):
        return video.again()
    return _read(video, spec, reading, lambda pixels: cut_views(pixels, spec, reading.crops), name)


def _read(video: Video, spec: ClipSpec, reading: Reading, fit: Fit, name: str | None) -> list[Clips]:
    wanted: list[NDArray[np.int64]] = []

    def choose(timeline: Timeline) -> NDArray[np.int64]:
        check_seconds(timeline, reading.max_seconds)
        shown = np.arange(len(timeline)) if reading.fps is None else at_rate(timeline, reading.fps)
        views = clip_views(
            sampling_of(spec, reading), num_frames=spec.num_frames, available=len(shown), clips=reading.clips
        )
        wanted[:] = [shown[views]]  # (clips, T)
        return distinct(wanted[0])

    if isinstance(video, Remote):
        with video.opened() as content:
            return _read(Source(video.name, content), spec, reading, fit, name)
    if is_file_like(video):
        source = Source.of(video, name=name, allow_url=reading.allow_url)
        until = None if reading.timeout_seconds is None else time.monotonic() + reading.timeout_seconds
        source = replace(source, track=reading.track, max_mb=reading.max_mb, until=until)
        found = read_fitted(
            source,
            choose,
            fit,
            rotate=reading.rotate,
            on_error=reading.on_error,
            scale_to=scaling_of(spec, reading),
        )
    else:
        given = given_frames(video, name)
        if len(given) == spec.num_frames and reading.clips == 1:
            whole = np.arange(len(given))[np.newaxis]
            return [Clips(replace(given, pixels=pixels), whole) for pixels in fit(given.pixels)]
        given = given.take(choose(given.timeline))
        found = [replace(given, pixels=pixels) for pixels in fit(given.pixels)]
    (chosen,) = wanted
    positions = np.searchsorted(distinct(chosen), chosen)  # (clips, T)
    return [Clips(frames, positions) for frames in found]


def check_seconds(timeline: Timeline, most: float | None) -> None:
    """Raise VideoError for a video that lasts longer than `most` by the times of its frames."""
    if most is None or not timeline.is_timed:
        return
    lasts = timeline.seconds[-1] - timeline.seconds[0]
    if lasts > most:
        raise VideoError(
            f"the video lasts {lasts:.1f} seconds, and it may last {most:g}",
            fix="cut it, or allow more: Reading(max_seconds=...) in Python",
        )


def read_clip(video: Video, spec: ClipSpec, reading: Reading | None = None) -> Frames:
    """Read the frames (T) of the first clip, as decoded; see `read_clips`.

    Without `reading` it is the clip that the published evaluation takes for its centre view.
    """
    return read_clips(video, spec, Reading() if reading is None else reading).clip(0)


def as_read(spec: ClipSpec) -> ClipSpec:
    """The input contract of frames that `read_crops` gave: they are resized and cut."""
    return replace(spec, resize=None, crop=None)


def scaling_of(spec: ClipSpec, reading: Reading) -> Scaling | None:
    """How frames are resized while they are converted; None where they are not."""
    if reading.resize == "exact":
        return None
    resize = spec_of_crops(spec, reading.crops).resize
    if resize is None:
        raise VideoError("this model's frames are not resized, so there is nothing to do fast", fix=RESIZE_EXACTLY)
    return Scaling(resize, spec.resample)


def prepare_clips(clips: Clips, spec: ClipSpec, reading: Reading) -> NDArray[Any]:
    """Prepare the model input of every view, clip by clip.

    Returns:
        float32 (clips * crops, T, C, H, W). For layout THWC, uint8 (clips * crops, T, H, W, C).

    Raises:
        VideoError: for frames that cannot become a clip.
    """
    return prepare_views(clips.frames, spec, clips.positions, reading.crops)


def prepare_crops(crops: list[Clips], spec: ClipSpec) -> NDArray[Any]:
    """Prepare the model input of every view, as `prepare_clips` gives it, from what `read_crops` read."""
    return join_views([clips.frames.pixels for clips in crops], spec, crops[0].positions)
