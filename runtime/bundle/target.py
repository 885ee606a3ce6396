"""The folder that a new bundle is to take: free, or a bundle that may be replaced."""

import os
from pathlib import Path

from ...preprocess.errors import BundleError
from ..storage.exchange import is_mount_point
from .manifest import MANIFEST


def check_target(output: Path, *, force: bool) -> None:
    """Raise BundleError where `output` exists and may not be replaced.

    That is what is not a bundle, and a bundle that is a mount point, whose place nothing can take. Without `force` it
    is any bundle.
    """
    if not os.path.lexists(output):
        return
    if not output.exists():
        raise BundleError(
            f"{output} is a link to {output.readlink()}, which does not exist", fix="remove the link, or mend it"
        )
    if not (output / MANIFEST).is_file():
        raise BundleError(
            f"{output} exists and is not a bundle, so --force does not replace it",
            fix="choose another folder with -o, or remove what is there",
        )
    if is_mount_point(output):
        raise BundleError(
            f"{output} is a mount point, and a bundle is replaced by another folder in its place",
            fix="choose a folder inside or outside of it with -o",
        )
    if not force:
        raise BundleError(f"{output} exists", fix="choose another folder with -o, or replace it with --force")
