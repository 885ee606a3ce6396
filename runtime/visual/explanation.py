"""What a model looked at when it answered, as a map over the clip that it was shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...preprocess.frames import Frames
from ...preprocess.prepare import normalise, prepare
from ...preprocess.spec import ClipSpec
from ..bundle.bundle import Readout, TokenOrder
from ..tokens import TubeletSize, token_grid
from .drawing import over_tubelets, overlay
from .frame_rollout import frame_attention_map
from .rollout import Method, attention_map


class Attentions(NamedTuple):
    """The attention weights of one clip, of each layer, the first layer first.

    attentions:           float32 (1, h, N, N); or (1, T, h, 1 + P, 1 + P), for attention within frames
    temporal_attentions:  float32 (1, P, h, T, T), of models that attend within places before; or none
    pooler_attentions:    float32 (1, h, N, N), last (1, h, 1, N), of models whose query reads the tokens; or none
    """

    attentions: Sequence[NDArray[np.float32]]
    temporal_attentions: Sequence[NDArray[np.float32]]
    pooler_attentions: Sequence[NDArray[np.float32]] = ()


# pixel_values float32 (1, T, C, H, W) or frames uint8 (1, T, H, W, C), as the graph takes them -> its attentions.
InferAttentions = Callable[[NDArray[Any]], Attentions]


@dataclass(frozen=True, eq=False)
class Explanation:
    """One clip, and how much each of its tubelets counted.

    frames:  uint8 (T, H, W, 3), resized and cropped as for the model
    seconds: float64 (T,), when they were taken, NaN where the file has no times
    heat:    float32 (T', H', W'), of each tubelet
    """

    frames: NDArray[np.uint8]
    seconds: NDArray[np.float64]
    heat: NDArray[np.float32]
    tubelet: TubeletSize

    def overlay(self) -> NDArray[np.uint8]:
        """The frames under the colours of the map: uint8 (T, H, W, 3)."""
        num_frames, height, width, _ = self.frames.shape
        return overlay(self.frames, over_tubelets(self.heat, (num_frames, height, width), self.tubelet))


def explain_clip(
    frames: Frames,
    spec: ClipSpec,
    tubelet: TubeletSize,
    readout: Readout,
    infer: InferAttentions,
    *,
    method: Method,
    token_order: TokenOrder = "slice-by-slice",
) -> Explanation:
    """Run one clip and map what the model attended to; see `attention_map` and `frame_attention_map`.

    Args:
        frames: `spec.num_frames` of them.
        spec: the input contract.
        tubelet: what one token covers.
        readout: from which tokens the answer is read.
        infer: clips to the attentions of every layer.
        method: "rollout" or "last".
        token_order: how tokens lie where each attends to all of the clip.

    Raises:
        VideoError: for another number of frames.
        ValueError: for attentions that are not of this clip's tokens.
    """
    clip = prepare(frames, replace(spec, layout="THWC"))  # (T, H, W, 3)
    found = infer((clip if spec.layout == "THWC" else normalise(clip, spec))[np.newaxis])
    grid = token_grid(clip.shape[:3], tubelet)
    if found.temporal_attentions or found.attentions[0].ndim == 5:
        heat = frame_attention_map(found.attentions, found.temporal_attentions, grid, method)
    else:
        layers = [*found.attentions, *found.pooler_attentions]
        heat = attention_map(layers, grid, readout, method, token_order=token_order)
    return Explanation(clip, frames.seconds, heat, tubelet)
