"""TimeSformer (Bertasius et al. 2021, arXiv:2102.05095): attention over time and attention over space, one after the
other, and the two kinds that the paper compares it with.

The published weights are facebook/timesformer-*; names and numbers follow `TimesformerModel` and
`TimesformerForVideoClassification` of transformers. Tokens of a clip run over all times of one place, then those of
the next place, behind the class token, as there.

Axes beside those of transformer.py: P places of a frame, which are H' * W' patches; N = P * T.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any, ClassVar, NamedTuple, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...preprocess.errors import CheckpointError
from ...preprocess.spec import IMAGENET_MEAN, IMAGENET_STD, Evaluation, Sampling
from ...runtime.bundle.bundle import Readout, Task, TokenOrder
from ...runtime.tokens import Grid
from .attention import Attention
from .config import TransformerConfig, height_and_width
from .family import COMMON_DEFAULTS, Family, Processor, Weights
from .model import Model
from .positions import interpolate_positions
from .transformer import Encoder, Layer, Stack, States
from .videomae import FAMILY as VIDEOMAE


@dataclass(frozen=True, kw_only=True)
class TimesformerConfig(TransformerConfig):
    """Defaults are TimeSformer-B/8x32 for Kinetics-400.

    patch_size:      (height, width) of a token, which covers one frame
    attention_type:  one of ENCODERS
    """

    tubelet_fields: ClassVar[tuple[str, ...]] = ("patch_size",)

    num_frames: int = 8
    patch_size: tuple[int, int] = (16, 16)
    attention_type: str = "divided_space_time"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention_type not in ENCODERS:
            raise CheckpointError(
                f"attention_type {self.attention_type!r} is not supported; supported are {', '.join(ENCODERS)}"
            )

    @property
    def tubelet(self) -> tuple[int, int, int]:
        return 1, *self.patch_size

    @property
    def places(self) -> int:
        """P."""
        return prod(self.grid[1:])

    def large_weights(self, task: Task) -> Iterator[tuple[tuple[str, ...], int]]:
        yield from super().large_weights(task)
        yield ("image_size", "hidden_size"), (1 + self.places) * self.hidden_size  # positions, which are stored
        if self.attention_type != "space_only":
            yield ("num_frames", "hidden_size"), self.num_frames * self.hidden_size

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> Self:
        if "patch_size" in config:
            config = {**config, "patch_size": height_and_width(config["patch_size"])}
        return super().from_hub(config)


class TimesformerProjections(nn.Module):
    """Tokens that ask (B, M, D) and all tokens (B, N, D), to query (B, M, D), key and value (B, N, D).

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
    """The patches of each frame behind a class token, plus learned positions in space, and in time where
    `time_embeddings` are: (B, T, C, H, W) to (B, T, 1 + P, D).

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


class DividedAttended(NamedTuple):
    """context: (B, 1 + N, D), or the class token alone (B, 1, D); the weights, each row of sum 1, or None from
    attention that never writes them.

    weights:           within each frame, (B * T, h, 1 + P, 1 + P)
    temporal_weights:  within each place, (B * P, h, T, T)
    """

    context: Tensor
    weights: Tensor | None
    temporal_weights: Tensor | None


class DividedLayer(Layer):
    """One block of divided attention: each patch takes from those of its place, then from those of its frame and the
    class token, which itself takes from every frame and keeps the mean; then x + mlp(norm(x))."""

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
        """What the class token (B, 1, D) and patches (B, N, D) take from each frame: (B, T, 1 + P, D), or of the class
        token alone (B, T, 1, D)."""
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
    """Layers of divided attention: (B, T, 1 + P, D) to tokens (B, 1 + N, D), or the class token alone (B, 1, D)."""

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
    """Layers in which every token takes from every other: (B, T, 1 + P, D) to tokens (B, 1 + N, D)."""

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__(config, partial(TimesformerProjections, config))

    def forward(self, frames: Tensor, *, first_only: bool = False) -> Tensor:
        return super().forward(in_a_row(frames), first_only=first_only)

    def states(self, frames: Tensor) -> tuple[Tensor, States]:  # type: ignore[override]
        states = super().states(in_a_row(frames))
        return states.hidden_states[-1], states


class FramesEncoder(Encoder):
    """Layers in which a frame knows of no other: (B, T, 1 + P, D) to the mean of its tokens over frames, (B, 1 + P, D).

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
    """The tokens of each frame (B, T, 1 + P, D) as those of a clip (B, 1 + N, D): the class token of the first frame,
    which all have, then place by place."""
    patches = frames[:, :, 1:].transpose(1, 2).flatten(1, 2)  # (B, T, P, D) -> (B, P, T, D) -> (B, N, D)
    return torch.cat([frames[:, 0, :1], patches], dim=1)


ENCODERS: dict[str, type[DividedEncoder] | type[JointEncoder] | type[FramesEncoder]] = {
    "divided_space_time": DividedEncoder,
    "joint_space_time": JointEncoder,
    "space_only": FramesEncoder,
}


class TimesformerModel(Model):
    """The encoder: (B, T, C, H, W) to normalised tokens, those of an ENCODERS, or the class token, the first, alone."""

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


class TimesformerForVideoClassification(Model):
    """TimeSformer with a linear classifier on the class token."""

    config: TimesformerConfig

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__(config)
        self.timesformer = TimesformerModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    @property
    def readout(self) -> Readout:
        return "class-token"

    @property
    def token_order(self) -> TokenOrder:
        return self.timesformer.token_order

    @property
    def attention_names(self) -> tuple[str, ...]:
        return self.timesformer.attention_names

    def fold(self) -> None:
        self.timesformer.fold()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """float32 (B, T, C, H, W), normalised, to logits float32 (B, K).

        Raises ValueError for any other shape.
        """
        tokens = self.timesformer(pixel_values, first_only=not self.training)  # (B, 1, D), or (B, 1 + N, D)
        return cast(Tensor, self.classifier(tokens[:, 0]))  # (B, D) -> (B, K)

    def outputs(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """logits (B, K), and the encoder's `States`."""
        encoded = self.timesformer.outputs(pixel_values)
        return {"logits": self.classifier(encoded.pop("last_hidden_state")[:, 0]), **encoded}


# The frames between two of a clip in the published evaluations, by the frames of a clip.
_STRIDES = {8: 32, 16: 16, 96: 4}
SOMETHING_SOMETHING_V2_LABELS = 174


def published_evaluation(config: TransformerConfig) -> Evaluation:
    """One clip from the first frame on; crops are rounded up and the logits of views averaged, whose order is that of
    their sum.

    On Kinetics the clip spans 256 frames, or 384 where it has 96. On Something-Something v2 it looks at the whole file,
    and so it does here where no published model has as many frames: nothing says at which rate they were trained.
    Configurations do not name the data set, but 174 labels are the latter. Source: facebookresearch/TimeSformer,
    datasets/decoder.py, kinetics.py and ssv2.py, and TEST in configs/. There the span is in frames at 30 a second, and
    a file at another rate is sampled by time.
    """
    stride = _STRIDES.get(config.num_frames)
    if stride is None or config.num_labels == SOMETHING_SOMETHING_V2_LABELS:
        return Evaluation(Sampling("segment-middles", stride=1), crop_rounding="up", averages="logits")
    return Evaluation(Sampling("start-span", stride), crop_rounding="up", averages="logits")


def shown_by_weights(config: TransformerConfig, weights: Weights) -> TransformerConfig:
    """The config with as many frames as there are positions in time, which config.json of facebook/timesformer-large-
    finetuned-ssv2 has otherwise: the script that converted the large ones wrote 96, and this one has 64."""
    tables = [table for name, table in weights.items() if name.endswith("embeddings.time_embeddings")]
    if not tables or tables[0].ndim != 3:
        return config
    return replace(config, num_frames=tables[0].shape[1])


def resize_tables(weights: Weights, native: TransformerConfig, config: TransformerConfig) -> dict[str, Tensor]:
    """The weights of a model of `native`, float32, for one of `config`: positions in space and in time are interpolated
    as `interpolate_positions` does."""
    grids = {
        "position_embeddings": (Grid(1, *native.grid[1:]), Grid(1, *config.grid[1:])),
        "time_embeddings": (Grid(native.num_frames, 1, 1), Grid(config.num_frames, 1, 1)),
    }
    return {
        name: interpolate_positions(value, *grids[end]) if (end := name.rpartition(".")[2]) in grids else value
        for name, value in weights.items()
    }


def note_on_frames(config: TransformerConfig, task: Task) -> str | None:
    """Say what is unusual about a model of one frame at a time, and where no rate of frames is published."""
    notes = []
    if cast(TimesformerConfig, config).attention_type == "space_only":
        notes.append(
            "tokens are averaged over frames behind the last layer, as in the original; transformers leaves that out "
            "and answers for each frame"
        )
    is_published = config.num_frames in _STRIDES or config.num_labels == SOMETHING_SOMETHING_V2_LABELS
    if task == "video-classification" and not is_published:
        notes.append(
            f"no published model has {config.num_frames} frames, so at which rate they were taken is not known: clips "
            "are spread over the whole file"
        )
    return "; ".join(notes) or None


FAMILY = Family(
    name="timesformer",
    title="TimeSformer",
    config=TimesformerConfig,
    classes={"video-classification": TimesformerForVideoClassification, "feature-extraction": TimesformerModel},
    examples={"video-classification": "facebook/timesformer-base-finetuned-k400"},
    processor=VIDEOMAE.processor,
    video_processor=Processor(
        stem="Timesformer",
        defaults=COMMON_DEFAULTS
        | {"size": {"shortest_edge": 224}, "image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)},
    ),
    evaluation=published_evaluation,
    heads={"video-classification": ("classifier.",)},
    shown=shown_by_weights,
    resize_stored=resize_tables,
    note=note_on_frames,
)
