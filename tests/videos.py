"""Small real videos whose frames carry their own number, so that a test sees which frames it was given.

The upper half of a picture is a coloured gradient that moves; the lower half is the number in binary, in
black and white blocks that are large enough to outlive lossy compression.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

ROWS, COLUMNS = 2, 6  # of blocks, so numbers go up to 4095


def draw(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture of frame `number`: uint8 (H, W, 3), where `size` is (width, height)."""
    width, height = size
    x, y = np.arange(width) / width, np.arange(height)[:, None] / height
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = 255 * ((x + number / 16) % 1)
    picture[..., 1] = 255 * y
    picture[..., 2] = 40 * (number % 6)
    for bit, block in enumerate(_blocks(picture)):
        block[:] = 255 * (number >> bit & 1)
    return picture


def index_of(picture: NDArray[np.uint8]) -> int:
    """The number that `draw` put in a picture (H, W, 3), decoded. Raises ValueError where a block is grey."""
    number = 0
    for bit, block in enumerate(_blocks(picture)):
        height, width, _ = block.shape
        inside = block[height // 4 : height - height // 4, width // 4 : width - width // 4].mean()
        if 80 < inside < 175:
            raise ValueError(f"block {bit} is neither black nor white but {inside:.0f}")
        number |= int(inside > 128) << bit
    return number


def _blocks(picture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Views of the blocks of a picture (H, W, 3), lowest bit first."""
    lower = picture[picture.shape[0] // 2 :]
    rows = np.array_split(lower, ROWS, axis=0)
    return [block for row in rows for block in np.array_split(row, COLUMNS, axis=1)]


def make_video(
    path: Path,
    *,
    frames: int = 30,
    size: tuple[int, int] = (96, 64),
    rate: int = 30,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    keyframe_every: int = 10,
    times: Sequence[int] | None = None,
    rotation: int = 0,
    codec_options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
) -> Path:
    """Writes a video of `frames` frames that `index_of` can read, numbered from 0, and returns its path.

    path:           its suffix says which container
    size:           (width, height) as displayed, so after `rotation`
    rate:           frames per second
    keyframe_every: frames from one keyframe to the next, at most; H.264 gets B-frames in between
    times:          of each frame in units of 1 / rate seconds; evenly spaced where not given
    rotation:       counter-clockwise degrees that the file asks a player for; frames are stored turned back
    """
    with av.open(path, "w", options=dict(container_options or {})) as container:
        stream = container.add_stream(codec, rate=rate, options=dict(codec_options or {}))
        assert isinstance(stream, VideoStream)
        width, height = size
        stream.width, stream.height = (height, width) if rotation % 180 == 90 else (width, height)
        stream.pix_fmt = pixel_format
        stream.gop_size = keyframe_every
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(frames):
            picture = np.rot90(draw(number, size), -(rotation // 90))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_sound(path: Path, *, seconds: float = 1.0, cover: bool = False) -> Path:
    """Writes silence, with a cover picture where asked for, and returns its path."""
    rate = 44100
    with av.open(path, "w") as container:
        sound = container.add_stream("libmp3lame", rate=rate)
        assert isinstance(sound, AudioStream)
        if cover:
            art = container.add_stream("png")
            art.width, art.height, art.pix_fmt = 64, 48, "rgb24"
            art.disposition = Disposition.attached_pic
        silence = av.AudioFrame.from_ndarray(np.zeros((2, int(rate * seconds)), np.float32), "fltp", "stereo")
        silence.rate = rate
        container.mux([*sound.encode(silence), *sound.encode(None)])
        if cover:
            picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux([*art.encode(picture), *art.encode(None)])
    return path
