"""V-JEPA 2 (Assran et al. 2025, arXiv:2506.09985): the classifier with an attentive pooler, and the family.

The published weights are facebook/vjepa2-*; names and numbers follow `VJEPA2Model` and `VJEPA2ForVideoClassification`
of transformers. The encoder is in vjepa2_encoder.py, the heads that its authors publish apart in vjepa2_probe.py.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...preprocess.errors import CheckpointError
from ...preprocess.spec import IMAGENET_MEAN, IMAGENET_STD, Evaluation, Sampling
from ...runtime.bundle.bundle import Readout, Task
from .attention import Attended, Attending
from .config import TransformerConfig
from .family import COMMON_DEFAULTS, Family, Processor
from .model import Model
from .vjepa2_config import VJEPA2Config
from .vjepa2_encoder import MLP, VJEPA2Model, interpolate_places
from .vjepa2_probe import probe_names

# The heads that the authors trained every pooler with (num_heads in configs/inference of facebookresearch/vjepa2), and
# those of the one encoder, the ViT-g, that has others and comes with poolers.
_POOLER_HEADS_TRAINED, _GIANT_HEADS = 16, 22
# Inside a pooler it is this factor, whatever mlp_ratio says of the encoder.
_POOLER_MLP_RATIO = 4


class PoolerSelfAttention(Attending):
    """Self-attention of tokens (B, N, D), which carry their places by now."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__(config.hidden_size, config.pooler_heads, config.attention_dropout)
        width = config.hidden_size
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Attended:
        context, weights = self.attended(self.q_proj(tokens), self.k_proj(tokens), self.v_proj(tokens))
        return Attended(self.out_proj(context), weights)


class PoolerSelfAttentionLayer(nn.Module):
    """One pre-norm block over the tokens (B, N, D)."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        width = config.hidden_size
        self.layer_norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.self_attn = PoolerSelfAttention(config)
        self.layer_norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = MLP(width, _POOLER_MLP_RATIO * width, config.hidden_act)

    def forward(self, x: Tensor) -> Attended:
        context, weights = self.self_attn(self.layer_norm1(x))
        x = x + context
        return Attended(x + self.mlp(self.layer_norm2(x)), weights)


class PoolerCrossAttention(Attending):
    """What one learned query takes from the tokens. There is no projection behind it."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__(config.hidden_size, config.pooler_heads, config.attention_dropout)
        width = config.hidden_size
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)

    def forward(self, query: Tensor, tokens: Tensor) -> Attended:
        """query (1, 1, D), tokens (B, N, D), to (B, 1, D)."""
        # The query is the same for every clip, and is added to a row of zeros for each: repeating it over the batch
        # would leave a chain of Shape and Expand in an exported graph.
        rows = F.pad(tokens[:, :1], (0, 0, 1, 0))[:, :1]  # (B, N, D) -> (B, 1, D) -> (B, 2, D) -> (B, 1, D)
        return self.attended(rows + self.q_proj(query), self.k_proj(tokens), self.v_proj(tokens))


class PoolerCrossAttentionLayer(nn.Module):
    """The query (1, 1, D), without a norm, and what it takes from normalised tokens (B, N, D): (B, 1, D)."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        width = config.hidden_size
        self.layer_norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.cross_attn = PoolerCrossAttention(config)
        self.layer_norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = MLP(width, _POOLER_MLP_RATIO * width, config.hidden_act)

    def forward(self, query: Tensor, tokens: Tensor) -> Attended:
        context, weights = self.cross_attn(query, self.layer_norm1(tokens))
        x = query + context
        return Attended(x + self.mlp(self.layer_norm2(x)), weights)


class VJEPA2AttentivePooler(nn.Module):
    """Tokens (B, N, D) to one vector (B, D) a clip."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.cross_attention_layer = PoolerCrossAttentionLayer(config)
        self.self_attention_layers = nn.ModuleList(
            PoolerSelfAttentionLayer(config) for _ in range(config.num_pooler_layers)
        )

    def forward(self, tokens: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B, N, D) to (B, D), and what its layers attend to: (B, h, N, N) each, the last (B, h, 1, N). There are none
        where the attention does not keep its weights."""
        attentions = []
        for layer in self.self_attention_layers:
            tokens, weights = layer(tokens)
            attentions.append(weights)
        pooled, weights = self.cross_attention_layer(self.query_tokens, tokens)  # (B, 1, D)
        attentions.append(weights)
        return pooled.squeeze(1), tuple(weights for weights in attentions if weights is not None)


class VJEPA2ForVideoClassification(Model):
    """V-JEPA 2 with a linear classifier on what its pooler gives."""

    config: VJEPA2Config
    unmerged_because = "its queries and keys are turned by the place of each token, and a merged token has no one place"

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__(config)
        self.vjepa2 = VJEPA2Model(config)
        self.pooler = VJEPA2AttentivePooler(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    @property
    def readout(self) -> Readout:
        return "attentive"

    @property
    def attention_names(self) -> tuple[str, ...]:
        if self.config.joined_clips > 1 or self.config.probe_layers:
            raise CheckpointError(
                "attentions of joined clips and of several layers are no map of one clip",
                fix="export them without --joined-clips and --probe-layers",
            )
        pooler = (f"pooler_attentions.{i}" for i in range(self.config.num_pooler_layers + 1))
        return (*super().attention_names, *pooler)

    def fold(self) -> None:
        self.vjepa2.fold()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """float32 (B, T, C, H, W), normalised, to logits float32 (B, K).

        Raises ValueError for any other shape.
        """
        pooled, _ = self.pooler(self.vjepa2(pixel_values))
        return cast(Tensor, self.classifier(pooled))

    def outputs(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """logits (B, K), the encoder's `States`, and the pooler's own. These are pooler_attentions.0 and so on, (B, h,
        N, N) each, the last (B, h, 1, N)."""
        encoded = self.vjepa2.outputs(pixel_values)
        pooled, attentions = self.pooler(encoded.pop("last_hidden_state"))
        named = {f"pooler_attentions.{i}": weights for i, weights in enumerate(attentions)}
        return {"logits": self.classifier(pooled), **encoded, **named}


def size_of_crop(values: Mapping[str, Any]) -> dict[str, Any]:
    """What frames are resized to, which VJEPA2VideoProcessor computes from the crop, whatever its file says."""
    crop = values["crop_size"]
    side = crop["height"] if isinstance(crop, Mapping) and "height" in crop else crop
    return {"size": {"shortest_edge": int(side * 256 / 224)}} if isinstance(side, int) else {}


def published_evaluation(config: TransformerConfig) -> Evaluation:
    """Every 4th frame of 16, every 2nd of more, of each of several equal parts of the file.

    Source: facebookresearch/vjepa2, configs/inference, and src/datasets/video_dataset.py.
    """
    joined = cast(VJEPA2Config, config).joined_clips
    stride = 4 if config.num_frames // joined <= 16 else 2
    return Evaluation(Sampling("parts", stride, joined), crop_rounding="step", averages="scores", crops_of="fitted")


def note_on_heads(config: TransformerConfig, task: Task) -> str | None:
    """Say that a pooler of a ViT-g computes with other heads than the authors trained theirs with."""
    config = cast(VJEPA2Config, config)
    if task != "video-classification" or config.num_pooler_heads is not None:
        return None
    if config.num_attention_heads != _GIANT_HEADS or config.hidden_size % _POOLER_HEADS_TRAINED:
        return None
    return (
        f"the pooler has the encoder's {config.num_attention_heads} heads, as in transformers; the authors trained all "
        f"of theirs with {_POOLER_HEADS_TRAINED}, which is another function of the same weights: for one of theirs, "
        f"--pooler-heads {_POOLER_HEADS_TRAINED} computes it"
    )


FAMILY = Family(
    name="vjepa2",
    title="V-JEPA 2",
    config=VJEPA2Config,
    classes={"video-classification": VJEPA2ForVideoClassification, "feature-extraction": VJEPA2Model},
    examples={"video-classification": "facebook/vjepa2-vitl-fpc16-256-ssv2"},
    processor=Processor(
        stem="VJEPA2",
        defaults=COMMON_DEFAULTS
        | {"crop_size": 256, "image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)}
        | {"size": {"shortest_edge": 292}},
        computed=size_of_crop,
        video_only=True,
    ),
    evaluation=published_evaluation,
    heads={"video-classification": ("pooler.", "classifier.")},
    unused={"predictor.": "the predictor that it was pretrained with"},
    probe_names=probe_names,
    resize_computed=interpolate_places,
    counts_frames=True,
    label_files={174: "something-something-v2-id2label.json", 48: "diving48-id2label.json"},
    note=note_on_heads,
)
