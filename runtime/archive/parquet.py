"""Rows as a file of Parquet, which is written once they are all known."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from ...preprocess.errors import MissingExtra, NotWritten
from ..prefetch import grouped
from ..progress import Progress, silent
from ..reading import Reading
from ..storage.written import written_file
from .rows import Row

_GROUP_ROWS = 10_000  # of a row group, which is what is held in memory


def pyarrow() -> Any:
    """The package. Raises MissingExtra where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "archive", purpose="to read and write Parquet") from error
    return pyarrow


def prediction_type(number: str) -> Any:
    """The type of a video's predictions: a list of labels, each with its `number`, a "score" or a "value"."""
    arrow = pyarrow()
    return arrow.list_(arrow.struct([("label", arrow.string()), (number, arrow.float32())]))


def schema_of(reading: Reading, number: str) -> Any:
    """The columns of rows that are read so; `number` is "score", or "value" of a regression."""
    arrow = pyarrow()
    frames, seconds = arrow.list_(arrow.int64()), arrow.list_(arrow.float64())
    several = reading.clips > 1
    columns = [
        ("video", arrow.string()),
        ("predictions", prediction_type(number)),
        ("frames", arrow.list_(frames) if several else frames),
        ("seconds", arrow.list_(seconds) if several else seconds),
    ]
    if reading.on_error == "skip":
        columns += [("stood_in", arrow.int64()), ("skipped_packets", arrow.int64())]
    return arrow.schema([*columns, ("error", arrow.string())])


def names_in(path: Path) -> set[str]:
    """The videos that a file of Parquet has rows of; none where there is no file.

    Raises:
        NotWritten: for a file that holds none of our rows.
    """
    if not path.exists():
        return set()
    arrow = pyarrow()
    try:
        return set(arrow.parquet.read_table(path, columns=["video"])["video"].to_pylist())
    except (arrow.ArrowException, KeyError) as error:
        raise NotWritten(
            f"{path} is not gone on with: it is no Parquet of rows of videos ({error})",
            fix="choose another file with -o",
        ) from error


def write_parquet(path: Path, rows: Iterable[Row], schema: Any, *, say: Progress = silent) -> None:
    """Write the rows that a file has already, and these, in its place. Rows of videos that it has are left out."""
    arrow = pyarrow()
    there = names_in(path)
    new = (row for row in rows if row["video"] not in there)
    with written_file(path, say=say) as beside, arrow.parquet.ParquetWriter(beside, schema) as writer:
        for group in chain(_tables(path), grouped(new, _GROUP_ROWS)):
            writer.write_table(
                group if isinstance(group, arrow.Table) else arrow.Table.from_pylist(group, schema=schema)
            )


def _tables(path: Path) -> Iterator[Any]:
    arrow = pyarrow()
    if path.exists():
        with arrow.parquet.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number)
