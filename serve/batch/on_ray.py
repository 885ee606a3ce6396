"""An archive on a cluster of Ray: readers and models in separate pools, and rows in order on the driver.

names -> actors that fetch, decode and cut -> actors that hold a model -> rows

Readers and models scale apart. There are as many models as were asked for. Readers come and go on the cores that the
models leave free, on any machine. What an actor was doing when it died is done again by another.
"""

import json
import logging
import os
import pickle
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from ...preprocess.errors import BackendError, MissingExtra, NotAvailable, OutOfBounds, VideoError
from ...preprocess.sources import Source, is_url
from ...preprocess.spec import ClipSpec
from ...runtime.archive.loading import Loading
from ...runtime.archive.parquet import pyarrow
from ...runtime.archive.rows import Row, in_text
from ...runtime.backends import DEFAULT_PRECISION
from ...runtime.locate import locate
from ...runtime.reading import AlreadyRead, Reading, read_crops
from ...runtime.remote import Remote
from ...runtime.tuning.auto import AUTO

ON_GPU = ("onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt")

_BLOCK_NAMES = 16  # that a reader has at a time
_MOST_BLOCKS = 20_000  # that Ray has to keep in mind
_REACH_SECONDS = 10.0


class Reader:
    """An actor that fetches, decodes and cuts videos. folder: what names are relative to."""

    def __init__(self, spec: ClipSpec, reading: Reading, folder: str) -> None:
        self.spec = spec
        self.reading = reading
        self.folder = folder

    def __call__(self, table: Any) -> Any:
        arrow = pyarrow()
        read = [pickle.dumps(self.read(os.fsdecode(name.as_py()))) for name in table["name"]]
        return arrow.table({"read": arrow.array(read, arrow.large_binary())})

    def read(self, name: str) -> AlreadyRead:
        video = Remote(name) if is_url(name) else Source(name, Path(self.folder, name))
        try:
            return AlreadyRead(name, tuple(read_crops(video, self.spec, self.reading)), None)
        except VideoError as error:
            return AlreadyRead(name, (), error.message)


class Model:
    """An actor that holds a model, and turns what readers read into rows."""

    def __init__(self, loading: Loading, top_k: int, batch: int) -> None:
        self.loading = loading
        self.model = loading.load()
        self.top_k = top_k
        self.batch = batch

    def __call__(self, table: Any) -> Any:
        videos = (pickle.loads(video.as_py()) for video in table["read"])
        results = self.model.classify_many(videos, top_k=self.top_k, batch=self.batch, workers=1)
        rows = [result.to_json(self.loading.reading) | {"video": in_text(result.name)} for result in results]
        return pyarrow().table({"row": [json.dumps(row) for row in rows]})


@dataclass(frozen=True)
class Pools:
    """How a cluster is shared: models, cores and GPUs of each, and at most so many readers of a core."""

    models: int
    cores: int
    gpus: int
    readers: int

    @classmethod
    def of(cls, resources: Mapping[str, float], backend: str, threads: int, models: int | None) -> Self:
        """Share what a cluster has now.

        Args:
            resources: its "CPU" and "GPU".
            backend: what the models run on.
            threads: of each model.
            models: how many. None is one for each GPU, or what half of the cores hold.

        Raises:
            NotAvailable: where it does not hold so many, and a reader.
        """
        cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        gpus_each = int(backend in ON_GPU)
        count = models or max(1, gpus if gpus_each else cores // (2 * threads))
        readers = cores - count * threads
        if readers < 1 or count * gpus_each > gpus:
            needs = f"{count * threads + 1} cores{f' and {count} GPUs' if gpus_each else ''}"
            raise NotAvailable(
                f"{count} models of {threads} threads and a reader need {needs}, and the cluster has {cores} cores and "
                f"{gpus} GPUs",
                fix="fewer --models or --threads, or start more machines first",
            )
        return cls(count, threads, gpus_each, readers)


def classify_on_ray(
    loading: Loading, names: Sequence[str], *, address: str, models: int | None, top_k: int, batch: int
) -> Iterator[Row]:
    """Make the rows of videos on a cluster of Ray, in order.

    The bundle has to be at the same path on every machine, or on the Hub. Videos that are files must be at the same
    path everywhere, too.

    Args:
        loading: the model, and how it reads. Without threads a model computes with one.
        names: paths, or URLs of fsspec.
        address: of the cluster; "auto" for the one that runs here, "local" to start one in this process.
        models: how many of them. None is one for each GPU, or for half of the cores.
        top_k: how many labels.
        batch: clips in one run of the graph.

    Raises:
        MissingExtra: where Ray is not installed.
        BackendError: where there is no cluster, or it gives up.
        OutOfBounds: for the backend "auto": a tuning is for one machine, and a cluster may have others.
    """
    if loading.backend == AUTO:
        raise OutOfBounds(
            "backend auto is what was tuned on this machine, and a cluster may have others",
            fix="name a backend and a precision that all of them have",
        )
    loading = loading.settled()
    located = locate(loading.bundle, loading.backend, loading.precision or DEFAULT_PRECISION)
    spec = located.open().spec
    loading = replace(loading, bundle=located.address, threads=loading.threads or 1)
    with _cluster(address) as ray:
        pools = Pools.of(ray.cluster_resources(), loading.backend, loading.threads or 1, models)
        blocks = min(-(-len(names) // _BLOCK_NAMES), _MOST_BLOCKS)
        dataset = (
            ray.data.from_items([{"name": os.fsencode(name)} for name in names], override_num_blocks=blocks)
            .map_batches(
                Reader,
                fn_constructor_args=(spec, loading.reading, os.getcwd()),
                batch_format="pyarrow",
                batch_size=_BLOCK_NAMES,
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=pools.readers),
                num_cpus=1,
            )
            .map_batches(
                Model,
                fn_constructor_args=(loading, top_k, batch),
                batch_format="pyarrow",
                batch_size=max(batch, _BLOCK_NAMES),
                compute=ray.data.ActorPoolStrategy(size=min(pools.models, blocks)),
                num_cpus=pools.cores,
                num_gpus=pools.gpus,
            )
        )
        try:
            for table in dataset.iter_batches(batch_format="pyarrow", batch_size=None):
                yield from map(json.loads, table["row"].to_pylist())
        except ray.exceptions.RayError as error:
            raise BackendError(
                f"Ray gave up: {_last_line(error)}", fix="go on with --resume when it is mended"
            ) from error


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """Ray, connected, with the order of rows kept; the connection ends with the block unless it was there before."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtra("ray", "ray", purpose="to classify on a cluster") from error
    connected = ray.is_initialized()
    if not connected:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or Ray reports its use
        try:
            _reach(address)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, ValueError, RuntimeError) as error:
            raise BackendError(
                f"there is no Ray cluster at {address!r}: {_last_line(error)}",
                fix="ray start --head starts one here; --ray local starts one for this run alone",
            ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # what it would do, and did, for every run
    context = ray.data.DataContext.get_current()
    before = context.execution_options.preserve_order, context.enable_progress_bars
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    try:
        yield ray
    finally:
        context.execution_options.preserve_order, context.enable_progress_bars = before
        if not connected:
            ray.shutdown()


def _reach(address: str) -> None:
    """Raise OSError where nobody answers at HOST:PORT: Ray would end the process."""
    host, _, port = address.rpartition(":")
    if host and port.isascii() and port.isdigit() and "://" not in address:
        socket.create_connection((host, int(port)), timeout=_REACH_SECONDS).close()


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
