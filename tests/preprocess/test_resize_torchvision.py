"""Resizing with the arithmetic of torchvision, against torch, which torchvision calls."""

import numpy as np
import pytest
import torch
from pixels import SIZES, frames_of

from tubelet.preprocess.resize import resize
from tubelet.preprocess.spec import TORCHVISION_RESAMPLES


def torch_resize(frame, size, resample):
    """uint8 (H, W, 3) to uint8 (*size, 3), as torchvision calls torch."""
    image = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].contiguous()
    resized = torch.nn.functional.interpolate(image, size, mode=resample, antialias=True, align_corners=False)
    return resized[0].permute(1, 2, 0).numpy()


def test_torch_resizes_in_8_bits_here():
    """Where it does not, it computes with other numbers, and is no oracle."""
    assert torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


@pytest.mark.parametrize("resample", TORCHVISION_RESAMPLES)
@pytest.mark.parametrize("name", [name for name in SIZES if name != "one pixel out"])  # on which torch 2.13 fails
def test_every_pixel_is_torchs(name, resample):
    in_size, out_size = SIZES[name]
    for kind in ("noise", "black and white"):
        frames = frames_of(kind, *in_size)
        expected = torch_resize(frames[0], out_size, resample)
        np.testing.assert_array_equal(resize(frames, out_size, resample, "torchvision")[0], expected)


@pytest.mark.parametrize("resample", TORCHVISION_RESAMPLES)
def test_random_sizes_and_windows_are_torchs(resample):
    generator = np.random.default_rng(TORCHVISION_RESAMPLES.index(resample))
    for case in range(200):
        height, width = (int(side) for side in generator.integers(1, 160, 2))
        size = int(generator.integers(2, 160)), int(generator.integers(2, 160))
        frames = frames_of(("noise", "black and white")[case % 2], height, width, seed=case)
        expected = torch_resize(frames[0], size, resample)
        top, left = int(generator.integers(size[0])), int(generator.integers(size[1]))
        kept = int(generator.integers(1, size[0] - top + 1)), int(generator.integers(1, size[1] - left + 1))

        whole = resize(frames, size, resample, "torchvision")
        part = resize(frames, size, resample, "torchvision", window=(top, left, *kept))

        message = f"{height}x{width} to {size}, window {(top, left, *kept)}"
        np.testing.assert_array_equal(whole[0], expected, err_msg=message)
        np.testing.assert_array_equal(part[0], expected[top : top + kept[0], left : left + kept[1]], err_msg=message)


@pytest.mark.parametrize("resample", TORCHVISION_RESAMPLES)
def test_sums_in_float32_are_exact(resample):
    """White frames make the largest sums. Ratios go past the one where weights need float64."""
    for ratio in np.linspace(0.3, 12, 79):
        frames = frames_of("black and white", round(60 * ratio), round(40 * ratio))
        frames[:, :, : round(20 * ratio)] = 255
        expected = torch_resize(frames[0], (60, 40), resample)
        np.testing.assert_array_equal(resize(frames, (60, 40), resample, "torchvision")[0], expected, err_msg=ratio)
