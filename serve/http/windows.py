"""Windows: a video cut into equal parts, and for each the clip that a model would see of it alone."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...preprocess.decode import read_fitted
from ...preprocess.frames import Timeline
from ...preprocess.sampling import at_rate, distinct, sample
from ...preprocess.sources import Source
from ...preprocess.spec import ClipSpec
from ...preprocess.views import cut_views
from ...runtime.reading import Clips, Reading, check_seconds, sampling_of

MOST_WINDOWS = 48


@dataclass(frozen=True, eq=False)
class Windows:
    """The clips of windows, and when each begins and ends: float64 (windows, 2), NaN where the file has no times."""

    clips: Clips
    bounds: NDArray[np.float64]


def window_starts(frames: int, span: int, most: int) -> NDArray[np.int64]:
    """Cut frames into windows of `span` or more, at most `most` of them.

    Returns:
        Where each begins and the last one ends: int64 (windows + 1,).
    """
    count = min(max(1, frames // span), most)
    return np.arange(count + 1) * frames // count


def read_windows(content: bytes | BinaryIO, spec: ClipSpec, reading: Reading, *, most: int, until: float) -> Windows:
    """Read a clip of each window of a video, in one pass.

    A window is as long as the clip of the published evaluation, or longer where there would be too many.

    Args:
        content: a video file.
        spec: the input contract.
        reading: how the file is read; its clips and crops do not count.
        most: how many windows.
        until: when reading ends in an error, by time.monotonic().

    Returns:
        The windows, with frames resized and cut as the model takes them.

    Raises:
        VideoError: for what is no video.
    """
    found: list[NDArray[np.int64]] = []
    bounds: list[NDArray[np.float64]] = []
    sampling = sampling_of(spec, reading)

    def choose(timeline: Timeline) -> NDArray[np.int64]:
        check_seconds(timeline, reading.max_seconds)
        shown = np.arange(len(timeline)) if reading.fps is None else at_rate(timeline, reading.fps)
        starts = window_starts(len(shown), spec.num_frames * sampling.stride, most)
        clips = [
            start + sample(sampling, num_frames=spec.num_frames, available=int(end - start))
            for start, end in pairwise(starts)
        ]
        times = timeline.seconds[shown[np.minimum(starts, len(shown) - 1)]]  # the last ends with the last frame
        found[:], bounds[:] = [shown[np.stack(clips)]], [np.stack([times[:-1], times[1:]], axis=1)]
        return distinct(found[0])

    source = replace(Source("the video", content), track=reading.track, max_mb=reading.max_mb, until=until)
    (frames,) = read_fitted(
        source, choose, lambda pixels: cut_views(pixels, spec, 1), rotate=reading.rotate, on_error=reading.on_error
    )
    positions = np.searchsorted(distinct(found[0]), found[0])  # (windows, T)
    return Windows(Clips(frames, positions), bounds[0])
