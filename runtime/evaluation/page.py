"""The report as a page: one HTML file that needs nothing beside it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..report_frame import load_page
from .accuracy import Accuracy
from .report import EvaluationReport

if TYPE_CHECKING:
    import jinja2

_SIDE = 640.0  # pixels of the matrix
_MOST_NAMED = 40  # labels that have room for their names beside it
_MISTAKES = 30  # pairs in the list


@dataclass(frozen=True)
class Cell:
    """A place of the matrix that is not empty. strength: the share of its row, from 0 to 1."""

    x: float
    y: float
    strength: float
    right: bool
    title: str


@dataclass(frozen=True)
class LabelRow:
    """A label's row: how many videos it has, the share that is right, what it is most often taken for."""

    label: str
    videos: int
    share: str
    mistaken: str


@dataclass(frozen=True)
class Matrix:
    """The confusion matrix of one subject, as it is drawn."""

    name: str
    size: float
    names: tuple[str, ...]
    cells: tuple[Cell, ...]
    mistakes: tuple[tuple[str, str, int], ...]
    labels: tuple[LabelRow, ...]


def page(report: EvaluationReport) -> str:
    """Draw the report: the table, and for each subject its confusion matrix, mistakes and labels."""
    matrices = [matrix_of(one.name, one.accuracy) for one in report.subjects]
    return load_template().render(report=report, side=_SIDE, matrices=matrices) + "\n"


def matrix_of(name: str, accuracy: Accuracy) -> Matrix:
    """Lay out one subject's matrix: a row for each label of the set, a column for each label said."""
    labels, size = accuracy.labels, _SIDE / len(accuracy.labels)
    totals = accuracy.confusion.sum(axis=1)
    cells = [
        Cell(
            x=size * other,
            y=size * own,
            strength=float(accuracy.confusion[own, other] / totals[own]),
            right=own == other,
            title=f"{labels[own]} taken for {labels[other]}: {accuracy.confusion[own, other]} of {totals[own]}",
        )
        for own, other in zip(*(axis.tolist() for axis in accuracy.confusion.nonzero()), strict=True)
    ]
    named = labels if len(labels) <= _MOST_NAMED else ()
    return Matrix(name, size, named, tuple(cells), tuple(accuracy.mistakes(_MISTAKES)), _label_rows(accuracy))


def _label_rows(accuracy: Accuracy) -> tuple[LabelRow, ...]:
    """The labels that have videos, the one that is least often right first."""
    found = []
    for number, label in enumerate(accuracy.labels):
        share = accuracy.of_label(number)
        if share is None:
            continue
        row = accuracy.confusion[number].copy()
        videos, row[number] = int(row.sum()), 0
        mistaken = f"{accuracy.labels[int(row.argmax())]} ({row.max()})" if row.any() else ""
        found.append((share.value, LabelRow(label, videos, str(share), mistaken)))
    return tuple(row for _, row in sorted(found, key=lambda pair: pair[0]))


def load_template() -> "jinja2.Template":
    """Read the page's template, which escapes whatever is put into it.

    Raises:
        MissingExtra: where Jinja2 is not installed.
    """
    return load_page(__package__, decimals=2, purpose="to write the page of an evaluation")
