"""What holds of every file and every frame size: sampling, crops, and windows of a resized frame."""

from typing import get_args

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from steady import steady

from tubelet.preprocess.resize import resize, resized_size
from tubelet.preprocess.sampling import POLICIES, clip_views
from tubelet.preprocess.spec import Arithmetic, CropRounding, Sampling, ShortestEdge
from tubelet.preprocess.views import crop_windows

sides = st.integers(1, 2000)


@steady
@given(
    policy=st.sampled_from(sorted(POLICIES)),
    stride=st.integers(1, 9),
    num_frames=st.integers(1, 64),
    available=st.integers(1, 100_000),
    clips=st.integers(1, 12),
)
def test_a_clip_has_its_frames_and_they_are_there(
    policy: str, stride: int, num_frames: int, available: int, clips: int
) -> None:
    sampling = Sampling(policy, stride)  # type: ignore[arg-type]  # hypothesis draws a str
    indices = clip_views(sampling, num_frames=num_frames, available=available, clips=clips)
    assert indices.shape == (clips, num_frames)
    assert indices.dtype == np.int64
    assert indices.min() >= 0
    assert indices.max() < available
    assert (np.diff(indices[:, 0]) >= 0).all()  # later clips begin later
    if policy != "centre-loop" or available >= num_frames * stride:  # which starts over in a short file
        assert (np.diff(indices, axis=1) >= 0).all()


@steady
@given(
    frame=st.tuples(sides, sides),
    crop=st.tuples(sides, sides),
    crops=st.integers(1, 5),
    rounding=st.sampled_from(get_args(CropRounding)),
    arithmetic=st.sampled_from(get_args(Arithmetic)),
)
def test_crops_lie_in_the_frame_where_they_fit(
    frame: tuple[int, int], crop: tuple[int, int], crops: int, rounding: CropRounding, arithmetic: Arithmetic
) -> None:
    windows = crop_windows(*frame, crop, crops, rounding, arithmetic)
    assert len(windows) == crops
    for axis in (0, 1):
        starts, margin = [window[axis] for window in windows], frame[axis] - crop[axis]
        if margin >= 0:
            assert starts == sorted(starts)
            assert starts[0] >= 0
            assert starts[-1] <= margin
        else:  # the frame lies in the middle of the crop
            assert all(abs(2 * start - margin) <= 1 for start in starts)
    if crops > 1 and min(frame[0] - crop[0], frame[1] - crop[1]) >= 0:
        longer = 0 if frame[0] > frame[1] else 1
        assert windows[0][longer] == 0
        left = frame[longer] - crop[longer] - windows[-1][longer]
        assert 0 <= left < crops - 1 if rounding == "step" else left == 0


@steady
@given(height=sides, width=sides, edge=st.integers(1, 600))
def test_the_shorter_side_is_the_edge_and_the_longer_keeps_its_share(height: int, width: int, edge: int) -> None:
    size = resized_size(height, width, ShortestEdge(edge))
    assert min(size) == edge
    longer = max(height, width) * edge / min(height, width)
    assert longer - 1 < max(size) <= longer
    assert (size[0] <= size[1]) == (height <= width) or size[0] == size[1]


@steady
@given(
    frame=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    size=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    arithmetic=st.sampled_from(get_args(Arithmetic)),
    resample=st.sampled_from(["bilinear", "bicubic"]),
    value=st.integers(0, 255),
)
def test_a_frame_of_one_colour_stays_so(
    frame: tuple[int, int], size: tuple[int, int], arithmetic: Arithmetic, resample: str, value: int
) -> None:
    """Weights sum to one, whatever the sizes: nothing becomes brighter, and no edge darker."""
    pixels = np.full((1, *frame, 3), value, np.uint8)
    out = resize(pixels, size, resample, arithmetic)  # type: ignore[arg-type]  # hypothesis draws a str
    assert out.shape == (1, *size, 3)
    assert (out == value).all()


@steady
@given(data=st.data(), arithmetic=st.sampled_from(get_args(Arithmetic)))
def test_a_window_is_what_the_whole_has_there(data: st.DataObject, arithmetic: Arithmetic) -> None:
    frame = data.draw(st.tuples(st.integers(2, 40), st.integers(2, 40)))
    size = data.draw(st.tuples(st.integers(2, 40), st.integers(2, 40)))
    top, left = (data.draw(st.integers(0, side - 1)) for side in size)
    height, width = (data.draw(st.integers(1, side - at)) for side, at in zip(size, (top, left), strict=True))
    pixels = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, 256, (1, *frame, 3), np.uint8)
    whole = resize(pixels, size, "bicubic", arithmetic)
    part = resize(pixels, size, "bicubic", arithmetic, window=(top, left, height, width))
    np.testing.assert_array_equal(part, whole[:, top : top + height, left : left + width])
