"""A head that the authors of a model publish in a file of its own, put on an encoder."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...preprocess.errors import CheckpointError
from ..families.family import Family
from .overrides import Overrides
from .weight_files import check_plain, load_pickle, odd_entries
from .weights import without_wrappers

_HEAD = "classifier.weight"


def read_probe(path: Path, family: Family) -> dict[str, Tensor]:
    """Read the weights of the first head in a .pt file of the authors, under our classifier's names.

    Raises:
        CheckpointError: where the file holds none, or the family has none that are published apart.
    """
    if family.probe_names is None:
        raise CheckpointError(f"no heads of {family.title} are published apart", fix="leave --probe away")
    content = load_pickle(path)
    heads = content.get("classifiers") if isinstance(content, Mapping) else None
    if not isinstance(heads, list) or not heads or not isinstance(heads[0], Mapping) or odd_entries(heads[0]):
        raise CheckpointError(
            f"{path.name} must hold the weights of heads in a list under classifiers, as evals/ of the authors' code "
            "saves them"
        )
    check_plain(heads[0], path.name)
    weights, _ = without_wrappers(heads[0])
    named = family.probe_names(weights)
    if _HEAD not in named or named[_HEAD].ndim != 2:
        raise CheckpointError(f"{path.name} has no linear layer of labels, so it is no head of {family.title}")
    return named


def probed_settings(settings: Mapping[str, Any], probe: Mapping[str, Tensor], family: Family) -> dict[str, Any]:
    """What config.json of the encoder would say with the head of these weights on it."""
    layers = {match[1] for name in probe if (match := re.match(r"pooler\.self_attention_layers\.(\d+)\.", name))}
    kept = {key: value for key, value in settings.items() if key not in ("id2label", "label2id", "problem_type")}
    return {
        **kept,
        "architectures": [family.architecture("video-classification")],
        "num_labels": len(probe[_HEAD]),
        "num_pooler_layers": len(layers),
    }


def with_probe(weights: Mapping[str, Tensor], probe: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """The weights of a classifier: those of the encoder, and the head's in the place of any other."""
    heads = family.heads["video-classification"]
    prefix = f"{family.name}."
    encoder = {name: value for name, value in weights.items() if not name.startswith(heads)}
    return {prefix + name.removeprefix(prefix): value for name, value in encoder.items()} | dict(probe)


def require_layers(overrides: Overrides) -> None:
    """Raise CheckpointError for a probe without the layers that it reads, which show in none of its weights."""
    if overrides.probe is not None and not overrides.probe_layers:
        raise CheckpointError(
            "which layers of the encoder a probe reads shows in none of its weights",
            fix="of a ViT-L, --probe-layers 23 for Something-Something v2 and 17,19,21,23 for Diving48 and Jester; "
            "of a ViT-g, 39 and 24,29,34,39",
        )
