"""Scratch folders that no death leaves behind.

What is written lies in `.NAME.XXXXXXXX` beside what it will be. Its maker holds a lock on a file in it. A lock ends
with its process, so a scratch folder that can be locked was left by a dead one. It is removed, and said, when the same
NAME is written next.
"""

import glob
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..progress import Progress, silent
from .lock import LOCK, NO_LOCKS, Holder, try_lock
from .sync import sync_folder

WRITER = "writer"  # the file in a scratch folder whose lock says that its maker lives
REPLACED = "replaced"  # in a scratch folder, what lay at the path and has not been replaced yet (see exchange.py)

# Another host's scratch folder may be alive although it can be locked, where a mount keeps locks to itself.
_ALIVE_ELSEWHERE_SECONDS = 24 * 3600

_SCRATCH = re.compile(r"\.(.+)\.[0-9a-f]{8}", re.DOTALL)

_REMOVING_SECONDS = 0.001  # what it takes to remove a folder that holds a lock and nothing else


@contextmanager
def scratch(parent: Path, name: str, *, say: Progress = silent) -> Iterator[Path]:
    """A fresh folder `.NAME.XXXXXXXX` in `parent`, gone with all it holds when the block ends.

    Those that dead processes left for the same name are removed first (see `collect`).
    """
    collect(parent, name, say=say)
    folder = parent / f".{name}.{secrets.token_hex(4)}"
    lock = None
    try:  # before there is a folder: a signal may come at any step
        lock = _make(folder)
        yield folder
    finally:
        try:
            _end(folder, parent / name, is_locked=lock is not None)
        except BaseException:  # a signal, which must not leave half of it
            _end(folder, parent / name, is_locked=lock is not None)
            raise
        finally:
            if lock is not None:
                _close(lock, folder)


def _end(folder: Path, path: Path, *, is_locked: bool) -> None:
    try:
        put_back(folder, path)  # or what lies aside would be all there is
    finally:
        _remove(folder, is_locked=is_locked)


def collect(parent: Path, name: str, *, say: Progress = silent) -> None:
    """Remove the scratch folders for `name` in `parent` whose makers are dead, and say so.

    One that holds what its maker was about to replace puts it back, where nothing has taken its place.
    """
    for folder in scratch_folders(parent, name):
        with suppress(OSError):
            folder.rmdir()  # its maker died before it wrote anything, or makes another
            continue
        holder = Holder.read(folder / WRITER)  # before the lock, which writes its own holder there
        lock = _lock_of_the_dead(folder, holder)
        if lock is None:
            continue
        try:
            if put_back(folder, parent / name):
                say(f"put {parent / name} back, which a process that died had moved aside")
            if not _is_all_there_is(folder, parent / name):
                _remove(folder, is_locked=True)
                _close(lock, folder)
                lock = None
                if holder is not None:  # or its maker had not even begun
                    say(f"removed {folder}, which {holder}, left behind when it died")
        except OSError as error:
            say(f"{folder} was left behind by a process that died, and cannot be removed: {error.strerror}")
        finally:
            if lock is not None:
                os.close(lock)


def scratch_folders(parent: Path, name: str) -> list[Path]:
    """Those for `name`, of the living and the dead."""
    found = parent.glob(f".{glob.escape(name)}.*")
    return sorted(path for path in found if name_of(path) == name and path.is_dir() and not path.is_symlink())


def name_of(folder: Path) -> str | None:
    """The name for which a scratch folder was made; None for a folder that is none."""
    found = _SCRATCH.fullmatch(folder.name)
    return None if found is None else found[1]


def put_back(folder: Path, path: Path) -> bool:
    """Whether what the scratch folder holds of `path` was put back there: not where something is there."""
    if os.path.lexists(path) or not (folder / REPLACED).is_dir():
        return False
    (folder / REPLACED / LOCK).unlink(missing_ok=True)  # of the writer that died
    (folder / REPLACED).rename(path)
    sync_folder(path.parent)
    return True


def _is_all_there_is(folder: Path, path: Path) -> bool:
    """Whether the scratch folder holds what lay at `path`, and another thing lies there now."""
    replaced = folder / REPLACED
    return replaced.is_dir() and not any((path / entry.name).exists() for entry in replaced.iterdir())


def _make(folder: Path) -> int | None:
    """Make a scratch folder and give the lock on it; None where the file system has no locks."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            lock = try_lock(folder / WRITER)
        except FileNotFoundError:
            continue  # who collects took it for a dead one's, between the two steps
        except OSError as error:
            if error.errno in NO_LOCKS:
                return None
            raise
        if lock is not None:
            return lock
        time.sleep(_REMOVING_SECONDS)  # who collects has the lock by now, and is about to remove it


def _lock_of_the_dead(folder: Path, holder: Holder | None) -> int | None:
    """The lock of a scratch folder whose maker is dead; None for one that lives, or may live elsewhere."""
    writer = folder / WRITER
    try:
        age = time.time() - writer.stat().st_mtime
        if holder is not None and not holder.is_of_this_system() and age < _ALIVE_ELSEWHERE_SECONDS:
            return None
        return try_lock(writer, make=False)
    except OSError:
        return None  # no scratch folder, no locks here, or gone by now: nothing is known of its maker


def _remove(folder: Path, *, is_locked: bool) -> None:
    """Remove a scratch folder, its lock's file last: what a kill leaves of it can still be collected."""
    try:
        _empty(folder)
    finally:
        # What could not be removed keeps that file, by which it is collected another day.
        if not (is_locked and _holds_more_than(folder, WRITER)):
            try:
                (folder / WRITER).unlink(missing_ok=True)
            except PermissionError:
                if os.name != "nt":  # which removes no file that is open: see `_close`
                    raise
            with suppress(OSError):
                folder.rmdir()


def _close(lock: int, folder: Path) -> None:
    """Give back the lock of a scratch folder that was removed."""
    os.close(lock)
    if os.name == "nt":
        with suppress(OSError):
            (folder / WRITER).unlink(missing_ok=True)
            folder.rmdir()


def _holds_more_than(folder: Path, name: str) -> bool:
    try:
        return folder.is_dir() and any(entry.name != name for entry in folder.iterdir())
    except OSError:
        return True  # no more files can be opened, and so none are known to be gone


def _empty(folder: Path) -> None:
    if (folder / REPLACED).is_dir():
        (folder / REPLACED).rename(folder / "removed")  # so that what bears the name is whole, and worth putting back
    for entry in folder.iterdir() if folder.is_dir() else ():  # it may have gone with the bundle around it
        if entry.is_dir() and not entry.is_symlink():
            _remove_tree(entry)
        elif entry.name != WRITER:
            entry.unlink(missing_ok=True)


def _remove_tree(folder: Path) -> None:
    """Remove what can be removed.

    Not by shutil.rmtree, which makes another error of a signal. It also keeps a file open for each folder on the way
    down, and there may be no more.
    """
    for inner, folders, names in os.walk(folder, topdown=False):
        for name in (*names, *folders):
            path = Path(inner, name)
            with suppress(OSError):
                if path.is_dir() and not path.is_symlink():
                    path.rmdir()
                else:
                    path.unlink()
    with suppress(OSError):
        folder.rmdir()
