"""A backend against what torch answered: the proof that a bundle carries with it.

reference.npz holds clips of different shapes with real motion, as decoded, and for each the sha256 of the model
input that was prepared from it and the logits that torch computed in float32. Checking therefore covers the
preprocessing, bit for bit, and the graph, within a stated limit, on the machine where it runs.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..preprocess.errors import BundleError
from ..preprocess.frames import Frames
from ..preprocess.prepare import prepare
from ..preprocess.spec import ClipSpec
from .progress import Progress, silent

# A batch of clips as the graph takes them, (B, ...) -> logits float32 (B, K).
Infer = Callable[[NDArray[Any]], NDArray[np.float32]]

BATCHES = (1, 2, 3, 8)


class Limit(Protocol):
    """How far logits may be from torch's, and which labels must agree.

    Logits are float64 (B, K), without NaN or infinity. `top` is how many of the best labels are looked at.
    """

    @property
    def top(self) -> int: ...

    def excess(self, got: NDArray[np.float64], torch_logits: NDArray[np.float64]) -> float:
        """How much of the limit is used up: 1 or less is within it."""
        ...

    def same_labels(self, got: NDArray[np.float64], torch_logits: NDArray[np.float64]) -> bool: ...


@dataclass(frozen=True)
class ElementLimit:
    """Of a graph in float32: |difference| <= absolute + relative * |torch| for each logit, and the same labels in the
    same order among the best `top`."""

    absolute: float
    relative: float
    top: int = 5

    def __str__(self) -> str:
        return f"{self.absolute:g} + {self.relative:g} x |torch|, top-{self.top} equal"

    def excess(self, got: NDArray[np.float64], torch_logits: NDArray[np.float64]) -> float:
        allowed = self.absolute + self.relative * np.abs(torch_logits)
        return float((np.abs(got - torch_logits) / allowed).max())

    def same_labels(self, got: NDArray[np.float64], torch_logits: NDArray[np.float64]) -> bool:
        best = [np.argsort(-logits, axis=1, kind="stable")[:, : self.top] for logits in (got, torch_logits)]
        return bool((best[0] == best[1]).all())


@dataclass(frozen=True)
class CosineLimit:
    """Of a graph in lower precision: the cosine between logits and torch's for each clip, and the same best label
    wherever torch's margin between its best two is larger than the limit lets logits move apart.

    Two logits move apart by up to twice the root mean square difference that the cosine stands for,
    |torch| * sqrt(2 * (1 - cosine) / K). Measured differences cannot take its place: a margin of more than twice the
    largest of them never changes the best label.
    """

    cosine: float
    top: int = 1

    def __str__(self) -> str:
        return f"cosine {self.cosine:g}, top-1 equal where torch's margin is clear"

    def excess(self, got: NDArray[np.float64], torch_logits: NDArray[np.float64]) -> float:
        return float((1 - cosines(got, torch_logits).min()) / (1 - self.cosine))

    def same_labels(self, got: NDArray[np.float64], torch_logits: NDArray[np.float64]) -> bool:
        labels = torch_logits.shape[1]
        if labels == 1:
            return True
        second, first = np.sort(torch_logits, axis=1)[:, -2:].T  # (B,) each
        movement = np.linalg.norm(torch_logits, axis=1) * np.sqrt(2 * (1 - self.cosine) / labels)
        clear = first - second > 2 * movement
        return bool((got.argmax(axis=1) == torch_logits.argmax(axis=1))[clear].all())


LIMITS: dict[str, Limit] = {
    "fp32": ElementLimit(absolute=1e-4, relative=1e-4),
    "fp16": CosineLimit(0.9999),
    "tf32": CosineLimit(0.9999),
    "bf16": CosineLimit(0.999),
    "int8": CosineLimit(0.99),
    "int8-static": CosineLimit(0.99),
    "int8-bf16": CosineLimit(0.99),
    "fp8": CosineLimit(0.99),
}


def cosines(got: NDArray[np.float64], torch_logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,), row by row; two rows of zeros agree, one row of zeros agrees with nothing."""
    lengths = np.linalg.norm(got, axis=1) * np.linalg.norm(torch_logits, axis=1)
    values: NDArray[np.float64] = (got == torch_logits).all(axis=1).astype(np.float64)
    np.divide((got * torch_logits).sum(axis=1), lengths, out=values, where=lengths > 0)
    return values


@dataclass(frozen=True, eq=False)
class Reference:
    """What torch answered. clips: uint8 (T, H, W, 3) each, of different sizes; input_sha256: of each clip's
    prepared model input, one after the other in memory; logits: float32 (number of clips, K)."""

    clips: tuple[NDArray[np.uint8], ...]
    input_sha256: tuple[str, ...]
    logits: NDArray[np.float32]

    def save(self, path: Path) -> None:
        arrays: dict[str, NDArray[Any]] = {f"clip_{i}": clip for i, clip in enumerate(self.clips)}
        np.savez_compressed(path, allow_pickle=False, logits=self.logits, input_sha256=self.input_sha256, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises BundleError for a file that is no reference."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                sha256 = tuple(str(value) for value in arrays["input_sha256"])
                clips = tuple(arrays[f"clip_{i}"] for i in range(len(sha256)))
                return cls(clips, sha256, arrays["logits"])
        except (ValueError, KeyError, BadZipFile) as error:
            raise BundleError(f"{path} is not a reference: {error}", fix="export the bundle again") from error


@dataclass(frozen=True)
class InputParity:
    """The preprocessing of one reference clip: are the bytes of the model input those of the export?"""

    clip: int
    frame_size: tuple[int, int]
    equal: bool


@dataclass(frozen=True)
class BatchParity:
    """One batch of reference clips: the largest difference of logits, where it was, and what was allowed.

    excess is how much of the limit is used up: 1 or less is within it; None where logits are NaN or infinite.
    """

    batch: int
    largest_difference: float | None
    at_clip: int | None
    at_label: int | None
    excess: float | None
    cosine: float | None
    top_equal: bool

    @property
    def passed(self) -> bool:
        return self.excess is not None and self.excess <= 1 and self.top_equal


@dataclass(frozen=True)
class ParityReport:
    """Every comparison that was made, and with what."""

    backend: str
    precision: str
    limit: Limit
    inputs: tuple[InputParity, ...]
    batches: tuple[BatchParity, ...]

    @property
    def passed(self) -> bool:
        return all(row.equal for row in self.inputs) and all(row.passed for row in self.batches)

    def to_json(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        for row, batch in zip(values["batches"], self.batches, strict=True):
            row["passed"] = batch.passed
        return {"passed": self.passed} | values

    def table(self) -> str:
        """The report as text, one line a comparison."""
        lines = [
            f"{self.backend} {self.precision} against torch fp32",
            "",
            "input   frames     prepared as exported",
        ]
        for row in self.inputs:
            size = f"{row.frame_size[1]}x{row.frame_size[0]}"
            lines.append(f"clip {row.clip}  {size:<9}  {'bit for bit' if row.equal else 'DIFFERENT'}")
        lines += ["", f"batch   largest difference      of limit    cosine      top-{self.limit.top}"]
        for batch in self.batches:
            top = "equal" if batch.top_equal else "DIFFERENT"
            if batch.excess is None:
                lines.append(f"{batch.batch:<6}  NaN or infinite")
                continue
            where = f"{batch.largest_difference:.2e} (clip {batch.at_clip}, label {batch.at_label})"
            lines.append(f"{batch.batch:<6}  {where:<29}{batch.excess:>7.1%}    {batch.cosine:.7f}   {top}")
        return "\n".join([*lines, "", f"limit: {self.limit}: {'PASS' if self.passed else 'FAIL'}"])


def clips_of_batch(batch: int, clips: int) -> list[int]:
    """Which reference clips make a batch: round robin, from another one at each size, so that clips change places
    and a graph that mixes up its batch is seen."""
    return [(batch + i) % clips for i in range(batch)]


def compare_logits(
    got: NDArray[np.float32], torch_logits: NDArray[np.float32], clips: Sequence[int], limit: Limit
) -> BatchParity:
    """got and torch_logits (B, K), of the reference clips with the numbers in `clips`."""
    if not np.isfinite(got).all():
        return BatchParity(len(got), None, None, None, None, None, top_equal=False)
    ours, theirs = got.astype(np.float64), torch_logits.astype(np.float64)
    difference = np.abs(ours - theirs)
    row, label = np.unravel_index(difference.argmax(), difference.shape)
    return BatchParity(
        batch=len(got),
        largest_difference=float(difference.max()),
        at_clip=clips[int(row)],
        at_label=int(label),
        excess=limit.excess(ours, theirs),
        cosine=float(cosines(ours, theirs).min()),
        top_equal=limit.same_labels(ours, theirs),
    )


def check_parity(
    infer: Infer,
    reference: Reference,
    spec: ClipSpec,
    *,
    backend: str,
    precision: str,
    progress: Progress = silent,
) -> ParityReport:
    """Prepares every reference clip and runs them through `infer` at each of BATCHES.

    Raises BundleError where the reference has nothing to compare.
    """
    if not reference.clips:
        raise BundleError("the reference holds no clips, so nothing can be compared")
    prepared = [prepare(Frames.from_array(clip), spec) for clip in reference.clips]
    inputs = tuple(
        InputParity(i, clip.shape[1:3], input_sha256(ready) == expected)
        for i, (clip, ready, expected) in enumerate(zip(reference.clips, prepared, reference.input_sha256, strict=True))
    )
    limit = LIMITS[precision]
    batches = []
    for size in BATCHES:
        progress(f"checking batch {size}")
        clips = clips_of_batch(size, len(prepared))
        got = infer(np.stack([prepared[i] for i in clips]))
        batches.append(compare_logits(got, reference.logits[clips], clips, limit))
    return ParityReport(backend, precision, limit, inputs, tuple(batches))


def input_sha256(clip: NDArray[Any]) -> str:
    """Of the bytes of one prepared clip, as they lie in memory on a little-endian machine."""
    return hashlib.sha256(np.ascontiguousarray(clip).tobytes()).hexdigest()
