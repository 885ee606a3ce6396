"""Attention as a map over a clip: how much each tubelet counted for what the model answered.

Attention rollout is that of Abnar and Zuidema, "Quantifying Attention Flow in Transformers" (2020, arXiv:2005.00928).
Each layer mixes its tokens by the mean of its heads, and the residual connection adds the identity. Rows are made to
sum to 1 again, and the layers are multiplied.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..bundle.bundle import Readout, TokenOrder
from ..tokens import Grid

Reals = NDArray[np.float32]
Method = Literal["rollout", "last"]


def attention_map(
    attentions: Sequence[Reals],
    grid: Grid,
    readout: Readout,
    method: Method = "rollout",
    *,
    token_order: TokenOrder = "slice-by-slice",
) -> Reals:
    """Compute how much the answer attends to each tubelet of a clip, where each token attends to all of it.

    No layer is copied: those of ViViT-B take 472 MB a clip, each.

    Args:
        attentions: of each layer, the first layer first: float32 (h, N, N), or (1, h, N, N). Rows ask, and sum to 1.
            With readout "attentive" the last is that of the query alone, (h, 1, N).
        grid: T', H', W' of the clip. N is their product, and one more with a class token.
        readout: from which tokens the answer is read.
        method: "rollout", through all layers, or "last", the last layer alone: with "attentive" that of the query.
        token_order: how the tokens lie.

    Returns:
        float32 (T', H', W'), no value below 0. They sum to 1, less what the class token keeps to itself.

    Raises:
        ValueError: for attentions of another shape.
    """
    layers = [attention[0] if attention.ndim == 4 and len(attention) == 1 else attention for attention in attentions]
    num_tokens = grid.tokens + (readout == "class-token")
    query = layers.pop() if readout == "attentive" and layers else None
    if query is not None and (query.ndim != 3 or query.shape[1:] != (1, num_tokens)):
        raise ValueError(f"what the query attends to must be (h, 1, {num_tokens}), got {query.shape}")
    for layer in layers:
        if layer.ndim != 3 or layer.shape[1:] != (num_tokens, num_tokens):
            raise ValueError(
                f"attentions of one clip with {num_tokens} tokens must be (h, {num_tokens}, {num_tokens}), "
                f"got {layer.shape}"
            )
    if not layers:
        raise ValueError("there is no layer to take attentions from")
    if query is not None:
        weights: Reals = query[:, 0].mean(axis=0)  # (h, 1, N) -> (N)
        weights = rollout(layers, weights) if method == "rollout" else weights
    else:
        weights = reading_weights(num_tokens, readout)
        weights = rollout(layers, weights) if method == "rollout" else through_attention(layers[-1], weights)
    tubelets = weights[num_tokens - grid.tokens :]
    if token_order == "slice-by-slice":
        return tubelets.reshape(grid)
    slices, rows, columns = grid
    return tubelets.reshape(rows, columns, slices).transpose(2, 0, 1)  # (H', W', T') -> (T', H', W')


def reading_weights(num_tokens: int, readout: Readout) -> Reals:
    """How much of the answer is read from each token of the last layer: float32 (N,), sum 1."""
    if readout == "mean":
        return np.full(num_tokens, 1 / num_tokens, np.float32)
    weights = np.zeros(num_tokens, np.float32)
    weights[0] = 1
    return weights


def rollout(layers: Sequence[Reals], weights: Reals) -> Reals:
    """weights (N,) of the tokens that leave the last of `layers` to those of the tokens that enter the first. Layers
    are (h, N, N) each. The result is w R of the rollout R = A_L ... A_2 A_1. A is (M + I) with its rows made to sum to
    1, M the mean of heads.

    Multiplied from the left, ((w A_L) ... A_2) A_1: a vector by a matrix a layer, which takes as long as reading the
    attentions does. R itself would take N times as many products, N = 3,137 for ViViT-B. All but one of its rows would
    be thrown away.
    """
    for layer in reversed(layers):
        weights = weights / (layer.sum(axis=-1).mean(axis=0) + 1)  # the rows of M + I sum to this
        weights = through_attention(layer, weights) + weights
    return weights


def through_attention(layer: Reals, weights: Reals) -> Reals:
    """weights (N,) of the tokens that leave an attention (h, N, N) to those that enter it, its heads' mean."""
    entering: Reals = (weights @ layer).mean(axis=0)  # (N) by (h, N, N) -> (h, N) -> (N)
    return entering
