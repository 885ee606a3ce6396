"""push: a bundle goes to the Hub in one commit, with a card that says what it is. Every checksum is verified before."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...preprocess.errors import BundleError, HubError, HubUnreachable, MissingExtra, TubeletError
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.manifest import MANIFEST
from ...runtime.hub import HubAddress, bars_on_a_terminal, download, explained, first_line, retries_said
from ...runtime.packages import installed_version
from ...runtime.progress import Progress, silent
from .card import CARD, NO_ACCURACY, Licence, is_ours, metadata, write_card
from .evaluation import Evaluation

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MOVED = (409, 412)  # what the Hub says of a commit whose parent is no longer the last one

CardChoice = Literal["written", "given", "kept"]


@dataclass(frozen=True)
class Pushed:
    """A bundle that went to the Hub.

    Attributes:
        address: the repository, at the commit.
        page: of the commit, for a browser.
        card: whether it was written, given by the user, or kept because a person had edited it.
        changed: whether there was anything to commit.
    """

    address: HubAddress
    page: str
    card: CardChoice
    changed: bool


def push(
    path: Path,
    address: HubAddress,
    *,
    private: bool = False,
    card: Path | None = None,
    evaluation: Path | None = None,
    progress: Progress = silent,
    say: Progress = silent,
) -> Pushed:
    """Push a bundle to the Hub: the files that its manifest lists and a card, in one commit.

    The repository and the branch are made where there are none. Files of the bundle that lay there before, and are not
    in this one, are removed; all others stay. When an upload broke off, the same call goes on: what arrived is not sent
    again. Engines stay here.

    Args:
        path: the folder of the bundle.
        address: the repository and the branch; None is the default branch.
        private: make the repository private, where it is made.
        card: Markdown of the user's own, in the place of the card that is written here.
        evaluation: what `tubelet evaluate --json` printed of this bundle, for the card that is written here.
        progress: called with a line for each step.
        say: called with each line that a user should keep.

    Raises:
        BundleError: for a bundle that is damaged, and for a card that cannot be read.
        HubError: where the Hub refuses it, knows no such account, or gives no answer.
        MissingExtra: without huggingface_hub.
    """
    api = _client(address)
    bundle = Bundle.open(path)
    for file in bundle.files:
        progress(f"verifying {file.name}")
        bundle.verified(file)
    given = None if card is None else _read_card(card)
    accuracy = None if evaluation is None else Evaluation.read(evaluation, bundle)
    with retries_said(say), bars_on_a_terminal(), _explaining(address):
        progress(f"looking at {address.repository}")
        before = _prepared(api, address, private)
        there = {sibling.rfilename for sibling in before.siblings or ()}
        chosen, content = _choose_card(bundle, address, given, accuracy, before, api, say)
        operations = _operations(bundle, content, _stale(bundle, address, before, there))
        progress(f"pushing {sum(file.bytes for file in bundle.files) / 1e6:.1f} MB to {address.repository}")
        commit = api.create_commit(
            address.repository,
            operations,
            commit_message=f"tubelet push: {bundle.model_id}, {', '.join(graph.precision for graph in bundle.graphs)}",
            revision=address.revision,
            parent_commit=before.sha,
        )
        _require_all(bundle, api.model_info(address.repository, revision=commit.oid))
    return Pushed(address.at(commit.oid), commit.commit_url, chosen, changed=commit.oid != before.sha)


def _client(address: HubAddress) -> "HfApi":
    if address.revision is not None and _COMMIT.fullmatch(address.revision):
        raise HubError(f"{address.revision} is a commit, and a push makes a new one", fix="give a branch")
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingExtra("huggingface_hub", "hub", purpose=f"to push to {address}") from error
    return HfApi(library_name="tubelet", library_version=installed_version("tubelet"))


def _read_card(card: Path) -> str:
    try:
        return card.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{card} is no text in UTF-8, which a card is", fix="save it as UTF-8") from error


def _prepared(api: "HfApi", address: HubAddress, private: bool) -> "ModelInfo":
    """What the branch of the repository holds; both are made where there are none."""
    from huggingface_hub import errors

    repository = address.repository
    try:
        found = api.model_info(repository)
    except errors.RepositoryNotFoundError:
        api.create_repo(repository, private=private or None, exist_ok=True)
    else:
        if private and not found.private:
            raise HubError(
                f"{repository} is there already, and is public; --private is for a repository that is made",
                fix=f"make it private in the settings of {api.endpoint}/{repository}, or choose another name",
            )
    try:
        return api.model_info(repository, revision=address.revision)
    except errors.RevisionNotFoundError:
        if address.revision is None:
            raise
        api.create_branch(repository, branch=address.revision, exist_ok=True)
        return api.model_info(repository, revision=address.revision)


def _choose_card(
    bundle: Bundle,
    address: HubAddress,
    given: str | None,
    accuracy: Evaluation | None,
    before: "ModelInfo",
    api: "HfApi",
    say: Progress,
) -> tuple[CardChoice, str | None]:
    """The card that is pushed; None where a person edited the one that is there."""
    if given is not None and given.startswith("---"):
        return "given", given
    if given is not None:
        return "given", f"{metadata(bundle, _licence(bundle, api, say))}\n{given}"
    old = ""
    if any(sibling.rfilename == CARD for sibling in before.siblings or ()):
        found = download(address.repository, CARD, revision=before.sha)
        old = "" if found is None else found.read_text(encoding="utf-8", errors="replace")
    if old and not is_ours(old):
        say(f"{CARD} of {address.repository} was edited by hand, and stays; --card FILE replaces it")
        return "kept", None
    if old and accuracy is None and NO_ACCURACY not in old:
        say(f"{CARD} of {address.repository} gave an accuracy, which the new one does not: give it with --evaluation")
    return "written", write_card(bundle, address, _licence(bundle, api, say), accuracy)


def _licence(bundle: Bundle, api: "HfApi", say: Progress) -> Licence | None:
    """The licence that the checkpoint's card on the Hub names; None, and said, where it cannot be known."""
    unknown = "; the card names none: add it there, or with --card FILE"
    if bundle.commit is None:
        say(f"the licence of {bundle.model_id} is not known, because it was exported from a folder{unknown}")
        return None
    try:
        card = api.model_info(bundle.model_id, revision=bundle.commit).card_data
    except Exception as error:
        found = explained(error, bundle.model_id, CARD, bundle.commit)
        say(f"the licence of {bundle.model_id} could not be asked for ({found.message}){unknown}")
        return None
    named = None if card is None else card.get("license")
    if card is None or not isinstance(named, str):
        say(f"the card of {bundle.model_id} names no licence{unknown}")
        return None
    return Licence(named, card.get("license_name"), card.get("license_link"))


def _stale(bundle: Bundle, address: HubAddress, before: "ModelInfo", there: set[str]) -> set[str]:
    """Files of the bundle that lay there before, which this one has not."""
    if MANIFEST not in there:
        return set()
    manifest = download(address.repository, MANIFEST, revision=before.sha)
    old: tuple[str, ...] = ()
    if manifest is not None:
        with suppress(BundleError):  # what no bundle listed is no file of a bundle, and stays
            old = tuple(file.name for file in Bundle.described(manifest.parent).files)
    return (set(old) & there) - {file.name for file in bundle.files}


def _operations(bundle: Bundle, card: str | None, stale: set[str]) -> list[Any]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    names = [MANIFEST, *(file.name for file in bundle.files)]
    return [
        *(CommitOperationAdd(name, str(bundle.path / name)) for name in names),
        *([] if card is None else [CommitOperationAdd(CARD, card.encode())]),
        *(CommitOperationDelete(name, is_folder=False) for name in sorted(stale)),
    ]


def _require_all(bundle: Bundle, after: "ModelInfo") -> None:
    """Raise HubError where the commit lacks a file: one that a .gitignore of the repository names is left out."""
    there = {sibling.rfilename for sibling in after.siblings or ()}
    if missing := [name for name in (MANIFEST, *(file.name for file in bundle.files)) if name not in there]:
        raise HubError(
            f"the commit {after.sha} lacks {', '.join(missing)}, which was pushed",
            fix="see whether a .gitignore in the repository names it, and push again",
        )


@contextmanager
def _explaining(address: HubAddress) -> Iterator[None]:
    """Turn an error of the client within the block into a HubError."""
    try:
        yield
    except TubeletError:
        raise
    except Exception as error:  # the client and the libraries below it each have their own tree
        raise _refused(error, address) from error


def _refused(error: Exception, address: HubAddress) -> HubError:
    """What an error of the client means for someone who pushes."""
    from huggingface_hub import errors

    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubUnreachable(
            f"HF_HUB_OFFLINE is set, and a push to {address} needs the Hub", fix="unset HF_HUB_OFFLINE"
        )
    if status == 401:
        return HubError(
            f"the Hub does not know who pushes to {address.repository}",
            fix="log in with a token that may write: hf auth login",
        )
    if status == 403:
        return HubError(
            f"this account may not write to {address.repository}: {first_line(error)}",
            fix="log in with a token that may write there (hf auth login), or push to a name of your own",
        )
    if status in _MOVED:
        return HubError(
            f"{address.repository} was changed by someone else while the bundle was pushed, so nothing was committed",
            fix="push again",
        )
    if isinstance(error, errors.RevisionNotFoundError | errors.RepositoryNotFoundError | errors.HFValidationError):
        return explained(error, address.repository, "the bundle", address.revision)
    if isinstance(error, ValueError) and status is None:
        return HubError(f"the Hub refuses the card: {' '.join(str(error).split())}", fix="correct it with --card FILE")
    cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ is not None else error
    return HubError(
        f"the bundle did not reach {address.repository}: {first_line(cause)}",
        fix="push again: what arrived is not sent a second time",
    )
