"""VideoClassifier: a bundle at work. read -> prepare -> infer -> rank."""

from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ..preprocess.decode import read_frames
from ..preprocess.errors import VideoError
from ..preprocess.frames import Frames
from ..preprocess.prepare import prepare
from ..preprocess.sampling import sample
from ..preprocess.spec import ClipSpec, Sampling
from .backends import DEFAULT_BACKEND, Backend, open_backend
from .bundle import Bundle
from .predictions import Prediction, sigmoid, softmax, top_predictions

SamplingName = Literal["eval", "uniform"]
Video = str | Path | Frames | NDArray[np.uint8]


def with_sampling(spec: ClipSpec, name: SamplingName) -> ClipSpec:
    """The spec itself for "eval", the frames of the family's published evaluation; for "uniform" one that
    takes frames evenly over the whole file."""
    if name == "eval":
        return spec
    return replace(spec, sampling=Sampling(policy="uniform", stride=1))


def read_clip(video: Video, spec: ClipSpec) -> Frames:
    """The spec.num_frames frames of a video that make its clip, as decoded.

    video: a file, frames already read, or uint8 RGB pixels (T, H, W, 3). Frames and pixels are taken as the
    clip where there are exactly spec.num_frames of them, and as a whole video to sample from otherwise.
    Raises VideoError for what is no video.
    """

    def choose(available: int) -> NDArray[np.int64]:
        return sample(spec.sampling, num_frames=spec.num_frames, available=available)

    if isinstance(video, str | Path):
        return read_frames(video, choose)
    frames = video if isinstance(video, Frames) else Frames.from_array(video)
    return frames if len(frames) == spec.num_frames else frames.take(choose(len(frames)))


class VideoClassifier:
    """A bundle with one of its graphs loaded into an engine; a context manager.

    Attributes: bundle, spec (the input contract, with the sampling in force), labels.
    """

    def __init__(self, bundle: Bundle, backend: Backend, *, sampling: SamplingName = "eval") -> None:
        self.bundle = bundle
        self.spec = with_sampling(bundle.spec, sampling)
        self.labels = bundle.labels
        self._backend = backend
        # A model of several labels a video scores each on its own.
        self._score = sigmoid if bundle.problem_type == "multi_label_classification" else softmax

    def read(self, video: Video) -> Frames:
        """The frames of a video that make its clip; see `read_clip`."""
        return read_clip(video, self.spec)

    def logits(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """batch (B, T, C, H, W) float32, or (B, T, H, W, C) uint8 where the graph takes frames -> (B, K)
        float32. Raises VideoError for another shape or dtype, BackendError where the engine fails."""
        graph_input = self.bundle.graphs[0].inputs[0]
        expected = graph_input.shape[1:]
        if batch.dtype != graph_input.dtype or batch.shape[1:] != expected or len(batch) == 0:
            raise VideoError(
                f"{graph_input.name} must be {graph_input.dtype} (B, {', '.join(map(str, expected))}), "
                f"got {batch.dtype} {batch.shape}"
            )
        return self._backend.infer(batch)

    def classify(self, video: Video, *, top_k: int = 5) -> list[Prediction]:
        """The `top_k` labels of one clip of a video, high to low; see `read_clip` for what a video may be.

        Raises VideoError for what is no video, BackendError where the engine fails.
        """
        if top_k < 1:
            raise ValueError(f"top_k must be 1 or more, got {top_k}")
        clip = prepare(self.read(video), self.spec)
        scores = self._score(self.logits(clip[np.newaxis]))
        return top_predictions(scores[0], self.labels, top_k)

    def close(self) -> None:
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(
    path: str | Path,
    *,
    backend: str = DEFAULT_BACKEND,
    precision: str = "fp32",
    sampling: SamplingName = "eval",
) -> VideoClassifier:
    """Opens the bundle at `path` and loads its graph of that precision into `backend`.

    Raises BundleError for a folder that is no whole bundle, BackendError for an engine that cannot run it,
    MissingExtra for one that is not installed.
    """
    bundle = Bundle.open(path)
    return VideoClassifier(bundle, open_backend(backend, bundle, precision), sampling=sampling)
