"""reference.npz: clips, and what torch answered for them in float32."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, gcd, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import BundleError
from .bundle import Bundle
from .npz import ArrayFile

# How many values of an output are kept for one clip: all logits of a classifier, a sample of what is larger.
KEPT = 2**16
# What a reference may hold, which bounds the memory that one takes. An export makes four clips of at most 352 pixels.
MOST_CLIPS = 8
MOST_SIDE = 512

_INPUT = "input."
_CHECKSUMS = "input_sha256"
_AGAIN = "export the bundle again"


@dataclass(frozen=True, eq=False)
class Reference:
    """What torch answered.

    clips:         uint8 (T, H, W, 3) each, of different sizes, with real motion, as decoded
    input_sha256:  of each clip's prepared model input, one after the other in memory
    outputs:       float32 (number of clips, values) of each output of the graph by name, as `kept_values` takes them
    inputs:        what else the graph takes, (number of clips, ...) by name, such as which tokens are masked
    """

    clips: tuple[NDArray[np.uint8], ...]
    input_sha256: tuple[str, ...]
    outputs: Mapping[str, NDArray[np.float32]]
    inputs: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def logits(self) -> NDArray[np.float32]:
        """What a classifier answered: float32 (number of clips, K)."""
        return self.outputs["logits"]

    def save(self, path: Path) -> None:
        arrays: dict[str, NDArray[Any]] = {f"clip_{i}": clip for i, clip in enumerate(self.clips)}
        arrays |= {_INPUT + name: array for name, array in self.inputs.items()}
        np.savez_compressed(path, allow_pickle=False, input_sha256=self.input_sha256, **arrays, **self.outputs)


def load_reference(bundle: Bundle) -> Reference:
    """Read the reference of `bundle`, which then holds all that the manifest declares, and nothing else.

    Returns:
        At least one clip. For each clip a row of every output that the graphs give and of every input beside clips.

    Raises:
        BundleError: for a file that was changed, that is no reference, or that lacks any of it. What is not there
            cannot be compared.
    """
    path = bundle.verified(bundle.reference)
    with ArrayFile.open(path) as arrays:
        clips, inputs, outputs = _names(arrays, bundle)
        checksums = tuple(str(value) for value in arrays.read(_CHECKSUMS))
        reference = Reference(
            clips=tuple(arrays.read(name) for name in clips),
            input_sha256=checksums,
            outputs={name: arrays.read(name) for name in outputs},
            inputs={name: arrays.read(_INPUT + name) for name in inputs},
        )
    for name, tokens in reference.inputs.items():
        if tokens.min() < 0 or tokens.max() >= bundle.grid.tokens:
            raise BundleError(f"{path}: {name} must number tokens from 0 to {bundle.grid.tokens - 1}", fix=_AGAIN)
    return reference


def _names(arrays: ArrayFile, bundle: Bundle) -> tuple[list[str], list[str], list[str]]:
    """Name the clips, inputs and outputs in the file, once every header is that of what the manifest declares.

    Raises BundleError for one that is missing, for one too many, and for one of another dtype or shape.
    """
    spec, graph = bundle.spec, bundle.graphs[0]
    checksums = arrays.headers.get(_CHECKSUMS)
    if checksums is None or checksums.dtype.kind != "U" or len(checksums.shape) != 1 or not all(checksums.shape):
        raise BundleError(f"{arrays.path} names no clips, so nothing could be compared", fix=_AGAIN)
    (count,) = checksums.shape
    if count > MOST_CLIPS:
        raise BundleError(f"{arrays.path} states {count} clips; a reference has at most {MOST_CLIPS}", fix=_AGAIN)
    clips = [f"clip_{i}" for i in range(count)]
    inputs = {tensor.name: tensor for tensor in graph.inputs if tensor.name != spec.input_name}
    outputs = {tensor.name: tensor for tensor in graph.outputs}
    declared = {_CHECKSUMS, *clips, *outputs, *(_INPUT + name for name in inputs)}
    if missing := sorted(declared - arrays.headers.keys()):
        raise BundleError(f"{arrays.path} lacks {', '.join(missing)}, so that could not be compared", fix=_AGAIN)
    if unknown := sorted(arrays.headers.keys() - declared):
        raise BundleError(f"{arrays.path} holds {', '.join(unknown)}, which no graph of the bundle has", fix=_AGAIN)
    for name in clips:
        frame = arrays.headers[name].shape[1:3]
        _check(arrays, name, "uint8", (spec.num_frames, *frame, 3))
        if not all(1 <= side <= MOST_SIDE for side in frame):
            raise BundleError(f"{arrays.path}: frames of {name} are {frame}, at most {MOST_SIDE} a side", fix=_AGAIN)
    for name, tensor in inputs.items():
        _check(arrays, _INPUT + name, tensor.dtype, (count, *tensor.clip_shape))
    for name, tensor in outputs.items():
        _check(arrays, name, "float32", (count, kept_count(tensor.clip_shape)))
    return clips, list(inputs), list(outputs)


def _check(arrays: ArrayFile, name: str, dtype: str, shape: tuple[int, ...]) -> None:
    """Raise BundleError unless the array `name` is of that dtype and shape."""
    header = arrays.headers[name]
    if header.dtype != dtype or header.shape != shape:
        raise BundleError(
            f"{arrays.path}: {name} must be {dtype} ({', '.join(map(str, shape))}), got {header}", fix=_AGAIN
        )


def kept_values(output: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep of an output (B, ...) the values (B, values) that are compared.

    That is every value of each clip. Where there are more than KEPT, it is one in so many, spread over all axes.
    """
    return output.reshape(len(output), -1)[:, :: _kept_step(output.shape[1:])]


def kept_count(shape: Sequence[int]) -> int:
    """How many values `kept_values` keeps of one clip, whose output is of that shape."""
    return ceil(prod(shape) / _kept_step(shape))


def _kept_step(shape: Sequence[int]) -> int:
    step = ceil(prod(shape) / KEPT)
    while gcd(step, shape[-1]) > 1:  # or the same columns would be taken of every row
        step += 1
    return step


def input_sha256(clip: NDArray[Any]) -> str:
    """Compute the checksum of the bytes of one prepared clip, as they lie in memory on a little-endian machine."""
    return hashlib.sha256(np.ascontiguousarray(clip).tobytes()).hexdigest()
