"""Which frames of a file make a clip: index arithmetic, and nothing else.

Every policy counts frames and knows no time, as the published evaluations do. So a file at 60 frames per second gives
a clip of half the duration of one at 30. To choose by time, `at_rate` lists frames at a rate of its own, and a policy
takes from that list. A file that is too short still gives exactly as many indices as were asked for. Each policy
states its rule for that.

Several clips of one file are the views of a multi-view evaluation. Each policy spreads them as its published
evaluation does, and gives a single one where that evaluation has its middle.

In the drawings below a digit is a frame that is taken, by its place in the clip. A dot is a frame that is not taken.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .errors import VideoError
from .frames import Timeline
from .spec import Policy, Sampling

Indices = NDArray[np.int64]

MAX_LISTED = 10_000_000  # frames at a rate: four days at 30 a second. Damaged timestamps may span centuries


def distinct(indices: Indices) -> Indices:
    """List each of some indices once, in ascending order.

    np.unique does the same, and imports numpy.ma for that, which nothing else here needs: 8 ms of a start.
    """
    ordered = np.sort(indices, axis=None)
    is_new = np.ones(len(ordered), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_new]


# Each policy takes (num_frames, stride, available, clips) and gives indices int64 (clips, num_frames).


def centre_loop(num_frames: int, stride: int, available: int, clips: int) -> Indices:
    """A run of every `stride`-th frame from the middle of the file; a short file starts over at its end.

        4 frames, stride 2, of 12     . . 0 . 1 . 2 . 3 . . .
        4 frames, stride 2, of 5      0 3 1 . 2

    Several clips start evenly from the first frame to the last place where one fits, rounded down:

        3 clips, stride 1, of 11      0 1 2 3 . . . . . . .
                                      . . . 0 1 2 3 . . . .
                                      . . . . . . . 0 1 2 3

    This is ViViT's evaluation, which takes 4 clips (google-research/scenic, projects/vivit, over the reader of
    google-deepmind/dmvr), with the same looping.
    """
    room = max(0, available - num_frames * stride)
    starts = np.array([room // 2]) if clips == 1 else np.linspace(0, room, clips).astype(np.int64)
    indices: Indices = (starts[:, None] + stride * np.arange(num_frames, dtype=np.int64)) % available
    return indices


def centre_hold(num_frames: int, stride: int, available: int, clips: int) -> Indices:
    """The middle run of every `stride`-th frame of the whole file; a short file holds the last of them.

        4 frames, stride 2, of 13     . . 0 . 1 . 2 . 3 . . . .
        4 frames, stride 2, of 5      0 . 1 . 2+3

    Several clips start evenly from the first of these frames to the last place where a clip fits. A run always
    starts on a multiple of `stride`, which is where this differs from `centre_loop`.

    This is VideoMAE's evaluation on Kinetics, which takes 5 clips (MCG-NJU/VideoMAE, kinetics.py), in the same
    floating point. A single clip is the middle one.
    """
    strided = stride * np.arange(-(-available // stride), dtype=np.int64)
    room = max(0, len(strided) - num_frames)
    starts = np.array([room // 2]) if clips == 1 else (np.arange(clips) * (room / (clips - 1))).astype(np.int64)
    indices: Indices = strided[np.minimum(starts[:, None] + np.arange(num_frames), len(strided) - 1)]
    return indices


def segments(num_frames: int, _stride: int, available: int, clips: int) -> Indices:
    """The file cut into `num_frames` equal segments, and the frame in the middle of each.

        4 frames of 12                . 0 . | . 1 . | . 2 . | . 3 .
        4 frames of 2                 0+1 | 2+3

    Several clips divide each segment evenly, from its first frame on:

        2 clips, 4 frames of 12       0 . . | 1 . . | 2 . . | 3 . .
                                      . 0 . | . 1 . | . 2 . | . 3 .

    This is VideoMAE's evaluation on Something-Something v2, which takes 2 clips (MCG-NJU/VideoMAE, ssv2.py), in the
    same floating point. A single clip is the second of them. The stride plays no part.
    """
    length = available / num_frames
    parts = np.array([1 / 2]) if clips == 1 else np.arange(clips) / clips
    indices: Indices = (length * parts[:, None] + length * np.arange(num_frames)).astype(np.int64)
    return indices


def start_span(num_frames: int, stride: int, available: int, clips: int) -> Indices:
    """`num_frames` frames in equal steps, rounded down, out of the first `num_frames` * `stride` of the file. They go
    from the first of those to the last. Where the file ends before, its last frame is held.

        4 frames, stride 3, of 14     0 . . 1 . . . 2 . . . 3 . .
        4 frames, stride 3, of 6      0 . . 1 . 2+3

    Several clips start evenly from the first frame on. Behind the last is as much room as between them:

        2 clips, stride 2, of 14      0 . 1 . 2 . . 3 . . . . . .
                                      . . . 0 . 1 . 2 . . 3 . . .

    This is TimeSformer's evaluation on Kinetics, which takes one clip (facebookresearch/TimeSformer, decoder.py) of a
    file with 30 frames a second. Its float32 gives the same frames for the published 8 x 32, 16 x 16 and 96 x 4.
    """
    span = num_frames * stride
    first = max(0, available - span) * np.arange(clips) / clips  # (clips,)
    places = np.linspace(first, first + span - 1, num_frames, axis=1)  # (clips, T)
    indices: Indices = np.minimum(places, available - 1).astype(np.int64)
    return indices


def segment_middles(num_frames: int, _stride: int, available: int, clips: int) -> Indices:
    """The middle of each of `num_frames` equal parts of the way from the first frame to the last. Parts end on whole
    frames, and middles are rounded down.

        4 frames of 12                . 0 . . 1 . . 2 . 3 . .
        4 frames of 2                 0+1+2 3

    Several clips divide each part evenly, each in the middle of its share. The stride plays no part.

    This is TimeSformer's evaluation on Something-Something v2, which takes one clip (facebookresearch/TimeSformer,
    ssv2.py), in the same floating point. Halves go to the even frame.
    """
    ends = np.round((available - 1) / num_frames * np.arange(num_frames + 1)).astype(np.int64)  # (T + 1,)
    parts = 2 * np.arange(clips)[:, None] + 1  # of twice as many as there are clips: (clips, 1)
    indices: Indices = ends[:-1] + (ends[1:] - ends[:-1]) * parts // (2 * clips)
    return indices


def uniform(num_frames: int, _stride: int, available: int, clips: int) -> Indices:
    """From the first frame to the last in equal steps, rounded down.

        4 frames of 12                0 . . 1 . . . 2 . . . 3
        4 frames of 2                 0+1+2 3

    This is numpy's linspace(0, available - 1, num_frames), as in the examples of the transformers
    documentation. It has no published multi-view form. Here several clips share out the frames of a finer one in turn,
    so that each spans the file. The stride plays no part.
    """
    finer = np.linspace(0, available - 1, num_frames * clips).astype(np.int64)
    return finer.reshape(num_frames, clips).T  # (num_frames * clips,) -> (clips, num_frames)


def parts(num_frames: int, stride: int, available: int, clips: int) -> Indices:
    """A run of about every `stride`-th frame from the start of each part, with as many parts as clips.

        2 clips, 4 frames, stride 2, of 20    0 . 1 . . 2 . 3 . . . . . . . . . . . .
                                              . . . . . . . . . . 0 . 1 . . 2 . 3 . .

    The pitch is a little more than the stride. The frames are spread from the first of num_frames * stride frames to
    the last. Parts that are not longer than that overlap, and a file that is not holds its last frame but one:

        4 frames, stride 2, of 7              0 . . 1 . 2+3 .

    This is V-JEPA 2's evaluation (facebookresearch/vjepa2, src/datasets/video_dataset.py), in the same floating point.
    It takes 2 clips of Something-Something v2 and 4 of Diving48. A single clip is where that code has it, at the start
    of the file.
    """
    length, part = num_frames * stride, available // clips
    if part > length:
        run = np.clip(np.linspace(0, length, num_frames), 0, length - 1).astype(np.int64)
        step = part
    else:
        last = min(length, available) - 1
        spread = np.linspace(0, last, last // stride)
        held = np.concatenate([spread, np.full(num_frames - len(spread), last)])
        run = np.clip(held, 0, max(last - 1, 0)).astype(np.int64)
        step = (available - length) // (clips - 1) if available > length else 0
    indices: Indices = run + step * np.arange(clips)[:, None]
    return indices


POLICIES: dict[Policy, Callable[[int, int, int, int], Indices]] = {
    "centre-loop": centre_loop,
    "centre-hold": centre_hold,
    "segments": segments,
    "start-span": start_span,
    "segment-middles": segment_middles,
    "uniform": uniform,
    "parts": parts,
}


def clip_views(sampling: Sampling, *, num_frames: int, available: int, clips: int) -> Indices:
    """Indices int64 (clips, num_frames) of the frames of each clip, at least 0 and less than `available`.

    Where clips are joined, num_frames are those of all that make one.

    Raises VideoError where there is no frame to take, ValueError for less than one clip.
    """
    if clips < 1:
        raise ValueError(f"clips must be 1 or more, got {clips}")
    if available < 1:
        raise VideoError(f"a clip of {num_frames} frames needs at least 1 frame to take from, got {available}")
    frames, joined = num_frames // sampling.joined, sampling.joined
    views = POLICIES[sampling.policy](frames, sampling.stride, available, clips * joined)
    return views.reshape(clips, num_frames)  # (clips * joined, T) -> (clips, joined * T)


def sample(sampling: Sampling, *, num_frames: int, available: int) -> Indices:
    """Indices int64 (num_frames,) of the frames that make a single clip; see `clip_views`."""
    indices: Indices = clip_views(sampling, num_frames=num_frames, available=available, clips=1)[0]
    return indices


def at_rate(timeline: Timeline, fps: float) -> Indices:
    """Indices int64 (M,) of the frames that are on show at `fps` even times a second.

        frames at 0, 3, 6, 12 tenths of a second, 5 fps      0 0 1 2 2 2 3

    The times are k / fps after the first frame, up to the last. The frame on show is the last that is not
    later, except by what the file's clock rounds. A higher rate than the file's repeats frames.

    Raises VideoError where the times of frames are not known, ValueError unless `fps` is above 0.
    """
    if not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps must be above 0, got {fps}")
    if not timeline.is_timed:
        raise VideoError(
            f"sampling at {fps:g} frames per second needs the time of every frame, and this video does not tell it",
            fix="sample by the number of frames (without a rate), or convert the video: ffmpeg -i IN OUT.mp4",
        )
    # The last digits of float64 are no lateness either.
    shown_from = timeline.seconds - timeline.seconds[0] - timeline.rounding_seconds - 1e-9
    count = max(shown_from[-1] + 2 * (timeline.rounding_seconds + 1e-9), 0) * fps + 1
    if count > MAX_LISTED:
        raise VideoError(
            f"this video lasts {timeline.seconds[-1] - timeline.seconds[0]:.0f} seconds by its timestamps, too many "
            f"for {fps:g} frames per second: {count:.0f} frames, and {MAX_LISTED} can be listed"
        )
    indices: Indices = np.searchsorted(shown_from, np.arange(math.floor(count)) / fps, side="right") - 1
    return indices
