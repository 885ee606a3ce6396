import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tubelet.preprocess.errors import OutOfBounds
from tubelet.runtime.stream.answers import Event, Scoring, Window
from tubelet.runtime.stream.events import EventFinder, EventRule, find_events

# Each label is scored on its own, so that a test can say what every score is.
SCORING = Scoring(("waves", "runs", "nothing"), averages="scores", problem_type="multi_label_classification")
SPAN = 2.0  # seconds from the first frame of a window to its last


def rule_of(**given: Any) -> EventRule:
    """A rule that takes every window for itself, but for what is given."""
    return EventRule(**{"min_seconds": 0.0, "gap_seconds": 0.0, "smooth_seconds": 0.0} | given)


def window(end: float, *scores: float, **others: Any) -> Window:
    """A window that ends at `end` and has these scores, those of the labels that are not named near 0."""
    wanted = np.clip([*scores, *[0.0] * (3 - len(scores))], 1e-6, 1 - 1e-6)
    logits = np.log(wanted / (1 - wanted)).astype(np.float32)[np.newaxis]  # (views, K)
    times = np.linspace(end - SPAN, end, 4)
    given: dict[str, Any] = {"source": "door", "stream": 0, "segment": 1, "scoring": SCORING, "due": end} | others
    scoring = given["scoring"]
    return Window(frame_seconds=times, logits=logits, predictions=scoring.answer(logits, 3), **given)


def run(scores: Sequence[float], rule: EventRule, *, every: float = 0.5) -> list[tuple[str, float, float, bool]]:
    """The events of label "waves" with these scores: its middle is at 0, `every`, 2 `every` ..."""
    windows = [window(SPAN / 2 + number * every, score) for number, score in enumerate(scores)]
    return brief(find_events(windows, rule))


def brief(events: Any) -> list[tuple[str, float, float, bool]]:
    return [(event.label, round(event.begin, 6), round(event.end, 6), event.open) for event in events]


def test_a_label_begins_at_on_and_lasts_down_to_off() -> None:
    rule = rule_of(on=0.6, off=0.4)
    assert run([0.5, 0.7, 0.45, 0.9, 0.3, 0.5, 0.1], rule) == [("waves", 0.5, 0.5, True), ("waves", 0.5, 1.5, False)]
    assert run([0.5, 0.59, 0.5], rule) == []


def test_what_is_open_closes_where_the_stream_ends() -> None:
    assert run([0.1, 0.9, 0.9], rule_of()) == [("waves", 0.5, 0.5, True), ("waves", 0.5, 1.0, False)]


def test_the_score_is_the_highest_so_far() -> None:
    windows = [window(1 + 0.5 * number, score) for number, score in enumerate([0.7, 0.9, 0.5, 0.1])]
    assert [event.score for event in find_events(windows, rule_of())] == pytest.approx([0.7, 0.9], abs=1e-6)


def test_what_is_too_short_is_never_sent() -> None:
    scores = [0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9, 0.1]
    assert run(scores, rule_of(min_seconds=1.0)) == [("waves", 1.5, 2.5, True), ("waves", 1.5, 3.0, False)]


def test_a_label_that_comes_back_within_the_gap_is_one_event() -> None:
    scores = [0.9, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9]
    found = run(scores, rule_of(gap_seconds=1.5))
    assert found == [
        ("waves", 0.0, 0.0, True),
        ("waves", 0.0, 1.5, False),
        ("waves", 4.0, 4.0, True),
        ("waves", 4.0, 4.0, False),
    ]
    assert len(run(scores, rule_of(gap_seconds=1.0))) == 6
    # It comes back as it began: at `on`.
    assert run([0.9, 0.1, 0.5, 0.1, 0.1, 0.1], rule_of(gap_seconds=1.5))[-1] == ("waves", 0.0, 0.0, False)


def test_seconds_are_no_count_of_windows() -> None:
    """The same scores over time, asked for at another rate, give the same events."""

    def score(second: float) -> float:
        return 0.9 if 2 <= second < 4 or 4.6 <= second < 6 else 0.1

    rule = rule_of(gap_seconds=1.6, min_seconds=1.0)
    for every in (0.1, 0.2, 0.5):
        found = run([score(number * every + 1e-9) for number in range(round(8 / every))], rule, every=every)
        assert len(found) == 2
        assert found[1][1] == pytest.approx(2, abs=every)
        assert found[1][2] == pytest.approx(6, abs=1.01 * every)


def test_windows_that_end_at_points_of_the_grid_count_by_when_they_were_due() -> None:
    """Of frames 0.133 s apart, windows that are due every half second end up to 0.133 s before."""
    rule = rule_of(min_seconds=1.0, gap_seconds=1.0)
    spacing, every = 4 / 30, 0.5
    for first in range(8):
        scores = [*[0.1] * first, 0.9, 0.9, 0.1, 0.9, *[0.1] * 4, 0.9, 0.9, *[0.1] * 4]
        due = [SPAN + number * every for number in range(len(scores))]
        ends = [moment // spacing * spacing for moment in due]
        windows = [window(end, score, due=at) for end, score, at in zip(ends, scores, due, strict=True)]
        found = brief(find_events(windows, rule))
        begin, end = (ends[first + number] - SPAN / 2 for number in (0, 3))
        assert found == [
            ("waves", round(begin, 6), round(at, 6), is_open) for at, is_open in ((end, True), (end, False))
        ]


@pytest.mark.parametrize("every", [0.1, 0.5])
def test_smoothing_averages_over_time(every: float) -> None:
    flicker = [0.9 if number % 2 else 0.3 for number in range(round(4 / every))]
    assert len(run(flicker, rule_of(on=0.55, off=0.45), every=every)) > 2
    (opened, closed) = run(flicker, rule_of(on=0.55, off=0.45, smooth_seconds=6 * every), every=every)
    assert opened[1] < 3 * every
    assert closed[2] == pytest.approx(4 - 4 * every, abs=1e-6)  # the middle of the last seven windows


def test_smoothing_averages_what_the_family_averages() -> None:
    for averages in ("scores", "logits"):
        scoring = Scoring(SCORING.labels, averages, "single_label_classification")
        one, two = (window(1 + 0.5 * number, *p, scoring=scoring) for number, p in enumerate([(0.99,), (0.2, 0.7)]))
        finder = EventFinder(rule_of(on=0.01, off=0.001, smooth_seconds=1))
        finder.add(one)
        finder.add(two)
        (waves,) = [event for event in finder.close() if event.label == "waves"]
        both = np.concatenate([one.logits, two.logits])
        assert waves.score == pytest.approx(max(one.scores[0], scoring.scores(both)[0]))
        assert scoring.scores(both)[0] != pytest.approx(
            Scoring(SCORING.labels, "scores" if averages == "logits" else "logits", scoring.problem_type).scores(both)[
                0
            ]
        )


def test_only_the_labels_asked_for_and_only_where_they_stand_out() -> None:
    windows = [window(1 + 0.5 * number, *p) for number, p in enumerate([(0.9, 0.85), (0.9, 0.2), (0.1, 0.9)])]
    assert {event.label for event in find_events(windows[:1], rule_of())} == {"waves", "runs"}
    assert {event.label for event in find_events(windows, rule_of(labels=("runs",)))} == {"runs"}
    found = brief(find_events(windows, rule_of(min_margin=0.1)))
    assert [(label, begin) for label, begin, _, is_open in found if is_open] == [("waves", 0.5), ("runs", 1.0)]


def test_an_event_rests_for_its_cooldown() -> None:
    scores = [0.9, 0.1, 0.9, 0.1, 0.9, 0.1, 0.9, 0.1]
    begins = [begin for _, begin, _, is_open in run(scores, rule_of(cooldown_seconds=2.0)) if is_open]
    assert begins == [0.0, 2.0]


def test_a_new_segment_closes_what_is_open() -> None:
    """Also where its own time starts over."""
    before = [window(5 + 0.5 * number, 0.9) for number in range(3)]
    after = [window(2 + 0.5 * number, 0.9, segment=2) for number in range(2)]
    found = list(find_events([*before, *after], rule_of(gap_seconds=60, smooth_seconds=60)))
    assert [(e.segment, e.begin, e.end, e.open) for e in found] == [
        (1, 4.0, 4.0, True),
        (1, 4.0, 4.5, False),  # smoothed: the middle of all three
        (2, 1.0, 1.0, True),
        (2, 1.0, 1.25, False),
    ]


def test_cooldown_goes_on_where_time_starts_over() -> None:
    windows = [window(100, 0.9), window(100.5, 0.1), window(2, 0.9, segment=2), window(4, 0.9, segment=2)]
    begins = [event.begin for event in find_events(windows, rule_of(cooldown_seconds=2)) if event.open]
    assert begins == [99.0, 3.0]


def test_nothing_lasts_over_missing_frames_but_over_skipped_windows() -> None:
    skipped = [window(3, 0.9), window(8, 0.9, skipped_windows=9)]
    assert brief(find_events(skipped, rule_of()))[-1] == ("waves", 2.0, 7.0, False)
    missing = [window(3, 0.9), window(8, 0.9, follows=False)]
    assert brief(find_events(missing, rule_of()))[1:3] == [("waves", 2.0, 2.0, False), ("waves", 7.0, 7.0, True)]
    # Three seconds are missing, from the last frame of one to the first of the other.
    assert brief(find_events(missing, rule_of(gap_seconds=3.1)))[-1] == ("waves", 2.0, 7.0, False)


def test_streams_have_events_of_their_own() -> None:
    windows = [window(1 + 0.5 * (n // 2), 0.9 if n < 4 else 0.1, stream=n % 2, source="ab"[n % 2]) for n in range(6)]
    found = list(find_events(windows, rule_of()))
    assert [(event.source, event.open) for event in found] == [("a", True), ("b", True), ("a", False), ("b", False)]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"on": 0.3}, "0 < off <= on <= 1, got on 0.3 and off 0.4"),
        ({"on": 1.5}, "got on 1.5"),
        ({"off": 0.0}, "off 0.0"),
        ({"on": float("nan")}, "got on nan"),
        ({"gap_seconds": -1}, "gap_seconds must be 0 or more, got -1"),
        ({"smooth_seconds": float("nan")}, "smooth_seconds must be 0 or more, got nan"),
        ({"min_seconds": float("inf")}, "min_seconds must be 0 or more, got inf"),
        ({"min_margin": 1.0}, "min_margin must be from 0 to less than 1"),
        ({"labels": ()}, "labels must name one label at least"),
    ],
)
def test_rules_that_make_no_sense(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(OutOfBounds) as caught:
        EventRule(**fields)
    assert said in str(caught.value)


def test_a_label_that_the_model_lacks_is_refused_with_the_nearest() -> None:
    with pytest.raises(OutOfBounds, match="no label 'wave'; the nearest of its 3 are 'waves'"):
        list(find_events([window(1, 0.9)], rule_of(labels=("wave",))))
    with pytest.raises(OutOfBounds, match="this model is a regression"):
        EventRule().check(replace(SCORING, problem_type="regression"))


def test_the_lines_of_windows_and_events() -> None:
    asked = window(
        2.5, 0.75, lag_seconds=0.12345, arrived_at=1.5, skipped_windows=2, dropped_frames=7, left_out_frames=3
    )
    line = json.loads(json.dumps(asked.to_json()))
    predictions = line.pop("predictions")
    assert line == {
        "type": "window",
        "source": "door",
        "segment": 1,
        "seconds": [0.5, 2.5],
        "lag_seconds": 0.123,
        "skipped_windows": 2,
        "dropped_frames": 7,
        "left_out_frames": 3,
        "arrived_at": "1970-01-01T00:00:01.500+00:00",
    }
    assert predictions[0]["label"] == "waves"
    assert predictions[0]["score"] == pytest.approx(0.75)
    event = Event("door", 0, 1, "waves", 1.0, 2.0, 0.75, open=True)
    assert json.loads(json.dumps(event.to_json())) == {
        "type": "event",
        "source": "door",
        "segment": 1,
        "label": "waves",
        "begin": 1.0,
        "end": 2.0,
        "score": 0.75,
        "open": True,
    }
