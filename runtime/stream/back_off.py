"""How long to wait before a lost source is opened again."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class BackOff:
    """Waiting twice as long each time.

    Attributes:
        first: seconds before the first attempt.
        longest: seconds that no wait is longer than, but for its jitter.
        jitter: which part of itself a wait is longer or shorter by, by chance. So many who lost one server do not come
            back at the same moment.
    """

    first: float = 1.0
    longest: float = 30.0
    jitter: float = 0.25

    def seconds(self, attempt: int) -> float:
        """How long to wait before an attempt, which are counted from 1."""
        wait = min(self.first * 2.0 ** min(attempt - 1, 64), self.longest)
        return wait * random.uniform(1 - self.jitter, 1 + self.jitter)
