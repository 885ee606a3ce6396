"""Windows by time, and that each is what classify would be shown."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from videos import decode_whole, index_of, make_video

from tubelet.exporter.families.registry import FAMILIES
from tubelet.preprocess.errors import OutOfBounds, VideoError
from tubelet.preprocess.sampling import sample
from tubelet.preprocess.spec import (
    Arithmetic,
    ClipSpec,
    Evaluation,
    ExactSize,
    Layout,
    Policy,
    Sampling,
    ShortestEdge,
)
from tubelet.runtime.load import load
from tubelet.runtime.reading import Reading, prepare_crops, read_crops
from tubelet.runtime.stream.frames import SourceFrame, SourceState
from tubelet.runtime.stream.grid import Grid, default_fps, grid_of
from tubelet.runtime.stream.reader import preparer
from tubelet.runtime.stream.source import open_source
from tubelet.runtime.stream.windows import DueWindow, windows

SAMPLING = Sampling("centre-hold", stride=4)
SPEC = ClipSpec(
    num_frames=4,
    evaluation=Evaluation(SAMPLING, crop_rounding="down", averages="scores"),
    arithmetic="pillow",
    resize=ShortestEdge(24),
    resample="bilinear",
    crop=(20, 20),
    rescale_factor=1 / 255,
    rescale_offset=0.0,
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.25, 0.3),
)
ENDED = SourceState("ended", 0, None, 0, live=False)


def frames(times: Iterable[float | None], *, segment: int = 0) -> Iterator[SourceFrame]:
    """A frame for each time, its number in its pixels."""
    for number, seconds in enumerate(times):
        yield SourceFrame(np.full((2, 2, 3), number % 256, np.uint8), seconds, 100.0 + number, segment)


def numbers(frame: SourceFrame) -> tuple[NDArray[Any], ...]:
    """What stands in for preparing: the number that `frames` put into the pixels."""
    assert isinstance(frame.frame, np.ndarray)
    return (frame.frame[0, 0, 0],)


def shown(coming: Iterable[SourceFrame | SourceState], grid: Grid, *, sampling: Sampling = SAMPLING) -> list[DueWindow]:
    found = windows(coming, grid, numbers, sampling, name="it")
    return [window for window in found if isinstance(window, DueWindow)]


def taken(due: Sequence[DueWindow]) -> list[list[int]]:
    """The numbers of the frames of each window."""
    return [[int(frame.crops[0]) for frame in window.frames] for window in due]


def at(rate: float, count: int, *, start: float = 0.0) -> list[float]:
    return [start + number / rate for number in range(count)]


# --- By time ---


def test_frames_are_spaced_as_in_training_whatever_the_rate_is() -> None:
    grid = Grid(num_frames=4, spacing=4 / 30, every=0.5)
    assert taken(shown(frames(at(30, 30)), grid)) == [[0, 4, 8, 12], [12, 16, 20, 24]]
    assert taken(shown(frames(at(60, 60)), grid)) == [[0, 8, 16, 24], [24, 32, 40, 48]]
    # 25 a second: the last frame that is not later than 0, 0.133, 0.267, 0.4 seconds.
    assert taken(shown(frames(at(25, 12)), grid)) == [[0, 3, 6, 10]]
    # A camera of 6 a second: frames stay on show.
    assert taken(shown(frames(at(6, 8)), grid)) == [[0, 0, 1, 2], [2, 3, 4, 4]]


def test_times_may_begin_anywhere_and_be_rounded_to_milliseconds() -> None:
    grid = Grid(num_frames=4, spacing=4 / 30, every=0.5)
    for start in (-0.068, 0.0, 1e6):
        times = [round(seconds, 3) for seconds in at(30, 30, start=start)]
        assert taken(shown(frames(times), grid)) == [[0, 4, 8, 12], [12, 16, 20, 24]]


def test_two_rates_in_one_file_are_windows_by_time() -> None:
    """As a telephone films that runs out of light."""
    times = [*at(30, 31), *at(15, 30, start=1 + 1 / 15)]
    found = shown([*frames(times), ENDED], Grid(num_frames=4, spacing=0.2, every=0.6))
    for number, window in enumerate(found):
        seconds = [frame.seconds for frame in window.frames]
        assert seconds == pytest.approx([0.6 * number + 0.2 * k for k in range(4)], abs=1 / 15)
    assert len(found) == 5


def test_a_window_ends_at_or_before_its_time_on_the_grid() -> None:
    """0.5 seconds are no multiple of 4 / 30; the windows do not drift away from it."""
    found = shown(frames(at(30, 900)), Grid(num_frames=4, spacing=4 / 30, every=0.5))
    ends = np.array([window.frames[-1].seconds for window in found])
    due = 0.4 + 0.5 * np.arange(len(ends))
    assert len(ends) == 60
    assert (due - ends >= -1e-6).all()
    assert (due - ends < 4 / 30).all()
    assert np.array([window.due for window in found]) == pytest.approx(due)


@pytest.mark.parametrize(("every", "parts"), [(0.5, 1), (4 / 30, 1), (0.1, 2), (1 / 30, 4)])
def test_windows_may_follow_one_another_faster_than_the_frames_of_a_clip(every: float, parts: int) -> None:
    grid = Grid(num_frames=4, spacing=4 / 30, every=every)
    assert grid.parts == parts
    found = taken(shown([*frames(at(30, 60)), ENDED], grid))
    assert all(np.diff(window).tolist() == [4, 4, 4] for window in found)
    assert len({window[0] for window in found}) == len(found) == 1 + int((59 / 30 - 0.4) / every + 1e-9)


@pytest.mark.parametrize(("every", "prepared"), [(0.5, 75), (0.1, 150), (3.0, 16)])
def test_each_frame_is_prepared_once_and_only_where_a_window_takes_it(every: float, prepared: int) -> None:
    seen: list[int] = []

    def prepare(frame: SourceFrame) -> tuple[NDArray[Any], ...]:
        seen.append(round(frame.seconds * 30) if frame.seconds is not None else -1)
        return numbers(frame)

    grid = Grid(num_frames=4, spacing=4 / 30, every=every)
    list(windows(frames(at(30, 300)), grid, prepare, SAMPLING, name="it"))
    assert len(seen) == len(set(seen))
    assert abs(len(seen) - prepared) <= 1


def test_the_prepared_frames_that_are_kept_are_those_of_a_window() -> None:
    kept: list[int] = []
    for window in windows(frames(at(30, 3000)), Grid(4, 4 / 30, 0.5), numbers, SAMPLING, name="it"):
        assert isinstance(window, DueWindow)
        kept.append(len(window.frames))
    assert set(kept) == {4}


# --- What no window lies over ---


@pytest.mark.parametrize("every", [0.1333333333, 0.13333333334, 0.2666666666, 0.06666666666, 0.033333333333])
def test_windows_that_are_due_a_hair_beside_the_frames_of_a_clip_all_come(every: float) -> None:
    """Two of them may be due at one point of the grid, or none."""
    grid = Grid(num_frames=4, spacing=4 / 30, every=every)
    found = shown(frames(at(30, 3001)), grid)
    assert len(found) == pytest.approx((100 - grid.span) / every, abs=2)
    assert [window.due for window in found] == pytest.approx([grid.span + every * n for n in range(len(found))])


def test_no_window_lies_over_missing_frames() -> None:
    times = [*at(30, 45), *at(30, 45, start=3.0)]
    found = shown(frames(times), Grid(num_frames=4, spacing=4 / 30, every=0.5))
    for window in found:
        first, last = window.frames[0].seconds, window.frames[-1].seconds
        assert last < 1.5 or first >= 3
    assert [window.follows for window in found] == [False, True, True, False, True, True]
    # The last one before ends at 1.333 seconds, the first behind at 3.4: those of 1.9, 2.4 and 2.9 were due.
    assert [window.skipped for window in found] == [0, 0, 0, 3, 0, 0]


def test_skipped_windows_are_counted_by_when_they_were_due() -> None:
    """Frames a second apart and windows every 0.9 s: the last frame of a window may be up to a second before it."""
    found = shown(frames([*at(2, 7), *at(2, 7, start=6.5)]), Grid(num_frames=2, spacing=1.0, every=0.9))
    before, after = next(pair for pair in itertools.pairwise(found) if not pair[1].follows)
    assert after.skipped == round((after.due - before.due) / 0.9) - 1
    assert after.skipped != round((after.frames[-1].seconds - before.frames[-1].seconds) / 0.9) - 1


def test_a_frame_may_stand_for_half_a_second_or_two_steps_of_the_clip() -> None:
    assert len(shown(frames(at(2, 8)), Grid(num_frames=4, spacing=0.2, every=1.0))) == 3
    assert shown(frames(at(1.9, 8)), Grid(num_frames=4, spacing=0.2, every=1.0)) == []
    assert len(shown(frames(at(1, 8)), Grid(num_frames=4, spacing=1.0, every=1.0))) == 4  # a time-lapse, with --fps


def test_frames_that_can_be_in_no_window_are_counted() -> None:
    """Two damaged ones before frame 3, one without a time, one with that of the frame before it."""
    times: list[float | None] = [*at(30, 60)]
    times[5], times[20] = None, times[19]
    coming = [replace(frame, left_out=2 if number == 3 else 0) for number, frame in enumerate(frames(times))]
    found = shown(coming, Grid(num_frames=4, spacing=4 / 30, every=0.5))
    assert [window.left_out for window in found] == [3, 1, 0, 0]
    # They are said where a window comes next, over the loss of a source as well.
    lost = SourceState("lost", 0, "it ended", 0, live=True)
    found = shown([*coming[:10], lost, *frames(at(30, 20), segment=1)], Grid(num_frames=4, spacing=4 / 30, every=0.5))
    assert [(window.segment, window.left_out) for window in found] == [(1, 3)]
    (short,) = shown([*coming[:10], ENDED], Grid(num_frames=4, spacing=4 / 30, every=0.5))
    assert short.left_out == 3


def test_no_window_lies_over_two_segments() -> None:
    coming = [*frames(at(30, 20)), *frames(at(30, 20), segment=1), *frames(at(30, 20, start=20 / 30), segment=2)]
    found = shown(coming, Grid(num_frames=4, spacing=4 / 30, every=0.5))
    assert [(window.segment, window.follows, window.skipped) for window in found] == [(n, False, 0) for n in range(3)]
    assert taken(found) == [[0, 4, 8, 12]] * 3


def test_no_window_lies_over_the_loss_of_a_source() -> None:
    lost = SourceState("lost", 0, "it sent nothing", 0, live=True)
    coming: list[SourceFrame | SourceState] = [*frames(at(30, 13)), lost, *frames(at(30, 14, start=13 / 30))]
    assert taken(shown(coming, Grid(num_frames=4, spacing=4 / 30, every=0.1))) == [[0, 4, 8, 12]] * 2


def test_frames_without_a_time_and_with_that_of_another_are_passed_over() -> None:
    times = [None, 0.0, None, *at(30, 14)[1:13], 12 / 30, 12 / 30, 13 / 30]
    found = shown(frames(times), Grid(num_frames=4, spacing=4 / 30, every=0.5))
    assert taken(found) == [[1, 6, 10, 14]]


def test_a_source_without_times_is_refused_at_its_end() -> None:
    with pytest.raises(VideoError, match="windows are seconds, and it does not tell the time of its frames"):
        shown([*frames([None] * 5), ENDED], Grid(4, 0.1, 0.5))


def test_a_source_that_was_lost_before_it_filled_a_window_has_times_all_the_same() -> None:
    lost = SourceState("lost", 0, "it sent nothing", 0, live=True)
    assert shown([*frames(at(30, 5)), lost, ENDED], Grid(4, 0.2, 0.5)) == []


# --- Sources that are too short ---


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("centre-hold", [0, 4, 8, 8]),
        ("centre-loop", [0, 4, 8, 0]),
        ("segments", [0, 4, 4, 8]),
        ("uniform", [0, 0, 4, 8]),
    ],
)
def test_a_source_too_short_for_a_window_gives_one_as_its_family_does(policy: Policy, expected: list[int]) -> None:
    grid = Grid(num_frames=4, spacing=4 / 30, every=0.5)
    assert taken(shown([*frames(at(30, 9)), ENDED], grid, sampling=Sampling(policy, 4))) == [expected]
    assert taken(shown([*frames([0.0]), ENDED], grid, sampling=Sampling(policy, 4))) == [[0, 0, 0, 0]]
    dense = replace(grid, every=0.05)
    assert taken(shown([*frames(at(30, 9)), ENDED], dense, sampling=Sampling(policy, 4))) == [expected]


def test_only_a_source_that_ends_by_itself_is_looped_or_held() -> None:
    given_up = SourceState("ended", 3, "it sent nothing", 0, live=True)
    grid = Grid(num_frames=4, spacing=4 / 30, every=0.5)
    assert shown([*frames(at(30, 9)), given_up], grid) == []
    assert shown(frames(at(30, 9)), grid) == []
    assert len(shown([*frames(at(30, 20)), ENDED], grid)) == 1


# --- The spacing of a family ---


@pytest.mark.parametrize("policy", get_args(Policy))
@pytest.mark.parametrize("stride", [1, 2, 4, 32])
def test_the_spacing_is_that_of_the_evaluation(policy: Policy, stride: int) -> None:
    """Whatever the policy is: the first window of a file at 30 a second holds the frames of a clip of it.

    But for one where an evaluation rounds on its way, as that of V-JEPA 2 does: a window has even steps.
    """
    spec = replace(SPEC, num_frames=8, evaluation=replace(SPEC.evaluation, sampling=Sampling(policy, stride)))
    grid = grid_of(spec, fps=None, every=0.5)
    clip = sample(spec.evaluation.sampling, num_frames=8, available=100_000)
    if default_fps(spec) != 30:  # spread over the file: four seconds of it
        assert clip[-1] - clip[0] > 80_000
        assert grid.num_frames * grid.spacing == pytest.approx(4.0)
        return
    (window, *_) = shown(frames(at(30, int(clip[-1] - clip[0]) + 2)), grid)
    apart = np.array([frame.number for frame in window.frames]) - (clip - clip[0])
    assert np.abs(apart).max() <= (policy == "parts")


def test_fps_says_what_the_model_was_trained_on() -> None:
    assert grid_of(SPEC, fps=15, every=1).spacing == pytest.approx(4 / 15)
    spread = replace(SPEC, evaluation=replace(SPEC.evaluation, sampling=Sampling("segments", 1)))
    assert default_fps(spread) == 1  # 4 frames of 4 seconds
    assert grid_of(spread, fps=10, every=1).spacing == pytest.approx(0.1)


@pytest.mark.parametrize("every", [0.0, -1.0, 0.001, float("nan"), float("inf")])
def test_an_every_that_makes_no_sense(every: float) -> None:
    with pytest.raises(OutOfBounds, match=r"every must be from 0.01 to 86400 seconds"):
        grid_of(SPEC, fps=None, every=every)


# --- The same as classify ---


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("stream") / "long.mp4", frames=60)


def batches(video: Path, spec: ClipSpec, reading: Reading, *, every: float = 0.5) -> Iterator[DueWindow]:
    grid = grid_of(spec, fps=reading.fps, every=every)
    prepare = preparer(spec, reading, "it")
    for window in windows(open_source(video), grid, prepare, spec.evaluation.sampling, name="it"):
        if isinstance(window, DueWindow):
            yield window


@pytest.mark.parametrize("arithmetic", get_args(Arithmetic))
@pytest.mark.parametrize("layout", get_args(Layout))
@pytest.mark.parametrize("rule", [ShortestEdge(24), ExactSize(24, 30), None])
@pytest.mark.parametrize("crops", [1, 3])
def test_a_window_is_prepared_as_classify_prepares_these_frames(
    long_video: Path, arithmetic: Arithmetic, layout: Layout, rule: ShortestEdge | ExactSize | None, crops: int
) -> None:
    spec = replace(SPEC, arithmetic=arithmetic, layout=layout, resize=rule)
    reading = Reading(crops=crops)
    whole = decode_whole(long_video)
    found = list(batches(long_video, spec, reading))
    assert len(found) == 4
    for window in found:
        numbers_of = [frame.number for frame in window.frames]
        assert [index_of(picture) for picture in whole[numbers_of]] == numbers_of
        expected = prepare_crops(read_crops(whole[numbers_of], spec, reading), spec)
        got = window.batch()
        assert got.dtype == expected.dtype
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("resize", ["exact", "fast"])
@pytest.mark.parametrize("rotation", [0, 90])
def test_the_window_of_a_file_as_long_as_a_clip_is_its_clip(tmp_path: Path, resize: Any, rotation: int) -> None:
    """Read from the file by both, with the resize while it is decoded, and turned upright."""
    video = make_video(tmp_path / "clip.mp4", frames=16, rotation=rotation)
    for reading in (Reading(resize=resize, fps=30), Reading(resize=resize, fps=30, rotate=False)):
        (window,) = batches(video, SPEC, reading)
        assert np.array_equal(window.batch(), prepare_crops(read_crops(video, SPEC, reading), SPEC))


def bundle_of(family: str, folder: Path, request: pytest.FixtureRequest) -> Path:
    """A tiny bundle of a family: one that other tests use as well, or an export of its own."""
    if family in ("vivit", "videomae"):
        shared: Path = request.getfixturevalue(f"{family}_bundle")
        return shared
    from checkpoints import write_checkpoint

    from tubelet.exporter.checkpoint.load import load_checkpoint
    from tubelet.exporter.export import export_bundle

    checkpoint = load_checkpoint(str(write_checkpoint(folder / family, family)), report=lambda _: None)
    return export_bundle(checkpoint, folder / "bundle")[0].path


@pytest.mark.parametrize("family", [family.name for family in FAMILIES])
def test_a_window_says_what_classify_says(
    family: str, long_video: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    whole = decode_whole(long_video)
    with load(bundle_of(family, tmp_path, request)) as model:
        found = list(model.watch(long_video, every=0.2, top_k=3))
        assert found
        for window in found:
            shown_frames = np.rint(window.frame_seconds * 30).astype(int)
            assert window.predictions == model.classify(whole[shown_frames], top_k=3)
            assert window.lag_seconds is None


def test_frames_given_with_their_times_say_the_same_as_the_file(videomae_bundle: Path, long_video: Path) -> None:
    pairs = list(zip(decode_whole(long_video), at(30, 60), strict=True))
    with load(videomae_bundle) as model:
        of_file, of_pairs = list(model.watch(long_video)), list(model.watch(pairs))
    assert [window.predictions for window in of_file] == [window.predictions for window in of_pairs]


def test_a_size_that_changes_midway_is_a_new_segment(videomae_bundle: Path) -> None:
    small, large = np.zeros((40, 60, 3), np.uint8), np.zeros((80, 50, 3), np.uint8)
    pairs = [(small if number < 30 else large, number / 30) for number in range(60)]
    with load(videomae_bundle) as model:
        found = list(model.watch(pairs, every=0.2))
    assert {window.segment for window in found} == {0, 1}
    assert all(window.seconds[1] < 1 or window.seconds[0] >= 1 for window in found)
