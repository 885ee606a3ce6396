"""pull: a bundle on the Hub becomes a folder, whole and verified, that says which commit it was."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...preprocess.errors import BundleError
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.files import BundleFile, file_sha256
from ...runtime.bundle.manifest import MANIFEST
from ...runtime.bundle.origin import Origin
from ...runtime.bundle.target import check_target
from ...runtime.hub import HubAddress, download, fetch_bundle, retries_said
from ...runtime.progress import Progress, silent
from ...runtime.storage.exchange import restored, written_folder


@dataclass(frozen=True)
class Pulled:
    """A bundle that came from the Hub. was_there: whether the folder held it already, so that nothing was written."""

    bundle: Bundle
    origin: Origin
    was_there: bool


def default_folder(address: HubAddress) -> Path:
    """artifacts/ and the name of the repository, as an export has it."""
    return Path("artifacts") / address.repository.partition("/")[2]


def pull(
    address: HubAddress,
    output: Path,
    *,
    precisions: Sequence[str] = (),
    force: bool = False,
    progress: Progress = silent,
    say: Progress = silent,
) -> Pulled:
    """Pull a bundle from the Hub into a folder.

    Only the files that its manifest names are fetched. They come through the Hub's cache, so a pull that broke off
    goes on where it was. Each is verified by its sha256 in the folder itself. The manifest there has the graphs that
    were asked for alone. A folder that holds the same already stays as it is.

    Args:
        address: the repository, and a branch, tag or commit of it.
        output: the folder of the bundle.
        precisions: of the graphs that are wanted. None means all.
        force: replace another bundle that is at `output`.
        progress: called with a line for each step.
        say: called with each line that a user should keep.

    Raises:
        HubError: where there is no such repository or revision, or no answer.
        BundleError: where it holds no bundle, or files of another sha256; where something at `output` may not be
            replaced.
        NotWritten: where the system refuses to write.
        MissingExtra: without huggingface_hub.
    """
    restored(output, say=say)
    before = _pulled_before(output, address)
    if before is None:
        check_target(output, force=force)  # before anything is fetched
    with retries_said(say):
        cached, commit = fetch_bundle(address, precisions or None, progress=progress, say=say)
        if before is not None and _holds(output, before, cached, commit):
            return Pulled(Bundle.open(output), before, was_there=True)
        check_target(output, force=force)
        with written_folder(output, check=lambda: check_target(output, force=force), say=say) as fresh:
            for file in cached.files:
                progress(f"verifying {file.name}")
                _copy_verified(address.at(commit), file, cached.path, fresh, say)
            origin = _complete(cached, fresh, address, commit)
    return Pulled(Bundle.open(output), origin, was_there=False)


def _pulled_before(output: Path, address: HubAddress) -> Origin | None:
    """What a folder says it was pulled from, where that is the same repository."""
    try:
        origin = Origin.read(output)
    except BundleError:
        return None  # whether it may be replaced is asked of its manifest
    return origin if origin is not None and origin.repository == address.repository else None


def _holds(output: Path, before: Origin, cached: Bundle, commit: str) -> bool:
    """Whether the folder holds that very commit with those very graphs, every file verified."""
    if before.commit != commit or before.bundle_sha256 != cached.sha256:
        return False
    try:
        here = Bundle.open(output)
        for file in here.files:
            here.verified(file)
    except BundleError:
        return False
    return here.sha256 == cached.sha256


def _copy_verified(address: HubAddress, file: BundleFile, cache: Path, fresh: Path, say: Progress) -> None:
    """Copy a file out of the cache, fetched again where the cache's is damaged. Raises BundleError for another file."""
    copy = fresh / file.name
    shutil.copyfile(cache / file.name, copy)
    if file_sha256(copy) == file.sha256:
        return
    say(f"{file.name} in the Hub's cache is not the file that was pushed; it is fetched again")
    found = download(address.repository, file.name, revision=address.revision, again=True)
    if found is not None:
        shutil.copyfile(found, copy)
    if file_sha256(copy) != file.sha256:
        raise BundleError(
            f"{file.name} of {address} on the Hub is not the file that its {MANIFEST} lists: its sha256 differs",
            fix="pull another revision, or have the bundle pushed again from where it was exported",
        )


def _complete(cached: Bundle, fresh: Path, address: HubAddress, commit: str) -> Origin:
    """Write the manifest of the graphs that are there, and where they came from."""
    local = replace(cached, path=fresh)
    if local.sha256 == Bundle.described(cached.path).sha256:
        shutil.copyfile(cached.path / MANIFEST, fresh / MANIFEST)
    else:
        local.write_manifest()
    origin = Origin(address.repository, address.revision, commit, local.sha256)
    origin.write(fresh)
    return origin
