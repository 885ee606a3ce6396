"""What a long piece of work says while it runs."""

import shutil
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from ..preprocess.redaction import redacted

Progress = Callable[[str], None]


def silent(message: str) -> None:
    """The Progress of library calls: says nothing."""


class StatusLine:
    """One line on a terminal that always shows the latest message and is gone when the work is done.

    Nothing is written where the stream is no terminal, so that logs hold results only.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._shown = False

    def __call__(self, message: str) -> None:
        if self._stream.isatty():
            width = shutil.get_terminal_size().columns - 1
            self._write(redacted(message)[:width])
            self._shown = True

    def aside(self, say: Progress) -> Progress:
        """`say`, with the line cleared before it speaks, so that what stays does not follow what goes."""

        def say_aside(message: str) -> None:
            self.clear()
            say(message)

        return say_aside

    def clear(self) -> None:
        if self._shown:
            self._write("")
            self._shown = False

    def _write(self, text: str) -> None:
        self._stream.write(f"\r\x1b[K{text}")  # return to the first column, clear the line
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
