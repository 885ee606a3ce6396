"""Frames that show how a library resizes, and the sizes between which its rules differ."""

import numpy as np
from numpy.typing import NDArray

SIZES = {
    "landscape": ((240, 320), (224, 298)),
    "portrait": ((320, 240), (298, 224)),
    "enlarged": ((31, 45), (224, 325)),
    "huge": ((1080, 1920), (224, 398)),
    "odd": ((241, 427), (113, 199)),
    "tall": ((1280, 320), (896, 224)),
    "only the width changes": ((120, 200), (120, 97)),
    "only the height changes": ((200, 120), (97, 120)),
    "unchanged": ((224, 224), (224, 224)),
    "one pixel out": ((64, 48), (1, 1)),
    "one pixel in": ((1, 1), (5, 7)),
    "squeezed flat": ((50, 60), (400, 3)),
    "upright to square": ((1280, 720), (224, 224)),
    "on its side to square": ((720, 1280), (224, 224)),
    "small and upright": ((80, 60), (32, 40)),
    "small and on its side": ((60, 80), (40, 32)),
}


def frames_of(kind: str, height: int, width: int, count: int = 1, seed: int = 0) -> NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    if kind == "noise":
        return generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    # Black and white drive the filters with negative weights into both ends of the 8 bits.
    return generator.integers(0, 2, (count, height, width, 3), dtype=np.uint8) * np.uint8(255)
