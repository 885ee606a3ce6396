"""LoRA adapters of PEFT: a few small matrices on top of a checkpoint, which are added into its weights.

A layer of weight W, with A (r, in) and B (out, r), becomes W + s B A. There s is alpha / r, or alpha / sqrt(r) with
rank-stabilised LoRA (Hu et al. 2021, arXiv:2106.09685; Kalajdzievski 2023, arXiv:2312.03732). What this does not cover
is refused, and every weight of the adapter must have a place.

Reference: peft 0.21, `LoraConfig`, `LoraLayer` and `get_peft_model_state_dict`.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ...preprocess.errors import CheckpointError
from ..families.family import Family
from .hub import fetch_weights
from .small_files import read_json_object
from .source import ADAPTER_CONFIG, ADAPTER_FILES, Source, locate
from .weight_files import read_weights, shortened
from .weights import of_encoder, stored_names, to_float32, without_wrappers

_MERGE = (
    "merge it with PEFT: model.merge_and_unload().save_pretrained(FOLDER), put preprocessor_config.json there, and "
    "export FOLDER"
)
# Keys of adapter_config.json under which anything but nothing means another arithmetic.
_OTHER_ARITHMETIC = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "layer_replication",
    "megatron_config",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "velora_config",
    "monteclora_config",
)
# Ways to start a training that leave the base as it is; the others move a part of it into the adapter.
_INITIALISATIONS = (True, False, None, "gaussian", "eva", "orthogonal")
_MATRIX = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")
_SAVED = re.compile(r"\.modules_to_save(\.default)?(?=\.)")
# Keys of rank_pattern and alpha_pattern are regular expressions: without repetition they end in time.
_PATTERN = re.compile(r"(?:[\w.^$-]|\\[.d])+")


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA adapter.

    base:      the checkpoint that it belongs on
    settings:  what adapter_config.json says
    weights:   float32, by the names of the model that was trained
    own:       the config.json beside the adapter, of the model as it was trained, where there is one
    """

    base: Source
    settings: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    own: Mapping[str, Any] | None


def open_adapter(source: Source, report: Callable[[str], None]) -> Adapter:
    """Read the adapter in `source` and find its base: a folder, seen from here, or an id on the Hub.

    Raises:
        CheckpointError: Where it is no adapter, one of another kind, or its base is not at hand.
    """
    settings = read_json_object(source.folder / ADAPTER_CONFIG)
    _check(settings)
    if source.commit is None:
        path = next((source.folder / name for name in ADAPTER_FILES if (source.folder / name).is_file()), None)
        if path is None:
            raise CheckpointError(f"{source.folder} has an {ADAPTER_CONFIG}, and none of {', '.join(ADAPTER_FILES)}")
    else:
        path = fetch_weights(source.model_id, source.commit, ADAPTER_FILES, report)
    own = source.folder / "config.json"
    base = _base(source, settings, report)
    return Adapter(
        base=base,
        settings=settings,
        weights=to_float32(_trained_names(read_weights(path), path.name)),
        own=read_json_object(own) if own.exists() else None,
    )


def _base(source: Source, settings: Mapping[str, Any], report: Callable[[str], None]) -> Source:
    named, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not isinstance(named, str) or not named or not (revision is None or isinstance(revision, str)):
        raise CheckpointError(f"{ADAPTER_CONFIG} must name its base in base_model_name_or_path, got {named!r}")
    try:
        base = locate(named, None if Path(named).is_dir() else revision or None, report)
    except (CheckpointError, OSError, ValueError) as error:
        why = error.message if isinstance(error, CheckpointError) else str(error)
        raise CheckpointError(
            f"{source.model_id} is a LoRA adapter, and its base {named!r}, which {ADAPTER_CONFIG} names, is not at "
            f"hand: {why}",
            fix=f"run this where that folder or id can be reached, or {_MERGE}",
        ) from error
    if base.is_adapter or base.file is not None:
        raise CheckpointError(
            f"the base of {source.model_id} must be a checkpoint of its own, got {named!r}", fix=_MERGE
        )
    return base


def adapter_note(adapter: Adapter) -> str:
    """What a user of the bundle should know about a model that an adapter is merged into."""
    commit = "" if adapter.base.commit is None else f" @ {adapter.base.commit}"
    return f"a LoRA adapter, merged into the weights of {adapter.base.model_id}{commit}"


def _check(settings: Mapping[str, Any]) -> None:
    """Raise CheckpointError for an adapter of another arithmetic, naming the key."""

    def refused(key: str, expected: str) -> CheckpointError:
        return CheckpointError(f"{ADAPTER_CONFIG}: {key} must be {expected}, got {settings.get(key)!r}", fix=_MERGE)

    if settings.get("peft_type") != "LORA":
        raise refused("peft_type", "LORA")
    for key in _OTHER_ARITHMETIC:
        if settings.get(key):
            raise refused(key, "absent or false: another arithmetic is not merged here")
    initialisation = settings.get("init_lora_weights")
    if not isinstance(initialisation, str | bool | None) or initialisation not in _INITIALISATIONS:
        raise refused("init_lora_weights", "one that leaves the base as it is")
    if not _is_scale(settings.get("lora_alpha", 8)):
        raise refused("lora_alpha", "a number above 0")
    if settings.get("use_rslora") not in (True, False, None):
        raise refused("use_rslora", "true or false")
    patterns = settings.get("alpha_pattern") or {}
    if not isinstance(patterns, Mapping) or not all(map(_is_scale, patterns.values())):
        raise refused("alpha_pattern", "an object of names to numbers above 0")
    if not all(_PATTERN.fullmatch(pattern) for pattern in patterns):
        raise refused("alpha_pattern", "an object of names, without expressions that repeat")


def _is_scale(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9


def _trained_names(weights: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    """The same tensors under the names of the model that was trained, without what PEFT puts around them."""
    prefix = "base_model.model."
    other = [name for name in weights if not name.startswith(prefix)]
    if other:
        raise CheckpointError(f"{file} must have names that begin with {prefix}, got {shortened(other)}", fix=_MERGE)
    names = {_SAVED.sub("", name.removeprefix(prefix)).replace(".base_layer.", "."): name for name in weights}
    if len(names) < len(weights):
        raise CheckpointError(f"{file} has a weight twice", fix=_MERGE)
    return without_wrappers({name: weights[old] for name, old in names.items()})[0]


def adapted_settings(settings: Mapping[str, Any], adapter: Adapter, family: Family) -> dict[str, Any]:
    """The config.json of the adapted model: its own where it has one, else the base's, with the adapter's labels.

    A classifier trained along with the adapter says how many labels there are, and that the model is one.
    """
    settings = dict(settings if adapter.own is None else adapter.own)
    classifier = adapter.weights.get("classifier.weight")
    if classifier is None or classifier.ndim != 2:
        return settings
    changed = {**settings, "architectures": [family.architecture("video-classification")]}
    id2label = settings.get("id2label")
    if not isinstance(id2label, Mapping) or len(id2label) != classifier.shape[0]:
        changed |= {"id2label": None, "label2id": None, "num_labels": classifier.shape[0]}
    return changed


def merge(weights: Mapping[str, Tensor], adapter: Adapter, family: Family) -> dict[str, Tensor]:
    """Add the adapter into the weights of its base.

    Args:
        weights: Those of the base, by name; float32 after `to_float32` where they are added to.
        adapter: What is added, by module.
        family: The family of the base, which says how names are stored.

    Returns:
        The weights of the adapted model under their stored names.

    Raises:
        CheckpointError: For a weight of the adapter that has no place, or does not fit into it.
    """
    merged = stored_names(weights, family)
    plain = {name: value for name, value in adapter.weights.items() if not _MATRIX.fullmatch(name)}
    if "classifier.weight" in plain:
        merged = _as_classifier(merged, family)
    merged |= stored_names(plain, family)
    for module, (a, b) in sorted(_pairs(adapter.weights).items()):
        (name,) = stored_names({f"{module}.weight": a}, family)
        weight = merged.get(name)
        if weight is None:
            raise CheckpointError(f"the adapter changes {module}, which its base does not have", fix=_MERGE)
        rank = a.shape[0] if a.ndim else 0
        fits = a.ndim == weight.ndim >= 2 and a.shape[1:] == weight.shape[1:] and b.ndim == a.ndim
        if not fits or not rank or b.shape != (weight.shape[0], rank, *[1] * (a.ndim - 2)):
            raise CheckpointError(
                f"the adapter's {module} has A {tuple(a.shape)} and B {tuple(b.shape)}, which do not fit "
                f"{tuple(weight.shape)}",
                fix=_MERGE,
            )
        # A convolution is one matrix over all that it covers: (r, C, t, h, w) -> (r, C * t * h * w), and back
        delta = (b.reshape(-1, rank) @ a.reshape(rank, -1)) * _scale(module, rank, adapter.settings)
        merged[name] = to_float32({name: weight})[name] + delta.reshape(weight.shape)
    return merged


def _pairs(weights: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of each module that has them."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        match = _MATRIX.fullmatch(name)
        if match is not None:
            found.setdefault(match[1], {})[match[2]] = value
    for module, pair in found.items():
        if len(pair) != 2:
            raise CheckpointError(f"the adapter has lora_{min(pair)} of {module} alone", fix=_MERGE)
    return {module: (pair["A"], pair["B"]) for module, pair in found.items()}


def _scale(module: str, rank: int, settings: Mapping[str, Any]) -> float:
    """What B A is multiplied with."""
    patterns: Mapping[str, float] = settings.get("alpha_pattern") or {}
    matching = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module))
    alpha = next(matching, settings.get("lora_alpha", 8))
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _as_classifier(weights: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """The encoder's weights, without another head, under their names in a classifier, with what it has beside them."""
    encoder, _ = of_encoder(weights, family)
    beside = family.beside_encoder(encoder)
    return {f"{family.name}.{name}": value for name, value in encoder.items() if name not in beside} | beside
