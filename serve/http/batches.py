"""Batches: clips of many requests go through one model together."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The model input of some clips, (B, ...) -> logits float32 (B, K).
Infer = Callable[[NDArray[Any]], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Inferred:
    """What the model says of the clips of one request.

    logits:          float32 (views, K)
    wait_seconds:    until their run began
    execute_seconds: what the run took that they shared
    """

    logits: NDArray[np.float32]
    wait_seconds: float
    execute_seconds: float


@dataclass(eq=False)
class _Waiting:
    views: NDArray[Any]
    answer: "asyncio.Future[Inferred]"
    since: float


class Batches:
    """One model behind a queue: its thread runs as many of the waiting clips at once as a batch holds.

    Requests are kept whole and in order: one with more clips than a batch holds has runs of its own.

    Args:
        infer: runs the model.
        batch: clips in one run.
        delay_ms: how long the first of them waits for others.
        ran: is called with the clips of each run and its seconds.
    """

    def __init__(self, infer: Infer, *, batch: int, delay_ms: float, ran: Callable[[int, float], None]) -> None:
        self._infer = infer
        self._batch = batch
        self._delay = delay_ms / 1000
        self._ran = ran
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tubelet-model")
        self._work = asyncio.create_task(self._run_all())

    @property
    def is_alive(self) -> bool:
        return not self._work.done()

    async def infer(self, views: NDArray[Any]) -> Inferred:
        """Run the clips of one request, with others.

        Args:
            views: the model input, (views, ...).

        Returns:
            What the model says, with logits float32 (views, K).

        Raises:
            BackendError: where the engine fails for these clips.
        """
        waiting = _Waiting(views, asyncio.get_running_loop().create_future(), time.monotonic())
        self._waiting.append(waiting)
        self._arrived.set()
        return await waiting.answer

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        """Run something else in the thread of the model, between its runs."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        """Answer what waits, and end."""
        self._closing = True
        self._arrived.set()
        await self._work
        self._thread.shutdown()

    async def _run_all(self) -> None:
        while True:
            await self._collected()
            group = self._next_group()
            if group:
                await self._answer(group)
            elif self._closing:
                return

    async def _collected(self) -> None:
        """Wait for a first request, then until there are clips for a run or the first has waited long enough."""
        while not self._waiting and not self._closing:
            self._arrived.clear()
            await self._arrived.wait()
        while self._waiting and not self._closing and sum(len(one.views) for one in self._waiting) < self._batch:
            left = self._waiting[0].since + self._delay - time.monotonic()
            if left <= 0:
                return
            self._arrived.clear()
            try:
                async with asyncio.timeout(left):
                    await self._arrived.wait()
            except TimeoutError:
                return

    def _next_group(self) -> list[_Waiting]:
        """As many of the waiting as one run takes, without those whose client has gone."""
        group: list[_Waiting] = []
        clips = 0
        while self._waiting and (not group or clips + len(self._waiting[0].views) <= self._batch):
            one = self._waiting.popleft()
            if not one.answer.done():
                group.append(one)
                clips += len(one.views)
        return group

    async def _answer(self, group: list[_Waiting]) -> None:
        began = time.monotonic()
        try:
            logits, seconds = await self.in_thread(lambda: self._run([one.views for one in group]))
        except Exception as error:
            if len(group) == 1:
                if not group[0].answer.done():
                    group[0].answer.set_exception(error)
                return
            for one in group:  # the fault may be of one of them: each by itself
                await self._answer([one])
            return
        for one, found in zip(group, logits, strict=True):
            if not one.answer.done():
                one.answer.set_result(Inferred(found, began - one.since, seconds))

    def _run(self, several: list[NDArray[Any]]) -> tuple[list[NDArray[np.float32]], float]:
        """The logits of each request, run together, `batch` clips at a time; and the seconds of all runs."""
        began = time.perf_counter()
        views = np.concatenate(several) if len(several) > 1 else several[0]
        logits = []
        for start in range(0, len(views), self._batch):
            run_began = time.perf_counter()
            logits.append(self._infer(views[start : start + self._batch]))
            self._ran(len(logits[-1]), time.perf_counter() - run_began)
        split = np.split(np.concatenate(logits), np.cumsum([len(one) for one in several])[:-1])
        return split, time.perf_counter() - began
