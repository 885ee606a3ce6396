"""Clips as tokens: patches and back, and the tube masks that VideoMAE is pretrained with.

Tokens are numbered slice by slice, each slice row by row. Token (t, row, column) is number (t * H' + row) * W' +
column. The grid is (T', H', W').
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


class TubeletSize(NamedTuple):
    """What one token covers: so many frames, rows and columns of pixels."""

    frames: int
    height: int
    width: int


class Grid(NamedTuple):
    """The tokens of a clip: T' time slices of H' rows and W' columns."""

    slices: int
    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        return self.slices * self.rows * self.columns

    @property
    def tokens_per_slice(self) -> int:
        return self.rows * self.columns


class TubeMask(NamedTuple):
    """Which tokens of each clip the encoder sees and which not: int64 (B, V) and (B, M), both rising."""

    visible: Indices
    masked: Indices


def token_grid(clip_size: tuple[int, ...], tubelet: TubeletSize) -> Grid:
    """Count the tokens of a clip of (T, H, W) pixels. What is left over at the ends is in none of them.

    Raises:
        ValueError: for a clip smaller than a tubelet.
    """
    if any(side < step for side, step in zip(clip_size, tubelet, strict=True)):
        raise ValueError(f"a clip of {_size(clip_size)} holds no tubelet of {_size(tubelet)}")
    return Grid(*(side // step for side, step in zip(clip_size, tubelet, strict=True)))


def patchify(clips: NDArray[Any], tubelet: TubeletSize) -> NDArray[Any]:
    """Cut clips into one patch a token.

    Args:
        clips: (B, T, H, W, C) of any dtype.
        tubelet: what one token covers.

    Returns:
        (B, N, P, C), with P = frames * height * width of a tubelet, in this order. The channel is last, as VideoMAE's
        decoder predicts them.

    Raises:
        ValueError: for clips that are not whole tubelets.
    """
    batch, *size, channels = clips.shape
    if any(side < step or side % step for side, step in zip(size, tubelet, strict=True)):
        raise ValueError(f"a clip of {_size(size)} is not whole tubelets of {_size(tubelet)}")
    grid = token_grid(clips.shape[1:4], tubelet)
    pieces = clips.reshape(
        batch, grid.slices, tubelet.frames, grid.rows, tubelet.height, grid.columns, tubelet.width, channels
    )
    # (B, T', t, H', h, W', w, C) -> (B, T', H', W', t, h, w, C) -> (B, N, P, C)
    return pieces.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(batch, grid.tokens, -1, channels)


def unpatchify(patches: NDArray[Any], grid: Grid, tubelet: TubeletSize) -> NDArray[Any]:
    """Put patches (B, N, P, C) together again to the clips (B, T, H, W, C) that `patchify` cut."""
    batch, _, _, channels = patches.shape
    pieces = patches.reshape(batch, *grid, *tubelet, channels)
    # (B, T', H', W', t, h, w, C) -> (B, T', t, H', h, W', w, C) -> (B, T, H, W, C)
    return pieces.transpose(0, 1, 4, 2, 5, 3, 6, 7).reshape(
        batch, grid.slices * tubelet.frames, grid.rows * tubelet.height, grid.columns * tubelet.width, channels
    )


def masked_tokens(grid: Grid, ratio: float = 0.9) -> int:
    """Count the tokens of a clip that a tube mask hides: `ratio` of each slice, rounded down. 0.9 is the authors'.

    Raises:
        ValueError: where that hides nothing, or leaves nothing to see.
    """
    in_a_slice = int(ratio * grid.tokens_per_slice)
    if not 0 < in_a_slice < grid.tokens_per_slice:
        raise ValueError(
            f"a mask ratio of {ratio} hides {in_a_slice} of the {grid.tokens_per_slice} tokens of a time slice; "
            "at least one must be hidden and one seen"
        )
    return grid.slices * in_a_slice


def tube_mask(grid: Grid, masked: int, *, seed: int, batch: int = 1) -> TubeMask:
    """Hide `masked` tokens of each clip: a random choice of places, the same in every time slice.

    After TubeMaskingGenerator of MCG-NJU/VideoMAE (masking_generator.py), drawn by numpy's default generator.

    Args:
        grid: the tokens of a clip.
        masked: how many are hidden, the same number in each slice.
        seed: what the choice is drawn from.
        batch: clips, B.

    Raises:
        ValueError: where `masked` is not the same number, from 1 to all but one, in each slice.
    """
    in_a_slice, left_over = divmod(masked, grid.slices)
    if left_over or not 0 < in_a_slice < grid.tokens_per_slice:
        raise ValueError(
            f"a tube mask hides equally many of {grid.tokens_per_slice} tokens in each of {grid.slices} slices, "
            f"and shows at least one: {masked} tokens are not that"
        )
    generator = np.random.default_rng(seed)
    hidden = np.zeros((batch, grid.tokens_per_slice), np.bool_)
    for clip in hidden:
        clip[generator.permutation(grid.tokens_per_slice)[:in_a_slice]] = True
    hidden = np.tile(hidden, grid.slices)  # (B, H'W') -> (B, N)
    # Every clip has as many of each, so what nonzero finds, clip by clip and rising, is a rectangle.
    visible = np.nonzero(~hidden)[1].reshape(batch, -1)  # (B, V)
    return TubeMask(visible.astype(np.int64), np.nonzero(hidden)[1].reshape(batch, -1).astype(np.int64))


def _size(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))
