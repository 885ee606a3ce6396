"""The Hugging Face Hub: the files of a checkpoint, fetched into the client's own cache.

Only what is needed is fetched, and all of it from one commit (see runtime/hub.py).
"""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from ...preprocess.errors import CheckpointError, HubError, HubUnreachable
from ...runtime.hub import download
from .processor_files import PROCESSOR_FILES
from .weight_files import shard_names


class _Unreachable(CheckpointError):
    """Raised where the Hub gives no answer and the cache does not have the file either: another one may do."""


def fetch_config(model_id: str, revision: str | None, names: Sequence[str]) -> tuple[Path, str] | None:
    """Fetch the first of the configs `names` that a branch, tag or commit has (None: the default branch).

    Returns:
        Its path and the commit SHA; None where the repository has none of them.

    Raises:
        CheckpointError: Where there is no such repository or revision, or no answer.
        MissingExtra: Without huggingface_hub.
    """
    unreachable: _Unreachable | None = None
    for name in names:
        try:
            path = _download(model_id, name, revision=revision, cached_only=unreachable is not None)
        except _Unreachable as error:
            unreachable = unreachable or error
            continue
        if path is not None:
            return path, path.parent.name
    if unreachable is not None:
        raise unreachable
    return None


def fetch_if_there(model_id: str, name: str, commit: str) -> None:
    """Fetch a file that most repositories do not have; where the Hub gives no answer, there is none."""
    with contextlib.suppress(_Unreachable):
        _download(model_id, name, revision=commit)


def fetch_processor(model_id: str, commit: str, report: Callable[[str], None]) -> None:
    """Fetch all files that say how to prepare a clip to where config.json of that commit lies.

    Raises CheckpointError where none can be had; MissingExtra.
    """
    found: list[str] = []
    unreachable: _Unreachable | None = None
    missed: list[str] = []
    for name in PROCESSOR_FILES:
        try:
            path = _download(model_id, name, revision=commit, cached_only=unreachable is not None)
        except _Unreachable as error:
            unreachable = unreachable or error
            missed.append(name)
            continue
        found += [] if path is None else [name]
    if not found and unreachable is not None:
        raise unreachable
    if found and missed:
        report(_instead(missed, found))


def fetch_weights(model_id: str, commit: str, names: Sequence[str], report: Callable[[str], None]) -> Path:
    """Fetch the weights in the first form of `names` that the commit has, with the shards that an index names.

    Where the Hub gives no answer, the first form that is whole in the cache is taken and reported.

    Raises CheckpointError where there are none, or none can be had; MissingExtra.
    """
    unreachable: _Unreachable | None = None
    missed: list[str] = []
    for name in names:
        try:
            path = _download(model_id, name, revision=commit, cached_only=unreachable is not None)
            if path is not None and path.suffix == ".json":
                _fetch_shards(model_id, commit, path, cached_only=unreachable is not None)
        except _Unreachable as error:
            unreachable = unreachable or error
            missed.append(name)
            continue
        if path is not None:
            if missed:
                report(_instead(missed, [name]))
            report(f"weights of {model_id} are {name}")
            return path
    if unreachable is not None:
        raise unreachable
    raise CheckpointError(f"{model_id} has no weights: none of {', '.join(names)}")


def _fetch_shards(model_id: str, commit: str, index: Path, *, cached_only: bool) -> None:
    for shard in shard_names(index):
        if _download(model_id, shard, revision=commit, cached_only=cached_only) is None:
            raise CheckpointError(f"{index.name} of {model_id} names {shard}, which is not there")


def _instead(missed: Sequence[str], found: Sequence[str]) -> str:
    return (
        f"the Hub gave no answer, and the cache lacks {', '.join(missed)}, if there is such a file: "
        f"{', '.join(found)} in the cache is taken"
    )


def fetch_label_file(name: str) -> Path:
    """Fetch a JSON object of index to label from huggingface/label-files. Raises CheckpointError, MissingExtra."""
    return fetch_from_dataset("huggingface/label-files", name)


def fetch_from_dataset(dataset: str, name: str) -> Path:
    """Fetch one file of a dataset. Raises CheckpointError, MissingExtra."""
    path = _download(dataset, name, revision=None, repo_type="dataset")
    if path is None:
        raise CheckpointError(f"the dataset {dataset} has no {name}")
    return path


def fetch_from_model(model_id: str, name: str) -> Path:
    """Fetch one file of a model repository, at its default branch. Raises CheckpointError, MissingExtra."""
    path = _download(model_id, name, revision=None)
    if path is None:
        raise CheckpointError(f"{model_id} has no {name}")
    return path


def _download(
    repository: str,
    name: str,
    *,
    revision: str | None,
    repo_type: Literal["model", "dataset"] = "model",
    cached_only: bool = False,
) -> Path | None:
    """Where the file lies in the cache, or None where the revision has no such file; see `download`."""
    try:
        return download(
            repository, name, revision=revision, repo_type=repo_type, cached_only=cached_only, extra="export"
        )
    except HubUnreachable as error:
        raise _Unreachable(error.message, fix=error.fix) from error
    except HubError as error:
        raise CheckpointError(error.message, fix=error.fix) from error
