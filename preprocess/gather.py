"""Frames on their way from the decoder into the arrays that a reading keeps.

Each is converted as it arrives and fitted with others of its size. So few large frames are ever held at once.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from .container import OpenVideo
from .convert import Converter
from .errors import VideoError
from .frames import Frames, Timeline
from .resize import Pixels
from .sources import Source
from .video_info import CountedBy

# Pixels uint8 (N, H, W, 3) -> what a reading keeps of them, one or several (N, H', W', 3): crops of the resized frame.
Fit = Callable[[Pixels], Sequence[Pixels]]

_GROUP_BYTES = 64 << 20  # of frames that are fitted together, which is faster than one by one


class Arrival(NamedTuple):
    """A frame, its position in the file, and the position for which it was wanted. They differ where it stands in for
    a frame that cannot be decoded.
    """

    wanted: int
    position: int
    frame: VideoFrame


class Decoding(NamedTuple):
    """A file on its way through the decoder; `arriving` yields one frame for each of `indices`, once."""

    video: OpenVideo
    timeline: Timeline
    counted_by: CountedBy
    indices: NDArray[np.int64]
    arriving: Iterator[Arrival]


class _Group:
    """Frames of one size that wait to be fitted together, and which of the wanted each of them is."""

    def __init__(self) -> None:
        self.pictures: list[Pixels] = []
        self.wanted: list[int] = []

    def takes(self, picture: Pixels) -> bool:
        """Whether a picture (H, W, 3) has the size of those here, and there is room for it."""
        if not self.pictures:
            return True
        return picture.shape == self.pictures[0].shape and (len(self.pictures) + 1) * picture.size <= _GROUP_BYTES

    def add(self, picture: Pixels, wanted: int) -> None:
        self.pictures.append(picture)
        self.wanted.append(wanted)


def gather(reading: Decoding, converter: Converter, fit: Fit) -> list[Frames]:
    """Convert each frame as it arrives and fit it with others of its size. Put it where `indices` (T,) wants it."""
    source, indices = reading.video.source, reading.indices
    kept: list[Pixels] = []
    stood_in = np.zeros(len(indices), np.bool_)
    group = _Group()

    def keep() -> None:
        # (H, W, 3) each -> (N, H, W, 3); a single one, which may be large, is not copied
        fitted = fit(np.stack(group.pictures) if len(group.pictures) > 1 else group.pictures[0][np.newaxis])
        if not kept:
            kept.extend(_rooms(source, len(indices), fitted))
        for room, pixels in zip(kept, fitted, strict=True):
            if pixels.shape[1:] != room.shape[1:]:
                raise VideoError(
                    f"{source} changes its frame size: {_size(room)} before frame {group.wanted[0]}, {_size(pixels)} "
                    "from there",
                    fix="re-encode it to one size: ffmpeg -i IN -vf scale=WIDTH:HEIGHT OUT",
                )
            for picture, wanted in zip(pixels, group.wanted, strict=True):
                room[indices == wanted] = picture

    for wanted, position, frame in reading.arriving:
        picture = converter.pixels(frame)
        if not group.takes(picture):
            keep()
            group = _Group()
        group.add(picture, wanted)
        stood_in[indices == wanted] = position != wanted
    keep()
    seconds, skipped = reading.timeline.seconds[indices], len(reading.video.skipped)
    return [Frames(pixels, indices, seconds, stood_in, skipped) for pixels in kept]


def _rooms(source: Source, count: int, fitted: Sequence[Pixels]) -> list[Pixels]:
    """Room (count, H, W, 3) for `count` frames like each of these, within reason: a header can claim any size."""
    needed = count * sum(pixels[0].size for pixels in fitted)
    if needed > source.max_bytes:
        raise VideoError(
            f"{count} frames of {source} are {needed / (1 << 20):.0f} MB at {_size(fitted[0])}, and a reading may hold "
            f"{source.max_mb} MB",
            fix="take fewer, have them resized while they are read, or allow more: --max-mb, or Reading(max_mb=...) "
            "in Python",
        )
    return [np.empty((count, *pixels.shape[1:]), np.uint8) for pixels in fitted]


def _size(pixels: Pixels) -> str:
    height, width, _ = pixels.shape[-3:]
    return f"{width}x{height}"
