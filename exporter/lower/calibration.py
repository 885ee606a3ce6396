"""What activations are observed on: clips of videos, or the reference clips of a bundle."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.container import open_video
from ...preprocess.errors import VideoError, VideoOutOfMemory
from ...preprocess.frames import Frames
from ...preprocess.prepare import prepare
from ...preprocess.sources import Source
from ...preprocess.spec import ClipSpec
from ...runtime.bundle.reference import Reference
from ...runtime.progress import Progress
from ...runtime.reading import read_clip


@dataclass(frozen=True)
class CalibrationClips:
    """The clips that activations are observed on: of `videos`, or of the reference where there are none. Gives what the
    graph takes for one clip after the other, (1, ...) each by name. Each is prepared when it is asked for."""

    spec: ClipSpec
    reference: Reference
    videos: tuple[Path, ...] = ()

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        frames = (_clip_of(video, self.spec) for video in self.videos)
        for number, clip in enumerate(frames if self.videos else map(Frames.from_array, self.reference.clips)):
            others = {name: array[[number % len(array)]] for name, array in self.reference.inputs.items()}  # (1, ...)
            yield {self.spec.input_name: prepare(clip, self.spec)[np.newaxis], **others}

    def __str__(self) -> str:
        if self.videos:
            return f"{len(self.videos)} {'video' if len(self.videos) == 1 else 'videos'}"
        return f"the {len(self.reference.clips)} reference clips"


def calibration_videos(given: Sequence[Path], *, say: Progress) -> tuple[Path, ...]:
    """List the files given, and the videos in the folders given, in order of their names.

    Args:
        given: files, each of which is meant as a video, and folders, whose other files are passed over.
        say: called with a line for each file that is passed over.

    Raises:
        VideoError: for a folder without any video.
    """
    videos: list[Path] = []
    for path in given:
        found = [file for file in sorted(path.iterdir()) if _is_video(file, say)] if path.is_dir() else [path]
        if not found:
            fix = "name the folders that do, one by one: those in a folder are not looked into"
            nested = any(entry.is_dir() for entry in path.iterdir())
            raise VideoError(f"{path} holds no videos to calibrate on", fix=fix if nested else None)
        videos += found
    return tuple(videos)


def _clip_of(video: Path, spec: ClipSpec) -> Frames:
    try:
        return read_clip(video, spec)
    except VideoOutOfMemory:
        raise
    except VideoError as error:
        raise VideoError(error.message, fix="leave it out of --calibrate, or name another") from error


def _is_video(path: Path, say: Progress) -> bool:
    """Whether what lies in a folder can be opened as a video; `say` takes why not, but for a folder."""
    if path.is_dir():
        return False
    try:
        with open_video(Source.of(path)):
            return True
    except VideoOutOfMemory:
        raise
    except VideoError as error:
        say(f"passed over: {error.message}")
        return False
