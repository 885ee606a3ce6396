"""The parts that families share: a video cut into tubelets, and a pre-norm transformer encoder.

They are the Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929) over tubelets instead of patches.
Modules and parameters carry the names of the Hugging Face checkpoints. So `state_dict()` has exactly the keys of a
file on the Hub.

Axes: B batch, T frames, C channels, H, W, N tokens, D width, h heads, K classes.
"""

from collections.abc import Callable, Iterable
from math import prod
from typing import NamedTuple, cast

from torch import Tensor, nn

from ...preprocess.errors import CheckpointError
from .attention import Attended, Attention, Dense
from .config import ACTIVATIONS, TransformerConfig


class Layer(nn.Module):
    """One pre-norm block: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: TransformerConfig, projections: nn.Module) -> None:
        super().__init__()
        width = config.hidden_size
        self.layernorm_before = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.attention = Attention(config, projections)
        self.layernorm_after = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.intermediate = Dense(width, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.output = Dense(config.intermediate_size, width)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, *, first_only: bool = False) -> Attended:
        """(B, N, D) to (B, N, D), or to (B, 1, D), the first token alone. That still takes from all of them. Beside it
        the weights of the attention, where they are kept.
        """
        asking = tokens = self.layernorm_before(x)
        if first_only:
            x, asking = x[:, :1], tokens[:, :1]  # (B, N, D) -> (B, 1, D)
        context, weights = self.attention(asking, tokens)
        return Attended(self.feed_forward(x + self.dropout(context)), weights)

    def feed_forward(self, x: Tensor) -> Tensor:
        """x + mlp(norm(x)): (B, N, D) to (B, N, D)."""
        hidden = self.activation(self.intermediate(self.layernorm_after(x)))  # (B, N, intermediate_size)
        return cast(Tensor, x + self.dropout(self.output(hidden)))


class States(NamedTuple):
    """What an encoder went through. L layers:

    hidden_states: L + 1 of (B, N, D), what enters the first and leaves each; no norm follows the last
    attentions:    L of (B, h, N, N), or none of them where the attention does not keep its weights
    temporal_attentions:  where layers attend over time first, and then over space: L of the former
    """

    hidden_states: tuple[Tensor, ...]
    attentions: tuple[Tensor, ...]
    temporal_attentions: tuple[Tensor, ...] = ()

    def named(self) -> dict[str, Tensor]:
        """Each under the name that an exported graph gives it: hidden_states.0, ..., attentions.0, ..."""
        return {f"{name}.{i}": value for name, row in self._asdict().items() for i, value in enumerate(row)}


class Stack(nn.Module):
    """Layers in a row, each of which turns (B, N, D) into `Attended`."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layer = nn.ModuleList(layers)

    def states(self, x: Tensor) -> States:
        """(B, N, D) to everything on its way: output_hidden_states and output_attentions of transformers."""
        hidden_states, attentions = [x], []
        for layer in self.layer:
            x, weights = layer(x)
            hidden_states.append(x)
            if weights is not None:
                attentions.append(weights)
        return States(tuple(hidden_states), tuple(attentions))


class Encoder(Stack):
    """The layers in a row, without the norm that follows them. `projections` makes those of one layer."""

    def __init__(self, config: TransformerConfig, projections: Callable[[], nn.Module]) -> None:
        super().__init__(Layer(config, projections()) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, *, first_only: bool = False) -> Tensor:
        """(B, N, D) to (B, N, D); or to (B, 1, D), the first token alone.

        A classifier that reads one token needs no other from the last layer. In ViViT-B to leave the others out there
        saves 7 % of all operations. The logits are the same; not so the draws of dropout, so training asks for all.
        """
        *layers, last = self.layer
        for layer in layers:
            x, _ = layer(x)
        return cast(Tensor, last(x, first_only=first_only).context)


def tubelet_projection(config: TransformerConfig) -> nn.Conv3d:
    """Make what turns each tubelet of (frames, height, width) into one token.

    What is left over where a tubelet does not divide the clip is not looked at, as in the reference. Raises
    CheckpointError where no tubelet fits.
    """
    tubelet = config.tubelet
    if prod(config.grid) == 0:
        clip = (config.num_frames, *config.image_size)
        raise CheckpointError(f"a tubelet of {tubelet} (frames, height, width) does not fit in a clip of {clip}")
    return nn.Conv3d(config.num_channels, config.hidden_size, tubelet, stride=tubelet)


def tubelet_tokens(projection: nn.Conv3d, pixel_values: Tensor, clip_shape: tuple[int, int, int, int]) -> Tensor:
    """Cut clips into tubelets: float32 (B, T, C, H, W) to (B, N, D).

    Tokens run along the width first, then the height, then time. Raises ValueError for clips of another shape.
    """
    if pixel_values.ndim != 5 or tuple(pixel_values.shape[1:]) != clip_shape:
        raise ValueError(
            f"pixel_values must be (B, {', '.join(map(str, clip_shape))}), "
            f"got pixel_values.shape = {tuple(pixel_values.shape)}"
        )
    volume = pixel_values.transpose(1, 2)  # (B, T, C, H, W) -> (B, C, T, H, W)
    features = projection(volume)  # (B, D, T', H', W')
    # (B, D, T', H', W') -> (B, D, N) -> (B, N, D)
    return cast(Tensor, features.flatten(2).transpose(1, 2))


class TubeletEmbeddings(nn.Module):
    """A clip cut into tubelets, each one token; see `tubelet_tokens`."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.projection = tubelet_projection(config)
        self.num_tokens = prod(config.grid)
        self.clip_shape = config.clip_shape

    def forward(self, pixel_values: Tensor) -> Tensor:
        """float32 (B, T, C, H, W) to (B, N, D)."""
        return tubelet_tokens(self.projection, pixel_values, self.clip_shape)


def gather_tokens(tokens: Tensor, indices: Tensor) -> Tensor:
    """Take from tokens (B, N, D) those with the indices int64 (B, M) of their own clip: (B, M, D)."""
    return tokens.gather(1, indices.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))  # (B, M) -> (B, M, D)
