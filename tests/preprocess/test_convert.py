"""Pictures turned as the file asks, by the definition of its matrix, and resized on the way to RGB."""

import math
import struct
from itertools import product

import numpy as np
import pytest
from videos import everything, index_of, make_video, take

from tubelet.preprocess.convert import Scaling
from tubelet.preprocess.decode import probe, read_frames
from tubelet.preprocess.errors import VideoError
from tubelet.preprocess.resize import resize, resized_size
from tubelet.preprocess.spec import ExactSize, ShortestEdge

# The eight ways to lay out a picture: where (x, y) goes, as (a x + c y, b x + d y).
LAYOUTS = [
    *((a, 0, 0, d) for a, d in product((1, -1), repeat=2)),
    *((0, b, c, 0) for b, c in product((1, -1), repeat=2)),
]


def with_display_matrix(path, a, b, c, d):
    """Writes the matrix into the track header, where a plain file has that of 16.16 ones."""
    plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    asked = struct.pack(">9i", *(round(value * 65536) for value in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    head, _, track = make_video(path, frames=2).read_bytes().partition(b"tkhd")
    path.write_bytes(head + b"tkhd" + track.replace(plain, asked, 1))
    return path


@pytest.mark.parametrize("matrix", LAYOUTS)
def test_turned_and_mirrored_pictures(tmp_path, matrix):
    path = with_display_matrix(tmp_path / "turned.mp4", *matrix)
    stored = read_frames(path, take(1), rotate=False).pixels[0]
    height, width, _ = stored.shape
    assert (width, height) == (96, 64)

    a, b, c, d = matrix
    placed = {}
    for y, x in product(range(height), range(width)):
        middle_x, middle_y = 2 * x - (width - 1), 2 * y - (height - 1)  # twice the distance from the middle
        placed[a * middle_x + c * middle_y, b * middle_x + d * middle_y] = stored[y, x]
    columns, rows = sorted({x for x, _ in placed}), sorted({y for _, y in placed})
    expected = np.array([[placed[x, y] for x in columns] for y in rows])

    np.testing.assert_array_equal(read_frames(path, take(1)).pixels[0], expected)
    info = probe(path)
    assert (info.height, info.width) == expected.shape[:2]
    assert info.mirrored == (a * d - b * c < 0)


@pytest.mark.parametrize("degrees", [45, 10, 80])
def test_a_slanted_picture_can_be_read_as_it_is_stored(tmp_path, degrees):
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    path = with_display_matrix(tmp_path / "slanted.mp4", cosine, sine, -sine, cosine)
    with pytest.raises(VideoError, match=r"asks for a rotation of -\d+ degrees; only quarter turns"):
        read_frames(path, take(0))
    assert read_frames(path, take(0), rotate=False).pixels.shape == (1, 64, 96, 3)


@pytest.mark.parametrize("rotation", [0, 90, -90, 180])
@pytest.mark.parametrize("rule", [ShortestEdge(32), ExactSize(40, 30)])
def test_scaled_frames_have_the_size_of_the_rule_as_displayed(tmp_path, rule, rotation):
    path = make_video(tmp_path / "turned.mp4", frames=3, size=(96, 64), rotation=rotation)
    scaled = read_frames(path, everything, scale_to=Scaling(rule, "bilinear"))
    assert scaled.pixels.shape[1:3] == resized_size(64, 96, rule)
    assert [index_of(picture) for picture in scaled.pixels] == [0, 1, 2]
    assert scaled.pixels.flags.c_contiguous


@pytest.mark.parametrize("resample", ["nearest", "box", "bilinear", "bicubic", "lanczos"])
def test_scaled_frames_are_close_to_those_of_the_exact_resize(tmp_path, resample):
    path = make_video(tmp_path / "large.mp4", frames=2, size=(640, 360))
    exact = resize(read_frames(path, everything).pixels, (120, 213), resample, "pillow")
    scaled = read_frames(path, everything, scale_to=Scaling(ShortestEdge(120), resample)).pixels
    difference = np.abs(exact.astype(int) - scaled)
    assert 0 < difference.mean() < 4


def test_a_filter_that_cannot_scale_on_the_way():
    with pytest.raises(VideoError, match=r"nearest, box, bilinear, bicubic, lanczos, not by hamming\n  fix: --resize"):
        Scaling(ShortestEdge(32), "hamming")
