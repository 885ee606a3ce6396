"""Positions for a clip of another size than the one that a model was trained on.

transformers has `interpolate_pos_encoding` for this. As of 5.23 that fails for ViViT unless the grid of tubelets stays
as it is. It also takes space and time for one square. What is here is our own.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ...runtime.tokens import Grid
from .config import TransformerConfig


def interpolate_positions(table: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """A table of positions for the grid `wanted`, from the one for `grid`.

    It is float32, (1, 1 + N, D) to (1, 1 + N', D). Without a class token it is (1, N, D) to (1, N', D).

    Rows are the class token, which stays as it is, and then tubelets: along width, then height, then time. Each slice
    of time is interpolated by cubic convolution with a = -0.75 (torch's bicubic), then all linearly over time. The
    grids cover the same extent (align_corners=False), and beyond the border the nearest value is repeated. Where the
    grid stays as it is, so does the table, bit for bit. Cubic convolution: Keys 1981, "Cubic Convolution Interpolation
    for Digital Image Processing".

    Raises ValueError where the table is not one for `grid`.
    """
    time, height, width = grid
    tubelets = time * height * width
    if table.ndim != 3 or table.shape[:2] not in ((1, tubelets), (1, 1 + tubelets)):
        raise ValueError(
            f"table must be (1, {tubelets}, D), or with a class token (1, {1 + tubelets}, D), "
            f"for a grid of {tuple(grid)}, got {tuple(table.shape)}"
        )
    if wanted == grid:
        return table
    class_token, positions = table[:, :-tubelets], table[0, -tubelets:].double()  # (1, 0 or 1, D), (N, D)
    depth = positions.shape[1]
    if wanted[1:] != grid[1:]:
        # (T' * H' * W', D) -> (T', H', W', D) -> (T', D, H', W'), and back
        slices = positions.reshape(time, height, width, depth).permute(0, 3, 1, 2)
        slices = F.interpolate(slices, size=wanted[1:], mode="bicubic", align_corners=False)
        positions = slices.permute(0, 2, 3, 1)
    if wanted[0] != time:
        # (T', H' * W' * D) -> (1, H' * W' * D, T'), and back
        lines = positions.reshape(time, -1).T[None]
        positions = F.interpolate(lines, size=wanted[0], mode="linear", align_corners=False)[0].T
    rows = positions.reshape(1, -1, depth).to(table.dtype)  # (1, N', D)
    return torch.cat([class_token, rows], dim=1)


def resize_tables(
    weights: Mapping[str, Tensor], native: TransformerConfig, config: TransformerConfig
) -> dict[str, Tensor]:
    """The weights of a model of `native`, float32, for one of `config`: its learned table of positions is interpolated.

    For families whose one table covers all tubelets of a clip.
    """
    return {
        name: interpolate_positions(value, native.grid, config.grid) if name.endswith("position_embeddings") else value
        for name, value in weights.items()
    }
