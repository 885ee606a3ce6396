"""The clips that the demo models are trained on, each made from a seed of its own."""

import math
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from motion import (
    FIRST_FURTHER_SEED,
    LABELS,
    MOTIONS,
    STILL,
    Scene,
    Shape,
    clip_seconds,
    label_of,
    motion_of,
    pose,
    random_scene,
    render,
)
from numpy.typing import NDArray
from score_demo import frames_between
from torch import Tensor
from torch.utils.data import Dataset

from tubelet.preprocess.prepare import normalise
from tubelet.preprocess.spec import ClipSpec


def watched_scene(label: str, seed: int, span: float) -> Scene:
    """A scene as a window of a stream sees it: a motion may begin or end within the clip, which takes `span` seconds.

    The label is what happens at time 0, which is the middle. What moves then began before, and stops later. What stands
    still then moved before or moves later. Places, sizes and paces vary more than those of `random_scene`.
    """
    scene = random_scene(label, seed)
    random = np.random.default_rng((seed, 2))  # a stream apart from the one that draws the scene
    shape = replace(
        scene.shape,
        centre=(random.uniform(-0.45, 0.45), random.uniform(-0.45, 0.45)),
        radius=math.exp(random.uniform(math.log(0.13), math.log(0.6))),
    )
    motion = motion_of(str(random.choice(MOTIONS)) if label == STILL else label, random.uniform(-0.3, 1.2))
    change = span * random.uniform(0.05, 0.7) * random.choice([-1, 1])  # beyond 0.5 it is not seen
    if label in MOTIONS:
        motion = replace(motion, from_seconds=change) if change < 0 else replace(motion, until_seconds=change)
    elif label == STILL:
        motion = replace(motion, until_seconds=change) if change < 0 else replace(motion, from_seconds=change)
    else:
        change *= 0.6  # so that it is seen
        shape = replace(shape, visible=(change, math.inf) if label == "appears" else (-math.inf, change))
    return replace(scene, shape=replace(shape, motions=(motion,)))


def scene_of(label: str, seed: int, spec: ClipSpec) -> Scene:
    """The scene of a seed of training."""
    if seed < FIRST_FURTHER_SEED or seed % 2:
        return random_scene(label, seed)
    return watched_scene(label, seed, float(np.ptp(clip_seconds(spec.num_frames, frames_between(spec)))))


def pose_targets(shape: Shape, seconds: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What PoseProbe is to read at `seconds` (T',): (T', 5), each value scaled to about 1. With it, (T',): 1 where the
    shape is to be seen at all, or 0.
    """
    y, x, log_radius, angle = pose(shape, seconds.astype(np.float32))
    values = np.stack([4 * y, 4 * x, 3 * (log_radius - np.log(0.22)), np.cos(angle), np.sin(angle)], axis=-1)
    visible = (seconds >= shape.visible[0]) & (seconds < shape.visible[1])
    return values.astype(np.float32), visible.astype(np.float32)


class TrainingClips(Dataset[tuple[Tensor, int, Tensor, Tensor]]):
    """The clips of `seeds`. Each is pixel_values float32 (T, C, H, W), the label's index, and the shape's pose. The
    pose, float32 (T', 5), is that in the middle of each tubelet, with whether it is visible (T').

    The clip's middle and its frame rate vary a little, as files do.
    """

    def __init__(self, spec: ClipSpec, slices: int, seeds: range) -> None:
        self.spec, self.slices, self.seeds = spec, slices, seeds

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> tuple[Tensor, int, Tensor, Tensor]:
        seed = self.seeds[index]
        label = label_of(seed)
        random = np.random.default_rng((seed, 1))  # a stream apart from the one that draws the scene
        times = clip_seconds(self.spec.num_frames, frames_between(self.spec))
        times = times * random.uniform(0.85, 1.15) + random.uniform(-0.05, 0.05)
        scene = scene_of(label, seed, self.spec)
        pixels = render(scene, times, *cast(tuple[int, int], self.spec.size))
        middles = times.reshape(self.slices, -1).mean(axis=1)  # (T) -> (T', T / T') -> (T')
        targets = (normalise(pixels, self.spec), *pose_targets(scene.shape, middles))
        pixel_values, pose_target, visible = map(torch.from_numpy, targets)
        return pixel_values, LABELS.index(label), pose_target, visible
