"""Learned positions for a clip of another size than the one they were trained for.

transformers has `interpolate_pos_encoding` for this, which as of 5.23 fails for ViViT unless the grid of tubelets stays
as it is, and takes space and time for one square; what is here is our own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# (T', H', W'): how many tubelets a clip has along time, height and width.
Grid = tuple[int, int, int]


def interpolate_positions(table: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """A table of positions for the grid `wanted`, from the one for `grid`: float32 (1, 1 + N, D) to (1, 1 + N', D).

    Rows are the class token, which stays as it is, and then tubelets, along the width first, then the height, then
    time. Each slice of time is interpolated by cubic convolution with a = -0.75 (Keys 1981, "Cubic Convolution
    Interpolation for Digital Image Processing"; torch's bicubic), then all of them linearly over time. The grids cover
    the same extent (align_corners=False), and beyond the border the nearest value is repeated. Where the grid stays as
    it is, so does the table, bit for bit.

    Raises ValueError where the table is not one for `grid`.
    """
    time, height, width = grid
    if table.ndim != 3 or table.shape[:2] != (1, 1 + time * height * width):
        raise ValueError(
            f"table must be (1, {1 + time * height * width}, D) for a grid of {grid}, got {tuple(table.shape)}"
        )
    if wanted == grid:
        return table
    class_token, positions = table[:, :1], table[0, 1:].double()  # (1, 1, D), (N, D)
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
