import platform
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pillow_oracle import NUMBERS, PILLOWS, pillow_resize
from pixels import SIZES, frames_of

from tubelet.preprocess.errors import VideoError
from tubelet.preprocess.resize import resize

RULES = [(arithmetic, resample) for arithmetic in PILLOWS for resample in NUMBERS]


@pytest.mark.parametrize(("arithmetic", "resample"), RULES)
@pytest.mark.parametrize("name", SIZES)
def test_every_pixel_is_pillows(name, arithmetic, resample):
    in_size, out_size = SIZES[name]
    for kind in ("noise", "black and white"):
        frames = frames_of(kind, *in_size)
        expected = pillow_resize(frames[0], out_size, resample, arithmetic)
        np.testing.assert_array_equal(resize(frames, out_size, resample, arithmetic)[0], expected)


@pytest.mark.parametrize(("arithmetic", "resample"), RULES)
def test_random_sizes_and_windows_are_pillows(arithmetic, resample):
    generator = np.random.default_rng(NUMBERS[resample])
    for case in range(100):
        height, width, *sides = (int(side) for side in generator.integers(1, 160, 4))
        size = sides[0], sides[1]
        frames = frames_of(("noise", "black and white")[case % 2], height, width, seed=case)
        expected = pillow_resize(frames[0], size, resample, arithmetic)
        top, left = int(generator.integers(size[0])), int(generator.integers(size[1]))
        kept = int(generator.integers(1, size[0] - top + 1)), int(generator.integers(1, size[1] - left + 1))

        whole = resize(frames, size, resample, arithmetic)
        part = resize(frames, size, resample, arithmetic, window=(top, left, *kept))

        message = f"{height}x{width} to {size}, window {(top, left, *kept)}"
        np.testing.assert_array_equal(whole[0], expected, err_msg=message)
        np.testing.assert_array_equal(part[0], expected[top : top + kept[0], left : left + kept[1]], err_msg=message)


@pytest.mark.parametrize(
    ("name", "differs"),
    [("upright to square", True), ("small and upright", True), ("on its side to square", False), ("portrait", False)],
)
def test_the_order_of_passes_changed_for_frames_that_lose_height(name, differs):
    frames, out_size = frames_of("noise", *SIZES[name][0]), SIZES[name][1]
    before = resize(frames, out_size, "bilinear", "pillow")
    since = resize(frames, out_size, "bilinear", "pillow-13")
    assert (before != since).any() == differs


def test_every_frame_is_resized_by_itself():
    frames = frames_of("noise", 90, 130, count=9)
    resized = resize(frames, (64, 92), "bicubic", "pillow", window=(0, 14, 64, 64))
    assert resized.shape == (9, 64, 64, 3)
    for frame, result in zip(frames, resized, strict=True):
        np.testing.assert_array_equal(result, pillow_resize(frame, (64, 92), "bicubic")[:, 14:78])


def test_one_frame_after_the_other_takes_no_threads(monkeypatch):
    monkeypatch.setattr(ThreadPoolExecutor, "submit", None)
    for size in ((300, 400), (90, 130), (400, 300)):
        frames = frames_of("noise", *size)
        resized = resize(frames, (64, 92), "bicubic", "pillow")
        np.testing.assert_array_equal(resized[0], pillow_resize(frames[0], (64, 92), "bicubic"))


PAGES_OF_ONE_FRAME_AFTER_THE_OTHER = """
from resource import RUSAGE_SELF, getrusage
import numpy as np
from tubelet.preprocess.resize import resize

frame = np.zeros((1, 480, 854, 3), np.uint8)
for turn in range(60):
    if turn == 10:
        before = getrusage(RUSAGE_SELF).ru_minflt
    resize(frame, (224, 398), "bilinear", "pillow", window=(0, 87, 224, 224))
print((getrusage(RUSAGE_SELF).ru_minflt - before) / 50)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep memory in other ways")
def test_one_frame_after_the_other_takes_no_fresh_memory():
    program = [sys.executable, "-c", PAGES_OF_ONE_FRAME_AFTER_THE_OTHER]
    pages = float(subprocess.check_output(program, text=True, timeout=60))
    assert pages < 100  # its sums are 1,300 pages


@pytest.mark.parametrize("resample", NUMBERS)
def test_strided_frames_are_read_as_they_are_and_the_result_is_contiguous(resample):
    frames = frames_of("noise", 80, 120)[:, ::-1, ::2]
    before = frames.copy()
    resized = resize(frames, (40, 40), resample, "pillow")
    np.testing.assert_array_equal(resized[0], pillow_resize(before[0], (40, 40), resample))
    np.testing.assert_array_equal(frames, before)
    assert resized.flags.c_contiguous
    assert resized.flags.owndata


def test_the_result_is_a_copy_even_where_the_size_is_unchanged():
    frames = frames_of("noise", 16, 16)
    assert not np.shares_memory(resize(frames, (16, 16), "bilinear", "pillow", window=(0, 0, 16, 16)), frames)


@pytest.mark.parametrize("arithmetic", ["pillow", "torchvision"])
def test_pixels_outside_the_window_cost_nothing(arithmetic):
    frames = frames_of("noise", 64, 20_000)
    tracemalloc.start()
    resize(frames, (32, 10_000), "bilinear", arithmetic, window=(0, 4_000, 32, 32))
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
        resize(pixels, (4, 4), "bilinear", "pillow")


@pytest.mark.parametrize("window", [(-1, 0, 4, 4), (0, 5, 4, 4), (0, 0, 9, 4), (2, 2, 0, 4)])
def test_a_window_outside_is_refused(window):
    with pytest.raises(ValueError, match=r"window .* must lie inside size"):
        resize(np.zeros((1, 16, 16, 3), np.uint8), (8, 8), "bilinear", "pillow", window=window)
