"""VideoMAE's encoder, which all of its tasks share, and its config. The family is in videomae.py."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...runtime.bundle.bundle import Readout, Task
from .config import TransformerConfig, height_and_width
from .model import Model
from .transformer import Encoder, TubeletEmbeddings, gather_tokens


@dataclass(frozen=True, kw_only=True)
class VideoMAEConfig(TransformerConfig):
    """Defaults are VideoMAE-B for Kinetics-400.

    patch_size:        (height, width) of a tubelet
    tubelet_size:      frames of a tubelet
    qkv_bias:          whether queries and values have biases; keys never do
    use_mean_pooling:  whether the mean of all tokens is classified, or the first token
    decoder_*:         of the decoder that `VideoMAEForPreTraining` has (videomae_pretraining.py)
    norm_pix_loss:     whether that learns the pixels of each tubelet normalised, or as they are
    head_norm_eps:     of the norm right before a head, `fc_norm`. transformers leaves it at torch's default whatever
                       layer_norm_eps says, and knows no such key; in the original code the two are one
    """

    tubelet_fields: ClassVar[tuple[str, ...]] = ("tubelet_size", "patch_size")
    further_layers: ClassVar[Mapping[Task, tuple[str, ...]]] = {"masked-modeling": ("decoder_num_hidden_layers",)}

    patch_size: tuple[int, int] = (16, 16)
    tubelet_size: int = 2
    layer_norm_eps: float = 1e-12
    use_mean_pooling: bool = True
    decoder_num_attention_heads: int = 6
    decoder_hidden_size: int = 384
    decoder_num_hidden_layers: int = 4
    decoder_intermediate_size: int = 1536
    norm_pix_loss: bool = True
    head_norm_eps: float = 1e-5

    @property
    def tubelet(self) -> tuple[int, int, int]:
        return self.tubelet_size, *self.patch_size

    def large_weights(self, task: Task) -> Iterator[tuple[tuple[str, ...], int]]:
        yield from super().large_weights(task)
        if task == "masked-modeling":
            width = self.decoder_hidden_size
            pixels = prod(self.tubelet) * self.num_channels
            yield ("decoder_hidden_size",), width * width
            yield ("decoder_hidden_size", "decoder_intermediate_size"), width * self.decoder_intermediate_size
            yield ("decoder_hidden_size", *self.tubelet_fields, "num_channels"), width * pixels

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> Self:
        if "patch_size" in config:
            config = {**config, "patch_size": height_and_width(config["patch_size"])}
        return super().from_hub(config)


def sinusoid_table(num_tokens: int, width: int) -> Tensor:
    """Fixed positions (1, N, D), float32: sin(n / 10000^(2i/D)) at column 2i and its cosine at 2i + 1.

    From "Attention Is All You Need" (arXiv:1706.03762), section 3.5. Computed in float64: in float32 the
    angles of far tokens would be off, and the weights were trained with these.
    """
    columns = np.arange(width)
    angles = np.arange(num_tokens)[:, None] / np.power(10000, 2 * (columns // 2) / width)  # (N, D)
    table = np.where(columns % 2 == 0, np.sin(angles), np.cos(angles))
    return torch.from_numpy(table.astype(np.float32))[None]  # (N, D) -> (1, N, D)


class VideoMAEProjections(nn.Module):
    """Asking tokens (B, M, D), all tokens (B, N, D), to query (B, M, D), key, value (B, N, D).

    Keys have no bias.
    """

    q_bias: nn.Parameter | None
    v_bias: nn.Parameter | None

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width)) if config.qkv_bias else None
        self.v_bias = nn.Parameter(torch.zeros(width)) if config.qkv_bias else None

    def forward(self, asking: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query = F.linear(asking, self.query.weight, self.q_bias)
        value = F.linear(tokens, self.value.weight, self.v_bias)
        return query, self.key(tokens), value


class VideoMAEEmbeddings(nn.Module):
    """Tubelet tokens plus fixed positions: (B, T, C, H, W) to (B, N, D). There is no class token."""

    position_embeddings: Tensor

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__()
        self.patch_embeddings = TubeletEmbeddings(config)
        table = sinusoid_table(self.patch_embeddings.num_tokens, config.hidden_size)
        self.register_buffer("position_embeddings", table, persistent=False)  # checkpoints do not hold it

    def forward(self, pixel_values: Tensor) -> Tensor:
        return cast(Tensor, self.patch_embeddings(pixel_values) + self.position_embeddings)


class VideoMAEModel(Model):
    """The encoder: (B, T, C, H, W) to tokens (B, N, D), or the first alone. They are normalised unless they will be
    averaged.
    """

    config: VideoMAEConfig

    @classmethod
    def of_weights(cls, config: TransformerConfig, names: Collection[str]) -> "VideoMAEModel":
        config = cast(VideoMAEConfig, config)
        pooled = config.use_mean_pooling and "fc_norm.weight" in names
        return PooledVideoMAEModel(config) if pooled else VideoMAEModel(config)

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__(config)
        self.embeddings = VideoMAEEmbeddings(config)
        self.encoder = Encoder(config, partial(VideoMAEProjections, config))
        self.layernorm: nn.LayerNorm | None = None
        if not config.use_mean_pooling:
            self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("last_hidden_state",)

    @property
    def readout(self) -> Readout:
        return "mean"  # without a classifier nothing is read from one token rather than another

    def forward(self, pixel_values: Tensor, visible: Tensor | None = None, *, first_only: bool = False) -> Tensor:
        """visible: int64 (B, V), the tokens that the encoder is shown, for pretraining; all of them without it."""
        tokens = self.encoder(self._embed(pixel_values, visible), first_only=first_only)
        return cast(Tensor, tokens if self.layernorm is None else self.layernorm(tokens))

    def outputs(self, pixel_values: Tensor, visible: Tensor | None = None) -> dict[str, Tensor]:
        """last_hidden_state (B, N, D), or (B, V, D), and the encoder's `States`."""
        states = self.encoder.states(self._embed(pixel_values, visible))
        tokens = states.hidden_states[-1]
        return {"last_hidden_state": tokens if self.layernorm is None else self.layernorm(tokens), **states.named()}

    def _embed(self, pixel_values: Tensor, visible: Tensor | None) -> Tensor:
        tokens: Tensor = self.embeddings(pixel_values)  # (B, N, D)
        return tokens if visible is None else gather_tokens(tokens, visible)  # (B, V, D)


class PooledVideoMAEModel(VideoMAEModel):
    """The encoder with the norm through which a classifier reads its mean token: one vector (B, D) a clip.

    It is what the code of VideoMAE v2 on the Hub calls the features of a video. (OpenGVLab/VideoMAEv2,
    models/modeling_finetune.py, forward_features.) transformers has no such class.
    """

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__(config)
        self.fc_norm = nn.LayerNorm(config.hidden_size, eps=config.head_norm_eps)

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("last_hidden_state", "pooler_output")

    def outputs(self, pixel_values: Tensor, visible: Tensor | None = None) -> dict[str, Tensor]:
        """As of the encoder, and pooler_output (B, D)."""
        outputs = super().outputs(pixel_values, visible)
        return {**outputs, "pooler_output": self.fc_norm(outputs["last_hidden_state"].mean(1))}
