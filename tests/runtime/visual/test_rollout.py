"""Attention maps against transformers' own attentions, and rollout as the paper writes it: matrices, in float64."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tubelet.runtime.bundle.bundle import Readout
from tubelet.runtime.tokens import Grid
from tubelet.runtime.visual.explanation import Attentions
from tubelet.runtime.visual.frame_rollout import frame_attention_map
from tubelet.runtime.visual.rollout import attention_map, rollout

GRID = Grid(2, 3, 4)
TINY: dict[str, Any] = {
    "image_size": (12, 16),
    "num_frames": 4,
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 32,
    "attn_implementation": "eager",
}


def transformers_attentions(family: str) -> list[NDArray[np.float32]]:
    """Of each layer of a tiny model whose weights make attention uneven: (1, h, N, N)."""
    import transformers

    if family == "vivit":
        model: Any = transformers.VivitModel(transformers.VivitConfig(**TINY, tubelet_size=[2, 4, 4]))
    else:
        model = transformers.VideoMAEModel(transformers.VideoMAEConfig(**TINY, tubelet_size=2, patch_size=4))
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    with torch.no_grad():
        found = model.eval()(torch.randn(1, 4, 3, 12, 16), output_attentions=True)
    return [attention.numpy() for attention in found.attentions]


def rollout_matrix(attentions: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Equation 1 and what follows it in arXiv:2005.00928, in torch: (N, N)."""
    result: torch.Tensor | None = None
    for attention in attentions:
        mixed = torch.from_numpy(attention).double().mean(dim=1)[0]
        mixed = 0.5 * mixed + 0.5 * torch.eye(len(mixed), dtype=torch.float64)
        mixed = mixed / mixed.sum(dim=-1, keepdim=True)
        result = mixed if result is None else mixed @ result
    assert result is not None
    return np.asarray(result)


READINGS: list[tuple[str, Readout]] = [
    ("vivit", "class-token"),
    ("videomae", "mean"),
    ("videomae", "first-token"),
]


@pytest.mark.parametrize(("family", "readout"), READINGS)
def test_rollout_is_the_matrix_form(family: str, readout: Readout) -> None:
    attentions = transformers_attentions(family)
    assert len(attentions) == 4
    matrix = rollout_matrix(attentions)
    row = matrix.mean(axis=0) if readout == "mean" else matrix[0]
    wanted = row[len(row) - GRID.tokens :].reshape(GRID)
    found = attention_map(attentions, GRID, readout)
    assert found.shape == GRID
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert np.ptp(wanted) > 0.1 * wanted.max()  # it is no flat map that is compared
    assert found.sum() == pytest.approx(1 - (row[0] if readout == "class-token" else 0), rel=1e-5)


def test_every_row_of_the_rollout() -> None:
    attentions = transformers_attentions("vivit")
    matrix = rollout_matrix(attentions)
    layers = [attention[0] for attention in attentions]
    rows = [rollout(layers, row) for row in np.eye(len(matrix), dtype=np.float32)]
    np.testing.assert_allclose(rows, matrix, rtol=1e-5)


@pytest.mark.parametrize(("family", "readout"), READINGS)
def test_the_last_layer_alone(family: str, readout: Readout) -> None:
    attentions = transformers_attentions(family)
    heads = torch.from_numpy(attentions[-1])[0].mean(dim=0)
    wanted = {"class-token": heads[0, 1:], "mean": heads.mean(dim=0), "first-token": heads[0]}[readout]
    np.testing.assert_allclose(attention_map(attentions, GRID, readout, "last"), wanted.reshape(GRID), rtol=1e-5)


def test_a_token_that_all_others_attend_to_shows() -> None:
    attention = np.full((2, 24, 24), 0.2 / 23, np.float32)
    attention[:, :, 17] = 0.8
    for method in ("rollout", "last"):
        found = attention_map([attention] * 3, GRID, "mean", method)
        assert np.unravel_index(found.argmax(), GRID) == (1, 1, 1)


def test_one_array_of_all_layers_does_as_well() -> None:
    layers = [attention[0] for attention in transformers_attentions("videomae")]
    np.testing.assert_array_equal(
        attention_map(cast(Any, np.stack(layers)), GRID, "mean"),
        attention_map(layers, GRID, "mean"),
    )


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 3, 25, 25), (3, 25, 24), (25, 25)])
def test_attentions_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"one clip with 25 tokens must be \(h, 25, 25\), got \("):
        attention_map([np.zeros(shape, np.float32)], GRID, "class-token")


def test_no_layers() -> None:
    with pytest.raises(ValueError, match="no layer"):
        attention_map([], GRID, "mean")


# Attention in two directions


def timesformer_attentions(kind: str) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Of each layer of a tiny model whose weights make attention uneven: over space, and over time."""
    from tubelet.exporter.families.attention import attend_with, eager_attention
    from tubelet.exporter.families.timesformer_config import TimesformerConfig
    from tubelet.exporter.families.timesformer_encoder import TimesformerModel

    sizes = {name: value for name, value in TINY.items() if name != "attn_implementation"}
    model = TimesformerModel(TimesformerConfig(**sizes, patch_size=(4, 4), attention_type=kind)).eval()
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    attend_with(model, eager_attention)
    with torch.no_grad():
        found = model.outputs(torch.randn(1, 4, 3, 12, 16))
    rows = ([v.numpy() for name, v in found.items() if name.startswith(f"{row}.")] for row in Attentions._fields[:2])
    space, time = rows
    return space, time


TALL = Grid(4, 3, 4)  # of those models: 4 frames of 12 places


def with_residual(attention: torch.Tensor) -> torch.Tensor:
    mixed = attention + torch.eye(len(attention), dtype=torch.float64)
    return mixed / mixed.sum(dim=-1, keepdim=True)


def test_rollout_of_divided_attention_is_the_matrix_form() -> None:
    """Each direction as a matrix over the class token and all patches, frame after frame."""
    space, time = timesformer_attentions("divided_space_time")
    tokens = 1 + TALL.tokens
    number = 1 + torch.arange(TALL.tokens).reshape(4, 12)  # of a frame and a place
    result = torch.eye(tokens, dtype=torch.float64)
    for over_space, over_time in zip(space, time, strict=True):
        first = torch.eye(tokens, dtype=torch.float64)  # the class token takes no part
        for place, weights in enumerate(torch.from_numpy(over_time[0]).double().mean(1)):  # (T, T)
            first[number[:, place][:, None], number[:, place]] = with_residual(weights)
        second = torch.zeros(tokens, tokens, dtype=torch.float64)
        for frame, weights in enumerate(torch.from_numpy(over_space[0]).double().mean(1)):  # (1 + P, 1 + P)
            rows, mixed = torch.cat([torch.tensor([0]), number[frame]]), with_residual(weights)
            second[0, rows] += mixed[0] / 4
            second[number[frame][:, None], rows] = mixed[1:]
        result = second @ first @ result
    found = frame_attention_map(space, time, TALL)
    np.testing.assert_allclose(found, result[0, 1:].reshape(tuple(TALL)), rtol=1e-5)
    assert np.ptp(found) > 0.1 * found.max()
    assert found.sum() == pytest.approx(1 - result[0, 0].item(), rel=1e-5)


def test_rollout_within_frames_is_that_of_each_frame() -> None:
    space, time = timesformer_attentions("space_only")
    assert time == []
    found = frame_attention_map(space, time, TALL)
    for frame in range(4):
        alone = attention_map([layer[0, frame] for layer in space], Grid(1, 3, 4), "class-token")
        np.testing.assert_allclose(found[frame], alone[0] / 4, rtol=1e-5)


def test_the_last_layer_of_attention_in_two_directions_is_what_the_class_token_takes() -> None:
    space, time = timesformer_attentions("divided_space_time")
    taken = space[-1][0].mean(axis=1)[:, 0, 1:] / 4  # (T, h, 1 + P, 1 + P) -> (T, P)
    np.testing.assert_allclose(frame_attention_map(space, time, TALL, "last"), taken.reshape(TALL), rtol=1e-5)


def test_tokens_that_run_along_time_first_are_put_in_their_places() -> None:
    (layer, *_), _ = timesformer_attentions("joint_space_time")
    order = 1 + np.arange(TALL.tokens).reshape(12, 4).T.ravel()  # slice by slice
    rows = np.concatenate([[0], order])
    expected = attention_map([layer[0][:, rows][:, :, rows]], TALL, "class-token")
    found = attention_map([layer], TALL, "class-token", token_order="place-by-place")
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_attentions_in_two_directions_of_another_shape() -> None:
    space, time = timesformer_attentions("divided_space_time")
    with pytest.raises(ValueError, match=r"must be \(4, h, 13, 13\) for 4 groups of 13 tokens, got \(12, 3, 4, 4\)"):
        frame_attention_map(time, time, TALL)
    with pytest.raises(ValueError, match="one and the same layers, got 4 and 3 over time"):
        frame_attention_map(space, time[1:], TALL)
    with pytest.raises(ValueError, match="one and the same layers, got 0"):
        frame_attention_map([], [], TALL)
