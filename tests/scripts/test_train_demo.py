"""The training of the demo models, as far as it goes in a second."""

from pathlib import Path

import pytest
import torch
from demo_checkpoint import CONFIGS
from motion import FIRST_FURTHER_SEED, FIRST_TRAINING_SEED
from train_demo import start, state_file

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


def test_a_run_from_other_weights_does_not_go_on_from_the_state_of_this_one() -> None:
    names = {state_file("vivit", 100, checkpoint) for checkpoint in (None, DEMO / "vivit", DEMO / "videomae")}
    assert len(names) == 3
    assert state_file("vivit", 100, DEMO / "vivit") in names
