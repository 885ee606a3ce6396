"""Multi-head self-attention, and the ways to compute it.

Axes: B batch, M tokens that ask, N tokens that are asked, D width, h heads.
"""

from functools import partial
from typing import NamedTuple, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import TransformerConfig


class Attended(NamedTuple):
    """context: (B, M, D). weights: (B, h, M, N), each row of sum 1, or None from a kernel that never writes them."""

    context: Tensor
    weights: Tensor | None


class Attend(Protocol):
    """Scaled dot-product attention of queries (B, M, D) to keys and values (B, N, D). Heads lie side by side in D.

    sizes: float32 (B, N), how many equal keys each of them stands for (merging.py); None where each is one.
    """

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, *, num_heads: int, scale: float, sizes: Tensor | None = None
    ) -> Attended: ...


def _split(x: Tensor, num_heads: int) -> Tensor:
    return torch.unflatten(x, -1, (num_heads, -1)).transpose(1, 2)  # (B, N, D) -> (B, h, N, D / h)


def _join(context: Tensor) -> Tensor:
    return context.transpose(1, 2).flatten(2)  # (B, h, M, D / h) -> (B, M, D)


def added_to_scores(sizes: Tensor) -> Tensor:
    """Turn sizes (B, N) into what scores gain by them, (B, 1, 1, N). exp(score + log(n)) is n times exp(score)."""
    return sizes.log()[:, None, None, :]


def sdpa_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    num_heads: int,
    scale: float,
    sizes: Tensor | None = None,
    dropout: float = 0.0,
) -> Attended:
    """softmax(scale * query key^T + log(sizes)) value for each head, by torch's fused kernel. It keeps no weights."""
    q, k, v = (_split(x, num_heads) for x in (query, key, value))
    added = None if sizes is None else added_to_scores(sizes)
    context = F.scaled_dot_product_attention(q, k, v, attn_mask=added, dropout_p=dropout, scale=scale)
    return Attended(_join(context), None)


def eager_attention(
    query: Tensor, key: Tensor, value: Tensor, *, num_heads: int, scale: float, sizes: Tensor | None = None
) -> Attended:
    """softmax(scale * query key^T + log(sizes)) value for each head, step by step. The weights (B, h, M, N) are written
    to memory, as transformers' attn_implementation="eager" does.
    """
    q, k, v = (_split(x, num_heads) for x in (query, key, value))
    scores = torch.matmul(q, k.transpose(2, 3)) * scale
    weights = (scores if sizes is None else scores + added_to_scores(sizes)).softmax(dim=-1)  # (B, h, M, N)
    return Attended(_join(torch.matmul(weights, v)), weights)


class Dense(nn.Module):
    """A linear layer under the name `dense`, as the checkpoints store it."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(in_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.dense(x))


class Attending(nn.Module):
    """What every attention of a family is: heads, and `attend`, which an export may put another function in place of.

    A subclass has the weights: what makes queries, keys and values of tokens, and what follows.
    """

    attend: Attend

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attend = sdpa_attention
        self.num_heads = num_heads
        self.scale = (width // num_heads) ** -0.5
        self.dropout = dropout

    def attended(self, query: Tensor, key: Tensor, value: Tensor, sizes: Tensor | None = None) -> Attended:
        """Attend from queries (B, M, D) to keys and values (B, N, D); dropout acts while training."""
        attend = self.attend
        if self.training and self.dropout > 0:
            attend = partial(sdpa_attention, dropout=self.dropout)
        return attend(query, key, value, num_heads=self.num_heads, scale=self.scale, sizes=sizes)


class Attention(Attending):
    """Multi-head self-attention: what some tokens of a clip, (B, M, D), take from all of them, (B, N, D).

    `projections` turns both into query (B, M, D), key and value (B, N, D). Its weights and biases are the family's
    own.
    """

    def __init__(self, config: TransformerConfig, projections: nn.Module) -> None:
        super().__init__(config.hidden_size, config.num_attention_heads, config.attention_probs_dropout_prob)
        self.attention = projections
        self.output = Dense(config.hidden_size, config.hidden_size)

    def forward(self, asking: Tensor, tokens: Tensor) -> Attended:
        """asking (B, M, D), tokens (B, N, D), to context (B, M, D), and the weights where `attend` keeps them."""
        context, weights = self.attended(*self.attention(asking, tokens))
        return Attended(self.output(context), weights)


def attend_with(model: nn.Module, attend: Attend) -> None:
    """Put `attend` in the place of the attention of every layer."""
    for module in model.modules():
        if isinstance(module, Attending):
            module.attend = attend
