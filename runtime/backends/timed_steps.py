"""What an engine with its own memory can say beside the logits: when each step of a batch was done."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

# Called with "copy in", "execute" and "copy out", in that order and whenever one is done.
Timed = Callable[[str], None]


@runtime_checkable
class RunsInSteps(Protocol):
    """An engine that computes elsewhere than where clips and logits lie. Engines on the CPU are none: they read a
    batch where it is. A copy that they may make of it is within what they compute.
    """

    def infer_in_steps(self, batch: NDArray[Any], timed: Timed) -> NDArray[np.float32]:
        """As `Backend.infer`, waiting for the end of each step; so somewhat slower in all."""
        ...


def untimed(step: str) -> None:
    """For those who do not ask."""
