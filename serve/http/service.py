"""The service: the models of a server, and a video's way through them."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import BundleError
from ...runtime.classifier import VideoClassifier
from ...runtime.reading import Clips, Reading, prepare_crops, read_crops
from .batches import Batches
from .limits import Limits
from .metrics import Metrics
from .places import Room
from .refusal import Refusal
from .uploads import Upload

NAME = "the video"  # whatever its client calls it

Result = TypeVar("Result")


class Stages:
    """Seconds that each stage of a request took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def ended(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now

    def to_json(self) -> dict[str, float]:
        return {name: round(seconds * 1000, 3) for name, seconds in self.seconds.items()}


@dataclass(frozen=True, eq=False)
class Served:
    """A model under the name that clients call it by."""

    name: str
    model: VideoClassifier
    batches: Batches


@dataclass(frozen=True, eq=False)
class Service:
    """The models of a server, by name, and what they share. It belongs to the event loop that it was opened in.

    bodies: held by whoever has the body of a request in memory, whole
    room:   held by clips from before they are decoded until the model has answered
    """

    models: Mapping[str, Served]
    limits: Limits
    metrics: Metrics
    bodies: asyncio.Semaphore
    room: Room
    _readers: ThreadPoolExecutor = field(repr=False)

    @classmethod
    def open(cls, models: Mapping[str, VideoClassifier], limits: Limits, metrics: Metrics) -> Self:
        """Put models behind queues, in the running event loop.

        Args:
            models: by the names that clients call them by.
            limits: what is done at once.
            metrics: what counts.
        """
        served = {
            name: Served(
                name,
                model,
                Batches(model.logits, batch=limits.batch, delay_ms=limits.delay_ms, ran=partial(metrics.ran, name)),
            )
            for name, model in models.items()
        }
        readers = ThreadPoolExecutor(limits.workers, thread_name_prefix="tubelet-reader")
        bodies = asyncio.Semaphore(limits.workers + limits.batch)
        return cls(served, limits, metrics, bodies, Room(limits.workers + 2 * limits.batch), readers)

    @property
    def is_ready(self) -> bool:
        return all(served.batches.is_alive for served in self.models.values())

    def model(self, name: str | None) -> Served:
        """Find a model. Raises Refusal where there is none of that name, or no name and several models."""
        if name is None and len(self.models) == 1:
            return next(iter(self.models.values()))
        if name is None:
            raise Refusal(400, f"there are several models; name one by model=: {', '.join(self.models)}")
        if name not in self.models:
            raise Refusal(404, f"there is no model {name[:80]!r}; there are {', '.join(self.models)}")
        return self.models[name]

    async def look(
        self, served: Served, upload: Upload, reading: Reading, stages: Stages
    ) -> tuple[list[Clips], NDArray[np.float32]]:
        """Run a video through a model.

        Args:
            served: the model.
            upload: the video.
            reading: how it is read.
            stages: gets what each stage took.

        Returns:
            The clips for each crop, and the logits of each view, float32 (views, K).

        Raises:
            VideoError: for what is no video.
            BackendError: where the engine fails.
        """
        async with self.room.taken(reading.views):
            crops, views = await self._read(served, upload, reading, stages)
            return crops, await self._infer(served, views, stages)

    async def infer(self, served: Served, clips: NDArray[Any], stages: Stages) -> NDArray[np.float32]:
        """Run prepared clips through a model, with those of others.

        Args:
            served: the model.
            clips: as its graph takes them, (B, ...).
            stages: gets what each stage took.

        Returns:
            Logits, float32 (B, K).

        Raises:
            BackendError: where the engine fails.
        """
        async with self.room.taken(len(clips)):
            return await self._infer(served, clips, stages)

    async def _read(
        self, served: Served, upload: Upload, reading: Reading, stages: Stages
    ) -> tuple[list[Clips], NDArray[Any]]:
        """Decode a video, and prepare the model input of its views, in a thread."""
        spec = served.model.spec

        def read() -> tuple[list[Clips], NDArray[Any]]:
            stages.ended("wait")  # for room, and for a thread
            crops = read_crops(upload.content, spec, reading, name=NAME)
            stages.ended("decode")
            views = prepare_crops(crops, spec)
            stages.ended("prepare")
            return crops, views

        return await self.in_reader(read, upload)

    async def in_reader(self, work: Callable[[], Result], upload: Upload) -> Result:
        """Do something with an upload in one of the threads that read."""
        future = self._readers.submit(work)
        upload.reading = future
        return await asyncio.wrap_future(future)

    async def _infer(self, served: Served, views: NDArray[Any], stages: Stages) -> NDArray[np.float32]:
        began = time.monotonic()
        inferred = await served.batches.infer(views)
        waited = stages.seconds.get("wait", 0.0)
        stages.ended("execute")
        whole = time.monotonic() - began
        stages.seconds["execute"] = inferred.execute_seconds
        stages.seconds["wait"] = waited + max(0.0, whole - inferred.execute_seconds)
        return inferred.logits

    async def close(self) -> None:
        """Answer what was taken, end the threads, and close the models."""
        for served in self.models.values():
            await served.batches.close()
        self._readers.shutdown(cancel_futures=True)
        for served in self.models.values():
            served.model.close()


def named(models: Sequence[tuple[str, VideoClassifier]]) -> dict[str, VideoClassifier]:
    """Gather models by their names. Raises BundleError for two of one name."""
    found: dict[str, VideoClassifier] = {}
    for name, model in models:
        if name in found:
            raise BundleError(
                f"two bundles are called {name}, and clients could not tell them apart: {found[name].bundle.path} and "
                f"{model.bundle.path}",
                fix="rename one of the folders",
            )
        found[name] = model
    return found
