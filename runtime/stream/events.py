"""Windows become events: a label that begins, lasts and ends.

Scores of single windows flicker. A label begins where its score reaches `on` and lasts while it stays at `off` or
above. That is hysteresis, as in the detection of voices and sounds. Times are seconds of the stream, never a count of
windows.
"""

import difflib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import OutOfBounds
from ..bounds import shown
from .answers import Event, Scoring, Window

# Windows are due at multiples of a hop; the last digits of float64 are none of it.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class EventRule:
    """When a label begins and ends.

    Attributes:
        on: the score at which it begins.
        off: the score down to which it lasts.
        min_seconds: what is shorter, from the first window that carries it to the last, is no event.
        gap_seconds: where it comes back within this time, it is one event.
        smooth_seconds: scores are averaged over the windows of this time, as the family averages its views.
        labels: the only ones that can be events. None is all of them.
        min_margin: how far its score must be above that of every other label to begin. 0 asks for nothing.
        cooldown_seconds: from the moment that an event of a label opens, no other of that label begins for this time.

    Raises:
        OutOfBounds: for a value that makes no sense.
    """

    on: float = 0.6
    off: float = 0.4
    min_seconds: float = 1.0
    gap_seconds: float = 1.0
    smooth_seconds: float = 0.0
    labels: tuple[str, ...] | None = None
    min_margin: float = 0.0
    cooldown_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.off <= self.on <= 1:
            raise OutOfBounds(
                f"an event begins at a score of `on` and lasts down to `off`, with 0 < off <= on <= 1, got on "
                f"{shown(self.on)} and off {shown(self.off)}"
            )
        for name in ("min_seconds", "gap_seconds", "smooth_seconds", "cooldown_seconds"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise OutOfBounds(f"{name} must be 0 or more, got {shown(getattr(self, name))}")
        if not 0 <= self.min_margin < 1:
            raise OutOfBounds(f"min_margin must be from 0 to less than 1, got {shown(self.min_margin)}")
        if self.labels is not None and not self.labels:
            raise OutOfBounds("labels must name one label at least, or be None for all of them")

    def numbers(self, labels: Sequence[str]) -> list[int]:
        """The numbers of the labels that can be events."""
        return [number for number, label in enumerate(labels) if self.labels is None or label in self.labels]

    def check(self, scoring: Scoring) -> None:
        """Raise OutOfBounds where a model cannot have such events: it lacks a label, or gives no scores."""
        if scoring.problem_type == "regression":
            raise OutOfBounds(
                "events need scores from 0 to 1, and this model is a regression, which gives values",
                fix="compare the values of its windows yourself: VideoClassifier.watch",
            )
        for label in self.labels or ():
            if label not in scoring.labels:
                near = difflib.get_close_matches(label, scoring.labels, n=3) or list(scoring.labels[:3])
                raise OutOfBounds(
                    f"this model has no label {label!r}; the nearest of its {len(scoring.labels)} are "
                    f"{', '.join(map(repr, near))}",
                    fix="tubelet info BUNDLE shows all of them",
                )


@dataclass(frozen=True)
class _Moment:
    """The middle of the frames of windows, and the time at which they were due.

    What is said of an event are middles. Windows take their frames from a grid, so middles are not quite a hop apart.
    How long something lasts is counted from one due time to another.
    """

    middle: float
    due: float


@dataclass
class _Running:
    """A label that has begun.

    begin:   the moment of the first window that carried it
    last:    of the last one
    score:   the highest so far
    is_sent: whether it is an event: before it has lasted for `min_seconds`, it is none
    fell:    whether its score has fallen below `off` since `last`
    """

    begin: _Moment
    last: _Moment
    score: float
    is_sent: bool = False
    fell: bool = False


class EventFinder:
    """Finds the events of one stream, window by window."""

    def __init__(self, rule: EventRule) -> None:
        self._rule = rule
        self._before: Window | None = None
        self._recent: deque[Window] = deque()
        self._running: dict[int, _Running] = {}  # by the number of the label
        self._clock = 0.0  # seconds watched, over all segments, whose own times start over
        self._sent: dict[int, float] = {}  # when an event of a label last opened, on that clock

    def add(self, window: Window) -> list[Event]:
        """Take the next window.

        Returns:
            The events that end with it, closed, and those that open with it.

        Raises:
            OutOfBounds: for a window of a model that cannot have such events.
        """
        ended: list[Event] = []
        if self._before is None:
            self._rule.check(window.scoring)
        elif self._is_cut(self._before, window):
            ended = self.close()
        else:
            self._clock += window.due - self._before.due
        self._before = window
        now, scores = self._smoothed(window)
        ended += self._carry(window, now, scores)
        self._begin(window, now, scores)
        return ended + self._send(window)

    def close(self) -> list[Event]:
        """End what is open, at the last window that carried it: the stream ends here, or begins anew.

        Returns:
            The events, closed.
        """
        before, running = self._before, self._running
        self._before, self._running = None, {}
        self._recent.clear()
        if before is None:
            return []
        return [_event(before, label, one, open=False) for label, one in running.items() if one.is_sent]

    def _is_cut(self, before: Window, window: Window) -> bool:
        """Whether nothing may last from one window to the next: frames are missing between them for too long."""
        missing = window.seconds[0] - before.seconds[1]
        return before.segment != window.segment or (not window.follows and missing > self._rule.gap_seconds)

    def _smoothed(self, window: Window) -> tuple[_Moment, NDArray[np.float32]]:
        """The moment that the windows of the last `smooth_seconds` stand for, and their scores (K,)."""
        self._recent.append(window)
        while self._recent[0].due < window.due - self._rule.smooth_seconds - _ROUNDING:
            self._recent.popleft()
        if len(self._recent) == 1:
            return _Moment(window.middle, window.due), window.scores
        middle, due = np.mean([(recent.middle, recent.due) for recent in self._recent], axis=0).tolist()
        logits = np.concatenate([recent.logits for recent in self._recent])  # (windows * views, K)
        return _Moment(middle, due), window.scoring.scores(logits)

    def _carry(self, window: Window, now: _Moment, scores: NDArray[np.float32]) -> list[Event]:
        """Let each label that has begun last, wait or end with this window; the events that ended."""
        ended = []
        for label, running in list(self._running.items()):
            score = float(scores[label])
            is_over = now.due - running.last.due > self._rule.gap_seconds + _ROUNDING
            if score >= self._rule.off and not running.fell:
                running.last, running.score = now, max(score, running.score)
            elif score >= self._rule.on and not is_over:
                running.last, running.score, running.fell = now, max(score, running.score), False
            elif is_over:
                del self._running[label]
                if running.is_sent:
                    ended.append(_event(window, label, running, open=False))
            else:
                running.fell = True
        return ended

    def _begin(self, window: Window, now: _Moment, scores: NDArray[np.float32]) -> None:
        rule, labels = self._rule, window.scoring.labels
        for label in np.flatnonzero(scores >= rule.on).tolist():
            if label in self._running or (rule.labels is not None and labels[label] not in rule.labels):
                continue
            others = np.delete(scores, label)
            if rule.min_margin and len(others) and scores[label] - others.max() < rule.min_margin:
                continue
            if self._clock - self._sent.get(label, -np.inf) < rule.cooldown_seconds - _ROUNDING:
                continue
            self._running[label] = _Running(begin=now, last=now, score=float(scores[label]))

    def _send(self, window: Window) -> list[Event]:
        """Open the events that are long enough by now."""
        opened = []
        for label, running in self._running.items():
            lasted = running.last.due - running.begin.due
            if not running.is_sent and lasted >= self._rule.min_seconds - _ROUNDING:
                running.is_sent = True
                self._sent[label] = self._clock
                opened.append(_event(window, label, running, open=True))
        return opened


def find_events(windows: Iterable[Window], rule: EventRule | None = None) -> Iterator[Event]:
    """Find the events in the windows of one stream or of several.

    Args:
        windows: as `VideoClassifier.watch` yields them.
        rule: when a label begins and ends; `EventRule()` where it is None.

    Yields:
        Each event when it opens, and again when it has closed. The last ones close where the windows end.

    Raises:
        OutOfBounds: for a label that the model lacks, and for a regression.
    """
    rule = EventRule() if rule is None else rule
    finders: dict[int, EventFinder] = {}
    for window in windows:
        yield from finders.setdefault(window.stream, EventFinder(rule)).add(window)
    for finder in finders.values():
        yield from finder.close()


def _event(window: Window, label: int, running: _Running, *, open: bool) -> Event:
    """The event of a label in the stream of `window`."""
    return Event(
        source=window.source,
        stream=window.stream,
        segment=window.segment,
        label=window.scoring.labels[label],
        begin=running.begin.middle,
        end=running.last.middle,
        score=running.score,
        open=open,
    )
