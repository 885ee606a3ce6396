"""Frames to model input: resize, crop, rescale, normalise, lay out.

Every value is the one that the processors of `transformers` compute, bit for bit. With arithmetic "pillow" those are
the ones that resize with Pillow and normalise with numpy (`VivitImageProcessor`, `VideoMAEImageProcessorPil`). With
"torchvision" they work on tensors (`VideoMAEImageProcessor`, `VideoMAEVideoProcessor`, `VivitVideoProcessor`). See
resize.py.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import VideoError
from .frames import Frames
from .resize import Pixels, check_rgb, resize, resized_size
from .spec import Arithmetic, ClipSpec


def centred(margin: int, arithmetic: Arithmetic) -> int:
    """Where a crop at the centre begins, along an axis on which the frame is `margin` pixels longer.

    An odd margin leaves half a pixel more behind the crop. Where the frame is smaller, the margin and the place are
    below 0. There, half a pixel more of black stands in front of the frame with Pillow, and behind it with torchvision.
    """
    return int(margin / 2) if arithmetic == "torchvision" else margin // 2


def resize_and_crop(pixels: Pixels, spec: ClipSpec) -> Pixels:
    """Resize and crop frames to what a model sees.

    The crop is at the centre (see `centred`). A frame smaller than the crop stands at its centre, with black around it.

    Args:
        pixels: uint8 (T, H, W, 3), RGB, of any size.
        spec: the input contract.

    Returns:
        uint8 (T, H', W', 3), contiguous, H' x W' as `spec` says.

    Raises:
        VideoError: for other pixels than uint8 RGB.
    """
    check_rgb(pixels)
    size = resized_size(pixels.shape[1], pixels.shape[2], spec.resize)
    crop = spec.crop or size
    centre = centred(size[0] - crop[0], spec.arithmetic), centred(size[1] - crop[1], spec.arithmetic)
    return resize_and_cut(pixels, spec, [centre])[0]


def resize_and_cut(pixels: Pixels, spec: ClipSpec, corners: Sequence[tuple[int, int]]) -> list[Pixels]:
    """Resize frames once and cut a crop at each of several corners.

    Only the pixels that some crop keeps are computed. What lies outside the frame is black.

    Args:
        pixels: uint8 (T, H, W, 3), RGB, of any size.
        spec: the input contract; each crop is as large as `spec.crop`.
        corners: (top, left) of each crop in the resized frame.

    Returns:
        uint8 (T, H', W', 3) for each corner, contiguous.

    Raises:
        VideoError: for other pixels than uint8 RGB.
    """
    check_rgb(pixels)
    size = resized_size(pixels.shape[1], pixels.shape[2], spec.resize)
    crop = np.array(spec.crop or size)
    starts = np.array(corners)  # (corners, 2), rows and columns
    low = np.maximum(starts.min(axis=0), 0)
    high = np.minimum(starts.max(axis=0) + crop, size)
    kept = resize(pixels, size, spec.resample, spec.arithmetic, window=(*low.tolist(), *(high - low).tolist()))
    crops = []
    for start in starts:
        (top, left), (bottom, right) = np.maximum(start, low), np.minimum(start + crop, high)
        part = kept[:, top - low[0] : bottom - low[0], left - low[1] : right - low[1]]
        if part.shape[1:3] == tuple(crop):
            crops.append(np.ascontiguousarray(part))
            continue
        canvas = np.zeros((len(pixels), *crop, 3), np.uint8)
        canvas[:, top - start[0] : bottom - start[0], left - start[1] : right - start[1]] = part
        crops.append(canvas)
    return crops


def normalisation_table(spec: ClipSpec) -> NDArray[np.float32]:
    """What each of the 256 pixel values becomes in each channel: float32 (3, 256).

    With Pillow, the steps and their precision are those of `rescale` and `normalize` in
    transformers/image_transforms.py. The factor is in float64, everything after it in float32.
    """
    if spec.arithmetic == "torchvision":
        return _torchvision_table(spec)
    values = (np.arange(256) * spec.rescale_factor).astype(np.float32) + np.float32(spec.rescale_offset)
    table = np.tile(values, (3, 1))
    if spec.mean is not None and spec.std is not None:
        mean, std = np.array([spec.mean, spec.std], np.float32)[..., None]  # two of (C, 1)
        table = (table - mean) / std
    return table


def _torchvision_table(spec: ClipSpec) -> NDArray[np.float32]:
    """The same in float32 alone, as `TorchvisionBackend.rescale_and_normalize` of transformers computes it.

    The factor is drawn into mean and std. With an offset it is not: `VivitVideoProcessor` rescales first.
    """
    pixels = np.tile(np.arange(256, dtype=np.float32), (3, 1))
    factor = np.float32(spec.rescale_factor)
    if spec.mean is None or spec.std is None:
        rescaled: NDArray[np.float32] = pixels * factor + np.float32(spec.rescale_offset)
        return rescaled
    mean, std = np.array([spec.mean, spec.std], np.float32)[..., None]  # two of (C, 1)
    if spec.rescale_offset:
        table: NDArray[np.float32] = (pixels * factor + np.float32(spec.rescale_offset) - mean) / std
    else:
        inverse = np.float32(1.0 / spec.rescale_factor)
        table = (pixels - mean * inverse) / (std * inverse)
    return table


def normalise(pixels: Pixels, spec: ClipSpec) -> NDArray[np.float32]:
    """Rescale and normalise pixels.

    Args:
        pixels: uint8 (..., H, W, 3).
        spec: the input contract.

    Returns:
        float32 (..., 3, H, W), contiguous.

    Raises:
        VideoError: for other pixels than uint8 RGB.
    """
    frames = pixels.reshape(-1, *pixels.shape[-3:])  # (..., H, W, C) -> (T, H, W, C)
    check_rgb(frames)
    table = normalisation_table(spec)
    count, height, width, _ = frames.shape
    result = np.empty((count, 3, height, width), np.float32)
    for frame, planes in zip(frames, result, strict=True):
        for channel in range(3):
            # uint8 cannot leave the table; the mode is what lets take write into `out` without a copy.
            np.take(table[channel], frame[..., channel], out=planes[channel], mode="clip")
    return result.reshape(*pixels.shape[:-3], 3, height, width)  # (T, C, H, W) -> (..., C, H, W)


def prepare(frames: Frames, spec: ClipSpec) -> NDArray[Any]:
    """Make the clip that a model with this input contract expects.

    Args:
        frames: spec.num_frames of them, as decoded.
        spec: the input contract.

    Returns:
        float32 (T, 3, H, W) for layout TCHW, uint8 (T, H, W, 3) for layout THWC, contiguous.

    Raises:
        VideoError: for another number of frames.
    """
    if len(frames) != spec.num_frames:
        raise VideoError(
            f"clip must be {spec.num_frames} frames, got {len(frames)}",
            fix=f"sample {spec.num_frames} of the video's frames, repeating some where it has fewer",
        )
    pixels = resize_and_crop(frames.pixels, spec)
    return pixels if spec.layout == "THWC" else normalise(pixels, spec)
