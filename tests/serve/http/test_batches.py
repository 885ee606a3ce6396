"""Clips of many requests in the runs of one model."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tubelet.preprocess.errors import BackendError
from tubelet.serve.http.batches import Batches, Inferred


def clips(*numbers: int) -> NDArray[np.float32]:
    """(views, 1): each clip is a number, and the model of these tests doubles it."""
    return np.array(numbers, np.float32)[:, np.newaxis]


class Doubling:
    """A model that waits until it may, and remembers its runs. Numbers below 0 make it fail."""

    def __init__(self) -> None:
        self.may_run = threading.Event()
        self.may_run.set()
        self.runs: list[list[int]] = []

    def __call__(self, views: NDArray[Any]) -> NDArray[np.float32]:
        assert self.may_run.wait(10)
        self.runs.append(views[:, 0].astype(int).tolist())
        if views.min() < 0:
            raise BackendError("a number below 0")
        doubled: NDArray[np.float32] = views * 2
        return doubled


def run(scenario: Callable[[Doubling, Batches], Any], *, batch: int = 4, delay_ms: float = 50) -> Doubling:
    """Play a scenario with a model and its batches."""
    model = Doubling()

    async def play() -> None:
        batches = Batches(model, batch=batch, delay_ms=delay_ms, ran=lambda *_: None)
        try:
            await scenario(model, batches)
        finally:
            model.may_run.set()
            await batches.close()

    asyncio.run(play())
    return model


def answers(found: list[Inferred]) -> list[list[float]]:
    return [one.logits[:, 0].tolist() for one in found]


def test_requests_share_runs_and_get_their_own_answers() -> None:
    async def scenario(_: Doubling, batches: Batches) -> None:
        found = await asyncio.gather(*(batches.infer(clips(number)) for number in range(10)))
        assert answers(found) == [[number * 2] for number in range(10)]

    assert run(scenario).runs == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_request_is_kept_whole_and_one_that_is_too_large_has_runs_of_its_own() -> None:
    async def scenario(_: Doubling, batches: Batches) -> None:
        several = [clips(0, 1, 2), clips(3, 4), clips(5, 6, 7, 8, 9, 10), clips(11)]
        found = await asyncio.gather(*(batches.infer(views) for views in several))
        assert answers(found) == [(views[:, 0] * 2).tolist() for views in several]

    assert run(scenario).runs == [[0, 1, 2], [3, 4], [5, 6, 7, 8], [9, 10], [11]]


def test_a_full_batch_does_not_wait() -> None:
    async def scenario(_: Doubling, batches: Batches) -> None:
        await asyncio.wait_for(asyncio.gather(*(batches.infer(clips(number)) for number in range(4))), 30)

    run(scenario, delay_ms=60_000)


def test_one_alone_waits_no_longer_than_it_may() -> None:
    async def scenario(_: Doubling, batches: Batches) -> None:
        found = await batches.infer(clips(1))
        assert found.wait_seconds >= 0.05

    run(scenario, delay_ms=50)


def test_what_came_while_the_model_was_at_work_is_the_next_batch() -> None:
    async def scenario(model: Doubling, batches: Batches) -> None:
        model.may_run.clear()
        first = asyncio.create_task(batches.infer(clips(0)))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(batches.infer(clips(number))) for number in (1, 2, 3)]
        await asyncio.sleep(0.05)
        model.may_run.set()
        await asyncio.gather(first, *others)

    assert run(scenario, delay_ms=0).runs == [[0], [1, 2, 3]]


def test_a_fault_is_the_error_of_its_request_alone() -> None:
    async def scenario(_: Doubling, batches: Batches) -> None:
        several = [clips(1), clips(-2), clips(3)]
        found = await asyncio.gather(*(batches.infer(views) for views in several), return_exceptions=True)
        assert isinstance(found[1], BackendError)
        assert isinstance(found[0], Inferred)
        assert isinstance(found[2], Inferred)
        assert answers([found[0], found[2]]) == [[2], [6]]
        assert answers([await batches.infer(clips(4))]) == [[8]]  # and it goes on

    assert run(scenario).runs == [[1, -2, 3], [1], [-2], [3], [4]]


def test_who_has_gone_is_not_computed() -> None:
    async def scenario(model: Doubling, batches: Batches) -> None:
        model.may_run.clear()
        first = asyncio.create_task(batches.infer(clips(0)))
        await asyncio.sleep(0.05)
        gone, stays = (asyncio.create_task(batches.infer(clips(number))) for number in (1, 2))
        await asyncio.sleep(0)
        gone.cancel()
        model.may_run.set()
        await asyncio.gather(first, stays)

    assert run(scenario, delay_ms=0).runs == [[0], [2]]


def test_what_waits_is_answered_at_the_end() -> None:
    async def scenario(model: Doubling, batches: Batches) -> None:
        model.may_run.clear()
        waiting = [asyncio.create_task(batches.infer(clips(number))) for number in range(6)]
        await asyncio.sleep(0.05)
        model.may_run.set()
        await batches.close()
        assert answers(await asyncio.gather(*waiting)) == [[number * 2] for number in range(6)]

    run(scenario, delay_ms=60_000)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_batch_is_never_larger(batch: int) -> None:
    async def scenario(_: Doubling, batches: Batches) -> None:
        await asyncio.gather(*(batches.infer(clips(*range(size))) for size in (1, 5, 2, 3, 1, 1)))

    assert max(len(one) for one in run(scenario, batch=batch).runs) <= batch
