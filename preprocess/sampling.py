"""Which frames of a file make a clip: index arithmetic, and nothing else.

Every policy counts frames and knows no time, as the published evaluations do: a file at 60 frames per second
gives a clip of half the duration of one at 30. A file that is too short still gives exactly as many indices
as were asked for, by the rule that its policy states.

In the drawings below a digit is a frame that is taken, by its place in the clip, and a dot one that is not.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .errors import VideoError
from .spec import Family, Policy, Sampling

SOMETHING_SOMETHING_V2_LABELS = 174


def centre_loop(num_frames: int, stride: int, available: int) -> NDArray[np.int64]:
    """A run of every `stride`-th frame from the middle of the file; a short file starts over at its end.

        4 frames, stride 2, of 12     . . 0 . 1 . 2 . 3 . . .
        4 frames, stride 2, of 5      0 3 1 . 2

    The offset, max(0, (available - num_frames * stride) // 2), and the looping are those of a single view in
    ViViT's evaluation (google-research/scenic, projects/vivit, over the reader of google-deepmind/dmvr).
    """
    offset = max(0, (available - num_frames * stride) // 2)
    return (offset + stride * np.arange(num_frames, dtype=np.int64)) % available


def centre_hold(num_frames: int, stride: int, available: int) -> NDArray[np.int64]:
    """The middle run of every `stride`-th frame of the whole file; a short file holds the last of them.

        4 frames, stride 2, of 13     . . 0 . 1 . 2 . 3 . . . .
        4 frames, stride 2, of 5      0 . 1 . 2+3

    This is the middle of the five clips of VideoMAE's evaluation on Kinetics (MCG-NJU/VideoMAE, kinetics.py).
    A run always starts on a multiple of `stride`, which is where it differs from `centre_loop`.
    """
    strided = stride * np.arange(-(-available // stride), dtype=np.int64)
    start = max(0, (len(strided) - num_frames) // 2)
    return strided[np.minimum(start + np.arange(num_frames), len(strided) - 1)]


def segments(num_frames: int, _stride: int, available: int) -> NDArray[np.int64]:
    """The file cut into `num_frames` equal segments, and the frame in the middle of each.

        4 frames of 12                . 0 . | . 1 . | . 2 . | . 3 .
        4 frames of 2                 0+1 | 2+3

    This is the second of the two clips of VideoMAE's evaluation on Something-Something v2 (MCG-NJU/VideoMAE,
    ssv2.py), in the same floating point. The stride plays no part.
    """
    length = available / num_frames
    return (length / 2 + length * np.arange(num_frames)).astype(np.int64)


def uniform(num_frames: int, _stride: int, available: int) -> NDArray[np.int64]:
    """From the first frame to the last in equal steps, rounded down.

        4 frames of 12                0 . . 1 . . . 2 . . . 3
        4 frames of 2                 0+1+2 3

    This is numpy's linspace(0, available - 1, num_frames), as in the examples of the transformers
    documentation. The stride plays no part.
    """
    return np.linspace(0, available - 1, num_frames).astype(np.int64)


POLICIES: dict[Policy, Callable[[int, int, int], NDArray[np.int64]]] = {
    "centre-loop": centre_loop,
    "centre-hold": centre_hold,
    "segments": segments,
    "uniform": uniform,
}


def sample(sampling: Sampling, *, num_frames: int, available: int) -> NDArray[np.int64]:
    """Indices int64 (num_frames,) of the frames that make a clip, each at least 0 and less than `available`.

    Raises VideoError where there is no frame to take.
    """
    if available < 1:
        raise VideoError(f"a clip of {num_frames} frames needs at least 1 frame to take from, got {available}")
    return POLICIES[sampling.policy](num_frames, sampling.stride, available)


def published_sampling(family: Family, num_labels: int) -> Sampling:
    """The sampling that the published evaluation of a checkpoint uses for its centre view.

    ViViT takes every 2nd frame, VideoMAE on Kinetics every 4th. Configurations do not name the data set, but
    174 labels are Something-Something v2, for which VideoMAE looks at the whole file.
    """
    if family == "vivit":
        return Sampling("centre-loop", stride=2)
    if num_labels == SOMETHING_SOMETHING_V2_LABELS:
        return Sampling("segments", stride=1)
    return Sampling("centre-hold", stride=4)
