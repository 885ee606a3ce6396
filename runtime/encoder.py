"""VideoEncoder: a bundle that turns a video into features."""

import numpy as np
from numpy.typing import NDArray

from .model import VideoModel
from .reading import Video, prepare_crops, read_crops


class VideoEncoder(VideoModel):
    """A bundle for feature-extraction at work."""

    def features(self, video: Video) -> dict[str, NDArray[np.float32]]:
        """What the graph gives for each view of a video, float32 by name; one view, unless `reading` says more:

        last_hidden_state  (views, N, D)
        pooler_output      (views, P), where the checkpoint has a pooler
        hidden_states.i, attentions.i    (views, N, D) and (views, h, N, N), where they were asked for at the export

        The tokens N run along the width first, then the height, then time, behind the class token where there is one
        (`bundle.grid`, `bundle.readout`). Raises VideoError for what is no video, BackendError where the engine
        fails.
        """
        # One by one: the outputs of all views at once may be gigabytes.
        views = prepare_crops(read_crops(video, self.spec, self.reading), self.spec)
        parts = [self.run(views[i : i + 1]) for i in range(len(views))]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
