"""What a comparison with torch found: the report that `check` gives, and that graphs and engines carry with them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...preprocess.errors import BundleError
from ..limits import Limit

MOST_BYTES = 8 * 2**30  # of outputs; a larger batch is left out: the attention weights of ViViT-B are 5.7 GB a clip


@dataclass(frozen=True)
class InputParity:
    """The preprocessing of one reference clip: are the bytes of the model input those of the export?"""

    clip: int
    frame_size: tuple[int, int]
    equal: bool


@dataclass(frozen=True)
class BatchParity:
    """One output of one batch of reference clips: the largest difference, where it was, and what was allowed.

    at_label is the number of the value among those that are compared, which are the logits of a classifier.
    excess is how much of the limit is used up; 1 or less is within it. It is None where values are NaN or infinite.
    cosine is None for the values of a regression as well, which have no direction.
    """

    batch: int
    output: str
    largest_difference: float | None
    at_clip: int | None
    at_label: int | None
    excess: float | None
    cosine: float | None
    top_equal: bool
    passed: bool = field(init=False, default=False)  # a field, so that it stands in the JSON

    def __post_init__(self) -> None:
        object.__setattr__(self, "passed", self.excess is not None and self.excess <= 1 and self.top_equal)


@dataclass(frozen=True)
class ParityReport:
    """Every comparison that was made, and with what. left_out: batches whose outputs would not fit in memory.

    Raises BundleError for a report of no comparison: it would have passed.
    """

    passed: bool = field(init=False, default=False)
    backend: str
    precision: str
    limit: Limit
    inputs: tuple[InputParity, ...]
    batches: tuple[BatchParity, ...]
    left_out: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.inputs or not self.batches:
            raise BundleError("nothing was compared")
        passed = all(row.equal for row in self.inputs) and all(row.passed for row in self.batches)
        object.__setattr__(self, "passed", passed)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

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
        only_logits = self.limit.top and all(row.output == "logits" for row in self.batches)
        lines += ["", *(self._ranked_rows() if only_logits else self._value_rows())]
        if self.left_out:
            sizes = ", ".join(map(str, self.left_out))
            lines.append(f"left out: batch {sizes}, whose outputs take more than {MOST_BYTES / 2**30:.0f} GiB")
        limit = str(self.limit)
        if self.limit.top and not only_logits:
            limit = f"of logits {limit}, of other outputs {self.limit.unranked()}"
        return "\n".join([*lines, "", f"limit: {limit}: {'PASS' if self.passed else 'FAIL'}"])

    def _ranked_rows(self) -> list[str]:
        """Show the rows of a classifier."""
        lines = [f"batch   largest difference      of limit    cosine      top-{self.limit.top}"]
        for batch in self.batches:
            top = "equal" if batch.top_equal else "DIFFERENT"
            if batch.excess is None:
                lines.append(f"{batch.batch:<6}  NaN or infinite")
                continue
            where = f"{batch.largest_difference:.2e} (clip {batch.at_clip}, label {batch.at_label})"
            lines.append(f"{batch.batch:<6}  {where:<29}{batch.excess:>7.1%}    {batch.cosine:.7f}   {top}")
        return lines

    def _value_rows(self) -> list[str]:
        """Show the rows of other outputs: the worst of a numbered row, such as hidden_states.0 to hidden_states.12."""
        groups: dict[tuple[int, str], list[BatchParity]] = {}
        for batch in self.batches:
            groups.setdefault((batch.batch, batch.output.partition(".")[0]), []).append(batch)
        lines = ["batch   output               largest difference   of limit    cosine"]
        for batch in map(worst, groups.values()):
            row = f"{batch.batch:<6}  {batch.output:<19}  "
            if batch.excess is None:
                lines.append(f"{row}NaN or infinite")
                continue
            where = f"{batch.largest_difference:.2e} (clip {batch.at_clip})"
            best = "" if batch.top_equal else "   best labels DIFFERENT"
            cosine = "-" if batch.cosine is None else f"{batch.cosine:.7f}"
            lines.append(f"{row}{where:<19}  {batch.excess:>8.1%}    {cosine}{best}")
        return lines


def worst(rows: Sequence[BatchParity]) -> BatchParity:
    """The one that is furthest from passing."""
    return max(rows, key=lambda row: (not row.passed, np.inf if row.excess is None else row.excess))
