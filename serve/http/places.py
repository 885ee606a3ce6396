"""How much is taken in at once: places for requests, which refuse, and room for clips, which lets wait."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from .refusal import Refusal

LONGEST_RETRY = 60  # seconds


class Places:
    """Places for the requests that are being received, wait or are at work."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.held = 0
        self._apart = 0.0  # seconds from one answer to the next, lately, while others waited
        self._last = time.monotonic()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a place. Raises Refusal, which says when to try again, where there is none."""
        if self.held >= self.count:
            raise Refusal(503, f"{self.count} requests are taken, as many as fit", retry_after=self.retry_after)
        self.held += 1
        try:
            yield
        finally:
            now = time.monotonic()
            if self.held > 1:
                self._apart += 0.05 * (now - self._last - self._apart)
            self._last = now
            self.held -= 1

    @property
    def retry_after(self) -> int:
        """Seconds until about half of those in the queue have been answered."""
        return min(max(1, math.ceil(self.held * self._apart / 2)), LONGEST_RETRY)


class Room:
    """Room for so many clips between decoding and the model; whoever came first enters first."""

    def __init__(self, clips: int) -> None:
        self._clips = self._free = clips
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def taken(self, clips: int) -> AsyncIterator[None]:
        """Wait for room for `clips`; whoever wants more than there is has all of it."""
        wanted = min(clips, self._clips)
        async with self._turn:
            while self._free < wanted:
                self._freed.clear()
                await self._freed.wait()
            self._free -= wanted
        try:
            yield
        finally:
            self._free += wanted
            self._freed.set()
