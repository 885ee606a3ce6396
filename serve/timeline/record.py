"""A video becomes a Timeline: every window of it asked, what it says kept small, and its events."""

import time
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...preprocess.container import open_video
from ...preprocess.sources import Source
from ...runtime.classifier import VideoClassifier
from ...runtime.progress import Progress, silent
from ...runtime.stream.answers import Event, Window
from ...runtime.stream.events import EventFinder, EventRule
from ...runtime.stream.grid import Grid, grid_of
from .times import clock, spoken

MOST_STEPS = 4096  # that are drawn: a page is a few thousand pixels wide, whatever the video lasts
TOP_K = 5  # labels of a window that are kept


@dataclass(frozen=True, eq=False)
class Steps:
    """Scores over time, as fine as they can be drawn.

    seconds: float64 (n,), the middle of each step, rising
    scores:  float32 (n, K), the highest of the windows in it
    follows: bool (n,), whether nothing is missing between the step before and this one
    windows: how many there are in a step
    """

    seconds: NDArray[np.float64]
    scores: NDArray[np.float32]
    follows: NDArray[np.bool_]
    windows: int


@dataclass(frozen=True, eq=False)
class Answers:
    """What the model said of each window.

    seconds: float64 (n, 2), of its first frame and its last
    labels:  int32 (n, k), the numbers of its best labels
    scores:  float32 (n, k), high to low
    """

    seconds: NDArray[np.float64]
    labels: NDArray[np.int32]
    scores: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Timeline:
    """What happens in a video, and when.

    Times are seconds from the start of the file. Where its own times jump back, as in recordings that were put
    together, what follows stands behind what came before.

    name:     what the video is called
    model:    the id of the model
    seconds:  how long it lasts
    grid:     where windows lie
    rule:     what an event is
    labels:   K names
    steps:    for drawing
    answers:  of all windows
    events:   closed, by their begin
    """

    name: str
    model: str
    seconds: float
    grid: Grid
    rule: EventRule
    labels: tuple[str, ...]
    steps: Steps
    answers: Answers
    events: tuple[Event, ...]

    def shown_labels(self, most: int) -> list[int]:
        """The labels that are drawn: those with events, most of the time first, and then those with the best scores."""
        lasting = np.zeros(len(self.labels))
        for event in self.events:
            lasting[self.labels.index(event.label)] += max(event.end - event.begin, self.grid.every)
        best = self.steps.scores.mean(axis=0) if len(self.steps.scores) else np.zeros(len(self.labels))
        order = np.lexsort((-best, -lasting))
        with_events = int((lasting > 0).sum())
        return [int(label) for label in order[: min(most, max(with_events, 3))]]


class _Recorder:
    """Takes windows as they come. Its memory grows with the length of a video by a few numbers a window alone."""

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k
        self._middles: list[float] = []  # of the windows in each step, added up
        self._counts: list[int] = []
        self._scores: list[NDArray[np.float32]] = []
        self._follows: list[bool] = []
        self._width, self._most = 1, MOST_STEPS  # windows in a step, and steps
        self._seconds, self._labels, self._best = array("d"), array("i"), array("f")
        self._offset, self._segment, self._last = 0.0, 0, 0.0

    def placed(self, window: Window) -> Window:
        """The window at its place on the time line."""
        begin, end = window.seconds
        if window.segment != self._segment:
            self._segment = window.segment
            self._offset = max(0.0, self._last - begin)
        self._last = end + self._offset
        if not self._offset:
            return window
        return replace(window, frame_seconds=window.frame_seconds + self._offset, due=window.due + self._offset)

    def add(self, window: Window) -> None:
        """Take a window that is placed."""
        self._seconds.extend(window.seconds)
        order = np.argsort(-window.scores, kind="stable")[: self._top_k]
        self._labels.extend(order.tolist())
        self._best.extend(window.scores[order].tolist())
        if self._counts and self._counts[-1] < self._width and window.follows:
            self._middles[-1] += window.middle
            self._counts[-1] += 1
            np.maximum(self._scores[-1], window.scores, out=self._scores[-1])
            return
        self._middles.append(window.middle)
        self._counts.append(1)
        self._scores.append(window.scores.copy())
        self._follows.append(window.follows)
        if len(self._counts) > self._most:
            self._join_pairs()

    def _join_pairs(self) -> None:
        """Make steps twice as wide, but none over a place where windows are missing."""
        middles, counts, scores, follows = self._middles, self._counts, self._scores, self._follows
        self._middles, self._counts, self._scores, self._follows = [], [], [], []
        here = 0
        while here < len(counts):
            joined = here + 1 < len(counts) and follows[here + 1]
            self._follows.append(follows[here])
            self._middles.append(sum(middles[here : here + 1 + joined]))
            self._counts.append(sum(counts[here : here + 1 + joined]))
            self._scores.append(np.maximum(scores[here], scores[here + 1]) if joined else scores[here])
            here += 1 + joined
        self._width *= 2
        self._most = max(MOST_STEPS, 2 * len(self._counts))

    def steps(self, labels: int) -> Steps:
        counts = np.array(self._counts, np.float64)
        scores = np.stack(self._scores) if self._scores else np.zeros((0, labels), np.float32)
        middles = np.array(self._middles, np.float64) / np.maximum(counts, 1)
        return Steps(middles, scores, np.array(self._follows, np.bool_), self._width)

    def answers(self, labels: int) -> Answers:
        kept = min(self._top_k, labels)
        return Answers(
            np.array(self._seconds, np.float64).reshape(-1, 2),
            np.array(self._labels, np.int32).reshape(-1, kept),
            np.array(self._best, np.float32).reshape(-1, kept),
        )


def record(
    model: VideoClassifier,
    video: Source,
    *,
    every: float = 0.5,
    rule: EventRule | None = None,
    say: Progress = silent,
) -> Timeline:
    """Ask a model about every window of a video.

    Args:
        model: which, with how frames are read.
        video: a file, or what can be opened again.
        every: seconds from one window to the next.
        rule: what an event is; `EventRule()` where it is None.
        say: called with how far it is, and how long it will take.

    Raises:
        VideoError: for what is no video, and for one that does not tell its times.
        OutOfBounds: for numbers that make no sense, a label that the model lacks, and for a regression.
        BackendError: where the engine fails.
    """
    rule = EventRule() if rule is None else rule
    rule.check(model.scoring)
    duration = duration_of(video)
    recorder, finder = _Recorder(TOP_K), EventFinder(rule)
    events: list[Event] = []
    last = 0.0
    for window in _with_progress(model.watch(video, every=every, live=False), duration, say):
        placed = recorder.placed(window)
        recorder.add(placed)
        events += finder.add(placed)
        last = placed.seconds[1]
    events += finder.close()
    labels = len(model.labels)
    return Timeline(
        name=str(video),
        model=model.bundle.model_id,
        seconds=max(last, duration or 0.0),
        grid=grid_of(model.spec, fps=model.reading.fps, every=every),
        rule=rule,
        labels=tuple(model.labels),
        steps=recorder.steps(labels),
        answers=recorder.answers(labels),
        events=tuple(sorted((event for event in events if not event.open), key=lambda event: (event.begin, event.end))),
    )


def duration_of(video: Source) -> float | None:
    """How many seconds a file says that it lasts; None where it does not say."""
    with open_video(video) as opened:
        return None if opened.container.duration is None else opened.container.duration / 1e6


def _with_progress(windows: Iterable[Window], duration: float | None, say: Progress) -> Iterator[Window]:
    """The windows, with a word on how far each is and how long the rest will take."""
    begun = time.monotonic()
    for window in windows:
        yield window
        at = window.seconds[1]
        if duration is None or at <= 0:
            say(f"at {clock(at)}")
            continue
        took = time.monotonic() - begun
        left = spoken(took * max(duration - at, 0) / at)
        say(f"{min(at / duration, 1):.0%}, {clock(at)} of {clock(duration)}, {left} left, {at / took:.0f}x speed")
