"""8-bit resampling in numpy as Pillow and torchvision do it, bit for bit, computing only the pixels that are kept.

Each axis is resampled in a pass of its own: every output is a weighted sum of neighbouring inputs. Both
libraries keep the weights as integers (see kernels.py) and round to 8 bits after each pass. Here a pass is a row
of small matrix products in floating point. They are exact in whatever order the BLAS adds, because each sum stays
below the integers that the type holds. That is always so with float64. It is so with float32 where the weights are
short, as torchvision's are unless frames shrink much. Rounding the sum gives the library's value.

The horizontal pass comes first in torchvision and in Pillow up to version 12. Pillow 13 takes the vertical pass first
where the height loses more than twice as many pixels as the width. It rounds differently there.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import VideoError
from .kernels import nearest, taps
from .spec import Arithmetic, ExactSize, Resample, ShortestEdge

Pixels = NDArray[np.uint8]
# Sums of a pass, float32 or float64.
Sums = NDArray[Any]

_CHUNK = 128  # rows per horizontal pass: its arrays stay in the cache
_MAX_THREADS = 4
_FLOAT32_INTEGERS = 1 << 24  # float32 holds every integer up to here


# --- One axis: which inputs make which outputs ---


class _Band(NamedTuple):
    """Consecutive outputs, the inputs that they are computed from, and weights (inputs, outputs)."""

    inputs: slice
    outputs: slice
    weights: Sums


class _Axis(NamedTuple):
    """One pass. `needed` are the inputs in use; positions in the bands count from its start.

    fits_float32: whether every sum of the pass, in units of its weights, is an integer that float32 holds.
    """

    needed: slice
    bands: list[_Band]
    fits_float32: bool

    def of_type(self, dtype: type[np.floating[Any]]) -> "_Axis":
        bands = [band._replace(weights=band.weights.astype(dtype, copy=False)) for band in self.bands]
        return self._replace(bands=bands)


def _axis(in_size: int, out_size: int, resample: Resample, arithmetic: Arithmetic, kept: range) -> _Axis:
    """The matrix products that resample `in_size` positions to those of `out_size` that are `kept`."""
    first, end, weights, bits = taps(in_size, out_size, resample, arithmetic, kept)
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
    largest_sum = (255 * np.abs(weights).sum(axis=1).max() + 0.5) * 2.0**bits  # with the half that rounds it
    return _Axis(slice(int(first[0]), int(end.max())), bands, bool(largest_sum < _FLOAT32_INTEGERS))


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
    """Raise VideoError unless `pixels` are uint8 (T, H, W, 3)."""
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3 or 0 in pixels.shape:
        raise VideoError(
            f"pixels must be uint8 (T, H, W, 3), none of them 0, got {pixels.dtype} {pixels.shape}",
            fix="give RGB values from 0 to 255, channels last",
        )


def _round_to_8_bits(values: Sums) -> None:
    """Round half up and clip to 0..255, in place."""
    values += 0.5
    np.floor(values, out=values)
    np.clip(values, 0.0, 255.0, out=values)


def _goes_vertical_first(before: tuple[int, int], after: tuple[int, int], arithmetic: Arithmetic) -> bool:
    """Whether frames of (height, width) `before` are resized to `after` with the vertical pass first."""
    lost_height, lost_width = before[0] - after[0], before[1] - after[1]
    return arithmetic == "pillow-13" and lost_height > 0 and lost_height > 2 * lost_width


def _claim(dtype: np.dtype[Any], *shapes: tuple[int, int, int]) -> list[Sums]:
    """Claim an array of each shape, with any values in it, as one block of memory.

    Several large blocks that are freed together go back to the system. Each frame of a stream would then fetch them
    anew, page by page, which costs as much as the products.
    """
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    block = np.empty(ends[-1], dtype)
    return [part.reshape(shape) for part, shape in zip(np.split(block, ends[:-1]), shapes, strict=True)]


def _resample(frames: Pixels, rows: _Axis, columns: _Axis, out: Pixels) -> None:
    """Resample the needed part (T, H', W', 3) of frames into `out` (T, H, W, 3), the horizontal pass first."""
    dtype = columns.bands[0].weights.dtype
    _, in_height, in_width, _ = frames.shape
    _, height, width, _ = out.shape
    chunk, lines, planes = _claim(dtype, (_CHUNK, 3, in_width), (in_height, 3, width), (height, 3, width))

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


def _resample_in_threads(frames: Pixels, rows: _Axis, columns: _Axis, out: Pixels) -> None:
    """Resample frames as `_resample` does, several at once. numpy leaves the interpreter lock while it computes."""
    threads = min(_MAX_THREADS, os.cpu_count() or 1, len(frames))
    if threads <= 1:  # a stream brings one frame at a time: a thread for each would only cost
        _resample(frames, rows, columns, out)
        return
    # Few threads: each holds a frame's lines in floating point.
    shares = [slice(thread, None, threads) for thread in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda share: _resample(frames[share], rows, columns, out[share]), shares):
            pass  # a failure in a thread is raised here


def resize(
    pixels: Pixels,
    size: tuple[int, int],
    resample: Resample,
    arithmetic: Arithmetic,
    window: tuple[int, int, int, int] | None = None,
) -> Pixels:
    """Resize frames and keep one window of the result.

    The values are those of `PIL.Image.resize`, or of torchvision's `resize` of uint8 tensors with antialias.

    Args:
        pixels: uint8 (T, H, W, 3).
        size: (height, width) of the whole resized frame.
        resample: the filter; torchvision has only those that `ClipSpec` takes with it.
        arithmetic: whose values.
        window: (top, left, height, width) inside it. Only these pixels are computed, from only the input rows
            and columns that they need. None keeps everything.

    Returns:
        A new uint8 array (T, height, width, 3), contiguous.

    Raises:
        VideoError: for other pixels than uint8 RGB.
        ValueError: for a window that is not inside `size`.
    """
    check_rgb(pixels)
    top, left, height, width = window or (0, 0, *size)
    if min(top, left, height - 1, width - 1) < 0 or top + height > size[0] or left + width > size[1]:
        raise ValueError(f"window (top, left, height, width) must lie inside size {size}, got {window}")

    count, in_height, in_width, _ = pixels.shape
    kept_rows, kept_columns = range(top, top + height), range(left, left + width)
    if resample == "nearest":
        kept = pixels.take(nearest(in_height, size[0], kept_rows), axis=1)
        return kept.take(nearest(in_width, size[1], kept_columns), axis=2)
    if size == (in_height, in_width):
        return pixels[:, top : top + height, left : left + width].copy()

    rows = _axis(in_height, size[0], resample, arithmetic, kept_rows)
    columns = _axis(in_width, size[1], resample, arithmetic, kept_columns)
    dtype = np.float32 if rows.fits_float32 and columns.fits_float32 else np.float64
    rows, columns = rows.of_type(dtype), columns.of_type(dtype)
    needed = pixels[:, rows.needed, columns.needed]
    result = np.empty((count, height, width, 3), np.uint8)
    target = result
    if _goes_vertical_first((in_height, in_width), size, arithmetic):
        # The same passes over frames laid on their side: (T, H, W, 3) -> (T, W, H, 3).
        needed, target, rows, columns = needed.swapaxes(1, 2), result.swapaxes(1, 2), columns, rows
    _resample_in_threads(needed, rows, columns, target)
    return result
