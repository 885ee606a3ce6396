"""Pillow's 8-bit resampling in numpy, bit for bit, computing only the pixels that are kept.

Each axis is resampled in a pass of its own: every output is a weighted sum of neighbouring inputs. Pillow
keeps the weights as integers over 2**22 and rounds to 8 bits after each pass. Here a pass is a row of small
matrix products in float64. Integers of 22 bits times pixels of 8 bits stay far below 2**53, so each sum is
exact in whatever order the BLAS adds, and rounding it gives Pillow's value.

The horizontal pass comes first. That is the order of every Pillow up to 12, and so of the results that people
compare with. Pillow 13 takes the vertical pass first where the height loses more than twice as many pixels as
the width (portrait videos taller than 2:1); there the two differ in the last bits, and this module follows
the older.

Reference: python-pillow/Pillow, src/libImaging/Resample.c (8 bits per channel) and Geometry.c (nearest).
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import VideoError
from .spec import ExactSize, Resample, ShortestEdge

Pixels = NDArray[np.uint8]
Reals = NDArray[np.float64]
Positions = NDArray[np.intp]

_ONE = 1 << 22  # the integer that stands for a weight of 1
_CHUNK = 128  # rows per horizontal pass: its arrays stay in the cache
_MAX_THREADS = 4


# --- Filters: the weight of a pixel at a distance, in pixels of the smaller image ---


def _box(x: Reals) -> Reals:
    return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)


def _bilinear(x: Reals) -> Reals:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _hamming(x: Reals) -> Reals:
    # Pillow writes these two constants in single precision.
    offset, amplitude = float(np.float32(0.54)), float(np.float32(0.46))
    windowed = np.where(x == 0.0, 1.0, _sinc(x) * (offset + amplitude * _cos(x * math.pi)))
    return np.where(np.abs(x) < 1.0, windowed, 0.0)


def _bicubic(x: Reals) -> Reals:
    """Cubic convolution with a = -0.5 (Keys, 1981)."""
    a = -0.5
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _lanczos(x: Reals) -> Reals:
    return np.where((x >= -3.0) & (x < 3.0), _sinc(x) * _sinc(x / 3.0), 0.0)


def _sinc(x: Reals) -> Reals:
    angle = np.where(x == 0.0, 1.0, x * math.pi)
    return np.where(x == 0.0, 1.0, _sin(angle) / angle)


# The functions of the C library, which Pillow calls; those of numpy may differ in the last bit.
_sin = np.vectorize(math.sin, otypes=[np.float64])
_cos = np.vectorize(math.cos, otypes=[np.float64])


class _Filter(NamedTuple):
    weight: Callable[[Reals], Reals]
    support: float  # the weight is zero beyond this distance


_FILTERS: dict[Resample, _Filter] = {
    "lanczos": _Filter(_lanczos, 3.0),
    "bilinear": _Filter(_bilinear, 1.0),
    "bicubic": _Filter(_bicubic, 2.0),
    "box": _Filter(_box, 0.5),
    "hamming": _Filter(_hamming, 1.0),
}


# --- One axis: which inputs make which outputs ---


class _Band(NamedTuple):
    """Consecutive outputs, the inputs that they are computed from, and float64 weights (inputs, outputs)."""

    inputs: slice
    outputs: slice
    weights: Reals


class _Axis(NamedTuple):
    """One pass. `needed` are the inputs in use; positions in the bands count from its start."""

    needed: slice
    bands: list[_Band]


def _taps(in_size: int, out_size: int, kind: _Filter, kept: range) -> tuple[Positions, Positions, Reals]:
    """First and end input (outputs,) and weights (outputs, taps), multiples of 2**-22, of the outputs `kept`.

    Shrinking stretches the filter by the same ratio, so that every input counts. Weights beyond the border
    are dropped and the others scaled to sum to 1. The order of operations is Pillow's, to the last bit.
    """
    ratio = in_size / out_size
    stretch = max(ratio, 1.0)
    support = kind.support * stretch
    centre = (np.array(kept) + 0.5) * ratio
    first = np.maximum((centre - support + 0.5).astype(np.intp), 0)
    end = np.minimum((centre + support + 0.5).astype(np.intp), in_size)
    position = first[:, None] + np.arange((end - first).max())  # (outputs, taps)
    weights = kind.weight((position - centre[:, None] + 0.5) * (1.0 / stretch))
    weights[position >= end[:, None]] = 0.0
    weights /= np.cumsum(weights, axis=1)[:, -1:]  # cumsum adds from left to right; sum does not
    return first, end, np.trunc(weights * _ONE + np.copysign(0.5, weights)) / _ONE


def _axis(in_size: int, out_size: int, kind: _Filter, kept: range) -> _Axis:
    """The matrix products that resample `in_size` positions to those of `out_size` that are `kept`."""
    first, end, weights = _taps(in_size, out_size, kind, kept)
    tap = np.arange(weights.shape[1])[:, None]
    width = 16 if in_size <= 2 * out_size else 8  # wide bands multiply zeros, narrow ones are many calls
    bands = []
    for start in range(0, len(kept), width):
        outputs = slice(start, min(start + width, len(kept)))
        low, high = int(first[start]), int(end[outputs].max())
        column = np.arange(outputs.stop - start)
        matrix = np.zeros((high - low + len(tap), len(column)))  # room for taps past the end, all zero
        matrix[first[outputs] - low + tap, column] = weights[outputs].T
        bands.append(_Band(slice(low - int(first[0]), high - int(first[0])), outputs, matrix[: high - low]))
    return _Axis(slice(int(first[0]), int(end.max())), bands)


def _nearest(in_size: int, out_size: int, kept: range) -> Positions:
    """The input of each output `kept`. Pillow steps by repeated addition, and its rounding shows."""
    ratio = in_size / out_size
    steps = np.full(out_size, ratio)
    steps[0] = ratio * 0.5
    return np.cumsum(steps).astype(np.intp)[kept.start : kept.stop]


# --- Frames ---


def resized_size(height: int, width: int, rule: ShortestEdge | ExactSize | None) -> tuple[int, int]:
    """(height, width) of a frame after the resize that `rule` asks for."""
    if rule is None:
        return height, width
    if isinstance(rule, ExactSize):
        return rule.height, rule.width
    if width <= height:
        return int(rule.edge * height / width), rule.edge
    return rule.edge, int(rule.edge * width / height)


def check_rgb(pixels: Pixels) -> None:
    """Raises VideoError unless `pixels` are uint8 (T, H, W, 3)."""
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3 or 0 in pixels.shape:
        raise VideoError(
            f"pixels must be uint8 (T, H, W, 3), none of them 0, got {pixels.dtype} {pixels.shape}",
            fix="give RGB values from 0 to 255, channels last",
        )


def _round_to_8_bits(values: Reals) -> None:
    """Round half up and clip to 0..255, in place."""
    values += 0.5
    np.floor(values, out=values)
    np.clip(values, 0.0, 255.0, out=values)


def _resample(frames: Pixels, rows: _Axis, columns: _Axis, out: Pixels) -> None:
    """Resample the needed part (T, H', W', 3) of frames into `out` (T, H, W, 3)."""
    _, in_height, in_width, _ = frames.shape
    _, height, width, _ = out.shape
    # Written anew for every frame; claiming fresh memory each time would cost as much as the products.
    chunk = np.empty((_CHUNK, 3, in_width))
    lines = np.empty((in_height, 3, width))
    planes = np.empty((height, 3, width))

    for frame, result in zip(frames, out, strict=True):
        for start in range(0, in_height, _CHUNK):
            sums = lines[start : start + _CHUNK].reshape(-1, width)  # (H', C, W) -> (H'*C, W)
            part = frame[start : start + _CHUNK].swapaxes(1, 2)  # (H', W', C) -> (H', C, W')
            chunk[: len(part)] = part
            inputs = chunk[: len(part)].reshape(-1, in_width)  # (H', C, W') -> (H'*C, W')
            for band in columns.bands:
                np.matmul(inputs[:, band.inputs], band.weights, out=sums[:, band.outputs])
            _round_to_8_bits(sums)

        inputs = lines.reshape(in_height, 3 * width)  # (H', C, W) -> (H', C*W)
        sums = planes.reshape(height, 3 * width)  # (H, C, W) -> (H, C*W)
        for band in rows.bands:
            np.matmul(band.weights.T, inputs[band.inputs], out=sums[band.outputs])
        _round_to_8_bits(sums)
        for channel in range(3):
            result[..., channel] = planes[:, channel]


def resize(
    pixels: Pixels,
    size: tuple[int, int],
    resample: Resample,
    window: tuple[int, int, int, int] | None = None,
) -> Pixels:
    """Resize frames as `PIL.Image.resize` of Pillow 12 does, and keep one window of the result.

    pixels: uint8 (T, H, W, 3)
    size:   (height, width) of the whole resized frame
    window: (top, left, height, width) inside it; only these pixels are computed, from only the input rows and
            columns that they need. None keeps everything.

    Returns a new uint8 array (T, height, width, 3), contiguous. Raises VideoError for other pixels than uint8
    RGB, ValueError for a window that is not inside `size`.
    """
    check_rgb(pixels)
    top, left, height, width = window or (0, 0, *size)
    if min(top, left, height - 1, width - 1) < 0 or top + height > size[0] or left + width > size[1]:
        raise ValueError(f"window (top, left, height, width) must lie inside size {size}, got {window}")

    count, in_height, in_width, _ = pixels.shape
    kept_rows, kept_columns = range(top, top + height), range(left, left + width)
    if resample == "nearest":
        kept = pixels.take(_nearest(in_height, size[0], kept_rows), axis=1)
        return kept.take(_nearest(in_width, size[1], kept_columns), axis=2)
    if size == (in_height, in_width):
        return pixels[:, top : top + height, left : left + width].copy()

    rows = _axis(in_height, size[0], _FILTERS[resample], kept_rows)
    columns = _axis(in_width, size[1], _FILTERS[resample], kept_columns)
    needed = pixels[:, rows.needed, columns.needed]
    result = np.empty((count, height, width, 3), np.uint8)
    # numpy leaves the interpreter lock while it computes. Few threads: each holds a frame's lines in float64.
    threads = min(_MAX_THREADS, os.cpu_count() or 1, count)
    shares = [slice(thread, None, threads) for thread in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda share: _resample(needed[share], rows, columns, result[share]), shares):
            pass  # a failure in a thread is raised here
    return result
