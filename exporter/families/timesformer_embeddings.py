"""TimeSformer's tokens: patches of single frames, and learned positions in space and in time.

Axes beside those of transformer.py: P places of a frame, which are H' * W' patches.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...preprocess.errors import CheckpointError
from .timesformer_config import TimesformerConfig


class PatchEmbeddings(nn.Module):
    """Each frame of a clip cut into patches: (B, T, C, H, W) to (B, T, P, D).

    Places run along the width first. What is left over where a patch does not divide the frame is not looked at.
    Raises CheckpointError where no patch fits.
    """

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__()
        if config.places == 0:
            raise CheckpointError(
                f"a patch of {config.patch_size} (height, width) does not fit in a frame of {config.image_size}"
            )
        self.clip_shape = config.clip_shape
        self.projection = nn.Conv2d(config.num_channels, config.hidden_size, config.patch_size, config.patch_size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Raises ValueError for clips of any other shape."""
        if pixel_values.ndim != 5 or tuple(pixel_values.shape[1:]) != self.clip_shape:
            raise ValueError(
                f"pixel_values must be (B, {', '.join(map(str, self.clip_shape))}), "
                f"got pixel_values.shape = {tuple(pixel_values.shape)}"
            )
        volume = pixel_values.transpose(1, 2)  # (B, T, C, H, W) -> (B, C, T, H, W)
        # In three dimensions, so that frames need not be folded into the batch.
        kernel = self.projection.weight.unsqueeze(2)  # (D, C, h, w) -> (D, C, 1, h, w)
        features = F.conv3d(volume, kernel, self.projection.bias, stride=(1, *self.projection.stride))
        return features.flatten(3).permute(0, 2, 3, 1)  # (B, D, T, H', W') -> (B, D, T, P) -> (B, T, P, D)


class TimesformerEmbeddings(nn.Module):
    """The patches of each frame behind a class token: (B, T, C, H, W) to (B, T, 1 + P, D). Learned positions in space
    are added, and in time where `time_embeddings` are.

    The class token is the same in every frame: it has no position in time.
    """

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + config.places, width))
        self.patch_embeddings = PatchEmbeddings(config)
        self.time_embeddings: nn.Parameter | None = None
        if config.attention_type != "space_only":
            self.time_embeddings = nn.Parameter(torch.zeros(1, config.num_frames, width))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, pixel_values: Tensor) -> Tensor:
        patches = self.patch_embeddings(pixel_values)  # (B, T, P, D)
        if self.time_embeddings is not None:
            patches = patches + self.time_embeddings.transpose(0, 1)  # (1, T, D) -> (T, 1, D)
        # The class token joins through the table of positions, in front of a row of zeros: to repeat it over the batch
        # would leave a chain of Shape and Expand in an exported graph.
        cls_row = F.pad(self.cls_token, (0, 0, 0, patches.shape[2]))  # (1, 1, D) -> (1, 1 + P, D)
        tokens = F.pad(patches, (0, 0, 1, 0))  # (B, T, P, D) -> (B, T, 1 + P, D)
        return cast(Tensor, self.dropout(tokens + (self.position_embeddings + cls_row)))
