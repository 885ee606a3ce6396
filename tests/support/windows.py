"""Windows of a stream with scores that a test chooses, and timelines of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tubelet.runtime.stream.answers import Scoring, Window

SPAN = 2.0  # seconds from the first frame of a window to its last


def scoring_of(labels: Sequence[str]) -> Scoring:
    """Each label is scored on its own, so that a test can say what every score is."""
    return Scoring(tuple(labels), averages="scores", problem_type="multi_label_classification")


def window(middle: float, scores: Sequence[float], scoring: Scoring, **others: Any) -> Window:
    """A window around `middle` with these scores."""
    wanted = np.clip(np.array(scores, np.float64), 1e-6, 1 - 1e-6)
    logits = np.log(wanted / (1 - wanted)).astype(np.float32)[np.newaxis]  # (views, K)
    times = np.linspace(middle - SPAN / 2, middle + SPAN / 2, 4)
    given: dict[str, Any] = {"source": "door", "stream": 0, "segment": 0, "due": middle + SPAN / 2} | others
    return Window(
        frame_seconds=times, logits=logits, scoring=scoring, predictions=scoring.answer(logits, len(scores)), **given
    )
