"""What a model looked at when it answered, as a map over the clip that it was shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.frames import Frames
from ...preprocess.prepare import normalise, prepare
from ...preprocess.spec import ClipSpec
from ..bundle.bundle import Readout
from ..tokens import TubeletSize, token_grid
from .drawing import over_tubelets, overlay
from .rollout import Method, attention_map

# pixel_values float32 (1, T, C, H, W) or frames uint8 (1, T, H, W, C), as the graph takes them -> the attentions of
# each layer, the first layer first: float32 (1, h, N, N).
InferAttentions = Callable[[NDArray[Any]], Sequence[NDArray[np.float32]]]


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
    frames: Frames, spec: ClipSpec, tubelet: TubeletSize, readout: Readout, infer: InferAttentions, *, method: Method
) -> Explanation:
    """Run one clip and map what the model attended to; see `attention_map`.

    Args:
        frames: `spec.num_frames` of them.
        spec: the input contract.
        tubelet: what one token covers.
        readout: from which tokens the answer is read.
        infer: clips to the attentions of every layer.
        method: "rollout" or "last".

    Raises:
        VideoError: for another number of frames.
        ValueError: for attentions that are not of this clip's tokens.
    """
    clip = prepare(frames, replace(spec, layout="THWC"))  # (T, H, W, 3)
    attentions = infer((clip if spec.layout == "THWC" else normalise(clip, spec))[np.newaxis])
    heat = attention_map(attentions, token_grid(clip.shape[:3], tubelet), readout, method)
    return Explanation(clip, frames.seconds, heat, tubelet)
