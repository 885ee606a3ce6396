"""What is read off the weights of models as their authors publish them, and the processor that such models share."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ...preprocess.errors import CheckpointError


def shape_of(weights: Mapping[str, Tensor], name: str, family: str, key: str, axes: int) -> tuple[int, ...]:
    """The shape of a weight in the file `name`. It must be there and have so many axes, as in models of `family`."""
    found = weights.get(key)
    if found is None or found.ndim != axes or 0 in found.shape:
        what = "does not have it" if found is None else f"has it as {tuple(found.shape)}"
        raise CheckpointError(
            f"{name} is no {family} of the original code: {key} must have {axes} axes, none of them empty, and the "
            f"file {what}",
            fix="put the config.json of the model beside the file",
        )
    return tuple(found.shape)


def count_layers(weights: Mapping[str, Tensor], stem: str) -> int:
    """How many numbers follow `stem` in the names."""
    return len({match[1] for weight in weights if (match := re.match(rf"{re.escape(stem)}\.(\d+)\.", weight))})


def evaluation_processor(image_size: tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """The preprocessor_config.json of an evaluation that resizes the short side and cuts out the centre."""
    height, width = image_size
    return {
        "image_processor_type": "VideoMAEImageProcessor",
        "size": {"shortest_edge": min(image_size)},
        "crop_size": {"height": height, "width": width},
        "image_mean": list(mean),
        "image_std": list(std),
    }
