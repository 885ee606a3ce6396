"""VideoMAE v2 (Wang et al. 2023, arXiv:2303.16727) as OpenGVLab has it on the Hub: the same model under another config.

Its config.json names custom code, which is never fetched nor run. Where that code would compute what VideoMAE
computes, the config is put into VideoMAE's words. The weights have the authors' names (see originals.py).
"""

from collections.abc import Mapping
from typing import Any

from ...preprocess.errors import CheckpointError

# Names of VideoMAE's config, by those under model_config.
_NAMES = {
    "img_size": "image_size",
    "patch_size": "patch_size",
    "in_chans": "num_channels",
    "embed_dim": "hidden_size",
    "depth": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_frames": "num_frames",
    "tubelet_size": "tubelet_size",
    "qkv_bias": "qkv_bias",
    "use_mean_pooling": "use_mean_pooling",
    "layer_norm_eps": "layer_norm_eps",
}
# What the plain mathematics has, and why anything else is refused.
_PLAIN: dict[str, tuple[Any, str]] = {
    "cos_attn": (False, "attention that compares directions, of the cosine, is not VideoMAE's"),
    "init_values": (0, "layers scaled by learned factors are not VideoMAE's"),
    "use_learnable_pos_emb": (False, "learned positions are not VideoMAE's"),
    "qk_scale": (None, "a scale of attention other than 1 / sqrt(width of a head) is not VideoMAE's"),
    "norm_layer": ("nn.LayerNorm", "other norms than LayerNorm are not VideoMAE's"),
}


def is_videomae_v2(settings: Mapping[str, Any]) -> bool:
    """Whether a parsed config.json is of OpenGVLab's VideoMAE v2: its model_type is "VideoMAEv2_Base" or the like."""
    return str(settings.get("model_type")).startswith("VideoMAEv2")


def videomae_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json that the same model would have as a VideoMAE of transformers.

    Without labels (num_classes 0) its architecture is VideoMAEModel. Raises CheckpointError for a value that is
    missing, or that the plain mathematics does not have, with the reason.
    """
    given = settings.get("model_config")
    if not isinstance(given, Mapping):
        raise CheckpointError(f"config.json of a VideoMAE v2 must have an object model_config, got {given!r}")
    for key, (plain, reason) in _PLAIN.items():
        if given.get(key) not in (plain, None):
            raise CheckpointError(f"model_config has {key} {given[key]!r}, which is not supported: {reason}")
    missing = [key for key in (*_NAMES, "mlp_ratio", "num_classes") if key not in given]
    if missing:
        raise CheckpointError(
            f"model_config of config.json lacks {', '.join(missing)}", fix="take the config.json of the Hub"
        )
    found = {name: given[key] for key, name in _NAMES.items()}
    found["head_norm_eps"] = found["layer_norm_eps"]
    if not all(_is_factor(given[key]) for key in ("embed_dim", "mlp_ratio")):
        raise CheckpointError(
            f"embed_dim and mlp_ratio must be numbers, got {given['embed_dim']!r} and {given['mlp_ratio']!r}"
        )
    found["intermediate_size"] = int(given["embed_dim"] * given["mlp_ratio"])
    head = "VideoMAEModel"
    if given["num_classes"] != 0:
        head = "VideoMAEForVideoClassification"
        found["num_labels"] = given["num_classes"]
    kept = {key: settings[key] for key in ("id2label", "problem_type") if key in settings}
    return {"model_type": "videomae", "architectures": [head], **found, **kept}


def _is_factor(value: Any) -> bool:
    """Whether it is a number, and neither NaN nor so large that a product with another would be none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e6
