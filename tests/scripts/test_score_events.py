"""The film of motions with known times, and how events are held against it."""

import itertools

import numpy as np
import pytest
from motion import pose
from score_events import LARGE, OPPOSITES, OTHER_SECONDS, SIDE, SMALL, TURNS, Truth, compare, film, pictures, together

from tubelet import Event


def event(label: str, begin: float, end: float, *, is_open: bool = False) -> Event:
    return Event("film", 0, 0, label, begin, end, 0.9, open=is_open)


@pytest.mark.parametrize("pair", OPPOSITES)
def test_a_film_rests_between_motions_and_stays_in_the_picture(pair: tuple[str, str]) -> None:
    labels = pair + TURNS
    scene, truths = film(5, 600, labels)
    assert len(truths) > 60
    assert {truth.label for truth in truths} == set(labels)
    for before, after in itertools.pairwise(truths):
        assert OTHER_SECONDS[0] <= after.begin - before.end <= OTHER_SECONDS[1]
    y, x, log_radius, _ = pose(scene.shape, (np.arange(1200) / 2).astype(np.float32))
    assert max(np.abs(y).max(), np.abs(x).max()) < SIDE + 0.01
    assert SMALL - 0.01 < np.exp(log_radius).min() <= np.exp(log_radius).max() < LARGE + 0.01
    resting = [t for t in np.arange(600) if not any(truth.begin - 1 < t < truth.end + 1 for truth in truths)]
    now, soon = (pose(scene.shape, np.array(resting, np.float32) + np.float32(later)) for later in (0, 0.5))
    assert np.allclose(now, soon, atol=1e-4)


def test_the_pictures_of_a_film_differ_as_its_noise_does() -> None:
    scene, _ = film(1, 60, TURNS)
    shown = list(itertools.islice(pictures(scene, 60), 31))
    assert len(list(pictures(scene, 1.5))) == 45
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
    perfect = compare(truths[:1], events[:2], limit=1.5)
    assert perfect.is_perfect
    assert together([perfect, found]).table().startswith("4 motions: 1 missed, 2 invented")
