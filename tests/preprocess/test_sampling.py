"""Sampling, against the published evaluations written out step by step, in lists."""

import math
from fractions import Fraction

import numpy as np
import pytest

from tubelet.preprocess.errors import VideoError
from tubelet.preprocess.frames import Frames, Timeline
from tubelet.preprocess.sampling import POLICIES, at_rate, clip_views, sample
from tubelet.preprocess.spec import Sampling

FRAMES = [1, 2, 8, 16, 32]
STRIDES = [1, 2, 3, 4, 7]
AVAILABLE = [*range(1, 70), 127, 128, 250, 299, 300, 1001, 216000]


def vivit_centre_view(num_frames, stride, available):
    """Scenic: an offset that centres the clip, and the file repeated until the clip fits."""
    offset = max(0, (available - num_frames * stride) // 2)
    files = (offset + num_frames * stride) // available + 1
    repeated = files * list(range(available))
    return repeated[offset : offset + num_frames * stride : stride]


def videomae_kinetics_middle_clip(num_frames, stride, available):
    """VideoMAE on Kinetics, clip 2 of 5: the strided file, its last frame repeated, a window of it."""
    strided = list(range(0, available, stride))
    while len(strided) < num_frames:
        strided.append(strided[-1])
    step = max(1.0 * (len(strided) - num_frames) / (5 - 1), 0)
    start = int(2 * step)
    return strided[start : start + num_frames]


def videomae_ssv2_second_clip(num_frames, _stride, available):
    """VideoMAE on Something-Something v2: two sets of indices sorted into one, and every second of it."""
    tick = available / float(num_frames)
    middles = [int(tick / 2.0 + tick * x) for x in range(num_frames)]
    starts = [int(tick * x) for x in range(num_frames)]
    return sorted(middles + starts)[1::2]


def timesformer_kinetics(num_frames, stride, available):
    """TimeSformer on Kinetics, the first and only clip of a file at 30 frames a second, in torch and float32."""
    torch = pytest.importorskip("torch")
    start = max(available - num_frames * stride, 0) * 0 / 1
    index = torch.linspace(start, start + num_frames * stride - 1, num_frames)
    return torch.clamp(index, 0, available - 1).long().tolist()


def timesformer_ssv2(num_frames, _stride, available):
    """TimeSformer on Something-Something v2: the middle between the rounded ends of each part."""
    size = float(available - 1) / num_frames
    ends = [int(np.round(size * number)) for number in range(num_frames + 1)]
    return [(ends[number] + ends[number + 1]) // 2 for number in range(num_frames)]


def documentation_snippet(num_frames, _stride, available):
    return np.linspace(0, available - 1, num_frames).astype(int).tolist()


def vjepa2_only_part(num_frames, stride, available):
    return vjepa2_parts(num_frames, stride, available, 1)[0]


def vjepa2_parts(num_frames, stride, available, clips):
    """V-JEPA 2's reader: a clip from each part of the file, and parts that overlap where they are short."""
    length, part = num_frames * stride, available // clips
    found = []
    for number in range(clips):
        if part > length:
            places = [min(place, length - 1) for place in np.linspace(0, length, num=num_frames)]
            found.append([int(place) + number * part for place in places])
            continue
        last = min(length, available) - 1
        places = list(np.linspace(0, last, num=last // stride))
        places += [last] * (num_frames - last // stride)
        step = (available - length) // (clips - 1) if available > length else 0
        # A file of one frame makes an index of -1 there, which is its last frame here too.
        found.append([int(max(min(place, last - 1), 0)) + number * step for place in places])
    return found


PUBLISHED = {
    "parts": vjepa2_only_part,
    "centre-loop": vivit_centre_view,
    "centre-hold": videomae_kinetics_middle_clip,
    "segments": videomae_ssv2_second_clip,
    "start-span": timesformer_kinetics,
    "segment-middles": timesformer_ssv2,
    "uniform": documentation_snippet,
}


@pytest.mark.parametrize("policy", POLICIES)
def test_indices_are_those_of_the_published_evaluation(policy):
    for num_frames in FRAMES:
        for stride in STRIDES:
            for available in [n for n in AVAILABLE if policy != "centre-loop" or n < 2000]:
                indices = sample(Sampling(policy, stride), num_frames=num_frames, available=available)
                expected = PUBLISHED[policy](num_frames, stride, available)
                assert indices.tolist() == expected, (num_frames, stride, available)


@pytest.mark.parametrize("policy", POLICIES)
def test_always_exactly_as_many_frames_as_asked_for_and_all_of_them_in_the_file(policy):
    for num_frames in FRAMES:
        for available in AVAILABLE:
            indices = sample(Sampling(policy, 4), num_frames=num_frames, available=available)
            assert indices.shape == (num_frames,)
            assert indices.dtype == np.int64
            assert indices.min() >= 0
            assert indices.max() < available


# What the drawings in the docstrings show.
@pytest.mark.parametrize(
    ("policy", "available", "expected"),
    [
        ("centre-loop", 12, [2, 4, 6, 8]),
        ("centre-loop", 5, [0, 2, 4, 1]),
        ("centre-hold", 13, [2, 4, 6, 8]),
        ("centre-hold", 5, [0, 2, 4, 4]),
        ("segments", 12, [1, 4, 7, 10]),
        ("segments", 2, [0, 0, 1, 1]),
        ("start-span", 14, [0, 2, 4, 7]),
        ("start-span", 5, [0, 2, 4, 4]),
        ("segment-middles", 12, [1, 4, 7, 9]),
        ("segment-middles", 2, [0, 0, 0, 1]),
        ("uniform", 12, [0, 3, 7, 11]),
        ("uniform", 2, [0, 0, 0, 1]),
        ("parts", 12, [0, 2, 5, 7]),
        ("parts", 7, [0, 3, 5, 5]),
    ],
)
def test_drawn_examples(policy, available, expected):
    assert sample(Sampling(policy, 2), num_frames=4, available=available).tolist() == expected


@pytest.mark.parametrize(("num_frames", "stride"), [(8, 32), (16, 16), (96, 4)])
def test_the_published_timesformers_are_shown_the_published_frames(num_frames, stride):
    for available in range(1, 500):
        indices = sample(Sampling("start-span", stride), num_frames=num_frames, available=available)
        assert indices.tolist() == timesformer_kinetics(num_frames, stride, available), available


# --- Views ---


def vivit_clips(num_frames, stride, available, clips):
    """Scenic's reader: even offsets cut to whole numbers, and the file repeated until each clip fits."""
    room = max(0, available - num_frames * stride)
    repeated = list(range(available)) * (num_frames * stride // available + 2)
    offsets = [math.trunc(Fraction(room * number, clips - 1)) for number in range(clips)]
    return [repeated[offset : offset + num_frames * stride : stride] for offset in offsets]


def videomae_kinetics_clips(num_frames, stride, available, clips):
    strided = list(range(0, available, stride))
    while len(strided) < num_frames:
        strided.append(strided[-1])
    step = max(1.0 * (len(strided) - num_frames) / (clips - 1), 0)
    return [strided[int(number * step) : int(number * step) + num_frames] for number in range(clips)]


def videomae_ssv2_clips(num_frames, _stride, available, clips):
    tick = available / float(num_frames)
    middles = [int(tick / 2.0 + tick * x) for x in range(num_frames)]
    starts = [int(tick * x) for x in range(num_frames)]
    return [sorted(middles + starts)[number::clips] for number in range(clips)]


PUBLISHED_CLIPS = {
    "centre-loop": (vivit_clips, [2, 3, 4, 10]),
    "centre-hold": (videomae_kinetics_clips, [2, 3, 5, 10]),
    "segments": (videomae_ssv2_clips, [2]),
    "parts": (vjepa2_parts, [2, 3, 4]),
}


@pytest.mark.parametrize("policy", PUBLISHED_CLIPS)
def test_clips_are_those_of_the_published_evaluation(policy):
    published, numbers = PUBLISHED_CLIPS[policy]
    for clips in numbers:
        for num_frames in [1, 16, 32]:
            for stride in [1, 2, 4]:
                for available in [n for n in AVAILABLE if n < 2000]:
                    views = clip_views(
                        Sampling(policy, stride), num_frames=num_frames, available=available, clips=clips
                    )
                    expected = published(num_frames, stride, available, clips)
                    assert views.tolist() == expected, (num_frames, stride, available, clips)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("clips", [1, 2, 3, 7])
def test_every_clip_is_whole_and_in_the_file(policy, clips):
    for num_frames in FRAMES:
        for available in AVAILABLE:
            views = clip_views(Sampling(policy, 4), num_frames=num_frames, available=available, clips=clips)
            assert (views.shape, views.dtype) == ((clips, num_frames), np.int64)
            assert views.min() >= 0
            assert views.max() < available


# What the drawings in the docstrings show, and all that a file has where there are several ways to share it.
@pytest.mark.parametrize(
    ("policy", "stride", "available", "expected"),
    [
        ("centre-loop", 1, 11, [[0, 1, 2, 3], [3, 4, 5, 6], [7, 8, 9, 10]]),
        ("centre-hold", 2, 13, [[0, 2, 4, 6], [2, 4, 6, 8], [6, 8, 10, 12]]),
        ("segments", 1, 12, [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]),
        ("start-span", 1, 10, [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]),
        ("segment-middles", 1, 25, [[1, 7, 13, 19], [3, 9, 15, 21], [5, 11, 17, 23]]),
        ("uniform", 1, 12, [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]),
        ("parts", 2, 30, [[0, 2, 5, 7], [10, 12, 15, 17], [20, 22, 25, 27]]),
    ],
)
def test_drawn_clips(policy, stride, available, expected):
    views = clip_views(Sampling(policy, stride), num_frames=4, available=available, clips=3)
    assert views.tolist() == expected


def test_no_clips():
    with pytest.raises(ValueError, match="clips must be 1 or more, got 0"):
        clip_views(Sampling("uniform", 1), num_frames=4, available=12, clips=0)


# --- At a rate ---


def shown(times, fps):
    """The last frame that is not later, of times in exact fractions, at each k / fps up to the last frame."""
    indices: list[int] = []
    while Fraction(len(indices)) / fps <= times[-1] - times[0]:
        moment = times[0] + Fraction(len(indices)) / fps
        indices.append(max(index for index, time in enumerate(times) if time <= moment))
    return indices


RATES = [Fraction(rate) for rate in (1, 2, 7, 10, 24, 25, 30, 50, 60)] + [Fraction(30000, 1001), Fraction(1, 3)]


@pytest.mark.parametrize("tick", [Fraction(1, 15360), Fraction(1, 90000), Fraction(1, 1000)], ids=str)
def test_frames_on_show_are_the_same_in_every_container(tick):
    for source in (Fraction(25), Fraction(30), Fraction(30000, 1001), Fraction(50)):
        if tick == Fraction(1, 1000) and source.denominator > 1:
            continue  # frame 15 is at 500.5 milliseconds: whether it is on show at 500 cannot be told
        times = [number / source for number in range(100)]
        rounded = np.array([round(time / tick) for time in times]) * tick.numerator / tick.denominator
        for fps in RATES:
            expected = shown(times, fps)
            indices = at_rate(Timeline(rounded + 1.4, float(tick) / 2), float(fps))
            assert indices.tolist() == expected, (source, fps)
            assert indices.dtype == np.int64


def test_frames_on_show_of_an_uneven_file():
    times = [Fraction(time, 10) for time in (0, 3, 6, 12)]  # the drawing in the docstring
    assert shown(times, Fraction(5)) == [0, 0, 1, 2, 2, 2, 3]
    assert at_rate(Timeline(np.array(times, float), 0.0), 5).tolist() == [0, 0, 1, 2, 2, 2, 3]


def test_one_frame_is_on_show_once():
    assert at_rate(Timeline(np.array([2.0]), 0.0), 30).tolist() == [0]


@pytest.mark.parametrize("fps", [0, -1, math.nan, math.inf])
def test_no_rate(fps):
    with pytest.raises(ValueError, match="fps must be above 0, got"):
        at_rate(Timeline(np.array([0.0, 1.0]), 0.0), fps)


@pytest.mark.parametrize("seconds", [[math.nan, math.nan], [0.0, 1.0, 1.0], [0.0, 2.0, 1.0]])
def test_a_rate_needs_times(seconds):
    with pytest.raises(VideoError, match="sampling at 10 frames per second needs the time of every frame"):
        at_rate(Timeline(np.array(seconds), 0.0), 10)


def test_pixels_have_a_timeline_of_frames_without_times():
    timeline = Frames.from_array(np.zeros((3, 4, 4, 3), np.uint8)).timeline
    assert len(timeline) == 3
    assert not timeline.is_timed
    assert timeline.is_variable is None


# --- One clip, again ---


@pytest.mark.parametrize("available", [0, -1])
def test_nothing_to_take_from(available):
    with pytest.raises(VideoError, match=f"^a clip of 16 frames needs at least 1 frame to take from, got {available}$"):
        sample(Sampling("uniform", 1), num_frames=16, available=available)
