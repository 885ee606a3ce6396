"""The Hugging Face Hub: the files of a checkpoint, fetched into the client's own cache.

Only what is needed is fetched, and all of it from one commit. The client keeps each file under
snapshots/<commit>/, serves from there when the Hub is out of reach, and moves a file there when it is whole.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from ..preprocess.errors import CheckpointError, MissingExtra
from .weights import WEIGHT_FILES, shard_names

# Where the way to prepare a clip is described, best first.
PROCESSOR_FILES = ("preprocessor_config.json", "video_preprocessor_config.json")


def fetch_config(model_id: str, revision: str | None) -> tuple[Path, str]:
    """Fetches config.json of a branch, tag or commit (None: the default branch).

    Returns the folder that it lies in and the commit SHA. Raises CheckpointError, MissingExtra.
    """
    path = _download(model_id, "config.json", revision=revision)
    if path is None:
        raise CheckpointError(f"{model_id} has no config.json, so it is not a checkpoint of transformers")
    return path.parent, path.parent.name


def fetch_files(model_id: str, commit: str, report: Callable[[str], None]) -> None:
    """Fetches the processor's config and the weights, in one form, to where config.json of that commit lies.

    Raises CheckpointError, MissingExtra.
    """
    if _download_first(model_id, PROCESSOR_FILES, commit) is None:
        raise CheckpointError(
            f"{model_id} has neither {' nor '.join(PROCESSOR_FILES)}, so how to prepare a clip is not known"
        )
    weights = _download_first(model_id, WEIGHT_FILES, commit)
    if weights is None:
        raise CheckpointError(f"{model_id} has no weights: none of {', '.join(WEIGHT_FILES)}")
    if weights.suffix == ".json":
        for shard in shard_names(weights):
            if _download(model_id, shard, revision=commit) is None:
                raise CheckpointError(f"{weights.name} of {model_id} names {shard}, which is not there")
    report(f"weights of {model_id} are {weights.name}")


def fetch_kinetics400_labels() -> Path:
    """Fetches the 400 names of Kinetics-400 in the order that checkpoints use, from huggingface/label-files.

    A JSON object of index to label. Raises CheckpointError, MissingExtra.
    """
    return fetch_from_dataset("huggingface/label-files", "kinetics400-id2label.json")


def fetch_from_dataset(dataset: str, name: str) -> Path:
    """Fetches one file of a dataset. Raises CheckpointError, MissingExtra."""
    path = _download(dataset, name, revision=None, repo_type="dataset")
    if path is None:
        raise CheckpointError(f"the dataset {dataset} has no {name}")
    return path


def fetch_from_model(model_id: str, name: str) -> Path:
    """Fetches one file of a model repository, at its default branch. Raises CheckpointError, MissingExtra."""
    path = _download(model_id, name, revision=None)
    if path is None:
        raise CheckpointError(f"{model_id} has no {name}")
    return path


def _download_first(model_id: str, names: Sequence[str], commit: str) -> Path | None:
    """The first of the files that the commit has, or None."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    for name in names:
        # A commit never changes: a file that the Hub once said it lacks is not asked for again, so that what
        # is in the cache can be used while the Hub is out of reach.
        if try_to_load_from_cache(model_id, name, revision=commit) is _CACHED_NO_EXIST:
            continue
        path = _download(model_id, name, revision=commit)
        if path is not None:
            return path
    return None


def _download(
    repository: str, name: str, *, revision: str | None, repo_type: Literal["model", "dataset"] = "model"
) -> Path | None:
    """Where the file lies in the cache, or None where the revision has no such file."""
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError as error:
        raise MissingExtra("huggingface_hub", "export", purpose=f"to fetch {repository}") from error
    try:
        return Path(hf_hub_download(repository, name, revision=revision, repo_type=repo_type))
    except errors.RemoteEntryNotFoundError:
        return None
    except Exception as error:  # the client and the two libraries below it each have their own tree
        raise _explained(error, repository, name, revision) from error


def _explained(error: Exception, repository: str, name: str, revision: str | None) -> CheckpointError:
    """What an error of the client means for someone who wants a checkpoint."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repository}"
    match error:
        case errors.GatedRepoError():
            return CheckpointError(
                f"{repository} is gated, and this account has not been let in",
                fix=f"ask for access at {page}, then log in with `hf auth login`",
            )
        case errors.RepositoryNotFoundError():
            return CheckpointError(
                f"the Hub has no repository {repository} that this account may see",
                fix="check the spelling (a folder must exist as given); if it is private, `hf auth login`",
            )
        case errors.RevisionNotFoundError():
            return CheckpointError(
                f"{repository} has no revision {revision!r}",
                fix=f"give a branch, tag or commit that {page}/commits/main shows",
            )
        case errors.LocalEntryNotFoundError():
            return CheckpointError(
                f"the Hub gave no answer for {name} of {repository}, and the cache does not have it: "
                f"{_first_line(error.__cause__ or error)}",
                fix="check the connection, or give a folder that holds the files of the checkpoint",
            )
        case errors.HFValidationError():
            return CheckpointError(f"{repository!r} is neither a folder that exists nor a Hub id: {_first_line(error)}")
        case _:
            return CheckpointError(f"{name} of {repository} could not be fetched: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
