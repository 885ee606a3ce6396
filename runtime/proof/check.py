"""check: a bundle and an engine of this machine, against what torch computed when the bundle was made."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import overload

from ...preprocess.sources import local_path
from ..backends import DEFAULT_BACKEND, open_backend
from ..backends.backend import Backend
from ..bundle.bundle import Bundle
from ..bundle.parity_report import ParityReport
from ..bundle.reference import Reference, load_reference
from ..locate import locate
from ..progress import Progress, silent
from ..reading import Reading
from ..tuning.auto import Settled, settle
from .parity import check_bundle, limit_of
from .video_check import StageReport, check_video


@overload
def check(
    path: str | Path,
    *,
    backend: str = ...,
    precision: str | None = ...,
    threads: int | None = ...,
    video: None = None,
    reading: Reading | None = ...,
    progress: Progress = ...,
    say: Progress = ...,
) -> ParityReport: ...


@overload
def check(
    path: str | Path,
    *,
    backend: str = ...,
    precision: str | None = ...,
    threads: int | None = ...,
    video: str | Path,
    reading: Reading | None = ...,
    progress: Progress = ...,
    say: Progress = ...,
) -> StageReport: ...


def check(
    path: str | Path,
    *,
    backend: str = DEFAULT_BACKEND,
    precision: str | None = None,
    threads: int | None = None,
    video: str | Path | None = None,
    reading: Reading | None = None,
    progress: Progress = silent,
    say: Progress = silent,
) -> ParityReport | StageReport:
    """Compare what a bundle computes here with what torch computed when it was made.

    Args:
        path: the folder of the bundle, or hf://owner/name[@REV].
        backend: the engine to run; "auto" is what `tubelet tune` chose for this machine.
        precision: which of the bundle's graphs to run. None is fp32, or what was chosen.
        threads: of the CPU that compute one batch. None leaves their number to the engine, or is what was chosen.
        video: a file that was named at the export. Its stages are compared instead of the reference clips.
        reading: how `video` is read, where not as the export read it: another track, or more memory.
        progress: called with a line for each step.
        say: called with what "auto" took.

    Returns:
        A report whose `passed` says whether everything is within tolerance, and whose `table()` shows it.

    Raises:
        BundleError: for a folder that is no whole bundle, and for a video that it has no record of.
        VideoError: where `video` cannot be read.
        HubError: where the Hub does not have it, or gives no answer.
        BackendError: where the engine cannot run the graph.
        MissingExtra: where the engine, or the client of the Hub, is not installed.
    """
    if video is not None:
        (report,) = check_videos(
            path,
            [video],
            backend=backend,
            precision=precision,
            threads=threads,
            reading=reading,
            progress=progress,
            say=say,
        )
        return report
    asked = settle(path, backend, precision, threads, say=say)
    with _opened(asked, progress) as (bundle, engine, reference):
        parity = check_bundle(
            engine, bundle, reference, backend=asked.backend, precision=asked.precision, progress=progress
        )
        engine.note_check(parity)
        return parity


def check_videos(
    path: str | Path,
    videos: Sequence[str | Path],
    *,
    backend: str = DEFAULT_BACKEND,
    precision: str | None = None,
    threads: int | None = None,
    reading: Reading | None = None,
    progress: Progress = silent,
    say: Progress = silent,
) -> list[StageReport]:
    """Compare every stage of several videos with the record of the export; see `check`, which takes one."""
    asked = settle(path, backend, precision, threads, say=say)
    with _opened(asked, progress) as (bundle, engine, reference):
        limit = limit_of(bundle, asked.precision, reference)
        return [
            check_video(
                local_path(str(video)),
                bundle.videos,
                bundle.spec,
                engine.infer,
                reading=reading,
                limit=limit,
                backend=asked.backend,
                precision=asked.precision,
            )
            for video in videos
        ]


@contextmanager
def _opened(asked: Settled, progress: Progress) -> Iterator[tuple[Bundle, Backend, Reference]]:
    """The bundle, its graph loaded into the engine, and what torch answered."""
    bundle = locate(asked.path, asked.backend, asked.precision, progress=progress).open()
    progress("loading")
    with open_backend(asked.backend, bundle, asked.precision, threads=asked.threads) as engine:
        yield bundle, engine, load_reference(bundle)
