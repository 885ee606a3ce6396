"""classify_files: an archive becomes a file of rows. names -> read ahead -> model -> rows."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ...preprocess.sources import is_url
from ..backends import DEFAULT_PRECISION
from ..load import require_task
from ..locate import locate
from ..progress import Progress, silent
from ..reading import Video
from ..remote import Remote, file_system
from .journal import Journal, alone
from .loading import Loading
from .names import Shard
from .output import Output
from .rows import Row, in_text

_SAY_SECONDS = 0.2  # between two times that progress is said

# The names that have no row yet -> their rows, in order.
Classify = Callable[[list[str]], Iterable[Row]]


@dataclass
class Count:
    """How far a run has come.

    Attributes:
        total: how many videos the output is of.
        before: how many of them had a row before.
        done: how many have come since.
        errors: how many of those could not be read.
    """

    total: int
    before: int
    done: int = 0
    errors: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def per_second(self) -> float:
        """Videos a second of this run, from the first on that it waited for."""
        return self.done / max(time.monotonic() - self.began, 1e-9)

    def add(self, row: Row) -> None:
        self.done += 1
        self.errors += "error" in row

    def summary(self, output: Path) -> str:
        """The run in a line, when it is at its end."""
        before = f"{self.before:,} of them from before, " if self.before else ""
        errors = f", {self.errors:,} could not be read" if self.errors else ""
        speed = f"{self.done:,} in {duration(time.monotonic() - self.began)}, {self.per_second:.3g} a second"
        return f"{output}: {self.total:,} videos, {before}{speed if self.done else 'nothing left'}{errors}"

    def __str__(self) -> str:
        left = (self.total - self.before - self.done) / max(self.per_second, 1e-9)
        so_far = f"{self.before + self.done:,} of {self.total:,} videos"
        return f"{so_far}, {self.per_second:.3g} a second, {duration(left)} left"


def duration(seconds: float) -> str:
    """A time as people say it: 40 s, 12 min, 3 h 20 min, 5 d 2 h."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def classify_files(
    loading: Loading,
    names: Sequence[str],
    output: Path,
    *,
    shard: Shard | None = None,
    resume: bool = False,
    top_k: int = 5,
    batch: int = 1,
    workers: int = 2,
    classify: Classify | None = None,
    progress: Progress = silent,
    say: Progress = silent,
) -> Count:
    """Classify the videos of an archive into a file of rows, one for each, in order.

    A video that cannot be read has its error in its row. A process that is killed leaves whole rows, and with `resume`
    the next one goes on behind them.

    Args:
        loading: the model, and how it reads.
        names: paths, or URLs of fsspec, each once.
        output: FILE.jsonl, a row a line, or FILE.parquet, which is there when all rows are.
        shard: which part of the archive `names` are.
        resume: go on with the rows that are there.
        top_k: how many labels.
        batch: clips in one run of the graph.
        workers: threads that fetch, decode and prepare ahead of the model.
        classify: what makes the rows in place of a model in this process.
        progress: called with how far it is.
        say: called with what a user should keep.

    Returns:
        How many videos there were, and how many could not be read.

    Raises:
        NotWritten: where the system refuses, another process writes there, or the rows there are of another run.
        MissingExtra: where a package for URLs or Parquet is not installed.
        VideoError: for a protocol that cannot be read here.
        BackendError: where the engine fails; the rows before stay.
    """
    place = Output(output)
    loading = loading.settled(say=say)
    bundle = locate(loading.bundle, loading.backend, loading.precision or DEFAULT_PRECISION).open()
    require_task(bundle, "video-classification")
    _check_protocols(names)
    run = loading.described(bundle) | {"top_k": top_k, "shard": str(shard or Shard())}
    classify = classify or partial(classify_here, loading, top_k=top_k, batch=batch, workers=workers)
    with alone(output, say=say):
        done = place.done(run, resume=resume)
        left = [name for name in names if in_text(name) not in done]
        count = Count(len(names), len(names) - len(left))
        said = 0.0
        with Journal(place.journal, first=partial(place.write_record, run, say=say)) as journal:
            for row in classify(left) if left else ():
                journal.append(row)
                count.add(row)
                if time.monotonic() - said > _SAY_SECONDS:
                    said = time.monotonic()
                    progress(str(count))
        place.finish(bundle, loading.reading, say=say)
    return count


def classify_here(loading: Loading, names: Iterable[str], *, top_k: int, batch: int, workers: int) -> Iterator[Row]:
    """The rows of videos, classified in this process; threads fetch and decode ahead of the model."""
    with loading.load() as model:
        for result in model.classify_many(map(video_of, names), top_k=top_k, batch=batch, workers=workers):
            yield result.to_json(loading.reading) | {"video": in_text(result.name)}


def video_of(name: str) -> Video:
    """What an archive calls so: the URL of a file system of fsspec, or a path."""
    return Remote(name) if is_url(name) else name


def _check_protocols(names: Iterable[str]) -> None:
    """Raise where a protocol cannot be read here, once and not in every row."""
    first = {name.partition("://")[0]: name for name in names if is_url(name)}
    for name in first.values():
        file_system(name)
