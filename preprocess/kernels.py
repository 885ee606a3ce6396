"""The weights of 8-bit resampling: which inputs make an output, as Pillow and torchvision compute it, to the last bit.

Both stretch a filter by the ratio of the sizes and turn its values into integers. Pillow keeps 22 bits of each weight.
torchvision keeps up to 22: as many as let the largest weight of an axis fit in signed 16 bits.

Reference: python-pillow/Pillow, src/libImaging/Resample.c (8 bits per channel) and Geometry.c (nearest);
pytorch/pytorch, aten/src/ATen/native/cpu/UpSampleKernel.cpp (8 bits, antialias), for AVX2, AVX-512 and arm64.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .spec import Arithmetic, Resample

Reals = NDArray[np.float64]
Positions = NDArray[np.intp]

_MOST_BITS = 22  # of a weight of 1
_SIGNED_16 = 1 << 15
_BLOCK = 256  # outputs whose weights are held at a time, where all are looked at


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


# --- Weights ---


class Taps(NamedTuple):
    """The inputs of each output of an axis and their weights.

    first, end: int (outputs,), the inputs from the first up to the end.
    weights:    float64 (outputs, taps), from the first on; zero past the end. Multiples of 2**-bits.
    bits:       of the fraction of a weight.
    """

    first: Positions
    end: Positions
    weights: Reals
    bits: int


def _real_taps(in_size: int, out_size: int, kind: _Filter, kept: range) -> tuple[Positions, Positions, Reals]:
    """First, end and weights of the outputs `kept`, before the weights become integers.

    Shrinking stretches the filter by the same ratio, so that every input counts. Weights beyond the border
    are dropped and the others scaled to sum to 1. The order of operations is that of both libraries.
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
    return first, end, weights


def _torchvision_bits(in_size: int, out_size: int, kind: _Filter) -> int:
    """The most bits of fraction with which the largest weight of a whole axis fits."""
    blocks = (range(start, min(start + _BLOCK, out_size)) for start in range(0, out_size, _BLOCK))
    largest_weight = max(float(_real_taps(in_size, out_size, kind, block)[2].max()) for block in blocks)
    bits = 0
    while bits < _MOST_BITS and int(0.5 + largest_weight * (1 << (bits + 1))) < _SIGNED_16:
        bits += 1
    return bits


def taps(in_size: int, out_size: int, resample: Resample, arithmetic: Arithmetic, kept: range) -> Taps:
    """Compute the taps of the outputs `kept`, for any filter but nearest.

    Args:
        in_size: pixels along the axis before.
        out_size: pixels along the axis after.
        resample: the filter; torchvision has only those that `ClipSpec` takes with it.
        arithmetic: whose integers the weights become.
        kept: the outputs that are wanted.

    Returns:
        Their taps.
    """
    kind = _FILTERS[resample]
    bits = _torchvision_bits(in_size, out_size, kind) if arithmetic == "torchvision" else _MOST_BITS
    first, end, weights = _real_taps(in_size, out_size, kind, kept)
    return Taps(first, end, np.trunc(weights * (1 << bits) + np.copysign(0.5, weights)) / (1 << bits), bits)


def nearest(in_size: int, out_size: int, kept: range) -> Positions:
    """The input of each output `kept`. Pillow steps by repeated addition, and its rounding shows."""
    ratio = in_size / out_size
    steps = np.full(out_size, ratio)
    steps[0] = ratio * 0.5
    return np.cumsum(steps).astype(np.intp)[kept.start : kept.stop]
