"""The Hugging Face Hub: files fetched into the client's own cache, and bundles that are addressed there.

    hf://owner/name          the bundle at the default branch
    hf://owner/name@REV      at a branch, tag or commit

The client keeps each file under snapshots/<commit>/, and moves it there when it is whole. It serves from there when
the Hub is out of reach. Nothing but the files that a manifest names is fetched, so no engines ever are.
"""

import contextlib
import errno
import logging
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from ..preprocess.errors import BundleError, HubError, HubUnreachable, MissingExtra
from .bundle.bundle import Bundle
from .bundle.manifest import MANIFEST
from .progress import Progress, silent

SCHEME = "hf://"

_NO_ANSWER = frozenset({429, 500, 502, 503, 504})  # of a Hub that is there, and cannot say now
# owner/name, perhaps @revision. Git allows no ".." in a revision either.
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ADDRESS = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@((?:(?!\.\.)[^\s\0])+))?", re.ASCII)

# Where the client logs that it asks again, and what it says then: why, and how long it waits before it does.
_CLIENT_LOG = "huggingface_hub.utils._http"
_RETRY = re.compile(r"'?(?P<why>.+?)'? thrown while requesting |Retrying in |Rate limited\. Waiting ", re.DOTALL)


@dataclass(frozen=True)
class HubAddress:
    """A repository on the Hub, and a branch, tag or commit of it; None is the default branch."""

    repository: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse owner/name[@revision], with or without hf:// in front. Raises BundleError for anything else."""
        found = _ADDRESS.fullmatch(text.removeprefix(SCHEME))
        if found is None:
            raise BundleError(
                f"{text[:200]!r} is no address of a bundle on the Hub",
                fix="give owner/name or owner/name@REVISION, with hf:// in front where a path could stand",
            )
        return cls(*found.groups())

    def at(self, commit: str) -> Self:
        """Pin the address to a commit."""
        return type(self)(self.repository, commit)

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"

    @property
    def url(self) -> str:
        return f"{SCHEME}{self}"


def is_on_hub(path: str | Path) -> bool:
    """Whether a path is an address on the Hub. Raises BundleError for one that became a Path, which drops a slash."""
    if isinstance(path, os.PathLike):
        if path.parts[:1] == ("hf:",) and not path.exists():
            raise BundleError(
                f"{path} was an address on the Hub before it became a Path, which drops a slash", fix="give it as str"
            )
        return False
    return path.startswith(SCHEME)


def fetch_bundle(
    address: HubAddress,
    precisions: Collection[str] | None = None,
    *,
    progress: Progress = silent,
    say: Progress = silent,
) -> tuple[Bundle, str]:
    """Fetch a bundle into the client's cache, all from one commit. What is there already is not fetched again.

    Args:
        address: where it lies.
        precisions: of the graphs that are fetched. None fetches all.
        progress: called with a line for each file.
        say: called where the Hub gives no answer. The commit that the cache last knew of a branch is taken then.

    Returns:
        The bundle in the cache, with those graphs alone, and the commit SHA. Sizes are checked; checksums are when a
        file is used.

    Raises:
        HubError: where there is no such repository or revision, or no answer and nothing in the cache.
        BundleError: where it holds no bundle, or not those graphs.
        MissingExtra: without huggingface_hub.
    """
    progress(f"fetching {MANIFEST} of {address}")
    silence = _silence(address)
    try:
        # By the name of the branch, whose commit the cache then remembers.
        manifest = download(address.repository, MANIFEST, revision=address.revision, cached_only=silence is not None)
    except HubUnreachable as error:
        reason = "" if silence is None else f" ({silence})"
        raise HubUnreachable(f"{error.message}{reason}", fix=error.fix) from error
    if manifest is None:
        raise BundleError(
            f"{address} on the Hub holds no bundle: it has no {MANIFEST}",
            fix="a checkpoint becomes a bundle with tubelet export; tubelet push puts a bundle there",
        )
    commit = manifest.parent.name
    if silence is not None:
        say(f"the Hub gave no answer ({silence}); {address} was commit {commit} when it last did, and that is taken")
    bundle = Bundle.described(manifest.parent)
    if precisions is not None:
        _require_graphs(address, bundle, precisions)
        bundle = bundle.only(precisions)
    for file in bundle.files:
        progress(f"fetching {file.name} of {address} ({file.bytes / 1e6:.1f} MB)")
        found = download(address.repository, file.name, revision=commit)
        if found is None:
            raise BundleError(
                f"{address} on the Hub lacks {file.name}, which its {MANIFEST} lists",
                fix="push the bundle again, from where it is whole: tubelet push BUNDLE OWNER/NAME",
            )
        if found.stat().st_size != file.bytes:  # the cache's is damaged, or it is the Hub's
            download(address.repository, file.name, revision=commit, again=True)
    bundle.require_files()
    return bundle, commit


def _silence(address: HubAddress) -> str | None:
    """Why the Hub gives no answer, which the client does not tell where the cache has one. A commit is not asked for.

    Raises HubError where the Hub answers that there is no such thing.
    """
    if address.revision is not None and _COMMIT.fullmatch(address.revision):
        return None
    try:
        from huggingface_hub import HfApi, constants, errors
    except ImportError as error:
        raise MissingExtra("huggingface_hub", "hub", purpose=f"to fetch {address.repository}") from error
    try:
        HfApi().model_info(address.repository, revision=address.revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except errors.HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in _NO_ANSWER:
            return first_line(error)
        raise explained(error, address.repository, MANIFEST, address.revision) from error
    except errors.HFValidationError as error:
        raise explained(error, address.repository, MANIFEST, address.revision) from error
    except Exception as error:  # of the libraries below the client, each with a tree of its own
        return first_line(error)
    return None


def _require_graphs(address: HubAddress, bundle: Bundle, precisions: Collection[str]) -> None:
    have = [graph.precision for graph in bundle.graphs]
    if missing := [precision for precision in precisions if precision not in have]:
        raise BundleError(
            f"{address} on the Hub has no {missing[0]} graph; it has {', '.join(have)}",
            fix="choose one of those, or add it where the bundle was made (tubelet quantize BUNDLE --precision "
            f"{missing[0]}) and push it again",
        )


def download(
    repository: str,
    name: str,
    *,
    revision: str | None,
    repo_type: Literal["model", "dataset"] = "model",
    cached_only: bool = False,
    again: bool = False,
    extra: str = "hub",
) -> Path | None:
    """Fetch one file into the client's cache.

    Args:
        repository: owner/name.
        name: of the file.
        revision: a branch, tag or commit; None for the default branch.
        repo_type: what the repository is.
        cached_only: whether the Hub is known to be out of reach, so that asking it again would only take time.
        again: whether to fetch a file that is in the cache already.
        extra: of tubelet, which brings the client.

    Returns:
        Its path in the cache. None where the revision has no such file.

    Raises:
        HubError: where there is no such repository or revision; HubUnreachable where there is no answer and the cache
            does not have it either.
        MissingExtra: without huggingface_hub.
    """
    try:
        from huggingface_hub import _CACHED_NO_EXIST, errors, hf_hub_download, try_to_load_from_cache
    except ImportError as error:
        raise MissingExtra("huggingface_hub", extra, purpose=f"to fetch {repository}") from error
    try:
        # A commit never changes: a file that the Hub once said it lacks is not asked for again, so that what
        # is in the cache can be used while the Hub is out of reach.
        if (
            revision is not None
            and try_to_load_from_cache(repository, name, revision=revision, repo_type=repo_type) is _CACHED_NO_EXIST
        ):
            return None
        with bars_on_a_terminal():
            path = hf_hub_download(
                repository,
                name,
                revision=revision,
                repo_type=repo_type,
                local_files_only=cached_only,
                force_download=again,
            )
        return Path(path)
    except errors.RemoteEntryNotFoundError:
        return None
    except Exception as error:  # the client and the two libraries below it each have their own tree
        raise explained(error, repository, name, revision) from error


def explained(error: Exception, repository: str, name: str, revision: str | None) -> HubError:
    """Say what an error of the client means for someone who wants `name` of a repository."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repository}"
    match error:
        case errors.GatedRepoError():
            return HubError(
                f"{repository} is gated, and this account has not been let in",
                fix=f"ask for access at {page}, then log in with `hf auth login`",
            )
        case errors.RepositoryNotFoundError():
            return HubError(
                f"the Hub has no repository {repository} that this account may see",
                fix="check the spelling (a folder must exist as given); if it is private, `hf auth login`",
            )
        case errors.RevisionNotFoundError():
            return HubError(
                f"{repository} has no revision {revision!r}",
                fix=f"give a branch, tag or commit that {page}/commits/main shows",
            )
        case errors.LocalEntryNotFoundError():
            return HubUnreachable(
                f"the Hub gave no answer for {name} of {repository}, and the cache does not have it: "
                f"{first_line(error.__cause__ or error)}",
                fix="check the connection, or give a folder that holds the files",
            )
        case errors.HFValidationError():
            return HubError(f"{repository!r} is neither a folder that exists nor a Hub id: {first_line(error)}")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return HubError(
                f"{name} of {repository} could not be fetched into {constants.HF_HUB_CACHE}: {error.strerror}",
                fix="free some space there, or set HF_HOME to a folder that has more",
            )
        case _:
            return HubError(f"{name} of {repository} could not be fetched: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says something; the name of its class where none does."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextlib.contextmanager
def bars_on_a_terminal() -> Iterator[None]:
    """Let the client draw its progress within the block where stderr is a terminal, and nowhere else."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    chosen = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None  # by the user, with a variable
    if chosen or sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextlib.contextmanager
def retries_said(report: Callable[[str], None]) -> Iterator[None]:
    """Say once within the block that the Hub does not answer. This replaces the client's own log of its retries."""
    said: list[str] = []

    def is_for_the_log(record: logging.LogRecord) -> bool:
        retry = _RETRY.match(record.getMessage())
        if retry is not None and retry["why"] is not None and not said:
            said.append(retry["why"])
            report(f"the Hub does not answer ({retry['why']}); it is asked again a few times")
        return retry is None

    log = logging.getLogger(_CLIENT_LOG)
    log.addFilter(is_for_the_log)
    try:
        yield
    finally:
        log.removeFilter(is_for_the_log)
