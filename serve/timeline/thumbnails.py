"""Small pictures of the moments that a timeline is about."""

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from ...preprocess.convert import Scaling
from ...preprocess.decode import OnError, read_fitted
from ...preprocess.frames import Timeline as FrameTimes
from ...preprocess.resize import Pixels
from ...preprocess.sources import Source
from ...preprocess.spec import ShortestEdge

SIDE = 144  # of the shorter side
MOST = 240  # on a page; a picture has some kilobytes


def frames_at(video: Source, seconds: Sequence[float], *, rotate: bool, on_error: OnError) -> Pixels | None:
    """Read the frames that are on show at some times.

    Args:
        video: what can be opened again.
        seconds: from the start of the file, in any order, at least one.
        rotate: whether they are turned upright.
        on_error: what to do about damage.

    Returns:
        uint8 (N, H, W, 3), all of one size. A frame of another shape than the first has black at its sides. None where
        the times of the file jump back, so that nobody can say which frame is meant.

    Raises:
        VideoError: for what cannot be read.
    """

    is_timed = True

    def choose(timeline: FrameTimes) -> NDArray[np.int64]:
        nonlocal is_timed
        is_timed = timeline.is_timed
        if not is_timed:
            return np.zeros(1, np.int64)
        chosen = np.searchsorted(timeline.seconds, np.array(seconds) + 1e-6, side="right") - 1
        return np.clip(chosen, 0, len(timeline) - 1).astype(np.int64)

    shape: list[tuple[int, ...]] = []

    def fit(pixels: Pixels) -> list[Pixels]:
        if not shape:
            shape.append(pixels.shape[1:])
        return [boxed(pixels, shape[0][0], shape[0][1])]

    scaling = Scaling(ShortestEdge(SIDE), "bilinear")
    (frames,) = read_fitted(video, choose, fit, rotate=rotate, on_error=on_error, scale_to=scaling)
    return frames.pixels if is_timed else None


def boxed(pixels: Pixels, height: int, width: int) -> Pixels:
    """Pixels (N, H, W, 3) cut or filled up with black around their middle to (N, height, width, 3)."""
    if pixels.shape[1:3] == (height, width):
        return pixels
    box = np.zeros((len(pixels), height, width, 3), np.uint8)
    kept = [min(have, wanted) for have, wanted in zip(pixels.shape[1:3], (height, width), strict=True)]
    (top, left), (into_top, into_left) = (
        [(size - keep) // 2 for size, keep in zip(sizes, kept, strict=True)]
        for sizes in (pixels.shape[1:3], (height, width))
    )
    box[:, into_top : into_top + kept[0], into_left : into_left + kept[1]] = pixels[
        :, top : top + kept[0], left : left + kept[1]
    ]
    return box


def jpeg(picture: Pixels) -> bytes:
    """Encode uint8 RGB pixels (H, W, 3)."""
    encoder = VideoCodecContext.create("mjpeg", "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt = "yuvj420p"
    encoder.time_base = Fraction(1)
    encoder.options = {"qmin": "4", "qmax": "4"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame.pts, frame.time_base = 0, Fraction(1)
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
