"""Frames given as pixels: an array or tensor of any library, or a list of arrays or Pillow's pictures."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import VideoError
from .frames import Frames

_EXPECTED = "a video must be a path, bytes, a binary file, an array of frames or a list of them"


def given_frames(video: Any, name: str | None = None) -> Frames:
    """Take pixels of unknown origin as Frames: frame i is number i, and its time is unknown (NaN).

    Args:
        video: Frames, which are returned as they are. Or uint8 RGB (T, H, W, 3) in the memory of the CPU, as a numpy
            array or whatever speaks DLPack or `__array__`. Or a list of such frames (H, W, 3), all of one size.
        name: what messages call it.

    Returns:
        The frames.

    Raises:
        VideoError: for anything else.
    """
    if isinstance(video, Frames):
        return video
    try:
        return Frames.from_array(_stacked(video) if isinstance(video, list | tuple) else _array(video, _EXPECTED))
    except VideoError as error:
        if name is None:
            raise
        raise VideoError(f"{name}: {error.message}", fix=error.fix) from error


def _stacked(frames: list[Any] | tuple[Any, ...]) -> NDArray[Any]:
    """Frames (H, W, 3) each -> (T, H, W, 3)."""
    if not frames:
        raise VideoError("a list of frames must hold at least one")
    arrays = [_array(frame, "frames must be uint8 arrays of RGB values from 0 to 255") for frame in frames]
    for number, array in enumerate(arrays):
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
            raise VideoError(
                f"each frame must be uint8 (H, W, 3) in RGB, got {array.dtype} {array.shape} for frame {number}",
                fix="convert a picture of Pillow by picture.convert('RGB')",
            )
        if array.shape != arrays[0].shape:
            raise VideoError(
                f"frames must be of one size, got {arrays[0].shape} for frame 0 and {array.shape} for frame {number}"
            )
    return np.stack(arrays)


def _array(value: Any, expected: str) -> NDArray[Any]:
    """A numpy array of the same memory where that can be had."""
    if isinstance(value, np.ndarray):
        return value
    if not any(hasattr(value, name) for name in ("__dlpack__", "__array__", "__array_interface__")):
        raise VideoError(f"{expected}, got {type(value).__name__}")
    try:
        array: NDArray[Any] = np.from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise VideoError(
            f"{type(value).__name__} does not become an array: {error}",
            fix="give uint8 frames in the memory of the CPU: for a tensor of torch, video.cpu()",
        ) from error
    return array
