"""A Hub id, folder or file, to a model in torch with everything that a bundle must know about it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor

from ...preprocess.errors import CheckpointError
from ...preprocess.shortage import shortages_named
from ...runtime.bundle.bundle import ProblemType, Task
from ...runtime.hub import retries_said
from ..families.config import TransformerConfig
from ..families.family import Family
from ..families.model import Model
from .adapters import adapter_note
from .labels import choose_labels
from .opened import Files, Report, open_files, processor_of, read_named_weights
from .originals import inference_note
from .overrides import AS_PUBLISHED, Overrides, apply_overrides, are_recomputed, override_notes
from .sizes import check_implied, of_one_tubelet
from .source import Source, locate
from .weight_files import shortened
from .weights import account_for, of_encoder, stored_names, to_float32


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model, float32 and in eval mode, and what its files say about using it.

    config:        of the model as it is, the caller's overrides included
    processor:     how to prepare clips, as a parsed preprocessor_config.json or its like says
    processor_file: where that was read, for messages
    native_size:   (height, width) that the processor makes: what config.json says without the overrides
    labels:        of a classifier, K names by index
    problem_type:  of a classifier: its scores are a softmax over the labels (single) or a sigmoid for each (multi); or
                   its logits are values by themselves (regression)
    overrides:     what the caller set against config.json
    transformers_version: of the transformers that wrote config.json; None where it does not say
    notes:         what is unusual about the model and worth saying once
    """

    model: Model
    config: TransformerConfig
    family: Family
    task: Task
    processor: Mapping[str, Any]
    processor_file: str
    native_size: tuple[int, int]
    labels: tuple[str, ...]
    problem_type: ProblemType | None
    source: Source
    overrides: Overrides
    transformers_version: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Wanted:
    """The model that is to be made: for `task`, of `config`, from weights that were stored with the config `native`.

    recomputed: whether positions at another size are those that the module computes for it
    corrected: what of config.json the weights show to be otherwise, for people
    """

    family: Family
    task: Task
    native: TransformerConfig
    config: TransformerConfig
    recomputed: bool
    corrected: str | None = None


@shortages_named()
def load_checkpoint(
    model: str,
    *,
    revision: str | None = None,
    task: Task | None = None,
    labels: Path | None = None,
    overrides: Overrides = AS_PUBLISHED,
    report: Report,
) -> Checkpoint:
    """Load a checkpoint of a supported architecture.

    Args:
        model: a folder, a .pth file of the original VideoMAE (see originals.py; a config.json and a
            preprocessor_config.json beside it count), or a Hub id, perhaps with the revision behind it:
            owner/name@revision.
        revision: branch, tag or commit on the Hub. Without one, the default branch.
        task: what the model is for. Without one, that of config.json's `architectures`.
        labels: a file for `read_labels`, whose names stand instead of those of config.json.
        overrides: what stands instead of the values in config.json.
        report: called with a line for each thing that was chosen on the way.

    Raises:
        CheckpointError: where it cannot be found, read or accounted for key by key.
        MissingExtra: where a package is not installed that reads it.
    """
    with retries_said(report):
        files = open_files(locate(model, revision, report), overrides, report)
        wanted = _wanted(files, task, overrides)
        problem_type, names = _labels(files, wanted, labels, report)
        processor = processor_of(files, wanted.native.image_size, report)
        weights = read_named_weights(files, report)
        wanted = _as_weights_show(wanted, stored_names(weights, wanted.family), overrides)
    version = files.settings.get("transformers_version")
    return Checkpoint(
        model=_load_model(wanted, weights, report),
        config=wanted.config,
        family=wanted.family,
        task=wanted.task,
        processor=processor.values,
        processor_file=processor.place,
        native_size=wanted.native.image_size,
        labels=names,
        problem_type=problem_type,
        source=files.source,
        overrides=overrides,
        transformers_version=version if isinstance(version, str) else None,
        notes=_notes(files, wanted, overrides),
    )


# --- What they say ---


def _wanted(files: Files, task: Task | None, overrides: Overrides) -> _Wanted:
    """What model the files and the caller ask for. Raises CheckpointError where the family has no such model."""
    family = files.family
    native = family.config.from_hub(files.settings)
    config = apply_overrides(family, native, overrides)
    if task is None:
        architectures = files.settings.get("architectures")
        task = family.task_of(architectures if isinstance(architectures, list) else ())
    family.class_of(task)
    of_pooler = (overrides.num_pooler_heads, overrides.joined_clips, overrides.probe_layers)
    if any(of_pooler) and task != "video-classification":
        raise CheckpointError(f"a pooler is part of a classifier, and this is an export for {task}")
    return _Wanted(family, task, native, config, are_recomputed(family, overrides))


def _as_weights_show(wanted: _Wanted, weights: Mapping[str, Tensor], overrides: Overrides) -> _Wanted:
    """`wanted`, with what weights show in the place of what config.json says; see `Family.shown`."""
    said, shown = wanted.native, wanted.family.shown(wanted.native, weights)
    changed = [name for name in vars(said) if getattr(said, name) != getattr(shown, name)]
    if not changed:
        return wanted
    values = ", ".join(f"{said.hub_name(name)} {getattr(said, name)}" for name in changed)
    others = ", ".join(str(getattr(shown, name)) for name in changed)
    return replace(
        wanted,
        native=shown,
        config=apply_overrides(wanted.family, shown, overrides),
        corrected=f"config.json says {values}, and the weights are of {others}: the weights are followed",
    )


def _labels(
    files: Files, wanted: _Wanted, file: Path | None, report: Report
) -> tuple[ProblemType | None, tuple[str, ...]]:
    """What the scores of a classifier are, and what its labels are called; neither of another model."""
    if wanted.task == "video-classification":
        count = wanted.config.num_labels
        problem_type = _problem_type(files.settings, count)
        on_hub = files.source.commit is not None
        return problem_type, choose_labels(
            files.settings, count, file, from_hub=on_hub, family=wanted.family, report=report
        )
    if file is not None:
        raise CheckpointError(f"labels are for a classifier, and this is an export for {wanted.task}")
    return None, ()


def _problem_type(settings: Mapping[str, Any], num_labels: int) -> ProblemType:
    """What config.json says. Where it says nothing, transformers trains one output as a regression, and more of them as
    one label a clip. One output as one label a clip is refused, as there: its loss is always 0, its score always 1.
    """
    value = settings.get("problem_type") or ("regression" if num_labels == 1 else "single_label_classification")
    if value not in get_args(ProblemType):
        raise CheckpointError(f"problem_type must be {' or '.join(get_args(ProblemType))}, got {value!r}")
    if value == "single_label_classification" and num_labels == 1:
        raise CheckpointError(
            "config.json says single_label_classification of one label, whose score is 1 whatever the video shows",
            fix="set problem_type there to regression for the value itself, or to multi_label_classification for its "
            "sigmoid",
        )
    return cast(ProblemType, value)


def _notes(files: Files, wanted: _Wanted, overrides: Overrides) -> tuple[str, ...]:
    """What is unusual about the model."""
    notes = override_notes(wanted.family, wanted.native, wanted.config, overrides, wanted.task)
    if wanted.corrected is not None:
        notes = (wanted.corrected, *notes)
    if files.adapter is not None:
        notes = (adapter_note(files.adapter), *notes)
    if files.source.is_lone_file:
        inferred = inference_note(files.settings, draws=wanted.task == "masked-modeling")
        notes = (inferred, *(notes if wanted.config != wanted.native else ()))  # there is no config.json to speak of
    return notes


# --- The model ---


def _load_model(wanted: _Wanted, weights: Mapping[str, Tensor], report: Report) -> Model:
    """The module of `wanted.config` with the weights, each of which has its place."""
    weights = _of_task(wanted, stored_names(weights, wanted.family), report)
    check_implied(wanted.native, wanted.task, weights)
    _check_places(wanted, weights)
    weights = to_float32(weights)
    model = _without_weights(wanted, wanted.config, weights)
    if wanted.config != wanted.native:
        weights = _resized(wanted, model, weights)
    model.load_state_dict(weights, assign=True)
    return model.eval()


def _of_task(wanted: _Wanted, weights: Mapping[str, Tensor], report: Report) -> Mapping[str, Tensor]:
    """The weights without those that the task has no use for."""
    weights = _without_unused(weights, wanted.family, report)
    if wanted.task != "feature-extraction":
        return weights
    kept, heads = of_encoder(weights, wanted.family)
    if heads:
        report(f"{len(heads)} weights of the checkpoint's head have no part in features: {shortened(heads)}")
    return kept


def _without_unused(weights: Mapping[str, Tensor], family: Family, report: Report) -> Mapping[str, Tensor]:
    """The weights without those that no task of the family needs, which `report` takes a line about."""
    for prefix, what in family.unused.items():
        dropped = [name for name in weights if name.removeprefix(f"{family.name}.").startswith(prefix)]
        if dropped:
            values = sum(weights[name].numel() for name in dropped)
            report(f"{len(dropped)} weights of {values:,} values are left out: {what}, which no task needs")
            weights = {name: weights[name] for name in weights if name not in set(dropped)}
    return weights


def _check_places(wanted: _Wanted, weights: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless each weight is one of a model of the config that they were stored with."""
    smallest = _without_weights(wanted, of_one_tubelet(wanted.family, wanted.native), weights)
    shapes = {name: value.shape for name, value in smallest.state_dict().items()}
    account_for(weights, shapes, wanted.family)


def _resized(wanted: _Wanted, model: Model, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights for a clip of another size. Positions that `model` computed become those of its training, unless
    they are to be recomputed.
    """
    family = wanted.family
    if family.resize_computed is not None and not wanted.recomputed:
        family.resize_computed(model, wanted.native, wanted.config)
    if family.resize_stored is None:
        return weights
    return family.resize_stored(weights, wanted.native, wanted.config)


def _without_weights(wanted: _Wanted, config: TransformerConfig, weights: Mapping[str, Tensor]) -> Model:
    """The module on the meta device, where a parameter has a shape and no memory. Nothing is drawn at random, and the
    tensors that were read become the parameters instead of being copied into them.
    """
    with torch.device("meta"):
        return wanted.family.class_of(wanted.task).of_weights(config, weights.keys())
