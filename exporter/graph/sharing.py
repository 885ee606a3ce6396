"""A module changed for one purpose, beside the caller's own."""

import copy
from typing import TypeVar

from torch import nn

Built = TypeVar("Built", bound=nn.Module)


def sharing_weights(model: Built) -> Built:
    """Copy the modules of `model`, around the very same parameters and buffers.

    The copy may attend otherwise, or be in another mode, and `model` stays as it is. It takes no memory to speak of.

    Args:
        model: any module.

    Returns:
        A module of the same class. What is written into a weight shows in both.
    """
    tensors = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
