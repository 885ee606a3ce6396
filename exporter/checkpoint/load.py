"""A Hub id, a folder or a file, to a model in torch with everything that a bundle has to know about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor

from ...preprocess.errors import CheckpointError
from ...preprocess.shortage import shortages_named
from ...runtime.bundle.bundle import ProblemType, Task
from ..families.config import TransformerConfig
from ..families.family import Family
from ..families.model import Model
from ..families.registry import family_of
from .adapters import Adapter, adapted_settings, adapter_note, merge, open_adapter
from .hub import fetch_processor, fetch_weights
from .labels import choose_labels
from .originals import has_original_names, hub_names, infer_settings, inference_note, original_processor, read_original
from .overrides import AS_PUBLISHED, Overrides, apply_overrides, are_recomputed, override_notes
from .processor_files import ProcessorFile, has_processor, read_processor
from .sizes import check_implied, of_one_tubelet
from .small_files import read_json_object
from .source import Source, locate, no_weights
from .videomae_v2 import is_videomae_v2, videomae_settings
from .weight_files import WEIGHT_FILES, read_weights, shortened, weights_in
from .weights import account_for, of_encoder, stored_names, to_float32, without_wrappers

Report = Callable[[str], None]  # called with a line for each thing that was chosen on the way


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model, float32 and in eval mode, and what its files say about using it.

    config:        of the model as it is, the caller's overrides included
    processor:     how to prepare clips, as a parsed preprocessor_config.json or its like says
    processor_file: where that was read, for messages
    native_size:   (height, width) that the processor makes: what config.json says without the overrides
    labels:        of a classifier, K names by index
    problem_type:  of a classifier, whether the scores are a softmax over the labels (single) or a sigmoid for each
                   (multi), or the logits are values by themselves (regression)
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


@dataclass(frozen=True, eq=False)
class _Files:
    """The files of a checkpoint, with its config.json read and its weights still to be.

    base:      where the weights lie: of an adapter, the checkpoint that it belongs on; else the source itself
    adapter:   what is to be merged into those weights, if anything
    named:     the weights of a .pth file that the caller named, under the names of transformers
    settings:  what config.json says, in the words of transformers, of the model with the adapter
    """

    source: Source
    base: Source
    adapter: Adapter | None
    named: Mapping[str, Tensor] | None
    settings: Mapping[str, Any]
    family: Family


@dataclass(frozen=True)
class _Wanted:
    """The model that is to be made: for `task`, of `config`, from weights that were stored with the config `native`.

    recomputed: whether positions at another size are those that the module computes for it
    """

    family: Family
    task: Task
    native: TransformerConfig
    config: TransformerConfig
    recomputed: bool


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

    model:      a folder, a .pth file of the original VideoMAE (see originals.py; a config.json and a
                preprocessor_config.json beside it count), or a Hub id, perhaps with the revision behind it:
                owner/name@revision
    revision:   branch, tag or commit on the Hub; the default branch where none is given
    task:       what the model is for; the one of config.json's `architectures` where none is given
    labels:     a file for `read_labels`, whose names stand instead of those of config.json
    overrides:  what stands instead of the values in config.json
    report:     called with a line for each thing that was chosen on the way
    Raises CheckpointError where it cannot be found, read or accounted for key by key; MissingExtra.
    """
    files = _open(locate(model, revision, report), overrides, report)
    wanted = _wanted(files, task, overrides)
    problem_type, names = _labels(files, wanted, labels, report)
    processor = _processor(files, wanted.native.image_size, report)
    weights = _weights(files, report)
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


# --- Files ---


def _open(source: Source, overrides: Overrides, report: Report) -> _Files:
    """Read what says which model it is."""
    adapter = open_adapter(source, report) if source.is_adapter else None
    base = source if adapter is None else adapter.base
    named = None if base.file is None else _read_named_file(base, base.file, report)
    settings = _read_settings(base, named, overrides, report)
    family = family_of(settings)
    if adapter is not None:
        settings = adapted_settings(settings, adapter, family)
    return _Files(source, base, adapter, named, settings, family)


def _read_settings(
    source: Source, weights: Mapping[str, Tensor] | None, overrides: Overrides, report: Report
) -> dict[str, Any]:
    """What config.json says, in the words of transformers; for a lone file of `weights`, what they show."""
    if source.is_lone_file and weights is not None:
        return infer_settings(weights, overrides, source.model_id, report)
    settings = read_json_object(source.folder / "config.json")
    if source.file is not None:
        report(f"config.json beside {source.model_id} says what the model is")
    return videomae_settings(settings) if is_videomae_v2(settings) else settings


def _read_named_file(source: Source, file: Path, report: Report) -> dict[str, Tensor]:
    """The weights of a .pth file under the names of transformers."""
    weights = read_original(file)
    if source.is_lone_file and not has_original_names(weights):
        raise CheckpointError(
            f"{file.name} has other names than the original VideoMAE, so what model it is of is not known",
            fix="put the config.json of the model beside the file",
        )
    return _named_as_on_the_hub(weights, report)


def _weights(files: _Files, report: Report) -> Mapping[str, Tensor]:
    """The weights under the names of transformers, an adapter merged into them."""
    weights = files.named
    if weights is None:
        weights = _named_as_on_the_hub(_stored_weights(files.base, report), report)
    return weights if files.adapter is None else merge(weights, files.adapter, files.family)


def _stored_weights(source: Source, report: Report) -> dict[str, Tensor]:
    """The weights of a folder or a repository, as stored."""
    if source.commit is not None:
        return read_weights(fetch_weights(source.model_id, source.commit, WEIGHT_FILES, report))
    path = weights_in(source.folder)
    if path is None:
        raise no_weights(source.folder, ", ".join(WEIGHT_FILES))
    return read_weights(path)


def _named_as_on_the_hub(weights: dict[str, Tensor], report: Report) -> dict[str, Tensor]:
    """The weights under the names of transformers, where they lie behind wrappers or have those of the original."""
    if has_original_names(weights):
        return hub_names(weights)
    weights, wrappers = without_wrappers(weights)
    if wrappers:
        report(f"the weights were saved from a wrapped model: {' and '.join(wrappers)} in their names is left out")
    return hub_names(weights) if has_original_names(weights) else weights


def _processor(files: _Files, image_size: tuple[int, int], report: Report) -> ProcessorFile:
    """What the files say, an adapter's before its base's; for a lone file of weights, the original evaluation's."""
    if files.base.is_lone_file:
        return ProcessorFile("the original evaluation", original_processor(image_size, report))
    for place in (files.source, files.base):
        if place.commit is not None:
            fetch_processor(place.model_id, place.commit, report)
        if place is files.base or has_processor(place.folder):
            break
    return read_processor(place.folder, str(place.folder) if place.commit is None else place.model_id, report)


# --- What they say ---


def _wanted(files: _Files, task: Task | None, overrides: Overrides) -> _Wanted:
    """What model the files and the caller ask for. Raises CheckpointError where the family has no such model."""
    family = files.family
    native = family.config.from_hub(files.settings)
    config = apply_overrides(family, native, overrides)
    if task is None:
        architectures = files.settings.get("architectures")
        task = family.task_of(architectures if isinstance(architectures, list) else ())
    family.class_of(task)
    return _Wanted(family, task, native, config, are_recomputed(family, overrides))


def _labels(
    files: _Files, wanted: _Wanted, file: Path | None, report: Report
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
    one label a clip. One output as one label a clip is refused, as there: its loss is always 0 and its score always 1.
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


def _notes(files: _Files, wanted: _Wanted, overrides: Overrides) -> tuple[str, ...]:
    """What is unusual about the model."""
    notes = override_notes(wanted.family, wanted.native, wanted.config, overrides)
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
    if wanted.task != "feature-extraction":
        return weights
    kept, heads = of_encoder(weights, wanted.family)
    if heads:
        report(f"{len(heads)} weights of the checkpoint's head have no part in features: {shortened(heads)}")
    return kept


def _check_places(wanted: _Wanted, weights: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless each weight is one of a model of the config that they were stored with."""
    smallest = _without_weights(wanted, of_one_tubelet(wanted.family, wanted.native), weights)
    shapes = {name: value.shape for name, value in smallest.state_dict().items()}
    account_for(weights, shapes, wanted.family)


def _resized(wanted: _Wanted, model: Model, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights for a clip of another size; positions that `model` computed become those of its training, unless
    they are to be recomputed."""
    family = wanted.family
    if family.resize_computed is not None and not wanted.recomputed:
        family.resize_computed(model, wanted.native, wanted.config)
    if family.resize_stored is None:
        return weights
    return family.resize_stored(weights, wanted.native, wanted.config)


def _without_weights(wanted: _Wanted, config: TransformerConfig, weights: Mapping[str, Tensor]) -> Model:
    """The module on the meta device, where a parameter has a shape and no memory: nothing is drawn at random, and the
    tensors that were read become the parameters instead of being copied into them."""
    with torch.device("meta"):
        return wanted.family.class_of(wanted.task).of_weights(config, weights.keys())
