"""VideoClassifier: a bundle at work. read -> prepare -> infer -> rank."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..preprocess.errors import BackendError, VideoError
from .backends import DEFAULT_BACKEND, Backend, open_backend
from .bundle import Bundle
from .many import ahead, grouped
from .predictions import Prediction, merge_views, top_predictions
from .reading import Clips, Reading, Video, prepare_clips, read_clips


@dataclass(frozen=True, eq=False)
class Classification:
    """One video of several: its predictions, high to low, and the clips that they are for; or the error instead.

    video: as it was given.
    """

    video: Video
    predictions: tuple[Prediction, ...]
    clips: Clips | None
    error: VideoError | None


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A video on its way to the model: its clips and the model input of its views, or the error instead."""

    video: Video
    clips: Clips | None
    views: NDArray[Any] | None
    error: VideoError | None


class VideoClassifier:
    """A bundle with one of its graphs loaded into an engine, and a way to read videos; a context manager.

    Attributes: bundle, spec (the input contract), labels, reading.
    """

    def __init__(self, bundle: Bundle, backend: Backend, *, reading: Reading | None = None) -> None:
        self.bundle = bundle
        self.spec = bundle.spec
        self.labels = bundle.labels
        self.reading = Reading() if reading is None else reading
        self._backend = backend

    def read(self, video: Video) -> Clips:
        """The frames of a video that make its clips; see `read_clips`."""
        return read_clips(video, self.spec, self.reading)

    def prepare(self, clips: Clips) -> NDArray[Any]:
        """The model input of every view: float32 (views, T, C, H, W), or uint8 (views, T, H, W, C) where the graph
        takes frames."""
        return prepare_clips(clips, self.spec, self.reading)

    def logits(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """batch (B, T, C, H, W) float32, or (B, T, H, W, C) uint8 where the graph takes frames -> (B, K)
        float32, finite. Raises VideoError for another shape or dtype, BackendError where the engine fails."""
        graph_input = self.bundle.graphs[0].inputs[0]
        expected = graph_input.shape[1:]
        if batch.dtype != graph_input.dtype or batch.shape[1:] != expected or len(batch) == 0:
            raise VideoError(
                f"{graph_input.name} must be {graph_input.dtype} (B, {', '.join(map(str, expected))}), "
                f"got {batch.dtype} {batch.shape}"
            )
        logits = self._backend.infer(batch)
        if not np.isfinite(logits).all():
            raise BackendError(
                "the engine gave logits that are NaN or infinite",
                fix="see whether it computes what torch computed: tubelet check BUNDLE",
            )
        return logits

    def scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """logits of the views of one video, (views, K) -> its scores (K,), from 0 to 1."""
        return merge_views(logits, self.spec.sampling.policy, self.bundle.problem_type)

    def classify(self, video: Video, *, top_k: int = 5) -> list[Prediction]:
        """The `top_k` labels of a video, high to low; see `read_clips` for what a video may be.

        Raises VideoError for what is no video, BackendError where the engine fails.
        """
        _check_above_zero("top_k", top_k)
        logits = self.logits(self.prepare(self.read(video)))
        return top_predictions(self.scores(logits), self.labels, top_k)

    def classify_many(
        self, videos: Iterable[Video], *, top_k: int = 5, batch: int = 1, workers: int = 2
    ) -> Iterator[Classification]:
        """Each video's classification, in order, a bad one's error in its place.

        batch:   clips in one run of the graph; the views of a video, and several videos, are put together up to that
        workers: threads that decode and prepare ahead of the model
        Raises BackendError where the engine fails.
        """
        for name, value in (("top_k", top_k), ("batch", batch), ("workers", workers)):
            _check_above_zero(name, value)
        videos_a_run = max(1, batch // self.reading.views)
        coming = ahead(self._prepare_video, videos, workers=workers, queue=workers + videos_a_run)
        for group in grouped(coming, videos_a_run):
            logits = iter(self._infer_all([prepared.views for prepared in group if prepared.views is not None], batch))
            for prepared in group:
                best = [] if prepared.error else top_predictions(self.scores(next(logits)), self.labels, top_k)
                yield Classification(prepared.video, tuple(best), prepared.clips, prepared.error)

    def _prepare_video(self, video: Video) -> _Prepared:
        try:
            clips = self.read(video)
            return _Prepared(video, clips, self.prepare(clips), None)
        except VideoError as error:
            return _Prepared(video, None, None, error)

    def _infer_all(self, videos: list[NDArray[Any]], batch: int) -> list[NDArray[np.float32]]:
        """The logits (views, K) of each video's views, run through the graph together, `batch` at a time."""
        if not videos:
            return []
        views = np.concatenate(videos) if len(videos) > 1 else videos[0]
        logits = [self.logits(views[start : start + batch]) for start in range(0, len(views), batch)]
        return np.split(np.concatenate(logits), np.cumsum([len(video) for video in videos])[:-1])

    def close(self) -> None:
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_above_zero(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, got {value}")


def load(
    path: str | Path,
    *,
    backend: str = DEFAULT_BACKEND,
    precision: str = "fp32",
    threads: int | None = None,
    reading: Reading | None = None,
) -> VideoClassifier:
    """Opens the bundle at `path` and loads its graph of that precision into `backend`.

    threads: of the CPU that compute one batch; None leaves their number to the engine
    reading: how videos are read; one clip, the centre view of the family's published evaluation, where it is not given
    Raises BundleError for a folder that is no whole bundle, BackendError for an engine that cannot run it,
    MissingExtra for one that is not installed.
    """
    bundle = Bundle.open(path)
    return VideoClassifier(bundle, open_backend(backend, bundle, precision, threads=threads), reading=reading)
