"""What every baseline in torch answers when it is measured; see worker.py."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..preprocess.errors import BackendError
from .worker import Loaded, Settings, load_pixel_values


def ready(settings: Settings, model: Callable[[Tensor], Tensor], dtype: torch.dtype = torch.float32) -> Loaded:
    """model: pixel_values (B, T, C, H, W) of that type -> logits (B, K)."""

    def infer(pixel_values: NDArray[Any]) -> NDArray[np.float32]:
        try:
            with torch.inference_mode():
                logits: NDArray[np.float32] = model(torch.from_numpy(pixel_values).to(dtype)).float().numpy()
        except (RuntimeError, ValueError) as error:  # of the compiler, and for a clip that transformers does not take
            raise BackendError(f"{settings.engine} failed: {error}") from error
        return logits

    return load_pixel_values(infer, settings)
