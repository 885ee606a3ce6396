"""What the classes of a classifier are called."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from ..preprocess.errors import CheckpointError
from ..preprocess.spec import Family
from .hub import fetch_kinetics400_labels

_MOST = 1_000_000
_PLACEHOLDER = re.compile(r"LABEL_\d+")


def read_labels(path: Path, expected: int) -> tuple[str, ...]:
    """The names of the labels by index, from a file of the caller.

    A .json file holds a list of names, or an object of index to name as id2label in config.json; any other
    file is text, one name a line. Raises CheckpointError where it does not give `expected` names.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text) if path.suffix == ".json" else text.rstrip().splitlines()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"labels cannot be read from {path}: {error}") from error
    if isinstance(content, list):
        content = {str(index): name for index, name in enumerate(content)}
    names = _labels_by_index(content, str(path))
    if len(names) != expected:
        raise CheckpointError(f"{path} has {len(names)} labels, and the model has {expected}")
    return names


def _labels_by_index(id2label: Any, where: str) -> tuple[str, ...]:
    """The names of an object of index to name, in order; each index from 0 must have one."""
    if not isinstance(id2label, dict):
        raise CheckpointError(f"{where} must give a list of labels, or an object of index to label")
    names = tuple(id2label.get(str(index)) for index in range(len(id2label)))
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise CheckpointError(f"{where} must name each label from 0 to {len(names) - 1}, got {name!r} for {index}")
    return tuple(cast(str, name).strip() for name in names)


def choose_labels(
    settings: Mapping[str, Any],
    count: int,
    file: Path | None,
    *,
    from_hub: bool,
    family: Family,
    report: Callable[[str], None],
) -> tuple[str, ...]:
    """The names in the caller's `file`; else those of config.json, `settings`.

    A ViViT of the Hub with 400 labels and no names for them gets those of Kinetics-400, on which both
    published ones were trained. `report` is told where that is done, and where labels stay unnamed.
    """
    if file is not None:
        return read_labels(file, count)
    if count > _MOST:  # names of so many take longer than to find that the weights are of fewer
        raise CheckpointError(f"config.json says {count} labels, and no classifier has more than {_MOST}")
    unnamed = {str(index): f"LABEL_{index}" for index in range(count)}
    names = _labels_by_index(settings.get("id2label") or unnamed, "id2label of config.json")
    if not all(_PLACEHOLDER.fullmatch(name) for name in names):
        return names
    why = "the checkpoint gives no others"
    if family == "vivit" and count == 400 and from_hub:
        try:
            path = fetch_kinetics400_labels()
            kinetics = read_labels(path, count)
        except CheckpointError as error:
            why = error.message
        else:
            report(f"config.json names no labels; they are taken from {path.name} of huggingface/label-files")
            return kinetics
    report(f"labels remain {names[0]} to {names[-1]}: {why}; pass --labels FILE to name them")
    return names
