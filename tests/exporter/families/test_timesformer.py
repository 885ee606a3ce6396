"""TimeSformer against transformers: the same config, the same weights, every output; and the graph made of it."""

from collections import Counter
from pathlib import Path
from typing import Any

import checkpoints
import onnx
import pytest
import torch
from torch import Tensor
from transformers_models import LIMIT, clips, seeded

from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.exporter.export import export_bundle
from tubelet.exporter.families.attention import attend_with, sdpa_attention
from tubelet.exporter.families.positions import interpolate_positions
from tubelet.exporter.families.timesformer import FAMILY, TimesformerForVideoClassification
from tubelet.exporter.families.timesformer_config import ATTENTION_TYPES, TimesformerConfig
from tubelet.exporter.graph.cost import attention_bytes, matrix_products
from tubelet.exporter.graph.tasks import exported_model
from tubelet.exporter.options import ExportOptions
from tubelet.preprocess.errors import CheckpointError
from tubelet.runtime.bundle.bundle import Task
from tubelet.runtime.tokens import Grid

CHANGES: list[dict[str, Any]] = [
    {},
    {"num_frames": 1},
    {"num_frames": 5},
    {"image_size": (37, 37)},  # patches leave some rows and columns over
    {"patch_size": (16, 16)},
    {"patch_size": (5, 5)},
    {"num_channels": 1},
    {"hidden_size": 48, "num_attention_heads": 3},
    {"num_attention_heads": 32},  # heads of width 1
    {"num_hidden_layers": 1},
    {"num_hidden_layers": 5},
    {"num_labels": 174},
    {"qkv_bias": False},
    {"layer_norm_eps": 1e-3},
    {"hidden_act": "relu"},
    {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5},  # which must not act in eval mode
]
TASKS: tuple[Task, ...] = ("video-classification", "feature-extraction")


def expected_outputs(theirs: Any, pixel_values: Tensor, config: TimesformerConfig) -> dict[str, Tensor]:
    """What transformers gives, by our names; of "space_only" with the original's mean over frames, which it lacks."""
    found = theirs(pixel_values, output_hidden_states=True, output_attentions=True)
    by_clip = (len(pixel_values), config.num_frames)  # (B * T, ...) -> (B, T, ...)
    states, attentions = list(found.hidden_states), list(found.attentions)
    if config.attention_type != "joint_space_time":
        attentions = [weights.unflatten(0, by_clip) for weights in attentions]
    name = "logits" if "logits" in found else "last_hidden_state"
    primary = found[name]
    if config.attention_type == "space_only":
        states = [state.unflatten(0, by_clip) for state in states]
        primary = getattr(theirs, "timesformer", theirs).layernorm(states[-1].mean(1))
        if name == "logits":
            primary = theirs.classifier(primary[:, 0])
    return {
        name: primary,
        **{f"hidden_states.{i}": state for i, state in enumerate(states)},
        **{f"attentions.{i}": weights for i, weights in enumerate(attentions)},
    }


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ATTENTION_TYPES)
@pytest.mark.parametrize("changes", CHANGES, ids=str)
@torch.inference_mode()
def test_every_output_equals_that_of_transformers(changes: dict[str, Any], kind: str, task: Task) -> None:
    ours, theirs = seeded("timesformer", task, {**changes, "attention_type": kind})
    pixel_values = clips(ours.config, batch=3)
    assert isinstance(ours.config, TimesformerConfig)
    expected, found = expected_outputs(theirs, pixel_values, ours.config), ours.outputs(pixel_values)
    assert set(expected) == {name for name in found if not name.startswith("temporal_attentions")}
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert (found[name] - value).abs().max() <= LIMIT, name
    primary = ours.output_names[0]
    assert found[primary].abs().max() > 0.1
    attend_with(ours, sdpa_attention)
    assert (ours(pixel_values) - found[primary]).abs().max() <= LIMIT
    ours.fold()
    assert (ours(pixel_values) - found[primary]).abs().max() <= LIMIT


@torch.inference_mode()
def test_attention_over_time_is_what_transformers_computes_and_keeps_to_itself() -> None:
    ours, theirs = seeded("timesformer", "video-classification", {})
    kept: list[Tensor] = []
    for layer in theirs.timesformer.encoder.layer:
        layer.temporal_attention.attention.attn_drop.register_forward_hook(
            lambda _module, _given, found: kept.append(found)
        )
    pixel_values = clips(ours.config, batch=3)
    theirs(pixel_values)
    found = ours.outputs(pixel_values)
    assert len(kept) == 2
    for number, weights in enumerate(kept):  # (B * P, h, T, T)
        assert (found[f"temporal_attentions.{number}"] - weights.unflatten(0, (3, -1))).abs().max() <= LIMIT


@pytest.mark.parametrize("kind", ATTENTION_TYPES)
@torch.inference_mode()
def test_every_weight_shows_in_the_logits(kind: str) -> None:
    """Or parity could not see a weight that is not used; but for the bias of keys, which softmax cancels."""
    config = checkpoints.tiny_config("timesformer", attention_type=kind)
    model = checkpoints.build(config).eval()
    weights, other = checkpoints.seeded_weights(config), checkpoints.seeded_weights(config, seed=7)
    model.load_state_dict(weights)
    pixel_values = clips(config, batch=1)
    before = model(pixel_values)
    for name, parameter in model.named_parameters():
        parameter.copy_(other[name])
        assert (model(pixel_values) - before).abs().max() > 1e-4, name
        parameter.copy_(weights[name])


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({}, 121_566_352),
        ({"num_labels": 600}, 121_720_152),
        ({"num_labels": 174}, 121_392_558),
        ({"num_frames": 16, "image_size": (448, 448)}, 122_024_080),
        ({"num_frames": 96}, 121_633_936),
        ({"attention_type": "joint_space_time"}, 86_112_400),
        ({"attention_type": "space_only"}, 86_106_256),
    ],
)
def test_published_models_have_their_number_of_parameters(changes: dict[str, Any], parameters: int) -> None:
    with torch.device("meta"):
        model = TimesformerForVideoClassification(TimesformerConfig(**changes))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_a_clip_of_the_base_model_costs_what_the_paper_says_less_what_is_folded() -> None:
    """0.59 TFLOPs for 3 crops: 196 GMACs a clip, of which temporal_dense is 11.1, and 8.5 are of patches that the last
    layer need not update."""
    with torch.device("meta"):
        model = TimesformerForVideoClassification(TimesformerConfig())
    macs = sum(product.macs for product in matrix_products(exported_model(model)))
    assert 170e9 < macs < 178e9


def test_attention_weights_are_counted_in_both_directions() -> None:
    model = checkpoints.build(checkpoints.tiny_config("timesformer"))  # 4 frames of 16 places, 4 heads, 2 layers
    asked = exported_model(model, ("attentions",))
    assert attention_bytes(asked) == 4 * 2 * 4 * (4 * 17**2 + 16 * 4**2)


@pytest.mark.parametrize("kind", ATTENTION_TYPES)
def test_an_export_is_proven_with_one_attention_a_direction_and_no_shapes_of_the_batch(
    kind: str, tmp_path: Path
) -> None:
    folder = checkpoints.write_checkpoint(tmp_path / "checkpoint", "timesformer", attention_type=kind)
    bundle, report = export_bundle(load_checkpoint(str(folder), report=lambda _: None), tmp_path / "bundle")
    assert report.passed
    assert [row.batch for row in report.batches] == [1, 2, 3, 8]
    graph = onnx.load(bundle.path / "model.onnx").graph
    operators = Counter(node.op_type for node in graph.node)
    directions = 2 if kind == "divided_space_time" else 1
    assert operators["MultiHeadAttention"] == directions * 2
    assert operators["MatMul"] == (4 * directions + 2) * 2  # q, k, v and what follows; without temporal_dense
    assert not operators.keys() & {"Shape", "Expand", "Split", "Softmax"}
    assert bundle.token_order == ("slice-by-slice" if kind == "space_only" else "place-by-place")


def test_features_and_attentions_of_an_export(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path / "checkpoint", "timesformer", task="feature-extraction")
    checkpoint = load_checkpoint(str(folder), report=lambda _: None)
    bundle, report = export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(extras=("attentions",)))
    assert report.passed
    shapes = {tensor.name: tensor.clip_shape for tensor in bundle.graphs[0].outputs}
    assert shapes["last_hidden_state"] == (65, 32)
    assert shapes["attentions.1"] == (4, 4, 17, 17)
    assert shapes["temporal_attentions.1"] == (16, 4, 4, 4)


def test_positions_follow_another_size_in_space_and_in_time() -> None:
    native = checkpoints.tiny_config("timesformer")
    config = checkpoints.tiny_config("timesformer", num_frames=6, image_size=(48, 32))
    weights = checkpoints.seeded_weights(native)
    assert FAMILY.resize_stored is not None
    resized = FAMILY.resize_stored(weights, native, config)
    space, time = (f"timesformer.embeddings.{name}_embeddings" for name in ("position", "time"))
    assert torch.equal(resized[space], interpolate_positions(weights[space], Grid(1, 4, 4), Grid(1, 6, 4)))
    assert torch.equal(resized[time], interpolate_positions(weights[time], Grid(4, 1, 1), Grid(6, 1, 1)))
    checkpoints.build(config).load_state_dict(resized)


def test_the_default_config_is_that_of_transformers() -> None:
    import transformers

    expected = {**transformers.TimesformerConfig().to_dict(), "id2label": {i: str(i) for i in range(400)}}
    expected.pop("num_labels", None)
    assert TimesformerConfig.from_hub(expected) == TimesformerConfig()


def test_what_no_timesformer_is() -> None:
    with pytest.raises(CheckpointError, match="attention_type 'sparse' is not supported; supported are divided"):
        TimesformerConfig(attention_type="sparse")
    with pytest.raises(CheckpointError, match=r"a patch of \(16, 16\) .* does not fit in a frame of \(8, 8\)"):
        TimesformerForVideoClassification(TimesformerConfig(image_size=(8, 8)))
    model = checkpoints.build(checkpoints.tiny_config("timesformer"))
    with pytest.raises(ValueError, match=r"pixel_values must be \(B, 4, 3, 32, 32\), got"):
        model(torch.zeros(1, 8, 3, 32, 32))


def test_what_is_said_of_frames_and_of_single_ones() -> None:
    def note(task: Task = "video-classification", **changes: Any) -> str | None:
        return FAMILY.note(TimesformerConfig(**changes), task)

    assert note() is None
    assert note(num_labels=174, num_frames=64) is None
    assert str(note(num_frames=12)).startswith("no published model has 12 frames")
    assert note("feature-extraction", num_frames=12) is None
    assert "averaged over frames" in str(note(attention_type="space_only"))
