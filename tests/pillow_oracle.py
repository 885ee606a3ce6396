"""Pillow as the oracle for resizing, its passes in the order of Pillow 12 whatever version is installed."""

from typing import get_args

import numpy as np
import PIL
from PIL import Image
from tubelet.preprocess.spec import Resample

NUMBERS = {name: number for number, name in enumerate(get_args(Resample))}


def goes_vertical_first(in_size, out_size):
    """Whether the installed Pillow resamples these (height, width) in the other order (13.0, PR #9549)."""
    lost_height, lost_width = in_size[0] - out_size[0], in_size[1] - out_size[1]
    return int(PIL.__version__.split(".")[0]) >= 13 and lost_height > 0 and lost_height > 2 * lost_width


def pillow_resize(frame, size, resample):
    """uint8 (H, W, 3) to uint8 (*size, 3)."""
    image, number, (height, width) = Image.fromarray(frame), NUMBERS[resample], size
    if resample != "nearest" and goes_vertical_first(frame.shape[:2], size):
        image = image.resize((width, image.height), number)  # one pass only
    return np.asarray(image.resize((width, height), number))
