"""TimeSformer's encoders (Bertasius et al. 2021, arXiv:2102.05095). Attention over time and attention over space follow
one another. Two more kinds are those that the paper compares it with.

Behind the class token, the tokens of a clip run over all times of one place, then of the next. That is the order of
transformers. The family is in timesformer.py.

Axes beside those of transformer.py: P places of a frame (H' * W' patches), so that N = P * T.
"""

from functools import partial
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...runtime.bundle.bundle import Readout, TokenOrder
from .attention import Attention
from .model import Model
from .timesformer_config import TimesformerConfig
from .timesformer_embeddings import TimesformerEmbeddings
from .transformer import Encoder, Layer, Stack, States


class TimesformerProjections(nn.Module):
    """From tokens that ask (B, M, D) and all tokens (B, N, D): query (B, M, D), key and value (B, N, D).

    The three lie one above the other in one matrix.
    """

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__()
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.qkv_bias)

    def forward(self, asking: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        width = asking.shape[-1]
        query, key, value = (
            F.linear(given, self.qkv.weight[start : start + width], self._bias(start, width))  # (3 * D, D) -> (D, D)
            for start, given in zip(range(0, 3 * width, width), (asking, tokens, tokens), strict=True)
        )
        return query, key, value

    def _bias(self, start: int, width: int) -> Tensor | None:
        bias: Tensor | None = self.qkv.bias
        return None if bias is None else bias[start : start + width]


class DividedAttended(NamedTuple):
    """context is (B, 1 + N, D), or the class token alone (B, 1, D). Each row of the weights has the sum 1. They are
    None from attention that never writes them.

    weights:           within each frame, (B * T, h, 1 + P, 1 + P)
    temporal_weights:  within each place, (B * P, h, T, T)
    """

    context: Tensor
    weights: Tensor | None
    temporal_weights: Tensor | None


class DividedLayer(Layer):
    """One block of divided attention, then x + mlp(norm(x)). Each patch takes from those of its place, then from those
    of its frame and the class token. The class token takes from every frame and keeps the mean."""

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__(config, TimesformerProjections(config))
        width = config.hidden_size
        self.temporal_layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.temporal_attention = Attention(config, TimesformerProjections(config))
        self.temporal_dense: nn.Module = nn.Linear(width, width)
        self.times, self.places, self.width = config.num_frames, config.places, width

    def forward(self, x: Tensor, *, first_only: bool = False) -> DividedAttended:  # type: ignore[override]
        cls_token, patches = x[:, :1], x[:, 1:]  # (B, 1, D), (B, N, D)
        over_time, temporal_weights = self._over_time(patches)
        patches = patches + over_time
        over_space, weights = self._over_space(cls_token, patches, first_only=first_only)
        to_cls = over_space[:, :, 0].mean(1, keepdim=True)  # (B, T, 1 + P, D) -> (B, T, D) -> (B, 1, D)
        x = cls_token + to_cls
        if not first_only:
            # (B, T, 1 + P, D) -> (B, T, P, D) -> (B, P, T, D) -> (B, N, D)
            to_patches = over_space[:, :, 1:].transpose(1, 2).flatten(1, 2)
            x = torch.cat([x, patches + to_patches], dim=1)
        return DividedAttended(self.feed_forward(x), weights, temporal_weights)

    def fold(self) -> None:
        """Make one linear map of the two behind attention over time, with nothing between them: 1/17 of the work."""
        first, second = self.temporal_attention.output.dense, cast(nn.Linear, self.temporal_dense)
        joined = nn.Linear(self.width, self.width, device="meta")
        weight, bias = second.weight.double(), second.bias.double()
        joined.weight = nn.Parameter((weight @ first.weight.double()).float(), requires_grad=False)
        joined.bias = nn.Parameter((weight @ first.bias.double() + bias).float(), requires_grad=False)
        self.temporal_attention.output.dense = joined
        self.temporal_dense = nn.Identity()

    def _over_time(self, patches: Tensor) -> tuple[Tensor, Tensor | None]:
        """What each of the patches (B, N, D) takes from its place: (B, N, D)."""
        places = patches.reshape(-1, self.times, self.width)  # (B, N, D) -> (B * P, T, D)
        normed = self.temporal_layernorm(places)
        context, weights = self.temporal_attention(normed, normed)
        taken = self.temporal_dense(self.dropout(context))
        return taken.reshape(-1, self.places * self.times, self.width), weights  # (B * P, T, D) -> (B, N, D)

    def _over_space(self, cls_token: Tensor, patches: Tensor, *, first_only: bool) -> tuple[Tensor, Tensor | None]:
        """What the class token (B, 1, D) and patches (B, N, D) take from each frame: (B, T, 1 + P, D). For the class
        token alone it is (B, T, 1, D)."""
        frames = patches.reshape(-1, self.places, self.times, self.width).transpose(1, 2)  # (B, T, P, D)
        # Times one, which repeats the token in every frame without asking for the size of the batch.
        in_frames = cls_token.unsqueeze(1) * cls_token.new_ones(1, self.times, 1, 1)  # (B, 1, 1, D) -> (B, T, 1, D)
        tokens = torch.cat([in_frames, frames], dim=2).flatten(0, 1)  # (B, T, 1 + P, D) -> (B * T, 1 + P, D)
        asking = tokens = self.layernorm_before(tokens)
        if first_only:
            asking = tokens[:, :1]  # (B * T, 1, D)
        context, weights = self.attention(asking, tokens)
        taken = self.dropout(context)
        return taken.reshape(-1, self.times, asking.shape[1], self.width), weights  # (B * T, M, D) -> (B, T, M, D)


class DividedEncoder(Stack):
    """Layers of divided attention. They turn (B, T, 1 + P, D) into tokens (B, 1 + N, D), or the class token alone (B,
    1, D)."""

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__(DividedLayer(config) for _ in range(config.num_hidden_layers))
        self.times, self.places = config.num_frames, config.places

    def forward(self, frames: Tensor, *, first_only: bool = False) -> Tensor:
        x = in_a_row(frames)
        *layers, last = self.layer
        for layer in layers:
            x = layer(x).context
        return cast(Tensor, last(x, first_only=first_only).context)

    def states(self, frames: Tensor) -> tuple[Tensor, States]:  # type: ignore[override]
        """The tokens, and all on their way. The attentions of a layer are two, by frame and by place."""
        x = in_a_row(frames)
        hidden_states, attentions, temporal_attentions = [x], [], []
        for layer in self.layer:
            x, weights, temporal_weights = layer(x)
            hidden_states.append(x)
            if weights is not None and temporal_weights is not None:
                # (B * T, h, 1 + P, 1 + P) -> (B, T, h, 1 + P, 1 + P); (B * P, h, T, T) -> (B, P, h, T, T)
                attentions.append(weights.reshape(-1, self.times, *weights.shape[1:]))
                temporal_attentions.append(temporal_weights.reshape(-1, self.places, *temporal_weights.shape[1:]))
        return x, States(tuple(hidden_states), tuple(attentions), tuple(temporal_attentions))


class JointEncoder(Encoder):
    """Layers in which every token takes from every other. They turn (B, T, 1 + P, D) into tokens (B, 1 + N, D)."""

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__(config, partial(TimesformerProjections, config))

    def forward(self, frames: Tensor, *, first_only: bool = False) -> Tensor:
        return super().forward(in_a_row(frames), first_only=first_only)

    def states(self, frames: Tensor) -> tuple[Tensor, States]:  # type: ignore[override]
        states = super().states(in_a_row(frames))
        return states.hidden_states[-1], states


class FramesEncoder(Encoder):
    """Layers in which a frame knows of no other. They turn (B, T, 1 + P, D) into the mean over frames, (B, 1 + P, D).

    The mean is the original's. transformers lacks it, and answers for each frame.
    """

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__(config, partial(TimesformerProjections, config))
        self.times, self.width = config.num_frames, config.hidden_size

    def forward(self, frames: Tensor, *, first_only: bool = False) -> Tensor:
        x = super().forward(frames.flatten(0, 1), first_only=first_only)  # (B * T, M, D)
        return self._by_clip(x).mean(1)

    def states(self, frames: Tensor) -> tuple[Tensor, States]:  # type: ignore[override]
        """The tokens, and all on their way, which is that of each frame: (B, T, ...)."""
        states = super().states(frames.flatten(0, 1))
        hidden_states = tuple(map(self._by_clip, states.hidden_states))
        return hidden_states[-1].mean(1), States(hidden_states, tuple(map(self._by_clip, states.attentions)))

    def _by_clip(self, of_frames: Tensor) -> Tensor:
        return of_frames.reshape(-1, self.times, *of_frames.shape[1:])  # (B * T, ...) -> (B, T, ...)


def in_a_row(frames: Tensor) -> Tensor:
    """Put the tokens of each frame (B, T, 1 + P, D) in the order of a clip (B, 1 + N, D). The class token of the first
    frame, which all have, comes first; then place by place."""
    patches = frames[:, :, 1:].transpose(1, 2).flatten(1, 2)  # (B, T, P, D) -> (B, P, T, D) -> (B, N, D)
    return torch.cat([frames[:, 0, :1], patches], dim=1)


# By attention_type.
ENCODERS: dict[str, type[DividedEncoder] | type[JointEncoder] | type[FramesEncoder]] = {
    "divided_space_time": DividedEncoder,
    "joint_space_time": JointEncoder,
    "space_only": FramesEncoder,
}


class TimesformerModel(Model):
    """The encoder: (B, T, C, H, W) to the normalised tokens of one of ENCODERS, or to the class token alone."""

    config: TimesformerConfig

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__(config)
        self.embeddings = TimesformerEmbeddings(config)
        self.encoder = ENCODERS[config.attention_type](config)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("last_hidden_state",)

    @property
    def readout(self) -> Readout:
        return "class-token"

    @property
    def token_order(self) -> TokenOrder:
        return "slice-by-slice" if self.config.attention_type == "space_only" else "place-by-place"

    @property
    def attention_names(self) -> tuple[str, ...]:
        names = super().attention_names
        if self.config.attention_type == "divided_space_time":
            return (*names, *(f"temporal_{name}" for name in names))
        return names

    def fold(self) -> None:
        for layer in self.encoder.layer:
            if isinstance(layer, DividedLayer):
                layer.fold()

    def forward(self, pixel_values: Tensor, *, first_only: bool = False) -> Tensor:
        tokens = self.encoder(self.embeddings(pixel_values), first_only=first_only)
        return cast(Tensor, self.layernorm(tokens))

    def outputs(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """last_hidden_state (B, 1 + N, D), or (B, 1 + P, D) of "space_only", and the encoder's `States`."""
        tokens, states = self.encoder.states(self.embeddings(pixel_values))
        return {"last_hidden_state": self.layernorm(tokens), **states.named()}
