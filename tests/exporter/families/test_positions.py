"""Interpolated positions against the formula, written out, and against functions that they sample."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tubelet.exporter.families.positions import interpolate_positions
from tubelet.runtime.tokens import Grid

Doubles = NDArray[np.float64]


def cubic(distance: float, a: float = -0.75) -> float:
    """Keys' kernel of cubic convolution."""
    x = abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    if x < 2:
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return 0.0


def triangle(distance: float) -> float:
    return max(0.0, 1 - abs(distance))


def resampling(length: int, wanted: int, kernel: Callable[[float], float]) -> Doubles:
    """(wanted, length): which share each old value has in each new one; beyond the ends the end values go on."""
    matrix = np.zeros((wanted, length))
    for row in range(wanted):
        place = (row + 0.5) * length / wanted - 0.5
        for column in range(math.floor(place) - 1, math.floor(place) + 3):
            matrix[row, min(max(column, 0), length - 1)] += kernel(place - column)
    return matrix


def by_the_formula(table: torch.Tensor, grid: Grid, wanted: Grid) -> Doubles:
    values = table[0, 1:].double().numpy().reshape(*grid, -1)
    over_time, over_rows, over_columns = (
        resampling(*lengths, kernel)
        for lengths, kernel in zip(zip(grid, wanted, strict=True), (triangle, cubic, cubic), strict=True)
    )
    values = np.einsum("at,bh,cw,thwd->abcd", over_time, over_rows, over_columns, values)
    return np.concatenate([table[0, :1].double().numpy(), values.reshape(-1, values.shape[-1])])[None]


def random_table(grid: Grid, width: int = 6) -> torch.Tensor:
    return torch.randn(1, 1 + math.prod(grid), width, generator=torch.Generator().manual_seed(5))


def sampled(grid: Grid, function: Callable[[Doubles, Doubles, Doubles], Doubles]) -> torch.Tensor:
    """The table whose rows sample a function of time, height and width, each from 0 to 1, in the middle of tubelets."""
    axes = np.meshgrid(*((np.arange(length) + 0.5) / length for length in grid), indexing="ij")
    values = function(*axes).reshape(-1, 1)
    return torch.from_numpy(np.concatenate([[[7.0]], values])[None].astype(np.float32))


GRIDS: list[tuple[Grid, Grid]] = [
    (Grid(2, 14, 14), Grid(2, 16, 16)),
    (Grid(2, 14, 14), Grid(2, 7, 10)),
    (Grid(2, 14, 14), Grid(2, 14, 32)),
    (Grid(4, 3, 5), Grid(4, 6, 5)),
    (Grid(4, 3, 5), Grid(8, 3, 5)),
    (Grid(4, 3, 5), Grid(3, 3, 5)),
    (Grid(4, 3, 5), Grid(7, 8, 2)),
    (Grid(1, 1, 1), Grid(3, 2, 2)),
    (Grid(3, 2, 2), Grid(1, 1, 1)),
]


@pytest.mark.parametrize(("grid", "wanted"), GRIDS)
def test_the_formula(grid: Grid, wanted: Grid) -> None:
    table = random_table(grid)
    found = interpolate_positions(table, grid, wanted)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), by_the_formula(table, grid, wanted), atol=1e-6)


def test_the_native_grid_keeps_the_table_bit_for_bit() -> None:
    table = random_table(Grid(4, 3, 5))
    assert torch.equal(interpolate_positions(table, Grid(4, 3, 5), Grid(4, 3, 5)), table)


def test_the_class_token_stays_and_an_axis_that_is_not_asked_about_is_left_alone() -> None:
    table = random_table(Grid(4, 3, 5))
    found = interpolate_positions(table, Grid(4, 3, 5), Grid(9, 3, 5))
    assert torch.equal(found[:, 0], table[:, 0])
    # 9 steps of time from 4: the middle one lies between the second and the third
    middle = found[0, 1:].reshape(9, 15, 6)[4]
    expected = table[0, 1:].reshape(4, 15, 6)[1:3].mean(0)
    torch.testing.assert_close(middle, expected, atol=1e-6, rtol=0)


# How far cubic convolution with a = -0.75 is off where a function is straight: (2 a + 1) (2 s^3 - 3 s^2 + s) of its
# slope from one tubelet to the next, at the place s between them, and that is 0.0481 of it at most. Linear
# interpolation is off by an eighth of the curvature. A tenth is added for what is of higher order.
STEP = math.pi / 14
SPACE, TIME = 1.1 * 0.0481, 1.1 / 8
SMOOTH: list[tuple[Callable[[Doubles, Doubles, Doubles], Doubles], float]] = [
    (lambda t, y, x: np.full_like(t, 0.3) + 0 * y + 0 * x, 1e-6),
    (lambda t, y, x: np.cos(math.pi * y) * np.cos(math.pi * x) + 0 * t, SPACE * STEP),
    (
        lambda t, y, x: np.cos(math.pi * t) + np.cos(2 * math.pi * y) + np.cos(math.pi * x),
        SPACE * 3 * STEP + TIME * (math.pi / 16) ** 2,
    ),
]


@pytest.mark.parametrize("wanted", [Grid(16, 18, 18), Grid(16, 12, 24), Grid(32, 14, 14), Grid(12, 20, 10)])
@pytest.mark.parametrize(("function", "limit"), SMOOTH)
def test_a_table_of_a_smooth_function_stays_one(
    wanted: Grid, function: Callable[[Doubles, Doubles, Doubles], Doubles], limit: float
) -> None:
    """The shape of ViViT-B's grid. Functions whose slope is 0 at the ends, where the border values go on."""
    grid = Grid(16, 14, 14)
    found = interpolate_positions(sampled(grid, function), grid, wanted)
    expected = sampled(wanted, function)
    assert (found - expected).abs().max() <= limit
    if limit > 1e-6:  # taking the rows as they come would not be near
        nearest = torch.nn.functional.interpolate(sampled(grid, function).mT, size=expected.shape[1]).mT
        assert (nearest - expected).abs().max() > 10 * limit


def test_there_and_back_is_near_where_it_began() -> None:
    function, limit = SMOOTH[-1]
    table = sampled(Grid(16, 14, 14), function)
    there = interpolate_positions(table, Grid(16, 14, 14), Grid(32, 28, 28))
    back = interpolate_positions(there, Grid(32, 28, 28), Grid(16, 14, 14))
    assert (back - table).abs().max() <= limit


@pytest.mark.parametrize(("grid", "wanted"), GRIDS)
def test_without_a_class_token_the_rest_is_the_same(grid: Grid, wanted: Grid) -> None:
    table = random_table(grid)
    found = interpolate_positions(table[:, 1:], grid, wanted)
    assert torch.equal(found, interpolate_positions(table, grid, wanted)[:, 1:])


@pytest.mark.parametrize("shape", [(1, 59, 6), (1, 62, 6), (2, 61, 6), (61, 6)])
def test_a_table_of_another_grid_is_refused(shape: tuple[int, ...]) -> None:
    expected = r"table must be \(1, 60, D\), or with a class token \(1, 61, D\), for a grid of \(4, 3, 5\), got"
    with pytest.raises(ValueError, match=expected):
        interpolate_positions(torch.zeros(shape), Grid(4, 3, 5), Grid(4, 6, 5))
