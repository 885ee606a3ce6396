"""Frames: decoded pixels that know which frames of the file they are and when they were taken."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import VideoError


@dataclass(frozen=True, eq=False, repr=False)
class Frames:
    """Decoded frames of one video, upright.

    pixels:  uint8 (T, H, W, 3), RGB
    indices: int64 (T,), position of each frame in the file, from 0
    seconds: float64 (T,), time of each frame from the start of the file; rising, with repeats where a
             frame is repeated, and starting over where a short file is looped
    """

    pixels: NDArray[np.uint8]
    indices: NDArray[np.int64]
    seconds: NDArray[np.float64]

    def __post_init__(self) -> None:
        pixels = self.pixels
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
            found = pixels.dtype if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise VideoError(f"frames must be a uint8 array of RGB values from 0 to 255, got {found}")
        if pixels.ndim != 4 or pixels.shape[-1] != 3 or 0 in pixels.shape:
            raise VideoError(f"frames must be (T, H, W, 3), none of them 0, got frames.shape = {pixels.shape}")
        for name in ("indices", "seconds"):
            if getattr(self, name).shape != pixels.shape[:1]:
                raise VideoError(
                    f"{name} must be one for each of {len(pixels)} frames, got {name}.shape = "
                    f"{getattr(self, name).shape}"
                )

    @classmethod
    def from_array(cls, pixels: Any) -> "Frames":
        """uint8 (T, H, W, 3) RGB pixels of unknown origin: frame i is number i, and its time is unknown (NaN)."""
        count = len(pixels) if isinstance(pixels, np.ndarray) and pixels.ndim else 0
        return cls(pixels, np.arange(count), np.full(count, np.nan))

    def take(self, positions: NDArray[np.int64]) -> "Frames":
        """The frames at `positions` (T',) of this set, in that order, repeats kept."""
        return Frames(self.pixels[positions], self.indices[positions], self.seconds[positions])

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        count, height, width, _ = self.pixels.shape
        return f"Frames({count} of {width}x{height}, {self.seconds[0]:.3f} to {self.seconds[-1]:.3f} seconds)"
