"""Clips for the proof of a model that merges tokens: such as rounding does not move its answer on.

A choice between two merges may be closer than an engine's rounding. It then may fall otherwise there, and the answer
moves by more than rounding. At full size thousands of choices are made in one clip, so every clip has close ones.
Whether they matter torch says, when it answers again with likenesses that are a little off.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from ..preprocess.frames import Frames
from ..preprocess.prepare import prepare
from ..preprocess.spec import ClipSpec
from ..runtime.progress import Progress
from .families.merging import Merge
from .graph.record import FRAME_SIZES, moving_clip, torch_run
from .graph.tasks import ExportedModel

# Choices that are apart by this fall the same way in every engine that computes in float32, whose likenesses differ by
# about 1e-6.
CLEAR = 1e-5
# An answer that moves by less, as a share of the root mean square of its values, leaves most of what the limit on a
# graph in float32 allows: 1e-4 of that size, and as much of each value.
STEADY = 2e-5
TRIES = 8  # answers with likenesses that are off
DRAWN = 8  # clips of each size of frames


class Choices(NamedTuple):
    """What is chosen in a clip.

    narrowest:  how far apart the closest choice between two merges was
    moved:      how far the answer moves where close ones fall otherwise, as a share of its root mean square
    """

    narrowest: float
    moved: float


class SteadyClips(NamedTuple):
    """Clips for a reference.

    seeds:      one for each of FRAME_SIZES
    narrowest:  the closest choice in their clips
    moved:      how far the answer moves in one of them, at the most
    elsewhere:  how far it moves in a clip that was drawn, at the most: taken or not
    """

    seeds: tuple[int, ...]
    narrowest: float
    moved: float
    elsewhere: float


def steady_clips(merged: ExportedModel, spec: ClipSpec, *, progress: Progress) -> SteadyClips:
    """Draw clips on which the answer is steady, or the steadiest of DRAWN where none is."""
    seeds: list[int] = []
    taken: list[Choices] = []
    drawn: list[Choices] = []
    for first, (height, width) in enumerate(FRAME_SIZES):
        found: dict[int, Choices] = {}
        for seed in range(first, first + DRAWN * len(FRAME_SIZES), len(FRAME_SIZES)):
            progress(f"looking for clips on which merging is steady, {seed + 1}")
            clip = moving_clip(spec.num_frames, height, width, seed=seed)
            found[seed] = choices_of(merged, spec, prepare(Frames.from_array(clip), spec))
            if found[seed].moved <= STEADY:
                break
        best = min(found, key=lambda seed: found[seed].moved)
        seeds.append(best)
        taken.append(found[best])
        drawn += found.values()
    return SteadyClips(
        tuple(seeds),
        narrowest=min(one.narrowest for one in taken),
        moved=max(one.moved for one in taken),
        elsewhere=max(one.moved for one in drawn),
    )


def choices_of(merged: ExportedModel, spec: ClipSpec, clip: NDArray[Any]) -> Choices:
    """Examine what is chosen in a clip as `spec` prepares it. Tries end with the first that moves the answer by more
    than STEADY."""
    run = torch_run(merged, spec)
    merges = [module for module in merged.modules() if isinstance(module, Merge)]
    gaps: list[float] = []

    def answer() -> NDArray[np.float64]:
        return run({spec.input_name: clip[np.newaxis]})["logits"].astype(np.float64)  # (1, K)

    with _hooked(merge.register_forward_hook(_noting(gaps)) for merge in merges):
        recorded = answer()
    narrowest, moved = min(gaps), 0.0
    size = float(np.sqrt((recorded**2).mean())) or 1.0
    for seed in range(TRIES if narrowest < CLEAR else 0):
        disturb = _disturbing(torch.Generator().manual_seed(seed))
        with _hooked(merge.register_forward_pre_hook(disturb) for merge in merges):
            moved = max(moved, float(np.abs(answer() - recorded).max()) / size)
        if moved > STEADY:
            break
    return Choices(narrowest, moved)


@contextmanager
def _hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """A block with these hooks, which are taken off at its end."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


def _noting(gaps: list[float]) -> Callable[[Merge, tuple[Tensor, ...], object], None]:
    """A hook that adds the closest choice of each layer to `gaps`."""

    def note(merge: Merge, given: tuple[Tensor, ...], _: object) -> None:
        gaps.append(merge.narrowest(given[2]))

    return note


def _disturbing(random: torch.Generator) -> Callable[[Merge, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """A hook that changes nothing but which tokens are alike: two likenesses move apart by 0.7 CLEAR, one standard
    deviation.

    Noise of s in every value of two rows of length 1 moves their product by s * sqrt(2).
    """

    def disturb(_: Merge, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        tokens, sizes, metric = given
        length = torch.linalg.vector_norm(metric, dim=2, keepdim=True)  # (B, N, 1)
        noise = torch.randn(metric.shape, generator=random)  # (B, N, d)
        return tokens, sizes, metric + noise * length * (CLEAR / 2**1.5)

    return disturb
