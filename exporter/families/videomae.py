"""VideoMAE (Tong et al. 2022, arXiv:2203.12602): the classifier that is fine-tuned from it, and the family.

The published weights are MCG-NJU/videomae-*-finetuned-*; names and numbers follow `VideoMAEModel` and
`VideoMAEForVideoClassification` of transformers. The encoder is in videomae_encoder.py, the pretraining in
videomae_pretraining.py.
"""

from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from ...preprocess.spec import Evaluation, Sampling
from ...runtime.bundle.bundle import Readout, Task
from .config import TransformerConfig
from .family import COMMON_DEFAULTS, Family, Processor, Weights
from .merging import MergingEncoder
from .model import Model
from .positions import interpolate_positions
from .videomae_encoder import VideoMAEConfig, VideoMAEModel, sinusoid_table
from .videomae_pretraining import VideoMAEForPreTraining

SOMETHING_SOMETHING_V2_LABELS = 174

# The small VideoMAE: its width, the heads that it was trained with, and those that its config.json on the Hub has.
_SMALL_WIDTH, _SMALL_HEADS_TRAINED, _SMALL_HEADS_PUBLISHED = 384, 6, 16


class VideoMAEForVideoClassification(Model):
    """VideoMAE with a linear classifier on the mean of the tokens, or on the first one."""

    config: VideoMAEConfig

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__(config)
        self.videomae = VideoMAEModel(config)
        self.fc_norm: nn.LayerNorm | None = None
        if config.use_mean_pooling:
            self.fc_norm = nn.LayerNorm(config.hidden_size, eps=config.head_norm_eps)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    @property
    def readout(self) -> Readout:
        return "first-token" if self.fc_norm is None else "mean"

    def merge(self, removed: int) -> None:
        self.videomae.encoder, self.removed = MergingEncoder(self.videomae.encoder, removed, self.readout), removed

    def forward(self, pixel_values: Tensor) -> Tensor:
        """float32 (B, T, C, H, W), normalised, to logits float32 (B, K).

        Raises ValueError for any other shape.
        """
        first_only = self.fc_norm is None and not self.training
        return self._classify(self.videomae(pixel_values, first_only=first_only))

    def outputs(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """logits (B, K), and the encoder's `States`."""
        encoded = self.videomae.outputs(pixel_values)
        return {"logits": self._classify(encoded.pop("last_hidden_state")), **encoded}

    def _classify(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, K)."""
        pooled = tokens[:, 0] if self.fc_norm is None else self.fc_norm(tokens.mean(1))  # (B, D)
        return cast(Tensor, self.classifier(pooled))


def stored_name(name: str) -> str:
    """The name of a weight in files, given that already, or the one that transformers 5 has in memory."""
    for part in ("query", "value"):
        name = name.replace(f".attention.attention.{part}.bias", f".attention.attention.{part[0]}_bias")
    return name


def published_evaluation(config: TransformerConfig) -> Evaluation:
    """Crops are rounded down and the softmax of each view averaged.

    On Kinetics it takes every 4th frame; of Something-Something v2 it looks at the whole file. Configurations do not
    name the data set, but 174 labels are the latter. Source: MCG-NJU/VideoMAE, kinetics.py, ssv2.py, and merge in
    engine_for_finetuning.py.
    """
    if config.num_labels == SOMETHING_SOMETHING_V2_LABELS:
        return Evaluation(Sampling("segments", stride=1), crop_rounding="down", averages="scores")
    return Evaluation(Sampling("centre-hold", stride=4), crop_rounding="down", averages="scores")


def beside_encoder(encoder: Weights) -> dict[str, Tensor]:
    """The norm before the classifier. A pretrained encoder has none: transformers starts it with ones and zeros, and
    there it stays unless it was trained.

    An encoder with a norm of its own has a classifier that reads one token, without that norm.
    """
    if "layernorm.weight" in encoder:
        return {}
    width = encoder.get("embeddings.patch_embeddings.projection.weight", torch.zeros(1)).shape[0]
    return {
        "fc_norm.weight": encoder.get("fc_norm.weight", torch.ones(width)),
        "fc_norm.bias": encoder.get("fc_norm.bias", torch.zeros(width)),
    }


def interpolate_sinusoids(model: nn.Module, native: TransformerConfig, config: TransformerConfig) -> None:
    """Put interpolated positions in the place of those that `model`, of `config`, computed from its size. They are the
    ones that it was trained with, of `native`. Its encoder gets them, and its decoder where it has one.

    They number tubelets through time and space in one row. Recomputed for another size, a number means another place
    than it did in training; interpolated, each place keeps its meaning.
    """
    for module in model.modules():
        table = dict(module.named_buffers(recurse=False)).get("position_embeddings")  # (1, N', D)
        if table is not None:
            trained = sinusoid_table(prod(native.grid), table.shape[-1])  # (1, N, D)
            interpolated = interpolate_positions(trained, native.grid, config.grid)
            module.register_buffer("position_embeddings", interpolated, persistent=False)


def note_on_heads(config: TransformerConfig, _task: Task) -> str | None:
    """Say that the small VideoMAE on the Hub has other heads than it was trained with."""
    if (config.hidden_size, config.num_attention_heads) != (_SMALL_WIDTH, _SMALL_HEADS_PUBLISHED):
        return None
    return (
        f"config.json gives this small VideoMAE {_SMALL_HEADS_PUBLISHED} attention heads, and the original was "
        f"trained with {_SMALL_HEADS_TRAINED}: followed as published; "
        f"--num-attention-heads {_SMALL_HEADS_TRAINED} overrides it"
    )


FAMILY = Family(
    name="videomae",
    title="VideoMAE",
    config=VideoMAEConfig,
    classes={
        "video-classification": VideoMAEForVideoClassification,
        "feature-extraction": VideoMAEModel,
        "masked-modeling": VideoMAEForPreTraining,
    },
    examples={
        "video-classification": "MCG-NJU/videomae-base-finetuned-kinetics",
        "masked-modeling": "MCG-NJU/videomae-base",
    },
    processor=Processor(stem="VideoMAE", defaults=COMMON_DEFAULTS | {"size": {"shortest_edge": 224}}),
    evaluation=published_evaluation,
    heads={
        "video-classification": ("classifier.",),
        "masked-modeling": ("decoder.", "encoder_to_decoder.", "mask_token"),
    },
    stored_name=stored_name,
    beside_encoder=beside_encoder,
    resize_computed=interpolate_sinusoids,
    note=note_on_heads,
)
