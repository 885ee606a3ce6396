"""Models as their authors publish them: a .pth file of their own names, and no config.json.

VideoMAE's are the files of MCG-NJU/VideoMAE (fine-tuned and pretrained) and the distilled ones of OpenGVLab/VideoMAEv2.
The weights of the latter on the Hub have the same names. Here the names become those of the Hub's VideoMAE. The config
is read off the shapes, and what no shape shows is taken from the original code. This file tells TimeSformer's from
them; original_timesformer.py reads those.

Reference: MCG-NJU/VideoMAE, modeling_finetune.py and modeling_pretrain.py; the renaming follows
convert_videomae_to_pytorch.py of transformers.
"""

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...preprocess.errors import CheckpointError
from ...preprocess.spec import IMAGENET_MEAN, IMAGENET_STD
from .original_timesformer import (
    is_original_timesformer,
    timesformer_names,
    timesformer_note,
    timesformer_processor,
    timesformer_settings,
)
from .original_weights import count_layers, evaluation_processor, shape_of
from .overrides import Overrides, check_sizes
from .weight_files import check_plain, load_pickle, odd_entries

SUFFIXES = (".pth", ".pt", ".pyth")

# Under which key of the file the weights lie, beside the optimizer's state and the like; the first that there is.
_STATE_KEYS = ("model", "module", "model_state")

# Parts of names, and what the Hub has for them.
_PARTS = {
    "patch_embed.proj.": "embeddings.patch_embeddings.projection.",
    "blocks.": "encoder.layer.",
    ".norm1.": ".layernorm_before.",
    ".norm2.": ".layernorm_after.",
    ".attn.proj.": ".attention.output.dense.",
    ".attn.q_bias": ".attention.attention.q_bias",
    ".attn.v_bias": ".attention.attention.v_bias",
    ".mlp.fc1.": ".intermediate.dense.",
    ".mlp.fc2.": ".output.dense.",
}
_QKV = ("query", "key", "value")
_ORIGINAL = re.compile(r"((encoder|backbone)\.)?(patch_embed\.proj|blocks\.\d+)\.")

# Weights of variants whose mathematics is another.
_OTHER_MATHEMATICS = {
    r"blocks\.\d+\.gamma_[12]": "its layers are scaled by learned factors (init_values above 0)",
    r"blocks\.\d+\.attn\.scale": "its attention compares directions (cos_attn)",
    r"pos_embed": "its positions are learned (use_learnable_pos_emb)",
}

# Heads by width, where they are not as many as 64 goes into it; and so in the decoder of pretraining.
_HEADS = {1280: 16, 1408: 16, 640: 8}
_LAYER_NORM_EPS = 1e-6
_NUM_FRAMES, _IMAGE_SIZE = 16, (224, 224)


def read_original(path: Path) -> dict[str, Tensor]:
    """The weights in a .pth file, under the names that they have there.

    They may be all that it holds, or lie under one of _STATE_KEYS. What else is in it is not looked at, beyond that
    it must be plain values, as the arguments of the training run are: nothing in the file is executed.
    Raises CheckpointError.
    """
    content = load_pickle(path, harmless=(argparse.Namespace,))
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path.name} must hold a dict of tensors, got {type(content).__name__}")
    state = next((content[key] for key in _STATE_KEYS if isinstance(content.get(key), Mapping)), content)
    others = odd_entries(state)
    if others or not state:
        found = ", ".join(others[:8]) or "nothing"
        raise CheckpointError(
            f"{path.name} must hold tensors by name, plain or under {' or '.join(_STATE_KEYS)}, got {found}",
            fix="save model.state_dict() alone",
        )
    check_plain(state, path.name)
    return dict(state)


def has_original_names(weights: Mapping[str, Tensor]) -> bool:
    """Whether the names, with nothing in front of them, are the authors'."""
    return any(_ORIGINAL.match(name) for name in weights)


def hub_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under the Hub's names: those of VideoMAEForVideoClassification, or of VideoMAEForPreTraining
    where there is a decoder. With neither a head nor a decoder they are of the encoder, whose names begin with
    "videomae." all the same. Those of a TimeSformer become those of TimesformerForVideoClassification.

    query, key and value, which lie in one matrix here, become three. A weight that has no place keeps its name, for the
    gate to report. Raises CheckpointError for a variant with other mathematics.
    """
    if is_original_timesformer(weights):
        return timesformer_names(weights)
    for pattern, reason in _OTHER_MATHEMATICS.items():
        found = next((name for name in weights if re.search(rf"(^|\.){pattern}$", name)), None)
        if found is not None:
            raise CheckpointError(f"this VideoMAE is not the plain one: {reason}, as {found} shows")
    renamed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        hub = _hub_name(name)
        if hub.endswith(".attn.qkv.weight"):
            if tensor.ndim != 2 or tensor.shape[0] != 3 * tensor.shape[1]:
                raise CheckpointError(f"{name} must be (3 x D, D), got {tuple(tensor.shape)}")
            stem = hub.removesuffix(".attn.qkv.weight")
            parts = tensor.chunk(3)  # (3 * D, D) -> 3 x (D, D)
            projections = {
                f"{stem}.attention.attention.{part}.weight": value for part, value in zip(_QKV, parts, strict=True)
            }
        else:
            projections = {hub: tensor}
        if twice := renamed.keys() & projections.keys():
            raise CheckpointError(f"videomae: two weights are both {min(twice)}; one of them is {name}")
        renamed |= projections
    return renamed


def _hub_name(name: str) -> str:
    name = name.removeprefix("encoder.").removeprefix("backbone.")
    if name.startswith("decoder."):
        name = name.replace("decoder.blocks.", "decoder.decoder_layers.")
    elif name.startswith("norm."):
        return f"videomae.layernorm.{name.removeprefix('norm.')}"
    elif name.startswith("head."):
        return f"classifier.{name.removeprefix('head.')}"
    elif name.startswith(("patch_embed.", "blocks.")):
        name = f"videomae.{name}"
    for part, hub in _PARTS.items():
        name = name.replace(part, hub)
    return name


def infer_settings(
    weights: Mapping[str, Tensor], overrides: Overrides, name: str, report: Callable[[str], None]
) -> dict[str, Any]:
    """The config.json that the Hub would have for weights under the Hub's names.

    name: of the file. Heads, norms, frames and pixels show in no shape. They are the caller's `overrides`, or else
    those of the original code. Each is reported in a line. Raises CheckpointError where a shape that it takes is not
    there, or the number of heads cannot be known.
    """
    if any(weight.startswith("timesformer.") for weight in weights):
        return timesformer_settings(weights, overrides, name, report)
    projection = shape_of(weights, name, "VideoMAE", "videomae.embeddings.patch_embeddings.projection.weight", 5)
    width, channels, tubelet, *patch = projection  # (D, C, frames, height, width)
    check_sizes(overrides, (tubelet, patch[0], patch[1]))
    settings: dict[str, Any] = {
        "model_type": "videomae",
        "hidden_size": width,
        "num_channels": channels,
        "tubelet_size": tubelet,
        "patch_size": patch[0] if patch[0] == patch[1] else patch,
        **_layers(weights, "videomae.encoder.layer", name),
        "qkv_bias": any(weight.endswith(".q_bias") for weight in weights),
        "use_mean_pooling": "fc_norm.weight" in weights,
    }
    head = "no head"
    settings["architectures"] = ["VideoMAEModel"]
    if "classifier.weight" in weights:
        settings["num_labels"] = shape_of(weights, name, "VideoMAE", "classifier.weight", 2)[0]
        settings["architectures"] = ["VideoMAEForVideoClassification"]
        head = f"{settings['num_labels']} labels"
    elif "mask_token" in weights:
        settings |= _decoder_settings(weights, name, report)
        settings["architectures"] = ["VideoMAEForPreTraining"]
        head = f"a decoder of {settings['decoder_num_hidden_layers']} layers of width {settings['decoder_hidden_size']}"
    pooled = "the mean of all tokens taken" if settings["use_mean_pooling"] else "no mean of tokens taken"
    report(
        f"{name} has no config.json beside it; its weights show {settings['num_hidden_layers']} layers of width "
        f"{width}, intermediate_size {settings['intermediate_size']}, tubelets of {tubelet}x{patch[0]}x{patch[1]}, "
        f"{head}, {pooled}"
    )
    return settings | _unseen_settings(width, overrides, report)


def inference_note(settings: Mapping[str, Any], *, draws: bool) -> str:
    """What a user of the bundle should know about the `settings` of `infer_settings`."""
    if settings["model_type"] == "timesformer":
        return timesformer_note(settings)
    size = settings["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    drawn = ""
    if draws:
        drawn = f", {settings['decoder_num_attention_heads']} heads in the decoder, norm_pix_loss"
    return (
        f"there was no config.json: {settings['num_attention_heads']} attention heads{drawn}, layer_norm_eps "
        f"{settings['layer_norm_eps']:g} and clips of {settings['num_frames']} frames of {height}x{width} are those of "
        "the original code, or as asked for; no weight shows them"
    )


def _unseen_settings(width: int, overrides: Overrides, report: Callable[[str], None]) -> dict[str, Any]:
    """What no weight shows."""
    heads = overrides.num_attention_heads
    if heads is None:
        heads = _original_heads(width, "num_attention_heads", "--num-attention-heads N")
        report(f"num_attention_heads is {heads}, as in the original code for width {width}")
    report(f"layer_norm_eps is {_LAYER_NORM_EPS:g} for every norm, as in the original code")
    frames, (height, image_width) = _NUM_FRAMES, _IMAGE_SIZE
    if overrides.positions != "interpolated":  # else the caller says that the sizes are not those of the training
        frames, (height, image_width) = overrides.num_frames or frames, overrides.image_size or _IMAGE_SIZE
    report(
        f"clips of the training are taken to be {frames} frames of {height}x{image_width}: positions are not stored, "
        "so no weight shows it; --num-frames and --image-size set it"
    )
    return {
        "num_attention_heads": heads,
        "layer_norm_eps": _LAYER_NORM_EPS,
        "head_norm_eps": _LAYER_NORM_EPS,
        "num_frames": frames,
        "image_size": height if height == image_width else [height, image_width],
    }


def _decoder_settings(weights: Mapping[str, Tensor], name: str, report: Callable[[str], None]) -> dict[str, Any]:
    width = shape_of(weights, name, "VideoMAE", "mask_token", 3)[2]  # (1, 1, d)
    fix = "put a config.json with decoder_num_attention_heads beside the file"
    heads = _original_heads(width, "decoder_num_attention_heads", fix)
    report(f"decoder_num_attention_heads is {heads}, as in the original code for width {width}")
    report("pixels are taken to be learnt normalised within each tubelet (norm_pix_loss), as in the original code")
    return {
        "norm_pix_loss": True,
        "decoder_hidden_size": width,
        "decoder_num_attention_heads": heads,
        **{f"decoder_{key}": value for key, value in _layers(weights, "decoder.decoder_layers", name).items()},
    }


def _layers(weights: Mapping[str, Tensor], stem: str, name: str) -> dict[str, int]:
    return {
        "num_hidden_layers": count_layers(weights, stem),
        "intermediate_size": shape_of(weights, name, "VideoMAE", f"{stem}.0.intermediate.dense.weight", 2)[0],
    }


def _original_heads(width: int, key: str, fix: str) -> int:
    heads = _HEADS.get(width, width // 64)
    if width not in _HEADS and width % 64:
        raise CheckpointError(f"{key} cannot be known from a width of {width}, which 64 does not divide", fix=fix)
    return heads


def original_processor(model_type: str, image_size: tuple[int, int], report: Callable[[str], None]) -> dict[str, Any]:
    """The preprocessor_config.json of the original evaluation, as the Hub's own VideoMAE checkpoints have it."""
    if model_type == "timesformer":
        return timesformer_processor(image_size, report)
    report(
        f"frames are prepared as in the original evaluation: short side {min(image_size)}, mean and std of ImageNet "
        "(resized with antialiasing, as for the Hub's checkpoints; the original did without)"
    )
    return evaluation_processor(image_size, IMAGENET_MEAN, IMAGENET_STD)
