"""The training of the demo models, as far as it goes in a second."""

import pytest
import torch
from demo_checkpoint import CONFIGS
from train_demo import start


@pytest.mark.parametrize("family", CONFIGS)
def test_the_probe_reads_a_pose_for_each_tubelet_in_time(family: str) -> None:
    run = start(family, steps=100)
    clips = torch.zeros(2, *run.model.config.clip_shape)
    logits, poses = run.model(clips), run.probe()
    assert poses.shape == (2, run.model.config.grid.slices, 5)
    (logits.sum() + poses.sum()).backward()
    assert all(parameter.grad is not None for parameter in run.probe.parameters())
