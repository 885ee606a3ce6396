"""fp32 graph -> fp8 graph: the products of activations with weight matrices in 8-bit floats, the rest as in fp16.

The format is E4M3 without infinities (Micikevicius et al. 2022, "FP8 formats for deep learning", arXiv:2209.05433): 4
bits of exponent and 3 of mantissa, up to 448. Weights have a scale for each output column. Activations have one a
tensor, from the largest magnitude over calibration clips. Zero points are 0. All are written as QuantizeLinear, which
saturates, and DequantizeLinear, with scales in float16 as everything around them. TensorRT compiles that to products in
fp8 on GPUs of compute capability 8.9 and newer. ONNX Runtime's CPU provider follows the same graph step by step. That
is too slow for use, and proves the graph wherever it is made.

As in int8 (int8.py) the tubelet embedding, the classifier and attention are left out; they multiply in
float16.
"""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..graph.graph_edit import open_graph
from .fp16 import lower
from .rounding import round_linear_layers

FLOAT8 = ir.DataType.FLOAT8E4M3FN.numpy()
LARGEST = 448.0


def scale_for(magnitude: NDArray[np.float32]) -> NDArray[np.float32]:
    """Choose the scale, or scales, that bring magnitudes to LARGEST.

    It is the next number that float16 holds, so that nothing is lost when the graph around it becomes float16.
    """
    scale = np.minimum(np.where(magnitude > 0, magnitude / LARGEST, 1), 2.0**15)
    half = scale.astype(np.float16)
    return np.where(half < scale, np.nextafter(half, np.float16(np.inf)), half).astype(np.float32)


def quantized_weight(weight: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Quantize a weight (D_in, D_out) to E4M3, with a scale for each column, float32 (D_out,)."""
    scale = scale_for(np.abs(weight).max(axis=0))  # (D_out,)
    return (weight / scale).astype(FLOAT8), scale


def to_fp8(path: Path, keep: Set[str], *, magnitudes: Mapping[str, float], beyond_half: Set[str]) -> ir.Model:
    """Make the fp8 form of the fp32 graph.

    Args:
        path: the graph.
        keep: names of products that stay in float16.
        magnitudes: the largest absolute value of each activation that enters a linear layer, by tensor name.
        beyond_half: names of products that stay in float32 where they are in `keep` as well.
    """
    model = open_graph(path)
    scales = {name: scale_for(np.array(magnitude, np.float32)) for name, magnitude in magnitudes.items()}
    round_linear_layers(model, keep, scales, quantized_weight)
    return lower(model, keep & beyond_half)
