"""One writer at a time: a lock on a file, which the system takes back however its holder ends.

The lock of a bundle is the file BUNDLE/.lock. It lies inside, so that it holds by whichever path, link, mount or
container a writer comes. It also holds where the folder around the bundle cannot be written. It is there only while
somebody writes: who held it removes it. A folder that was replaced takes its lock along, so a lock counts only while
it lies at its path. Readers need none: what they see is whole at every moment.

The lock is the system's own (flock; LockFileEx on Windows), as `filelock` takes it, and no file whose mere existence
counts: that would outlive a holder who was killed. Over NFS it holds between hosts where the server keeps locks
(NFSv4; NFSv3 with lockd). On a host that mounted with nolock or local_lock it holds within that host alone. Where
there are no locks, it is said.
"""

import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from ..progress import Progress, silent

LOCK = ".lock"

# What a file system says that has no locks.
NO_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK})

_POLL_SECONDS = 0.05
_GONE_POLLS = 20  # for how many of them a folder may be missing that two renames are about to replace


@dataclass(frozen=True)
class Holder:
    """Who holds a lock. system: of the running kernel, the same in all its containers; "" where it says none.
    since: UTC, ISO 8601."""

    pid: int
    host: str
    system: str
    since: str

    @classmethod
    def of_this_process(cls) -> Self:
        return cls(os.getpid(), socket.gethostname(), _system(), datetime.now(UTC).isoformat(timespec="seconds"))

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Who wrote the lock file last; None where that cannot be read."""
        try:
            return cls(**json.loads(path.read_bytes()[1:]))
        except (OSError, ValueError, TypeError):
            return None

    def is_of_this_system(self) -> bool:
        return self.host == socket.gethostname() or (self.system != "" and self.system == _system())

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


def _system() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def try_lock(path: Path, *, make: bool = True) -> int | None:
    """Lock the file at `path` and write into it who holds it.

    Args:
        path: the file.
        make: whether to make it where it is not there.

    Returns:
        The descriptor that holds the lock until `unlock`; None where another holds it.

    Raises:
        OSError: with one of NO_LOCKS where the file system has none.
    """
    from filelock import lock_descriptor  # here, because readers need no lock and should start without it

    descriptor = _open(path, os.O_CREAT if make else 0)
    try:
        if lock_descriptor(descriptor, blocking=False) and _lies_at(descriptor, path):
            with suppress(OSError):  # opened for reading only: another user's, whose name then stays in it
                # The first byte is left out: on Windows, the one that is locked, nobody else can read.
                os.truncate(descriptor, 0)
                os.write(descriptor, b"\n" + json.dumps(asdict(Holder.of_this_process())).encode())
            return descriptor
    except BaseException as error:
        try:
            # A signal must not leave the file. Where the system refuses the lock, it would refuse it again.
            if make and not isinstance(error, OSError) and lock_descriptor(descriptor, blocking=False):
                _remove(descriptor, path)
        finally:
            os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def unlock(descriptor: int, path: Path) -> None:
    """Give the lock back, and remove its file unless another lies at `path` by now."""
    try:
        _remove(descriptor, path)
    finally:
        os.close(descriptor)


def _remove(descriptor: int, path: Path) -> None:
    if _lies_at(descriptor, path):
        with suppress(PermissionError):  # Windows removes no file that is open
            path.unlink()


@contextmanager
def locked(folder: Path, *, say: Progress = silent) -> Iterator[None]:
    """Hold the lock of the bundle at `folder`. Where another holds it, say who, and wait."""
    path = folder / LOCK
    descriptor = None
    try:
        descriptor = _wait(path, say)
        yield
    finally:
        if descriptor is not None:
            try:
                _remove(descriptor, path)
            except BaseException:  # a signal, which must not leave the file
                _remove(descriptor, path)
                raise
            finally:
                os.close(descriptor)


def _wait(path: Path, say: Progress) -> int | None:
    """The descriptor of the lock; None where the file system has no locks, which is said."""
    said, gone = False, 0
    while True:
        try:
            descriptor = try_lock(path)
        except FileNotFoundError:
            gone += 1
            if gone > _GONE_POLLS:
                raise
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            say(f"the file system of {path.parent} has no locks: nothing keeps two writers of it apart")
            return None
        else:
            if descriptor is not None:
                return descriptor
            if not said:
                holder = Holder.read(path)
                if holder is not None:
                    say(f"waiting for {path.parent}: it is being written by {holder}")
                    said = True
        time.sleep(_POLL_SECONDS)


def _open(path: Path, make: int) -> int:
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        return os.open(path, os.O_RDWR | make | flags, 0o666)
    except PermissionError:
        with suppress(OSError):
            return os.open(path, os.O_RDONLY | flags)  # another user's, which can be locked all the same
        raise


def _lies_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False
