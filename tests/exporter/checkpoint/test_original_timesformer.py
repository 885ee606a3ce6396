"""Files of the original TimeSformer: their names become the Hub's, and the config is read off their weights."""

import json
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
from original_timesformer import OriginalTimesformer
from original_videomae import LIMIT, difference, seeded

from tubelet.exporter.checkpoint.load import Checkpoint, load_checkpoint
from tubelet.exporter.checkpoint.overrides import Overrides
from tubelet.exporter.families.timesformer_config import ATTENTION_TYPES, TimesformerConfig
from tubelet.exporter.plan import clip_spec
from tubelet.preprocess.errors import CheckpointError
from tubelet.preprocess.spec import ShortestEdge


def write(path: Path, model: torch.nn.Module) -> Path:
    """As the authors save one: the module inside another, beside the optimizer and the config as text."""
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"epoch": 14, "model_state": state, "optimizer_state": {"param_groups": []}, "cfg": "DATA:\n"}, path)
    return path


def load(path: Path, lines: list[str] | None = None, **overrides: Any) -> Checkpoint:
    report = (lambda _: None) if lines is None else lines.append
    return load_checkpoint(str(path), overrides=Overrides(**overrides), report=report)


def some_clips(frames: int = 4) -> torch.Tensor:
    return torch.randn(2, frames, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", ATTENTION_TYPES)
def test_an_original_file_computes_what_the_original_does(kind: str, tmp_path: Path) -> None:
    model = seeded(OriginalTimesformer(kind, frames=8))
    lines: list[str] = []
    checkpoint = load(write(tmp_path / f"{kind}.pyth", model), lines)
    assert checkpoint.config == TimesformerConfig(
        image_size=(32, 32),
        patch_size=(8, 8),
        num_frames=8,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=48,
        num_labels=5,
        attention_type=kind,
    )
    assert difference(checkpoint, model, some_clips(8)) <= LIMIT
    assert f"its weights show {kind} attention, 2 layers of width 64, 8 frames of 32x32" in lines[0]
    assert ("averaged over frames" in checkpoint.notes[0]) == (kind == "space_only")
    spec = clip_spec(checkpoint, "pixel_values")
    assert (spec.resize, spec.crop, spec.mean, spec.std) == (ShortestEdge(32), (32, 32), (0.45,) * 3, (0.225,) * 3)


def test_what_no_weight_shows_may_be_given(tmp_path: Path) -> None:
    model = seeded(OriginalTimesformer("space_only", heads=4, frames=3))
    checkpoint = load(write(tmp_path / "original.pyth", model), num_frames=3, num_attention_heads=4)
    assert (checkpoint.config.num_frames, checkpoint.config.num_attention_heads) == (3, 4)
    assert difference(checkpoint, model, some_clips(3)) <= LIMIT


def test_heads_that_a_width_does_not_tell(tmp_path: Path) -> None:
    path = write(tmp_path / "original.pyth", seeded(OriginalTimesformer(width=24)))
    with pytest.raises(CheckpointError, match="cannot be known from a width of 24, which 64 does not divide"):
        load(path)
    assert load(path, num_attention_heads=3).config.num_attention_heads == 3


def test_a_file_that_lacks_what_a_timesformer_has(tmp_path: Path) -> None:
    model = seeded(OriginalTimesformer())
    del model.blocks[0].mlp
    with pytest.raises(CheckpointError, match=r"is no TimeSformer of the original code: .*intermediate.*does not have"):
        load(write(tmp_path / "original.pyth", model))


# The number of frames, which weights fix


def test_the_frames_of_the_weights_are_followed_and_that_is_said(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path / "large", "timesformer", num_frames=8)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"num_frames": 12}))
    checkpoint = load(folder)
    assert checkpoint.config.num_frames == 8
    assert checkpoint.notes[0] == ("config.json says num_frames 12, and the weights are of 8: the weights are followed")
    assert clip_spec(checkpoint, "pixel_values").num_frames == 8
    longer = load(folder, num_frames=16)
    table = longer.model.state_dict()["timesformer.embeddings.time_embeddings"]
    assert table.shape[1] == longer.config.num_frames == 16
    assert "the checkpoint's are 8 frames of 32" in longer.notes[1]


def test_where_config_and_weights_agree_nothing_is_said(tmp_path: Path) -> None:
    checkpoint = load(checkpoints.write_checkpoint(tmp_path / "base", "timesformer", num_frames=8))
    assert checkpoint.notes == ()


def test_features_of_a_file_that_says_other_frames(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path / "encoder", "timesformer", task="feature-extraction", num_frames=8)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"num_frames": 12}))
    assert load(folder).config.num_frames == 8
