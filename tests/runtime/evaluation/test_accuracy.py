"""Accuracy against counts by hand, and intervals against published ones and against chance."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from tubelet.runtime.evaluation.accuracy import Accuracy, beside, wilson_interval

LABELS = [f"label {number}" for number in range(7)]


def test_counts_by_hand() -> None:
    """Four videos of label 0, of which 3 are right; one of label 1, wrong but among the five; one of label 2, lost."""
    classes = {"a": 0, "b": 0, "c": 0, "d": 0, "e": 1, "f": 2}
    best = {
        "a": [0, 1, 2, 3, 4],
        "b": [0, 2, 1, 3, 4],
        "c": [0, 1, 2, 3, 4],
        "d": [3, 0, 1, 2, 4],
        "e": [3, 0, 5, 6, 1],
        "f": [3, 0, 1, 4, 5, 2],  # the sixth does not count
    }
    found = Accuracy.of(
        LABELS, classes, {name: [LABELS[number] for number in numbers] for name, numbers in best.items()}
    )
    assert found.videos == 6
    assert found.top1.value == 3 / 6
    assert found.top5.value == 5 / 6
    assert found.mean_per_class.value == pytest.approx((3 / 4 + 0 + 0) / 3)
    assert {(own, other): count for (own, other), count in np.ndenumerate(found.confusion) if count} == {
        (0, 0): 3,
        (0, 3): 1,
        (1, 3): 1,
        (2, 3): 1,
    }
    assert found.mistakes(2) == [("label 0", "label 3", 1), ("label 1", "label 3", 1)]
    assert len(found.mistakes(9)) == 3
    assert found.of_label(0) == (0.75, *wilson_interval(0.75, 4))
    assert found.of_label(6) is None


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_of_a_share_is_the_published_one(right: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(right / total, total) == pytest.approx((low, high), abs=5e-5)


def test_the_interval_of_a_share_that_is_whole() -> None:
    low, high = wilson_interval(1, 20)
    assert (low, high) == pytest.approx((1 - 0.1611, 1), abs=5e-5)
    assert high <= 1


@pytest.mark.parametrize(("right", "total"), [(0, 10), (1, 10), (10, 10), (950, 1000), (91, 1000)])
def test_the_ends_are_shares_that_lie_so_far_from_what_was_seen(right: int, total: int) -> None:
    """Just 1.96 of their own standard deviations."""
    z = NormalDist().inv_cdf(0.975)
    low, high = wilson_interval(right / total, total)
    assert 0 <= low < high <= 1
    for end in (low, high):
        distance = z * math.sqrt(max(end * (1 - end), 0) / total)
        assert abs(right / total - end) == pytest.approx(distance, abs=1e-6)


def of(right: np.ndarray, classes: np.ndarray, count: int) -> Accuracy:
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (classes, np.where(right, classes, (classes + 1) % count)), 1)
    return Accuracy(tuple(str(number) for number in range(count)), right, right, confusion)


def test_with_as_many_videos_of_each_label_the_mean_per_class_is_top1() -> None:
    chance = np.random.default_rng(0)
    classes = np.repeat(np.arange(10), 30)
    found = of(chance.random(300) < 0.7, classes, 10)
    assert found.mean_per_class == pytest.approx(found.top1)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """2,000 sets of 20 labels with 2 to 40 videos each, whose labels are right with 50 to 95 %; 95 %, give or take 4
    standard deviations of what chance gives, and for the mean per class no less than that."""
    chance = np.random.default_rng(1)
    classes = np.repeat(np.arange(20), chance.integers(2, 41, 20))
    rates = chance.uniform(0.5, 0.95, 20)
    top1, mean, difference = 0, 0, 0
    sets = 2000
    for _ in range(sets):
        right = chance.random(len(classes)) < rates[classes]
        other = np.where(chance.random(len(classes)) < 0.1, chance.random(len(classes)) < 0.5, right)
        one, two = of(right, classes, 20), of(other, classes, 20)
        top1 += one.top1.low <= rates[classes].mean() <= one.top1.high
        mean += one.mean_per_class.low <= rates.mean() <= one.mean_per_class.high
        expected = 0.1 * (0.5 - rates[classes].mean())
        found = beside(two, one)
        difference += found.low <= expected <= found.high
    slack = 4 * math.sqrt(0.05 * 0.95 / sets)
    assert top1 / sets > 0.95 - slack
    assert mean / sets > 0.95 - slack
    assert 0.95 - slack < difference / sets < 0.95 + slack + 0.01


def test_a_difference_of_the_same_videos() -> None:
    right = np.array([True] * 90 + [False] * 10)
    other = right.copy()
    other[:3] = False
    other[95] = True
    classes = np.zeros(100, int)
    found = beside(of(other, classes, 2), of(right, classes, 2))
    assert found.value == pytest.approx(-0.02)
    assert found.low < -0.02 < 0 < found.high
    same = beside(of(right, classes, 2), of(right, classes, 2))
    assert same.value == 0
    assert same.low == pytest.approx(-same.high)
    assert same.high < 0.04
