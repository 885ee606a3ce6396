"""Which candidates go on, which is chosen, and which nothing beats: from what was measured, and nothing else."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ...runtime.tuning.record import Tried

# What is slower than this share of the fastest after a few rounds is not measured to the end.
NEAR = 0.6
FINALISTS = 4
# Speeds that are nearer than this are taken for equal, and the candidate that is nearer to torch is chosen.
TIE = 0.05
# More clips at once must gain this much for each clip.
GAIN = 0.05
# Cosines are compared to so many digits.
_DIGITS = 6


def speed(one: Tried) -> float:
    """How many times as fast as the baseline, 0 where that was not measured."""
    return 0.0 if one.speed is None else one.speed.value


def distance(one: Tried) -> float:
    """How far from torch: 1 - cosine, as far as it means something."""
    return 0.0 if one.cosine is None else round(1 - one.cosine, _DIGITS)


def is_eligible(one: Tried) -> bool:
    """Whether it may be chosen, or would be if it were faster."""
    return one.speed is not None and one.outcome in ("chosen", "measured", "slow")


def may_catch_up(one: Tried, fastest: Tried) -> bool:
    """Whether a candidate is near enough to the fastest to be measured to the end.

    Where rounds differ it has the benefit of the doubt: it is the upper end of its speed that has to be near.
    """
    return one.speed is not None and one.speed.high >= NEAR * speed(fastest)


def divide(tried: Iterable[Tried]) -> tuple[list[Tried], list[Tried]]:
    """Divide candidates into those that are measured to the end, the fastest first, and those that are too slow.

    The second say so: their outcome and reason are others.
    """
    ordered = sorted(tried, key=speed, reverse=True)
    go_on: list[Tried] = []
    stay: list[Tried] = []
    for one in ordered:
        fastest = ordered[0]
        if len(go_on) < FINALISTS and may_catch_up(one, fastest):
            go_on.append(one)
        else:
            reason = f"{speed(one):.2f}x in the first rounds, where {fastest.name} had {speed(fastest):.2f}x"
            stay.append(replace(one, outcome="slow", reason=reason))
    return go_on, stay


def best(tried: Sequence[Tried]) -> Tried:
    """Choose among candidates that were measured to the end.

    It is the one nearest to torch among those that are as fast as the fastest, within TIE. Where several are as near,
    it is the fastest of them.
    """
    fastest = max(map(speed, tried))
    equal = [one for one in tried if speed(one) >= fastest * (1 - TIE)]
    return min(equal, key=lambda one: (distance(one), -speed(one)))


def is_worth(one: Tried, beside: Tried) -> bool:
    """Whether more clips at once make up for their wait: each takes less time, by GAIN."""
    return speed(one) > speed(beside) * (1 + GAIN)


def frontier(tried: Iterable[Tried], lost: Callable[[Tried], float] = distance) -> list[Tried]:
    """Those that no other one beats in both speed and what is lost, the fastest first."""
    found: list[Tried] = []
    for one in sorted(filter(is_eligible, tried), key=lambda one: (-speed(one), lost(one))):
        if not found or lost(one) < lost(found[-1]):
            found.append(one)
    return found
