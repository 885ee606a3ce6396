"""ViViT (Arnab et al. 2021, arXiv:2103.15691), model 1: joint space-time attention over all tubelets.

The published weights are google/vivit-b-16x2-kinetics400 and google/vivit-b-16x2, converted from
google-research/scenic; names and numbers follow `VivitModel` and
`VivitForVideoClassification` of transformers.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...preprocess.errors import CheckpointError
from ...preprocess.spec import Evaluation, Sampling
from ...runtime.bundle.bundle import Readout, Task
from .config import ACTIVATIONS, TransformerConfig
from .family import COMMON_DEFAULTS, Family, Processor
from .merging import MergingEncoder
from .model import Model
from .positions import resize_tables
from .transformer import Encoder, TubeletEmbeddings


@dataclass(frozen=True, kw_only=True)
class VivitConfig(TransformerConfig):
    """Defaults are ViViT-B/16x2 for Kinetics-400.

    tubelet_size:        (frames, height, width)
    pooler_output_size:  P, the width that the pooler of a bare `VivitModel` gives; None stands for hidden_size
    pooler_act:          the activation behind it
    """

    tubelet_fields: ClassVar[tuple[str, ...]] = ("tubelet_size",)

    num_frames: int = 32
    tubelet_size: tuple[int, int, int] = (2, 16, 16)
    hidden_act: str = "gelu_fast"
    pooler_output_size: int | None = None
    pooler_act: str = "tanh"

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> Self:
        tubelet_size = config.get("tubelet_size")
        if isinstance(tubelet_size, list):
            config = {**config, "tubelet_size": tuple(tubelet_size)}
        if config.get("pooler_output_size") == config.get("hidden_size", cls.hidden_size):
            config = {**config, "pooler_output_size": None}  # transformers 5 writes out what None stands for
        return super().from_hub(config)

    @property
    def tubelet(self) -> tuple[int, int, int]:
        return self.tubelet_size

    def large_weights(self, task: Task) -> Iterator[tuple[tuple[str, ...], int]]:
        yield from super().large_weights(task)
        width = self.hidden_size
        yield ("num_frames", "image_size", "hidden_size"), (1 + prod(self.grid)) * width  # positions, which are stored
        if task == "feature-extraction" and self.pooler_output_size is not None:
            yield ("hidden_size", "pooler_output_size"), width * self.pooler_output_size

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooler_act not in ACTIVATIONS:
            raise CheckpointError(
                f"pooler_act {self.pooler_act!r} is not supported; supported are {', '.join(ACTIVATIONS)}"
            )


class VivitProjections(nn.Module):
    """Asking tokens (B, M, D), all tokens (B, N, D), to query (B, M, D), key, value (B, N, D)."""

    def __init__(self, config: VivitConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.query = nn.Linear(width, width, bias=config.qkv_bias)
        self.key = nn.Linear(width, width, bias=config.qkv_bias)
        self.value = nn.Linear(width, width, bias=config.qkv_bias)

    def forward(self, asking: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.query(asking), self.key(tokens), self.value(tokens)


class VivitEmbeddings(nn.Module):
    """Tubelet tokens behind a class token, plus learned positions: (B, T, C, H, W) to (B, 1 + N, D)."""

    def __init__(self, config: VivitConfig) -> None:
        super().__init__()
        self.patch_embeddings = TubeletEmbeddings(config)
        num_tokens, width = self.patch_embeddings.num_tokens, config.hidden_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + num_tokens, width))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, pixel_values: Tensor) -> Tensor:
        tokens = self.patch_embeddings(pixel_values)  # (B, N, D)
        # The class token is the same for every clip, so it joins through the table of positions: a row of
        # zeros is put in front of the tokens, and the first row of the table is class token + position 0.
        # Repeating the token over the batch instead would leave a chain of Shape and Expand in an exported
        # graph. The sums are of the same two numbers, or of one and 0.0, so they are equal bit for bit.
        cls_row = F.pad(self.cls_token, (0, 0, 0, tokens.shape[1]))  # (1, 1, D) -> (1, 1 + N, D)
        tokens = F.pad(tokens, (0, 0, 1, 0))  # (B, N, D) -> (B, 1 + N, D)
        return cast(Tensor, self.dropout(tokens + (self.position_embeddings + cls_row)))


class VivitPooler(nn.Module):
    """The first of the normalised tokens (B, N, D) through a dense layer and an activation, to (B, P)."""

    def __init__(self, config: VivitConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.pooler_output_size or config.hidden_size)
        self.activation = ACTIVATIONS[config.pooler_act]

    def forward(self, tokens: Tensor) -> Tensor:
        return self.activation(self.dense(tokens[:, 0]))


class VivitModel(Model):
    """The encoder: (B, T, C, H, W) to normalised tokens (B, 1 + N, D). Or to the class token, the first, alone."""

    config: VivitConfig

    @classmethod
    def of_weights(cls, config: TransformerConfig, names: Collection[str]) -> "VivitModel":
        return cls(cast(VivitConfig, config), add_pooling_layer="pooler.dense.weight" in names)

    def __init__(self, config: VivitConfig, *, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = VivitEmbeddings(config)
        self.encoder = Encoder(config, partial(VivitProjections, config))
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pooler = VivitPooler(config) if add_pooling_layer else None

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("last_hidden_state",) if self.pooler is None else ("last_hidden_state", "pooler_output")

    @property
    def readout(self) -> Readout:
        return "class-token"

    def forward(self, pixel_values: Tensor, *, first_only: bool = False) -> Tensor:
        tokens = self.encoder(self.embeddings(pixel_values), first_only=first_only)
        return cast(Tensor, self.layernorm(tokens))

    def outputs(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """last_hidden_state (B, 1 + N, D), pooler_output (B, P) where there is a pooler, and the encoder's `States`."""
        states = self.encoder.states(self.embeddings(pixel_values))
        tokens = self.layernorm(states.hidden_states[-1])
        pooled = {} if self.pooler is None else {"pooler_output": self.pooler(tokens)}
        return {"last_hidden_state": tokens, **pooled, **states.named()}


class VivitForVideoClassification(Model):
    """ViViT with a linear classifier on the class token."""

    config: VivitConfig

    def __init__(self, config: VivitConfig) -> None:
        super().__init__(config)
        self.vivit = VivitModel(config, add_pooling_layer=False)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    @property
    def readout(self) -> Readout:
        return "class-token"

    def merge(self, removed: int) -> None:
        self.vivit.encoder, self.removed = MergingEncoder(self.vivit.encoder, removed, self.readout), removed

    def forward(self, pixel_values: Tensor) -> Tensor:
        """float32 (B, T, C, H, W), normalised, to logits float32 (B, K).

        Raises ValueError for any other shape.
        """
        tokens = self.vivit(pixel_values, first_only=not self.training)  # (B, 1, D), or (B, 1 + N, D)
        return cast(Tensor, self.classifier(tokens[:, 0]))  # (B, D) -> (B, K)

    def outputs(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """logits (B, K), and the encoder's `States`."""
        encoded = self.vivit.outputs(pixel_values)
        return {"logits": self.classifier(encoded.pop("last_hidden_state")[:, 0]), **encoded}


# What transformers 5 calls weights in memory, and the files, which it still writes so.
_STORED_NAMES = {
    "vivit.layers.": "vivit.encoder.layer.",
    ".attention.q_proj.": ".attention.attention.query.",
    ".attention.k_proj.": ".attention.attention.key.",
    ".attention.v_proj.": ".attention.attention.value.",
    ".attention.o_proj.": ".attention.output.dense.",
    ".mlp.fc1.": ".intermediate.dense.",
    ".mlp.fc2.": ".output.dense.",
}


def stored_name(name: str) -> str:
    """The name of a weight in files, given that already, or the one that transformers 5 has in memory."""
    if name.startswith("layers."):  # of a bare encoder
        name = f"encoder.layer.{name.removeprefix('layers.')}"
    for held, stored in _STORED_NAMES.items():
        name = name.replace(held, stored)
    return name


def published_evaluation(_config: TransformerConfig) -> Evaluation:
    """Every 2nd frame; crops are rounded up and the logits of views averaged.

    Source: google-research/scenic, projects/vivit, dataset_lib/video_ops.py, and test_step in
    projects/vivit/train_utils.py.
    """
    return Evaluation(Sampling("centre-loop", stride=2), crop_rounding="up", averages="logits")


FAMILY = Family(
    name="vivit",
    title="ViViT",
    config=VivitConfig,
    classes={"video-classification": VivitForVideoClassification, "feature-extraction": VivitModel},
    examples={"video-classification": "google/vivit-b-16x2-kinetics400"},
    processor=Processor(
        stem="Vivit",
        defaults=COMMON_DEFAULTS | {"size": {"shortest_edge": 256}, "rescale_factor": 1 / 127.5, "offset": True},
        offset=True,
        nullable=("size", "crop_size", "image_mean", "image_std"),
        unread={"default_to_square": False},
        always_pillow=True,
    ),
    evaluation=published_evaluation,
    heads={"video-classification": ("classifier.",)},
    stored_name=stored_name,
    resize_stored=resize_tables,
    label_files={400: "kinetics400-id2label.json"},  # on which both published ones were trained
)
