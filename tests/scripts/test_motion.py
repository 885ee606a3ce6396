"""The generated scenes: what moves, that it is reproducible, and that no single frame gives the label away."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from motion import (
    FIRST_TRAINING_SEED,
    LABELS,
    Background,
    Motion,
    Scene,
    Shake,
    Shape,
    clip_seconds,
    label_of,
    random_scene,
    render,
)
from numpy.typing import NDArray

SIDE = 48
TIMES = clip_seconds(16, 2)
STEADY = LABELS[:9]  # all but those that appear or vanish

# Half dark, half light, the light half to the right.
DISC = Shape(0, 1.0, 2.0, ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)), (0.0, 0.0), 0.2, 0.0)
ABSENT = replace(DISC, visible=(math.inf, math.inf))


def without_camera(scene: Scene) -> Scene:
    """The scene without noise and shake."""
    return replace(scene, noise=0.0, shake=replace(scene.shake, amplitudes=np.zeros(2, np.float32)))


def is_seen(label: str, seed: int) -> bool:
    """Whether the shape is there in the middle."""
    start, end = random_scene(label, seed).shape.visible
    return start <= 0 < end


def shape_mask(scene: Scene, seconds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where the shape is seen: (T, H, W)."""
    scene = without_camera(scene)
    gone = replace(scene, shape=replace(scene.shape, visible=(math.inf, math.inf)))
    drawn, empty = (render(s, seconds, SIDE, SIDE).astype(int) for s in (scene, gone))
    mask: NDArray[np.bool_] = np.abs(drawn - empty).max(axis=-1) > 8
    return mask


@pytest.mark.parametrize("label", LABELS)
def test_the_same_seed_gives_the_same_pixels(label: str) -> None:
    first, second = (render(random_scene(label, 3), TIMES, SIDE, SIDE) for _ in range(2))
    assert first.shape == (16, SIDE, SIDE, 3)
    assert first.dtype == np.uint8
    assert first.flags.c_contiguous
    np.testing.assert_array_equal(first, second)
    assert (first != render(random_scene(label, 4), TIMES, SIDE, SIDE)).mean() > 0.5


@pytest.mark.parametrize("seed", range(12))
def test_the_middle_frame_is_the_same_under_every_label(seed: int) -> None:
    """But for a shape that is not there yet, or no more."""
    middle = {label: render(random_scene(label, seed), np.zeros(1), SIDE, SIDE) for label in LABELS}
    for label in STEADY:
        np.testing.assert_array_equal(middle[label], middle["stands still"], err_msg=label)
    gone, there = sorted(["appears", "vanishes"], key=lambda label: is_seen(label, seed))
    np.testing.assert_array_equal(middle[there], middle["stands still"])
    empty = replace(random_scene(gone, seed), shape=ABSENT)
    np.testing.assert_array_equal(middle[gone], render(empty, np.zeros(1), SIDE, SIDE))


def test_half_of_the_shapes_that_appear_or_vanish_are_there_in_the_middle() -> None:
    """So that an empty frame does not say which of the two it is."""
    seeds = 2000
    four_deviations = 4 * math.sqrt(0.25 / seeds)
    for label in ("appears", "vanishes"):
        assert abs(sum(is_seen(label, seed) for seed in range(seeds)) / seeds - 0.5) < four_deviations


@pytest.mark.parametrize(
    ("label", "opposite"),
    [
        ("moves left", "moves right"),
        ("moves up", "moves down"),
        ("grows", "shrinks"),
        ("turns clockwise", "turns counter-clockwise"),
    ],
)
def test_opposites_are_each_other_backwards(label: str, opposite: str) -> None:
    for seed in range(4):
        forwards = render(without_camera(random_scene(label, seed)), TIMES, SIDE, SIDE)
        backwards = render(without_camera(random_scene(opposite, seed)), TIMES, SIDE, SIDE)
        np.testing.assert_array_equal(forwards, backwards[::-1])


@pytest.mark.parametrize(
    ("label", "down", "right", "growth"),
    [
        ("moves left", 0, -1, 0),
        ("moves right", 0, 1, 0),
        ("moves up", -1, 0, 0),
        ("moves down", 1, 0, 0),
        ("grows", 0, 0, 1),
        ("shrinks", 0, 0, -1),
        ("stands still", 0, 0, 0),
    ],
)
def test_the_shape_does_what_the_label_says(label: str, down: int, right: int, growth: int) -> None:
    """Seen from the first frame of a second to its last."""
    scene = random_scene(label, 1)
    scene = replace(scene, shape=replace(DISC, motions=scene.shape.motions))
    first, last = shape_mask(scene, np.array([-0.5, 0.5]))
    moved = np.argwhere(last).mean(axis=0) - np.argwhere(first).mean(axis=0)  # pixels (y, x)
    np.testing.assert_array_equal(np.sign(np.where(np.abs(moved) < 3, 0, moved)), [down, right])
    ratio = math.log(last.sum() / first.sum())
    assert (0 if abs(ratio) < 0.2 else np.sign(ratio)) == growth


def test_positive_angles_are_clockwise() -> None:
    """The light half of a shape points right at angle 0, and down after a quarter turn."""
    turning = replace(DISC, radius=0.4, motions=(Motion(turn=math.pi / 2),))
    grey = Background(
        np.full(3, 128, np.float32), np.zeros((1, 2), np.float32), np.zeros(1, np.float32), np.zeros((1, 3), np.float32)
    )
    shake = Shake(*np.zeros((3, 2), np.float32))
    frames = render(Scene(grey, turning, shake, 0.0, 0), np.array([0.0, 1.0]), SIDE, SIDE).astype(float)
    light = frames[..., 0] - 128
    half = SIDE // 2
    assert light[0, :, half:].sum() > light[0, :, :half].sum() + 10_000
    assert light[1, half:].sum() > light[1, :half].sum() + 10_000


@pytest.mark.parametrize("seed", range(6))
def test_shapes_appear_and_vanish_once(seed: int) -> None:
    for label, expected in (("appears", [False, True]), ("vanishes", [True, False])):
        seen = [bool(mask.any()) for mask in shape_mask(random_scene(label, seed), TIMES)]
        assert [seen[0], seen[-1]] == expected
        assert sum(a != b for a, b in pairwise(seen)) == 1


def test_a_motion_may_last_for_a_while() -> None:
    motion = Motion(velocity=(0.0, 1.0), from_seconds=1.0, until_seconds=3.0)
    times = np.array([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0], np.float32)
    np.testing.assert_array_equal(motion.duration(times), [0, 0, 0, 1, 2, 2])
    before = Motion(until_seconds=-1.0)
    np.testing.assert_array_equal(before.duration(np.array([-3.0, -1.0, 0.0], np.float32)), [-2, 0, 0])


def test_a_wide_picture_has_the_square_one_in_its_middle() -> None:
    scene = replace(random_scene("grows", 5), noise=0.0)
    wide, square = render(scene, TIMES, SIDE, SIDE + 16), render(scene, TIMES, SIDE, SIDE)
    np.testing.assert_array_equal(wide[:, :, 8:-8], square)


def test_clips_are_centred_on_time_0() -> None:
    np.testing.assert_allclose(clip_seconds(4, 3, rate=30), [-0.15, -0.05, 0.05, 0.15])


def test_labels_are_balanced_over_seeds() -> None:
    for first in (0, FIRST_TRAINING_SEED):
        labels = [label_of(seed) for seed in range(first, first + 110)]
        assert {label: labels.count(label) for label in LABELS} == dict.fromkeys(LABELS, 10)


def test_an_unknown_label_is_refused() -> None:
    with pytest.raises(ValueError, match="label must be one of moves left"):
        random_scene("explodes", 0)
