"""Crops and batches of views, against the published evaluations and against `prepare` of each clip."""

import math
from dataclasses import replace

import numpy as np
import pytest
from published_configs import KINETICS, VIDEOMAE, VIVIT, noise, spec_of

from tubelet.preprocess.errors import VideoError
from tubelet.preprocess.frames import Frames
from tubelet.preprocess.prepare import normalise, prepare
from tubelet.preprocess.resize import resize, resized_size
from tubelet.preprocess.spec import ShortestEdge
from tubelet.preprocess.views import crop_windows, prepare_views


def vivit_crop(height, width, size, number):
    """Scenic's crop `number` of three: the centre, rounded up, moved to an end of the longer side."""
    top, left = math.ceil((height - size) / 2), math.ceil((width - size) / 2)
    if height > width:
        top = {0: 0, 1: top, 2: height - size}[number]
    else:
        left = {0: 0, 1: left, 2: width - size}[number]
    return top, left


def videomae_crop(height, width, size, number):
    """VideoMAE's crop `number` of three, of frames whose shorter side is the crop."""
    start = int(number * (1.0 * (max(height, width) - size) / (3 - 1)))
    return (start, 0) if height >= width else (0, start)


def vjepa2_crop(height, width, size, number):
    """V-JEPA 2's crop `number` of three, of frames whose shorter side is the crop."""
    start = number * ((max(height, width) - size) // (3 - 1))
    return (start, 0) if height > width else (0, start)


SIDES = [*range(224, 260), 298, 301, 398, 399, 800]


def test_three_crops_are_those_of_vivit():
    for height in SIDES:
        for width in SIDES:
            windows = crop_windows(height, width, (224, 224), 3, "up", "pillow")
            assert windows == [vivit_crop(height, width, 224, number) for number in range(3)]


def test_three_crops_are_those_of_videomae():
    for longer in SIDES:
        for height, width in ((224, longer), (longer, 224)):
            windows = crop_windows(height, width, (224, 224), 3, "down", "pillow")
            assert windows == [videomae_crop(height, width, 224, number) for number in range(3)]


def test_three_crops_are_those_of_vjepa2():
    for longer in SIDES:
        for height, width in ((224, longer), (longer, 224)):
            windows = crop_windows(height, width, (224, 224), 3, "step", "torchvision")
            assert windows == [vjepa2_crop(height, width, 224, number) for number in range(3)]


@pytest.mark.parametrize("rounding", ["up", "down"])
@pytest.mark.parametrize("crops", [2, 4, 5])
def test_other_numbers_of_crops_go_from_end_to_end(rounding, crops):
    for width in SIDES:
        windows = crop_windows(224, width, (224, 224), crops, rounding, "pillow")
        lefts = [left for _, left in windows]
        assert (lefts[0], lefts[-1]) == (0, width - 224)
        assert lefts == sorted(lefts)
        assert max(np.diff(lefts)) - min(np.diff(lefts)) <= 1


@pytest.mark.parametrize("rounding", ["up", "down"])
def test_no_side_is_left_where_the_frame_is_smaller_than_the_crop(rounding):
    assert crop_windows(5, 6, (9, 9), 3, rounding, "pillow") == [(-2, -2)] * 3
    assert crop_windows(5, 13, (9, 9), 3, rounding, "pillow") == [(-2, 0), (-2, 2), (-2, 4)]
    assert crop_windows(6, 13, (9, 9), 3, rounding, "torchvision") == [(-1, 0), (-1, 2), (-1, 4)]


def test_no_crops():
    with pytest.raises(ValueError, match="crops must be 1 or more, got 0"):
        crop_windows(10, 10, (8, 8), 0, "down", "pillow")


SPECS = {
    "vivit": spec_of("vivit", VIVIT, num_frames=3),
    "kinetics": spec_of("vivit", KINETICS, num_frames=3),
    "videomae": spec_of("videomae", VIDEOMAE, num_frames=3),
    "frames": spec_of("vivit", KINETICS, num_frames=3, layout="THWC"),
    "small": replace(spec_of("vivit", VIVIT, num_frames=3), resize=None, crop=(90, 70)),
    "small, torchvision": replace(
        spec_of("vivit", VIVIT, num_frames=3, arithmetic="torchvision"), resize=None, crop=(91, 71)
    ),
    "torchvision": spec_of("videomae", VIDEOMAE, num_frames=3, arithmetic="torchvision"),
    "torchvision frames": spec_of("videomae", VIDEOMAE, num_frames=3, arithmetic="torchvision", layout="THWC"),
}
CLIPS = np.array([[0, 1, 2], [1, 2, 3], [4, 4, 0]])


@pytest.mark.parametrize("crops", [1, 3])
@pytest.mark.parametrize("size", [(60, 85), (85, 60), (70, 70)])
@pytest.mark.parametrize("name", SPECS)
def test_every_view_is_its_crop_of_its_clip(name, size, crops):
    spec = SPECS[name]
    pixels = noise(size[0], size[1], count=5)
    batch = prepare_views(Frames.from_array(pixels), spec, CLIPS, crops)
    assert batch.flags.c_contiguous
    assert len(batch) == 3 * crops

    height, width = spec.crop
    resized_height, resized_width = resized_size(size[0], size[1], spec.resize)
    padded = np.pad(
        resize(pixels, (resized_height, resized_width), spec.resample, spec.arithmetic),
        ((0, 0), (99, 99), (99, 99), (0, 0)),
    )
    views = iter(batch)
    for clip in CLIPS:
        for top, left in crop_windows(
            resized_height, resized_width, spec.crop, crops, spec.evaluation.crop_rounding, spec.arithmetic
        ):
            cut = padded[clip, 99 + top : 99 + top + height, 99 + left : 99 + left + width]
            np.testing.assert_array_equal(next(views), cut if spec.layout == "THWC" else normalise(cut, spec))


@pytest.mark.parametrize("name", SPECS)
def test_one_clip_and_crop_is_what_prepare_makes(name):
    frames = Frames.from_array(noise(60, 85, count=3))
    batch = prepare_views(frames, SPECS[name], np.array([[0, 1, 2]]), 1)
    np.testing.assert_array_equal(batch[0], prepare(frames, SPECS[name]))


@pytest.mark.parametrize("size", [(60, 85), (85, 60)])
def test_several_crops_of_fitted_frames_show_the_whole_short_side(size):
    """One crop is cut from frames as the processor resizes them, several from frames as large as the crop."""
    resized = SPECS["vivit"]
    fitted = replace(resized, evaluation=replace(resized.evaluation, crops_of="fitted"))
    frames = Frames.from_array(noise(size[0], size[1], count=5))
    np.testing.assert_array_equal(prepare_views(frames, fitted, CLIPS, 1), prepare_views(frames, resized, CLIPS, 1))
    small = replace(resized, resize=ShortestEdge(224))
    np.testing.assert_array_equal(prepare_views(frames, fitted, CLIPS, 3), prepare_views(frames, small, CLIPS, 3))


def test_a_model_that_sees_whole_frames():
    spec = replace(SPECS["vivit"], crop=None)
    frames = Frames.from_array(noise(60, 85, count=5))
    assert prepare_views(frames, spec, CLIPS, 1).shape == (3, 3, 3, 256, 362)
    with pytest.raises(VideoError, match="3 crops were asked for, and this model sees whole frames"):
        prepare_views(frames, spec, CLIPS, 3)


def test_clips_of_another_length():
    with pytest.raises(VideoError, match=r"clips must be \(clips, 3\) positions, got \(3, 2\)"):
        prepare_views(Frames.from_array(noise(60, 85)), SPECS["vivit"], CLIPS[:, :2], 1)
