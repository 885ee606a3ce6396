"""The weights of a checkpoint: from tensors as stored to float32 ones under the names that our modules have.

Every key and shape is accounted for. A weight that is missing would stay random, and one that is left over
means that the file is of another model: either way the answers would be wrong without a sign of it.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ...preprocess.errors import CheckpointError
from ..families.family import Family
from .weight_files import shortened

# What wraps a module and shows in the names of its weights: in front of all of them, or anywhere.
_WRAPPERS = ("module.", "model.")
_MARKS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def without_wrappers(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The same tensors without what stands in front of every name, one wrapper in another. That is "module." of
    DistributedDataParallel and DataParallel, "model." of a Lightning module, "_orig_mod." of torch.compile. The last
    and its like mark a module that is wrapped by itself, too. So they go from the middle of names as well.

    Returns:
        The tensors, and the wrappers that were there.

    Raises:
        CheckpointError: Where two names become one.
    """
    names = {name: name for name in weights}  # as it is now: as it was
    wrappers: list[str] = []
    for mark in _MARKS:
        if any(mark in name for name in names):
            wrappers.append(mark)
            names = {name.replace(mark, ""): old for name, old in names.items()}
    while True:
        prefix = next((one for one in _WRAPPERS if names and all(name.startswith(one) for name in names)), None)
        if len(names) < len(weights):
            raise CheckpointError(f"two weights have one name without {' and '.join(wrappers)}")
        if prefix is None:
            return {name: weights[old] for name, old in names.items()}, wrappers
        wrappers.append(prefix)
        names = {name.removeprefix(prefix): old for name, old in names.items()}


def stored_names(weights: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """The same tensors under their names on the Hub.

    They may come as stored there, or as transformers 5 holds them in memory; other names stay as they are. Raises
    CheckpointError where two names mean one weight.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        stored = family.stored_name(name)
        if stored in renamed:
            raise CheckpointError(f"{family.name}: two weights are both {stored}; one of them is {name}")
        renamed[stored] = tensor
    return renamed


def of_encoder(weights: Mapping[str, Tensor], family: Family) -> tuple[dict[str, Tensor], list[str]]:
    """What a bare encoder has of these weights, under its names, which lack the family's in front. Beside them come
    the names of those of a head, which it has no use for.
    """
    prefixes = tuple(prefix for of_task in family.heads.values() for prefix in of_task)
    heads = [name for name in weights if name.startswith(prefixes)]
    return {name.removeprefix(f"{family.name}."): weights[name] for name in weights if name not in heads}, heads


def account_for(weights: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], family: Family) -> None:
    """Hold the weights against the names and shapes that the model needs.

    Raises CheckpointError with the list of what is missing, unexpected or mis-shaped.
    """
    classifies, draws = ("classifier.weight" in shapes), ("mask_token" in shapes)
    if classifies and "classifier.weight" not in weights:
        _refuse_other_models(weights, family)
    if draws and not _has_decoder(weights, family):
        raise CheckpointError(
            f"{family.name}: this checkpoint has no decoder: it is a classifier or an encoder, which draws no pixels",
            fix=f"take one that is pretrained only{family.such_as('masked-modeling')}, or --task feature-extraction",
        )
    missing = [name for name in shapes if name not in weights]
    unexpected = [name for name in weights if name not in shapes]
    misshaped = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(shape)}"
        for name, shape in shapes.items()
        if name in weights and weights[name].shape != shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "mis-shaped": misshaped}
    found = {what: names for what, names in found.items() if names}
    if found:
        counts = [f"{len(names)} {what}" for what, names in found.items()]
        number, _, first = counts[0].partition(" ")
        counts[0] = f"{number} {'key' if number == '1' else 'keys'} {first}"
        lines = [f"\n  {what + ':':<11} {shortened(names)}" for what, names in found.items()]
        raise CheckpointError(
            f"{family.name}: {', '.join(counts)}{''.join(lines)}",
            fix="take config.json and the weights from one and the same checkpoint",
        )


def _has_decoder(weights: Mapping[str, Tensor], family: Family) -> bool:
    prefixes = family.heads.get("masked-modeling", ())
    return any(name.startswith(prefixes) for name in weights)


def _refuse_other_models(weights: Mapping[str, Tensor], family: Family) -> None:
    """Say what a file without a classifier is, where its names tell."""
    if _has_decoder(weights, family):
        raise CheckpointError(
            f"{family.name}: this is a pretraining checkpoint, with a decoder that draws pixels and no classifier",
            fix="export it with --task masked-modeling or feature-extraction, or take one that is fine-tuned"
            f"{family.such_as('video-classification')}",
        )
    if any(name.startswith(("embeddings.", "encoder.")) for name in weights):
        raise CheckpointError(
            f"{family.name}: this is a bare encoder without a classifier; its names do not start with {family.name!r}",
            fix="export it with --task feature-extraction, or take a fine-tuned classifier",
        )


def to_float32(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights as float32; float32 ones are not copied.

    Raises CheckpointError for a weight that is not a float16, bfloat16, float32 or float64, or is not finite.
    """
    converted: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if tensor.dtype not in _FLOATS:
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(f"{name} must be float16, bfloat16, float32 or float64, got {dtype}")
        converted[name] = tensor.to(torch.float32)
        finite = torch.isfinite(converted[name])
        if not finite.all():
            raise CheckpointError(
                f"{name} has {int((~finite).sum())} of {finite.numel()} values that are NaN or infinite",
                fix="take weights from before the training diverged",
            )
    return converted
