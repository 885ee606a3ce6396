"""Files of the original VideoMAE: their names become the Hub's, and what is not in them is said."""

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
import transformers
from original_videomae import CONFIG, LIMIT, OriginalPretraining, OriginalVideoMAE, clips, difference, seeded
from safetensors.torch import load_file
from torch import Tensor

from tubelet.exporter.checkpoint.load import Checkpoint, load_checkpoint
from tubelet.exporter.checkpoint.originals import hub_names, infer_settings
from tubelet.exporter.checkpoint.overrides import Overrides
from tubelet.exporter.families.positions import interpolate_positions
from tubelet.exporter.families.videomae_encoder import sinusoid_table
from tubelet.exporter.families.videomae_pretraining import split_tokens
from tubelet.exporter.plan import clip_spec, default_output
from tubelet.preprocess.errors import CheckpointError
from tubelet.preprocess.spec import ShortestEdge
from tubelet.runtime.tokens import Grid

# Of OriginalPretraining, whose only head is 64 wide.
SMALL_PRETRAINED = Overrides(image_size=(32, 32), num_frames=4)
SMALL = Overrides(image_size=(32, 32), num_frames=4, num_attention_heads=4)
Content = dict[str, Any]


def write(path: Path, model: torch.nn.Module, pack: Callable[[dict[str, Tensor]], Content] = dict) -> Path:
    torch.save(pack(model.state_dict()), path)
    return path


def load(path: Path, overrides: Overrides = SMALL, **options: Any) -> Checkpoint:
    return load_checkpoint(str(path), overrides=overrides, report=lambda _: None, **options)


def refusal(path: Path, overrides: Overrides = SMALL) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path, overrides)
    return str(caught.value)


TRAINING = {"epoch": 40, "optimizer": {"step": torch.tensor(3.0)}, "args": argparse.Namespace(lr=1e-3, model="vit")}
PACKED: dict[str, Callable[[dict[str, Tensor]], Content]] = {
    "plain": dict,
    "model": lambda state: {**TRAINING, "model": state},
    "module": lambda state: {"module": state},
    "parallel": lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
    "compiled": lambda state: {"model": {f"module._orig_mod.{name}": value for name, value in state.items()}},
}


@pytest.mark.parametrize("packed", PACKED)
def test_a_file_computes_what_the_original_does(packed: str, tmp_path: Path) -> None:
    model = seeded(OriginalVideoMAE())
    checkpoint = load(write(tmp_path / "checkpoint.pth", model, PACKED[packed]))
    assert checkpoint.config == CONFIG
    assert difference(checkpoint, model, clips()) <= LIMIT


@pytest.mark.parametrize(
    "shape",
    [
        {"mean_pooling": False},
        {"qkv_bias": False},
        {"tubelet": (4, 16, 8), "hidden": 40, "classes": 7, "depth": 3},
    ],
)
def test_what_shapes_show_is_read_off_them(shape: dict[str, Any], tmp_path: Path) -> None:
    model = seeded(OriginalVideoMAE(**shape))
    checkpoint = load(write(tmp_path / "checkpoint.pth", model))
    assert difference(checkpoint, model, clips()) <= LIMIT


def test_the_epsilon_of_every_norm_is_the_original_one(tmp_path: Path) -> None:
    """With torch's default before the head, which transformers has, logits would be off."""
    model = seeded(OriginalVideoMAE())
    with torch.no_grad():
        for block in model.blocks:
            block.attn.proj.weight *= 1e-3
            block.mlp.fc2.weight *= 1e-3
            block.attn.proj.bias.zero_()
            block.mlp.fc2.bias.zero_()
    path = write(tmp_path / "checkpoint.pth", model)
    checkpoint = load(path)
    assert difference(checkpoint, model, clips()) <= LIMIT
    vars(checkpoint.model.get_submodule("fc_norm"))["eps"] = 0.1
    assert difference(checkpoint, model, clips()) > 10 * LIMIT


@pytest.mark.parametrize(("width", "heads"), [(384, 6), (768, 12), (1024, 16), (1280, 16), (1408, 16), (64, 1)])
def test_heads_are_those_of_the_original_code(width: int, heads: int) -> None:
    with torch.device("meta"):
        weights = hub_names(OriginalVideoMAE(width=width, heads=1, depth=1).state_dict())
    reported: list[str] = []
    settings = infer_settings(weights, Overrides(), "vit.pth", reported.append)
    assert settings["num_attention_heads"] == heads
    assert f"num_attention_heads is {heads}, as in the original code for width {width}" in reported


def test_what_no_shape_shows_is_reported_and_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "vit_t_k710.pth", seeded(OriginalVideoMAE(width=64, heads=1, tubelet=(2, 16, 16))))
    reported: list[str] = []
    checkpoint = load_checkpoint(str(path), report=reported.append)
    assert checkpoint.config.clip_shape == (16, 3, 224, 224)
    assert reported == [
        "vit_t_k710.pth has no config.json beside it; its weights show 2 layers of width 64, intermediate_size 48, "
        "tubelets of 2x16x16, 5 labels, the mean of all tokens taken",
        "num_attention_heads is 1, as in the original code for width 64",
        "layer_norm_eps is 1e-06 for every norm, as in the original code",
        "clips of the training are taken to be 16 frames of 224x224: positions are not stored, so no weight shows it; "
        "--num-frames and --image-size set it",
        "labels remain LABEL_0 to LABEL_4: the checkpoint gives no others; pass --labels FILE to name them",
        "frames are prepared as in the original evaluation: short side 224, mean and std of ImageNet "
        "(resized with antialiasing, as for the Hub's checkpoints; the original did without)",
    ]
    assert checkpoint.notes == (
        "there was no config.json: 1 attention heads, layer_norm_eps 1e-06 and clips of 16 frames of 224x224 are those "
        "of the original code, or as asked for; no weight shows them",
    )
    assert checkpoint.source.model_id == "vit_t_k710.pth"
    spec = clip_spec(checkpoint, "pixel_values")
    assert (spec.resize, spec.crop) == (ShortestEdge(224), (224, 224))
    assert (spec.mean, spec.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert spec.rescale_factor == 1 / 255


def test_sizes_that_are_given_are_the_file_s_own(tmp_path: Path) -> None:
    checkpoint = load(write(tmp_path / "checkpoint.pth", seeded(OriginalVideoMAE())))
    (note,) = checkpoint.notes
    assert note.startswith("there was no config.json: 4 attention heads")
    assert clip_spec(checkpoint, "frames").resize == ShortestEdge(32)


def test_interpolated_positions_are_those_of_a_training_at_the_original_size(tmp_path: Path) -> None:
    path = write(tmp_path / "checkpoint.pth", seeded(OriginalVideoMAE(tubelet=(2, 56, 56))))
    overrides = Overrides(image_size=(112, 168), num_attention_heads=4, positions="interpolated")
    checkpoint = load(path, overrides)
    expected = interpolate_positions(sinusoid_table(8 * 4 * 4, 32), Grid(8, 4, 4), Grid(8, 2, 3))
    assert torch.equal(checkpoint.model.get_buffer("videomae.embeddings.position_embeddings"), expected)
    assert checkpoint.notes[1] == (
        "an extension that no published evaluation covers: clips are 16 frames of 112x168, the checkpoint's are 16 "
        "frames of 224; its positions are interpolated"
    )
    assert clip_spec(checkpoint, "frames").resize == ShortestEdge(112)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"image_size": (30, 32)}, "image_size must be a multiple of 8, which is what a tubelet takes, got 30x32"),
        ({"num_frames": 3}, "num_frames must be a multiple of 2, which is what a tubelet takes, got 3"),
    ],
)
def test_sizes_that_tubelets_do_not_divide_are_refused(overrides: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "checkpoint.pth", seeded(OriginalVideoMAE()))
    assert refusal(path, dataclasses.replace(SMALL, **overrides)).startswith(message)


def test_a_width_that_no_original_has_needs_its_heads(tmp_path: Path) -> None:
    path = write(tmp_path / "checkpoint.pth", seeded(OriginalVideoMAE()))
    assert refusal(path, Overrides()) == (
        "num_attention_heads cannot be known from a width of 32, which 64 does not divide\n"
        "  fix: --num-attention-heads N"
    )


def test_a_config_beside_the_file_is_heeded(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae", extra={"layer_norm_eps": 1e-6, "head_norm_eps": 1e-6})
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    model = seeded(OriginalVideoMAE())
    path = write(folder / "best.pth", model)
    reported: list[str] = []
    checkpoint = load_checkpoint(str(path), report=reported.append)
    assert reported == ["config.json beside best.pth says what the model is"]
    assert checkpoint.labels[0] == "activity 0"
    assert checkpoint.notes == ()
    assert difference(checkpoint, model, clips()) <= LIMIT
    torch.save(weights, path)  # names of transformers do as well
    assert torch.equal(load(path, Overrides()).model.state_dict()["classifier.weight"], weights["classifier.weight"])


def test_a_vivit_in_a_pth_file_needs_its_config_and_has_it(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    weights = load_file(folder / "model.safetensors")
    torch.save({"model": weights}, folder / "vivit.pth")
    assert load(folder / "vivit.pth", Overrides()).family.name == "vivit"
    (folder / "config.json").unlink()
    assert refusal(folder / "vivit.pth") == (
        "vivit.pth has names of neither the original VideoMAE nor TimeSformer, so what it is of is not known\n"
        "  fix: put the config.json of the model beside the file"
    )


def test_a_folder_with_nothing_but_a_pth_file_is_told_how_to_name_it(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae")
    (folder / "model.safetensors").unlink()
    write(folder / "best.pth", seeded(OriginalVideoMAE()))
    assert refusal(folder).endswith(
        f"fix: name the file, with the config.json beside it: --model {folder / 'best.pth'}"
    )


# The gate


def test_every_weight_is_accounted_for(tmp_path: Path) -> None:
    def spoil(state: dict[str, Tensor]) -> Content:
        state = dict(state)
        del state["blocks.1.attn.v_bias"]
        return {**state, "blocks.0.attn.qkv.bias": torch.zeros(96), "head.extra": torch.zeros(1)}

    assert refusal(write(tmp_path / "checkpoint.pth", seeded(OriginalVideoMAE()), spoil)).startswith(
        "videomae: 1 key missing, 2 unexpected\n"
        "  missing:    videomae.encoder.layer.1.attention.attention.v_bias\n"
        "  unexpected: videomae.encoder.layer.0.attn.qkv.bias, classifier.extra\n"
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("blocks.0.gamma_1", "its layers are scaled by learned factors (init_values above 0)"),
        ("blocks.1.attn.scale", "its attention compares directions (cos_attn)"),
        ("pos_embed", "its positions are learned (use_learnable_pos_emb)"),
        ("encoder.pos_embed", "its positions are learned (use_learnable_pos_emb)"),
    ],
)
def test_other_mathematics_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "c.pth", seeded(OriginalVideoMAE()), lambda state: {**state, name: torch.zeros(32)})
    assert refusal(path) == f"this VideoMAE is not the plain one: {reason}, as {name} shows"


@pytest.mark.parametrize("shape", [(96, 31), (95, 32), (96,)])
def test_a_matrix_that_is_not_three_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    name = "blocks.0.attn.qkv.weight"
    path = write(tmp_path / "c.pth", seeded(OriginalVideoMAE()), lambda state: {**state, name: torch.zeros(shape)})
    assert refusal(path) == f"{name} must be (3 x D, D), got {shape}"


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    assert refusal(path) == f"there is no file {path}"
    path.write_bytes(b"PK\x03\x04 and no more")
    assert refusal(path).startswith("c.pth is damaged")
    torch.save([torch.zeros(2)], path)
    assert refusal(path) == "c.pth must hold a dict of tensors, got list"
    torch.save({"epoch": 3, "args": argparse.Namespace()}, path)
    assert refusal(path).startswith(
        "c.pth must hold tensors by name, plain or under model or module or model_state, got epoch, args\n"
    )
    torch.save({}, path)
    assert "plain or under model or module or model_state, got nothing" in refusal(path)
    torch.save({"blocks.0.norm1.weight": torch.zeros(3)}, path)
    assert refusal(path).startswith(
        "c.pth is no VideoMAE of the original code: videomae.embeddings.patch_embeddings.projection.weight must have 5 "
        "axes, none of them empty, and the file does not have it"
    )
    torch.save({"patch_embed.proj.weight": torch.zeros(3)}, path)
    assert "and the file has it as (3,)" in refusal(path)


def test_a_pth_file_cannot_run_code(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    torch.save(
        {"model": seeded(OriginalVideoMAE()).state_dict(), "args": checkpoints.Hostile(tmp_path / "owned")}, path
    )
    assert refusal(path).startswith("c.pth is damaged, or holds Python objects that could run code")
    assert not (tmp_path / "owned").exists()


def test_a_file_has_no_revision(tmp_path: Path) -> None:
    path = write(tmp_path / "c.pth", seeded(OriginalVideoMAE()))
    with pytest.raises(CheckpointError, match=r"c\.pth is a file, which has no revisions; got revision 'main'"):
        load(path, revision="main")


def test_the_bundle_of_a_file_is_called_like_it(tmp_path: Path) -> None:
    path = write(tmp_path / "vit.k710.pth", seeded(OriginalVideoMAE()))
    assert default_output(str(path)) == Path("artifacts/vit.k710")


# Files without a classifier


def test_a_pretraining_file_gets_the_names_and_the_config_of_transformers(tmp_path: Path) -> None:
    original = seeded(OriginalPretraining()).state_dict()
    weights = hub_names(original)
    settings = infer_settings(weights, Overrides(image_size=(32, 32), num_frames=4), "p.pth", lambda _: None)
    assert settings["architectures"] == ["VideoMAEForPreTraining"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    config = transformers.VideoMAEConfig.from_pretrained(tmp_path)
    assert (config.decoder_num_attention_heads, config.decoder_intermediate_size) == (3, 40)
    transformers.VideoMAEForPreTraining(config).save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {name: value.shape for name, value in weights.items()} == {name: v.shape for name, v in stored.items()}
    for part, rows in (("query", slice(0, 192)), ("key", slice(192, 384)), ("value", slice(384, 576))):
        ours = weights[f"decoder.decoder_layers.0.attention.attention.{part}.weight"]
        assert torch.equal(ours, original["decoder.blocks.0.attn.qkv.weight"][rows])
    assert torch.equal(weights["videomae.layernorm.bias"], original["encoder.norm.bias"])
    assert torch.equal(weights["decoder.norm.bias"], original["decoder.norm.bias"])


def test_a_pretraining_file_draws_what_the_original_draws(tmp_path: Path) -> None:
    original = seeded(OriginalPretraining()).eval()
    path = write(tmp_path / "p.pth", original)
    checkpoint = load_checkpoint(str(path), overrides=SMALL_PRETRAINED, report=lambda _: None)
    assert checkpoint.task == "masked-modeling"
    mask = torch.zeros(2, 32, dtype=torch.bool)
    mask[:, 5:25] = True
    mask[1] = mask[1].flip(0)
    pixel_values = torch.randn(2, *checkpoint.config.clip_shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = checkpoint.model(pixel_values, *split_tokens(mask))
        expected = original(pixel_values.transpose(1, 2), mask)  # (B, T, C, H, W) -> (B, C, T, H, W)
    assert (found - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("prefix", ["", "encoder.", "backbone."])
def test_features_alone_get_the_names_of_an_encoder(prefix: str) -> None:
    original = seeded(OriginalVideoMAE(classes=0)).state_dict()
    weights = hub_names({prefix + name: value for name, value in original.items()})
    settings = infer_settings(weights, SMALL, "f.pth", lambda _: None)
    assert settings["architectures"] == ["VideoMAEModel"]
    assert "num_labels" not in settings
    with torch.device("meta"):
        classifier = checkpoints.build(checkpoints.tiny_config("videomae")).state_dict()
    assert weights.keys() == {name for name in classifier if not name.startswith("classifier.")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({1: torch.zeros(3)}, "must hold tensors by name"),
        ({"model": {2: torch.zeros(3)}}, "must hold tensors by name"),
        ({"patch_embed.proj.weight": torch.zeros(8, 3, 2, 0, 0)}, "must have 5 axes, none of them empty"),
    ],
)
def test_files_of_other_shapes_are_refused_with_a_message(content: Content, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "f.pth")
    assert message in refusal(tmp_path / "f.pth", SMALL)
