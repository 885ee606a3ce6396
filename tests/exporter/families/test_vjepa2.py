"""V-JEPA 2 against transformers: every output, its processor, its files, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
import transformers
from checkpoints import TINY, build, hub_config, seeded_weights, tiny_config, write_checkpoint
from oracle import oracle as library
from published_configs import noise
from torch import Tensor
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2RopeAttention
from transformers_models import LIMIT, clips, seeded

from tubelet.exporter.checkpoint.load import Checkpoint, load_checkpoint
from tubelet.exporter.checkpoint.overrides import Overrides
from tubelet.exporter.checkpoint.processor import spec_from_hub
from tubelet.exporter.checkpoint.processor_class import choose_arithmetic
from tubelet.exporter.export import export_bundle
from tubelet.exporter.families.registry import family_named
from tubelet.exporter.families.vjepa2 import VJEPA2ForVideoClassification
from tubelet.exporter.families.vjepa2_config import VJEPA2Config
from tubelet.exporter.families.vjepa2_encoder import VJEPA2Model, VJEPA2Positions
from tubelet.exporter.graph.tasks import exported_model
from tubelet.exporter.options import ExportOptions
from tubelet.exporter.plan import clip_spec
from tubelet.preprocess.errors import CheckpointError
from tubelet.preprocess.frames import Frames
from tubelet.preprocess.prepare import prepare
from tubelet.preprocess.spec import Evaluation, Sampling, ShortestEdge
from tubelet.runtime.bundle.bundle import Task
from tubelet.runtime.load import load

VARIANTS: list[dict[str, Any]] = [
    {},
    {"num_frames": 5},  # of which the last is left over
    {"num_frames": 2},  # one slice of time
    {"num_frames": 12},
    {"image_size": (37, 37)},  # tubelets leave rows and columns over
    {"num_channels": 1},
    {"hidden_size": 32, "num_attention_heads": 4},  # heads of 8 channels: 2 for each axis, and 2 that stay
    {"hidden_size": 34, "num_attention_heads": 2},  # of 17: 4 for each, and 5
    {"hidden_size": 21, "num_attention_heads": 3},  # of 7: 2 for each, and 1
    {"hidden_size": 20, "num_attention_heads": 4},  # of 5: none of them turned
    {"hidden_size": 128, "num_attention_heads": 2},  # of 64, as published: 20 for each, and 4
    {"hidden_size": 160, "num_attention_heads": 2},  # of 80, as the ViT-H: 26 for each, and 2
    {"num_hidden_layers": 1},
    {"num_hidden_layers": 4},
    {"intermediate_size": 100},
    {"tubelet_size": 4},
    {"tubelet_size": 1, "patch_size": 16},
    {"num_pooler_layers": 1},
    {"num_pooler_layers": 5},
    {"num_labels": 174},
    {"qkv_bias": False},
    {"layer_norm_eps": 1e-3},
    {"hidden_act": "relu"},
    {"hidden_act": "gelu_fast"},
    {"attention_probs_dropout_prob": 0.5, "attention_dropout": 0.5},  # which must not act in eval mode
]
TASKS: tuple[Task, ...] = ("video-classification", "feature-extraction")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("changes", VARIANTS, ids=lambda changes: ",".join(changes) or "tiny")
@torch.inference_mode()
def test_every_output_equals_that_of_transformers(task: Task, changes: dict[str, Any]) -> None:
    ours, theirs = seeded("vjepa2", task, changes)
    pixel_values = clips(ours.config, batch=3)
    skipped = {"skip_predictor": True} if task == "feature-extraction" else {}
    expected = theirs(pixel_values, **skipped, output_hidden_states=True, output_attentions=True)
    found = ours.outputs(pixel_values)
    primary = ours.output_names[0]
    names = {
        primary: expected[primary],
        **{f"hidden_states.{i}": state for i, state in enumerate(expected.hidden_states)},
        **{f"attentions.{i}": weights for i, weights in enumerate(expected.attentions)},
    }
    assert names.keys() == {name for name in found if not name.startswith("pooler_")}
    for name, value in names.items():
        assert found[name].shape == value.shape
        assert (found[name] - value).abs().max() <= LIMIT, name
    assert found[primary].abs().max() > 0.1
    assert (ours(pixel_values) - expected[primary]).abs().max() <= LIMIT
    ours.fold()
    for name, value in ours.outputs(pixel_values).items():
        assert (value - found[name]).abs().max() <= LIMIT, name


@torch.inference_mode()
def test_attentions_of_the_pooler_are_those_of_its_layers() -> None:
    ours, theirs = seeded("vjepa2", "video-classification", {})
    kept: list[Tensor] = []
    layers = [*(layer.self_attn for layer in theirs.pooler.self_attention_layers)]
    for attention in (*layers, theirs.pooler.cross_attention_layer.cross_attn):
        attention.register_forward_hook(lambda _module, _given, answer: kept.append(answer[1]))
    pixel_values = clips(ours.config, batch=2)
    theirs(pixel_values)
    found = ours.outputs(pixel_values)
    assert [name for name in found if name.startswith("pooler_")] == list(ours.attention_names[2:])
    assert [tuple(weights.shape) for weights in kept] == [(2, 2, 32, 32), (2, 2, 32, 32), (2, 2, 1, 32)]
    for name, weights in zip(ours.attention_names[2:], kept, strict=True):
        assert (found[name] - weights).abs().max() <= LIMIT


@torch.inference_mode()
def test_every_weight_shows_in_the_logits() -> None:
    """Or parity could not see one that is not used. The keys' biases softmax cancels, but where positions turn them."""
    config = tiny_config("vjepa2")
    model = build(config).eval()
    weights, other = seeded_weights(config), seeded_weights(config, seed=7)
    model.load_state_dict(weights)
    pixel_values = clips(config, batch=1)
    before = model(pixel_values)
    for name, parameter in model.named_parameters():
        parameter.copy_(other[name])
        change = (model(pixel_values) - before).abs().max()
        assert (change < 1e-5) if name.endswith("k_proj.bias") else (change > 1e-5), name
        parameter.copy_(weights[name])


def test_gradients_equal_those_of_transformers() -> None:
    ours, theirs = seeded("vjepa2", "video-classification", {})
    pixel_values, targets = clips(ours.config), torch.tensor([1, 4])
    torch.autograd.backward(F.cross_entropy(ours(pixel_values), targets))
    torch.autograd.backward(F.cross_entropy(theirs(pixel_values).logits, targets))
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, atol=LIMIT, rtol=1e-4, msg=name)


# --- Positions ---


def test_positions_are_bit_identical_to_the_reference() -> None:
    for changes in ({}, {"hidden_size": 128}, {"hidden_size": 34}, {"num_frames": 10, "image_size": (48, 48)}):
        config = tiny_config("vjepa2", **changes)
        assert isinstance(config, VJEPA2Config)
        theirs = VJEPA2RopeAttention(
            transformers.VJEPA2Config(**hub_config(config)), config.hidden_size, config.num_attention_heads
        )
        tokens = torch.randn(2, config.grid.tokens, config.hidden_size, generator=torch.Generator().manual_seed(0))
        heads = tokens.unflatten(-1, (config.num_attention_heads, -1)).transpose(1, 2)  # (B, N, D) -> (B, h, N, D / h)
        expected = theirs.apply_rotary_embeddings(heads, theirs.get_position_ids(tokens))
        positions = VJEPA2Positions(config)
        found = positions(tokens)
        assert torch.equal(found, expected.transpose(1, 2).flatten(2))
        if config.hidden_size // config.num_attention_heads % 2 == 0:
            order, halved = positions.halved()
            assert torch.equal(halved(tokens[..., order]), found[..., order])


@torch.inference_mode()
def test_heads_of_an_odd_width_are_not_parted_in_halves() -> None:
    config = tiny_config("vjepa2", hidden_size=34)
    model = build(config).eval()
    pixel_values = clips(config, batch=2)
    expected = model(pixel_values)
    model.fold()
    assert torch.equal(model(pixel_values), expected)


@torch.inference_mode()
def test_another_size_is_numbered_by_its_own_rows_where_positions_are_recomputed(tmp_path: Path) -> None:
    """As in transformers with the crop_size of the config set, and not with clips that differ from it."""
    folder = write_checkpoint(tmp_path / "vjepa2", "vjepa2")
    larger = opened(folder, overrides=Overrides(image_size=(48, 48), positions="recomputed"))
    config = transformers.VJEPA2Config(**json.loads((folder / "config.json").read_text()) | {"crop_size": 48})
    theirs: Any = transformers.VJEPA2ForVideoClassification.from_pretrained(folder, config=config).eval()
    pixel_values = clips(larger.config)
    assert (larger.model(pixel_values) - theirs(pixel_values).logits).abs().max() <= LIMIT


@torch.inference_mode()
def test_at_another_size_the_outermost_keep_their_places(tmp_path: Path) -> None:
    native = opened(write_checkpoint(tmp_path / "vjepa2", "vjepa2"))
    larger = opened(tmp_path / "vjepa2", overrides=Overrides(image_size=(48, 72)))
    name = "encoding.vjepa2.encoder.layer.1.attention.positions"
    places: list[Any] = [one.model.get_submodule(name) for one in (native, larger)]
    tables = [place.sines.reshape(*one.config.grid, -1) for place, one in zip(places, (native, larger), strict=True)]
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        torch.testing.assert_close(tables[1][:, row, column], tables[0][:, row, column], atol=1e-6, rtol=0)
    middle = tables[1][0, 0, :, 8].asin()  # the first channel of a column, whose angle is its number at first
    torch.testing.assert_close(middle[:3], -torch.arange(3) * 3 / 8, atol=1e-5, rtol=0)
    assert larger.notes == (
        "an extension that no published evaluation covers: clips are 4 frames of 48x72, the checkpoint's are 4 frames "
        "of 32; its positions are interpolated",
    )


@torch.inference_mode()
def test_frames_are_counted_however_many_there_are(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "vjepa2", "vjepa2")
    longer = opened(folder, overrides=Overrides(num_frames=10))
    theirs: Any = transformers.VJEPA2ForVideoClassification.from_pretrained(folder).eval()
    pixel_values = clips(longer.config)
    assert (longer.model(pixel_values) - theirs(pixel_values).logits).abs().max() <= LIMIT
    assert longer.notes == (
        "clips are 10 frames of 32, the checkpoint's are 4 frames of 32; their positions in time are counted on",
    )


# --- Files ---


def opened(folder: Path, **options: Any) -> Checkpoint:
    return load_checkpoint(str(folder), report=options.pop("report", lambda _: None), **options)


def test_the_default_config_is_that_of_transformers() -> None:
    theirs = {**transformers.VJEPA2Config().to_dict(), "id2label": {i: str(i) for i in range(400)}}
    assert VJEPA2Config.from_hub(theirs) == VJEPA2Config()


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({"frames_per_clip": 16, "num_labels": 174}, 375_485_998),
        (
            {"hidden_size": 1408, "num_hidden_layers": 40, "num_attention_heads": 22, "mlp_ratio": 48 / 11}
            | {"crop_size": 384, "num_labels": 174},
            1_128_049_454,
        ),
    ],
)
def test_published_classifiers_have_their_number_of_parameters(settings: dict[str, Any], parameters: int) -> None:
    """That of the whole file: with the predictor, which is not here."""
    with torch.device("meta"):
        ours = VJEPA2ForVideoClassification(VJEPA2Config.from_hub(settings))
        theirs = transformers.VJEPA2ForVideoClassification(transformers.VJEPA2Config(**settings))
    shapes = {name: value.shape for name, value in theirs.state_dict().items() if "predictor" not in name}
    assert {name: value.shape for name, value in ours.state_dict().items()} == shapes
    predictor = sum(parameter.numel() for parameter in theirs.vjepa2.predictor.parameters())
    assert sum(parameter.numel() for parameter in ours.parameters()) + predictor == parameters


@pytest.mark.parametrize("task", TASKS)
@torch.inference_mode()
def test_what_transformers_saves_is_read_without_the_predictor(task: Task, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.VJEPA2Config(
        **hub_config(tiny_config("vjepa2")), pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1
    )
    kind = transformers.VJEPA2ForVideoClassification if task == "video-classification" else transformers.VJEPA2Model
    theirs: Any = kind(config).eval()
    theirs.save_pretrained(tmp_path)
    (tmp_path / "video_preprocessor_config.json").write_text('{"crop_size": 32}')
    said: list[str] = []
    checkpoint = opened(tmp_path, report=said.append)
    assert checkpoint.task == task
    predictor = theirs.vjepa2.predictor if task == "video-classification" else theirs.predictor
    count = sum(parameter.numel() for parameter in predictor.parameters())
    assert said[-1] == (
        f"{len(predictor.state_dict())} weights of {count:,} values are left out: the predictor that it was pretrained "
        "with, which no task needs"
    )
    pixel_values = clips(checkpoint.config)
    expected = theirs(pixel_values)
    found = checkpoint.model(pixel_values)
    assert (found - (expected.logits if "logits" in expected else expected.last_hidden_state)).abs().max() <= LIMIT


def test_a_classifier_gives_features_without_its_pooler(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "vjepa2", "vjepa2")
    said: list[str] = []
    assert isinstance(opened(folder, task="feature-extraction", report=said.append).model, VJEPA2Model)
    assert re.match(r"\d+ weights of the checkpoint's head have no part in features: classifier", said[-1])
    bare = write_checkpoint(tmp_path / "bare", "vjepa2", task="feature-extraction")
    with pytest.raises(CheckpointError, match="vjepa2: this is a bare encoder without a classifier"):
        opened(bare, task="video-classification")


LATER: list[tuple[str, Any]] = [
    ("use_rope_interleave", True),
    ("use_modality_embeddings", True),
    ("interpolate_rope", True),
    ("hierarchical_layers", [2, 5]),
    ("teacher_embed_dim", 1664),
    ("num_distillation_outputs", 4),
]


@pytest.mark.parametrize(("key", "value"), LATER)
def test_a_config_of_2_1_is_not_taken_for_one_of_2_0(key: str, value: Any) -> None:
    plain = hub_config(tiny_config("vjepa2"))
    with pytest.raises(CheckpointError, match=rf"config.json has {key} .*: this is V-JEPA 2.1 or later"):
        VJEPA2Config.from_hub(plain | {key: value})


def test_a_later_transformers_may_write_that_none_of_2_1_is_meant() -> None:
    plain = hub_config(tiny_config("vjepa2"))
    unset = {"use_rope_interleave": False, "hierarchical_layers": None, "num_distillation_outputs": 1}
    assert VJEPA2Config.from_hub(plain | unset) == VJEPA2Config.from_hub(plain)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_theta": 5000}, "config.json has rope_theta, which V-JEPA 2 of transformers 5 does not"),
        ({"num_frames": 16}, "config.json has num_frames, which V-JEPA 2"),  # it is frames_per_clip
        ({"image_size": 48}, "config.json says crop_size 32 and image_size 48"),
        ({"crop_size": "32"}, "crop_size must be 2 whole numbers above 0, at most 1000000, got '32'"),
        ({"frames_per_clip": 0}, "frames_per_clip must be a whole number above 0, at most 1000000, got 0"),
        ({"in_chans": True}, "in_chans must be a whole number above 0, at most 1000000, got True"),
        ({"mlp_ratio": "4"}, "hidden_size and mlp_ratio must be numbers above 0, got 24 and '4'"),
        ({"mlp_ratio": float("nan")}, "hidden_size and mlp_ratio must be numbers above 0, got 24 and nan"),
        ({"frames_per_clip": 100_000}, "clips of frames_per_clip 100000 and crop_size 32x32 are .* correct frames_per"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        VJEPA2Config.from_hub(hub_config(tiny_config("vjepa2")) | changes)


def test_what_earlier_versions_of_transformers_wrote_is_read() -> None:
    plain = hub_config(tiny_config("vjepa2"))
    written = {"image_size": 32, "torch_dtype": "float32", "pred_mlp_ratio": 4.0, "drop_path_rate": 0.1}
    assert VJEPA2Config.from_hub(plain | written) == VJEPA2Config.from_hub(plain)


# --- Clips ---

PROCESSORS: list[dict[str, Any]] = [
    {},
    {"crop_size": 32},
    {"crop_size": {"height": 40, "width": 40}},
    {"crop_size": 48, "size": {"shortest_edge": 200}},  # which the class does not read
    {"crop_size": 40, "image_mean": [0.1, 0.2, 0.3], "do_rescale": False},
    {"crop_size": 32, "do_normalize": False, "resample": 3},
]


@pytest.mark.parametrize("config", PROCESSORS)
@pytest.mark.parametrize("named", [True, False])
def test_clips_are_those_of_its_processor_to_the_bit(config: dict[str, Any], named: bool) -> None:
    family = family_named("vjepa2")
    file = {**config, **({"video_processor_type": "VJEPA2VideoProcessor"} if named else {})}
    choice = choose_arithmetic(file, family=family, transformers_version=None)
    assert choice.arithmetic == "torchvision"
    assert choice.note == "pixels are computed as torchvision does, as VJEPA2VideoProcessor does"
    evaluation = family.evaluation(VJEPA2Config())
    spec = spec_from_hub(file, family=family, num_frames=2, evaluation=evaluation, arithmetic=choice.arithmetic)
    for height, width in ((60, 47), (53, 90)):
        pixels = noise(height, width)
        expected = library("torchvision").ask("process", "VJEPA2VideoProcessor", config, pixels)
        np.testing.assert_array_equal(prepare(Frames.from_array(pixels), spec), expected)


def test_there_is_no_image_processor_of_it() -> None:
    with pytest.raises(CheckpointError, match=r"is for 'VJEPA2ImageProcessor', .*supported are .*VJEPA2VideoProcessor"):
        choose_arithmetic(
            {"image_processor_type": "VJEPA2ImageProcessor"}, family=family_named("vjepa2"), transformers_version=None
        )


@pytest.mark.parametrize(("frames", "stride"), [(16, 4), (32, 2), (64, 2)])
def test_the_published_evaluation(frames: int, stride: int) -> None:
    """configs/inference of facebookresearch/vjepa2: 16 x 4 and 64 x 2 on Something-Something v2, 32 x 2 on Diving48."""
    assert family_named("vjepa2").evaluation(VJEPA2Config(num_frames=frames)) == Evaluation(
        Sampling("parts", stride), crop_rounding="step", averages="scores", crops_of="fitted"
    )


# --- Bundles ---


@pytest.mark.parametrize("task", TASKS)
def test_it_is_exported_proven_and_answers(task: Task, video: Path, tmp_path: Path) -> None:
    checkpoint = opened(write_checkpoint(tmp_path / "vjepa2", "vjepa2", task=task))
    assert clip_spec(checkpoint, "pixel_values").resize == ShortestEdge(36)
    bundle, report = export_bundle(checkpoint, tmp_path / "bundle")
    assert report.passed
    assert {row.batch for row in report.batches} == {1, 2, 3, 8}
    with load(bundle.path, task=None) as model:
        batch = model.prepare(model.read(video))
        (found,) = model.run(batch).values()
        with torch.inference_mode():
            expected = checkpoint.model(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


# --- Heads of the pooler ---


def test_a_pooler_of_other_heads_than_it_was_trained_with_is_named() -> None:
    giant = VJEPA2Config(**TINY["vjepa2"] | {"hidden_size": 352, "num_attention_heads": 22})
    note = family_named("vjepa2").note(giant, "video-classification")
    assert note is not None
    assert note.endswith("another function of the same weights: for one of theirs, --pooler-heads 16 computes it")
    assert family_named("vjepa2").note(giant, "feature-extraction") is None
    assert family_named("vjepa2").note(VJEPA2Config(), "video-classification") is None


@torch.inference_mode()
def test_a_pooler_may_have_heads_of_its_own(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "vjepa2", "vjepa2")
    checkpoint = opened(folder, overrides=Overrides(num_pooler_heads=3))
    theirs: Any = transformers.VJEPA2ForVideoClassification.from_pretrained(folder).eval()
    attentions = [layer.self_attn for layer in theirs.pooler.self_attention_layers]
    for attention in (*attentions, theirs.pooler.cross_attention_layer.cross_attn):
        attention.num_heads, attention.head_dim, attention.scale = 3, 8, 8**-0.5
    pixel_values = clips(checkpoint.config)
    assert (checkpoint.model(pixel_values) - theirs(pixel_values).logits).abs().max() <= LIMIT
    assert (checkpoint.model(pixel_values) - opened(folder).model(pixel_values)).abs().max() > 1e-3
    assert checkpoint.notes == ("the pooler has 3 heads, as asked for; transformers gives it the encoder's 2",)


def test_heads_that_no_pooler_can_have_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "vjepa2", "vjepa2")
    with pytest.raises(CheckpointError, match="hidden_size must be a multiple of the pooler's heads, got 24 and 5"):
        opened(folder, overrides=Overrides(num_pooler_heads=5))
    with pytest.raises(CheckpointError, match="a pooler is part of a classifier, and this is an export for feature"):
        opened(folder, overrides=Overrides(num_pooler_heads=3), task="feature-extraction")
    with pytest.raises(CheckpointError, match="ViViT has no pooler with a query"):
        opened(write_checkpoint(tmp_path / "vivit", "vivit"), overrides=Overrides(num_pooler_heads=2))


# --- Joined clips ---


@torch.inference_mode()
def test_the_pooler_reads_the_tokens_of_joined_clips_together(tmp_path: Path) -> None:
    """The authors' evaluation, of their code's steps in transformers' modules: encode each clip, join the tokens."""
    folder = write_checkpoint(tmp_path / "vjepa2", "vjepa2")
    joined = opened(folder, overrides=Overrides(joined_clips=3))
    theirs: Any = transformers.VJEPA2ForVideoClassification.from_pretrained(folder).eval()
    pixel_values = clips(joined.config)
    assert pixel_values.shape[:2] == (2, 12)
    tokens = [theirs.vjepa2.get_vision_features(clip) for clip in pixel_values.chunk(3, dim=1)]
    expected = theirs.classifier(theirs.pooler(torch.cat(tokens, dim=1)))
    assert (joined.model(pixel_values) - expected).abs().max() <= LIMIT
    assert joined.notes == (
        "a clip is 3 clips of 4 frames, whose tokens the pooler reads together, as in the published evaluation",
    )
    found = joined.model.outputs(pixel_values)
    assert found["hidden_states.1"].shape == (2, 3 * 32, 24)


def test_a_bundle_of_joined_clips_is_proven_and_takes_its_frames_from_parts(video: Path, tmp_path: Path) -> None:
    checkpoint = opened(write_checkpoint(tmp_path / "vjepa2", "vjepa2"), overrides=Overrides(joined_clips=2))
    bundle, report = export_bundle(checkpoint, tmp_path / "bundle")
    assert report.passed
    assert bundle.spec.evaluation.sampling == Sampling("parts", 4, joined=2)
    assert bundle.grid.tokens == 2 * 32
    operators = {node.op_type for node in onnx.load(bundle.path / "model.onnx").graph.node}
    assert "Shape" not in operators
    with load(bundle.path) as model:
        read = model.read(video)
        assert read.indices.tolist() == [[0, 7, 14, 14, 14, 21, 28, 28]]
        (best, *_) = model.classify(video)
        assert 0 < best[1] <= 1


def test_what_cannot_be_joined_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "vjepa2", "vjepa2")
    with pytest.raises(CheckpointError, match="attentions of joined clips and of several layers are no map"):
        exported_model(opened(folder, overrides=Overrides(joined_clips=2)).model, ("attentions",))
    with pytest.raises(CheckpointError, match="a pooler is part of a classifier"):
        opened(folder, overrides=Overrides(joined_clips=2), task="feature-extraction")
    with pytest.raises(CheckpointError, match="ViViT has no pooler with a query\n  fix: leave --joined-clips away"):
        opened(write_checkpoint(tmp_path / "vivit", "vivit"), overrides=Overrides(joined_clips=2))


# --- Heads that the authors publish apart ---


def as_the_authors_save(weights: dict[str, Tensor]) -> dict[str, Any]:
    """The weights of our head in the names of their AttentivePooler and AttentiveClassifier, behind DDP's."""
    theirs: dict[str, Tensor] = {}
    for name, value in weights.items():
        name = name.replace("classifier.", "linear.").replace("cross_attention_layer.cross_attn", "block.xattn")
        name = name.replace("cross_attention_layer.", "block.").replace("self_attention_layers.", "blocks.")
        name = (
            name.replace("layer_norm", "norm").replace("self_attn.out_proj", "attn.proj").replace("self_attn", "attn")
        )
        theirs[f"module.{name}".replace("block.", "cross_attention_block.").replace("_proj.", ".")] = value
    for fused in ("qkv", "kv"):
        for name in [name for name in theirs if f".{fused[-2]}." in name]:
            places = [name.replace(f".{fused[-2]}.", f".{part}.") for part in fused]
            if all(place in theirs for place in places) and (len(fused) == 3) == ("xattn" not in name):
                joined = torch.cat([theirs.pop(place) for place in places])
                theirs[name.replace(f".{fused[-2]}.", f".{fused}.")] = joined
    return {"classifiers": [theirs], "opt": [{"lr": 1e-3}], "scaler": None, "epoch": 20, "batch_size": 4}


@pytest.mark.parametrize("layers", [(1,), (0, 1)])
@torch.inference_mode()
def test_a_probe_of_the_authors_reads_the_layers_of_its_training(layers: tuple[int, ...], tmp_path: Path) -> None:
    """As their code has it: each of the layers through the last norm, their tokens behind one another."""
    folder = write_checkpoint(tmp_path / "vjepa2", "vjepa2", task="feature-extraction")
    classifier = write_checkpoint(tmp_path / "classifier", "vjepa2", num_labels=48, seed=5)
    head = {name: value for name, value in opened(classifier).model.state_dict().items() if "vjepa2" not in name}
    saved = as_the_authors_save(head)
    assert {name.split(".")[-2] for name in saved["classifiers"][0]} >= {"qkv", "kv", "linear", "q", "proj"}
    torch.save(saved, tmp_path / "probe.pt")
    overrides = Overrides(probe=str(tmp_path / "probe.pt"), probe_layers=layers)
    probed = opened(folder, overrides=overrides)
    assert (len(probed.labels), type(probed.model).__name__) == (48, "VJEPA2ForVideoClassification")
    encoder: Any = transformers.VJEPA2Model.from_pretrained(folder).eval()
    theirs: Any = transformers.VJEPA2ForVideoClassification.from_pretrained(classifier).eval()
    pixel_values = clips(probed.config)
    states = encoder(pixel_values, skip_predictor=True, output_hidden_states=True).hidden_states
    tokens = torch.cat([encoder.encoder.layernorm(states[layer + 1]) for layer in layers], dim=1)
    expected = theirs.classifier(theirs.pooler(tokens))
    assert (probed.model(pixel_values) - expected).abs().max() <= LIMIT
    assert (probed.model.outputs(pixel_values)["logits"] - expected).abs().max() <= LIMIT
    assert probed.notes == (
        ()
        if layers == (1,)
        else ("the pooler reads the tokens of layers 0, 1, counted from 0; that of transformers reads the last alone",)
    )
    assert export_bundle(probed, tmp_path / "bundle")[1].passed


def test_a_probe_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "vjepa2", "vjepa2")
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="which layers of the encoder a probe reads shows in none of its weights"):
        opened(folder, overrides=Overrides(probe=str(tmp_path / "other.pt")))
    with pytest.raises(CheckpointError, match=r"other.pt must hold the weights of heads in a list under classifiers"):
        opened(folder, overrides=Overrides(probe=str(tmp_path / "other.pt"), probe_layers=(1,)))
    vivit = write_checkpoint(tmp_path / "vivit", "vivit")
    with pytest.raises(CheckpointError, match="no heads of ViViT are published apart"):
        opened(vivit, overrides=Overrides(probe=str(tmp_path / "other.pt"), probe_layers=(1,)))
    with pytest.raises(CheckpointError, match="probe_layers must be below num_hidden_layers, which is 2, got 1, 7"):
        opened(folder, overrides=Overrides(probe_layers=(1, 7)))


# --- Explained ---


def test_a_classification_is_explained_through_the_pooler(video: Path, tmp_path: Path) -> None:
    """Against matrices in float64: what the query attends to, through the layers of the pooler and the encoder."""
    checkpoint = opened(write_checkpoint(tmp_path / "vjepa2", "vjepa2"))
    bundle, _ = export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(extras=("attentions",)))
    assert bundle.readout == "attentive"
    with load(bundle.path) as model:
        outputs = model.run(model.prepare(model.read(video)))
        found = {method: model.explain(video, method=method).heat for method in ("rollout", "last")}
    *layers, query = [value[0].astype(np.float64).mean(axis=0) for name, value in outputs.items() if "attent" in name]
    assert len(layers) == 4
    weights = query[0]
    np.testing.assert_allclose(found["last"].ravel(), weights, atol=1e-6)
    for layer in reversed(layers):
        mixed = layer + np.eye(len(layer))
        weights = weights @ (mixed / mixed.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found["rollout"].ravel(), weights, atol=1e-6)
    assert found["rollout"].sum() == pytest.approx(1, abs=1e-5)
