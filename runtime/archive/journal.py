"""A file of rows that outlives every kill. Each row is a line, and what a kill left of a line is cut off."""

import errno
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from ...preprocess.errors import NotWritten
from ..progress import Progress, silent
from ..storage.lock import NO_LOCKS, Holder, try_lock, unlock
from ..storage.written import naming
from .rows import Row

_SYNC_SECONDS = 5.0  # between two times that rows are put on the disk, for the loss of power


class _Named(msgspec.Struct):
    video: str


class Journal:
    """A file of rows that grows at its end; a context manager.

    A process can be killed at any moment. What is there then is whole rows, and perhaps the beginning of one. The file
    is made when the first row comes, or the block ends well.

    Attributes:
        path: the file.
        first: called before it is made.
    """

    def __init__(self, path: Path, first: Callable[[], None]) -> None:
        self.path = path
        self.first = first
        self._file: io.FileIO | None = None
        self._synced = time.monotonic()

    def append(self, row: Row) -> None:
        """Write a row. Raises NotWritten where the system refuses it; the rows before it are whole."""
        line = memoryview(json.dumps(row).encode() + b"\n")
        file = self._opened()
        start = os.fstat(file.fileno()).st_size
        with naming(self.path):
            try:
                while line:
                    line = line[file.write(line) :]
            except BaseException:
                file.truncate(start)
                raise
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                self._sync(file)

    def _opened(self) -> io.FileIO:
        if self._file is None:
            self.first()
            with naming(self.path):
                self._file = self.path.open("ab", buffering=0)
        return self._file

    def _sync(self, file: io.FileIO) -> None:
        os.fsync(file.fileno())
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._opened()
        if self._file is not None:
            with self._file, naming(self.path):
                self._sync(self._file)


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a journal; none where there is no file."""
    if path.exists():
        with path.open("rb") as file:
            yield from map(json.loads, file)


def mended(path: Path) -> set[str]:
    """Cut off what a kill left of a row at a journal's end, and say which videos have theirs.

    Raises:
        NotWritten: for a line that is no row, for the file is then another's.
    """
    if not path.exists():
        return set()
    names: set[str] = set()
    whole = 0
    decoder = msgspec.json.Decoder(_Named)
    with naming(path), path.open("r+b") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                file.truncate(whole)
                break
            try:
                names.add(decoder.decode(line).video)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise NotWritten(
                    f"{path} is not gone on with: its line {number} is no row of a video ({error})",
                    fix="choose another file with -o",
                ) from error
            whole += len(line)
    return names


@contextmanager
def alone(output: Path, *, say: Progress = silent) -> Iterator[None]:
    """Be the only one who writes `output` until the block ends. Raises NotWritten where another does."""
    path = output.parent / f".{output.name}.lock"
    try:
        with naming(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            lock = try_lock(path)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        say(f"the file system of {output.parent} has no locks: nothing keeps two writers of {output.name} apart")
        yield
        return
    if lock is None:
        raise NotWritten(
            f"{output} is being written by {Holder.read(path) or 'another process'}",
            fix="wait for it, or choose another file with -o",
            errno=errno.EAGAIN,
        )
    try:
        yield
    finally:
        unlock(lock, path)
