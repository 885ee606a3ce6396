"""Accuracy: how many answers are right, and how well so many videos can tell."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations
TOP = 5

# The labels that are said of each video that could be read, the best first.
Said = Mapping[str, Sequence[str]]


class Share(NamedTuple):
    """A share, and the interval that holds the true one with 95 %."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.2f} % ({100 * self.low:.2f} to {100 * self.high:.2f})"


def wilson_interval(share: float, total: float) -> tuple[float, float]:
    """Give the 95 % score interval of a share (Wilson 1927). It stays within 0 to 1 and holds near both ends."""
    weight = _Z * _Z / total
    middle = (share + weight / 2) / (1 + weight)
    half = _Z / (1 + weight) * math.sqrt(share * (1 - share) / total + weight / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, eq=False)
class Accuracy:
    """What the answers to a labelled set come to.

    Attributes:
        labels: K names.
        right: bool (N,), whether the best label of each video is its own.
        right_of_five: bool (N,), whether one of the five best is.
        confusion: int64 (K, K), videos by their own label and by the best one.
    """

    labels: tuple[str, ...]
    right: NDArray[np.bool_]
    right_of_five: NDArray[np.bool_]
    confusion: NDArray[np.int64]

    @classmethod
    def of(cls, labels: Sequence[str], classes: Mapping[str, int], said: Said) -> "Accuracy":
        """Hold what is said of each video against what happens in it.

        Args:
            labels: K names.
            classes: which of the labels is each video's own; only of those that something is said of.
            said: the labels that are said of each, the best first.
        """
        numbers = {label: number for number, label in enumerate(labels)}
        answers = [(classes[name], [numbers[label] for label in best[:TOP]]) for name, best in said.items()]
        confusion = np.zeros((len(labels), len(labels)), np.int64)
        for own, best in answers:
            confusion[own, best[0]] += 1
        return cls(
            tuple(labels),
            np.array([own == best[0] for own, best in answers], bool),
            np.array([own in best for own, best in answers], bool),
            confusion,
        )

    @property
    def videos(self) -> int:
        return len(self.right)

    @property
    def top1(self) -> Share:
        return self._share(self.right)

    @property
    def top5(self) -> Share:
        return self._share(self.right_of_five)

    @property
    def mean_per_class(self) -> Share:
        """The mean over labels of the share of their videos that is right; labels without a video are left out.

        Its interval is Wilson's for as many videos as would tell as much if each weighed the same (Kish 1965). A video
        weighs 1 / (labels * videos of its label).
        """
        totals = self.confusion.sum(axis=1)
        present = totals > 0
        value = float((self.confusion.diagonal()[present] / totals[present]).mean())
        effective = int(present.sum()) ** 2 / float((1 / totals[present]).sum())
        return Share(value, *wilson_interval(value, effective))

    def of_label(self, number: int) -> Share | None:
        """The share of one label's videos that is right; None where it has none."""
        total = int(self.confusion[number].sum())
        if not total:
            return None
        value = float(self.confusion[number, number] / total)
        return Share(value, *wilson_interval(value, total))

    def mistakes(self, count: int) -> list[tuple[str, str, int]]:
        """The pairs that are confused most: own label, label that is said, videos."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        pairs = [divmod(int(place), len(self.labels)) for place in order]
        return [
            (self.labels[own], self.labels[other], int(wrong[own, other])) for own, other in pairs if wrong[own, other]
        ]

    def _share(self, right: NDArray[np.bool_]) -> Share:
        value = float(right.mean())
        return Share(value, *wilson_interval(value, len(right)))

    def to_json(self) -> dict[str, Any]:
        return {
            "videos": self.videos,
            "top1": self.top1._asdict(),
            "top5": self.top5._asdict(),
            "mean_per_class": self.mean_per_class._asdict(),
            "confusion": self.confusion.tolist(),
        }


def beside(one: Accuracy, other: Accuracy) -> Share:
    """How much more of the same videos `one` has right than `other`: top-1, and its 95 % interval.

    Both saw the same videos, so only those count that one has right and the other wrong. This is the adjusted Wald
    interval for paired shares (Bonett and Price 2012).
    """
    only_one, only_other = int((one.right & ~other.right).sum()), int((other.right & ~one.right).sum())
    total = one.videos
    first, second = (only_one + 1) / (total + 2), (only_other + 1) / (total + 2)
    half = _Z * math.sqrt((first + second - (first - second) ** 2) / (total + 2))
    middle = first - second
    return Share((only_one - only_other) / total, max(-1.0, middle - half), min(1.0, middle + half))
