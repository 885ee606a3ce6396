"""Streams on one model: what waits and what is dropped, several at once, and how it ends."""

import gc
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from videos import make_video

from tubelet.preprocess.errors import BackendError, OutOfBounds, VideoError
from tubelet.preprocess.spec import ClipSpec, Evaluation, Sampling, ShortestEdge
from tubelet.runtime.load import load
from tubelet.runtime.reading import Reading
from tubelet.runtime.stream.answers import Scoring, SourceChange, Window
from tubelet.runtime.stream.watch import Asked, watch_sources
from tubelet.runtime.stream.watching import Watchable, Watching
from tubelet.runtime.stream.windows import PreparedFrame

# A window spans 0.2 seconds: 3 frames, 0.1 s apart.
SPEC = ClipSpec(
    num_frames=3,
    evaluation=Evaluation(Sampling("centre-hold", stride=3), crop_rounding="down", averages="scores"),
    arithmetic="pillow",
    resize=ShortestEdge(16),
    resample="bilinear",
    crop=(16, 16),
    rescale_factor=1.0,
    rescale_offset=0.0,
    mean=None,
    std=None,
    layout="THWC",
)
SCORING = Scoring(("one", "two"), averages="scores", problem_type="single_label_classification")
Pairs = Iterator[tuple[NDArray[np.uint8], float]]


class Model:
    """A model that takes `seconds` for each run, and notes how large its batches were."""

    def __init__(self, seconds: float = 0.0, reading: Reading | None = None) -> None:
        self.seconds = seconds
        self.asked = Asked(SPEC, Reading() if reading is None else reading, SCORING, self.infer)
        self.batches: list[int] = []

    def infer(self, clips: NDArray[Any]) -> NDArray[np.float32]:
        self.batches.append(len(clips))
        time.sleep(self.seconds)
        means = clips.mean(axis=(1, 2, 3, 4))
        return np.stack([means, -means], axis=1).astype(np.float32)

    def watch(self, *sources: Watchable, stop: threading.Event | None = None, **how: Any) -> Iterator[Any]:
        return watch_sources(sources, self.asked, Watching(**how), threading.Event() if stop is None else stop)


def camera(count: int | None = None, *, rate: float = 30.0, speed: float = 1.0) -> Pairs:
    """Frames that come at `speed` times their own rate, for ever where there is no count."""
    begin = time.monotonic()
    for number in itertools.count() if count is None else range(count):
        time.sleep(max(0.0, begin + number / rate / speed - time.monotonic()))
        yield np.full((16, 16, 3), number % 256, np.uint8), number / rate


def drawn(count: int, *, rate: float = 30.0) -> Pairs:
    """The same, as fast as they are taken."""
    return ((np.full((16, 16, 3), number % 256, np.uint8), number / rate) for number in range(count))


def windows_of(found: Iterator[Any]) -> list[Window]:
    return [item for item in found if isinstance(item, Window)]


def streams_alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tubelet-stream")]


# --- Files wait, streams keep up ---


def test_a_file_waits_for_a_slow_model_and_loses_nothing() -> None:
    found = windows_of(Model(0.01).watch(drawn(300), every=0.5))
    assert [window.seconds[1] for window in found] == pytest.approx([0.2 + 0.5 * number for number in range(20)])
    assert {(window.skipped_windows, window.dropped_frames, window.lag_seconds) for window in found} == {(0, 0, None)}


def test_a_file_is_not_read_far_ahead_of_the_model() -> None:
    taken = []

    def pairs() -> Pairs:
        for number, pair in enumerate(drawn(3000)):
            taken.append(number)
            yield pair

    watching = Model().watch(pairs(), every=0.5)
    next(item for item in watching if isinstance(item, Window))
    time.sleep(0.2)
    # The window that was taken, two that are ready, and one that waits for room, 15 frames each; and the run-in.
    assert len(taken) <= 1 + 6 + 4 * 15
    watching.close()  # type: ignore[attr-defined]


def test_a_stream_with_a_model_three_times_too_slow_is_kept_up_with() -> None:
    """A window is due every 0.1 seconds, and takes 0.3."""
    model = Model(0.3)
    found = windows_of(model.watch(camera(), live=True, every=0.1, seconds=2.4))
    assert 5 <= len(found) <= 10
    lags = [window.lag_seconds for window in found]
    assert all(lag is not None and 0.29 < lag < 0.3 + 0.1 + 0.3 for lag in lags)  # the model, a hop, a loaded machine
    assert lags[-1] is not None
    asked, skipped = len(found), sum(window.skipped_windows for window in found)
    spanned = (found[-1].seconds[1] - found[0].seconds[1]) / 0.1
    assert asked - 1 + skipped == pytest.approx(spanned, abs=1)
    assert skipped >= asked  # two of three


def test_frames_that_no_window_shows_are_counted() -> None:
    """Windows of 0.2 seconds, one every 0.2, and a model that takes 0.5: about three of five frames are lost."""
    found = windows_of(Model(0.5).watch(camera(), live=True, every=0.2, seconds=2.4))
    ends = [round(window.frame_seconds[-1] * 30) for window in found]
    begins = [round(window.frame_seconds[0] * 30) for window in found]
    between = [max(0, begin - end - 1) for end, begin in zip(ends, begins[1:], strict=False)]
    assert [window.dropped_frames for window in found[1:]] == between
    assert sum(between) > 5


def test_frames_that_can_be_in_no_window_are_counted_over_those_that_are_skipped() -> None:
    """A window is due every 0.1 seconds and takes 0.3; every tenth frame has no time."""

    def pairs() -> Iterator[tuple[NDArray[np.uint8], float | None]]:
        for number, (picture, seconds) in enumerate(camera(60)):
            yield picture, None if number % 10 == 5 else seconds

    found = windows_of(Model(0.3).watch(pairs(), live=True, every=0.1))
    assert sum(window.skipped_windows for window in found) > len(found)
    assert sum(window.left_out_frames for window in found) == 6
    assert {"left_out_frames", "dropped_frames", "skipped_windows", "lag_seconds"} <= set(found[-1].to_json())


def test_windows_far_apart_drop_nothing() -> None:
    """What lies between them is not due to be shown."""
    found = windows_of(Model().watch(camera(speed=20), live=True, every=2.0, seconds=1.0))
    assert {(window.skipped_windows, window.dropped_frames) for window in found} == {(0, 0)}


def test_lag_counts_from_the_arrival_of_the_last_frame() -> None:
    found = windows_of(Model(0.05).watch(camera(40), live=True, every=0.5))
    for window in found:
        assert window.lag_seconds is not None
        assert window.arrived_at is not None
        assert 0.05 + 1 / 30 - 0.02 < window.lag_seconds < 1.0  # a frame is on show until the next one comes
        assert time.time() - 5 < window.arrived_at < time.time()


# --- Several sources ---


def test_windows_that_are_ready_together_go_through_the_model_together() -> None:
    model = Model(0.02)
    found = windows_of(model.watch(drawn(300), drawn(300), drawn(300), every=0.5, batch=3))
    assert len(found) == 60
    assert max(model.batches) == 3
    assert sum(model.batches) == 60
    assert len(model.batches) < 40
    for number in range(3):
        ends = [window.seconds[1] for window in found if window.stream == number]
        assert ends == pytest.approx([0.2 + 0.5 * k for k in range(20)])


def test_no_stream_waits_for_a_batch_to_be_full() -> None:
    """One of two is silent."""
    silent = threading.Event()

    def nothing() -> Pairs:
        silent.wait(5)
        yield from drawn(1)

    model = Model()
    watching = model.watch(camera(), nothing(), live=True, every=0.1, batch=2)
    begin = time.monotonic()
    windows = itertools.islice((item for item in watching if isinstance(item, Window)), 3)
    assert len(list(windows)) == 3
    assert time.monotonic() - begin < 3
    assert set(model.batches) == {1}
    silent.set()
    watching.close()  # type: ignore[attr-defined]


def test_a_stream_that_has_much_does_not_starve_another() -> None:
    """Files that are always ready beside a camera: the camera's turn comes in every round."""
    watching = Model(0.03).watch(drawn(10**9), camera(speed=10), drawn(10**9), every=0.1, batch=1)
    counts = [0, 0, 0]
    for item in itertools.islice((item for item in watching if isinstance(item, Window)), 30):
        counts[item.stream] += 1
    assert min(counts) >= 8
    watching.close()  # type: ignore[attr-defined]


def test_one_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    good = make_video(tmp_path / "good.mp4", frames=30)
    found = list(Model().watch(text, good, tmp_path / "missing.mp4"))
    changes = {item.stream: item for item in found if isinstance(item, SourceChange) and item.error}
    assert set(changes) == {0, 2}
    assert "cannot be opened as a video" in str(changes[0].error)
    assert "does not exist" in str(changes[2].error)
    assert changes[0].state.state == "ended"
    assert {item.stream for item in found if isinstance(item, Window)} == {1}


# --- How it ends ---


def test_leaving_early_ends_the_threads() -> None:
    watching = Model().watch(camera(), camera(), live=True, every=0.1)
    assert next(item for item in watching if isinstance(item, Window)).predictions
    assert len(streams_alive()) == 2
    watching.close()  # type: ignore[attr-defined]
    assert streams_alive() == []


def test_closing_does_not_wait_for_a_source_that_sends_nothing() -> None:
    released = threading.Event()

    def stuck() -> Pairs:
        yield from drawn(10)
        released.wait(30)

    watching = Model().watch(stuck(), live=True, every=0.1)
    assert isinstance(next(item for item in watching if isinstance(item, Window)), Window)
    begin = time.monotonic()
    watching.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begin < 5
    released.set()


def test_it_ends_when_it_is_asked_to() -> None:
    stop = threading.Event()
    seen = 0
    for item in Model().watch(camera(), live=True, every=0.1, stop=stop):
        seen += isinstance(item, Window)
        if seen == 3:
            stop.set()
    assert seen == 3
    assert streams_alive() == []


def test_seconds_are_those_of_a_file_and_of_the_clock_for_a_stream() -> None:
    found = list(Model().watch(drawn(10**9), every=0.5, seconds=60))
    ends = [item.seconds[1] for item in found if isinstance(item, Window)]
    assert 59 < ends[-1] <= 60
    assert found[-1].state.state == "ended"
    begin = time.monotonic()
    windows_of(Model().watch(camera(speed=4), live=True, every=0.5, seconds=0.5))
    assert time.monotonic() - begin < 3


def test_what_the_engine_raises_comes_through() -> None:

    def fail(_: NDArray[Any]) -> NDArray[np.float32]:
        raise BackendError("the engine broke")

    asked = Asked(SPEC, Reading(), SCORING, fail)
    with pytest.raises(BackendError, match="the engine broke"):
        list(watch_sources([drawn(100)], asked, Watching(), threading.Event()))
    assert streams_alive() == []


def test_what_a_source_raises_comes_through() -> None:
    def broken() -> Pairs:
        yield from drawn(10)
        raise ZeroDivisionError("of the caller's own")

    with pytest.raises(ZeroDivisionError, match="of the caller's own"):
        list(Model().watch(broken()))
    assert streams_alive() == []


def test_prepared_frames_do_not_pile_up() -> None:
    """As many after a minute as after twenty."""
    alive = []
    for number, item in enumerate(Model().watch(drawn(30 * 60 * 20), every=0.5)):
        if isinstance(item, Window) and number in (120, 2300):
            alive.append(sum(type(thing) is PreparedFrame for thing in gc.get_objects()))
    assert len(alive) == 2
    assert max(alive) <= 40


# --- VideoClassifier.watch ---


def test_a_model_watches_a_file(videomae_bundle: Path, tmp_path: Path) -> None:
    with load(videomae_bundle) as model:
        video = make_video(tmp_path / "it.mp4", frames=60)
        found = list(model.watch(video, every=0.25, top_k=2))
        assert {len(window.predictions) for window in found} == {2}
        assert found[0].source == str(video)
        with pytest.raises(VideoError, match="does not exist"):
            list(model.watch(tmp_path / "missing.mp4"))
        with pytest.raises(VideoError, match="a source must be a path, a URL, a camera or pairs"):
            list(model.watch(7))  # type: ignore[arg-type]


@pytest.mark.parametrize("reading", [Reading(clips=2), Reading(sampling="uniform")])
def test_readings_of_whole_files_are_refused(videomae_bundle: Path, reading: Reading) -> None:
    with load(videomae_bundle, reading=reading) as model, pytest.raises(OutOfBounds, match="one clip of a stream"):
        list(model.watch(drawn(100)))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"every": 0}, "every must be from 0.01"),
        ({"seconds": 0}, "seconds must be above 0"),
        ({"top_k": 0}, "top_k must be 1 or more"),
        ({"stall_seconds": -1}, "stall_seconds must be above 0"),
        ({"retries": -1}, "retries must be 0 or more"),
    ],
)
def test_numbers_that_make_no_sense(videomae_bundle: Path, how: dict[str, Any], said: str) -> None:
    with load(videomae_bundle) as model, pytest.raises(OutOfBounds, match=said):
        list(model.watch(drawn(100), **how))


def test_crops_are_views_of_a_window(vivit_bundle: Path, tmp_path: Path) -> None:
    video = make_video(tmp_path / "it.mp4", frames=40)
    with load(vivit_bundle, reading=Reading(crops=3)) as model:
        windows = list(model.watch(video))
        assert {window.logits.shape for window in windows} == {(3, len(model.labels))}
        for window in windows:
            assert window.predictions == model.scoring.answer(window.logits, 5)
