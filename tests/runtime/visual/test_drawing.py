"""Pictures from arrays. Oracles: torch's interpolation, and FFmpeg's own inferno."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from av.filter import Graph
from numpy.typing import NDArray

from tubelet.runtime.tokens import TubeletSize
from tubelet.runtime.visual.drawing import (
    GAP,
    bilinear,
    contact_sheet,
    enlarged,
    inferno,
    over_tubelets,
    overlay,
    side_by_side,
    spread,
)


def ramp() -> NDArray[np.float32]:
    return np.linspace(0, 1, 256, dtype=np.float32)


def ffmpeg_inferno() -> NDArray[np.float32]:
    """What FFmpeg's pseudocolor makes of the 256 greys: (256, 3)."""
    graph = Graph()
    source = graph.add_buffer(width=256, height=2, format=av.VideoFormat("gbrp"), time_base=Fraction(1))
    colour, sink = graph.add("pseudocolor", "preset=inferno"), graph.add("buffersink")
    source.link_to(colour)
    colour.link_to(sink)
    graph.configure()
    greys = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (2, 256, 3))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(greys), format="rgb24").reformat(format="gbrp")
    frame.pts, frame.time_base = 0, Fraction(1)
    graph.vpush(frame)
    pulled = graph.vpull()
    assert isinstance(pulled, av.VideoFrame)
    return pulled.to_ndarray(format="rgb24")[0].astype(np.float32)


def test_inferno_is_ffmpegs_to_a_few_levels() -> None:
    assert abs(inferno(ramp()) - ffmpeg_inferno()).max() < 12  # FFmpeg's is a polynomial, itself some levels off
    assert inferno(ramp())[[0, -1]].tolist() == [[0, 0, 4], [252, 255, 164]]


def test_higher_values_are_brighter() -> None:
    brightness = inferno(ramp()) @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    assert (np.diff(brightness) > 0).all()


@pytest.mark.parametrize(("cells", "size"), [((14, 14), (224, 224)), ((3, 4), (50, 37)), ((1, 1), (8, 8))])
def test_bilinear_is_torchs(cells: tuple[int, int], size: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).random((5, *cells), np.float32)
    wanted = F.interpolate(torch.from_numpy(maps)[None], size=size, mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(bilinear(maps, *size), wanted, atol=1e-6)


def test_a_time_slice_lies_on_its_frames_and_leftovers_are_as_their_neighbours() -> None:
    heat = np.random.default_rng(0).random((2, 3, 4), np.float32)
    found = over_tubelets(heat, (5, 26, 33), TubeletSize(2, 8, 8))
    assert found.shape == (5, 26, 33)
    np.testing.assert_array_equal(found[:4, :24, :32], bilinear(heat, 24, 32).repeat(2, axis=0))
    np.testing.assert_array_equal(found[4], found[3])
    np.testing.assert_array_equal(found[:, 25], found[:, 23])
    np.testing.assert_array_equal(found[..., 32], found[..., 31])


def test_an_overlay_is_bright_where_the_map_is_high() -> None:
    frames = np.full((2, 8, 8, 3), 100, np.uint8)
    heat = np.zeros((2, 8, 8), np.float32)
    heat[1, 2, 3] = 5e-4
    drawn = overlay(frames, heat)
    assert (drawn.shape, drawn.dtype) == (frames.shape, np.uint8)
    assert drawn[1, 2, 3].tolist() == [214, 216, 148]  # a quarter of 100, three of the brightest colour
    assert drawn[0, 2, 3].tolist() == [70, 70, 71]
    np.testing.assert_array_equal(overlay(frames, heat * 1000 + 2), drawn)  # the scale of a map is its own


def test_an_even_map_is_drawn_as_its_lowest_value() -> None:
    frames = np.full((1, 4, 4, 3), 200, np.uint8)
    drawn = overlay(frames, np.full((1, 4, 4), 0.25, np.float32))
    assert (drawn == [140, 140, 141]).all()


def test_small_frames_are_enlarged_in_sharp_squares() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 48, 60, 3), np.uint8)
    large = enlarged(pixels, 180)
    assert large.shape == (2, 192, 240, 3)
    np.testing.assert_array_equal(large[:, 3::4, ::4], pixels)
    assert enlarged(pixels, 48) is pixels
    assert enlarged(pixels, 10) is pixels


def test_panels_stand_side_by_side_with_a_gap() -> None:
    first, second = np.zeros((3, 5, 7, 3), np.uint8), np.full((3, 5, 7, 3), 9, np.uint8)
    row = side_by_side([first, second])
    assert row.shape == (3, 5, 14 + GAP, 3)
    assert (row[:, :, :7] == 0).all()
    assert (row[:, :, 7 : 7 + GAP] == 255).all()
    assert (row[:, :, 7 + GAP :] == 9).all()


def test_a_sheet_holds_every_frame_of_every_panel_once() -> None:
    first = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 6, 8, 3), np.uint8)
    second = first + 100
    sheet = contact_sheet([first, second], columns=3)
    assert sheet.shape == (4 * 6 + 3 * GAP + GAP, 3 * 8 + 2 * GAP, 3)
    down, right = 6 + GAP, 8 + GAP
    for number in range(5):
        for row, panel in enumerate((first, second)):
            top = (number // 3 * 2 + row) * down + number // 3 * GAP
            left = number % 3 * right
            np.testing.assert_array_equal(sheet[top : top + 6, left : left + 8], panel[number])
    drawn = (sheet != 255).all(axis=-1).sum()
    assert drawn == 10 * 6 * 8
    assert contact_sheet([first], columns=9).shape == (6, 5 * 8 + 4 * GAP, 3)


def test_frames_are_spread_over_the_clip() -> None:
    assert spread(16, 8).tolist() == [1, 3, 5, 7, 9, 11, 13, 15]
    assert spread(32, 4).tolist() == [4, 12, 20, 28]
    assert spread(3, 8).tolist() == [0, 1, 2]
    assert spread(5, 1).tolist() == [2]
