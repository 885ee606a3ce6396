"""VideoClassifier: a bundle that names what happens in a video. read -> prepare -> infer -> rank."""

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..preprocess.errors import BundleError, OutOfBounds, VideoError
from ..preprocess.sources import name_of
from .bounds import WORKERS
from .bundle.bundle import ProblemType
from .bundle.memory import clips_at_once
from .model import VideoModel
from .predictions import Answer, Prediction, Value, answer, merge_views
from .prefetch import ahead, grouped
from .reading import Clips, Reading, Video, prepare_crops, read_crops
from .stream.answers import Scoring, SourceChange, Window
from .stream.frames import SourceFrame
from .stream.watching import Watchable, Watching


@dataclass(frozen=True, eq=False)
class Classification:
    """One video of several: what is said of it, or the error instead.

    Attributes:
        video: as it was given.
        name: its path or name; "video 3" where the third has none.
        predictions: what `VideoClassifier.classify` returns.
        clips: the clips that are spoken of, their frames as the centre crop shows them.
        error: why it could not be read; None where it could.
    """

    video: Video
    name: str
    predictions: tuple[Prediction | Value, ...]
    clips: Clips | None
    error: VideoError | None

    def to_json(self, reading: Reading) -> dict[str, Any]:
        """Give the predictions, and the frames that they are for, as `json.dumps` takes them.

        Args:
            reading: how the video was read.

        Returns:
            video, predictions, frames and seconds, both a list for each clip where there are several. Times are None
            where the file has none. Where the video could not be read, video and error.
        """
        if self.clips is None:
            return {"video": self.name, "error": "" if self.error is None else self.error.message}
        clips = self.clips
        seconds = [[None if math.isnan(at) else round(at, 6) for at in clip] for clip in clips.seconds.tolist()]
        frames = clips.indices.tolist()
        several = reading.clips > 1
        document = {
            "video": self.name,
            "predictions": [prediction._asdict() for prediction in self.predictions],
            "frames": frames if several else frames[0],
            "seconds": seconds if several else seconds[0],
        }
        return document | clips.damage() if reading.on_error == "skip" else document


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A video on its way to the model: its clips and its views' model input, or the error instead."""

    video: Video
    name: str
    clips: Clips | None
    views: NDArray[Any] | None
    error: VideoError | None


class VideoClassifier(VideoModel):
    """A bundle for video-classification at work."""

    def logits(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Run prepared clips through the graph.

        Args:
            batch: float32 (B, T, C, H, W). Where the graph takes frames, uint8 (B, T, H, W, C); see `prepare`.

        Returns:
            float32 (B, K), finite.

        Raises:
            VideoError: for another shape or dtype.
            BackendError: where the engine fails.
        """
        self._check_inputs({self.spec.input_name: batch})
        return self._checked("logits", self._backend.infer(batch), len(batch))

    @property
    def problem_type(self) -> ProblemType:
        """What the model was trained for, which says how logits become an answer."""
        if self.bundle.problem_type is None:
            raise BundleError(f"{self.bundle.path} does not say how its logits become scores", fix="export it again")
        return self.bundle.problem_type

    @property
    def scoring(self) -> Scoring:
        """How logits become scores and an answer."""
        return Scoring(tuple(self.labels), self.spec.evaluation.averages, self.problem_type)

    def scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn the logits of the views of one video into its scores.

        Args:
            logits: float32 (views, K).

        Returns:
            float32 (K,), from 0 to 1. The values as they are for a regression.
        """
        return merge_views(logits, self.spec.evaluation.averages, self.problem_type)

    def classify(self, video: Video, *, top_k: int = 5) -> Answer:
        """Say what happens in a video; see `read_clips` for what a video may be.

        Args:
            video: what is read.
            top_k: how many labels. A regression gives all of its values.

        Returns:
            The best labels with their scores, high to low; of a regression every label with its value, in order.

        Raises:
            OutOfBounds: for no labels.
            VideoError: for what is no video.
            BackendError: where the engine fails.
        """
        _check_top_k(top_k)
        crops = read_crops(video, self.spec, self.reading)
        return self._answer(self.logits(prepare_crops(crops, self.spec)), top_k)

    def _answer(self, logits: NDArray[np.float32], top_k: int) -> Answer:
        """logits (views, K) of one video."""
        return answer(logits, self.spec.evaluation.averages, self.problem_type, self.labels, top_k)

    def classify_many(
        self, videos: Iterable[Video], *, top_k: int = 5, batch: int = 1, workers: int = 2
    ) -> Iterator[Classification]:
        """Classify many videos; threads read ahead of the model.

        Args:
            videos: any number of what `classify` takes.
            top_k: how many labels.
            batch: clips in one run of the graph. The views of a video, and several videos, are put together up to that.
            workers: threads that decode and prepare ahead of the model.

        Yields:
            Each video's classification, in order, a bad one's error in its place.

        Raises:
            OutOfBounds: for no labels, a batch that memory cannot hold, and more workers than cores can use.
            VideoError: for one video that is no list.
            BackendError: where the engine fails.
        """
        if isinstance(videos, str | bytes | os.PathLike):
            raise VideoError(
                f"videos must be several, got one: {str(videos)[:60]!r}", fix="give a list, or use classify"
            )
        _check_top_k(top_k)
        clips_at_once(self.bundle, "batch").check(batch)
        WORKERS.check(workers)
        videos_a_run = max(1, batch // self.reading.views)
        coming = ahead(self._prepare_video, enumerate(videos, start=1), workers=workers, queue=workers + videos_a_run)
        for group in grouped(coming, videos_a_run):
            logits = iter(self._infer_all([prepared.views for prepared in group if prepared.views is not None], batch))
            for prepared in group:
                said = [] if prepared.error else self._answer(next(logits), top_k)
                yield Classification(prepared.video, prepared.name, tuple(said), prepared.clips, prepared.error)

    def watch(
        self,
        source: Watchable,
        *,
        every: float = 0.5,
        top_k: int = 5,
        live: bool | None = None,
        stall_seconds: float | None = None,
        retries: int | None = None,
        seconds: float | None = None,
    ) -> Iterator[Window]:
        """Say what happens in a stream, or in a long file, window by window.

        The frames of a window lie as far apart as those that the model was trained on. `reading.fps` says how many
        frames a second its files had. A file is read ahead of the model and loses nothing. A live stream is followed,
        and what could not be looked at is counted.

        Args:
            source: a path, bytes, a seekable binary file, or "-" for standard input. A URL: rtsp, http, HLS, or MPEG-TS
                over tcp and udp. A camera: "/dev/video0" or "camera:0". Or pairs of a frame and its time in seconds:
                a VideoFrame of PyAV or uint8 RGB pixels (H, W, 3).
            every: seconds from one window to the next.
            top_k: how many labels.
            live: whether to keep up and drop what is late, or to wait. None is as the source is: streams and cameras
                are live.
            stall_seconds: without a frame, after which a stream counts as lost. None is 10, and 30 for HLS.
            retries: how many times a lost stream is opened again before it is given up. None is for ever.
            seconds: after which watching ends. None is with the source.

        Yields:
            Windows, in order.

        Raises:
            OutOfBounds: for numbers that make no sense, and for a reading that is about whole files.
            VideoError: for what is no source, and for one that cannot be read.
            BackendError: where the engine fails.
        """
        watching = Watching(every, top_k, 1, live, stall_seconds, retries, seconds)
        for found in self.watch_many([source], watching):
            if isinstance(found, Window):
                yield found
            elif found.error is not None:
                raise found.error

    def watch_many(
        self,
        sources: Sequence[Watchable],
        watching: Watching | None = None,
        *,
        stop: threading.Event | None = None,
        see: Callable[[SourceFrame], None] | None = None,
    ) -> Iterator[Window | SourceChange]:
        """Watch several sources with one model; windows that are ready at the same time go through it together.

        Args:
            sources: what `watch` takes.
            watching: how; `Watching()` where it is None.
            stop: ends it when set, from any thread.
            see: called with every frame of every source, on the thread that reads it.

        Yields:
            Windows, and what becomes of the sources, those of each in order. One that cannot be read is a change
            with its error.

        Raises:
            OutOfBounds: as `watch` does, and for a batch that memory cannot hold.
            VideoError: for what is no source.
            BackendError: where the engine fails.
        """
        from .stream.watch import Asked, watch_sources  # a start that classifies files has no need of it

        watching = Watching() if watching is None else watching
        _check_top_k(watching.top_k)
        if self.reading.clips > 1 or self.reading.sampling != "eval":
            raise OutOfBounds(
                "a window is one clip of a stream, and this model was loaded with a reading of several clips or of "
                "frames spread over a whole file",
                fix="load it with Reading(): crops, fps, rotate, resize, track, max_mb and on_error have a meaning for "
                "streams",
            )
        clips_at_once(self.bundle, "batch").check(watching.batch * self.reading.crops)
        asked = Asked(self.spec, self.reading, self.scoring, self.logits)
        yield from watch_sources(sources, asked, watching, threading.Event() if stop is None else stop, see)

    def _prepare_video(self, numbered: tuple[int, Video]) -> _Prepared:
        number, video = numbered
        name = name_of(video) or f"video {number}"
        try:
            crops = read_crops(video, self.spec, self.reading, name=name)
            # The middle one: of three crops it is the centre.
            return _Prepared(video, name, crops[len(crops) // 2], prepare_crops(crops, self.spec), None)
        except VideoError as error:
            return _Prepared(video, name, None, None, error)

    def _infer_all(self, videos: list[NDArray[Any]], batch: int) -> list[NDArray[np.float32]]:
        """The logits (views, K) of each video's views, run through the graph together, `batch` at a time."""
        if not videos:
            return []
        views = np.concatenate(videos) if len(videos) > 1 else videos[0]
        logits = [self.logits(views[start : start + batch]) for start in range(0, len(views), batch)]
        return np.split(np.concatenate(logits), np.cumsum([len(video) for video in videos])[:-1])


def _check_top_k(top_k: int) -> None:
    if top_k < 1:
        raise OutOfBounds(f"top_k must be 1 or more, got {top_k}")
