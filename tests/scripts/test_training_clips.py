"""The clips of training: what their labels say, and motions that begin or end within them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from demo_checkpoint import demo_spec
from motion import (
    FIRST_FURTHER_SEED,
    FIRST_TRAINING_SEED,
    MOTIONS,
    STILL,
    clip_seconds,
    pose,
    random_scene,
    render,
)
from training_clips import TrainingClips, watched_scene

TIMES = clip_seconds(16, 2)
NEVER = (math.inf, math.inf)


@pytest.mark.parametrize("label", [*MOTIONS, STILL])
def test_a_scene_as_a_stream_shows_it_does_in_the_middle_what_its_label_says(label: str) -> None:
    """Some of the clips begin or end with something else, and some do not."""
    partly = 0
    for seed in range(40):
        shape = watched_scene(label, seed, span=2.0).shape
        poses = np.stack(pose(shape, np.linspace(-1, 1, 201, dtype=np.float32)))  # (4, 201)
        moves = np.abs(np.diff(poses, axis=1)).max(axis=0) > 1e-4
        assert moves[96:104].all() if label in MOTIONS else not moves[96:104].any()
        partly += len(set(moves)) == 2
    assert 15 < partly < 40


def test_a_scene_as_a_stream_shows_it_has_the_look_of_its_seed() -> None:
    watched, steady = watched_scene("grows", 3, span=1.0), random_scene("grows", 3)
    first, second = (
        render(replace(scene, shape=replace(scene.shape, visible=NEVER)), TIMES, 48, 48) for scene in (watched, steady)
    )
    np.testing.assert_array_equal(first, second)
    assert watched.shape.colours == steady.shape.colours


@pytest.mark.parametrize("label", ["appears", "vanishes"])
def test_what_appears_or_vanishes_in_a_stream_does_so_within_the_clip(label: str) -> None:
    for seed in range(40):
        first, last = (
            start <= at < end
            for at in (-0.5, 0.5)
            for start, end in [watched_scene(label, seed, span=1.0).shape.visible]
        )
        assert (first, last) == ((False, True) if label == "appears" else (True, False))


@pytest.mark.parametrize("first_seed", [FIRST_TRAINING_SEED, FIRST_FURTHER_SEED])
def test_the_clips_of_training(first_seed: int) -> None:
    spec = demo_spec("vivit")
    clips = TrainingClips(spec, slices=8, seeds=range(first_seed, first_seed + 22))
    assert len(clips) == 22
    labels = []
    for number in range(22):
        pixel_values, label, poses, visible = clips[number]
        assert pixel_values.shape == (16, 3, 48, 48)
        assert (poses.shape, visible.shape) == ((8, 5), (8,))
        labels.append(label)
    assert sorted(labels) == [label for label in range(11) for _ in range(2)]
