"""Pixels to files that players and browsers show: H.264 video, and animated GIF."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.filter import Graph
from av.video.stream import VideoStream
from numpy.typing import NDArray


def write_video(path: Path, pixels: NDArray[np.uint8], rate: int) -> None:
    """Writes uint8 RGB pixels (T, H, W, 3), both sides even, as H.264 of `rate` frames a second."""
    with av.open(path, "w") as container:
        # One thread, because x264's result depends on how many there are.
        stream = container.add_stream("libx264", rate=rate, options={"crf": "23", "threads": "1"})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(pixels):
            container.mux(stream.encode(_video_frame(picture, number, rate)))
        container.mux(stream.encode(None))


def write_gif(path: Path, pixels: NDArray[np.uint8], rate: int) -> None:
    """Writes uint8 RGB pixels (T, H, W, 3) as a GIF that repeats for ever.

    All frames share one palette of 256 colours made for them (FFmpeg's palettegen and paletteuse). Colours
    between are dithered in a fixed pattern, which stands still where the picture does and so costs few bytes.
    """
    height, width = pixels.shape[1:3]
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=Fraction(1, rate))
    split, palette = graph.add("split"), graph.add("palettegen", "stats_mode=full")
    apply, sink = graph.add("paletteuse", "dither=bayer:bayer_scale=5:diff_mode=rectangle"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(palette, 0)
    split.link_to(apply, 1, 0)
    palette.link_to(apply, 0, 1)
    apply.link_to(sink)
    graph.configure()
    for number, picture in enumerate(pixels):
        graph.vpush(_video_frame(picture, number, rate))
    graph.vpush(None)

    with av.open(path, "w") as container:
        stream = container.add_stream("gif", rate=rate)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = height, width
        stream.pix_fmt = "pal8"
        for _ in pixels:
            container.mux(stream.encode(graph.vpull()))
        container.mux(stream.encode(None))


def _video_frame(picture: NDArray[np.uint8], number: int, rate: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame.pts, frame.time_base = number, Fraction(1, rate)
    return frame
