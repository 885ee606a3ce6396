"""The process in which files become labels: python -m tubelet.bench.files_subject SETTINGS

It answers as worker.py says. A run takes every file once, and its "logits" are the number of each file's first label.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..preprocess.errors import BackendError
from ..runtime.backends import cpu_threads
from ..runtime.bundle.bundle import Bundle
from ..runtime.load import load
from .baselines import TRANSFORMERS
from .worker import Loaded, serve

# All files -> the first label of each, in order.
Classify = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True)
class FilesSettings:
    """What a process measures; the fields are those of `worker.Settings`, with files in the place of clips."""

    engine: str
    precision: str
    threads: int
    bundle: str
    model: str | None
    files: tuple[str, ...]


def _by_tubelet(settings: FilesSettings) -> Classify:
    threads = cpu_threads(settings.engine, settings.threads)
    model = load(settings.bundle, backend=settings.engine, precision=settings.precision, threads=threads)

    def classify(files: Sequence[str]) -> list[str]:
        labels = []
        for found in model.classify_many(files, top_k=1):
            if found.error is not None:
                raise found.error
            labels.append(found.predictions[0].label)
        return labels

    return classify


def _by_transformers(settings: FilesSettings) -> Classify:
    """The pipeline as transformers has it. It takes as many frames as far apart, from the beginning of each file."""
    import torch
    import transformers

    from .transformers_baseline import split_revision

    torch.set_num_threads(settings.threads)
    name, revision = split_revision(settings.model or "")
    stride = Bundle.open(settings.bundle).spec.evaluation.sampling.stride
    try:
        pipeline: Any = transformers.pipeline("video-classification", model=name, revision=revision)
    except (OSError, ValueError) as error:
        raise BackendError(f"transformers has no pipeline for {name}: {error}") from error

    def classify(files: Sequence[str]) -> list[str]:
        try:
            answers = [pipeline(file, top_k=1, frame_sampling_rate=stride) for file in files]
        except (OSError, ValueError, RuntimeError) as error:
            raise BackendError(f"the pipeline of transformers failed: {error}") from error
        return [answer[0]["label"] for answer in answers]

    return classify


def load_files_subject(values: dict[str, Any]) -> Loaded:
    """Load what the settings name: the pipeline of transformers, or a bundle."""
    settings = FilesSettings(**values)
    number = {label: place for place, label in enumerate(Bundle.open(settings.bundle).labels)}
    classify = (_by_transformers if settings.engine == TRANSFORMERS else _by_tubelet)(settings)

    def run() -> NDArray[np.float32]:
        return np.array([number.get(label, -1) for label in classify(settings.files)], np.float32)

    return Loaded(run=run, stages=dict)


if __name__ == "__main__":
    serve(load_files_subject)
