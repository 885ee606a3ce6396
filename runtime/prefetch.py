"""Many videos: decoding and preparing run ahead of the model, in threads of their own."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Ready = TypeVar("Ready")


def ahead(work: Callable[[Item], Ready], items: Iterable[Item], *, workers: int, queue: int) -> Iterator[Ready]:
    """Run work(item) for every item in threads ahead of the consumer.

    Memory is bounded however many items there are. When the consumer stops early, what has not begun is dropped.

    Args:
        work: what is done with each item.
        items: any number of them.
        workers: how many threads.
        queue: how many results they may be ahead.

    Yields:
        The results in order. What `work` raises is raised where its result would have been.
    """
    coming = iter(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="tubelet-ahead")
    try:
        begun: deque[Future[Ready]] = deque(pool.submit(work, item) for item in islice(coming, queue))
        while begun:
            ready = begun.popleft().result()
            begun.extend(pool.submit(work, item) for item in islice(coming, 1))
            yield ready
    finally:
        pool.shutdown(cancel_futures=True)


def grouped(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Put the items in lists of `size`, the last one perhaps shorter."""
    coming = iter(items)
    while group := list(islice(coming, size)):
        yield group
