import tracemalloc

import numpy as np
import PIL
import pytest
from PIL import Image
from pillow_oracle import NUMBERS, pillow_resize
from tubelet.preprocess.errors import VideoError
from tubelet.preprocess.resize import resize

SIZES = {
    "landscape": ((240, 320), (224, 298)),
    "portrait": ((320, 240), (298, 224)),
    "enlarged": ((31, 45), (224, 325)),
    "huge": ((1080, 1920), (224, 398)),
    "odd": ((241, 427), (113, 199)),
    "tall": ((1280, 320), (896, 224)),
    "only the width changes": ((120, 200), (120, 97)),
    "only the height changes": ((200, 120), (97, 120)),
    "unchanged": ((224, 224), (224, 224)),
    "one pixel out": ((64, 48), (1, 1)),
    "one pixel in": ((1, 1), (5, 7)),
    "squeezed flat": ((50, 60), (400, 3)),
}


def frames_of(kind, height, width, count=1, seed=0):
    generator = np.random.default_rng(seed)
    if kind == "noise":
        return generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    # Black and white drive the filters with negative weights into both ends of the 8 bits.
    return generator.integers(0, 2, (count, height, width, 3), dtype=np.uint8) * np.uint8(255)


@pytest.mark.parametrize("resample", NUMBERS)
@pytest.mark.parametrize("name", SIZES)
def test_every_pixel_is_pillows(name, resample):
    in_size, out_size = SIZES[name]
    for kind in ("noise", "black and white"):
        frames = frames_of(kind, *in_size)
        np.testing.assert_array_equal(
            resize(frames, out_size, resample)[0], pillow_resize(frames[0], out_size, resample)
        )


@pytest.mark.parametrize("resample", NUMBERS)
def test_random_sizes_and_windows_are_pillows(resample):
    generator = np.random.default_rng(NUMBERS[resample])
    for case in range(100):
        height, width, *size = (int(side) for side in generator.integers(1, 160, 4))
        frames = frames_of(("noise", "black and white")[case % 2], height, width, seed=case)
        expected = pillow_resize(frames[0], tuple(size), resample)
        top, left = int(generator.integers(size[0])), int(generator.integers(size[1]))
        kept = int(generator.integers(1, size[0] - top + 1)), int(generator.integers(1, size[1] - left + 1))

        whole = resize(frames, tuple(size), resample)
        part = resize(frames, tuple(size), resample, window=(top, left, *kept))

        message = f"{height}x{width} to {size}, window {(top, left, *kept)}"
        np.testing.assert_array_equal(whole[0], expected, err_msg=message)
        np.testing.assert_array_equal(part[0], expected[top : top + kept[0], left : left + kept[1]], err_msg=message)


def test_passes_run_horizontally_first():
    """The two orders round differently on a tall frame, and ours is the one of Pillow 12."""
    frame = frames_of("noise", 640, 160)[0]
    sideways = resize(frame.swapaxes(0, 1)[None], (80, 320), "bilinear")[0].swapaxes(0, 1)  # vertical first

    ours = resize(frame[None], (320, 80), "bilinear")[0]

    np.testing.assert_array_equal(ours, pillow_resize(frame, (320, 80), "bilinear"))
    assert (ours != sideways).any()


def test_every_frame_is_resized_by_itself():
    frames = frames_of("noise", 90, 130, count=9)
    resized = resize(frames, (64, 92), "bicubic", window=(0, 14, 64, 64))
    assert resized.shape == (9, 64, 64, 3)
    for frame, result in zip(frames, resized, strict=True):
        np.testing.assert_array_equal(result, pillow_resize(frame, (64, 92), "bicubic")[:, 14:78])


@pytest.mark.parametrize("resample", NUMBERS)
def test_strided_frames_are_read_as_they_are_and_the_result_is_contiguous(resample):
    frames = frames_of("noise", 80, 120)[:, ::-1, ::2]
    before = frames.copy()
    resized = resize(frames, (40, 40), resample)
    np.testing.assert_array_equal(resized[0], pillow_resize(before[0], (40, 40), resample))
    np.testing.assert_array_equal(frames, before)
    assert resized.flags.c_contiguous
    assert resized.flags.owndata


def test_the_result_is_a_copy_even_where_the_size_is_unchanged():
    frames = frames_of("noise", 16, 16)
    assert not np.shares_memory(resize(frames, (16, 16), "bilinear", window=(0, 0, 16, 16)), frames)


def test_pixels_outside_the_window_cost_nothing():
    frames = frames_of("noise", 64, 20_000)
    tracemalloc.start()
    resize(frames, (32, 10_000), "bilinear", window=(0, 4_000, 32, 32))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 32 * 10_000 * 3  # less than the uncropped 8-bit result alone


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((2, 3, 8, 8), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
    ],
)
def test_other_pixels_are_refused(pixels):
    with pytest.raises(VideoError, match=r"pixels must be uint8 \(T, H, W, 3\)"):
        resize(pixels, (4, 4), "bilinear")


@pytest.mark.parametrize("window", [(-1, 0, 4, 4), (0, 5, 4, 4), (0, 0, 9, 4), (2, 2, 0, 4)])
def test_a_window_outside_is_refused(window):
    with pytest.raises(ValueError, match=r"window .* must lie inside size"):
        resize(np.zeros((1, 16, 16, 3), np.uint8), (8, 8), "bilinear", window=window)


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow before 13 knows one order")
def test_pillow_changed_the_order_for_tall_frames_only():
    for name, changed in (("tall", True), ("portrait", False), ("landscape", False)):
        (frame,), out_size = frames_of("noise", *SIZES[name][0]), SIZES[name][1]
        direct = np.asarray(Image.fromarray(frame).resize(out_size[::-1], NUMBERS["bilinear"]))
        assert (direct != resize(frame[None], out_size, "bilinear")[0]).any() == changed
