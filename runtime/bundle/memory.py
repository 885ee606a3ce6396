"""How many clips of a bundle the memory of this machine holds at once."""

from math import prod

import numpy as np

from ..bounds import Bound
from ..system import usable_memory_bytes
from .bundle import Bundle


def clips_at_once(bundle: Bundle, name: str) -> Bound:
    """How many clips a batch may be of, by the memory there is. They may take half of it, because the model and what
    it computes need more than the clips. name: of the number that is bounded.
    """
    clip = bundle.graphs[0].inputs[0]
    size = prod(side for side in clip.shape[1:] if isinstance(side, int)) * np.dtype(clip.dtype).itemsize
    memory = usable_memory_bytes()
    if memory is None:
        return Bound(name, 1, 2**16, "how much memory there is, the system does not say")
    why = f"a clip is {size / 1e6:.2g} MB, and half of the memory is {memory / 2e9:.2g} GB"
    return Bound(name, 1, max(1, memory // 2 // size), why)
