"""Attentive probes: the heads that the authors of V-JEPA 2 publish apart from its encoder.

Reference: facebookresearch/vjepa2, src/models/attentive_pooler.py; the renaming follows
convert_vjepa2_classifier_to_hf.py of transformers.
"""

import re

from torch import Tensor

from ...preprocess.errors import CheckpointError
from .family import Weights

# What their code calls a part, and transformers.
_PARTS = (
    (r"pooler\.cross_attention_block\.norm(\d)\.", r"pooler.cross_attention_layer.layer_norm\1."),
    (r"pooler\.cross_attention_block\.xattn\.([qkv])\.", r"pooler.cross_attention_layer.cross_attn.\1_proj."),
    (r"pooler\.cross_attention_block\.mlp\.", r"pooler.cross_attention_layer.mlp."),
    (r"pooler\.blocks\.(\d+)\.norm(\d)\.", r"pooler.self_attention_layers.\1.layer_norm\2."),
    (r"pooler\.blocks\.(\d+)\.attn\.([qkv])\.", r"pooler.self_attention_layers.\1.self_attn.\2_proj."),
    (r"pooler\.blocks\.(\d+)\.attn\.proj\.", r"pooler.self_attention_layers.\1.self_attn.out_proj."),
    (r"pooler\.blocks\.(\d+)\.mlp\.", r"pooler.self_attention_layers.\1.mlp."),
    (r"linear\.", "classifier."),
)
_FUSED = re.compile(r"\.(qkv|kv)\.")  # rows of a query, a key and a value in one matrix


def probe_names(weights: Weights) -> dict[str, Tensor]:
    """The weights of a probe under the names of `VJEPA2ForVideoClassification`; others keep their names.

    Raises CheckpointError for fused rows that cannot be parted.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        fused = _FUSED.search(name)
        parts = "" if fused is None else fused[1]
        if fused is not None and (tensor.ndim == 0 or len(tensor) % len(parts)):
            raise CheckpointError(f"{name} must have rows for each of {', '.join(parts)}, got {tuple(tensor.shape)}")
        split = (
            {name: tensor}
            if fused is None
            else dict(zip((_FUSED.sub(f".{part}.", name) for part in parts), tensor.chunk(len(parts)), strict=True))
        )
        renamed |= {_renamed(part): value for part, value in split.items()}
    return renamed


def _renamed(name: str) -> str:
    for pattern, ours in _PARTS:
        name = re.sub(f"^{pattern}", ours, name)
    return name
