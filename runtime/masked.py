"""MaskedVideoModel: a bundle that draws what it is not shown."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..preprocess.errors import BundleError, OutOfBounds
from .model import VideoModel
from .reading import Video, as_read
from .tokens import TubeMask
from .visual.reconstruction import Pretraining, Reconstruction, reconstruct_clip


class MaskedVideoModel(VideoModel):
    """A bundle for masked-modeling at work."""

    @property
    def pretraining(self) -> Pretraining:
        """How many tokens its graph is made to draw, and how its pixels come out."""
        counts = {graph_input.name: graph_input.shape[1] for graph_input in self.bundle.graphs[0].inputs}
        masked = counts.get("masked")
        if not isinstance(masked, int) or self.bundle.norm_pix_loss is None:
            raise BundleError(f"{self.bundle.path} does not say what its graph draws", fix="export it again")
        return Pretraining(self.bundle.tubelet, masked, self.bundle.norm_pix_loss)

    def reconstruct(self, video: Video, *, seed: int = 0) -> Reconstruction:
        """Hide most tubelets of one clip of a video, and have the model draw them from the others.

        Args:
            video: what is read; see `read_clips`.
            seed: chooses the tubelets, 0 or more.

        Raises:
            OutOfBounds: for a seed below 0.
            VideoError: for what is no video.
            BackendError: where the engine fails.
        """

        def infer(clips: NDArray[Any], mask: TubeMask) -> NDArray[np.float32]:
            return self.run(clips, **mask._asdict())["logits"]

        if seed < 0:
            raise OutOfBounds(f"seed must be 0 or more, got {seed}")
        return reconstruct_clip(self._one_clip(video), as_read(self.spec), self.pretraining, infer, seed=seed)
