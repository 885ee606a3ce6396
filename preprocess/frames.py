"""Timeline: when the frames of a file are shown. Frames: some of them decoded."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import VideoError


@dataclass(frozen=True, eq=False)
class Timeline:
    """Every frame of a file before any is decoded: what a clip is chosen from.

    seconds:          float64 (N,), time of each frame from the start of the file, rising; all NaN where the
                      file has no timestamps or they do not rise
    rounding_seconds: how far each time may be off: half a tick, or 0 where a tick is one frame
    """

    seconds: NDArray[np.float64]
    rounding_seconds: float

    @property
    def is_timed(self) -> bool:
        """Whether the times are known and rise."""
        return bool(np.isfinite(self.seconds).all() and (np.diff(self.seconds) > 0).all())

    @property
    def is_variable(self) -> bool | None:
        """Whether the distance between frames varies by more than rounding makes it; None without times."""
        if not self.is_timed:
            return None
        steps = np.diff(self.seconds)
        # Rounding moves the ends of a step by up to half a tick each; the last digits of float64 are no step.
        return len(steps) > 0 and bool(np.ptp(steps) > 2 * self.rounding_seconds + 1e-9)

    def __len__(self) -> int:
        return len(self.seconds)


@dataclass(frozen=True, eq=False, repr=False)
class Frames:
    """Decoded frames of one video.

    pixels:          uint8 (T, H, W, 3), RGB
    indices:         int64 (T,), position of each frame in the file, from 0, as asked for
    seconds:         float64 (T,), time of each frame from the start of the file; rising, with repeats where a
                     frame is repeated, and starting over where a short file is looped
    stood_in:        bool (T,), whether the frame at that position could not be decoded; the nearest one that could
                     stands in
    skipped_packets: number of corrupt packets that were passed over on the way to these frames
    """

    pixels: NDArray[np.uint8]
    indices: NDArray[np.int64]
    seconds: NDArray[np.float64]
    stood_in: NDArray[np.bool_]
    skipped_packets: int = 0

    def __post_init__(self) -> None:
        pixels = self.pixels
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
            found = pixels.dtype if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise VideoError(f"frames must be a uint8 array of RGB values from 0 to 255, got {found}")
        if pixels.ndim != 4 or pixels.shape[-1] != 3 or 0 in pixels.shape:
            raise VideoError(f"frames must be (T, H, W, 3), none of them 0, got frames.shape = {pixels.shape}")
        for name in ("indices", "seconds", "stood_in"):
            if getattr(self, name).shape != pixels.shape[:1]:
                raise VideoError(
                    f"{name} must be one for each of {len(pixels)} frames, got {name}.shape = "
                    f"{getattr(self, name).shape}"
                )

    @classmethod
    def from_array(cls, pixels: Any) -> "Frames":
        """uint8 (T, H, W, 3) RGB pixels of unknown origin. Frame i is number i, and its time is unknown (NaN)."""
        count = len(pixels) if isinstance(pixels, np.ndarray) and pixels.ndim else 0
        return cls(pixels, np.arange(count), np.full(count, np.nan), np.zeros(count, np.bool_))

    @property
    def timeline(self) -> Timeline:
        """These frames as a whole video to choose from, their times taken as exact."""
        return Timeline(self.seconds, rounding_seconds=0.0)

    def take(self, positions: NDArray[np.int64]) -> "Frames":
        """The frames at `positions` (T',) of this set, in that order, repeats kept."""
        return Frames(
            self.pixels[positions],
            self.indices[positions],
            self.seconds[positions],
            self.stood_in[positions],
            self.skipped_packets,
        )

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        count, height, width, _ = self.pixels.shape
        return f"Frames({count} of {width}x{height}, {self.seconds[0]:.3f} to {self.seconds[-1]:.3f} seconds)"
