"""Clips on which a model that merges tokens is steady, and how far its answer moves on others."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import write_checkpoint
from numpy.typing import NDArray

from tubelet.exporter import steady
from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.exporter.families.merging import Merge
from tubelet.exporter.graph.record import FRAME_SIZES, moving_clip, torch_run
from tubelet.exporter.graph.tasks import ExportedModel, exported_model
from tubelet.exporter.merge import merged_model
from tubelet.exporter.plan import clip_spec
from tubelet.exporter.steady import CLEAR, DRAWN, STEADY, TRIES, Choices, choices_of, steady_clips
from tubelet.preprocess.frames import Frames
from tubelet.preprocess.prepare import prepare
from tubelet.preprocess.spec import ClipSpec

Merged = tuple[ExportedModel, ClipSpec]


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Merged:
    folder = write_checkpoint(tmp_path_factory.mktemp("model") / "model", "videomae", image_size=(48, 48))
    checkpoint = load_checkpoint(str(folder), report=lambda _: None)
    return exported_model(merged_model(checkpoint.model, 12)), clip_spec(checkpoint, "pixel_values")


def draw(spec: ClipSpec) -> NDArray[Any]:
    return prepare(Frames.from_array(moving_clip(spec.num_frames, *FRAME_SIZES[0], seed=0)), spec)


def test_likenesses_are_off_by_what_counts_as_close() -> None:
    merge, random = Merge(2, first_stays=False), torch.Generator().manual_seed(0)
    metric = 30 * torch.randn(1, 400, 64, generator=random, dtype=torch.float64)
    _, _, off = steady._disturbing(random)(merge, (torch.ones(1), torch.ones(1), metric))
    moved = merge.likeness(off) - merge.likeness(metric)  # (1, 200, 200)
    assert float(moved.std()) == pytest.approx(CLEAR / 2, rel=0.05)
    assert float((moved[:, :, 0] - moved[:, :, 1]).std()) == pytest.approx(CLEAR / 2**0.5, rel=0.3)


def test_where_all_choices_are_clear_nothing_is_tried(merged: Merged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady, "CLEAR", 0.0)
    monkeypatch.setattr(steady, "_disturbing", pytest.fail)
    assert choices_of(*merged, draw(merged[1])).moved == 0


def test_what_close_choices_move_is_that_of_the_answers(merged: Merged, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where choices apart by 0.1 are close, some fall otherwise in every try."""
    model, spec = merged
    monkeypatch.setattr(steady, "CLEAR", 0.1)
    monkeypatch.setattr(steady, "STEADY", 9.0)  # so that no try is the last
    clip, run = draw(spec), torch_run(model, spec)
    merges = [module for module in model.modules() if isinstance(module, Merge)]

    def answer() -> NDArray[np.float32]:
        return run({spec.input_name: clip[np.newaxis]})["logits"]

    before, found = answer(), choices_of(model, spec, clip)
    off = []
    for seed in range(TRIES):
        disturb = steady._disturbing(torch.Generator().manual_seed(seed))
        hooks = [one.register_forward_pre_hook(disturb) for one in merges]
        off.append(np.abs(answer() - before).max())
        for hook in hooks:
            hook.remove()
    assert found.moved == pytest.approx(float(max(off)) / float(np.sqrt((before**2).mean())), rel=1e-5)
    assert found.moved > 100 * STEADY
    assert np.array_equal(before, answer())  # nothing of it stays


def examined(known: dict[int, Choices], asked: list[int]) -> Callable[..., Choices]:
    """`choices_of` of clips that are known by the order in which they are asked for."""

    def examine(*_: object) -> Choices:
        asked.append(len(asked))
        return known.get(asked[-1], Choices(1e-7, 5e-3))

    return examine


def test_the_first_steady_clip_is_taken_and_else_the_steadiest(merged: Merged, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    # The first size is steady at once, the second at the third clip, the third never, the fourth at the second.
    known = {0: Choices(2e-5, 0.0), 3: Choices(1e-7, 1e-6), 7: Choices(3e-8, 1e-3), 13: Choices(1e-6, STEADY)}
    monkeypatch.setattr(steady, "choices_of", examined(known, asked))
    seen = steady_clips(*merged, progress=lambda _: None)
    assert len(asked) == 1 + 3 + DRAWN + 2
    assert seen.seeds == (0, 1 + 2 * 4, 2 + 3 * 4, 3 + 1 * 4)
    assert (seen.narrowest, seen.moved, seen.elsewhere) == (3e-8, 1e-3, 5e-3)
