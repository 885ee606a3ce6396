"""Our models against transformers: the same config, the same weights, the same logits."""

from typing import Any

import checkpoints
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from transformers.activations import ACT2FN
from transformers.models.videomae import modeling_videomae
from transformers_models import LIMIT, clips, in_memory

from tubelet.exporter.families.attention import Attended, Attention, sdpa_attention
from tubelet.exporter.families.config import ACTIVATIONS
from tubelet.exporter.families.model import Model
from tubelet.exporter.families.videomae import VideoMAEForVideoClassification
from tubelet.exporter.families.videomae_encoder import VideoMAEConfig, sinusoid_table
from tubelet.exporter.families.vivit import VivitConfig, VivitForVideoClassification
from tubelet.preprocess.errors import CheckpointError

FAMILIES = ("vivit", "videomae")

BOTH: list[dict[str, Any]] = [
    {},
    {"image_size": (24, 40)},
    {"image_size": (37, 50)},  # tubelets leave some rows and columns over
    {"num_frames": 5},  # and a frame
    {"num_frames": 12},
    {"num_channels": 1},
    {"hidden_size": 48, "num_attention_heads": 3},
    {"hidden_size": 20, "num_attention_heads": 1, "intermediate_size": 12},
    {"num_attention_heads": 32},  # heads of width 1
    {"num_hidden_layers": 1},
    {"num_hidden_layers": 5},
    {"num_labels": 1},
    {"num_labels": 174},
    {"qkv_bias": False},
    {"layer_norm_eps": 1e-3},
    {"hidden_act": "gelu"},
    {"hidden_act": "gelu_fast"},
    {"hidden_act": "relu"},
    {"hidden_act": "quick_gelu"},
    {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5},  # which must not act in eval mode
]
ONE: dict[str, list[dict[str, Any]]] = {
    "vivit": [
        {"tubelet_size": (1, 16, 16)},
        {"tubelet_size": (4, 8, 16)},
        {"tubelet_size": (3, 5, 7), "image_size": (16, 30)},
    ],
    "videomae": [
        {"use_mean_pooling": False},
        {"use_mean_pooling": False, "qkv_bias": False},
        {"use_mean_pooling": False, "layer_norm_eps": 1e-3},
        {"patch_size": (16, 16), "tubelet_size": 4},
        {"patch_size": (4, 8), "tubelet_size": 1, "image_size": (12, 32)},
        {"hidden_size": 21, "num_attention_heads": 3},  # an odd width: the last sine has no cosine
    ],
}
VARIANTS = [
    pytest.param(family, changes, id=f"{family}-{','.join(f'{k}={v}' for k, v in changes.items()) or 'tiny'}")
    for family in FAMILIES
    for changes in BOTH + ONE[family]
]
# The published models, by what their config.json says, and the number of their parameters (bytes / 4).
PUBLISHED = [
    ("vivit", {}, 88_954_000),
    ("videomae", {"hidden_size": 384, "num_attention_heads": 16, "intermediate_size": 1536}, 22_033_936),
    ("videomae", {}, 86_534_800),
    ("videomae", {"num_labels": 174}, 86_361_006),
    (
        "videomae",
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
        304_270_736,
    ),
    (
        "videomae",
        {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16, "intermediate_size": 5120},
        632_119_440,
    ),
]


def oracle(config: checkpoints.Config) -> Any:
    """transformers' own model of the config, sdpa attention, with the weights it starts with."""
    values = {
        **checkpoints.hub_config(config),
        "num_labels": config.num_labels,
        "attn_implementation": "sdpa",
    }
    model: Any
    if isinstance(config, VivitConfig):
        model = transformers.VivitForVideoClassification(transformers.VivitConfig(**values))
    else:
        model = transformers.VideoMAEForVideoClassification(transformers.VideoMAEConfig(**values))
    return model.eval()


def seeded_pair(config: checkpoints.Config) -> tuple[Model, Any]:
    """Our model and transformers' with the same seeded weights, in eval mode."""
    ours = checkpoints.build(config).eval()
    weights = checkpoints.seeded_weights(config)
    ours.load_state_dict(weights)
    theirs = oracle(config)
    theirs.load_state_dict({in_memory(name): value for name, value in weights.items()})
    return ours, theirs


@pytest.mark.parametrize(("family", "changes"), VARIANTS)
@torch.inference_mode()
def test_logits_equal_those_of_transformers(family: str, changes: dict[str, Any]) -> None:
    config = checkpoints.tiny_config(family, **changes)
    ours, theirs = seeded_pair(config)
    pixel_values = clips(config, batch=3)
    logits = ours(pixel_values)
    assert logits.shape == (3, config.num_labels)
    assert logits.dtype == torch.float32
    assert logits.abs().max() > 0.1
    assert (logits - theirs(pixel_values).logits).abs().max() <= LIMIT


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_every_weight_shows_in_the_logits(family: str) -> None:
    """Or parity could not see a weight that is not used: each, changed alone, changes the logits.

    But for the key's bias of ViViT, which softmax cancels.
    """
    config = checkpoints.tiny_config(family)
    model = checkpoints.build(config).eval()
    weights = checkpoints.seeded_weights(config)
    other = checkpoints.seeded_weights(config, seed=7)
    model.load_state_dict(weights)
    pixel_values = clips(config, batch=1)
    before = model(pixel_values)
    for name, parameter in model.named_parameters():
        parameter.copy_(other[name])
        change = (model(pixel_values) - before).abs().max()
        assert (change < 1e-5) if name.endswith("key.bias") else (change > 1e-4), name
        parameter.copy_(weights[name])


@pytest.mark.parametrize(("family", "changes", "parameters"), PUBLISHED)
def test_published_models_have_their_number_of_parameters(
    family: str, changes: dict[str, Any], parameters: int
) -> None:
    with torch.device("meta"):
        model = checkpoints.build(VivitConfig(**changes) if family == "vivit" else VideoMAEConfig(**changes))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_default_configs_are_those_of_transformers() -> None:
    for ours, theirs in (
        (VivitConfig(), transformers.VivitConfig()),
        (VideoMAEConfig(), transformers.VideoMAEConfig()),
    ):
        expected = {**theirs.to_dict(), "num_labels": 400}
        assert type(ours).from_hub(expected | {"id2label": {i: str(i) for i in range(400)}}) == ours


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_what_transformers_calls_so(name: str) -> None:
    x = torch.linspace(-12, 12, 4001)
    assert (ACTIVATIONS[name](x) - ACT2FN[name](x)).abs().max() <= 2e-6


def test_sinusoid_table_is_bit_identical_to_the_reference() -> None:
    reference: Any = modeling_videomae.get_sinusoid_encoding_table
    for num_tokens, width in ((1568, 384), (16, 32), (7, 21)):
        assert torch.equal(sinusoid_table(num_tokens, width), reference(num_tokens, width))


def test_class_token_is_bit_identical_to_concatenation() -> None:
    config = checkpoints.tiny_config("vivit")
    ours, theirs = seeded_pair(config)
    assert isinstance(ours, VivitForVideoClassification)
    pixel_values = clips(config, batch=3)
    assert torch.equal(ours.vivit.embeddings(pixel_values), theirs.vivit.embeddings(pixel_values))


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_size_does_not_change_a_clip(family: str) -> None:
    config = checkpoints.tiny_config(family)
    ours, _ = seeded_pair(config)
    pixel_values = clips(config, batch=3)
    with torch.inference_mode():
        together = ours(pixel_values)
        alone = torch.cat([ours(clip[None]) for clip in pixel_values])
    torch.testing.assert_close(together, alone, atol=LIMIT, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "shape",
    [
        (4, 3, 32, 32),
        (1, 3, 3, 32, 32),
        (1, 4, 1, 32, 32),
        (1, 4, 3, 32, 16),
        (1, 3, 4, 32, 32),
        (1, 4, 32, 32, 3),
    ],
)
def test_another_shape_is_refused(family: str, shape: tuple[int, ...]) -> None:
    model = checkpoints.build(checkpoints.tiny_config(family))
    with pytest.raises(ValueError, match="pixel_values must be") as caught:
        model(torch.zeros(shape))
    assert str(caught.value) == (f"pixel_values must be (B, 4, 3, 32, 32), got pixel_values.shape = {shape}")


@pytest.mark.parametrize("family", FAMILIES)
def test_attend_can_be_swapped(family: str) -> None:
    """Each layer asks its `attend`; attention written out gives the same logits as the fused kernel."""
    config = checkpoints.tiny_config(family)
    ours, _ = seeded_pair(config)
    calls: list[tuple[tuple[int, ...], int, float]] = []

    def plain(
        query: Tensor, key: Tensor, value: Tensor, *, num_heads: int, scale: float, **_: Tensor | None
    ) -> Attended:
        calls.append((tuple(query.shape), num_heads, scale))
        q, k, v = (torch.stack(x.chunk(num_heads, dim=-1), dim=1) for x in (query, key, value))
        weights = torch.softmax(q @ k.mT * scale, dim=-1)
        return Attended(torch.cat((weights @ v).unbind(1), dim=-1), None)

    pixel_values = clips(config)
    with torch.inference_mode():
        expected = ours(pixel_values)
        blocks = [module for module in ours.modules() if isinstance(module, Attention)]
        assert all(block.attend is sdpa_attention for block in blocks)
        for block in blocks:
            block.attend = plain
        torch.testing.assert_close(ours(pixel_values), expected, atol=LIMIT, rtol=0)
    tokens = {"vivit": 2 * 2 * 2 + 1, "videomae": 2 * 4 * 4}[family]
    asking_last = {"vivit": 1, "videomae": tokens}[family]  # ViViT's classifier reads the class token alone
    assert calls == [((2, asking, 32), 4, 8**-0.5) for asking in (tokens, asking_last)]


@pytest.mark.parametrize("family", FAMILIES)
def test_traces_with_a_dynamic_batch_and_without_its_shape(family: str) -> None:
    config = checkpoints.tiny_config(family)
    ours, _ = seeded_pair(config)
    pixel_values = clips(config, batch=2)
    program = torch.export.export(
        ours, (pixel_values,), dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch")}}
    )
    operators = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not {name for name in operators if "expand" in name or "aten.cat" in name}
    for batch in (1, 2, 5):
        more = clips(config, batch=batch)
        with torch.inference_mode():
            torch.testing.assert_close(program.module()(more), ours(more), atol=LIMIT, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_equal_those_of_transformers(family: str) -> None:
    config = checkpoints.tiny_config(family)
    ours, theirs = seeded_pair(config)
    pixel_values, targets = clips(config), torch.tensor([1, 4])
    torch.autograd.backward(F.cross_entropy(ours(pixel_values), targets))
    torch.autograd.backward(F.cross_entropy(theirs(pixel_values).logits, targets))
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        other = expected[in_memory(name)]
        assert parameter.grad is not None, name
        assert other.grad is not None, name
        torch.testing.assert_close(parameter.grad, other.grad, atol=LIMIT, rtol=1e-4, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("which", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_dropout_acts_while_training_only(family: str, which: str) -> None:
    config = checkpoints.tiny_config(family, **{which: 0.5})
    ours, theirs = seeded_pair(config)
    pixel_values = clips(config)
    with torch.no_grad():
        still = ours(pixel_values)
        assert torch.equal(ours(pixel_values), still)
        ours.train()
        theirs.train()
        torch.manual_seed(3)
        dropped = ours(pixel_values)
        torch.manual_seed(3)
        expected = theirs(pixel_values).logits
    assert (dropped - still).abs().max() > 1e-3
    torch.testing.assert_close(dropped, expected, atol=LIMIT, rtol=0)  # the same draws in the same places


@pytest.mark.parametrize(
    ("hub", "expected"),
    [
        ({"model_type": "vivit"}, VivitConfig(num_labels=2)),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, VivitConfig(num_labels=3)),
        ({"num_labels": 7, "image_size": [160, 96]}, VivitConfig(num_labels=7, image_size=(160, 96))),
        (
            {"num_labels": 400, "tubelet_size": [4, 8, 8], "image_size": 64},
            VivitConfig(tubelet_size=(4, 8, 8), image_size=(64, 64)),
        ),
        (
            # what google/vivit-b-16x2-kinetics400 has beside the fields: nothing of it shapes the classifier
            {"video_size": [32, 224, 224], "torch_dtype": "float32", "dtype": "float32", "num_labels": 400},
            VivitConfig(),
        ),
        ({"qkv_bias": False, "num_labels": 400}, VivitConfig(qkv_bias=False)),
        ({"patch_size": 14, "num_labels": 400}, VideoMAEConfig(patch_size=(14, 14))),
        ({"patch_size": [14, 7], "num_labels": 400}, VideoMAEConfig(patch_size=(14, 7))),
        ({"qkv_bias": False, "num_labels": 400}, VideoMAEConfig(qkv_bias=False)),
        ({"qv_bias": False, "num_labels": 400}, VideoMAEConfig(qkv_bias=False)),
        ({"decoder_hidden_size": 384, "norm_pix_loss": True, "num_labels": 400}, VideoMAEConfig()),
    ],
)
def test_from_hub(hub: dict[str, Any], expected: checkpoints.Config) -> None:
    assert type(expected).from_hub(hub) == expected


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("changes", [{}, {"image_size": (24, 40)}, {"qkv_bias": False}])
def test_from_hub_reads_what_transformers_writes(family: str, changes: dict[str, Any]) -> None:
    config = checkpoints.tiny_config(family, **changes)
    assert type(config).from_hub(oracle(config).config.to_dict()) == config


@pytest.mark.parametrize(
    ("hub", "message"),
    [
        ({"hidden_size": "768"}, "hidden_size must be a whole number above 0, at most 1000000, got '768'"),
        ({"hidden_size": 770}, "hidden_size must be a multiple of num_attention_heads, got 770 and 12"),
        ({"num_frames": 0}, "num_frames must be a whole number above 0, at most 1000000, got 0"),
        ({"num_hidden_layers": None}, "num_hidden_layers must be a whole number above 0, at most 1000000, got None"),
        ({"num_hidden_layers": True}, "num_hidden_layers must be a whole number above 0, at most 1000000, got True"),
        ({"image_size": [224]}, "image_size must be 2 whole numbers above 0, at most 1000000, got (224,)"),
        ({"tubelet_size": 2}, "tubelet_size must be 3 whole numbers above 0, at most 1000000, got 2"),
        ({"layer_norm_eps": "1e-6"}, "layer_norm_eps must be a number from 0 to below 1, got '1e-6'"),
        ({"qkv_bias": 1}, "qkv_bias must be true or false, got 1"),
        ({"hidden_act": 3}, "hidden_act must be a name, got 3"),
        ({"id2label": ["a"]}, "id2label must be an object of index to label, got ['a']"),
        (
            {"id2label": {"0": "a"}, "num_labels": 3},
            "config.json says num_labels 3, and its id2label has 1",
        ),
    ],
)
def test_from_hub_refuses(hub: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        VivitConfig.from_hub(hub)
    assert str(caught.value) == message


def test_unknown_activation_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(CheckpointError, match="hidden_act 'xielu' is not supported; supported are gelu, "):
        VideoMAEConfig(hidden_act="xielu")


def test_tubelet_larger_than_the_clip_is_refused() -> None:
    config = VideoMAEConfig(num_frames=1)
    with pytest.raises(CheckpointError) as caught:
        VideoMAEForVideoClassification(config)
    assert str(caught.value) == (
        "a tubelet of (2, 16, 16) (frames, height, width) does not fit in a clip of (1, 224, 224)"
    )
