"""Tube masks, and clips cut into patches: torch's unfold is the oracle of the cut."""

import numpy as np
import pytest
import torch

from tubelet.runtime.tokens import Grid, TubeletSize, masked_tokens, patchify, token_grid, tube_mask, unpatchify

CUTS = [
    ((2, 8, 12, 20, 3), TubeletSize(2, 4, 5)),
    ((1, 16, 224, 224, 3), TubeletSize(2, 16, 16)),
    ((3, 4, 6, 6, 1), TubeletSize(1, 6, 2)),
    ((1, 4, 6, 6, 3), TubeletSize(1, 2, 6)),  # as wide as the clip: cut without a copy
]


@pytest.mark.parametrize(("shape", "tubelet"), CUTS)
def test_patches_are_those_of_unfold_and_go_back(shape: tuple[int, ...], tubelet: TubeletSize) -> None:
    clips = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    patches = patchify(clips, tubelet)

    cut = torch.from_numpy(clips)
    for axis, step in enumerate(tubelet, start=1):
        cut = cut.unfold(axis, step, step)  # (B, T', H', W', C, t, h, w)
    tokens = cut.permute(0, 1, 2, 3, 5, 6, 7, 4).flatten(4, 6).flatten(1, 3)  # (B, N, P, C)
    np.testing.assert_array_equal(patches, tokens.numpy())

    grid = token_grid(shape[1:4], tubelet)
    assert grid.tokens == patches.shape[1]
    np.testing.assert_array_equal(unpatchify(patches, grid, tubelet), clips)


def test_clips_that_are_not_whole_tubelets() -> None:
    tubelet = TubeletSize(2, 16, 16)
    assert token_grid((5, 37, 50), tubelet) == (2, 2, 3)
    with pytest.raises(ValueError, match="a clip of 5x32x32 is not whole tubelets of 2x16x16"):
        patchify(np.zeros((1, 5, 32, 32, 3)), tubelet)
    with pytest.raises(ValueError, match="a clip of 16x15x32 holds no tubelet of 2x16x16"):
        token_grid((16, 15, 32), tubelet)


def test_the_mask_of_the_published_models() -> None:
    grid = token_grid((16, 224, 224), TubeletSize(2, 16, 16))
    assert (grid.tokens, masked_tokens(grid)) == (1568, 1408)
    mask = tube_mask(grid, 1408, seed=7, batch=3)
    assert mask.visible.shape == (3, 160)
    assert mask.masked.shape == (3, 1408)
    assert mask.visible.dtype == mask.masked.dtype == np.int64
    for visible, masked in zip(mask.visible, mask.masked, strict=True):
        assert sorted([*visible, *masked]) == list(range(1568))  # each token once
        assert (np.diff(visible) > 0).all()
        assert (np.diff(masked) > 0).all()
        # The same places in every slice of 196.
        places = [{token % 196 for token in masked if token // 196 == slice_} for slice_ in range(8)]
        assert len(places[0]) == 176
        assert all(place == places[0] for place in places)
    assert len({row.tobytes() for row in mask.masked}) == 3  # every clip has its own


def test_a_seed_is_a_mask_and_every_place_is_hidden_as_often() -> None:
    grid = Grid(2, 3, 4)
    np.testing.assert_array_equal(tube_mask(grid, 12, seed=3).masked, tube_mask(grid, 12, seed=3).masked)
    assert tube_mask(grid, 12, seed=3).masked.tolist() != tube_mask(grid, 12, seed=4).masked.tolist()
    masks = tube_mask(grid, 12, seed=0, batch=4000).masked
    counts = np.bincount(masks[masks < 12], minlength=12)
    assert abs(counts - 2000).max() < 5 * np.sqrt(4000 / 4)  # five standard deviations of a fair choice


@pytest.mark.parametrize("masked", [0, 7, 24, 26, -2])
def test_numbers_that_are_no_tube_mask(masked: int) -> None:
    with pytest.raises(ValueError, match=f"in each of 2 slices, and shows at least one: {masked} tokens"):
        tube_mask(Grid(2, 3, 4), masked, seed=0)


@pytest.mark.parametrize(("ratio", "hidden"), [(0.01, 0), (1.0, 12)])
def test_ratios_that_leave_nothing(ratio: float, hidden: int) -> None:
    with pytest.raises(ValueError, match=f"hides {hidden} of the 12 tokens"):
        masked_tokens(Grid(2, 3, 4), ratio)
