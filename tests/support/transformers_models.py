"""Our models beside those of transformers, with the same seeded weights."""

from typing import Any

import checkpoints
import torch
import transformers
from torch import Tensor

from tubelet.exporter.families.attention import attend_with, eager_attention
from tubelet.exporter.families.model import Model
from tubelet.exporter.families.videomae_pretraining import VideoMAEForPreTraining
from tubelet.runtime.bundle.bundle import Task

LIMIT = 1e-5  # largest difference of any logit, float32
ORACLES = {
    ("vivit", "video-classification"): transformers.VivitForVideoClassification,
    ("vivit", "feature-extraction"): transformers.VivitModel,
    ("videomae", "video-classification"): transformers.VideoMAEForVideoClassification,
    ("videomae", "feature-extraction"): transformers.VideoMAEModel,
    ("videomae", "masked-modeling"): transformers.VideoMAEForPreTraining,
    ("vjepa2", "video-classification"): transformers.VJEPA2ForVideoClassification,
    ("vjepa2", "feature-extraction"): transformers.VJEPA2Model,
    ("timesformer", "video-classification"): transformers.TimesformerForVideoClassification,
    ("timesformer", "feature-extraction"): transformers.TimesformerModel,
}
CONFIGS = {
    "vivit": transformers.VivitConfig,
    "videomae": transformers.VideoMAEConfig,
    "vjepa2": transformers.VJEPA2Config,
    "timesformer": transformers.TimesformerConfig,
}
# Weights of theirs that no module of ours has.
NOT_OURS = {"vjepa2": "predictor."}


def in_memory(name: str) -> str:
    """The name that transformers 5 gives a weight once it has read it."""
    for stored, held in {
        "vivit.encoder.layer.": "vivit.layers.",
        "q_bias": "query.bias",
        "v_bias": "value.bias",
    }.items():
        name = name.replace(stored, held)
    if name.startswith("vivit.layers."):
        for stored, held in {
            "attention.attention.query": "attention.q_proj",
            "attention.attention.key": "attention.k_proj",
            "attention.attention.value": "attention.v_proj",
            "attention.output.dense": "attention.o_proj",
            "intermediate.dense": "mlp.fc1",
            "output.dense": "mlp.fc2",
        }.items():
            name = name.replace(stored, held)
    return name


def clips(config: checkpoints.Config, batch: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(batch, *config.clip_shape, generator=torch.Generator().manual_seed(seed))


def oracle(config: checkpoints.Config, family: str, task: Task, weights: dict[str, Tensor]) -> Any:
    """transformers' model with these weights, in the eager form, which keeps attention weights."""
    values = {**checkpoints.hub_config(config), "num_labels": config.num_labels, "attn_implementation": "eager"}
    model: Any = ORACLES[family, task](CONFIGS[family](**values))
    bare = "vivit." if (family, task) == ("vivit", "feature-extraction") else ""
    held = {in_memory(bare + name).removeprefix(bare): value for name, value in weights.items()}
    missing, unexpected = model.load_state_dict(held, strict=False)
    assert not unexpected
    assert all(family in NOT_OURS and NOT_OURS[family] in name for name in missing), missing
    return model.eval()


def seeded(family: str, task: Task, changes: dict[str, Any]) -> tuple[Model, Any]:
    config = checkpoints.tiny_config(family, **changes)
    pooler = family == "vivit" and task == "feature-extraction"
    weights = checkpoints.seeded_weights(config, task=task, pooler=pooler)
    ours = checkpoints.build(config, task, pooler=pooler).eval()
    ours.load_state_dict(weights)
    attend_with(ours, eager_attention)
    return ours, oracle(config, family, task, weights)


def masks(model: Model, batch: int) -> Tensor:
    """bool (B, N), most of each row True."""
    assert isinstance(model, VideoMAEForPreTraining)
    num_tokens = model.videomae.embeddings.patch_embeddings.num_tokens
    order = torch.rand(batch, num_tokens, generator=torch.Generator().manual_seed(3)).argsort(1)
    return order < max(1, int(0.9 * num_tokens))
