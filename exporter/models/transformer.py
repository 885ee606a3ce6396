"""The parts that ViViT and VideoMAE share: a video cut into tubelets, and a pre-norm transformer encoder.

Both are the Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929) over tubelets instead of patches.
Modules and parameters carry the names of the Hugging Face checkpoints, so that `state_dict()` has exactly the
keys of a file on the Hub.

Axes: B batch, T frames, C channels, H, W, N tokens, D width, h heads, K classes.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...preprocess.errors import CheckpointError

# GELU with the tanh approximation goes by many names in configs. They are one function up to rounding: 2.4e-7
# in float32 between torch's kernel and "gelu_fast" spelt out, on [-8, 8].
gelu_tanh = partial(F.gelu, approximate="tanh")


def clipped_gelu(x: Tensor) -> Tensor:
    return F.gelu(x).clamp(-10.0, 10.0)


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def squared_relu(x: Tensor) -> Tensor:
    return F.relu(x).square()


def identity(x: Tensor) -> Tensor:
    return x


# What `hidden_act` may be: the names of transformers' table that stand for a function without weights.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_10": clipped_gelu,
    "gelu_accurate": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_new": gelu_tanh,
    "gelu_python": F.gelu,
    "gelu_python_tanh": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "hardswish": F.hardswish,
    "leaky_relu": F.leaky_relu,
    "linear": identity,
    "mish": F.mish,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "relu2": squared_relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """What the config.json of both families says, under its own names.

    image_size:  (height, width) in pixels
    qkv_bias:    whether the attention projections have biases
    num_labels:  K, which config.json gives as the length of id2label
    Raises CheckpointError for a value that no model can have.
    """

    image_size: tuple[int, int] = (224, 224)
    num_frames: int = 16
    num_channels: int = 3
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    num_labels: int = 400

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            valid, expected = _judge(value, like=field.default)
            if not valid:
                raise CheckpointError(f"{field.name} must be {expected}, got {value!r}")
        if self.hidden_act not in ACTIVATIONS:
            raise CheckpointError(
                f"hidden_act {self.hidden_act!r} is not supported; supported are {', '.join(ACTIVATIONS)}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise CheckpointError(
                f"hidden_size must be a multiple of num_attention_heads, got {self.hidden_size} and "
                f"{self.num_attention_heads}"
            )

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, C, H, W) of the one clip size that the model takes."""
        return self.num_frames, self.num_channels, *self.image_size

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> Self:
        """The config of a parsed config.json. Keys that do not shape the classifier are ignored.

        Raises CheckpointError for a value that no model can have.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        values = {name: value for name, value in config.items() if name in names}
        if "qv_bias" in config:  # what transformers 5 writes for VideoMAE, where the Hub has qkv_bias
            values["qkv_bias"] = config["qv_bias"]
        if "image_size" in values:
            values["image_size"] = height_and_width(values["image_size"])
        values["num_labels"] = _label_count(config)
        return cls(**values)


def height_and_width(size: Any) -> Any:
    """(height, width) of a size given as one number or a list; anything else is returned as it is."""
    if isinstance(size, int):
        return size, size
    return tuple(size) if isinstance(size, list) else size


def _label_count(config: Mapping[str, Any]) -> int:
    """K: the length of id2label; transformers leaves it away for the 2 labels that are its default."""
    id2label = config.get("id2label")
    if id2label is None:
        return cast(int, config.get("num_labels", 2))
    if not isinstance(id2label, Mapping):
        raise CheckpointError(f"id2label must be an object of index to label, got {id2label!r}")
    if config.get("num_labels", len(id2label)) != len(id2label):
        raise CheckpointError(
            f"config.json says num_labels {config['num_labels']}, and its id2label has {len(id2label)}"
        )
    return len(id2label)


def _judge(value: Any, *, like: Any) -> tuple[bool, str]:
    """Whether a config value may stand where the default is `like`, and what was expected."""
    match like:
        case bool():
            return isinstance(value, bool), "true or false"
        case int():
            return _is_count(value), "a whole number above 0"
        case float():  # an epsilon or a probability
            valid = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
            return valid, "a number from 0 to below 1"
        case tuple():
            valid = isinstance(value, tuple) and len(value) == len(like) and all(map(_is_count, value))
            return valid, f"{len(like)} whole numbers above 0"
        case _:
            return isinstance(value, str), "a name"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


class Attend(Protocol):
    """Scaled dot-product attention of queries (B, M, D) to keys and values (B, N, D), heads side by side in D; returns
    (B, M, D)."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, *, num_heads: int, scale: float) -> Tensor: ...


def sdpa_attention(
    query: Tensor, key: Tensor, value: Tensor, *, num_heads: int, scale: float, dropout: float = 0.0
) -> Tensor:
    """softmax(scale * query key^T) value for each head, by torch's fused kernel; shapes as in `Attend`."""

    def split(x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (num_heads, -1)).transpose(1, 2)  # (B, N, D) -> (B, h, N, D / h)

    context = F.scaled_dot_product_attention(split(query), split(key), split(value), dropout_p=dropout, scale=scale)
    return context.transpose(1, 2).flatten(2)  # (B, h, N, D / h) -> (B, N, D)


class Dense(nn.Module):
    """A linear layer under the name `dense`, as the checkpoints store it."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(in_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.dense(x))


class Attention(nn.Module):
    """Multi-head self-attention: what some tokens of a clip, (B, M, D), take from all of them, (B, N, D).

    `projections` turns both into query (B, M, D), key and value (B, N, D); its weights and biases are the family's own.
    `attend` is the attention between them. An export may put another function of that shape in its place.
    """

    attend: Attend

    def __init__(self, config: TransformerConfig, projections: nn.Module) -> None:
        super().__init__()
        self.attention = projections
        self.output = Dense(config.hidden_size, config.hidden_size)
        self.attend = sdpa_attention
        self.num_heads = config.num_attention_heads
        self.scale = (config.hidden_size // config.num_attention_heads) ** -0.5
        self.dropout = config.attention_probs_dropout_prob

    def forward(self, asking: Tensor, tokens: Tensor) -> Tensor:
        """asking (B, M, D), tokens (B, N, D), to (B, M, D)."""
        query, key, value = self.attention(asking, tokens)
        attend = self.attend
        if self.training and self.dropout > 0:
            attend = partial(sdpa_attention, dropout=self.dropout)
        context = attend(query, key, value, num_heads=self.num_heads, scale=self.scale)
        return cast(Tensor, self.output(context))


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

    def forward(self, x: Tensor, *, first_only: bool = False) -> Tensor:
        """(B, N, D) to (B, N, D); or to (B, 1, D), the first token alone, which still takes from all of them."""
        asking = tokens = self.layernorm_before(x)
        if first_only:
            x, asking = x[:, :1], tokens[:, :1]  # (B, N, D) -> (B, 1, D)
        x = x + self.dropout(self.attention(asking, tokens))
        hidden = self.activation(self.intermediate(self.layernorm_after(x)))  # (B, N, intermediate_size)
        return x + cast(Tensor, self.dropout(self.output(hidden)))


class Encoder(nn.Module):
    """The layers in a row, without the norm that follows them. `projections` makes those of one layer."""

    def __init__(self, config: TransformerConfig, projections: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config, projections()) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, *, first_only: bool = False) -> Tensor:
        """(B, N, D) to (B, N, D); or to (B, 1, D), the first token alone.

        A classifier that reads one token needs no other from the last layer, and in ViViT-B to leave the others out
        there saves 7 % of all operations. The logits are the same; not so the draws of dropout, so training asks for
        all.
        """
        *layers, last = self.layer
        for layer in layers:
            x = layer(x)
        return cast(Tensor, last(x, first_only=first_only))


class TubeletEmbeddings(nn.Module):
    """A clip cut into tubelets of (frames, height, width), each one token.

    Tokens run along the width first, then the height, then time. What is left over where a tubelet does not
    divide the clip is not looked at, as in the reference. Raises CheckpointError where no tubelet fits.
    """

    def __init__(self, config: TransformerConfig, tubelet: tuple[int, int, int]) -> None:
        super().__init__()
        frames, height, width = config.num_frames, *config.image_size
        self.num_tokens = (frames // tubelet[0]) * (height // tubelet[1]) * (width // tubelet[2])
        if self.num_tokens == 0:
            raise CheckpointError(
                f"a tubelet of {tubelet} (frames, height, width) does not fit in a clip of {(frames, height, width)}"
            )
        self.clip_shape = config.clip_shape
        self.projection = nn.Conv3d(config.num_channels, config.hidden_size, tubelet, stride=tubelet)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """float32 (B, T, C, H, W) to (B, N, D). Raises ValueError for any other shape."""
        if pixel_values.ndim != 5 or tuple(pixel_values.shape[1:]) != self.clip_shape:
            raise ValueError(
                f"pixel_values must be (B, {', '.join(map(str, self.clip_shape))}), "
                f"got pixel_values.shape = {tuple(pixel_values.shape)}"
            )
        volume = pixel_values.transpose(1, 2)  # (B, T, C, H, W) -> (B, C, T, H, W)
        features = self.projection(volume)  # (B, D, T', H', W')
        # (B, D, T', H', W') -> (B, D, N) -> (B, N, D)
        return cast(Tensor, features.flatten(2).transpose(1, 2))
