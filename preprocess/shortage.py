"""Too little memory, too few threads or files: told from what each library raises, and said in one way.

NumPy raises MemoryError, torch RuntimeError, the system OSError, FFmpeg its own. ONNX Runtime and OpenVINO raise
exceptions with std::bad_alloc in their text. All of them become OutOfMemory or TooManyFiles, which are also the
MemoryError and the OSError that a caller expects.
"""

import errno
import mmap
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import OutOfMemory, TooManyFiles, TubeletError

MEMORY_ERRNOS = {errno.ENOMEM, errno.EAGAIN}  # EAGAIN: a thread could not be started
FILES_ERRNOS = {errno.EMFILE, errno.ENFILE}

# In lower case, from the errors of libraries that have no type for it.
_MEMORY_WORDS = (
    "bad_alloc",
    "bad allocation",
    "can't alloc",
    "cannot allocate memory",
    "failed to map segment",
    "can't start new thread",
    "pthread_create failed",
    "resource temporarily unavailable",
    "without setting an exception",  # Python's SystemError, where a library lost the MemoryError
    "without exception set",
)
_FILES_WORDS = ("too many open files",)

# Bytes of address space that are given back when memory runs out: to say so takes memory, and what was raised still
# holds all that there was. No page of it is touched.
_RESERVE = 4 << 20


def shortage_of(error: BaseException) -> TubeletError | None:
    """What to raise where an error, or what caused it, is a lack of memory, threads or files. None otherwise."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OutOfMemory | TooManyFiles):
            return cause
        number = cause.errno if isinstance(cause, OSError) else None
        words = "" if isinstance(cause, TubeletError) else str(cause).lower()  # its own words may be of the user
        if number in FILES_ERRNOS or any(known in words for known in _FILES_WORDS):
            return too_many_files(_said_by(cause))
        if isinstance(cause, MemoryError) or number in MEMORY_ERRNOS or any(known in words for known in _MEMORY_WORDS):
            return OutOfMemory(
                f"out of memory or threads: {_said_by(cause)}",
                fix="free memory, or allow this process more; a smaller batch and fewer threads, workers or views need "
                "less",
            )
        cause = cause.__cause__
    return None


def raise_shortage(error: BaseException) -> None:
    """Raise OutOfMemory or TooManyFiles where that is what an error comes to, and return where it is not."""
    shortage = shortage_of(error)
    if shortage is not None and shortage is not error:
        raise shortage from error


@contextmanager
def shortages_named() -> Iterator[None]:
    """A block, or a function, that raises OutOfMemory or TooManyFiles where memory, threads or files run out."""
    try:
        with mmap.mmap(-1, _RESERVE):
            yield
    except Exception as error:
        raise_shortage(error)
        raise


def too_many_files(said: str) -> TooManyFiles:
    return TooManyFiles(f"too many files are open: {said}", fix="close some, or allow this process more (ulimit -n)")


def _said_by(error: BaseException) -> str:
    words = error.message if isinstance(error, TubeletError) else str(error)
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
