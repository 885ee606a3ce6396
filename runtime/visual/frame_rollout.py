"""Attention as a map over a clip, where tokens attend within their frame, and perhaps within their place first.

Rollout is that of rollout.py, with the residual connections where these models have them. In divided attention a patch
mixes with those of its place, at all times, and then with its frame. That is TimeSformer's (arXiv:2102.05095, section
3). The class token takes part in every frame and keeps the mean. Without the first of the two each frame has its own
class token. The answer is then the mean of theirs.

Axes: T frames, P places in each, h heads.
"""

from collections.abc import Sequence

import numpy as np

from ..tokens import Grid
from .rollout import Method, Reals


def frame_attention_map(
    attentions: Sequence[Reals], temporal_attentions: Sequence[Reals], grid: Grid, method: Method = "rollout"
) -> Reals:
    """Compute how much the answer, read from the class token, attends to each tubelet of one clip.

    Args:
        attentions: within frames, of each layer, the first first. float32 (T, h, 1 + P, 1 + P), or (1, T, ...). Rows
            ask, and sum to 1.
        temporal_attentions: within places, of each layer: float32 (P, h, T, T), or (1, P, ...). Empty where there are
            none.
        grid: T', H', W' of the clip: T, and P is the product of the others.
        method: "rollout", through all layers, or "last", what the class token takes in the last layer.

    Returns:
        float32 (T', H', W'), no value below 0. They sum to 1, less what class tokens keep to themselves.

    Raises:
        ValueError: for attentions of another shape.
    """
    times, places = grid.slices, grid.tokens_per_slice
    space = [_of_one_clip(layer, (times, 1 + places)) for layer in attentions]
    time = [_of_one_clip(layer, (places, times)) for layer in temporal_attentions]
    if not space or len(time) not in (0, len(space)):
        raise ValueError(f"attentions must be of one and the same layers, got {len(space)} and {len(time)} over time")
    weights = np.zeros((times, 1 + places), np.float32)
    weights[:, 0] = 1 / times
    if method == "last":
        return _attended(space[-1], weights)[:, 1:].reshape(grid)
    for number in reversed(range(len(space))):
        weights = _mixed(space[number], weights)
        if time:
            weights[:, 0] = weights[:, 0].mean()  # one class token, which every frame has a share of
            weights[:, 1:] = _mixed(time[number], weights[:, 1:].T).T  # (T, P) -> (P, T) and back
    return weights[:, 1:].reshape(grid)


def _of_one_clip(layer: Reals, leading: tuple[int, int]) -> Reals:
    """The layer without a batch of 1: G groups of tokens, (G, h, M, M), where `leading` is (G, M)."""
    layer = layer[0] if layer.ndim == 5 and len(layer) == 1 else layer
    groups, tokens = leading
    if layer.ndim != 4 or (len(layer), *layer.shape[2:]) != (groups, tokens, tokens):
        raise ValueError(
            f"attentions of one clip must be ({groups}, h, {tokens}, {tokens}) for {groups} groups of {tokens} tokens, "
            f"got {layer.shape}"
        )
    return layer


def _mixed(layer: Reals, weights: Reals) -> Reals:
    """weights (G, M) of the tokens that leave a layer (G, h, M, M) to those that enter it. A layer is attention and
    the residual connection beside it.
    """
    weights = weights / (layer.sum(axis=-1).mean(axis=1) + 1)
    mixed: Reals = _attended(layer, weights) + weights
    return mixed


def _attended(layer: Reals, weights: Reals) -> Reals:
    """The same through the attention alone, the mean of its heads."""
    entering: Reals = (weights[:, None, None, :] @ layer)[:, :, 0].mean(
        axis=1
    )  # (G, 1, 1, M) by (G, h, M, M) -> (G, M)
    return entering
