"""The files that weights come in: safetensors and what torch.save writes, whole or in shards.

Nothing here runs code from a file. Tensors are mapped into memory where the form of the file allows it. So their
shapes are known before anything of their size is allocated.
"""

import pickle
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...preprocess.errors import CheckpointError, MissingExtra
from .small_files import read_json, refuse_lfs_pointer

# The forms that weights come in, in the order in which transformers looks for them.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_NAMES_SHOWN = 8


def weights_in(folder: Path) -> Path | None:
    """The first of WEIGHT_FILES that `folder` has."""
    return next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a weight file, or of the shards that an index names, as stored.

    Raises:
        CheckpointError: Where a file is damaged or holds more than tensors.
    """
    return _read_shards(path) if path.suffix == ".json" else _read_file(path)


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
        if any(character in shard for character in "/\\\0") or shard in ("", ".", "..") or len(shard) > 255:
            raise CheckpointError(f"{index.name} must name files beside it, got {shard[:80]!r}")
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
    weights = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    check_plain(weights, path.name)
    return weights


def check_plain(weights: Mapping[str, Tensor], name: str) -> None:
    """Raise CheckpointError for a tensor that is not laid out in full: sparse, quantized or without values. Likewise
    for a few values that stand for more, as which a small file can claim any size.
    """
    for key, tensor in weights.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain or tensor.is_nested or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            raise CheckpointError(
                f"{name} must hold dense tensors, and {key} is none", fix="save the weights as model.safetensors"
            )


def _start_of(path: Path) -> bytes:
    """The first bytes of a file of weights."""
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingExtra("safetensors", "export", purpose=f"to read {path.name}") from error
    refuse_lfs_pointer(path, _start_of(path))
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(f"{path.name} is damaged: {error}", fix="fetch it again") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    content = load_pickle(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path.name} must hold a dict of tensors, got {type(content).__name__}")
    others = odd_entries(content)
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
    refuse_lfs_pointer(path, _start_of(path))
    try:
        if zipfile.is_zipfile(path):
            _refuse_compression(path)
        with torch.serialization.safe_globals(list(harmless)):
            # Files of torch before 1.6 are not zip archives and cannot be mapped into memory.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path.name} is damaged, or holds Python objects that could run code; only tensors are read",
            fix="save the weights as model.safetensors",
        ) from error
    except Exception as error:  # what a damaged archive raises depends on where the damage is
        raise CheckpointError(f"{path.name} is damaged: {error}", fix="fetch it again") from error


def odd_entries(content: Mapping[Any, Any]) -> list[str]:
    """The keys of a dict under which there is no tensor. A key that is no text gives its type, never long."""
    return [
        name if isinstance(name, str) else f"a {type(name).__name__}"
        for name, value in content.items()
        if not (isinstance(name, str) and isinstance(value, Tensor))
    ]


def _refuse_compression(path: Path) -> None:
    """Raise CheckpointError where a part of the archive is compressed. torch writes none, and few bytes could become
    more than there is memory.
    """
    with zipfile.ZipFile(path) as archive:
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            raise CheckpointError(f"{path.name} is a compressed archive, which torch.save does not write")


def shortened(names: Iterable[str]) -> str:
    """The names in a line, only the first few of a long list."""
    names = list(names)
    if len(names) <= _NAMES_SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMES_SHOWN])} and {len(names) - _NAMES_SHOWN} more"
