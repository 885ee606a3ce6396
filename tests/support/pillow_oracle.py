"""Pillow 12 and 13 as the oracles for resizing, whichever is installed beside the tests."""

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from oracle import oracle

from tubelet.preprocess.spec import Resample

NUMBERS = {name: number for number, name in enumerate(get_args(Resample))}
PILLOWS = {"pillow": "pillow-12", "pillow-13": "pillow-13"}


def pillow_resize(frame: NDArray[np.uint8], size: Sequence[int], resample: str, arithmetic: str = "pillow") -> Any:
    """uint8 (H, W, 3) to uint8 (*size, 3)."""
    return oracle(PILLOWS[arithmetic]).ask("resize", np.ascontiguousarray(frame), size, NUMBERS[resample])
