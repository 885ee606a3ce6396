"""Limits: what one server takes from its clients, and what it does at once."""

import math
from dataclasses import dataclass

from ...preprocess.errors import OutOfBounds
from ...runtime.bounds import WORKERS, Bound, shown

QUEUE = Bound("queue", 1, 65_536, "each is a connection, and may be a file")
BATCH = Bound("batch", 1, 65_536, "a GPU holds a few hundred clips")
BODY_MB = Bound("max_mb", 1, 1 << 20, "a terabyte of video")
PIXEL_MB = Bound("max_pixel_mb", 1, 1 << 20, "a terabyte of pixels")
MOST_VIEWS = 48  # of one video; published evaluations average over up to 30


@dataclass(frozen=True)
class Limits:
    """What a server takes from its clients, and what it does at once.

    Attributes:
        queue: requests that are being received, wait or are at work; more are answered with 503.
        workers: threads that decode and prepare.
        batch: clips in one run of a graph.
        delay_ms: how long a clip waits for others to share its run.
        max_mb: MiB that the body of a request may have.
        max_pixel_mb: MiB of pixels held while one video is read, and a quarter of it for one frame.
        max_seconds: how long a video may last.
        timeout_s: seconds that a request may take to arrive, and again to be answered.

    Raises:
        OutOfBounds: for a value that makes no sense.
    """

    queue: int = 256
    workers: int = 2
    batch: int = 8
    delay_ms: float = 5.0
    max_mb: int = 64
    max_pixel_mb: int = 256
    max_seconds: float = 600.0
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        QUEUE.check(self.queue)
        WORKERS.check(self.workers)
        BATCH.check(self.batch)
        BODY_MB.check(self.max_mb)
        PIXEL_MB.check(self.max_pixel_mb)
        if not 0 <= self.delay_ms <= 60_000:
            raise OutOfBounds(f"delay_ms must be from 0 to 60000, got {shown(self.delay_ms)}")
        for name in ("max_seconds", "timeout_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise OutOfBounds(f"{name} must be above 0, got {shown(getattr(self, name))}")

    @property
    def max_bytes(self) -> int:
        return self.max_mb << 20
