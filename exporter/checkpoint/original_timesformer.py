"""TimeSformer as its authors publish it: a .pyth file of their own names, and no config.json.

Names become those of the Hub's TimeSformer. The config is read off the shapes, the number of frames included. What no
shape shows is taken from the original code. Which file is one is for originals.py.

Reference: facebookresearch/TimeSformer, models/vit.py and config/defaults.py.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from ...preprocess.errors import CheckpointError
from .original_weights import count_layers, evaluation_processor, shape_of
from .overrides import Overrides

# Parts of names, and what the Hub has for them.
_PARTS = {
    ".temporal_norm1.": ".temporal_layernorm.",
    ".temporal_attn.qkv.": ".temporal_attention.attention.qkv.",
    ".temporal_attn.proj.": ".temporal_attention.output.dense.",
    ".temporal_fc.": ".temporal_dense.",
    ".norm1.": ".layernorm_before.",
    ".norm2.": ".layernorm_after.",
    ".attn.qkv.": ".attention.attention.qkv.",
    ".attn.proj.": ".attention.output.dense.",
    ".mlp.fc1.": ".intermediate.dense.",
    ".mlp.fc2.": ".output.dense.",
}
_STARTS = {
    "blocks.": "timesformer.encoder.layer.",
    "patch_embed.proj.": "timesformer.embeddings.patch_embeddings.projection.",
    "pos_embed": "timesformer.embeddings.position_embeddings",
    "time_embed": "timesformer.embeddings.time_embeddings",
    "cls_token": "timesformer.embeddings.cls_token",
    "norm.": "timesformer.layernorm.",
    "head.": "classifier.",
}
_EMBEDDINGS = "timesformer.embeddings"
_HEAD_WIDTH = 64
_LAYER_NORM_EPS = 1e-6
_NUM_FRAMES = 8
_MEAN, _STD = 0.45, 0.225


def is_original_timesformer(weights: Mapping[str, Tensor]) -> bool:
    """Whether weights of original names are a TimeSformer's, whose patches are of one frame."""
    projection = weights.get("patch_embed.proj.weight")
    return projection is not None and projection.ndim == 4 and "pos_embed" in weights


def timesformer_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under the Hub's names. A weight that has no place keeps its name, for the gate to report."""
    return {_hub_name(name): tensor for name, tensor in weights.items()}


def _hub_name(name: str) -> str:
    start = next((start for start in _STARTS if name.startswith(start)), None)
    if start is None:
        return name
    name = _STARTS[start] + name.removeprefix(start)
    for part, hub in _PARTS.items():
        name = name.replace(part, hub)
    return name


def timesformer_settings(
    weights: Mapping[str, Tensor], overrides: Overrides, name: str, report: Callable[[str], None]
) -> dict[str, Any]:
    """The config.json that the Hub would have for weights under the Hub's names.

    name: of the file. Heads and norms show in no shape, nor do the frames of a "space_only" model. They are the
    caller's `overrides`, or else those of the original code, and reported. Raises CheckpointError for a shape that no
    such model has.
    """
    shape = partial(shape_of, weights, name, "TimeSformer")
    width, channels, *patch = shape(f"{_EMBEDDINGS}.patch_embeddings.projection.weight", 4)
    side = math.isqrt(shape(f"{_EMBEDDINGS}.position_embeddings", 3)[1] - 1)  # patches in a row
    first = "timesformer.encoder.layer.0"
    kind, times = "space_only", None
    if f"{_EMBEDDINGS}.time_embeddings" in weights:
        kind = "divided_space_time" if f"{first}.temporal_dense.weight" in weights else "joint_space_time"
        times = shape(f"{_EMBEDDINGS}.time_embeddings", 3)[1]
    heads = overrides.num_attention_heads or width // _HEAD_WIDTH
    if overrides.num_attention_heads is None and width % _HEAD_WIDTH:
        raise CheckpointError(
            f"num_attention_heads cannot be known from a width of {width}, which {_HEAD_WIDTH} does not divide",
            fix="--num-attention-heads N",
        )
    layers = count_layers(weights, "timesformer.encoder.layer")
    labels = shape("classifier.weight", 2)[0] if "classifier.weight" in weights else None
    settings: dict[str, Any] = {
        "model_type": "timesformer",
        "architectures": ["TimesformerModel" if labels is None else "TimesformerForVideoClassification"],
        "attention_type": kind,
        "hidden_size": width,
        "num_channels": channels,
        "num_frames": times or overrides.num_frames or _NUM_FRAMES,
        "image_size": [side * patch[0], side * patch[1]],
        "patch_size": patch[0] if patch[0] == patch[1] else patch,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": shape(f"{first}.intermediate.dense.weight", 2)[0],
        "qkv_bias": f"{first}.attention.attention.qkv.bias" in weights,
        "layer_norm_eps": _LAYER_NORM_EPS,
        **({} if labels is None else {"num_labels": labels}),
    }
    report(
        f"{name} has no config.json beside it; its weights show {kind} attention, {layers} layers of width "
        f"{width}, {settings['num_frames']} frames of {side * patch[0]}x{side * patch[1]} in patches of "
        f"{patch[0]}x{patch[1]}, {'no head' if labels is None else f'{labels} labels'}"
    )
    report(f"num_attention_heads is {heads}, and layer_norm_eps {_LAYER_NORM_EPS:g}, as in the original code")
    if times is None:
        report(f"clips are taken to be {settings['num_frames']} frames: no weight shows it; --num-frames sets it")
    return settings


def timesformer_note(settings: Mapping[str, Any]) -> str:
    """What a user of the bundle should know about the `settings`."""
    by_frame = settings["attention_type"] == "space_only"
    frames = f", {settings['num_frames']} frames" if by_frame else ""
    mean = "; tokens are averaged over frames behind the last layer, as there" if by_frame else ""
    return (
        f"there was no config.json: {settings['num_attention_heads']} attention heads{frames} and layer_norm_eps "
        f"{settings['layer_norm_eps']:g} are those of the original code, or as asked for; no weight shows them{mean}"
    )


def timesformer_processor(image_size: tuple[int, int], report: Callable[[str], None]) -> dict[str, Any]:
    """The preprocessor_config.json of the original evaluation."""
    report(
        f"frames are prepared as in the original evaluation: short side {min(image_size)}, mean {_MEAN} and std {_STD} "
        "(resized in 8 bits with antialiasing, as for the Hub's checkpoints; the original did without)"
    )
    return evaluation_processor(image_size, [_MEAN] * 3, [_STD] * 3)
