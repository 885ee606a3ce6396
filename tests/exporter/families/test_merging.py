"""Merged tokens, against loops over single tokens in float64 (tests/support/merging_by_hand.py)."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from checkpoints import write_checkpoint
from merging_by_hand import classify_by_hand, merge_by_hand
from torch import Tensor

from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.exporter.families.attention import Attention, attend_with, eager_attention
from tubelet.exporter.families.merging import Merge, MergingEncoder, most_removed, tokens_by_layer
from tubelet.exporter.families.model import Model
from tubelet.exporter.graph.cost import matrix_products
from tubelet.exporter.graph.tasks import exported_model
from tubelet.exporter.graph.trace import onnx_sort
from tubelet.exporter.merge import merged_model, tokens_of
from tubelet.exporter.plan import clip_spec
from tubelet.exporter.steady import choices_of
from tubelet.preprocess.errors import CheckpointError, OutOfBounds

# ViViT reads a class token; VideoMAE the mean, or one token that is like the others. Tokens: 9, 32 and 32.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "vivit": ("vivit", {"num_hidden_layers": 3}),
    "videomae": ("videomae", {"num_hidden_layers": 3}),
    "videomae, first token": ("videomae", {"num_hidden_layers": 3, "use_mean_pooling": False}),
}


def load(folder: Path, name: str) -> Model:
    family, changes = MODELS[name]
    written = write_checkpoint(folder / "checkpoint", family, **changes)
    return load_checkpoint(str(written), report=lambda _: None).model


def clips(model: Model, batch: int) -> Tensor:
    return torch.randn((batch, *model.config.clip_shape), generator=torch.Generator().manual_seed(1))


def embed(model: Model, pixel_values: Tensor) -> Tensor:
    encoder: Any = next(iter(model.children()))
    tokens: Tensor = encoder.embeddings(pixel_values)
    return tokens


@pytest.mark.parametrize("removed", [1, 3, "all"])
@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_loops_over_tokens(name: str, removed: int | str, tmp_path: Path) -> None:
    model, batch = load(tmp_path, name), 2
    tokens = embed(model, clips(model, 1)).shape[1]
    first_stays = model.readout != "mean"
    count = most_removed(tokens, first_stays=first_stays) if removed == "all" else int(removed)
    merged = merged_model(model, count)
    with torch.inference_mode():
        before = model(clips(model, batch))
        got = merged(clips(model, batch))
        embedded = embed(model, clips(model, batch))
    expected = [classify_by_hand(model, row, count) for row in embedded]
    torch.testing.assert_close(got.double(), torch.stack([one.logits for one in expected]), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(got, before, atol=1e-4)  # something was merged
    assert [one.counts for one in expected] == [list(tokens_of(merged))] * batch
    with torch.inference_mode():
        torch.testing.assert_close(model(clips(model, batch)), before, atol=0, rtol=0)  # the caller's stays as it was


def test_loops_that_merge_nothing_are_the_model(tmp_path: Path) -> None:
    """What the loops are worth as an oracle."""
    for name in MODELS:
        model = load(tmp_path / name, name)
        with torch.inference_mode():
            expected = model(clips(model, 1))[0]
            (embedded,) = embed(model, clips(model, 1))
        by_hand = classify_by_hand(model, embedded, 0).logits
        torch.testing.assert_close(by_hand.float(), expected, atol=1e-5, rtol=1e-5)


def test_attention_in_steps_counts_sizes_as_the_fused_one_does(tmp_path: Path) -> None:
    merged = merged_model(load(tmp_path, "videomae"), 8)
    with torch.inference_mode():
        fused = merged(clips(merged, 2))
        attend_with(merged, eager_attention)
        torch.testing.assert_close(merged(clips(merged, 2)), fused, atol=1e-6, rtol=1e-5)
    assert any(isinstance(module, Attention) for module in merged.modules())


class Alone(torch.nn.Module):
    """A Merge between its inputs and outputs, to be traced."""

    def __init__(self, merge: Merge) -> None:
        super().__init__()
        self.merge = merge

    def forward(self, tokens: Tensor, sizes: Tensor, metric: Tensor) -> tuple[Tensor, Tensor]:
        merged: tuple[Tensor, Tensor] = self.merge(tokens, sizes, metric)
        return merged


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning", "ignore:.*The axis name.*:UserWarning")  # of torch
@pytest.mark.parametrize("first_stays", [True, False])
def test_of_equals_the_first_is_taken_in_torch_and_in_a_graph(first_stays: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    batch, count = 2, 13
    tokens = torch.from_numpy(random.standard_normal((batch, count, 5)).astype(np.float32))
    sizes = torch.from_numpy(random.integers(1, 4, (batch, count, 1)).astype(np.float32))
    # Two directions only: nearly every likeness is 1 or 0, many times over.
    metric = torch.eye(4)[torch.from_numpy(random.integers(0, 2, (batch, count)))]
    alone = Alone(Merge(4, first_stays=first_stays)).eval()
    got = alone(tokens, sizes, metric)
    for row in range(batch):
        whole = [int(size) for size in sizes[row, :, 0]]
        left, left_sizes = merge_by_hand(
            list(tokens[row].double()), whole, list(metric[row].double()), 4, first_stays=first_stays, gaps=[]
        )
        torch.testing.assert_close(got[0][row].double(), torch.stack(left), atol=1e-6, rtol=1e-6)
        assert got[1][row, :, 0].tolist() == left_sizes
    dynamic = {0: torch.export.Dim("batch")}
    program = torch.onnx.export(
        alone,
        (tokens, sizes, metric),
        dynamo=True,
        opset_version=20,
        input_names=["tokens", "sizes", "metric"],
        dynamic_shapes=(dynamic, dynamic, dynamic),
        custom_translation_table={torch.ops.aten.sort.stable: onnx_sort},
        verbose=False,
    )
    assert program is not None
    program.save(tmp_path / "merge.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "merge.onnx")
    given = {"tokens": tokens.numpy(), "sizes": sizes.numpy(), "metric": metric.numpy()}
    for ours, theirs in zip(session.run(None, given), got, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_layers_without_a_token_to_merge_leave_what_they_get(name: str, tmp_path: Path) -> None:
    family, changes = MODELS[name]
    written = write_checkpoint(tmp_path / "deep", family, **changes | {"num_hidden_layers": 8})
    model = load_checkpoint(str(written), report=lambda _: None).model
    tokens = embed(model, clips(model, 1)).shape[1]
    count = most_removed(tokens, first_stays=model.readout != "mean")
    merged = merged_model(model, count)
    assert tokens_of(merged)[-1] == (1 if name == "videomae" else 2)
    with torch.inference_mode():
        got = merged(clips(model, 1))
        (embedded,) = embed(model, clips(model, 1))
    by_hand = classify_by_hand(model, embedded, count).logits
    torch.testing.assert_close(got[0].double(), by_hand, atol=2e-5, rtol=1e-5)
    clip = np.asarray(clips(model, 1)[0])
    spec = clip_spec(load_checkpoint(str(written), report=lambda _: None), "pixel_values")
    assert 0 <= choices_of(exported_model(merged), spec, clip).narrowest < 2


def test_tokens_that_point_nowhere_are_merged_without_nan() -> None:
    merge = Merge(2, first_stays=False)
    tokens, sizes = merge(torch.ones(1, 6, 3), None, torch.zeros(1, 6, 4))
    assert torch.equal(tokens, torch.ones(1, 4, 3))
    assert sizes.sum() == 6


@pytest.mark.parametrize(
    ("removed", "first_stays", "counts"),
    [
        (300, True, (3137, 2837, 2537, 2237, 1937, 1637, 1337, 1037, 737, 437, 219, 110)),  # ViViT-B
        (150, False, (1568, 1418, 1268, 1118, 968, 818, 668, 518, 368, 218, 109, 55)),  # VideoMAE-B
    ],
)
def test_half_of_the_tokens_is_the_most(removed: int, first_stays: bool, counts: tuple[int, ...]) -> None:
    assert tokens_by_layer(counts[0], removed, 12, first_stays=first_stays) == counts


def test_the_narrowest_choice_is_that_of_the_loops(tmp_path: Path) -> None:
    for name in MODELS:
        folder = write_checkpoint(tmp_path / name, MODELS[name][0], **MODELS[name][1])
        checkpoint = load_checkpoint(str(folder), report=lambda _: None)
        model, spec = checkpoint.model, clip_spec(checkpoint, "pixel_values")
        clip = clips(model, 1)
        found = choices_of(exported_model(merged_model(model, 2)), spec, clip[0].numpy()).narrowest
        with torch.inference_mode():
            (embedded,) = embed(model, clip)
        assert found == pytest.approx(min(classify_by_hand(model, embedded, 2).gaps), abs=2e-6)


def test_merging_costs_less(tmp_path: Path) -> None:
    model = load(tmp_path, "videomae")
    macs = [sum(p.macs for p in matrix_products(exported_model(one))) for one in (model, merged_model(model, 8))]
    assert macs[1] < 0.9 * macs[0]


def test_more_than_half_is_refused_and_states_are_not_given(tmp_path: Path) -> None:
    model = load(tmp_path, "videomae")
    with pytest.raises(OutOfBounds, match="--merge must be from 1 to 16, half of the 32 tokens of a clip, got 17"):
        merged_model(model, 17)
    merged = merged_model(model, 4)
    with pytest.raises(CheckpointError, match="of a model that merges tokens are of no one tubelet"):
        exported_model(merged, ("hidden_states",))
    with pytest.raises(NotImplementedError, match="merged tokens are of no one tubelet"):
        merged.outputs(clips(merged, 1))
    assert sum(isinstance(module, MergingEncoder) for module in merged.modules()) == 1


REFUSED = [
    ("timesformer", {}, "attention over time and over space needs every token of a place and of a frame"),
    ("vjepa2", {}, "a merged token has no one place"),
    ("vivit", {"task": "feature-extraction"}, "it gives a row for each token"),
    ("videomae", {"task": "feature-extraction"}, "it gives a row for each token"),
]


@pytest.mark.parametrize(("family", "changes", "reason"), REFUSED, ids=[f"{row[0]} {row[1]}" for row in REFUSED])
def test_a_family_says_why_it_merges_nothing(family: str, changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / family, family, **changes)
    model = load_checkpoint(str(folder), report=lambda _: None).model
    with pytest.raises(CheckpointError, match=reason):
        merged_model(model, 1)
