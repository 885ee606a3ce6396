"""VideoMAE v2 of the Hub: its config in VideoMAE's words, its weights through the same gate, its code never run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from original_videomae import CONFIG, LIMIT, OriginalVideoMAE, clips, config_v2, difference, seeded, write_v2

from tubelet.cli.tree import main
from tubelet.exporter.checkpoint.load import Checkpoint, load_checkpoint
from tubelet.exporter.checkpoint.videomae_v2 import videomae_settings
from tubelet.exporter.families.videomae_encoder import VideoMAEConfig
from tubelet.preprocess.errors import CheckpointError
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.load import load


def load_quietly(folder: Path) -> Checkpoint:
    return load_checkpoint(str(folder), report=lambda _: None)


@pytest.mark.parametrize("prefix", ["model.", ""])
def test_it_computes_what_the_papers_say(prefix: str, tmp_path: Path) -> None:
    model = seeded(OriginalVideoMAE())
    checkpoint = load_quietly(write_v2(tmp_path, model, prefix=prefix))
    assert checkpoint.config == CONFIG
    assert checkpoint.notes == ()
    assert difference(checkpoint, model, clips()) <= LIMIT


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        ({"mean_pooling": False}, {"use_mean_pooling": False}),
        ({"qkv_bias": False}, {"qkv_bias": False}),
        ({"tubelet": (4, 16, 16)}, {"tubelet_size": 4, "patch_size": [16, 16]}),
        ({"width": 44, "hidden": 192}, {"embed_dim": 44, "mlp_ratio": 48 / 11}),
        ({"heads": 2}, {"num_heads": 2}),
    ],
)
def test_its_config_is_followed(shape: dict[str, Any], changes: dict[str, Any], tmp_path: Path) -> None:
    model = seeded(OriginalVideoMAE(**shape))
    assert difference(load_quietly(write_v2(tmp_path, model, **changes)), model, clips()) <= LIMIT


def test_a_number_of_heads_that_is_not_the_trained_one_shows(tmp_path: Path) -> None:
    model = seeded(OriginalVideoMAE())
    assert difference(load_quietly(write_v2(tmp_path, model, num_heads=2)), model, clips()) > 100 * LIMIT


def test_the_giant_in_the_words_of_videomae() -> None:
    giant = {"embed_dim": 1408, "depth": 40, "num_heads": 16, "mlp_ratio": 48 / 11, "patch_size": 14, "img_size": 224}
    settings = videomae_settings(config_v2(**giant, num_frames=16, num_classes=710))
    config = VideoMAEConfig.from_hub(settings)
    assert (config.intermediate_size, config.patch_size, config.num_labels) == (6144, (14, 14), 710)


def test_without_classes_it_is_an_encoder(tmp_path: Path) -> None:
    assert videomae_settings(config_v2(num_classes=0))["architectures"] == ["VideoMAEModel"]
    assert videomae_settings(config_v2())["architectures"] == ["VideoMAEForVideoClassification"]
    original = seeded(OriginalVideoMAE(classes=0))
    checkpoint = load_quietly(write_v2(tmp_path, original, num_classes=0))
    assert checkpoint.task == "feature-extraction"
    pixel_values = torch.randn(2, *checkpoint.config.clip_shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = checkpoint.model.outputs(pixel_values)["pooler_output"]
        expected = original(pixel_values.transpose(1, 2))  # (B, T, C, H, W) -> (B, C, T, H, W)
    assert (found - expected).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cos_attn": True}, "model_config has cos_attn True, which is not supported: attention that compares direc"),
        ({"init_values": 1e-5}, "model_config has init_values 1e-05, which is not supported: layers scaled by learned"),
        ({"use_learnable_pos_emb": True}, "model_config has use_learnable_pos_emb True, which is not supported"),
        ({"qk_scale": 0.1}, "model_config has qk_scale 0.1, which is not supported: a scale of attention other than"),
        ({"norm_layer": "RMSNorm"}, "model_config has norm_layer 'RMSNorm', which is not supported: other norms"),
        ({"mlp_ratio": "four"}, "embed_dim and mlp_ratio must be numbers, got 32 and 'four'"),
        ({"mlp_ratio": None}, "embed_dim and mlp_ratio must be numbers, got 32 and None"),
        ({"embed_dim": 0}, "hidden_size must be a whole number above 0, at most 1000000, got 0"),
        ({"num_heads": 5}, "hidden_size must be a multiple of num_attention_heads, got 32 and 5"),
        ({"num_classes": -1}, "num_labels must be a whole number above 0, at most 1000000, got -1"),
    ],
)
def test_what_is_not_supported_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_quietly(write_v2(tmp_path, seeded(OriginalVideoMAE()), **changes))
    assert str(caught.value).startswith(message)


def test_a_config_with_nothing_in_it_is_refused() -> None:
    with pytest.raises(CheckpointError, match="must have an object model_config, got None"):
        videomae_settings({"model_type": "VideoMAEv2_Base"})
    lacking = config_v2()
    del lacking["model_config"]["num_heads"], lacking["model_config"]["num_classes"]
    with pytest.raises(CheckpointError, match=r"model_config of config\.json lacks num_heads, num_classes"):
        videomae_settings(lacking)


@pytest.mark.parametrize("form", ["file", "folder"])
def test_from_the_command_line_to_labels(form: str, video: Path, tmp_path: Path) -> None:
    """Export, check, classify: what the authors' model makes of the very clip is what comes out."""
    model = seeded(OriginalVideoMAE())
    arguments = ["--model", str(write_v2(tmp_path / "v2", model))]
    if form == "file":
        torch.save({"module": model.state_dict()}, tmp_path / "vit_t.pth")
        sizes = ["--image-size", "32", "--num-frames", "4", "--num-attention-heads", "4"]
        arguments = ["--model", str(tmp_path / "vit_t.pth"), *sizes]
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    bundle = tmp_path / "bundle"
    arguments += ["-o", str(bundle), "--labels", str(tmp_path / "labels.txt")]
    exported = CliRunner().invoke(main, ["export", *arguments])
    assert exported.exit_code == 0, exported.output
    assert Bundle.open(bundle).model_id == {"file": "vit_t.pth", "folder": "v2"}[form]
    assert CliRunner().invoke(main, ["check", str(bundle)]).exit_code == 0
    classified = CliRunner().invoke(main, ["classify", str(bundle), str(video), "--json", "--top-k", "5"])
    found = {best["label"]: best["score"] for best in json.loads(classified.stdout)["predictions"]}
    with load(bundle) as classifier:
        batch = torch.from_numpy(classifier.prepare(classifier.read(video)))
    with torch.inference_mode():
        scores = model(batch.transpose(1, 2)).softmax(-1)[0]
    assert found == pytest.approx(dict(zip("abcde", scores.tolist(), strict=True)), abs=1e-5)
