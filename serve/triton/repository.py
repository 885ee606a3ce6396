"""write_models: bundles become a model repository that Triton starts as it is.

    REPO/README.md                      how to start it and ask it, for all models that are there
    REPO/gestures/config.pbtxt          inputs, outputs, batching, instances
    REPO/gestures/labels.txt            one a line, for Triton's own classification
    REPO/gestures/1/model.py            the python backend, and the bundle beside it; or model.onnx, model.plan

A model's folder takes its place whole. Nothing in it names a path outside, so the repository can be moved.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...preprocess.errors import BundleError
from ...runtime.bundle.bundle import Bundle
from ...runtime.progress import Progress, silent
from ...runtime.storage.exchange import restored, written_folder
from ...runtime.storage.written import written_file
from .config import Fields, Word, written
from .planned import Model, TritonOptions, planned_models
from .readme import MARK, NEEDS, describe_repository

_NAME = re.compile(r"\w[\w.-]*", re.ASCII)  # what may stand in a URL as it is


def write_models(
    paths: Sequence[Path],
    repository: Path,
    options: TritonOptions,
    *,
    force: bool = False,
    progress: Progress = silent,
    say: Progress = silent,
) -> list[str]:
    """Write a model for each bundle into a model repository, which may hold others already.

    Args:
        paths: the folders of the bundles, whose names become those of the models.
        repository: the folder that is given to `tritonserver --model-repository`.
        options: how they are served.
        force: replace models of the same names that were written here before.
        progress: called with a line for each step.
        say: called with each line that a user should keep.

    Returns:
        The names of the models that clients ask for.

    Raises:
        BundleError: for a bundle that is damaged or no classifier; for two of one name; where something that may not
            be replaced lies in the repository.
        BackendError: for what the backend cannot compute.
        NotWritten: where the system refuses to write.
    """
    names = [_model_name(path) for path in paths]
    if len(set(names)) < len(names):
        raise BundleError(
            f"models are named after the folders of their bundles, and two have one name: {', '.join(names)}",
            fix="rename a folder, or write them into two repositories",
        )
    planned = [planned_models(name, Bundle.open(path), options) for name, path in zip(names, paths, strict=True)]
    folders = [repository / model.name for models in planned for model in models]
    for folder in folders:
        restored(folder, say=say)
        _check_folder(folder, force=force)
    for models in planned:
        for model in models:  # the one that clients ask for is the last
            progress(f"writing {model.name}")
            _write(repository / model.name, model, force=force, say=say)
    with written_file(repository / "README.md") as beside:
        beside.write_text(describe_repository(repository), encoding="utf-8")
    return names


def _model_name(path: Path) -> str:
    name = path.resolve().name
    if not _NAME.fullmatch(name):
        raise BundleError(
            f"a model is named after its folder, and {name!r} cannot stand in a URL",
            fix="rename the folder: letters, digits, ., _ and - may stand in it",
        )
    return name


def _check_folder(folder: Path, *, force: bool) -> None:
    """Raise BundleError where something lies there that may not be replaced."""
    if not folder.exists():
        return
    config = folder / "config.pbtxt"
    if not config.is_file() or not config.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        raise BundleError(
            f"{folder} exists and was not written by tubelet triton, so --force does not replace it",
            fix="choose another repository with -o, or remove what is there",
        )
    if not force:
        raise BundleError(f"{folder} exists", fix="choose another repository with -o, or replace it with --force")


def _write(folder: Path, model: Model, *, force: bool, say: Progress) -> None:
    """Write one model's folder, which takes its place whole."""
    with written_folder(folder, check=lambda: _check_folder(folder, force=force), say=say) as fresh:
        version = fresh / "1"
        version.mkdir()
        for name, content in model.files.items():
            if isinstance(content, bytes):
                (version / name).write_bytes(content)
            else:
                shutil.copyfile(content, version / name)
        if model.bundle is not None:
            _copy_bundle(model.bundle, version / "bundle")
        if model.labels:
            lines = "".join(f"{' '.join(label.split())}\n" for label in model.labels)
            (fresh / "labels.txt").write_text(lines, encoding="utf-8")
        head = f"{MARK}{_purpose(model)}\n{NEEDS}{model.needs}\n\n"
        (fresh / "config.pbtxt").write_text(head + written(model.config), encoding="utf-8")


def _copy_bundle(bundle: Bundle, folder: Path) -> None:
    """Copy the graphs that the bundle has here, each file verified, with a manifest of those alone."""
    folder.mkdir()
    for file in bundle.files:
        shutil.copyfile(bundle.verified(file), folder / file.name)
    replace(bundle, path=folder).write_manifest()


def _purpose(model: Model) -> str:
    """The line by which README.md describes the model."""
    takes = ", ".join(_shown(field) for field in model.config["input"])
    gives = ", ".join(_shown(field) for field in model.config["output"])
    return f"{model.config.get('backend', 'ensemble')}: {takes} -> {gives}"


def _shown(field: Fields) -> str:
    kind = Word(field["data_type"]).removeprefix("TYPE_")
    return f"{field['name']} {kind} [{', '.join(map(str, field['dims']))}]"
