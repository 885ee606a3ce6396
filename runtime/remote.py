"""Videos that lie elsewhere: fsspec opens them by URL, s3://, gs://, hf:// and whatever else it knows."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

from ..preprocess.errors import MissingExtra, VideoError
from ..preprocess.shortage import raise_shortage

WHOLE_BYTES = 32 << 20  # what is no larger is fetched in one request, not by blocks
_BLOCK_BYTES = 4 << 20
_WAITS = (0.5, 2.0)  # seconds before another try: networks fail for a moment

# What another try would not change.
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, ImportError, NotImplementedError, ValueError)

Value = TypeVar("Value")


@dataclass(frozen=True)
class Remote:
    """A video at a URL of fsspec. name: the URL."""

    name: str

    def __str__(self) -> str:
        return self.name

    @contextmanager
    def opened(self) -> Iterator[bytes | BinaryIO]:
        """Its bytes where it is small; otherwise a file that fetches the blocks that are read of it.

        Raises:
            VideoError: where it cannot be fetched.
            MissingExtra: where fsspec is not installed.
        """
        system, path = file_system(self.name)
        size = tried(self.name, lambda: system.size(path))
        if size is not None and size <= WHOLE_BYTES:
            yield tried(self.name, lambda: bytes(system.cat_file(path)))
            return
        file = tried(self.name, lambda: system.open(path, "rb", block_size=_BLOCK_BYTES))
        try:
            yield cast("BinaryIO", _Tried(self.name, file))
        finally:
            file.close()


class _Tried:
    """A file of fsspec whose reads are tried again, and whose errors are VideoError."""

    def __init__(self, name: str, file: Any) -> None:
        self.name = name
        self._file = file

    def read(self, count: int = -1) -> bytes:
        at = self._file.tell()

        def read_there() -> bytes:
            self._file.seek(at)
            return bytes(self._file.read(count))

        return tried(self.name, read_there)

    def seek(self, offset: int, whence: int = 0) -> int:
        return tried(self.name, lambda: int(self._file.seek(offset, whence)))

    def tell(self) -> int:
        return int(self._file.tell())

    def seekable(self) -> bool:
        return True


def file_system(url: str) -> tuple[Any, str]:
    """The file system of fsspec that a URL is of, and the path in it.

    Raises:
        MissingExtra: where fsspec is not installed.
        VideoError: for a protocol that fsspec does not know, or whose package is not installed.
    """
    protocol = url.partition("://")[0]
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtra("fsspec", "archive", purpose=f"to read {protocol}://") from error
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:  # fsspec's words name the package: "Install s3fs to access S3"
        raise VideoError(
            f"{protocol}:// cannot be read here: {error}", fix="install the package that it names"
        ) from error
    except ValueError as error:
        raise VideoError(
            f"{url} cannot be read: {error}", fix="see which protocols fsspec has: fsspec.available_protocols()"
        ) from error
    return system, str(path)


def tried(name: str, act: Callable[[], Value]) -> Value:
    """What `act` returns, tried again where it fails for what may pass.

    Raises:
        VideoError: which names the video, for whatever the file system raised last.
    """
    for wait in (*_WAITS, None):
        try:
            return act()
        except FileNotFoundError as error:
            raise VideoError(f"{name} does not exist") from error
        except Exception as error:  # each file system has errors of its own
            raise_shortage(error)
            if wait is None or isinstance(error, _LASTING):
                said = str(error).strip().splitlines()[:1] or [type(error).__name__]
                raise VideoError(f"{name} cannot be read: {type(error).__name__}: {said[0][:300]}") from error
        time.sleep(wait)
    raise AssertionError("the last try returns or raises")
