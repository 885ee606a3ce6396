"""What config.json says of a model of any family."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ...preprocess.errors import CheckpointError
from ...runtime.bundle.bundle import Task
from ...runtime.tokens import Grid

# No width, side or count of a config is larger, so that products of them stay exact.
MOST = 1_000_000
# The largest published of their kind, V-JEPA 2 at 384 pixels, has 18,432.
MOST_TOKENS = 32_768

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
    """What the config.json of every family says, under its own names.

    image_size:  (height, width) in pixels
    qkv_bias:    whether the attention projections have biases
    num_labels:  K, which config.json gives as the length of id2label
    Raises CheckpointError for a value that no model can have.
    """

    tubelet_fields: ClassVar[tuple[str, ...]]  # those that say how large a tubelet is
    further_layers: ClassVar[Mapping[Task, tuple[str, ...]]] = {}  # those that count layers beside num_hidden_layers
    most_tokens: ClassVar[int] = MOST_TOKENS
    hub_names: ClassVar[Mapping[str, str]] = {}  # what config.json calls those of our fields that it names otherwise

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
                raise CheckpointError(f"{self.hub_name(field.name)} must be {expected}, got {value!r}")
        if self.hidden_act not in ACTIVATIONS:
            raise CheckpointError(
                f"hidden_act {self.hidden_act!r} is not supported; supported are {', '.join(ACTIVATIONS)}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise CheckpointError(
                f"hidden_size must be a multiple of num_attention_heads, got {self.hidden_size} and "
                f"{self.num_attention_heads}"
            )
        if prod(self.grid) > self.most_tokens:
            height, width = self.image_size
            frames, size = self.hub_name("num_frames"), self.hub_name("image_size")
            raise CheckpointError(
                f"clips of {frames} {self.num_frames} and {size} {height}x{width} are {prod(self.grid)} tubelets "
                f"of {'x'.join(map(str, self.tubelet))}, at most {self.most_tokens}: attention compares each with "
                "each",
                fix=f"correct {frames} and {size} in config.json, or give a smaller --num-frames or --image-size",
            )

    @classmethod
    def hub_name(cls, field: str) -> str:
        """What config.json calls a field."""
        return cls.hub_names.get(field, field)

    @property
    def tubelet(self) -> tuple[int, int, int]:
        """(frames, height, width) of what one token covers; each family has its own fields for it."""
        raise NotImplementedError

    @property
    def grid(self) -> Grid:
        """(T', H', W'): how many whole tubelets a clip has along time, height and width."""
        sides = zip((self.num_frames, *self.image_size), self.tubelet, strict=True)
        return Grid(*(side // step for side, step in sides))

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, C, H, W) of the one clip size that the model takes."""
        return self.num_frames, self.num_channels, *self.image_size

    def large_weights(self, task: Task) -> Iterator[tuple[tuple[str, ...], int]]:
        """The fields that make up each kind of large weight, and how many values it has."""
        width = self.hidden_size
        yield ("hidden_size",), width * width
        yield ("hidden_size", *self.tubelet_fields, "num_channels"), width * prod(self.tubelet) * self.num_channels
        yield ("hidden_size", "intermediate_size"), width * self.intermediate_size
        if task == "video-classification":
            yield ("hidden_size", "num_labels"), width * self.num_labels

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> Self:
        """The config of a parsed config.json. Keys that do not shape a model are ignored.

        Raises CheckpointError for a value that no model can have.
        """
        names = {field.name: cls.hub_name(field.name) for field in dataclasses.fields(cls)}
        values = {name: config[stored] for name, stored in names.items() if stored in config}
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
        case None:
            return value is None or _is_count(value), f"a whole number above 0, at most {MOST}, or null"
        case bool():
            return isinstance(value, bool), "true or false"
        case int():
            return _is_count(value), f"a whole number above 0, at most {MOST}"
        case float():  # an epsilon or a probability
            valid = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
            return valid, "a number from 0 to below 1"
        case tuple():
            if not like:  # numbers of something that is counted from 0 on
                valid = isinstance(value, tuple) and all(entry == 0 or _is_count(entry) for entry in value)
                return valid, f"whole numbers from 0 to {MOST}"
            valid = isinstance(value, tuple) and len(value) == len(like) and all(map(_is_count, value))
            return valid, f"{len(like)} whole numbers above 0, at most {MOST}"
        case _:
            return isinstance(value, str), "a name"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST
