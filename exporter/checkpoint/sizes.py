"""What a config implies, held against the weights before anything of that size is made.

The weights' own shapes are those of the headers of their files: nothing of them has been read.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from ...preprocess.errors import CheckpointError
from ...runtime.bundle.bundle import Task
from ..families.config import TransformerConfig
from ..families.family import Family

_HARMLESS = 1 << 24  # values; below, a list of the shapes that differ says more
_FIX = "take config.json and the weights from one and the same checkpoint"


def check_implied(config: TransformerConfig, task: Task, weights: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError where one weight that `config` implies has more values than all of the weights together,
    or where it implies more layers than there are weights: naming the fields.

    Whether each weight has its shape is for `account_for`, once a model of the config stands.
    """
    total = sum(value.numel() for value in weights.values())
    for fields, values in config.large_weights(task):
        if values > max(total, _HARMLESS):
            said = ", ".join(f"{config.hub_name(name)} {getattr(config, name)}" for name in fields)
            raise CheckpointError(
                f"config.json says {said}, which makes a weight of {values} values; the weights have {total} in all",
                fix=_FIX,
            )
    for name in ("num_hidden_layers", *config.further_layers.get(task, ())):
        if getattr(config, name) > len(weights):  # nor is there time to build as many as a config may claim
            raise CheckpointError(
                f"config.json says {name} {getattr(config, name)}, with {len(weights)} weights in all", fix=_FIX
            )


def of_one_tubelet(family: Family, config: TransformerConfig) -> TransformerConfig:
    """The config for the smallest clip, where the size of a clip shows in no weight that is stored. Positions that are
    computed are as large as the clip when a model is built.
    """
    if family.resize_stored is not None:
        return config
    frames, height, width = config.tubelet
    return replace(config, num_frames=frames, image_size=(height, width))
