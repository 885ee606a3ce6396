"""The weight files of a checkpoint: from a folder to float32 tensors under the names that our modules have.

Every key and shape is accounted for. A weight that is missing would stay random, and one that is left over
means that the file is of another model: either way the answers would be wrong without a sign of it.
"""

import pickle
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..preprocess.errors import CheckpointError, MissingExtra
from ..preprocess.spec import Family
from .small_files import read_json

# The forms that weights come in, in the order in which transformers looks for them.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

# Names that transformers 5 gives to weights in memory, and those of the files, which it still writes.
_STORED_NAMES: dict[Family, dict[str, str]] = {
    "vivit": {
        "vivit.layers.": "vivit.encoder.layer.",
        ".attention.q_proj.": ".attention.attention.query.",
        ".attention.k_proj.": ".attention.attention.key.",
        ".attention.v_proj.": ".attention.attention.value.",
        ".attention.o_proj.": ".attention.output.dense.",
        ".mlp.fc1.": ".intermediate.dense.",
        ".mlp.fc2.": ".output.dense.",
    },
    "videomae": {
        ".attention.attention.query.bias": ".attention.attention.q_bias",
        ".attention.attention.value.bias": ".attention.attention.v_bias",
    },
}

# Weights that only a head has: what an encoder alone leaves out.
_HEADS = ("classifier.", "decoder.", "encoder_to_decoder.", "mask_token")

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_NAMES_SHOWN = 8


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of the first of WEIGHT_FILES that `folder` has, with their names and dtypes as stored.

    Raises CheckpointError where there is none, or where a file is damaged or holds more than tensors.
    """
    for name in WEIGHT_FILES:
        path = folder / name
        if path.is_file():
            return _read_shards(path) if path.suffix == ".json" else _read_file(path)
    original = next(iter(sorted(folder.glob("*.pth"))), None)
    raise CheckpointError(
        f"{folder} has no weights: none of {', '.join(WEIGHT_FILES)}",
        fix=None if original is None else f"name the file, with the config.json beside it: --model {original}",
    )


def shard_names(index: Path) -> list[str]:
    """The files that a *.index.json spreads its weights over. Raises CheckpointError for a damaged index."""
    return sorted(set(_weight_map(index).values()))


def _weight_map(index: Path) -> dict[str, str]:
    """Which file holds which weight. A file that is not right beside the index is refused."""
    try:
        weight_map = read_json(index)["weight_map"]
        shards = {str(name): str(shard) for name, shard in weight_map.items()}
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index.name} is damaged: it must map weights to files in weight_map") from error
    for shard in shards.values():
        if "/" in shard or "\\" in shard or shard in ("", ".", ".."):
            raise CheckpointError(f"{index.name} must name files beside it, got {shard!r}")
    return shards


def _read_shards(index: Path) -> dict[str, Tensor]:
    weight_map = _weight_map(index)
    weights: dict[str, Tensor] = {}
    for shard in shard_names(index):
        path = index.with_name(shard)
        if not path.is_file():
            raise CheckpointError(f"{index.name} names {shard}, which is not beside it")
        tensors = _read_file(path)
        if twice := weights.keys() & tensors.keys():
            raise CheckpointError(f"{shard} repeats weights of another shard: {shortened(sorted(twice))}")
        absent = [name for name, file in weight_map.items() if file == shard and name not in tensors]
        if absent:
            raise CheckpointError(f"{shard} lacks weights that {index.name} puts there: {shortened(absent)}")
        weights |= tensors
    return weights


def _read_file(path: Path) -> dict[str, Tensor]:
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingExtra("safetensors", "export", purpose=f"to read {path.name}") from error
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} is damaged: {error}", fix="fetch it again") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    content = load_pickle(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path.name} must hold a dict of tensors, got {type(content).__name__}")
    others = [str(name) for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if others:
        raise CheckpointError(
            f"{path.name} must hold a dict of tensors, got other things under {shortened(others)}",
            fix="save model.state_dict() alone",
        )
    return dict(content)


def load_pickle(path: Path, *, harmless: Sequence[type] = ()) -> Any:
    """What torch.save wrote to `path`, where that is tensors, plain values and objects of `harmless` classes.

    Nothing else is read, so the file cannot run code. Raises CheckpointError.
    """
    try:
        with torch.serialization.safe_globals(list(harmless)):
            # Files of torch before 1.6 are not zip archives and cannot be mapped into memory.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path.name} is damaged, or holds Python objects that could run code; only tensors are read",
            fix="save the weights as model.safetensors",
        ) from error
    except Exception as error:  # what a damaged archive raises depends on where the damage is
        raise CheckpointError(f"{path.name} is damaged: {error}", fix="fetch it again") from error


def stored_names(weights: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """The same tensors under their names on the Hub.

    They may come as stored there, as transformers 5 holds them in memory, or with the "module." that
    DistributedDataParallel puts in front; other names stay as they are. Raises CheckpointError where two
    names mean one weight.
    """
    prefix = "module." if all(name.startswith("module.") for name in weights) else ""
    renamed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        stored = name.removeprefix(prefix)
        if family == "vivit" and stored.startswith("layers."):  # of a bare encoder
            stored = f"encoder.layer.{stored.removeprefix('layers.')}"
        for held, replacement in _STORED_NAMES[family].items():
            stored = stored.replace(held, replacement)
        if stored in renamed:
            raise CheckpointError(f"{family}: two weights are both {stored}; one of them is {name}")
        renamed[stored] = tensor
    return renamed


def of_encoder(weights: Mapping[str, Tensor], family: Family) -> tuple[dict[str, Tensor], list[str]]:
    """What a bare encoder has of these weights, under its names, which lack the family's in front; and the names of
    those of a head, which it has no use for."""
    heads = [name for name in weights if name.startswith(_HEADS)]
    return {name.removeprefix(f"{family}."): weights[name] for name in weights if name not in heads}, heads


def account_for(weights: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], family: Family) -> None:
    """Holds the weights against the names and shapes that the model needs.

    Raises CheckpointError with the list of what is missing, unexpected or mis-shaped.
    """
    if "classifier.weight" in shapes and "classifier.weight" not in weights:
        _refuse_other_models(weights, family)
    if "mask_token" in shapes and not any(name.startswith(("decoder.", "mask_token")) for name in weights):
        raise CheckpointError(
            f"{family}: this checkpoint has no decoder: it is a classifier or an encoder, which draws no pixels",
            fix="take one that is pretrained only, such as MCG-NJU/videomae-base, or --task feature-extraction",
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
            f"{family}: {', '.join(counts)}{''.join(lines)}",
            fix="take config.json and the weights from one and the same checkpoint",
        )


def _refuse_other_models(weights: Mapping[str, Tensor], family: Family) -> None:
    """Says what a file without a classifier is, where its names tell."""
    if any(name.startswith(("decoder.", "encoder_to_decoder.")) for name in weights):
        raise CheckpointError(
            f"{family}: this is a pretraining checkpoint, with a decoder that draws pixels and no classifier",
            fix="export it with --task masked-modeling or feature-extraction, or take one that is fine-tuned, such as "
            "MCG-NJU/videomae-base-finetuned-kinetics",
        )
    if any(name.startswith("embeddings.") for name in weights):
        raise CheckpointError(
            f"{family}: this is a bare encoder without a classifier; its names do not start with {family!r}",
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


def shortened(names: Iterable[str]) -> str:
    """The names in a line, only the first few of a long list."""
    names = list(names)
    if len(names) <= _NAMES_SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMES_SHOWN])} and {len(names) - _NAMES_SHOWN} more"
