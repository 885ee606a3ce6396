"""reference.npz: clips, and what torch answered for them in float32."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, gcd
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..preprocess.errors import BundleError

# How many values of an output are kept for one clip: all logits of a classifier, a sample of what is larger.
KEPT = 2**16

_INPUT = "input."


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
        """Of a classifier: (number of clips, K)."""
        return self.outputs["logits"]

    def save(self, path: Path) -> None:
        arrays: dict[str, NDArray[Any]] = {f"clip_{i}": clip for i, clip in enumerate(self.clips)}
        arrays |= {_INPUT + name: array for name, array in self.inputs.items()}
        np.savez_compressed(path, allow_pickle=False, input_sha256=self.input_sha256, **arrays, **self.outputs)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises BundleError for a file that is no reference."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                sha256 = tuple(str(value) for value in arrays["input_sha256"])
                clips = {f"clip_{i}": arrays[f"clip_{i}"] for i in range(len(sha256))}
                others = {name: arrays[name] for name in arrays.files if name not in clips and name != "input_sha256"}
        except (ValueError, KeyError, BadZipFile) as error:
            raise BundleError(f"{path} is not a reference: {error}", fix="export the bundle again") from error
        outputs = {name: array for name, array in others.items() if not name.startswith(_INPUT)}
        inputs = {name.removeprefix(_INPUT): array for name, array in others.items() if name not in outputs}
        return cls(tuple(clips.values()), sha256, outputs, inputs)


def kept_values(output: NDArray[np.float32]) -> NDArray[np.float32]:
    """output (B, ...) -> (B, values): every value of each clip, or of more than KEPT one in so many, evenly spread over
    all axes."""
    flat = output.reshape(len(output), -1)
    step = ceil(flat.shape[1] / KEPT)
    while gcd(step, output.shape[-1]) > 1:  # or the same columns would be taken of every row
        step += 1
    return flat[:, ::step]


def input_sha256(clip: NDArray[Any]) -> str:
    """Of the bytes of one prepared clip, as they lie in memory on a little-endian machine."""
    return hashlib.sha256(np.ascontiguousarray(clip).tobytes()).hexdigest()
