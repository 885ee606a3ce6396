"""A Hub id, a folder or a file, to a model in torch with everything that a bundle has to know about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor

from ...preprocess.errors import CheckpointError
from ...preprocess.shortage import shortages_named
from ...preprocess.spec import Family
from ...runtime.bundle.bundle import ProblemType, Task
from ..families.videomae import VideoMAEConfig
from ..families.vivit import VivitConfig
from ..graph.tasks import ARCHITECTURES, Config, Model, build, require_task, task_of
from .adapters import adapted_settings, adapter_note, merge, open_adapter
from .hub import fetch_processor, fetch_weights
from .labels import choose_labels
from .originals import has_original_names, hub_names, infer_settings, inference_note, original_processor, read_original
from .overrides import AS_PUBLISHED, Overrides, apply_overrides, interpolate_sinusoids, override_notes, resize_positions
from .processor_files import has_processor, read_processor
from .sizes import check_implied, of_one_tubelet
from .small_files import read_json_object
from .source import Source, locate, no_weights
from .videomae_v2 import is_videomae_v2, videomae_settings
from .weight_files import WEIGHT_FILES, read_weights, shortened, weights_in
from .weights import account_for, of_encoder, stored_names, to_float32, without_wrappers


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model, float32 and in eval mode, and what its files say about using it.

    config:        of the model as it is, the caller's overrides included
    processor:     the parsed preprocessor_config.json, or video_preprocessor_config.json
    native_size:   (height, width) that the processor makes: what config.json says without the overrides
    labels:        of a classifier, K names by index
    problem_type:  of a classifier, whether the scores are a softmax over the labels (single) or a sigmoid for each
                   (multi), or the logits are values by themselves (regression)
    overrides:     what the caller set against config.json
    transformers_version: of the transformers that wrote config.json; None where it does not say
    notes:         what is unusual about the model and worth saying once
    """

    model: Model
    config: Config
    family: Family
    task: Task
    processor: Mapping[str, Any]
    native_size: tuple[int, int]
    labels: tuple[str, ...]
    problem_type: ProblemType | None
    source: Source
    overrides: Overrides
    transformers_version: str | None
    notes: tuple[str, ...]


@shortages_named()
def load_checkpoint(
    model: str,
    *,
    revision: str | None = None,
    task: Task | None = None,
    labels: Path | None = None,
    overrides: Overrides = AS_PUBLISHED,
    report: Callable[[str], None],
) -> Checkpoint:
    """Loads a checkpoint of a supported architecture.

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
    source = locate(model, revision, report)
    adapter = open_adapter(source, report) if source.is_adapter else None
    base = source if adapter is None else adapter.base
    weights = None if base.file is None else _read_named_file(base, base.file, report)
    settings = _read_settings(base, weights, overrides, report)
    family = _family(settings)
    if adapter is not None:
        settings = adapted_settings(settings, adapter, family)
    native = VivitConfig.from_hub(settings) if family == "vivit" else VideoMAEConfig.from_hub(settings)
    config = apply_overrides(native, overrides)
    if task is None:
        named = settings.get("architectures")
        task = task_of(named if isinstance(named, list) else (), family)
    require_task(task, family)
    if task == "video-classification":
        problem_type = _problem_type(settings, config.num_labels)
        on_hub = source.commit is not None
        names = choose_labels(settings, config.num_labels, labels, from_hub=on_hub, family=family, report=report)
    elif labels is not None:
        raise CheckpointError(f"labels are for a classifier, and this is an export for {task}")
    else:
        problem_type, names = None, ()
    processor = _processor(source, base, native.image_size, report)
    if weights is None:
        weights = _named_as_on_the_hub(_stored_weights(base, report), report)
    if adapter is not None:
        weights = merge(weights, adapter, family)
    notes = override_notes(native, config, overrides)
    if adapter is not None:
        notes = (adapter_note(adapter), *notes)
    if source.is_lone_file and isinstance(native, VideoMAEConfig):
        inferred = inference_note(native, draws=task == "masked-modeling")
        notes = (inferred, *(notes if config != native else ()))  # there is no config.json to speak of
    return Checkpoint(
        model=_load_model(native, config, family, task, weights, overrides, report),
        config=config,
        family=family,
        task=task,
        processor=processor,
        native_size=native.image_size,
        labels=names,
        problem_type=problem_type,
        source=source,
        overrides=overrides,
        transformers_version=version if isinstance(version := settings.get("transformers_version"), str) else None,
        notes=notes,
    )


def _read_settings(
    source: Source, weights: Mapping[str, Tensor] | None, overrides: Overrides, report: Callable[[str], None]
) -> dict[str, Any]:
    """What config.json says, in the words of transformers; for a lone file of `weights`, what they show."""
    if source.is_lone_file and weights is not None:
        return infer_settings(weights, overrides, source.model_id, report)
    settings = read_json_object(source.folder / "config.json")
    if source.file is not None:
        report(f"config.json beside {source.model_id} says what the model is")
    return videomae_settings(settings) if is_videomae_v2(settings) else settings


def _read_named_file(source: Source, file: Path, report: Callable[[str], None]) -> dict[str, Tensor]:
    """The weights of a .pth file under the names of transformers."""
    weights = read_original(file)
    if source.is_lone_file and not has_original_names(weights):
        raise CheckpointError(
            f"{file.name} has other names than the original VideoMAE, so what model it is of is not known",
            fix="put the config.json of the model beside the file",
        )
    return _named_as_on_the_hub(weights, report)


def _stored_weights(source: Source, report: Callable[[str], None]) -> dict[str, Tensor]:
    """The weights of a folder or a repository, as stored."""
    if source.commit is not None:
        return read_weights(fetch_weights(source.model_id, source.commit, WEIGHT_FILES, report))
    path = weights_in(source.folder)
    if path is None:
        raise no_weights(source.folder, ", ".join(WEIGHT_FILES))
    return read_weights(path)


def _named_as_on_the_hub(weights: dict[str, Tensor], report: Callable[[str], None]) -> dict[str, Tensor]:
    """The weights under the names of transformers, where they lie behind wrappers or have those of the original."""
    if has_original_names(weights):
        return hub_names(weights)
    weights, wrappers = without_wrappers(weights)
    if wrappers:
        report(f"the weights were saved from a wrapped model: {' and '.join(wrappers)} in their names is left out")
    return hub_names(weights) if has_original_names(weights) else weights


def _family(settings: Mapping[str, Any]) -> Family:
    for family in ARCHITECTURES:
        if settings.get("model_type") == family:
            return family
    supported = ", ".join(f"{family} ({', '.join(names.values())})" for family, names in ARCHITECTURES.items())
    raise CheckpointError(
        f"model_type {settings.get('model_type')!r} with architectures {settings.get('architectures')!r} "
        f"is not supported; supported are {supported}"
    )


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


def _processor(
    source: Source, base: Source, image_size: tuple[int, int], report: Callable[[str], None]
) -> dict[str, Any]:
    """What the files say, an adapter's before its base's; for a lone file of weights, the original evaluation's."""
    if base.is_lone_file:
        return original_processor(image_size, report)
    for place in (source, base):
        if place.commit is not None:
            fetch_processor(place.model_id, place.commit, report)
        if place is base or has_processor(place.folder):
            break
    return read_processor(place.folder, str(place.folder) if place.commit is None else place.model_id, report)


def _load_model(
    native: Config,
    config: Config,
    family: Family,
    task: Task,
    weights: Mapping[str, Tensor],
    overrides: Overrides,
    report: Callable[[str], None],
) -> Model:
    """The module of `config` with the weights, each checked against `native`, the config that they were stored with."""
    weights = stored_names(weights, family)
    if task == "feature-extraction":
        weights, heads = of_encoder(weights, family)
        if heads:
            report(f"{len(heads)} weights of the checkpoint's head have no part in features: {shortened(heads)}")
    check_implied(native, task, weights)
    averaged = isinstance(native, VideoMAEConfig) and native.use_mean_pooling
    pooler = "pooler.dense.weight" in weights or (averaged and "fc_norm.weight" in weights)
    shapes = _without_weights(of_one_tubelet(native), task, pooler=pooler).state_dict()
    account_for(weights, {name: value.shape for name, value in shapes.items()}, family)
    weights = to_float32(weights)
    model = _without_weights(config, task, pooler=pooler)
    if config != native:
        weights = resize_positions(weights, native, config)
        if overrides.positions != "recomputed" and isinstance(native, VideoMAEConfig):
            interpolate_sinusoids(model, native, config)
    model.load_state_dict(weights, assign=True)
    return model.eval()


def _without_weights(config: Config, task: Task, *, pooler: bool) -> Model:
    """The module on the meta device, where a parameter has a shape and no memory: nothing is drawn at random, and the
    tensors that were read become the parameters instead of being copied into them."""
    with torch.device("meta"):
        return build(config, task, pooler=pooler)
