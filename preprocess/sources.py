"""What a video may be given as, for FFmpeg: a path, bytes, a binary file, or a URL where allowed."""

import io
import os
import re
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard
from weakref import WeakValueDictionary

from .errors import VideoError
from .redaction import redacted_url

FileLike = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

MAX_MB = 1024  # of pixels that one reading holds
FRAME_SHARE = 4  # a decoder holds several frames: one alone may take this part of it
URL_SECONDS = 30  # without an answer

# FFmpeg follows the references of a playlist: a file's to other files, as it does by itself, and no others.
_PROTOCOLS_OF_FILES, PROTOCOLS_OF_BYTES = "file,crypto,data", "crypto,data"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_PATH_OF_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)")

# What is no file -> what it is called.
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}

# The file objects that are being read, by id, each with the lock of its readers.
_LOCKS: WeakValueDictionary[int, Any] = WeakValueDictionary()
_LOCKING = threading.Lock()


@dataclass(frozen=True, eq=False)
class Source:
    """A video that FFmpeg reads.

    name:    what messages call it
    content: a path, its bytes, a seekable binary file, or a URL as str
    track:   which of its video tracks is read, from 0; None is the one that FFmpeg takes for the best
    max_mb:  MiB of pixels that a reading may hold; a quarter of it for one frame
    until:   when reading it ends in an error, by time.monotonic(); None is never
    """

    name: str
    content: Path | bytes | BinaryIO | str = field(repr=False)
    track: int | None = None
    max_mb: int = MAX_MB
    until: float | None = None

    @classmethod
    def of(
        cls,
        video: "FileLike | Source",
        *,
        name: str | None = None,
        allow_url: bool = False,
    ) -> "Source":
        """Make a Source of what `video` is given as.

        Args:
            video: a path, bytes, a seekable binary file, a URL, or a Source, which is returned as it is.
            name: what to call what has no name; a file object's own name is taken first.
            allow_url: whether a URL may be opened.

        Raises:
            VideoError: for a URL that is not allowed, and for a file object that cannot be read from any place.
        """
        if isinstance(video, Source):
            return video
        content, found = _content(video, allow_url=allow_url)
        return cls(found or name or "the video", content)

    def __str__(self) -> str:
        return self.name

    @property
    def is_url(self) -> bool:
        return isinstance(self.content, str)

    @property
    def reopens(self) -> bool:
        """Whether it can be opened again for another look: a URL is not fetched twice."""
        return not self.is_url

    @property
    def may_be_endless(self) -> bool:
        """Whether to read what has no end, such as a camera."""
        return False

    @property
    def max_bytes(self) -> int:
        return self.max_mb << 20

    @property
    def max_pixels(self) -> int:
        """How many pixels one frame may have in RGB; at most what FFmpeg can count."""
        return min(self.max_bytes // FRAME_SHARE // 3, 2**31 - 1)

    def check(self) -> None:
        """Raise VideoError for a path at which there is no file: what never ends is not waited for."""
        if not isinstance(self.content, Path):
            return
        if not self.content.exists():
            raise VideoError(f"{self} does not exist")
        kind = _KINDS.get(stat.S_IFMT(self.content.stat().st_mode))
        if kind is not None:
            raise VideoError(
                f"{self} is {kind}, not a file", fix="give what comes out of it on standard input, as the video -"
            )
        if not self.content.is_file():
            raise VideoError(f"{self} is not a file")

    def check_time(self) -> None:
        """Raise VideoError where there is no more time to read it: a small file can hold days of frames."""
        if self.until is not None and time.monotonic() > self.until:
            raise VideoError(
                f"{self} takes longer to read than is allowed",
                fix="give a shorter or smaller video, or allow more time: Reading(timeout_seconds=...) in Python",
            )

    def for_pyav(self) -> tuple[Any, dict[str, Any]]:
        """What `av.open` takes, and the options that belong to it."""
        if isinstance(self.content, str):
            return self.content, {"timeout": URL_SECONDS}
        if isinstance(self.content, Path):
            # Resolved, because FFmpeg takes "name:rest" for a protocol.
            return self.content.resolve(), {"options": {"protocol_whitelist": _PROTOCOLS_OF_FILES}}
        opened = io.BytesIO(self.content) if isinstance(self.content, bytes) else _Shared(self.content)
        return opened, {"options": {"protocol_whitelist": PROTOCOLS_OF_BYTES}}

    @contextmanager
    def reader(self) -> Iterator["BinaryIO | _Shared"]:
        """The bytes from the start, to look at; none of a URL, which is not fetched twice."""
        if isinstance(self.content, Path):
            with self.content.open("rb") as file:
                yield file
        elif isinstance(self.content, str | bytes):
            yield io.BytesIO(self.content if isinstance(self.content, bytes) else b"")
        else:
            yield _Shared(self.content)


class _Shared:
    """A file object, read at a place of its own. Several may read it at once, and its owner finds it as it was."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = 0
        with _LOCKING:
            self._lock = _LOCKS.get(id(file)) or threading.Lock()
            _LOCKS[id(file)] = self._lock

    def read(self, count: int = -1) -> bytes:
        with self._lock:
            before = self._file.tell()
            try:
                self._file.seek(self._at)
                found = self._file.read(count)
            finally:
                self._file.seek(before)
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            with self._lock:
                before = self._file.tell()
                offset += self._file.seek(0, os.SEEK_END)
                self._file.seek(before)
        self._at = self._at + offset if whence == os.SEEK_CUR else offset
        return self._at

    def tell(self) -> int:
        return self._at


def local_path(video: str) -> Path:
    """The path of a video of which the file itself is needed. Raises VideoError for a URL."""
    if is_url(video):
        raise VideoError(f"{redacted_url(video)} is a URL, and the file itself is needed here", fix="download it first")
    return Path(video)


def is_url(video: object) -> bool:
    return isinstance(video, str) and _URL.match(video) is not None


def name_of(video: object) -> str | None:
    """What a video is called: its path, its URL without secrets, the name of a file object or Source. None where it
    has none.
    """
    if isinstance(video, str | os.PathLike):
        return redacted_url(str(video))
    name = getattr(video, "name", None)
    return name if isinstance(name, str) else None


def is_file_like(video: object) -> TypeGuard[FileLike | Source]:
    """Whether `video` is something that a Source can be of."""
    return isinstance(video, str | os.PathLike | bytes | bytearray | memoryview | Source) or hasattr(video, "read")


def _content(video: FileLike, *, allow_url: bool) -> tuple[Path | bytes | BinaryIO | str, str | None]:
    """What to read, and its name where it has one."""
    if isinstance(video, bytes | bytearray | memoryview):
        return bytes(video), None
    if isinstance(video, str) and is_url(video):
        if not allow_url:
            raise VideoError(
                f"{redacted_url(video)} is a URL, and only files are opened unless you allow it",
                fix="--allow-url, or Reading(allow_url=True) in Python",
            )
        return video, redacted_url(video)
    if isinstance(video, str | os.PathLike):
        path = Path(video)
        if not isinstance(video, str) and _PATH_OF_URL.match(str(path)) and not path.exists():
            raise VideoError(
                f"{redacted_url(str(path))} was a URL before it became a Path, which drops a slash",
                fix="give it as str",
            )
        return path, str(video)
    return _binary(video)


def _binary(file: Any) -> tuple[BinaryIO, str | None]:
    called = name_of(file) or "the file object"
    if isinstance(file, io.TextIOBase):
        raise VideoError(f"{called} is open as text", fix="open it as binary: open(path, 'rb')")
    seekable = getattr(file, "seekable", None)
    if seekable is None or not seekable():
        raise VideoError(
            f"{called} cannot be read from any place (it is not seekable)",
            fix="read it into memory or a temporary file, and give that: file.read()",
        )
    return file, name_of(file)
