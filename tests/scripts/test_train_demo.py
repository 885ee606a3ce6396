"""The training of the demo models, as far as it goes in a second."""

from pathlib import Path

import pytest
import torch
from demo_checkpoint import CONFIGS, demo_spec
from motion import FIRST_FURTHER_SEED, FIRST_TRAINING_SEED
from train_demo import TrainingClips, start

DEMO = Path(__file__).parents[2] / "artifacts" / "demo"


@pytest.mark.parametrize("family", CONFIGS)
def test_the_probe_reads_a_pose_for_each_tubelet_in_time(family: str) -> None:
    run = start(family, steps=100)
    clips = torch.zeros(2, *run.model.config.clip_shape)
    logits, poses = run.model(clips), run.probe()
    assert poses.shape == (2, run.model.config.grid.slices, 5)
    (logits.sum() + poses.sum()).backward()
    assert all(parameter.grad is not None for parameter in run.probe.parameters())


def test_it_goes_on_from_a_checkpoint_with_clips_of_its_own() -> None:
    first, further = start("vivit", steps=100), start("vivit", steps=100, checkpoint=DEMO / "vivit")
    assert (first.first_seed, further.first_seed) == (FIRST_TRAINING_SEED, FIRST_FURTHER_SEED)
    assert not first.model.state_dict()["classifier.weight"].any()
    assert further.model.state_dict()["classifier.weight"].any()


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
