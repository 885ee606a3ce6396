"""What an evaluation found, and its text."""

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..reading import Reading
from .accuracy import Accuracy, Share, beside

_MISTAKES = 3  # pairs that the text names
_UNREAD = 5  # videos that the text names


@dataclass(frozen=True)
class Evaluated:
    """One backend and precision, and how often it is right."""

    name: str
    accuracy: Accuracy


@dataclass(frozen=True)
class EvaluationReport:
    """How often a bundle is right on a labelled set, by backend and precision, all on the same videos.

    Attributes:
        bundle: its folder.
        sha256: of the bundle.
        model: what it was exported from.
        labels_file: the labelled set.
        reading: how videos were read.
        subjects: the first is what the others are compared with.
        unread: the error of each video that could not be read, by its name. They are left out.
        merging: what the bundle merges, where it does.
    """

    bundle: Path
    sha256: str
    model: str
    labels_file: Path
    reading: Reading
    subjects: tuple[Evaluated, ...]
    unread: dict[str, str]
    merging: str | None = None
    date: str = field(default_factory=lambda: datetime.date.today().isoformat())

    @property
    def videos(self) -> int:
        return self.subjects[0].accuracy.videos

    def difference(self, one: Evaluated) -> Share | None:
        """How much more often it is right than the first; None for the first itself."""
        return None if one is self.subjects[0] else beside(one.accuracy, self.subjects[0].accuracy)

    def rows(self) -> list[tuple[str, ...]]:
        """The table: a line of names, and one for each subject."""
        several = len(self.subjects) > 1
        head = ("", "top-1", "top-5", "mean per class", *(["beside the first"] if several else []))
        lines = [head]
        for one in self.subjects:
            found = one.accuracy
            line = (one.name, str(found.top1), str(found.top5), str(found.mean_per_class))
            difference = self.difference(one)
            lines.append((*line, *([""] if several and difference is None else []), *_signed(difference)))
        return lines

    @property
    def summary(self) -> str:
        accuracy = self.subjects[0].accuracy
        present = int((accuracy.confusion.sum(axis=1) > 0).sum())
        views = f"{self.reading.clips}x{self.reading.crops} views"
        unread = f"; {len(self.unread):,} could not be read and are left out" if self.unread else ""
        merged = "" if self.merging is None else f"; the bundle merges {self.merging}"
        return f"{self.videos:,} videos of {present} of {len(accuracy.labels)} labels, {views}{unread}{merged}"

    def table(self) -> str:
        rows = self.rows()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        mistakes = [
            f"{own} taken for {other}: {count}" for own, other, count in self.subjects[0].accuracy.mistakes(_MISTAKES)
        ]
        notes = ["", "95 % intervals in brackets", *([f"most often: {'; '.join(mistakes)}"] if mistakes else [])]
        notes += [f"left out: {error.splitlines()[0]}" for error in list(self.unread.values())[:_UNREAD]]
        if len(self.unread) > _UNREAD:
            notes.append(f"and {len(self.unread) - _UNREAD:,} more, which --json names")
        return "\n".join([self.summary, "", *lines, *notes])

    def to_json(self) -> dict[str, Any]:
        subjects = []
        for one in self.subjects:
            difference = self.difference(one)
            compared = {} if difference is None else {"beside_the_first": difference._asdict()}
            subjects.append({"name": one.name} | one.accuracy.to_json() | compared)
        return {
            "bundle": str(self.bundle),
            "sha256": self.sha256,
            "model": self.model,
            "labels_file": str(self.labels_file),
            "views": f"{self.reading.clips}x{self.reading.crops}",
            "merging": self.merging,
            "date": self.date,
            "labels": list(self.subjects[0].accuracy.labels),
            "subjects": subjects,
            "unread": self.unread,
        }


def _signed(difference: Share | None) -> tuple[str, ...]:
    if difference is None:
        return ()
    value, low, high = (100 * part for part in difference)
    return (f"{value:+.2f} ({low:+.2f} to {high:+.2f})",)
