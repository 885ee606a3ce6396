"""V-JEPA 2's encoder (Assran et al. 2025, arXiv:2506.09985), which all of its tasks share.

The family is in vjepa2.py.
"""

from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from ...runtime.bundle.bundle import Readout
from ...runtime.tokens import Grid
from .attention import Attended, Attending
from .config import ACTIVATIONS, TransformerConfig
from .model import Model
from .transformer import Stack, tubelet_projection, tubelet_tokens
from .vjepa2_config import VJEPA2Config


class VJEPA2Positions(nn.Module):
    """Turns queries and keys (B, N, D) by where their tokens lie: x * cos + partner(x) * sin.

    V-JEPA 2 was trained so. It goes by the name of RoPE and is no rotation. The channels of a head are parted in three,
    for time, row and column. A few stay as they are. Neighbours 2i and 2i + 1 are partners. Their angles are those of
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
        self.number(config.clip_grid, config.clip_grid)

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

    def halved(self) -> tuple[Tensor, "HalvedPositions"]:
        """The channels (D,) of each head, sorted: the even ones, then the odd ones, in two halves whose places match.
        And what turns queries and keys whose channels lie so."""
        pairs = torch.arange(self.width, device=self.partners.device).reshape(self.heads, -1, 2)  # (h, D / 2h, 2)
        order = pairs.transpose(1, 2).flatten()  # (h, D / 2h, 2) -> (h, 2, D / 2h) -> (D)
        return order, HalvedPositions(self.cosines[:, order], self.sines[:, order], self.heads)


class HalvedPositions(nn.Module):
    """VJEPA2Positions for channels in the order of `halved`, where partners change places half by half.

    So runs of channels move, and each is not picked up by itself. A channel that stays as it is has a sine of 0: any
    other may lie opposite.
    """

    cosines: Tensor
    sines: Tensor
    opposite: Tensor

    def __init__(self, cosines: Tensor, sines: Tensor, heads: int) -> None:
        """cosines and sines: (N, D), of channels in that order."""
        super().__init__()
        opposite = torch.arange(2 * heads, device=cosines.device).reshape(heads, 2).flip(1).flatten()  # 1, 0, 3, 2, ...
        for name, table in (("cosines", cosines), ("sines", sines), ("opposite", opposite)):
            self.register_buffer(name, table, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        halves = torch.unflatten(x, -1, (len(self.opposite), -1))  # (B, N, D) -> (B, N, 2 * h, D / 2h)
        return x * self.cosines + halves.index_select(-2, self.opposite).flatten(-2) * self.sines


def _sorted(linear: nn.Linear, order: Tensor) -> nn.Linear:
    """The same linear map, its outputs in that order."""
    found = nn.Linear(linear.in_features, linear.out_features, bias=False, device="meta")
    found.weight = nn.Parameter(linear.weight[order], requires_grad=False)
    if linear.bias is not None:
        found.bias = nn.Parameter(linear.bias[order], requires_grad=False)
    return found


class VJEPA2Attention(Attending):
    """Self-attention of tokens (B, N, D) that know their places."""

    def __init__(self, config: VJEPA2Config, positions: VJEPA2Positions) -> None:
        super().__init__(config.hidden_size, config.num_attention_heads, config.attention_probs_dropout_prob)
        width = config.hidden_size
        self.query = nn.Linear(width, width, bias=config.qkv_bias)
        self.key = nn.Linear(width, width, bias=config.qkv_bias)
        self.value = nn.Linear(width, width, bias=config.qkv_bias)
        self.proj = nn.Linear(width, width)
        self.positions: VJEPA2Positions | HalvedPositions = positions

    def sort(self, order: Tensor, positions: HalvedPositions) -> None:
        """Sort the channels of queries and keys, in place. Products of the two are what they were."""
        self.query, self.key = _sorted(self.query, order), _sorted(self.key, order)
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
        self.positions = positions

    def sort_channels(self) -> None:
        """Sort the channels of queries and keys so that partners lie in halves. A head of an odd width stays as it
        is."""
        if self.positions.width // self.positions.heads % 2 == 0:
            order, halved = self.positions.halved()
            for layer in self.layer:
                cast(VJEPA2Layer, layer).attention.sort(order, halved)


class VJEPA2Model(Model):
    """The encoder: (B, T, C, H, W) to normalised tokens (B, N, D), from several layers where a probe reads them.

    The predictor that it was trained with is not here: no task needs it.
    """

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

    def fold(self) -> None:
        self.encoder.sort_channels()

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self._apart(self.encoder.embeddings(pixel_values))
        kept, layers = [], self.config.probe_layers
        for number, layer in enumerate(self.encoder.layer):
            x, _ = layer(x)
            if number in layers:
                kept.append(self.encoder.layernorm(x))
        return self._joined(torch.cat(kept, dim=1) if kept else self.encoder.layernorm(x))

    def outputs(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """last_hidden_state (B, N, D), and the encoder's `States`; their attentions are of each clip by itself."""
        states = self.encoder.states(self._apart(self.encoder.embeddings(pixel_values)))
        hidden_states = tuple(map(self._joined, states.hidden_states))
        read = [states.hidden_states[layer + 1] for layer in self.config.probe_layers] or [states.hidden_states[-1]]
        tokens = self._joined(torch.cat([self.encoder.layernorm(state) for state in read], dim=1))
        return {"last_hidden_state": tokens, **states._replace(hidden_states=hidden_states).named()}

    def _apart(self, x: Tensor) -> Tensor:
        """The tokens of joined clips (B, J * N, D), of each clip by itself: (B * J, N, D)."""
        joined = self.config.joined_clips
        return x if joined == 1 else torch.unflatten(x, 1, (joined, -1)).flatten(0, 1)

    def _joined(self, x: Tensor) -> Tensor:
        """(B * J, N, D) to (B, J * N, D)."""
        joined = self.config.joined_clips
        return x if joined == 1 else torch.unflatten(x, 0, (-1, joined)).flatten(1, 2)


def interpolate_places(model: nn.Module, native: TransformerConfig, config: TransformerConfig) -> None:
    """Number the tokens of `model`, of `config`, so that the outermost rows and columns are those of `native`."""
    for module in model.modules():
        if isinstance(module, VJEPA2Positions):
            module.number(cast(VJEPA2Config, config).clip_grid, cast(VJEPA2Config, native).clip_grid)
