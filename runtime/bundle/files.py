"""What a bundle is made of: files, graphs with their inputs and outputs, and what they cost."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

from ...preprocess.errors import BundleError
from ..precisions import GraphPrecision
from .parity_report import ParityReport

# What a graph may give beside the outputs of its task: a row of each, one a layer.
Extra = Literal["hidden_states", "attentions"]
EXTRAS: tuple[Extra, ...] = get_args(Extra)


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle as it was written."""

    name: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Describe the file at `path`, reading it whole."""
        return cls(path.name, path.stat().st_size, file_sha256(path))


@dataclass(frozen=True)
class RecordedVideo:
    """What each stage gave for a video file where the bundle was made (see video_check.py).

    indices: of the frames taken; frames_sha256: of the pixels of each; input_sha256: of the model input;
    logits: torch's, K of them.
    """

    file: BundleFile
    indices: tuple[int, ...]
    frames_sha256: tuple[str, ...]
    input_sha256: str
    logits: tuple[float, ...]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a graph; a dimension is a number, or a name where it is dynamic."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def describe(self) -> str:
        return f"{self.name} {self.dtype} ({', '.join(map(str, self.shape))})"

    @property
    def clip_shape(self) -> tuple[int, ...]:
        """Without the batch. Raises BundleError where another dimension than that is dynamic, or not above 0."""
        shape = tuple(side for side in self.shape[1:] if isinstance(side, int) and side > 0)
        if not shape or len(shape) != len(self.shape) - 1:
            raise BundleError(f"only the batch of {self.describe()} may be open, and every clip holds a value")
        return shape


@dataclass(frozen=True)
class MatrixProduct:
    """(rows x inner) by (inner x columns), so many times for one clip."""

    rows: int
    inner: int
    columns: int
    times: int

    @property
    def macs(self) -> int:
        """Multiplications, each with its addition."""
        return self.rows * self.inner * self.columns * self.times


@dataclass(frozen=True)
class Graph:
    """One ONNX graph of a bundle.

    files: the graph first, then the weights beside it. kept: matrix products that stay in a type wider than the
    precision; notes: why they do, and what it changed. parity: the report of the check that let the graph in; None
    until it is checked.
    """

    precision: GraphPrecision
    opset: int
    files: tuple[BundleFile, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    kept: tuple[str, ...]
    notes: tuple[str, ...]
    parity: ParityReport | None

    def describe(self) -> str:
        size = sum(file.bytes for file in self.files) / 1e6
        proven = "proven" if self.parity is not None and self.parity.passed else "NOT proven"
        given, returned = _describe_all(self.inputs), _describe_all(self.outputs)
        return f"{given} -> {returned}, opset {self.opset}, {size:.1f} MB, {proven}"


def _describe_all(tensors: tuple[TensorInfo, ...]) -> str:
    """Each of them; of a numbered row, such as hidden_states.0 to hidden_states.12, the first and how many follow."""
    rows: dict[str, list[TensorInfo]] = {}
    for tensor in tensors:
        rows.setdefault(tensor.name.partition(".")[0], []).append(tensor)
    return ", ".join(row[0].describe() + (f" and {len(row) - 1} more" if row[1:] else "") for row in rows.values())


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
