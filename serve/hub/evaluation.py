"""What `tubelet evaluate --json` printed of a bundle, for its card."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from ...preprocess.errors import BundleError
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.typed import read_json_object

_AGAIN = "tubelet evaluate BUNDLE --labels-csv FILE --json > evaluation.json"


@dataclass(frozen=True)
class Share:
    """A share, and the interval that holds the true one with 95 %."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2%} ({self.low:.2%} to {self.high:.2%})"


@dataclass(frozen=True)
class Subject:
    """How often one backend and precision is right."""

    name: str
    videos: int
    top1: Share
    top5: Share
    mean_per_class: Share


@dataclass(frozen=True)
class Evaluation:
    """How often a bundle is right on a labelled set. sha256: of the bundle; views: such as 5x3."""

    sha256: str
    labels_file: str
    views: str
    date: str
    subjects: tuple[Subject, ...]

    @classmethod
    def read(cls, path: Path, bundle: Bundle) -> "Evaluation":
        """Read it from a file. Raises BundleError for another file, and where it is of another bundle."""
        try:
            found = msgspec.convert(read_json_object(path), cls)
        except msgspec.ValidationError as error:
            raise BundleError(f"{path} is not what tubelet evaluate --json prints: {error}", fix=_AGAIN) from error
        if found.sha256 != bundle.sha256:
            raise BundleError(f"{path} is the evaluation of another bundle than {bundle.path} is now", fix=_AGAIN)
        return found

    def section(self) -> str:
        """The section of the card."""
        rows = [
            f"| {one.name} | {one.videos:,} | {one.top1} | {one.top5} | {one.mean_per_class} |" for one in self.subjects
        ]
        name = Path(self.labels_file).name
        said = f"On the videos of `{name}`, {self.views} views, {self.date}; 95 % intervals in brackets."
        head = ["## Accuracy", "", "| | videos | top-1 | top-5 | mean per class |", "|---|---|---|---|---|"]
        return "\n".join([*head, *rows, "", said])
