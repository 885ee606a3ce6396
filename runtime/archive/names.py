"""The names of an archive's videos: from a list, a pattern or standard input; and a shard of them."""

import glob
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Self

from ...preprocess.errors import OutOfBounds, VideoError
from ...preprocess.sources import is_url
from ..remote import file_system, tried

STANDARD_INPUT = "-"
_PATTERN = re.compile(r"[*?\[]")
_SHARD = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True)
class Shard:
    """One of several parts of an archive, told by the names alone. So it is the same whoever asks, and whenever.

    Attributes:
        number: which, from 1.
        of: how many there are.
    """

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise OutOfBounds(f"shards are numbered from 1 to how many there are, got {self}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard that is written I/N, such as 2/8."""
        found = _SHARD.fullmatch(text)
        if found is None:
            raise OutOfBounds(f"a shard is I/N, such as 2/8 for the second of eight, got {text[:40]!r}")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, name: str) -> bool:
        """Whether a video of this name belongs to it."""
        digest = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.of == self.number - 1


def names_of(files: str, shard: Shard) -> list[str]:
    """Say which videos are to be classified.

    Args:
        files: a file with a name on each line, or `-` for names on standard input. Or a pattern (`*`, `?`, `[...]`,
            and `**` for folders in folders). File and pattern may be a URL of fsspec.
        shard: which of them.

    Returns:
        The names in order, each once.

    Raises:
        VideoError: where there are none at all, and for a list that is no text.
    """
    total = 0
    found: dict[str, None] = {}
    for name in _all_names(files):
        total += 1
        if shard.has(name):
            found[name] = None
    if not total:
        raise VideoError(f"{_called(files)} names no video", fix="see what it matches or holds")
    return list(found)


def _all_names(files: str) -> Iterable[str]:
    if files == STANDARD_INPUT:
        if sys.stdin is None or sys.stdin.isatty():
            raise VideoError(
                "nothing comes in on standard input (-)", fix="send it names, one a line: find ... | tubelet"
            )
        return _lines(files, sys.stdin.buffer)
    if is_url(files):
        return _remote_names(files)
    if _PATTERN.search(files) and not Path(files).exists():
        return sorted(name for name in glob.iglob(files, recursive=True) if Path(name).is_file())
    if not Path(files).is_file():
        raise VideoError(
            f"{files} is neither a list of names nor a pattern that holds *, ? or [",
            fix="give a file with a name on each line, a quoted pattern ('videos/**/*.mp4'), or - for standard input",
        )
    with Path(files).open("rb") as opened:
        return list(_lines(files, opened))


def _remote_names(files: str) -> list[str]:
    system, path = file_system(files)
    if _PATTERN.search(path):
        found = tried(files, lambda: system.glob(path, detail=True))
        return sorted(system.unstrip_protocol(name) for name, what in found.items() if what["type"] == "file")
    text: bytes = tried(files, lambda: system.cat_file(path))
    return list(_lines(files, text.splitlines(keepends=True)))


def _lines(files: str, lines: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if b"\0" in line:
            raise VideoError(
                f"{_called(files)}, line {number}, is no name of a video: it holds a zero byte",
                fix="--files takes a list of names, one a line; a video itself is a VIDEO",
            )
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")  # the mark that some editors begin UTF-8 with
        name = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        if name:
            yield name


def _called(files: str) -> str:
    return "standard input" if files == STANDARD_INPUT else files
