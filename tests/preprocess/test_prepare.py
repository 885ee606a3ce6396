from typing import get_args

import numpy as np
import pytest
from oracle import oracle
from pillow_oracle import NUMBERS
from published_configs import KINETICS, PUBLISHED, VIDEOMAE, VIVIT, noise, ours, spec_of, theirs

from tubelet.preprocess.errors import VideoError
from tubelet.preprocess.frames import Frames
from tubelet.preprocess.prepare import normalise, prepare, resize_and_crop
from tubelet.preprocess.resize import resized_size
from tubelet.preprocess.spec import TORCHVISION_RESAMPLES, Arithmetic, ExactSize, ShortestEdge

SIZES = {
    "landscape": (240, 320),
    "portrait": (320, 240),
    "tiny": (17, 23),
    "huge": (1080, 1920),
    "odd": (241, 427),
    "equal to 224": (224, 224),
    "equal to 256": (256, 256),
    "short side equal": (224, 301),
    "tall": (1000, 400),
    "very wide": (60, 500),
}


@pytest.mark.parametrize("arithmetic", get_args(Arithmetic))
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_value_is_that_of_transformers(name, size, arithmetic):
    family, config = PUBLISHED[name]
    pixels = noise(*size)
    clip = ours(family, config, pixels, arithmetic)
    assert clip.dtype == np.float32
    assert clip.shape == (2, 3, 224, 224)
    assert clip.flags.c_contiguous
    np.testing.assert_array_equal(clip, theirs(family, config, pixels, arithmetic))


def test_the_video_processor_of_videomae_computes_as_its_image_processor():
    pixels = noise(240, 320)
    expected = oracle("torchvision").ask("process", "VideoMAEVideoProcessor", VIDEOMAE, pixels)
    np.testing.assert_array_equal(ours("videomae", VIDEOMAE, pixels, "torchvision"), expected)


@pytest.mark.parametrize("resample", NUMBERS)
@pytest.mark.parametrize("size", [(240, 320), (426, 240), (37, 53), (600, 250)])
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_filter_is_that_of_transformers(name, resample, size):
    family, config = PUBLISHED[name]
    config = config | {"resample": NUMBERS[resample]}
    pixels = noise(*size)
    np.testing.assert_array_equal(ours(family, config, pixels), theirs(family, config, pixels))
    if resample in TORCHVISION_RESAMPLES:
        expected = theirs(family, config, pixels, "torchvision")
        np.testing.assert_array_equal(ours(family, config, pixels, "torchvision"), expected)


@pytest.mark.parametrize("size", [(5, 7), (6, 40), (40, 6), (9, 9), (8, 8), (7, 30)])
@pytest.mark.parametrize("crop", [8, {"height": 8, "width": 9}, [11, 10]])
@pytest.mark.parametrize("arithmetic", ["pillow", "torchvision"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_frame_smaller_than_the_crop_is_surrounded_by_black(name, crop, size, arithmetic):
    family, config = PUBLISHED[name]
    config = config | {"do_resize": False, "crop_size": crop}
    pixels = noise(*size)
    expected = theirs(family, config, pixels, arithmetic)
    np.testing.assert_array_equal(ours(family, config, pixels, arithmetic), expected)


def test_the_surrounding_is_black_before_it_is_rescaled():
    spec = spec_of("vivit", VIVIT | {"do_resize": False, "crop_size": 8}, num_frames=1)
    cropped = resize_and_crop(np.full((1, 5, 8, 3), 255, np.uint8), spec)
    assert cropped[0, :, 0, 0].tolist() == [0, 0, 255, 255, 255, 255, 255, 0]
    assert np.unique(normalise(cropped, spec)).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("arithmetic", ["pillow", "torchvision"])
def test_random_configs_are_those_of_transformers(arithmetic):
    generator = np.random.default_rng(5)
    for _ in range(60):
        family, config = list(PUBLISHED.values())[generator.integers(3)]
        height, width = (int(side) for side in generator.integers(4, 120, 2))
        config = config | {
            "size": int(generator.integers(4, 80)),
            "crop_size": [int(side) for side in generator.integers(4, 80, 2)],
            "resample": int(generator.integers(*((1, 4) if arithmetic == "torchvision" else (0, 6)))),
            "do_normalize": bool(generator.integers(2)),
            "rescale_factor": float(generator.uniform(0.001, 0.02)),
            "image_mean": [float(value) for value in generator.uniform(0, 1, 3)],
            "image_std": [float(value) for value in generator.uniform(0.1, 1, 3)],
        }
        pixels = noise(height, width)
        np.testing.assert_array_equal(
            ours(family, config, pixels, arithmetic),
            theirs(family, config, pixels, arithmetic),
            err_msg=f"{height}x{width} {config}",
        )


@pytest.mark.parametrize(
    ("size", "rule", "expected"),
    [
        ((240, 320), ShortestEdge(224), (224, 298)),
        ((320, 240), ShortestEdge(224), (298, 224)),
        ((100, 100), ShortestEdge(224), (224, 224)),
        ((100, 300), ExactSize(32, 48), (32, 48)),
        ((100, 300), None, (100, 300)),
    ],
)
def test_resized_size(size, rule, expected):
    height, width = size
    assert resized_size(height, width, rule) == expected


def test_normalise_keeps_leading_axes():
    spec = spec_of("videomae", VIDEOMAE)
    batch = noise(6, 10, count=8).reshape(2, 4, 6, 10, 3)
    normalised = normalise(batch, spec)
    assert normalised.shape == (2, 4, 3, 6, 10)
    np.testing.assert_array_equal(normalised[1, 2], normalise(batch[1, 2], spec))


@pytest.mark.parametrize("name", PUBLISHED)
def test_value_range_is_what_black_and_white_become(name):
    spec = spec_of(*PUBLISHED[name])
    ends = normalise(np.array([[[[0, 0, 0], [255, 255, 255]]]], np.uint8), spec)
    assert spec.value_range == pytest.approx((ends.min(), ends.max()), abs=1e-6)


@pytest.mark.parametrize("arithmetic", ["pillow", "torchvision"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_layout_thwc_is_8_bits_after_the_crop(name, arithmetic):
    family, config = PUBLISHED[name]
    spec = spec_of(family, config, layout="THWC", arithmetic=arithmetic)
    pixels = noise(240, 320)
    clip = prepare(Frames.from_array(pixels), spec)
    assert clip.dtype == np.uint8
    assert clip.shape == (2, 224, 224, 3)
    assert clip.flags.c_contiguous
    np.testing.assert_array_equal(normalise(clip, spec), theirs(family, config, pixels, arithmetic))


def test_without_a_crop_the_resized_frame_is_the_clip():
    config = VIDEOMAE | {"do_center_crop": False, "size": {"height": 40, "width": 56}}
    pixels = noise(100, 90)
    clip = ours("videomae", config, pixels)
    assert clip.shape == (2, 3, 40, 56)
    np.testing.assert_array_equal(clip, theirs("videomae", config, pixels))


def test_another_number_of_frames_is_refused():
    spec = spec_of("vivit", KINETICS, num_frames=32)
    with pytest.raises(VideoError, match="clip must be 32 frames, got 8\n  fix: sample 32"):
        prepare(Frames.from_array(noise(20, 20, count=8)), spec)


@pytest.mark.parametrize("step", [resize_and_crop, normalise])
@pytest.mark.parametrize("pixels", [np.zeros((2, 8, 8, 3)), np.zeros((2, 3, 8, 8), np.uint8)])
def test_other_pixels_are_refused(step, pixels):
    with pytest.raises(VideoError, match="pixels must be uint8"):
        step(pixels, spec_of("vivit", KINETICS))
