"""Views: several clips of a file, and several crops of each, as one batch for the model.

A published multi-view evaluation runs the model on each view and averages. ViViT takes 4 clips x 3 crops, VideoMAE 5 x
3 on Kinetics and 2 x 3 on Something-Something v2. Which frames make the clips is in sampling.py; here are the crops,
and the work shared between views. A frame is resized once, whatever number of clips and crops it is in.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import VideoError
from .frames import Frames
from .prepare import centred, normalise, resize_and_cut
from .resize import Pixels, resized_size
from .spec import Arithmetic, ClipSpec, CropRounding, ShortestEdge


def crop_windows(
    height: int, width: int, crop: tuple[int, int], crops: int, rounding: CropRounding, arithmetic: Arithmetic
) -> list[tuple[int, int]]:
    """Place windows along the longer side of a resized frame.

    One is at the centre, as `prepare` cuts it, which depends on the arithmetic. Several are evenly spaced from one end
    to the other, and at the centre of the shorter side. Three are left, centre and right, or top, middle and bottom of
    an upright frame. What is not whole pixels is rounded down, as in VideoMAE's evaluation (MCG-NJU/VideoMAE,
    kinetics.py and ssv2.py). Or it is rounded up, as in ViViT's (google-research/scenic, dataset_lib/video_ops.py). Or
    the step from one to the next is rounded down, as in V-JEPA 2's (facebookresearch/vjepa2,
    evals/video_classification_frozen/utils.py).

    Args:
        height: of the resized frame, in pixels.
        width: likewise.
        crop: (height, width) of each window.
        crops: how many windows.
        rounding: which way half a pixel goes, where there are several.
        arithmetic: which way it goes where there is one.

    Returns:
        (top, left) of each window, below 0 where the frame is smaller than the crop.

    Raises:
        ValueError: for less than one crop.
    """
    if crops < 1:
        raise ValueError(f"crops must be 1 or more, got {crops}")
    margins = height - crop[0], width - crop[1]
    if crops == 1:
        return [(centred(margins[0], arithmetic), centred(margins[1], arithmetic))]

    def share(margin: int, part: int, parts: int) -> int:
        if margin < 0:
            return centred(margin, arithmetic)
        if rounding == "step":
            return margin // parts * part
        return -(-margin * part // parts) if rounding == "up" else margin * part // parts

    if height > width:
        return [(share(margins[0], part, crops - 1), share(margins[1], 1, 2)) for part in range(crops)]
    return [(share(margins[0], 1, 2), share(margins[1], part, crops - 1)) for part in range(crops)]


def spec_of_crops(spec: ClipSpec, crops: int) -> ClipSpec:
    """Return the input contract that `crops` crops are cut by: `spec`, or one whose frames fit the crop."""
    if crops > 1 and spec.crop is not None and spec.evaluation.crops_of == "fitted":
        return dataclasses.replace(spec, resize=ShortestEdge(min(spec.crop)))
    return spec


def cut_views(pixels: Pixels, spec: ClipSpec, crops: int) -> list[Pixels]:
    """Show frames as each of `crops` does: resized and cut.

    Args:
        pixels: uint8 (N, H, W, 3), RGB.
        spec: the input contract.
        crops: how many crops of each frame.

    Returns:
        uint8 (N, H', W', 3) for each crop.

    Raises:
        VideoError: for several crops of a model that sees whole frames.
        ValueError: for less than one crop.
    """
    if spec.crop is None and crops > 1:
        raise VideoError(f"{crops} crops were asked for, and this model sees whole frames", fix="ask for 1 crop")
    spec = spec_of_crops(spec, crops)
    size = resized_size(pixels.shape[1], pixels.shape[2], spec.resize)
    corners = crop_windows(*size, spec.crop or size, crops, spec.evaluation.crop_rounding, spec.arithmetic)
    return resize_and_cut(pixels, spec, corners)


def join_views(cut: Sequence[Pixels], spec: ClipSpec, clip_positions: NDArray[np.int64]) -> NDArray[Any]:
    """Join what `cut_views` gave to the batch of all views of a video, those of the first clip first.

    Args:
        cut: uint8 (N, H, W, 3) for each crop.
        spec: the input contract.
        clip_positions: int64 (clips, T), which of the N frames make each clip, from 0. T is spec.num_frames.

    Returns:
        Contiguous: float32 (clips * crops, T, 3, H, W) for layout TCHW. For layout THWC, uint8 (clips * crops, T, H,
        W, 3).

    Raises:
        VideoError: for another number of frames in a clip.
    """
    clips, count = clip_positions.shape
    if count != spec.num_frames:
        raise VideoError(f"clips must be (clips, {spec.num_frames}) positions, got {clip_positions.shape}")
    prepared: list[NDArray[Any]] = [*cut] if spec.layout == "THWC" else [normalise(pixels, spec) for pixels in cut]
    batch = np.empty((clips, len(cut), count, *prepared[0].shape[1:]), prepared[0].dtype)
    for number, pixels in enumerate(prepared):
        batch[:, number] = pixels[clip_positions]
    return batch.reshape(clips * len(cut), *batch.shape[2:])  # (clips, crops, T, ...) -> (clips * crops, T, ...)


def prepare_views(frames: Frames, spec: ClipSpec, clip_positions: NDArray[np.int64], crops: int) -> NDArray[Any]:
    """Prepare the batch of all views of a video: `cut_views`, then `join_views`.

    With one clip and one crop it is `prepare` of that clip.

    Args:
        frames: every frame that is in some clip, once.
        spec: the input contract.
        clip_positions: int64 (clips, T), which of them make each clip.
        crops: views of each clip; one is the centre.

    Returns:
        What `join_views` returns.

    Raises:
        VideoError: as the two do.
        ValueError: likewise.
    """
    return join_views(cut_views(frames.pixels, spec, crops), spec, clip_positions)
