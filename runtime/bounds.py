"""How large a number from a caller may be, and why no larger. It is the same on the command line and in Python."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..preprocess.errors import OutOfBounds
from .system import cores_allowed

# More digits than any number that is meant; Python itself stops at 4300.
_DIGITS = 20


@dataclass(frozen=True)
class Bound:
    """What a whole number called `name` may be: from `least` to `most`. why: what makes more of it no use."""

    name: str
    least: int
    most: int
    why: str

    def check(self, value: Any) -> int:
        """`value` as an int. Raises OutOfBounds where it is no whole number, or outside."""
        try:
            number = operator.index(value)
        except TypeError:
            number = None
        if number is None or isinstance(value, bool) or not self.least <= number <= self.most:
            raise OutOfBounds(
                f"{self.name} must be a whole number from {self.least} to {self.most} ({self.why}), got {shown(value)}"
            )
        return number


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise OutOfBounds where what is called `name` is none of `choices`."""
    if value not in choices:
        *others, last = map(str, choices)
        raise OutOfBounds(f"{name} must be {', '.join(others)} or {last}, got {shown(value)}")


def whole_number(text: str) -> int:
    """The number that is written in digits, and nothing else. Raises ValueError for any other text."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text[:_DIGITS]!r} is no whole number")
    if len(text) > _DIGITS:
        raise ValueError(f"a number of {len(text)} digits is more than anything can be")
    return int(text)


def shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 10**_DIGITS:
        return f"-10^{_DIGITS} or less" if value < 0 else f"10^{_DIGITS} or more"
    return repr(value)[:100]


_CORES = len(cores_allowed())
_MOST_THREADS = max(64, 4 * _CORES)
_CORES_HERE = f"this process may use {_CORES} {'core' if _CORES == 1 else 'cores'}"

THREADS = Bound("threads", 1, _MOST_THREADS, _CORES_HERE)
WORKERS = Bound("workers", 1, _MOST_THREADS, _CORES_HERE)
CLIPS = Bound("clips", 1, 1000, "published evaluations take up to 10")
ROUNDS = Bound("rounds", 3, 10_000, "p99 needs some hundreds")
PROFILE_BATCH = Bound("a batch of a profile", 1, 65_536, "a GPU holds a few hundred clips")
STARTS = Bound("starts", 1, 1000, "each is a process")
NUM_FRAMES = Bound("num_frames", 1, 4096, "published models see up to 64")
IMAGE_SIDE = Bound("image_size", 1, 8192, "published models see up to 512 pixels")
OPSETS = Bound("opset", 17, 24, "17 is the first with LayerNormalization")
MERGED_TOKENS = Bound("merge", 1, 16_384, "half of the tokens that a clip has at most")
MOST_FPS = 100_000  # finer than the clocks of files
