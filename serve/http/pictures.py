"""Frames as a page shows them: in a row, as JPEG in the text of an answer."""

import base64
from fractions import Fraction

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from ...runtime.visual.drawing import enlarged, spread

MOST_FRAMES = 16  # of a strip
LEAST_SIDE = 96  # pixels of each, so that those of tiny models are seen
_SCALE = 118  # FFmpeg's steps of quality: FF_QP2LAMBDA
_QUALITY = 3  # of 1 to 31, best first


def strip(pixels: NDArray[np.uint8]) -> str:
    """Put at most MOST_FRAMES frames of (T, H, W, 3) side by side, in time, as a JPEG's data URL."""
    shown = enlarged(pixels[spread(len(pixels), MOST_FRAMES)], LEAST_SIDE)
    row = np.concatenate(list(shown), axis=1)  # (T, H, W, 3) -> (H, T * W, 3)
    return f"data:image/jpeg;base64,{base64.b64encode(_jpeg(row)).decode()}"


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    """Encode uint8 RGB pixels (H, W, 3)."""
    encoder = VideoCodecContext.create("mjpeg", "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt = "yuvj420p"
    encoder.time_base = Fraction(1)
    encoder.options = {"flags": "+qscale", "global_quality": str(_QUALITY * _SCALE)}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format="yuvj420p")
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
