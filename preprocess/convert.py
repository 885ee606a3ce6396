"""One decoded frame to RGB pixels: converted, resized on the way where asked for, and turned upright."""

from dataclasses import dataclass
from typing import cast

import av
import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from .errors import VideoError
from .pyav import interpolation, pyav
from .resize import Pixels, resized_size
from .spec import ExactSize, Resample, ShortestEdge

# swscale's name for each filter of Pillow; it has no Hamming window.
_INTERPOLATIONS: dict[Resample, Interpolation] = {
    "nearest": Interpolation.POINT,
    "box": Interpolation.AREA,
    "bilinear": Interpolation.BILINEAR,
    "bicubic": Interpolation.BICUBIC,
    "lanczos": Interpolation.LANCZOS,
}

RESIZE_EXACTLY = '--resize exact, or Reading(resize="exact") in Python'

_SLANT = 0.01  # the sine of the angle, half a degree, up to which a picture counts as straight


@dataclass(frozen=True)
class Scaling:
    """Resizing while a frame is converted to RGB: fast, and close to the pixels that a model expects, not equal.

    FFmpeg's swscale filters luma and chroma before they become RGB, and computes in fewer bits. prepare.py filters the
    RGB pixels of the whole frame. To convert and resize 1280x720 to a short side of 224 takes a fifth of the time.
    Values differ by 1 to 1.5 of 255 on average. One in a hundred differs by 4 to 16, a few at sharp edges of colour by
    up to 60. These were measured on real clips (scripts/bench_decode.py).

    Raises VideoError for a filter that swscale does not have.
    """

    rule: ShortestEdge | ExactSize
    resample: Resample

    def __post_init__(self) -> None:
        if self.resample not in _INTERPOLATIONS:
            raise VideoError(
                f"frames can be resized while they are decoded by {', '.join(_INTERPOLATIONS)}, not by {self.resample}",
                fix=RESIZE_EXACTLY,
            )


class Converter:
    """Turns the frames of one video into pixels. It holds what swscale sets up for a size and a format.

    rotate: whether pixels are turned and mirrored as the file asks a player to
    """

    def __init__(self, name: object, *, rotate: bool, scaling: Scaling | None) -> None:
        self._name = name
        self._rotate = rotate
        self._scaling = scaling
        self._reformatter = VideoReformatter()

    def pixels(self, frame: VideoFrame) -> Pixels:
        """uint8 (H, W, 3), RGB, not always contiguous.

        Colours are those of FFmpeg's default. They go by the matrix and range that the frame is tagged with. Without a
        tag they are BT.601 in limited range, at every size. More than 8 bits are cut to 8, alpha is dropped, and HDR
        is not mapped to SDR. Raises VideoError where the file asks for a slanted picture.
        """
        matrix = display_matrix(self._name, frame) if self._rotate else np.eye(2, dtype=np.int64)
        width, height, flags = frame.width, frame.height, None
        if self._scaling is not None:
            width, height = _stored_size(frame, matrix, self._scaling.rule)
            # Chroma at full width, which by default is halved: it halves the distance to the exact resize.
            flags = interpolation(_INTERPOLATIONS[self._scaling.resample])
        try:
            with pyav(self._name):
                reformatted = self._reformatter.reformat(frame, width, height, "rgb24", interpolation=flags)
                converted = np.asarray(reformatted.to_ndarray(), np.uint8)
        except av.FFmpegError as error:
            raise VideoError(
                f"{self._name} has frames that cannot be converted to RGB: {frame.format.name}, "
                f"{frame.width}x{frame.height} ({error.strerror})"
            ) from error
        return _displayed(converted, matrix)


def _stored_size(frame: VideoFrame, matrix: NDArray[np.int64], rule: ShortestEdge | ExactSize) -> tuple[int, int]:
    """(width, height), before it is turned, of a frame that has the size of `rule` on display."""
    width, height = abs(matrix) @ (frame.width, frame.height)  # as displayed
    size = resized_size(int(height), int(width), rule)
    width, height = abs(matrix) @ size[::-1]
    return int(width), int(height)


def display_matrix(name: object, frame: VideoFrame) -> NDArray[np.int64]:
    """Where a frame of the video called `name` asks its axes to go on display.

    int64 (2, 2), one 1 or -1 in each row and column. With positions counted from the middle, [[a, c], [b, d]] takes
    (x, y) to (ax + cy, bx + dy). Raises VideoError for any other matrix than those of quarter turns and mirrors:
    pixels do not survive it.
    """
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return np.eye(2, dtype=np.int64)
    values = np.frombuffer(
        bytes(cast("SideData", found)), np.int32
    )  # 3 x 3, by rows: a b u, c d v, x y w (libavutil/display.h)
    matrix = np.array([[values[0], values[3]], [values[1], values[4]]], np.float64)
    matrix /= max(np.abs(matrix).max(), 1.0)
    signs = np.rint(matrix).astype(np.int64)
    is_slanted = (np.abs(matrix - signs) > _SLANT).any()
    if is_slanted or (abs(signs).sum(axis=0) != 1).any() or (abs(signs).sum(axis=1) != 1).any():
        raise VideoError(
            f"{name} asks for a rotation of {frame.rotation} degrees; only quarter turns keep pixels as they are",
            fix="re-encode it upright: ffmpeg -i IN OUT",
        )
    return signs


def _displayed(pixels: Pixels, matrix: NDArray[np.int64]) -> Pixels:
    """A view of `pixels` (H, W, 3) turned and mirrored as `matrix` says."""
    if matrix[0, 0] == 0:  # x goes to y
        pixels = pixels.swapaxes(0, 1)
    right, down = matrix.sum(axis=1)
    return pixels[::down, ::right]
