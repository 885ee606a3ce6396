"""The files of a checkpoint: what they are, what model they hold, and its weights under the names of transformers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ...preprocess.errors import CheckpointError
from ..families.family import Family
from ..families.registry import family_of
from .adapters import Adapter, adapted_settings, merge, open_adapter
from .hub import fetch_processor, fetch_weights
from .originals import has_original_names, hub_names, infer_settings, original_processor, read_original
from .overrides import Overrides
from .probes import probed_settings, read_probe, require_layers, with_probe
from .processor_files import ProcessorFile, has_processor, read_processor
from .small_files import read_json_object
from .source import Source, no_weights
from .videomae_v2 import is_videomae_v2, videomae_settings
from .weight_files import WEIGHT_FILES, read_weights, weights_in
from .weights import without_wrappers

Report = Callable[[str], None]  # called with a line for each thing that was chosen on the way


@dataclass(frozen=True, eq=False)
class Files:
    """The files of a checkpoint, with its config.json read and its weights still to be.

    base:      where the weights lie: of an adapter, the checkpoint that it belongs on; else the source itself
    adapter:   what is to be merged into those weights, if anything
    named:     the weights of a .pth file that the caller named, under the names of transformers
    probe:     those of a head that takes the place of the checkpoint's own, if any
    settings:  what config.json says, in the words of transformers, of the model with the adapter
    """

    source: Source
    base: Source
    adapter: Adapter | None
    named: Mapping[str, Tensor] | None
    probe: Mapping[str, Tensor] | None
    settings: Mapping[str, Any]
    family: Family


def open_files(source: Source, overrides: Overrides, report: Report) -> Files:
    """Read what says which model it is."""
    adapter = open_adapter(source, report) if source.is_adapter else None
    base = source if adapter is None else adapter.base
    named = None if base.file is None else _read_named_file(base, base.file, report)
    settings = _read_settings(base, named, overrides, report)
    family = family_of(settings)
    if adapter is not None:
        settings = adapted_settings(settings, adapter, family)
    probe = None
    if overrides.probe is not None:
        require_layers(overrides)
        probe = read_probe(Path(overrides.probe), family)
        settings = probed_settings(settings, probe, family)
    return Files(source, base, adapter, named, probe, settings, family)


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
    if source.is_lone_file and not has_original_names(without_wrappers(weights)[0]):
        raise CheckpointError(
            f"{file.name} has names of neither the original VideoMAE nor TimeSformer, so what it is of is not known",
            fix="put the config.json of the model beside the file",
        )
    return _named_as_on_the_hub(weights, report)


def read_named_weights(files: Files, report: Report) -> Mapping[str, Tensor]:
    """The weights under the names of transformers, an adapter merged into them."""
    weights = files.named
    if weights is None:
        weights = _named_as_on_the_hub(_stored_weights(files.base, report), report)
    if files.adapter is not None:
        weights = merge(weights, files.adapter, files.family)
    return weights if files.probe is None else with_probe(weights, files.probe, files.family)


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
    weights, wrappers = without_wrappers(weights)
    if has_original_names(weights):
        return hub_names(weights)
    if wrappers:
        report(f"the weights were saved from a wrapped model: {' and '.join(wrappers)} in their names is left out")
    return weights


def processor_of(files: Files, image_size: tuple[int, int], report: Report) -> ProcessorFile:
    """What the files say, an adapter's before its base's; for a lone file of weights, the original evaluation's."""
    if files.base.is_lone_file:
        return ProcessorFile("the original evaluation", original_processor(files.family.name, image_size, report))
    for place in (files.source, files.base):
        if place.commit is not None:
            fetch_processor(place.model_id, place.commit, report)
        if place is files.base or has_processor(place.folder):
            break
    return read_processor(place.folder, str(place.folder) if place.commit is None else place.model_id, report)
