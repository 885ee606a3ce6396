"""What can be watched, and how: what a caller says, before any source is opened."""

from dataclasses import dataclass

from ...preprocess.errors import OutOfBounds
from ...preprocess.sources import FileLike, Source
from ..bounds import shown
from .frames import GivenFrames

# What can be watched; see `open_source`.
Watchable = FileLike | Source | GivenFrames


@dataclass(frozen=True)
class Watching:
    """How sources are watched.

    every:         seconds from one window to the next
    top_k:         labels in an answer
    batch:         windows in one run of the graph
    live:          drop what is late (True), or wait (False); None: as the source is
    stall_seconds: without a frame, after which a stream is lost; None is the source's own
    retries:       how many times a lost stream is opened again; None is for ever
    seconds:       after which watching ends, by a file's time and by the clock of a stream; None is never
    """

    every: float = 0.5
    top_k: int = 5
    batch: int = 1
    live: bool | None = None
    stall_seconds: float | None = None
    retries: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise OutOfBounds(f"seconds must be above 0, got {shown(self.seconds)}")
