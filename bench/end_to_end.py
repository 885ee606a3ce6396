"""From paths to labels: files a second, beside the model alone and beside the pipeline of transformers.

Every subject takes all files in each of its visits, and they are visited in turn, as in measure.py.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..preprocess.errors import BundleError
from ..runtime.bounds import ROUNDS, THREADS
from ..runtime.bundle.bundle import Bundle
from ..runtime.progress import Progress, silent
from ..runtime.reading import read_clip
from ..runtime.system import default_threads
from . import files_subject
from . import subject as subject_process
from .baselines import BASELINES, TRANSFORMERS
from .bench import QUIET_LOAD, checkpoint_for_torch
from .files_subject import FilesSettings
from .machine import Machine, examine_machine
from .measure import PAUSE_SECONDS, write_inputs
from .measurement import Ratio, Subject
from .process import Process, start
from .worker import Settings


@dataclass(frozen=True)
class FilesMeasurement:
    """One subject.

    Attributes:
        subject: what took the files, each a batch of one clip.
        rounds_ms: for all files, in each round.
        model_ms: for as many runs of the model alone on one clip, in the same rounds; none for transformers.
        labels: the number of each file's first label.
    """

    subject: Subject
    rounds_ms: tuple[float, ...]
    model_ms: tuple[float, ...] | None
    labels: tuple[int, ...]

    def files_per_second(self) -> float:
        """By the median round."""
        return len(self.labels) * 1000 / float(np.median(self.rounds_ms))

    def share_of_model(self) -> Ratio | None:
        """The speed of files beside that of the model alone, at most 1 where nothing is computed twice."""
        return None if self.model_ms is None else Ratio.of(self.model_ms, self.rounds_ms)


@dataclass(frozen=True)
class EndToEndReport:
    """What a bench of files took; its fields are those of `LatencyReport`."""

    command: str
    model: str
    machine: Machine
    threads: int
    rounds: int
    files: tuple[str, ...]
    measurements: tuple[FilesMeasurement, ...]
    notes: tuple[str, ...]

    def speed(self, one: FilesMeasurement) -> Ratio | None:
        """A subject beside the pipeline of transformers, where that was measured."""
        beside = next((other for other in self.measurements if other.subject.engine == TRANSFORMERS), None)
        return None if beside in (None, one) else Ratio.of(beside.rounds_ms, one.rounds_ms)

    def to_json(self) -> dict[str, Any]:
        """The report as `json.dumps` takes it."""
        computed = [
            {
                "name": one.subject.name,
                "files_per_second": one.files_per_second(),
                "share_of_model": _as_dict(one.share_of_model()),
                "speed": _as_dict(self.speed(one)),
            }
            for one in self.measurements
        ]
        return dataclasses.asdict(self) | {"computed": computed}

    def table(self) -> str:
        """The report in a few lines."""
        rows = [("", "files a second", "of the model alone", f"beside {TRANSFORMERS}", "same first label")]
        first = self.measurements[0].labels
        for one in self.measurements:
            same = sum(label == other for label, other in zip(one.labels, first, strict=True))
            rows.append(
                (
                    one.subject.name,
                    f"{one.files_per_second():.3g}",
                    _range(one.share_of_model()),
                    _range(self.speed(one)),
                    f"{same} of {len(first)}",
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        about = f"{len(self.files)} files, {self.rounds} rounds, {self.threads} threads, {self.machine.cpu}"
        return "\n".join([about, "", *lines, *([""] if self.notes else []), *self.notes])


def _as_dict(ratio: Ratio | None) -> dict[str, float] | None:
    return None if ratio is None else dataclasses.asdict(ratio)


def _range(ratio: Ratio | None) -> str:
    return "" if ratio is None else f"{ratio.median:.3g} ({ratio.lower:.3g} to {ratio.upper:.3g})"


def bench_files(
    bundle: Bundle,
    engines: Sequence[tuple[str, str]],
    files: Sequence[Path],
    *,
    against_transformers: bool = False,
    threads: int | None = None,
    rounds: int = 10,
    model: str | None = None,
    command: str = "",
    progress: Progress = silent,
) -> EndToEndReport:
    """Measure how many files a second become labels.

    Args:
        bundle: the bundle, of a classifier.
        engines: (backend, precision) of each.
        files: videos.
        against_transformers: whether `transformers.pipeline("video-classification")` takes them as well.
        threads: CPU threads of each model. Without a number, as many as this process may use cores.
        rounds: visits to each subject, 3 or more.
        model: the checkpoint for transformers. Without one, the bundle's own where it came from the Hub.
        command: how the bench was called, to stand in the report.
        progress: called with a line for each step.

    Raises:
        VideoError: for a file that is no video.
        OutOfBounds, BackendError, BundleError, CheckpointError, MissingExtra: as `bench_bundle` does.
    """
    ROUNDS.check(rounds)
    threads = THREADS.check(default_threads() if threads is None else threads)
    bundle.require_classifier("the bench")
    if bundle.problem_type == "regression":
        raise BundleError("the bench of files compares first labels, and a regression gives values")
    for file in files:
        read_clip(file, bundle.spec)  # what is no video is an error before anything is measured
    machine = examine_machine()
    checkpoint = checkpoint_for_torch(bundle, model, [TRANSFORMERS]) if against_transformers else None
    baselines = [(TRANSFORMERS, BASELINES[TRANSFORMERS].precision)] if against_transformers else []
    subjects = [Subject(engine, precision, 1) for engine, precision in [*dict.fromkeys(engines), *baselines]]
    measurements = _take(bundle, subjects, tuple(map(str, files)), threads, rounds, checkpoint, progress)
    notes = _notes(bundle, machine, against_transformers)
    return EndToEndReport(
        command, bundle.model_id, machine, threads, rounds, tuple(map(str, files)), measurements, notes
    )


def _take(
    bundle: Bundle,
    subjects: Sequence[Subject],
    files: tuple[str, ...],
    threads: int,
    rounds: int,
    checkpoint: str | None,
    progress: Progress,
) -> tuple[FilesMeasurement, ...]:
    """Visit the subjects in turn, and beside each the model alone."""
    with ExitStack() as stack:
        inputs = write_inputs(bundle, 1, Path(stack.enter_context(TemporaryDirectory(prefix="tubelet-bench-"))))
        takers: list[tuple[Process, Process | None]] = []
        for subject in subjects:
            progress(f"starting {subject.name}")
            settings = FilesSettings(subject.engine, subject.precision, threads, str(bundle.path), checkpoint, files)
            text = json.dumps(dataclasses.asdict(settings))
            taker = stack.enter_context(start(files_subject, text, name=f"{subject.name} on files", threads=threads))
            takers.append((taker, _model_alone(bundle, subject, inputs["graph"], threads, stack)))
        took: list[tuple[list[float], list[float]]] = [([], []) for _ in subjects]
        for number in range(1, rounds + 1):
            progress(f"round {number} of {rounds}")
            for (taker, alone), (files_ms, model_ms) in zip(takers, took, strict=True):
                time.sleep(PAUSE_SECONDS)
                files_ms.append(taker.run(0)[0])
                if alone is not None:
                    time.sleep(PAUSE_SECONDS)
                    model_ms.append(sum(alone.run(0)[0] for _ in files))
        return tuple(
            FilesMeasurement(subject, tuple(files_ms), tuple(model_ms) or None, tuple(map(int, taker.logits.tolist())))
            for subject, (taker, _), (files_ms, model_ms) in zip(subjects, takers, took, strict=True)
        )


def _model_alone(bundle: Bundle, subject: Subject, inputs: Path, threads: int, stack: ExitStack) -> Process | None:
    """A process that runs the graph on one prepared clip; None for transformers."""
    if subject.engine == TRANSFORMERS:
        return None
    settings = Settings(subject.engine, subject.precision, 1, threads, str(bundle.path), str(inputs), None, None, None)
    return stack.enter_context(
        start(subject_process, settings.to_json(), name=f"{subject.name} alone", threads=threads)
    )


def _notes(bundle: Bundle, machine: Machine, against_transformers: bool) -> tuple[str, ...]:
    notes = []
    if (merging := bundle.merging) is not None:
        notes.append(merging.note())
    if machine.load_average is not None and machine.load_average > QUIET_LOAD:
        notes.append(f"other work ran on the machine: its load average was {machine.load_average:.1f}")
    if against_transformers:
        notes.append(
            "the pipeline of transformers takes as many frames, as far apart, from the beginning of a file; tubelet "
            "takes those of the published evaluation, so first labels may differ"
        )
    return tuple(notes)
