"""The film of motions with known times, and how events are held against it."""

import itertools

import numpy as np
import pytest
from motion import MOTIONS, pose
from score_events import RATE, WAY, Truth, compare, film, pictures

from tubelet import Event


def event(label: str, begin: float, end: float, *, is_open: bool = False) -> Event:
    return Event("film", 0, 0, label, begin, end, 0.9, open=is_open)


@pytest.mark.parametrize("window", [2.0, 1.0])
def test_a_window_of_a_film_sees_one_shape_and_never_two_things_that_it_does(
    window: float,
) -> None:
    takes = film(5, 600, window=window, least=window + 1.5)
    truths = [truth for take in takes for truth in take.truths]
    assert {truth.label for truth in truths} == set(MOTIONS)
    assert len(truths) > 45
    assert takes[-1].end <= 600
    vanished = 0.0
    for take in takes:
        appears, vanishes = take.shape.visible
        assert appears - vanished == pytest.approx(window)
        vanished = vanishes
        for before, after in itertools.pairwise([appears, *(t for one in take.truths for t in (one.begin, one.end))]):
            assert after - before >= window
        assert vanishes - take.truths[-1].end >= window


def test_shapes_of_a_film_do_what_it_says_and_stay_in_the_picture() -> None:
    for take in film(6, 600, window=2.0, least=3.5):
        seconds = np.arange(*take.shape.visible, 0.05, dtype=np.float32)
        y, x, log_radius, angle = (values.astype(np.float64) for values in pose(take.shape, seconds))
        assert max(np.abs(y).max(), np.abs(x).max()) < WAY / 2 + 0.01
        assert np.exp(log_radius[[0, -1]]).max() < 0.28  # nothing large appears or vanishes
        for truth in take.truths:
            directions = {
                "moves left": -x,
                "moves right": x,
                "moves up": -y,
                "moves down": y,
                "grows": log_radius,
                "shrinks": -log_radius,
                "turns clockwise": angle,
                "turns counter-clockwise": -angle,
            }
            changes = np.diff(directions[truth.label])
            within = (seconds[:-1] > truth.begin) & (seconds[1:] < truth.end)
            assert (changes[within] > 1e-3).all()
        moves = [(seconds[1:] > truth.begin) & (seconds[:-1] < truth.end) for truth in take.truths]
        resting = ~np.any(moves, axis=0)
        assert np.abs(np.diff([y, x, log_radius, angle], axis=1))[:, resting].max() < 1e-5


def test_the_pictures_of_a_film_differ_as_its_noise_does() -> None:
    takes = film(1, 8, window=0.1, least=0.2)
    assert sum(1 for _ in pictures(1, takes)) == round(takes[-1].end * RATE)
    shown = list(itertools.islice(pictures(1, takes), 31))
    assert {picture.shape for picture in shown} == {(120, 160, 3)}
    assert not np.array_equal(shown[0], shown[30])


def test_events_are_held_against_the_truth() -> None:
    truths = [Truth("grows", 10, 13), Truth("shrinks", 20, 23), Truth("moves up", 30, 33)]
    events = [
        event("grows", 10.4, 10.4, is_open=True),
        event("grows", 10.4, 12.8),
        event("shrinks", 21.6, 22.9),
        event("moves down", 30.5, 32.5),
        event("grows", 12.9, 12.9),
    ]
    found = compare(truths, events, limit=1.5)
    assert found.motions == 3
    assert [truth.label for truth in found.missed] == ["moves up"]
    assert [event.label for event in found.invented] == ["moves down", "grows"]
    assert [truth.label for truth in found.late] == ["shrinks"]
    assert np.allclose(found.begins, [0.4, 1.6])
    assert np.allclose(found.ends, [-0.2, -0.1])
    assert not found.is_perfect
    assert "3 motions: 1 missed, 2 invented" in found.table()
    assert compare(truths[:1], events[:2], limit=1.5).is_perfect
