import threading
import time
from collections.abc import Iterator

import pytest

from tubelet.runtime.prefetch import ahead, grouped


def test_results_come_in_order_however_long_each_takes() -> None:
    def work(number: int) -> int:
        time.sleep(0.02 * (number % 3 == 0))
        return number * number

    assert list(ahead(work, range(12), workers=3, queue=4)) == [number**2 for number in range(12)]
    assert list(ahead(work, [], workers=3, queue=4)) == []


def test_work_is_ahead_of_the_consumer_and_no_further_than_the_queue() -> None:
    begun = []
    lock = threading.Lock()

    def work(number: int) -> int:
        with lock:
            begun.append(number)
        return number

    results = ahead(work, range(100), workers=2, queue=5)
    assert next(results) == 0
    deadline = time.monotonic() + 5
    while len(begun) < 6 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert sorted(begun) == [0, 1, 2, 3, 4, 5]  # the one that was taken, and five behind it
    results.close()  # type: ignore[attr-defined]
    assert len(begun) == 6


def test_an_error_comes_where_its_result_would_have_been() -> None:
    def work(number: int) -> int:
        if number == 2:
            raise ValueError("the third")
        return number

    results = ahead(work, range(9), workers=2, queue=3)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tubelet-ahead")]


def test_items_are_taken_as_they_are_needed() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    results = ahead(lambda number: number, items(), workers=1, queue=3)
    next(results)
    assert len(taken) == 4
    results.close()  # type: ignore[attr-defined]


def test_groups() -> None:
    assert list(grouped("abcdefg", 3)) == [["a", "b", "c"], ["d", "e", "f"], ["g"]]
    assert list(grouped([], 3)) == []
