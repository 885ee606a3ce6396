"""Everything that tubelet raises on purpose.

TubeletError
├── VideoError      (ValueError)    a video, or frames given in its place, cannot be used
├── BundleError     (ValueError)    a folder is no bundle, or not the bundle that was written
├── CheckpointError (ValueError)    a checkpoint cannot be found, read or accounted for
├── BackendError    (RuntimeError)  an engine cannot be started, or failed while running
│   └── NotAvailable                what it needs is not on this machine: a GPU, a provider, a newer GPU
├── HubError        (OSError)       the Hugging Face Hub refuses what is asked of it
│   └── HubUnreachable              it gives no answer
├── NotWritten      (OSError)       a file or folder cannot be written: no space, no permission
├── ParityError     (RuntimeError)  what a graph computes is outside tolerance of the reference
├── OutOfBounds     (ValueError)    an argument is not what it may be: a number too large, an unknown name
├── OutOfMemory     (MemoryError)   this process gets no more memory, or no more threads
├── TooManyFiles    (OSError)       this process may open no more files
└── MissingExtra    (ImportError)   an optional dependency is not installed

This is the lowest floor of the house: every folder may raise these. The command line turns them into messages in one
place. Each is also the builtin that a caller would expect, so `except ValueError` works.
"""

from collections.abc import Callable
from functools import partial

from .redaction import redacted


class TubeletError(Exception):
    """What is wrong with a value and what was expected; `fix` is the one thing to do about it.

    What a URL must keep to itself is taken out of both.
    """

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        self.message = redacted(message)
        self.fix = None if fix is None else redacted(fix)
        super().__init__(self.message if fix is None else f"{self.message}\n  fix: {self.fix}")


class VideoError(TubeletError, ValueError):
    """Raised when a video file, or an array given in its place, cannot become a clip."""


class BundleError(TubeletError, ValueError):
    """Raised when a folder is not a bundle, is damaged, or is of a format that this version cannot read."""


class CheckpointError(TubeletError, ValueError):
    """Raised when a checkpoint cannot be found, read, or accounted for key by key."""


class BackendError(TubeletError, RuntimeError):
    """Raised when the engine that was asked for cannot run, or fails while running."""


class NotAvailable(BackendError):
    """Raised when the engine that was asked for needs what this machine does not have."""


class HubError(TubeletError, OSError):
    """Raised when the Hugging Face Hub refuses what is asked of it, or does not have it."""


class HubUnreachable(HubError):
    """Raised when the Hugging Face Hub gives no answer, and what was asked for is not in the cache."""


class NotWritten(TubeletError, OSError):
    """Raised when a file or folder is refused: by the system, `errno` says which way, or for what lies there."""

    def __init__(self, message: str, *, fix: str | None = None, errno: int | None = None) -> None:
        super().__init__(message, fix=fix)
        self.errno = errno


class ParityError(TubeletError, RuntimeError):
    """Raised when an exported graph is outside tolerance of torch, so that no bundle is kept."""


class OutOfBounds(TubeletError, ValueError):
    """Raised when an argument is outside what it may be."""


class OutOfMemory(TubeletError, MemoryError):
    """Raised when this process gets no more memory, or no more threads."""


class VideoOutOfMemory(VideoError, OutOfMemory):
    """Raised when FFmpeg gets no memory or threads for one video; others may need less."""


class TooManyFiles(TubeletError, OSError):
    """Raised when this process may open no more files."""


class MissingExtra(TubeletError, ImportError):
    """Raised when a command needs a package of an extra that is not installed."""

    def __init__(self, package: str, extra: str, *, purpose: str) -> None:
        self.package = package
        self.extra = extra
        self.purpose = purpose
        super().__init__(f"{package} is not installed; it is needed {purpose}", fix=f"pip install 'tubelet[{extra}]'")

    def __reduce__(self) -> tuple[Callable[[], "MissingExtra"], tuple[()]]:
        return partial(MissingExtra, self.package, self.extra, purpose=self.purpose), ()
