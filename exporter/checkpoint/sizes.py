"""What a config implies, held against the weights before anything of that size is made.

The weights' own shapes are those of the headers of their files: nothing of them has been read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod

from torch import Tensor

from ...preprocess.errors import CheckpointError
from ...runtime.bundle.bundle import Task
from ..families.videomae import VideoMAEConfig
from ..families.vivit import VivitConfig

_HARMLESS = 1 << 24  # values; below, a list of the shapes that differ says more
_FIX = "take config.json and the weights from one and the same checkpoint"


def check_implied(config: VivitConfig | VideoMAEConfig, task: Task, weights: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError where one weight that `config` implies has more values than all of the weights together,
    or where it implies more layers than there are weights: naming the fields.

    Whether each weight has its shape is for `account_for`, once a model of the config stands.
    """
    total = sum(value.numel() for value in weights.values())
    for fields, values in _implied(config, task):
        if values > max(total, _HARMLESS):
            said = ", ".join(f"{name} {getattr(config, name)}" for name in fields)
            raise CheckpointError(
                f"config.json says {said}, which makes a weight of {values} values; the weights have {total} in all",
                fix=_FIX,
            )
    layers = ["num_hidden_layers", *(["decoder_num_hidden_layers"] if task == "masked-modeling" else [])]
    for name in layers:
        if getattr(config, name) > len(weights):  # nor is there time to build as many as a config may claim
            raise CheckpointError(
                f"config.json says {name} {getattr(config, name)}, with {len(weights)} weights in all", fix=_FIX
            )


def of_one_tubelet(config: VivitConfig | VideoMAEConfig) -> VivitConfig | VideoMAEConfig:
    """The config for the smallest clip, where the size of a clip shows in no weight that is stored: a VideoMAE computes
    its positions, as large as the clip is, when it is built."""
    if isinstance(config, VivitConfig):
        return config
    return replace(config, num_frames=config.tubelet_size, image_size=config.patch_size)


def _implied(config: VivitConfig | VideoMAEConfig, task: Task) -> Iterator[tuple[tuple[str, ...], int]]:
    """The fields that make up a weight, and how many values it has: of every kind of weight that is large."""
    width, pixels = config.hidden_size, prod(config.tubelet) * config.num_channels
    tubelet = ("tubelet_size", "num_channels") if isinstance(config, VivitConfig) else ("tubelet_size", "patch_size")
    yield ("hidden_size",), width * width
    yield ("hidden_size", *tubelet), width * pixels
    yield ("hidden_size", "intermediate_size"), width * config.intermediate_size
    if task == "video-classification":
        yield ("hidden_size", "num_labels"), width * config.num_labels
    if isinstance(config, VivitConfig):  # its positions are stored
        yield ("num_frames", "image_size", "hidden_size"), (1 + prod(config.grid)) * width
        if task == "feature-extraction" and config.pooler_output_size is not None:
            yield ("hidden_size", "pooler_output_size"), width * config.pooler_output_size
    elif task == "masked-modeling":
        inner = config.decoder_hidden_size
        yield ("decoder_hidden_size",), inner * inner
        yield ("decoder_hidden_size", "decoder_intermediate_size"), inner * config.decoder_intermediate_size
        yield ("decoder_hidden_size", *tubelet), inner * pixels
