"""tune_bundle: a bundle and what is installed -> the tuning for this machine.

1. Every backend is tried with every precision that the bundle has a graph for. Each is held against torch. Its speed
   is taken in a few rounds beside the baseline, the first that runs. What is outside its limit is out.
2. The fastest few go on, on the CPU with fewer threads as well. They are measured in turn for more
   rounds. Where several are as fast, the one nearest to torch is chosen.
3. The chosen is proven as `tubelet check` does it. Where that fails, the next is.
4. The chosen is given more clips at once, as long as a clip then takes less time.
"""

import datetime
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from ...preprocess.errors import BackendError, BundleError, OutOfBounds
from ...runtime.archive.loading import Loading
from ...runtime.backends import BACKENDS
from ...runtime.bundle.bundle import Bundle
from ...runtime.evaluation.run import evaluate, read_labelled
from ...runtime.precisions import BackendName
from ...runtime.progress import Progress, silent
from ...runtime.reading import Reading, prepare_clips, read_clips
from ...runtime.storage.written import naming
from ...runtime.system import default_threads
from ...runtime.tuning.auto import checksum_of
from ...runtime.tuning.machine import TunedMachine
from ...runtime.tuning.record import FORMAT_VERSION, Choice, Range, Tried, Tuning
from ..bench import QUIET_LOAD
from ..machine import load_average
from .choice import FINALISTS, divide, may_catch_up, speed
from .contest import Ground, Lane, in_a_line
from .rounds import Screened, give_more_clips, measure_to_the_end, prove_the_best, screen

_CLIPS_OF_A_VIDEO = 4


@dataclass(frozen=True)
class Labelled:
    """A labelled set that candidates are held against; see `evaluate`.

    Attributes:
        labels_file: a video and its label on each line.
        root: the folder, or URL, that the videos lie in.
        min_accuracy: the percentage of them that a candidate has to have right; None where it is only shown.
    """

    labels_file: Path
    root: str | None = None
    min_accuracy: float | None = None


def tune_bundle(
    bundle: Bundle,
    *,
    address: str | None = None,
    backends: Sequence[BackendName] = (),
    min_cosine: float | None = None,
    labelled: Labelled | None = None,
    videos: Sequence[Path] = (),
    arguments: Sequence[str] = (),
    progress: Progress = silent,
) -> Tuning:
    """Try what is installed, and choose for this machine. Nothing is written.

    Args:
        bundle: the bundle, with all its graphs.
        address: what the bundle is called, where that is not its folder.
        backends: those that are tried. None is all that tubelet has.
        min_cosine: what the smallest cosine to torch has to be, beyond the limits of each precision.
        labelled: videos with labels that candidates are held against as well.
        videos: files whose clips are compared with what fp32 answers to them.
        arguments: what was asked for, as the command line has it, to stand in the record.
        progress: called with what is tried.

    Raises:
        BackendError: where nothing runs, or nothing that does is near enough.
        BundleError: for a minimum that has no meaning for the bundle.
        OutOfBounds: for a minimum that is none.
        VideoError: for videos, or a labelled set, that cannot be read.
    """
    _require_meaning(bundle, min_cosine, labelled, videos)
    machine, load = TunedMachine.here(), load_average()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="tubelet-tune-")))
        ground = Ground(
            bundle=bundle,
            threads=default_threads(),
            min_cosine=min_cosine,
            videos=_prepared(bundle, videos, folder, progress),
            answers=folder / "answers.npz" if videos else None,
            progress=progress,
        )
        screened = screen(ground, backends or tuple(BACKENDS), stack)
        rows, unread = _decided(ground, screened, labelled, stack)
    chosen = next(row for row in rows if row.outcome == "chosen")
    return Tuning(
        format_version=FORMAT_VERSION,
        bundle=address or bundle.path.resolve().name,
        bundle_sha256=checksum_of(bundle),
        machine=machine,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        arguments=tuple(arguments),
        baseline=screened.baseline.row.choice,
        choice=chosen.choice,
        tried=tuple(sorted(rows, key=lambda row: (row.outcome != "chosen", -speed(row)))),
        notes=tuple(notes_on(bundle, load, unread)),
    )


def _require_meaning(
    bundle: Bundle, min_cosine: float | None, labelled: Labelled | None, videos: Sequence[Path]
) -> None:
    """Raise where a minimum is none, or means nothing for this bundle, before anything is started."""
    if min_cosine is not None and not 0 < min_cosine <= 1:
        raise OutOfBounds(f"min_cosine must be above 0 and at most 1, got {min_cosine:g}")
    if min_cosine is not None and bundle.problem_type == "regression":
        raise BundleError(
            "the values of a regression have no cosine, so min_cosine has no meaning",
            fix="leave it out: each precision has a limit on values, which `tubelet check` shows",
        )
    if labelled is not None:
        if labelled.min_accuracy is not None and not 0 < labelled.min_accuracy <= 100:
            raise OutOfBounds(f"min_accuracy must be above 0 and at most 100 percent, got {labelled.min_accuracy:g}")
        read_labelled(bundle, labelled.labels_file, labelled.root)
    if videos and len(bundle.graphs[0].inputs) > 1:
        raise BundleError(f"the graphs of {bundle.path} take more than clips, so videos alone cannot be compared")
    if videos:
        bundle.graph("fp32")  # whose answers the others are held against


def _prepared(bundle: Bundle, videos: Sequence[Path], folder: Path, progress: Progress) -> Path | None:
    """Write the clips of the videos as the graphs take them, (N, ...) in one file; None without videos."""
    if not videos:
        return None
    reading = Reading(clips=_CLIPS_OF_A_VIDEO)
    batches = []
    for video in videos:
        progress(f"reading {video}")
        batches.append(prepare_clips(read_clips(video, bundle.spec, reading), bundle.spec, reading))
    path = folder / "videos.npy"
    with naming(path):
        np.save(path, np.concatenate(batches))
    return path


def notes_on(bundle: Bundle, load: float | None, unread: int) -> Iterator[str]:
    """What a reader has to know to judge the numbers. unread: labelled videos that could not be read."""
    if bundle.merging is not None:
        yield bundle.merging.note()
    if unread:
        yield f"labelled videos that could not be read, and are left out: {unread:,}; `tubelet evaluate` names them"
    if load is not None and load > QUIET_LOAD:
        yield f"other work ran on the machine: its load average was {load:.1f} before the tuning began"


def _decided(
    ground: Ground, screened: Screened, labelled: Labelled | None, stack: ExitStack
) -> tuple[list[Tried], int]:
    """Every row, one of them chosen, and how many labelled videos could not be read.

    Raises BackendError where nothing is near enough.
    """
    unread = 0
    near = [row for row in screened.rows if row.outcome == "measured"]
    rest = [row for row in screened.rows if row.outcome != "measured"]
    baseline = screened.baseline
    if labelled is not None:
        near, out, unread = right_often_enough(ground, baseline.row.choice, near, labelled)
        rest += out
    if not near:
        raise _nothing_near_enough(rest)
    may_be_chosen = {row.choice for row in near}
    go_on, slow = divide(near)
    measured, processes = measure_to_the_end(ground, baseline, go_on, stack)
    first, *others = measured
    if first.choice in may_be_chosen:
        accuracy = next(row.accuracy for row in near if row.choice == first.choice)
        others.insert(0, replace(first, accuracy=accuracy))
    rest += [row for row in slow if row.choice != first.choice]
    rest += [row for row in others if row.outcome != "measured"]
    proven, left = prove_the_best([row for row in others if row.outcome == "measured"], processes, ground)
    if proven is None:
        raise _nothing_near_enough([*rest, *left])
    chosen, batches = give_more_clips(ground, baseline, Lane(proven, processes[proven.choice]), stack)
    return [replace(chosen, outcome="chosen"), *batches, *left, *rest], unread


def _nothing_near_enough(rows: Sequence[Tried]) -> BackendError:
    reasons = "".join(f"\n  {row.name}: {row.reason}" for row in rows if row.outcome == "inaccurate")
    return BackendError(
        f"nothing that runs here is near enough:{reasons}",
        fix="ask for less, or add graphs of other precisions: tubelet quantize BUNDLE",
    )


class Held(NamedTuple):
    """Candidates that were held against a labelled set.

    near:    those that go on
    out:     those that are not right often enough, or failed
    unread:  videos of the set that could not be read
    """

    near: list[Tried]
    out: list[Tried]
    unread: int


def right_often_enough(ground: Ground, baseline: Choice, near: Sequence[Tried], labelled: Labelled) -> Held:
    """Hold candidates against the labelled set, the fastest first, until those that may be chosen are known.

    Those that `divide` leaves behind are not asked, but for the baseline, which others are beside. Unlike all else that
    a tuning does, this runs in its own process: it takes the whole road from file to label.
    """
    right: list[Tried] = []
    out: list[Tried] = []
    slow: list[Tried] = []
    unread = 0
    for row in sorted(near, key=speed, reverse=True):
        enough = len(right) >= FINALISTS or (bool(right) and not may_catch_up(row, right[0]))
        if enough and row.choice != baseline:
            slow.append(row)
            continue
        try:
            accuracy, unread = _accuracy(ground, row, labelled)
        except BackendError as error:
            out.append(replace(row, outcome="refused", reason=in_a_line(error)))
            continue
        row, percent = replace(row, accuracy=accuracy), 100 * accuracy.value
        if labelled.min_accuracy is not None and percent < labelled.min_accuracy:
            reason = f"right in {percent:.2f} %, below --min-accuracy {labelled.min_accuracy:g}"
            out.append(replace(row, outcome="inaccurate", reason=reason))
        else:
            right.append(row)
    return Held(right + slow, out, unread)


def _accuracy(ground: Ground, row: Tried, labelled: Labelled) -> tuple[Range, int]:
    """The share that a candidate has right, and how many labelled videos could not be read."""
    found = evaluate(
        Loading(ground.bundle.path, threads=row.threads),
        labelled.labels_file,
        subjects=[(row.backend, row.choice.precision)],
        root=labelled.root,
        progress=ground.progress,
    )
    return Range(*found.subjects[0].accuracy.top1), len(found.unread)
