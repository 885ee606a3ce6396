"""What has no end, or is read as it comes: cameras, streams over a network, and pipes."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from .sources import PROTOCOLS_OF_BYTES, Source


@dataclass(frozen=True, eq=False)
class LiveSource(Source):
    """A stream or camera that FFmpeg opens by an address.

    content: a URL, or what a device is called
    format:  of FFmpeg, where the address does not tell it
    options: of FFmpeg, for the protocol, the device and the format
    seconds: how long to wait for an answer, and for each packet
    """

    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 10.0

    @property
    def may_be_endless(self) -> bool:
        return True

    def for_pyav(self) -> tuple[Any, dict[str, Any]]:
        options = {"options": dict(self.options), "timeout": (self.seconds, self.seconds)}
        return self.content, options | ({} if self.format is None else {"format": self.format})


@dataclass(frozen=True, eq=False)
class PipeSource(Source):
    """What comes in through a pipe: `content` is a binary file that is read once, from where it is."""

    @property
    def reopens(self) -> bool:
        return False

    @property
    def may_be_endless(self) -> bool:
        return True

    def for_pyav(self) -> tuple[Any, dict[str, Any]]:
        return _AsItComes(self.content), {"options": {"protocol_whitelist": PROTOCOLS_OF_BYTES}}

    @contextmanager
    def reader(self) -> Iterator[BinaryIO]:
        """Nothing: what is looked at is gone."""
        yield io.BytesIO()


class _AsItComes:
    """A file without places. A read gives what is there, and waits only where nothing is."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, count: int = -1) -> bytes:
        read: bytes = self._file.read1(count) if hasattr(self._file, "read1") else self._file.read(count)
        return read
