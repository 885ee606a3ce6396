"""VideoEncoder: a bundle that turns a video into features."""

import numpy as np
from numpy.typing import NDArray

from .model import VideoModel
from .reading import Video, prepare_crops, read_crops


class VideoEncoder(VideoModel):
    """A bundle for feature-extraction at work."""

    def features(self, video: Video) -> dict[str, NDArray[np.float32]]:
        """Turn a video into features: what the graph gives for each of its views.

        The tokens N run along the width first, then the height, then time. They run along time first where
        `bundle.token_order` says so. A class token, where there is one, comes before them (`bundle.grid`,
        `bundle.readout`).

        Args:
            video: what is read; see `read_clips`.

        Returns:
            float32 arrays by name: last_hidden_state (views, N, D); pooler_output (views, P), where the checkpoint has
            a pooler; hidden_states.i (views, N, D) and attentions.i (views, h, N, N), where the export asked for them.
            There is one view, unless `reading` says more. A TimeSformer with divided attention has attentions.i within
            frames: (views, T', h, 1 + P, 1 + P), for P places. Its temporal_attentions.i are (views, P, h, T', T').

        Raises:
            VideoError: for what is no video.
            BackendError: where the engine fails.
        """
        # One by one: the outputs of all views at once may be gigabytes.
        views = prepare_crops(read_crops(video, self.spec, self.reading), self.spec)
        parts = [self.run(views[i : i + 1]) for i in range(len(views))]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
