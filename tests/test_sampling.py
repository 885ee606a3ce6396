"""Sampling, against the published evaluations written out step by step, in lists."""

import numpy as np
import pytest
from tubelet.preprocess.errors import VideoError
from tubelet.preprocess.sampling import POLICIES, published_sampling, sample
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


def documentation_snippet(num_frames, _stride, available):
    return np.linspace(0, available - 1, num_frames).astype(int).tolist()


PUBLISHED = {
    "centre-loop": vivit_centre_view,
    "centre-hold": videomae_kinetics_middle_clip,
    "segments": videomae_ssv2_second_clip,
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
        ("uniform", 12, [0, 3, 7, 11]),
        ("uniform", 2, [0, 0, 0, 1]),
    ],
)
def test_drawn_examples(policy, available, expected):
    assert sample(Sampling(policy, 2), num_frames=4, available=available).tolist() == expected


@pytest.mark.parametrize("available", [0, -1])
def test_nothing_to_take_from(available):
    with pytest.raises(VideoError, match=f"^a clip of 16 frames needs at least 1 frame to take from, got {available}$"):
        sample(Sampling("uniform", 1), num_frames=16, available=available)


@pytest.mark.parametrize(
    ("family", "num_labels", "expected"),
    [
        ("vivit", 400, Sampling("centre-loop", 2)),
        ("vivit", 174, Sampling("centre-loop", 2)),
        ("videomae", 400, Sampling("centre-hold", 4)),
        ("videomae", 2, Sampling("centre-hold", 4)),
        ("videomae", 174, Sampling("segments", 1)),
    ],
)
def test_published_sampling(family, num_labels, expected):
    assert published_sampling(family, num_labels) == expected
