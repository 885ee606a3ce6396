"""Frames beside one another, and maps over them. Each array is uint8 (T, H, W, 3) unless it says otherwise."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..tokens import TubeletSize

Pixels = NDArray[np.uint8]
Reals = NDArray[np.float32]

GAP = 4  # pixels between panels
BACKGROUND = (255, 255, 255)

# How much of an overlay is the colour of the map, where it is lowest and where it is highest; the rest is the frame.
LEAST_COLOUR, MOST_COLOUR = np.float32(0.3), np.float32(0.75)

# Every 17th of the 256 colours of inferno, by Nathaniel Smith and Stefan van der Walt (CC0); with straight lines
# between them no channel is more than 7 of 255 off.
INFERNO = np.array(
    [
        (0, 0, 4), (12, 8, 38), (36, 12, 79), (66, 10, 104), (93, 18, 110), (120, 28, 109), (147, 38, 103),
        (174, 48, 92), (199, 62, 76), (221, 81, 58), (237, 105, 37), (248, 133, 15), (252, 165, 10), (250, 198, 45),
        (242, 230, 97), (252, 255, 164),
    ],
    np.float32,
)  # fmt: skip


def inferno(values: Reals) -> Reals:
    """values (...) from 0 to 1 -> float32 (..., 3), from 0 to 255; evenly bright steps, dark for low."""
    places = values * (len(INFERNO) - 1)
    lower = np.clip(places.astype(np.int64), 0, len(INFERNO) - 2)
    share = (places - lower)[..., np.newaxis]
    colours: Reals = INFERNO[lower] * (1 - share) + INFERNO[lower + 1] * share
    return colours


def enlarged(pixels: Pixels, least: int) -> Pixels:
    """Each pixel as many times as brings the shorter side to `least` or more; pixels stay sharp squares."""
    times = -(-least // min(pixels.shape[1:3]))
    return pixels if times <= 1 else pixels.repeat(times, axis=1).repeat(times, axis=2)


def bilinear(maps: Reals, height: int, width: int) -> Reals:
    """Maps (T, H', W') enlarged to (T, height, width). Values lie at the middle of their cell, the outermost go on to
    the border.
    """
    rows, columns = _between(maps.shape[1], height), _between(maps.shape[2], width)
    large: Reals = np.matmul(np.matmul(rows, maps), columns.T)  # (H, H') by (T, H', W') by (W', W) -> (T, H, W)
    return large


def _between(cells: int, size: int) -> Reals:
    """How much each pixel takes of each cell: float32 (size, cells), rows of sum 1."""
    places = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
    weights: NDArray[np.float64] = np.maximum(0, 1 - np.abs(places[:, np.newaxis] - np.arange(cells)))
    return weights.astype(np.float32)


def over_tubelets(heat: Reals, clip_size: tuple[int, int, int], tubelet: TubeletSize) -> Reals:
    """A map of tokens (T', H', W') as one of pixels, (T, H, W) of a clip. Each time slice is on all of its frames, and
    smooth within a frame. What tubelets leave over at the ends is as the nearest that they cover.
    """
    _, rows, columns = heat.shape
    smooth = bilinear(heat, rows * tubelet.height, columns * tubelet.width).repeat(tubelet.frames, axis=0)
    left = [(0, whole - covered) for whole, covered in zip(clip_size, smooth.shape, strict=True)]
    return np.pad(smooth, left, mode="edge")


def overlay(frames: Pixels, heat: Reals) -> Pixels:
    """Frames (T, H, W, 3) under the colours of a map (T, H, W), the stronger the higher it is.

    The lowest value of the whole clip is drawn as 0, the highest as 1. So frames can be compared. A map that is the
    same everywhere is drawn as 0.
    """
    low, high = heat.min(), heat.max()
    scaled = (heat - low) / (high - low) if high > low else np.zeros_like(heat)
    share = (LEAST_COLOUR + (MOST_COLOUR - LEAST_COLOUR) * scaled)[..., np.newaxis]  # (T, H, W, 1)
    drawn: Pixels = np.rint(frames * (1 - share) + inferno(scaled) * share).astype(np.uint8)
    return drawn


def side_by_side(panels: Sequence[Pixels]) -> Pixels:
    """Panels of the same T and H in a row, with a thin gap."""
    first = panels[0]
    gap = np.full((*first.shape[:2], GAP, 3), BACKGROUND, np.uint8)
    parts = [part for panel in panels for part in (panel, gap)][:-1]
    return np.concatenate(parts, axis=2)


def contact_sheet(panels: Sequence[Pixels], *, columns: int) -> Pixels:
    """All frames of panels of the same size (T, H, W, 3) in one picture (H', W', 3).

    Time runs to the right, `columns` frames in a band; in each band every panel has its row.
    """
    count, height, width, _ = panels[0].shape
    bands = [range(start, min(start + columns, count)) for start in range(0, count, columns)]
    widest = min(columns, count)
    step_down, step_right = height + GAP, width + GAP
    rows = len(bands) * len(panels)
    # A wider gap, of two, between bands.
    sheet_height = rows * step_down - GAP + (len(bands) - 1) * GAP
    sheet = np.full((sheet_height, widest * step_right - GAP, 3), BACKGROUND, np.uint8)
    for band, numbers in enumerate(bands):
        for row, panel in enumerate(panels):
            top = (band * len(panels) + row) * step_down + band * GAP
            for column, number in enumerate(numbers):
                left = column * step_right
                sheet[top : top + height, left : left + width] = panel[number]
    return sheet


def spread(count: int, shown: int) -> NDArray[np.int64]:
    """Which of `count` frames to show where there is room for `shown`: the middle ones of equal parts, int64."""
    shown = min(shown, count)
    return (2 * np.arange(shown) + 1) * count // (2 * shown)
