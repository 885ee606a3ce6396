"""V-JEPA 2's encoder (Assran et al. 2025, arXiv:2506.09985), which all of its tasks share, and its config.

The family is in vjepa2.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from ...preprocess.errors import CheckpointError
from ...runtime.bundle.bundle import Readout, Task
from ...runtime.tokens import Grid
from .attention import Attended, Attending
from .config import ACTIVATIONS, TransformerConfig
from .model import Model
from .transformer import Stack, tubelet_projection, tubelet_tokens

# Keys of config.json that shape nothing here: what training needs, what the predictor is, and what transformers writes
# for any model.
_SHAPELESS = frozenset(
    {
        *("initializer_range", "drop_path_rate", "pred_hidden_size", "pred_num_attention_heads"),
        *("pred_num_hidden_layers", "pred_num_mask_tokens", "pred_zero_init_mask_tokens", "pred_mlp_ratio"),
        *("_attn_implementation_autoset", "_name_or_path", "architectures", "auto_map", "chunk_size_feed_forward"),
        *("dtype", "finetuning_task", "id2label", "is_encoder_decoder", "label2id", "model_type", "num_labels"),
        *("output_attentions", "output_hidden_states", "problem_type", "return_dict", "tie_word_embeddings"),
        *("torch_dtype", "torchscript", "transformers_version", "use_cache"),
    }
)
# What V-JEPA 2.1 adds, and the values that mean none of it.
_OF_2_1: dict[str, Any] = {
    "use_rope_interleave": False,
    "use_modality_embeddings": False,
    "interpolate_rope": False,
    "use_context_projection": False,
    "use_image_patch_embedder": False,
    "teacher_embed_dim": None,
    "num_distillation_outputs": 1,
    "hierarchical_layers": None,
}


@dataclass(frozen=True, kw_only=True)
class VJEPA2Config(TransformerConfig):
    """Defaults are those of transformers, the ViT-L that was pretrained at 256 pixels.

    patch_size:         height and width of a tubelet
    tubelet_size:       frames of a tubelet
    intermediate_size:  hidden_size * mlp_ratio of config.json, rounded down
    attention_dropout:  of the pooler
    num_pooler_layers:  self-attention layers of the pooler, before the one of its query
    num_pooler_heads:   heads of the pooler; None stands for num_attention_heads, as in transformers
    """

    tubelet_fields: ClassVar[tuple[str, ...]] = ("tubelet_size", "patch_size")
    further_layers: ClassVar[Mapping[Task, tuple[str, ...]]] = {"video-classification": ("num_pooler_layers",)}
    hub_names: ClassVar[Mapping[str, str]] = {
        "image_size": "crop_size",
        "num_frames": "frames_per_clip",
        "num_channels": "in_chans",
    }

    image_size: tuple[int, int] = (256, 256)
    num_frames: int = 64
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    patch_size: int = 16
    tubelet_size: int = 2
    attention_dropout: float = 0.0
    num_pooler_layers: int = 3
    num_pooler_heads: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % self.pooler_heads:
            raise CheckpointError(
                f"hidden_size must be a multiple of the pooler's heads, got {self.hidden_size} and {self.pooler_heads}"
            )

    @property
    def tubelet(self) -> tuple[int, int, int]:
        return self.tubelet_size, self.patch_size, self.patch_size

    @property
    def pooler_heads(self) -> int:
        return self.num_pooler_heads or self.num_attention_heads

    def large_weights(self, task: Task) -> Iterator[tuple[tuple[str, ...], int]]:
        yield from super().large_weights(task)
        if task == "video-classification":
            yield ("hidden_size",), 4 * self.hidden_size**2  # an MLP of the pooler

    @classmethod
    def from_hub(cls, config: Mapping[str, Any]) -> Self:
        """As of any family, but that a key which is not known is an error: what it means may be another model."""
        _require_2_0(config)
        config = dict(config)
        size = config.pop("image_size", None)  # earlier versions of transformers wrote crop_size once more
        if size not in (None, config.get("crop_size", 256)):
            raise CheckpointError(f"config.json says crop_size {config.get('crop_size', 256)} and image_size {size}")
        if "crop_size" in config:
            config["crop_size"] = _pair(config["crop_size"])
        width, ratio = config.get("hidden_size", cls.hidden_size), config.pop("mlp_ratio", 4.0)
        if not all(isinstance(value, int | float) and 0 < value <= 1e6 for value in (width, ratio)):
            raise CheckpointError(f"hidden_size and mlp_ratio must be numbers above 0, got {width!r} and {ratio!r}")
        return super().from_hub(config | {"intermediate_size": int(width * ratio)})


def _pair(side: Any) -> Any:
    """(height, width) of one number; anything else as it is."""
    return (side, side) if isinstance(side, int) else side


def _require_2_0(config: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a config.json that says more than one of V-JEPA 2 can."""
    later = [key for key, plain in _OF_2_1.items() if config.get(key, plain) != plain]
    if later:
        raise CheckpointError(
            f"config.json has {', '.join(f'{key} {config[key]!r}' for key in later)}: this is V-JEPA 2.1 or later, "
            "whose positions are another function, and V-JEPA 2 is supported",
            fix="take a checkpoint of V-JEPA 2, such as facebook/vjepa2-vitl-fpc16-256-ssv2",
        )
    known = {VJEPA2Config.hub_name(name) for name in VJEPA2Config.__dataclass_fields__}
    known = (known - {"num_pooler_heads"}) | {"image_size", "mlp_ratio"} | _SHAPELESS | _OF_2_1.keys()
    unknown = sorted(config.keys() - known)
    if unknown:
        raise CheckpointError(
            f"config.json has {', '.join(unknown)}, which V-JEPA 2 of transformers 5 does not: with what it means, the "
            "same weights may be another model",
            fix="take it out of config.json where it changes nothing of what the model computes",
        )


class VJEPA2Positions(nn.Module):
    """Turns queries and keys (B, N, D) by where their tokens lie, as V-JEPA 2 was trained: x * cos + partner(x) * sin.

    It goes by the name of RoPE and is no rotation. The channels of a head are parted in three, for time, row and
    column, and a few that stay as they are. Neighbours 2i and 2i + 1 are partners, while their angles are those of
    frequencies that count up to the middle of a part and start again. Reference: rotate_queries_or_keys, in
    modeling_vjepa2.py of transformers and in src/models/utils/modules.py of facebookresearch/vjepa2.

    The tables are float32, (N, D), the same for every head, and for every layer.
    """

    cosines: Tensor
    sines: Tensor
    partners: Tensor

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        self.width, self.heads = config.hidden_size, config.num_attention_heads
        self.number(config.grid, config.grid)

    def number(self, grid: Grid, trained: Grid) -> None:
        """Number the tokens of a clip of `grid` for a model trained on clips of `trained`.

        In time tokens are counted. In space the first and the last keep the numbers that they have in training, and
        those between lie evenly: interpolate_rope of V-JEPA 2.1.
        """
        counted = torch.meshgrid(*(torch.arange(side, device="cpu") for side in grid), indexing="ij")
        time, row, column = (axis.flatten() for axis in counted)  # (N,) each
        if grid[1:] != trained[1:]:
            row = row * ((trained.rows - 1) / max(grid.rows - 1, 1))
            column = column * ((trained.columns - 1) / max(grid.columns - 1, 1))
        axes = [self._tables(positions) for positions in (time, row, column)]
        head, tokens = self.width // self.heads, prod(grid)
        plain = head - sum(table.shape[1] for table, _ in axes)
        cosines = torch.cat([*(table for table, _ in axes), torch.ones(tokens, plain, device="cpu")], dim=1)
        sines = torch.cat(
            [*(table for _, table in axes), torch.zeros(tokens, plain, device="cpu")], dim=1
        )  # (N, D / h)
        channels = torch.arange(self.width, device="cpu")
        within = channels % head
        partners = torch.where(within < head - plain, channels + 1 - 2 * (within % 2), channels)
        tables = {"cosines": cosines.repeat(1, self.heads), "sines": sines.repeat(1, self.heads), "partners": partners}
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)  # checkpoints hold none of them

    def _tables(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The cosines and signed sines (N, d) of one axis, d channels of a head for it; positions (N,)."""
        half = self.width // self.heads // 3 // 2
        frequencies = torch.arange(half, dtype=torch.float32, device="cpu")
        frequencies /= max(half, 1)
        angles = positions[:, None] * (1.0 / 10000**frequencies)  # (N, d / 2)
        signs = torch.tensor([-1.0, 1.0], device="cpu").repeat(half)
        return angles.cos().repeat(1, 2), angles.sin().repeat(1, 2) * signs

    def forward(self, x: Tensor) -> Tensor:
        return x * self.cosines + x.index_select(-1, self.partners) * self.sines


class VJEPA2Attention(Attending):
    """Self-attention of tokens (B, N, D) that know their places."""

    def __init__(self, config: VJEPA2Config, positions: VJEPA2Positions) -> None:
        super().__init__(config.hidden_size, config.num_attention_heads, config.attention_probs_dropout_prob)
        width = config.hidden_size
        self.query = nn.Linear(width, width, bias=config.qkv_bias)
        self.key = nn.Linear(width, width, bias=config.qkv_bias)
        self.value = nn.Linear(width, width, bias=config.qkv_bias)
        self.proj = nn.Linear(width, width)
        self.positions = positions

    def forward(self, tokens: Tensor) -> Attended:
        query, key = self.positions(self.query(tokens)), self.positions(self.key(tokens))
        context, weights = self.attended(query, key, self.value(tokens))
        return Attended(self.proj(context), weights)


class MLP(nn.Module):
    """(B, N, D) to (B, N, D), through a wider layer."""

    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.activation = ACTIVATIONS[activation]
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(self.activation(self.fc1(x))))


class VJEPA2Layer(nn.Module):
    """One pre-norm block: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: VJEPA2Config, positions: VJEPA2Positions) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = VJEPA2Attention(config, positions)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config.hidden_size, config.intermediate_size, config.hidden_act)

    def forward(self, x: Tensor) -> Attended:
        """(B, N, D) to (B, N, D), and the weights of the attention, where they are kept."""
        context, weights = self.attention(self.norm1(x))
        x = x + context
        return Attended(x + self.mlp(self.norm2(x)), weights)


class VJEPA2PatchEmbeddings(nn.Module):
    """A clip cut into tubelets, each one token; see `tubelet_tokens`."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        self.proj = tubelet_projection(config)
        self.clip_shape = config.clip_shape

    def forward(self, pixel_values: Tensor) -> Tensor:
        return tubelet_tokens(self.proj, pixel_values, self.clip_shape)


class VJEPA2Embeddings(nn.Module):
    """Tokens of tubelets: (B, T, C, H, W) to (B, N, D). There is no class token, and positions come later."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        self.patch_embeddings = VJEPA2PatchEmbeddings(config)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return cast(Tensor, self.patch_embeddings(pixel_values))


class VJEPA2Encoder(Stack):
    """The embeddings, the layers, and the norm behind them."""

    def __init__(self, config: VJEPA2Config) -> None:
        positions = VJEPA2Positions(config)
        super().__init__(VJEPA2Layer(config, positions) for _ in range(config.num_hidden_layers))
        self.embeddings = VJEPA2Embeddings(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class VJEPA2Model(Model):
    """The encoder: (B, T, C, H, W) to normalised tokens (B, N, D). The predictor that it was trained with is not here:
    no task needs it."""

    config: VJEPA2Config

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__(config)
        self.encoder = VJEPA2Encoder(config)

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("last_hidden_state",)

    @property
    def readout(self) -> Readout:
        return "mean"  # without a classifier nothing is read from one token rather than another

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.encoder.embeddings(pixel_values)
        for layer in self.encoder.layer:
            x, _ = layer(x)
        return cast(Tensor, self.encoder.layernorm(x))

    def outputs(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """last_hidden_state (B, N, D), and the encoder's `States`."""
        states = self.encoder.states(self.encoder.embeddings(pixel_values))
        return {"last_hidden_state": self.encoder.layernorm(states.hidden_states[-1]), **states.named()}


def interpolate_places(model: nn.Module, native: TransformerConfig, config: TransformerConfig) -> None:
    """Number the tokens of `model`, of `config`, so that the outermost rows and columns are those of `native`."""
    for module in model.modules():
        if isinstance(module, VJEPA2Positions):
            module.number(config.grid, native.grid)
