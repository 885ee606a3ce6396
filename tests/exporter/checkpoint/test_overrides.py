"""--image-size, --num-frames and --num-attention-heads: transformers is the oracle wherever it can be one."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner

from tubelet.bench.torch_baseline import load_baseline
from tubelet.cli.tree import main
from tubelet.exporter.checkpoint.load import Checkpoint, load_checkpoint
from tubelet.exporter.checkpoint.overrides import AS_PUBLISHED, Overrides, at_size, override_notes
from tubelet.exporter.export import export_bundle
from tubelet.exporter.families.positions import interpolate_positions
from tubelet.exporter.families.registry import family_named
from tubelet.exporter.families.videomae_encoder import sinusoid_table
from tubelet.exporter.plan import clip_spec
from tubelet.preprocess.errors import BundleError, CheckpointError
from tubelet.preprocess.spec import ClipSpec, ExactSize, ShortestEdge
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.load import load
from tubelet.runtime.tokens import Grid

LIMIT = 1e-5
TABLE = "vivit.embeddings.position_embeddings"
ARCHITECTURES: dict[str, Any] = {
    "vivit": transformers.VivitForVideoClassification,
    "videomae": transformers.VideoMAEForVideoClassification,
}


def changed(folder: Path, **overrides: Any) -> Checkpoint:
    return load_checkpoint(str(folder), overrides=Overrides(**overrides), report=lambda _: None)


def oracle(folder: Path, checkpoint: Checkpoint, family: str) -> Any:
    """transformers with the weights of the folder, at the sizes and heads of `checkpoint`."""
    config = transformers.AutoConfig.from_pretrained(
        folder,
        image_size=checkpoint.config.image_size if family == "vivit" else list(checkpoint.config.image_size),
        num_frames=checkpoint.config.num_frames,
        num_attention_heads=checkpoint.config.num_attention_heads,
    )
    model = ARCHITECTURES[family](config)
    native = ARCHITECTURES[family].from_pretrained(folder)
    weights = native.state_dict()
    if family == "vivit":
        frames, _, height, width = checkpoint.config.clip_shape
        grid = Grid(frames // 2, height // 16, width // 16)  # tubelets of 2x16x16, 2x2x2 of them in the checkpoint
        weights[TABLE] = interpolate_positions(weights[TABLE], Grid(2, 2, 2), grid)
    model.load_state_dict(weights)
    return model.eval()


def compare(folder: Path, checkpoint: Checkpoint, family: str) -> None:
    clip = torch.randn(2, *checkpoint.config.clip_shape, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        ours, theirs = checkpoint.model(clip), oracle(folder, checkpoint, family)(clip).logits
    assert ours.abs().max() > 0.1
    assert (ours - theirs).abs().max() <= LIMIT


@pytest.mark.parametrize("family", ["vivit", "videomae"])
@pytest.mark.parametrize(
    "overrides",
    [
        {"image_size": (48, 48)},
        {"image_size": (16, 64)},
        {"num_frames": 8},
        {"num_frames": 2},
        {"image_size": (64, 48), "num_frames": 6},
        {"num_attention_heads": 2},
        {"num_attention_heads": 8, "image_size": (48, 48)},
    ],
)
def test_at_another_size_it_is_the_model_that_transformers_would_be(
    family: str, overrides: dict[str, Any], tmp_path: Path
) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, family)
    recomputed = {"positions": "recomputed"} if family == "videomae" else {}
    checkpoint = changed(folder, **overrides, **recomputed)
    for name, value in overrides.items():
        assert getattr(checkpoint.config, name) == value
    compare(folder, checkpoint, family)


@pytest.mark.parametrize("family", ["vivit", "videomae"])
@pytest.mark.parametrize("overrides", [{}, {"image_size": (32, 32), "num_frames": 4, "num_attention_heads": 4}])
def test_as_published_nothing_changes(family: str, overrides: dict[str, Any], tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, family)
    checkpoint = changed(folder, **overrides)
    assert checkpoint.notes == ()
    assert checkpoint.config == checkpoints.tiny_config(family)
    for name, value in checkpoints.seeded_weights(checkpoint.config).items():
        assert torch.equal(checkpoint.model.state_dict()[name], value)
    compare(folder, checkpoint, family)


def test_a_sinusoid_is_interpolated_unless_it_is_to_be_recomputed(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae")  # tubelets of 2x8x8 on clips of 4x32x32
    checkpoint = changed(folder, image_size=(48, 40), num_frames=8)
    assert checkpoint.notes == (
        "an extension that no published evaluation covers: clips are 8 frames of 48x40, the checkpoint's are 4 frames "
        "of 32; its positions are interpolated",
    )
    model = oracle(folder, checkpoint, "videomae")
    table = interpolate_positions(sinusoid_table(32, 32), Grid(2, 4, 4), Grid(4, 6, 5))
    clip = torch.randn(2, *checkpoint.config.clip_shape, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        ours, recomputed = checkpoint.model(clip), model(clip).logits
        model.videomae.embeddings.position_embeddings = table
        interpolated = model(clip).logits
    assert (ours - interpolated).abs().max() <= LIMIT
    assert (ours - recomputed).abs().max() > 1000 * LIMIT


def test_at_the_native_size_interpolated_positions_are_those_that_there_were(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae")
    checkpoint = changed(folder, image_size=(32, 32), positions="interpolated")
    assert torch.equal(checkpoint.model.get_buffer("videomae.embeddings.position_embeddings"), sinusoid_table(32, 32))
    assert checkpoint.notes == ()


def test_learned_positions_cannot_be_recomputed(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    changed(folder, image_size=(48, 48), positions="interpolated")
    with pytest.raises(CheckpointError, match="ViViT's positions are learned, so they cannot be recomputed"):
        changed(folder, image_size=(48, 48), positions="recomputed")


def test_positions_are_about_another_size() -> None:
    result = CliRunner().invoke(main, ["export", "--model", "m", "--positions", "interpolated"])
    assert result.exit_code == 2
    assert "--positions is about another size: give --image-size or --num-frames too" in result.stderr


def test_a_size_whose_tubelets_leave_something_over_may_stay(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit", image_size=(37, 50), num_frames=5)
    checkpoint = changed(folder, num_frames=8)
    assert checkpoint.model.state_dict()[TABLE].shape == (1, 1 + 4 * 2 * 3, 32)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"image_size": (40, 40)}, "image_size must be a multiple of 16, {}, got 40\n  fix: --image-size 32 or 48"),
        (
            {"image_size": (48, 40)},
            "image_size must be a multiple of 16, {}, got 48x40\n  fix: --image-size 48x32 or 48",
        ),
        ({"image_size": (3, 3)}, "image_size must be a multiple of 16, {}, got 3\n  fix: --image-size 16"),
        ({"num_frames": 5}, "num_frames must be a multiple of 2, {}, got 5\n  fix: --num-frames 4 or 6"),
        ({"num_frames": 1}, "num_frames must be a multiple of 2, {}, got 1\n  fix: --num-frames 2"),
        ({"num_attention_heads": 5}, "hidden_size must be a multiple of num_attention_heads, got 32 and 5"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(overrides: Any, message: str, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    with pytest.raises(CheckpointError) as caught:
        changed(folder, **overrides)
    assert str(caught.value) == message.format("which is what a tubelet takes")


def test_a_damaged_table_is_caught_by_the_gate_and_not_stretched(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "image_size": 48}))
    with pytest.raises(CheckpointError, match=r"position_embeddings \(1, 9, 32\) instead of \(1, 19, 32\)"):
        changed(folder, image_size=(32, 32))


# The small VideoMAE


def small(tmp_path: Path, **changes: Any) -> Path:
    shape = {"hidden_size": 384, "num_attention_heads": 16, "num_hidden_layers": 1, "intermediate_size": 8}
    return checkpoints.write_checkpoint(tmp_path, "videomae", **{**shape, **changes})


def test_the_heads_of_the_small_videomae_are_followed_with_a_note_and_can_be_set(tmp_path: Path) -> None:
    folder = small(tmp_path)
    published = changed(folder)
    assert published.config.num_attention_heads == 16
    assert published.notes == (
        "config.json gives this small VideoMAE 16 attention heads, and the original was trained with 6: followed as "
        "published; --num-attention-heads 6 overrides it",
    )
    compare(folder, published, "videomae")
    trained = changed(folder, num_attention_heads=6)
    assert trained.notes == ("num_attention_heads is 6, as asked for; config.json says 16",)
    compare(folder, trained, "videomae")


@pytest.mark.parametrize("changes", [{"num_attention_heads": 6}, {"hidden_size": 256}])
def test_other_videomaes_have_no_such_note(changes: dict[str, Any], tmp_path: Path) -> None:
    assert changed(small(tmp_path, **changes)).notes == ()


def test_a_vivit_of_that_width_has_no_such_note() -> None:
    config = checkpoints.tiny_config("vivit", hidden_size=384, num_attention_heads=16)
    assert override_notes(family_named("vivit"), config, config, AS_PUBLISHED, "video-classification") == ()


# The input contract


def spec(**changes: Any) -> ClipSpec:
    values: dict[str, Any] = {
        "num_frames": 4,
        "evaluation": checkpoints.published_evaluation("vivit", 400),
        "arithmetic": "pillow",
        "resize": ShortestEdge(256),
        "resample": "bilinear",
        "crop": (224, 224),
        "rescale_factor": 1 / 255,
        "rescale_offset": 0.0,
        "mean": None,
        "std": None,
    }
    return ClipSpec(**{**values, **changes})


@pytest.mark.parametrize(
    ("native", "size", "resize", "crop"),
    [
        (spec(), (224, 224), ShortestEdge(256), (224, 224)),
        (spec(), (288, 288), ShortestEdge(329), (288, 288)),
        (spec(), (112, 112), ShortestEdge(128), (112, 112)),
        (spec(), (224, 384), ShortestEdge(256), (224, 384)),
        (spec(resize=ShortestEdge(224)), (288, 512), ShortestEdge(288), (288, 512)),
        (spec(resize=ExactSize(256, 320)), (112, 336), ExactSize(128, 480), (112, 336)),
        (spec(resize=ExactSize(224, 224), crop=None), (288, 320), ExactSize(288, 320), None),
        (spec(resize=None), (288, 288), None, (288, 288)),
    ],
)
def test_the_contract_shows_as_much_of_a_frame_as_before(
    native: ClipSpec, size: tuple[int, int], resize: Any, crop: Any
) -> None:
    scaled = at_size(native, size)
    assert (scaled.resize, scaled.crop) == (resize, crop)
    assert scaled.size == size
    assert dataclasses.replace(scaled, resize=native.resize, crop=native.crop) == native


@pytest.mark.parametrize("family", ["vivit", "videomae"])
def test_a_processor_that_does_not_make_the_native_size_is_refused_still(family: str, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, family, processor={"crop_size": 48})
    with pytest.raises(CheckpointError, match="the model takes 32x32 pixels"):
        clip_spec(changed(folder), "frames")
    with pytest.raises(CheckpointError, match="the model takes 32x32 pixels"):
        clip_spec(changed(folder, image_size=(48, 48)), "frames")


# From the command line


@pytest.mark.parametrize("family", ["vivit", "videomae"])
def test_a_bundle_of_another_size_is_proven_and_classifies(family: str, video: Path, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path / "m", family, processor={"size": {"shortest_edge": 40}})
    path = tmp_path / "bundle"
    options = ["--image-size", "48x64", "--num-frames", "6", "--num-attention-heads", "2"]
    exported = CliRunner().invoke(main, ["export", "--model", str(folder), "-o", str(path), *options])
    assert exported.exit_code == 0, exported.output
    bundle = Bundle.open(path)
    notes = (
        "an extension that no published evaluation covers: clips are 6 frames of 48x64, the checkpoint's are 4 frames "
        "of 32; its positions are interpolated",
        "num_attention_heads is 2, as asked for; config.json says 4",
    )
    assert bundle.notes[:2] == notes
    assert all(exported.stderr.count(f"note: {note}\n") == 1 for note in notes)
    assert (bundle.spec.resize, bundle.spec.crop, bundle.spec.num_frames) == (ShortestEdge(60), (48, 64), 6)
    checkpoint = changed(folder, image_size=(48, 64), num_frames=6, num_attention_heads=2)
    with load(path) as model:
        batch = model.prepare(model.read(video))
        assert batch.shape == (1, 6, 3, 48, 64)
        with torch.inference_mode():
            expected = checkpoint.model(torch.from_numpy(batch)).numpy()
        assert abs(model.logits(batch) - expected).max() <= 1e-4


def test_a_dry_run_says_what_is_unusual(tmp_path: Path) -> None:
    folder = small(tmp_path / "m")
    result = CliRunner().invoke(main, ["export", "--model", str(folder), "-o", str(tmp_path / "b"), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "note: config.json gives this small VideoMAE 16 attention heads" in result.stderr
    assert not (tmp_path / "b").exists()


def baseline(bundle: Bundle, checkpoint: Path, folder: Path) -> Any:
    """What `tubelet bench --against torch` would run beside the bundle."""
    batch = torch.randn(
        1, *map(int, bundle.graphs[0].inputs[0].shape[1:]), generator=torch.Generator().manual_seed(6)
    ).numpy()
    np.save(folder / "inputs.npy", batch)
    return load_baseline(
        {
            "engine": "torch-sdpa",
            "precision": "fp32",
            "batch": 1,
            "threads": 1,
            "bundle": str(bundle.path),
            "inputs": str(folder / "inputs.npy"),
            "video": None,
            "model": str(checkpoint),
        }
    ), batch


def test_a_baseline_in_torch_is_of_the_bundle_s_size_and_heads(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path / "m", "videomae")
    options = {"image_size": (48, 48), "num_frames": 6, "num_attention_heads": 2, "positions": "interpolated"}
    bundle, _ = export_bundle(changed(folder, **options), tmp_path / "bundle")
    assert Bundle.open(bundle.path).overrides == options
    loaded, batch = baseline(Bundle.open(bundle.path), folder, tmp_path)
    with load(bundle.path) as model:
        assert abs(loaded.run() - model.logits(batch)).max() <= 1e-4


@pytest.mark.parametrize("value", ["", "0", "-16", "48x", "x48", "48x48x48", "4 8", "48,64", "٤٨", "1e2"])
def test_image_sizes_that_are_none(value: str) -> None:
    result = CliRunner().invoke(main, ["export", "--model", "m", "--image-size", value])
    assert result.exit_code == 2
    assert f"{value!r} is neither a number of pixels nor HEIGHTxWIDTH, such as 288 or 288x512" in result.stderr


def test_overrides_are_none_unless_given() -> None:
    assert Overrides() == AS_PUBLISHED
    assert AS_PUBLISHED.to_json() == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_frames": "8"}, 'overrides: num_frames must be int | null, got "8"'),
        ({"image_size": [8]}, "overrides: image_size must be array of length 2, got an array of 1"),
        ({"positions": "guessed"}, "overrides: positions must be one of recomputed, interpolated, got "),
        ({"depth": 3}, "overrides: depth is unknown"),
    ],
)
def test_overrides_that_no_export_recorded(values: dict[str, object], message: str) -> None:
    with pytest.raises(BundleError) as error:
        Overrides.from_json(values)
    assert error.value.message.startswith(message)
