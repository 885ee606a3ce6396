"""What a pretrained VideoMAE makes of a clip of which it sees a tenth: predictions as pixels, and their loss.

The decoder predicts patches of frames in [0, 1]. These are the model input, its normalisation undone by ImageNet's
mean and standard deviation, whatever the processor used. With `norm_pix_loss` it predicts them normalised, each patch
and channel by its own mean and deviation. Those are not predicted, so a picture takes them from the original, as the
authors do (MCG-NJU/VideoMAE, run_videomae_vis.py). Formulas: VideoMAEForPreTraining of transformers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.frames import Frames
from ...preprocess.prepare import normalise, prepare
from ...preprocess.spec import IMAGENET_MEAN, IMAGENET_STD, ClipSpec
from ..tokens import Indices, TubeletSize, TubeMask, patchify, token_grid, tube_mask, unpatchify

Pixels = NDArray[np.uint8]
Reals = NDArray[np.float32]

# What the reference loss normalises with, for every checkpoint.
MEAN = np.array(IMAGENET_MEAN, np.float32)
STD = np.array(IMAGENET_STD, np.float32)

GREY = 128


@dataclass(frozen=True)
class Pretraining:
    """How a masked model was trained, and its graph made.

    masked: tokens of a clip that are hidden, a number that is fixed in the graph. norm_pix_loss: whether patches are
    predicted normalised, each by its own mean and deviation.
    """

    tubelet: TubeletSize
    masked: int
    norm_pix_loss: bool


# pixel_values float32 (B, T, C, H, W) or frames uint8 (B, T, H, W, C), as the graph takes them, and the tokens that it
# sees and those that it predicts -> logits float32 (B, M, P * C).
InferMasked = Callable[[NDArray[Any], TubeMask], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """One clip, before and after.

    original:      uint8 (T, H, W, 3), resized and cropped as for the model
    masked:        the same with its masked tokens grey
    reconstructed: the same with the predictions in their place
    seconds:       float64 (T,), when the frames were taken, NaN where the file has no times
    mask:          the tokens that were seen and hidden, B = 1
    loss:          the mean squared error of the predictions, as in pretraining
    """

    original: Pixels
    masked: Pixels
    reconstructed: Pixels
    seconds: NDArray[np.float64]
    mask: TubeMask
    loss: float


def targets(clips: Pixels, spec: ClipSpec) -> Reals:
    """The frames that the reference loss compares with: uint8 (B, T, H, W, 3) -> float32 of that shape. They are in
    [0, 1] where the processor normalises as ImageNet does.
    """
    pixel_values = normalise(clips, spec)  # (B, T, C, H, W)
    frames: Reals = np.moveaxis(pixel_values, 2, -1) * STD + MEAN
    return frames


def to_pixels(values: Reals, spec: ClipSpec) -> Pixels:
    """The inverse of `targets` for any values (..., 3), rounded, and cut off at black and white."""
    pixel_values = (values - MEAN) / STD
    if spec.mean is not None and spec.std is not None:
        pixel_values = pixel_values * np.array(spec.std, np.float32) + np.array(spec.mean, np.float32)
    pixels: Reals = (pixel_values - np.float32(spec.rescale_offset)) / np.float32(spec.rescale_factor)
    rounded: Pixels = np.rint(pixels.clip(0, 255)).astype(np.uint8)
    return rounded


def patch_statistics(patches: Reals) -> tuple[Reals, Reals]:
    """Mean of each patch and channel: (B, N, P, C) -> (B, N, 1, C). Likewise deviation + 1e-6, which it is divided by.

    The variance is unbiased: over P - 1. Both are computed in float64. In float32 the mean of a flat patch is not its
    value. What rounding leaves of it would be divided by 1e-6.
    """
    mean: Reals = patches.mean(axis=2, keepdims=True, dtype=np.float64).astype(np.float32)
    deviation: Reals = patches.std(axis=2, ddof=1, keepdims=True, dtype=np.float64).astype(np.float32)
    return mean, deviation + np.float32(1e-6)


def reconstruction_loss(
    clips: Pixels, logits: Reals, masked: Indices, spec: ClipSpec, pretraining: Pretraining
) -> float:
    """Compute the mean squared error of predictions, as VideoMAE is pretrained with.

    Args:
        clips: uint8 (B, T, H, W, 3), what was shown to the model before it was normalised.
        logits: float32 (B, M, P * 3), what the model predicts for the masked tokens.
        masked: int64 (B, M), which tokens those are.
        spec: the input contract.
        pretraining: how the model was trained.

    Raises:
        ValueError: for logits of another shape.
    """
    wanted = _taken(patchify(targets(clips, spec), pretraining.tubelet), masked)  # (B, M, P, 3)
    if pretraining.norm_pix_loss:
        mean, deviation = patch_statistics(wanted)
        wanted = (wanted - mean) / deviation
    return float(np.square(_in_patches(logits, wanted.shape) - wanted).mean())


def reconstruct(clips: Pixels, logits: Reals, masked: Indices, spec: ClipSpec, pretraining: Pretraining) -> Pixels:
    """Put the predictions in the place of the masked tokens; what the model saw stays as it is.

    Args:
        clips: uint8 (B, T, H, W, 3), what was shown to the model before it was normalised.
        logits: float32 (B, M, P * 3), what the model predicts for the masked tokens.
        masked: int64 (B, M), which tokens those are.
        spec: the input contract.
        pretraining: how the model was trained.

    Returns:
        uint8 (B, T, H, W, 3).

    Raises:
        ValueError: for logits of another shape.
    """
    originals = _taken(patchify(targets(clips, spec), pretraining.tubelet), masked)  # (B, M, P, 3)
    predicted = _in_patches(logits, originals.shape)
    if pretraining.norm_pix_loss:
        mean, deviation = patch_statistics(originals)
        predicted = predicted * deviation + mean
    return _replaced(clips, masked, to_pixels(predicted, spec), pretraining.tubelet)


def hide(clips: Pixels, masked: Indices, tubelet: TubeletSize) -> Pixels:
    """The clips uint8 (B, T, H, W, 3) with the tokens `masked` (B, M) grey."""
    return _replaced(clips, masked, np.uint8(GREY), tubelet)


def reconstruct_clip(
    frames: Frames, spec: ClipSpec, pretraining: Pretraining, infer: InferMasked, *, seed: int
) -> Reconstruction:
    """Hide tokens of one clip, as many as the model was made for, and have them predicted.

    Args:
        frames: `spec.num_frames` of them.
        spec: the input contract.
        pretraining: how the model was trained.
        infer: clips and the mask to logits.
        seed: draws the places that are hidden.

    Raises:
        VideoError: for another number of frames.
        ValueError: for a number of hidden tokens that is no tube mask.
    """
    clips = prepare(frames, replace(spec, layout="THWC"))[np.newaxis]  # (1, T, H, W, 3)
    mask = tube_mask(token_grid(clips.shape[1:4], pretraining.tubelet), pretraining.masked, seed=seed)
    logits = infer(clips if spec.layout == "THWC" else normalise(clips, spec), mask)
    return Reconstruction(
        original=clips[0],
        masked=hide(clips, mask.masked, pretraining.tubelet)[0],
        reconstructed=reconstruct(clips, logits, mask.masked, spec, pretraining)[0],
        seconds=frames.seconds,
        mask=mask,
        loss=reconstruction_loss(clips, logits, mask.masked, spec, pretraining),
    )


def _taken(patches: Reals, tokens: Indices) -> Reals:
    """Those patches (B, N, P, C) of each clip that are at `tokens` (B, M): (B, M, P, C)."""
    return np.take_along_axis(patches, tokens[:, :, np.newaxis, np.newaxis], axis=1)


def _replaced(clips: Pixels, tokens: Indices, values: NDArray[np.uint8] | np.uint8, tubelet: TubeletSize) -> Pixels:
    """New clips (B, T, H, W, C) with patches (B, M, P, C), or one value, at `tokens` (B, M)."""
    patches = patchify(clips, tubelet).copy()  # tubelets as wide as the clip are cut without one
    np.put_along_axis(patches, tokens[:, :, np.newaxis, np.newaxis], values, axis=1)
    return unpatchify(patches, token_grid(clips.shape[1:4], tubelet), tubelet)


def _in_patches(logits: Reals, shape: tuple[int, ...]) -> Reals:
    """logits (B, M, P * C) -> `shape` (B, M, P, C)."""
    batch, masked, pixels, channels = shape
    if logits.shape != (batch, masked, pixels * channels):
        raise ValueError(f"logits must be {(batch, masked, pixels * channels)}, got logits.shape = {logits.shape}")
    return logits.reshape(shape)
