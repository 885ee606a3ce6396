"""Candidates in processes of their own, beside a baseline that stays: started, compared, and visited in turn.

A speed is a ratio: what the baseline took in a round, divided by what the candidate took in the same round. So a
machine whose speed drifts does so for both.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...preprocess.errors import BackendError, TubeletError
from ...runtime.bundle.bundle import Bundle
from ...runtime.progress import Progress
from ...runtime.tuning.record import Choice, Outcome, Range, Tried
from ..measure import PAUSE_SECONDS, VISIT_SECONDS
from ..measurement import Ratio
from ..process import Process, start
from . import subject
from .subject import CandidateSettings


@dataclass(frozen=True)
class Ground:
    """What is the same for all candidates.

    Attributes:
        bundle: what they run.
        threads: of the CPU, where nothing else is tried.
        min_cosine: what they have to reach beyond the limits of their precisions; None where those suffice.
        videos: prepared clips of the user's videos, and answers: where fp32's answers to them go; see the subject.
        progress: called with what is tried.
    """

    bundle: Bundle
    threads: int
    min_cosine: float | None
    videos: Path | None
    answers: Path | None
    progress: Progress

    def start(self, choice: Choice) -> AbstractContextManager[Process]:
        """The process of a candidate, not started yet."""
        settings = CandidateSettings(
            backend=choice.backend,
            precision=choice.precision,
            threads=choice.threads,
            batch=choice.batch,
            bundle=str(self.bundle.path),
            videos=None if self.videos is None else str(self.videos),
            answers=None if self.answers is None else str(self.answers),
        )
        return start(subject, settings.to_json(), name=str(choice), threads=choice.threads or self.threads)

    def compare(self, choice: Choice, process: Process) -> Tried:
        """Hold a candidate's outputs against torch's."""
        found = process.ask("compare")
        one = tried(choice, "measured")
        one = replace(one, cosine=found["cosine"])
        if not found["passed"]:
            return replace(one, outcome="inaccurate", reason=found["reason"])
        if self.min_cosine is not None and found["cosine"] < self.min_cosine:
            reason = f"cosine {found['cosine']:.6f}, below --min-cosine {self.min_cosine:g}"
            return replace(one, outcome="inaccurate", reason=reason)
        return one


def in_a_line(error: TubeletError) -> str:
    """What an error says, as the reason of a row."""
    message = " ".join(error.message.split())
    return message if error.fix is None else f"{message}; fix: {' '.join(error.fix.split())}"


def tried(choice: Choice, outcome: Outcome, reason: str | None = None) -> Tried:
    """What came of a candidate."""
    return Tried(choice.backend, choice.precision, choice.threads, choice.batch, outcome, reason)


@dataclass(frozen=True)
class Lane:
    """A candidate, what is known of it, and its process."""

    row: Tried
    process: Process

    def visit(self) -> float:
        """What a clip takes just now: the median of a visit, in ms."""
        time.sleep(PAUSE_SECONDS)
        return float(np.median(self.process.run(VISIT_SECONDS))) / self.row.batch


class BaselineFailed(BackendError):
    """Raised where what all others are held against fails: none of them can be measured any more."""


class Rounds(NamedTuple):
    """How often lanes are visited: at least so often, and then more often until so many seconds are over.

    So what takes little time, and is disturbed easily, is visited more often than what takes long.
    """

    least: int
    most: int
    seconds: float


def in_turn(baseline: Lane, lanes: Sequence[Lane], rounds: Rounds, progress: Progress) -> tuple[Tried, list[Tried]]:
    """Visit the baseline and the others in turn. Gives the row of the baseline, and those of the others, with their
    speeds.

    One that fails meanwhile is refused, and the others go on. Raises BaselineFailed where the baseline fails.
    """
    first_ms: list[float] = []
    taken_ms: list[list[float]] = [[] for _ in lanes]
    failed: dict[int, Tried] = {}
    end = time.monotonic() + rounds.seconds
    for number in range(1, rounds.most + 1):
        if number > rounds.least and time.monotonic() > end:
            break
        progress(f"round {number}: {', '.join(lane.row.name for lane in (baseline, *lanes))}")
        try:
            first_ms.append(baseline.visit())
        except BackendError as error:
            raise BaselineFailed(error.message, fix=error.fix) from error
        for place, lane in enumerate(lanes):
            if place in failed:
                continue
            try:
                taken_ms[place].append(lane.visit())
            except BackendError as error:
                failed[place] = replace(lane.row, outcome="refused", reason=in_a_line(error))
    rows = [
        failed[place] if place in failed else _timed(lane.row, taken_ms[place], first_ms)
        for place, lane in enumerate(lanes)
    ]
    return _timed(baseline.row, first_ms, first_ms), rows


def _timed(row: Tried, own_ms: Sequence[float], baseline_ms: Sequence[float]) -> Tried:
    """The row with what the rounds took, clip by clip."""
    ratio = Ratio.of(tuple(baseline_ms), tuple(own_ms))
    return replace(row, clip_ms=float(np.median(own_ms)), speed=Range(ratio.median, ratio.lower, ratio.upper))
