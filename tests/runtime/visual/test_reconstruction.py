"""Reconstructions against the loss of transformers' VideoMAEForPreTraining, and its predictions against pixels."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from specs import VIDEOMAE_SPEC

from tubelet.preprocess.frames import Frames
from tubelet.preprocess.prepare import normalise
from tubelet.preprocess.spec import ClipSpec
from tubelet.runtime.tokens import TubeletSize, TubeMask, patchify, token_grid, tube_mask
from tubelet.runtime.visual.reconstruction import (
    Pretraining,
    hide,
    patch_statistics,
    reconstruct,
    reconstruct_clip,
    reconstruction_loss,
    targets,
    to_pixels,
)

IMAGENET = replace(VIDEOMAE_SPEC, num_frames=4, resize=None, crop=(16, 16))
CENTRED = replace(IMAGENET, rescale_factor=1 / 127.5, rescale_offset=-1.0, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.5))
PLAIN = replace(IMAGENET, mean=None, std=None)
SPECS = [pytest.param(IMAGENET, id="imagenet"), pytest.param(CENTRED, id="centred"), pytest.param(PLAIN, id="plain")]

TUBELET = TubeletSize(2, 4, 4)
TINY = {
    "image_size": 16,
    "patch_size": 4,
    "num_frames": 4,
    "tubelet_size": 2,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 24,
    "use_mean_pooling": False,
}


def clips(count: int = 2) -> NDArray[np.uint8]:
    """Noise beside gradients: uint8 (B, 4, 16, 16, 3)."""
    made = np.random.default_rng(1).integers(0, 256, (count, 4, 16, 16, 3), np.uint8)
    made[:, :, :, 8:] = np.linspace(0, 200, 8, dtype=np.uint8)[:, None]
    return made


def reference(norm_pix_loss: bool, **changes: Any) -> Any:
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    torch.manual_seed(0)
    config = VideoMAEConfig(**{**TINY, **changes}, norm_pix_loss=norm_pix_loss)
    model = VideoMAEForPreTraining(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def predictions(model: Any, pixel_values: NDArray[np.float32], mask: TubeMask) -> Any:
    hidden = np.zeros((len(pixel_values), mask.visible.shape[1] + mask.masked.shape[1]), np.bool_)
    np.put_along_axis(hidden, mask.masked, np.True_, axis=1)
    with torch.no_grad():
        return model(torch.from_numpy(pixel_values), bool_masked_pos=torch.from_numpy(hidden))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("norm_pix_loss", [False, True])
@pytest.mark.parametrize(
    "tubelet", [TUBELET, TubeletSize(1, 8, 8), TubeletSize(4, 2, 2)], ids=lambda tubelet: "x".join(map(str, tubelet))
)
def test_the_loss_is_that_of_transformers(spec: ClipSpec, norm_pix_loss: bool, tubelet: TubeletSize) -> None:
    model = reference(norm_pix_loss, tubelet_size=tubelet.frames, patch_size=tubelet.height)
    grid = token_grid((4, 16, 16), tubelet)
    pretraining = Pretraining(tubelet, grid.tokens // 2, norm_pix_loss)
    mask = tube_mask(grid, pretraining.masked, seed=5, batch=2)
    found = predictions(model, normalise(clips(), spec), mask)
    loss = reconstruction_loss(clips(), found.logits.numpy(), mask.masked, spec, pretraining)
    assert loss == pytest.approx(found.loss.item(), rel=1e-5)
    assert loss > 0.1


def test_a_flat_patch_keeps_its_colour_whatever_is_predicted() -> None:
    given = np.full((1, 4, 16, 16, 3), (10, 200, 90), np.uint8)
    patches = patchify(targets(given, IMAGENET), TUBELET)
    mean, deviation = patch_statistics(patches)
    assert (patches == mean).all()
    assert (deviation == np.float32(1e-6)).all()
    mask = tube_mask(token_grid((4, 16, 16), TUBELET), 24, seed=2)
    logits = np.random.default_rng(0).normal(size=(1, 24, 96)).astype(np.float32)
    shown = reconstruct(given, logits, mask.masked, IMAGENET, Pretraining(TUBELET, 24, norm_pix_loss=True))
    np.testing.assert_array_equal(shown, given)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_perfect_predictions_give_back_the_pixels(spec: ClipSpec, norm_pix_loss: bool) -> None:
    given = clips()
    pretraining = Pretraining(TUBELET, 24, norm_pix_loss)
    mask = tube_mask(token_grid((4, 16, 16), TUBELET), 24, seed=2, batch=2)
    patches = torch.from_numpy(patchify(targets(given, spec), TUBELET))
    if norm_pix_loss:
        deviation = patches.var(dim=-2, unbiased=True, keepdim=True).sqrt() + 1e-6
        patches = (patches - patches.mean(dim=-2, keepdim=True)) / deviation
    perfect = patches.flatten(2).gather(1, torch.from_numpy(mask.masked)[..., None].expand(-1, -1, 96)).numpy()
    np.testing.assert_array_equal(reconstruct(given, perfect, mask.masked, spec, pretraining), given)
    assert reconstruction_loss(given, perfect, mask.masked, spec, pretraining) < 1e-6


@pytest.mark.parametrize("spec", SPECS)
def test_every_pixel_value_survives_normalising_and_back(spec: ClipSpec) -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 1, 16, 16, 3)
    np.testing.assert_array_equal(to_pixels(targets(every, spec), spec), every)


def test_pixels_out_of_range_are_black_and_white() -> None:
    assert to_pixels(np.array([-0.3, 0.2, 1.2], np.float32), IMAGENET).tolist() == [0, 51, 255]


def test_only_masked_tokens_change() -> None:
    given = clips()
    kept = given.copy()
    mask = tube_mask(token_grid((4, 16, 16), TUBELET), 24, seed=2, batch=2)
    logits = np.full((2, 24, 96), 0.2, np.float32)  # of 255: 51
    shown = reconstruct(given, logits, mask.masked, IMAGENET, Pretraining(TUBELET, 24, norm_pix_loss=False))
    grey = hide(given, mask.masked, TUBELET)
    np.testing.assert_array_equal(given, kept)
    for clip in range(2):
        for token in range(32):
            t, row, column = token // 16 * 2, token // 4 % 4 * 4, token % 4 * 4
            where = clip, slice(t, t + 2), slice(row, row + 4), slice(column, column + 4)
            if token in mask.masked[clip]:
                assert (shown[where] == 51).all()
                assert (grey[where] == 128).all()
            else:
                np.testing.assert_array_equal(shown[where], given[where])
                np.testing.assert_array_equal(grey[where], given[where])


def test_tubelets_as_wide_as_the_clip_leave_the_clip_alone() -> None:
    given = clips(1)
    kept = given.copy()
    tubelet = TubeletSize(1, 4, 16)
    hide(given, tube_mask(token_grid((4, 16, 16), tubelet), 8, seed=0).masked, tubelet)
    np.testing.assert_array_equal(given, kept)


def test_logits_of_another_shape() -> None:
    mask = tube_mask(token_grid((4, 16, 16), TUBELET), 24, seed=2, batch=2)
    with pytest.raises(ValueError, match=r"logits must be \(2, 24, 96\), got logits.shape = \(2, 24, 95\)"):
        reconstruct(clips(), np.zeros((2, 24, 95), np.float32), mask.masked, IMAGENET, Pretraining(TUBELET, 24, False))


@pytest.mark.parametrize("layout", ["TCHW", "THWC"])
def test_a_clip_through_the_reference_model(layout: Any) -> None:
    spec = replace(IMAGENET, layout=layout)
    model = reference(norm_pix_loss=True)
    seen = []

    def infer(batch: NDArray[Any], mask: TubeMask) -> NDArray[np.float32]:
        seen.append((batch, mask))
        pixel_values = batch if layout == "TCHW" else normalise(batch, spec)
        found = predictions(model, pixel_values, mask)
        return np.asarray(found.logits)

    frames = Frames.from_array(np.pad(clips(1)[0], ((0, 0), (3, 3), (5, 5), (0, 0))))  # the crop takes it off
    result = reconstruct_clip(frames, spec, Pretraining(TUBELET, 24, norm_pix_loss=True), infer, seed=9)
    ((batch, mask),) = seen
    assert batch.shape == ((1, 4, 3, 16, 16) if layout == "TCHW" else (1, 4, 16, 16, 3))
    np.testing.assert_array_equal(mask.masked, tube_mask(token_grid((4, 16, 16), TUBELET), 24, seed=9).masked)
    np.testing.assert_array_equal(result.original, clips(1)[0])
    np.testing.assert_array_equal(result.masked, hide(clips(1), mask.masked, TUBELET)[0])
    assert result.reconstructed.shape == (4, 16, 16, 3)
    assert (result.reconstructed != result.original).any()
    assert result.loss == pytest.approx(predictions(model, normalise(clips(1), spec), mask).loss.item(), rel=1e-4)
