"""VideoMAE's pretraining (Tong et al. 2022, arXiv:2203.12602, section 3). Most tubelets of a clip are hidden, and a
small decoder draws them from the few that the encoder saw.

The published weights are MCG-NJU/videomae-{base,base-short,large,...}. Names and numbers follow
`VideoMAEForPreTraining` of transformers, with one difference: what is hidden is given as indices, not as booleans. So
nothing but the batch of an exported graph depends on the values that it is given.

Axes: B batch, N tokens, V of them visible, M = N - V masked. d is the width of the decoder, P the pixel values of a
tubelet.
"""

from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...preprocess.errors import CheckpointError
from ...preprocess.spec import IMAGENET_MEAN, IMAGENET_STD
from ...runtime.bundle.bundle import Readout
from .model import Model
from .transformer import Layer, gather_tokens
from .videomae_encoder import VideoMAEConfig, VideoMAEModel, VideoMAEProjections, sinusoid_table


def decoder_config(config: VideoMAEConfig) -> VideoMAEConfig:
    """The config that the decoder's layers are made of."""
    width, heads = config.decoder_hidden_size, config.decoder_num_attention_heads
    if width % heads:
        raise CheckpointError(
            f"decoder_hidden_size must be a multiple of decoder_num_attention_heads, got {width} and {heads}"
        )
    return replace(
        config,
        hidden_size=width,
        num_hidden_layers=config.decoder_num_hidden_layers,
        num_attention_heads=heads,
        intermediate_size=config.decoder_intermediate_size,
    )


def split_tokens(bool_masked_pos: Tensor) -> tuple[Tensor, Tensor]:
    """bool (B, N), True for a masked token, to indices of visible (B, V) and masked tokens (B, M). They are int64 and
    rise. Raises ValueError where rows hide different numbers of tokens.
    """
    counts = bool_masked_pos.sum(1)  # (B,)
    if (counts != counts[0]).any():
        raise ValueError(f"every clip must have the same number of masked tokens, got {counts.tolist()}")
    # A stable sort puts the False of each row first and keeps the order of either kind.
    order = bool_masked_pos.to(torch.int8).argsort(dim=1, stable=True)  # (B, N)
    masked = int(counts[0])
    return order[:, : order.shape[1] - masked], order[:, order.shape[1] - masked :]


class VideoMAEDecoder(nn.Module):
    """Encoded and mask tokens (B, N, d), the masked ones last, to the pixels of those: (B, M, P)."""

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__()
        inner = decoder_config(config)
        self.decoder_layers = nn.ModuleList(
            Layer(inner, VideoMAEProjections(inner)) for _ in range(inner.num_hidden_layers)
        )
        self.norm = nn.LayerNorm(inner.hidden_size, eps=config.head_norm_eps)
        height, width = config.patch_size
        self.head = nn.Linear(inner.hidden_size, config.tubelet_size * height * width * config.num_channels)

    def forward(self, x: Tensor, num_masked: int) -> Tensor:
        for layer in self.decoder_layers:
            x, _ = layer(x)
        return cast(Tensor, self.head(self.norm(x[:, -num_masked:])))  # (B, N, d) -> (B, M, d) -> (B, M, P)


class VideoMAEForPreTraining(Model):
    """VideoMAE with the decoder that it is pretrained with."""

    config: VideoMAEConfig
    position_embeddings: Tensor

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__(config)
        self.videomae = VideoMAEModel(config)
        width = config.decoder_hidden_size
        self.encoder_to_decoder = nn.Linear(config.hidden_size, width, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        table = sinusoid_table(self.videomae.embeddings.patch_embeddings.num_tokens, width)
        self.register_buffer("position_embeddings", table, persistent=False)  # checkpoints do not hold it
        self.decoder = VideoMAEDecoder(config)

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("visible", "masked")

    @property
    def readout(self) -> Readout:
        return "mean"

    @property
    def norm_pix_loss(self) -> bool:
        return self.config.norm_pix_loss

    @property
    def encoding(self) -> nn.Module:
        return self.videomae

    def forward(self, pixel_values: Tensor, visible: Tensor, masked: Tensor) -> Tensor:
        """Normalised pixels, and the indices of `split_tokens`, to logits float32 (B, M, P).

        The pixels are float32 (B, T, C, H, W), the indices int64, (B, V) and (B, M). The logits are the pixels of each
        masked tubelet, (frames, height, width, C) in a row. They are normalised within the tubelet where the model
        learnt them so (norm_pix_loss). Raises ValueError for any other shape.
        """
        return self._decode(self.videomae(pixel_values, visible), visible, masked)

    def outputs(self, pixel_values: Tensor, visible: Tensor, masked: Tensor) -> dict[str, Tensor]:
        """logits (B, M, P), and the encoder's `States`, of visible tokens."""
        encoded = self.videomae.outputs(pixel_values, visible)
        return {"logits": self._decode(encoded.pop("last_hidden_state"), visible, masked), **encoded}

    def _decode(self, tokens: Tensor, visible: Tensor, masked: Tensor) -> Tensor:
        positions = self.position_embeddings[0]  # (1, N, d) -> (N, d)
        shown = self.encoder_to_decoder(tokens) + positions[visible]  # (B, V, d)
        hidden = self.mask_token + positions[masked]  # (B, M, d)
        return cast(Tensor, self.decoder(torch.cat([shown, hidden], dim=1), masked.shape[1]))

    def loss(self, logits: Tensor, pixel_values: Tensor, masked: Tensor) -> Tensor:
        """The mean squared error of logits (B, M, P) against what the masked tubelets hold."""
        return F.mse_loss(logits, gather_tokens(self.targets(pixel_values), masked))

    def targets(self, pixel_values: Tensor) -> Tensor:
        """What such a model learns to draw: pixel_values (B, T, C, H, W) to (B, N, P) for all tubelets.

        They are of pixels in [0, 1], taken from pixel_values by the mean and deviation of ImageNet. That holds
        whatever the processor normalised with, as in the reference. With norm_pix_loss each channel of a tubelet has
        mean 0 and unbiased standard deviation 1. Raises ValueError for clips that have no mean and deviation of
        ImageNet, as the reference does.
        """
        frames = pixel_values
        if self.config.num_channels == 3:
            mean, std = (pixel_values.new_tensor(x).view(1, 1, 3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
            frames = pixel_values * std + mean
        elif not self.config.norm_pix_loss:
            raise ValueError(f"pixels of {self.config.num_channels} channels are learnt with norm_pix_loss only")
        size, (height, width) = self.config.tubelet_size, self.config.patch_size
        for axis, side in ((1, size), (4, height), (6, width)):
            frames = torch.unflatten(frames, axis, (-1, side))
        # (B, T', size, C, H', height, W', width) -> (B, T', H', W', size, height, width, C) -> (B, N, pixels, C)
        tubelets = frames.permute(0, 1, 4, 6, 2, 5, 7, 3).flatten(4, 6).flatten(1, 3)
        if self.config.norm_pix_loss:
            deviation = tubelets.var(dim=2, unbiased=True, keepdim=True).sqrt() + 1e-6
            tubelets = (tubelets - tubelets.mean(dim=2, keepdim=True)) / deviation
        return tubelets.flatten(2)  # (B, N, pixels, C) -> (B, N, P)
