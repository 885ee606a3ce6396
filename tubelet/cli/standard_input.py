"""A video on standard input: the argument `-`."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from ..preprocess.errors import VideoError
from ..preprocess.sources import Source

STANDARD_INPUT = "-"
MAX_BYTES = 2 << 30  # the file system for temporary files may be memory
_CHUNK = 1 << 20


@contextmanager
def with_standard_input(videos: Sequence[str]) -> Iterator[list[str | Source]]:
    """The videos as named on the command line, `-` replaced by what comes in there.

    It is kept in a temporary file without a name, which is gone with the process however that ends. Raises UsageError
    where `-` is named twice or nothing can come in, VideoError for more than MAX_BYTES.
    """
    if STANDARD_INPUT not in videos:
        yield list(videos)
        return
    if videos.count(STANDARD_INPUT) > 1:
        raise click.UsageError("standard input (-) can be read once")
    if sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError("nothing comes in on standard input (-): send it a video, such as tubelet ... - < FILE")
    with tempfile.TemporaryFile(prefix="tubelet-") as kept:
        size = 0
        while chunk := sys.stdin.buffer.read(_CHUNK):
            size += len(chunk)
            if size > MAX_BYTES:
                raise VideoError(
                    f"standard input is longer than {MAX_BYTES >> 20} MB, which is as much as is kept of it",
                    fix="write it to a file, and give that",
                )
            kept.write(chunk)
        kept.flush()
        yield [Source("standard input", kept) if video == STANDARD_INPUT else video for video in videos]
