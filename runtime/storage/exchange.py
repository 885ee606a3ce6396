"""Folders that take another's place whole.

Where the system can, two folders change places in one step (Linux: renameat2; macOS: renamex_np). Then there is no
moment without one. Elsewhere (some network file systems) it takes two renames. Who is killed between them leaves the
path empty, and what lay there in a scratch folder. Whoever opens or writes that path next puts it back (`restored`).
"""

import ctypes
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from ...preprocess.errors import BackendError, BundleError
from ..progress import Progress, silent
from .lock import locked
from .scratch import REPLACED, collect, scratch, scratch_folders
from .sync import sync_folder, sync_tree
from .written import naming

Value = TypeVar("Value")

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
_RENAME_SWAP = 2  # sys/stdio.h of macOS

# What the system says where it, or the file system, knows no exchange.
_NO_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

_RENAMING_SECONDS = 1.0  # longer than two renames take


@contextmanager
def written_folder(path: Path, *, check: Callable[[], None], say: Progress = silent) -> Iterator[Path]:
    """Make a fresh folder beside `path`, which takes its place when the block ends well, and is gone when not.

    Args:
        path: where the folder goes.
        check: raises where `path` may not be replaced. It is asked again at the end, because something may have come
            there.
        say: called with what a user should keep: who is waited for, what is removed.

    Raises:
        NotWritten: where the system refuses it. What lay at `path` then still does.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch(path.parent, path.name, say=say) as folder:
            fresh = folder / path.name
            fresh.mkdir()
            yield fresh
            sync_tree(fresh)
            check()
            if not _moved(fresh, path):
                check()
                with locked(path, say=say):
                    exchange(fresh, path, aside=folder / REPLACED)
            sync_folder(path.parent)


def _moved(fresh: Path, path: Path) -> bool:
    """Whether `fresh` went to `path`, where nothing was."""
    if path.exists():
        return False
    try:
        fresh.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another writer was there first
            raise
        return False
    return True


def exchange(fresh: Path, path: Path, *, aside: Path) -> None:
    """Put the folder `fresh` in the place of `path`, and what lay there to `fresh` or `aside`.

    Where it fails, `path` is as it was.
    """
    if _exchange_at_once(fresh, path):
        return
    try:
        path.rename(aside)
        fresh.rename(path)
    except BaseException:
        if aside.exists() and not path.exists():
            aside.rename(path)
        raise


def is_mount_point(path: Path) -> bool:
    """Whether a file system, or a folder of one, is mounted at `path`. Then it can be neither moved nor replaced."""
    mounts = Path("/proc/self/mountinfo")
    if not mounts.exists():
        return path.is_mount()
    points = (line.split()[4] for line in mounts.read_text(errors="surrogateescape").splitlines())
    escaped = os.fspath(path.resolve()).replace("\\", "\\134").replace(" ", "\\040").replace("\n", "\\012")
    return escaped.replace("\t", "\\011") in points


def _exchange_at_once(first: Path, second: Path) -> bool:
    """Whether the system let both change places."""
    names = os.fsencode(first), os.fsencode(second)
    if sys.platform == "linux":
        call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        arguments = (_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    elif sys.platform == "darwin":
        call = getattr(ctypes.CDLL(None, use_errno=True), "renamex_np", None)
        arguments = (*names, _RENAME_SWAP)
    else:
        return False
    if call is None:
        return False
    if call(*arguments) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), os.fspath(first), None, os.fspath(second))


def restored(path: Path, *, say: Progress = silent) -> None:
    """Put back what a process that died had moved aside of `path`, where nothing lies there.

    Waits for a process that lives and is between its two renames.
    """
    end = time.monotonic() + _RENAMING_SECONDS
    while not os.path.lexists(path) and _replaced(path):
        with suppress(OSError):  # another who reads was faster
            collect(path.parent, path.name, say=say)
        if time.monotonic() > end:
            return
        time.sleep(0.01)


def while_it_stays(manifest: Path, read: Callable[[], Value]) -> Value:
    """Read from the bundle of that manifest, again where the manifest was replaced meanwhile.

    One bundle's manifest does not fit another's files.
    """
    while True:
        before = _identity(manifest)
        try:
            return read()
        except (BundleError, BackendError):
            if _identity(manifest) == before:
                raise


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Tells a file from every other that lay at `path`; None where none does."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _replaced(path: Path) -> list[Path]:
    """The scratch folders that hold what lay at `path`."""
    return [folder for folder in scratch_folders(path.parent, path.name) if (folder / REPLACED).is_dir()]
