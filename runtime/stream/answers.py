"""What is said of a stream: windows, events, and what became of the source. A window is what the model says of one
clip.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import VideoError
from ...preprocess.spec import Averages
from ..bundle.bundle import ProblemType
from ..predictions import Answer, answer, merge_views
from .frames import SourceState


@dataclass(frozen=True)
class Scoring:
    """How a model's logits become scores and an answer.

    Attributes:
        labels: K names.
        averages: what is averaged over views, and over windows that are smoothed: scores or logits.
        problem_type: what the model was trained for.
    """

    labels: tuple[str, ...]
    averages: Averages
    problem_type: ProblemType

    def scores(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn logits (views, K), of one window or of several, into scores (K,); a regression's values as they are."""
        return merge_views(logits, self.averages, self.problem_type)

    def answer(self, logits: NDArray[np.float32], top_k: int) -> Answer:
        """Turn logits (views, K) into what `classify` says."""
        return answer(logits, self.averages, self.problem_type, self.labels, top_k)


@dataclass(frozen=True, eq=False)
class Window:
    """What a model says of one clip of a stream.

    Attributes:
        source: what the stream is called, without its password.
        stream: its number among the sources that are watched together, from 0.
        segment: a number that changes where the stream began anew: after a loss, or where time or size jumped.
        frame_seconds: float64 (T,), the stream's own time of each frame that the model was shown. It rises, with
            repeats where a frame is on show for long.
        logits: float32 (views, K).
        scoring: how they become scores.
        predictions: what `classify` returns for these frames.
        due: the stream's own time at which it was to end. Its last frame may be a step of the clip earlier. Windows
            that follow one another are due at equal intervals.
        follows: whether no frame is missing since the window before. The first of a segment follows none.
        skipped_windows: windows of this segment that were due since the one before and not asked. The model was busy,
            or frames were missing.
        dropped_frames: frames that came since the window before, that were due to be shown in one, and were not.
        left_out_frames: frames that came since the window before and can be in none. They are damaged, come before the
            first key frame, or have no time of their own.
        lag_seconds: from the arrival of its last frame to this answer, on a clock that never jumps. None for a file.
        arrived_at: when its last frame arrived, in seconds since 1970 (time.time). None for a file.
    """

    source: str
    stream: int
    segment: int
    frame_seconds: NDArray[np.float64]
    logits: NDArray[np.float32]
    scoring: Scoring
    predictions: Answer
    due: float
    follows: bool = True
    skipped_windows: int = 0
    dropped_frames: int = 0
    left_out_frames: int = 0
    lag_seconds: float | None = None
    arrived_at: float | None = None

    @property
    def seconds(self) -> tuple[float, float]:
        """When its first frame was taken, and its last."""
        return float(self.frame_seconds[0]), float(self.frame_seconds[-1])

    @property
    def middle(self) -> float:
        """The time that its answer stands for: halfway between its first frame and its last."""
        first, last = self.seconds
        return (first + last) / 2

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        """float32 (K,), from 0 to 1; the values of a regression as they are."""
        return self.scoring.scores(self.logits)

    def to_json(self) -> dict[str, Any]:
        """The window as a line of `tubelet watch --json-lines`."""
        first, last = self.seconds
        return {
            "type": "window",
            "source": self.source,
            "segment": self.segment,
            "seconds": [round(first, 6), round(last, 6)],
            "predictions": [prediction._asdict() for prediction in self.predictions],
            "lag_seconds": None if self.lag_seconds is None else round(self.lag_seconds, 3),
            "skipped_windows": self.skipped_windows,
            "dropped_frames": self.dropped_frames,
            "left_out_frames": self.left_out_frames,
            "arrived_at": None if self.arrived_at is None else _utc(self.arrived_at),
        }


@dataclass(frozen=True)
class Event:
    """A label that began, and perhaps ended, in a stream.

    Begin and end are known to one hop between windows. They are the middle of the first and of the last window that
    carried the label. Where scores are smoothed, they are the middle of the windows that are averaged.

    Attributes:
        source: what the stream is called.
        stream: its number among the sources that are watched together, from 0.
        segment: of the stream.
        label: what happens.
        begin: the stream's own time, in seconds.
        end: likewise; so far, while it is open.
        score: the highest so far, smoothed as the rule says, from 0 to 1.
        open: whether it goes on.
    """

    source: str
    stream: int
    segment: int
    label: str
    begin: float
    end: float
    score: float
    open: bool

    def to_json(self) -> dict[str, Any]:
        """The event as a line of `tubelet watch --json-lines`."""
        return {
            "type": "event",
            "source": self.source,
            "segment": self.segment,
            "label": self.label,
            "begin": round(self.begin, 6),
            "end": round(self.end, 6),
            "score": self.score,
            "open": self.open,
        }


@dataclass(frozen=True)
class SourceChange:
    """What became of a source.

    Attributes:
        source: what the stream is called, without its password.
        stream: its number among the sources that are watched together, from 0.
        state: connected, lost or ended, and why.
        error: why it cannot be read; None where it can, and where it was lost.
    """

    source: str
    stream: int
    state: SourceState
    error: VideoError | None = None

    def to_json(self) -> dict[str, Any]:
        """The change as a line of `tubelet watch --json-lines`."""
        return {
            "type": "source",
            "source": self.source,
            "state": self.state.state,
            "attempt": self.state.attempt,
            "segment": self.state.segment,
            "live": self.state.live,
            "reason": self.state.reason,
        }


def _utc(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
