"""Contents and names that are on the disk before anything counts on them."""

import errno
import os
from pathlib import Path


def sync_file(path: Path) -> None:
    """Return when the file's contents are on the disk."""
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Return when the names in the folder are on the disk, where the system can tell."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):  # of file systems that sync files alone
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Return when everything in the folder is on the disk."""
    for inner, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(inner, name))
        sync_folder(Path(inner))
