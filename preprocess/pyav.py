"""PyAV as tubelet needs it, in any version from 16 on: where they differ, and errors that are not FFmpeg's.

FFmpeg's own errors, `av.FFmpegError`, tell about the file and pass through. Whatever else comes out of PyAV means that
it and tubelet do not understand each other. It becomes a VideoError here.
"""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import av
from av.container import InputContainer
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from .errors import VideoError, VideoOutOfMemory
from .redaction import redacted_url
from .shortage import FILES_ERRNOS, MEMORY_ERRNOS, too_many_files

if TYPE_CHECKING:  # PyAV 16 has no such module
    from av.index import IndexEntry

# Chroma at full width, SWS_FULL_CHR_H_INT in libswscale/swscale.h; named by PyAV from 18 on, taken by all.
FULL_CHROMA: int = 0x2000

# What PyAV may raise that is no FFmpegError: an argument that another version has, a tag that is not UTF-8.
UNEXPECTED = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError)

# What decoding raises where the data is at fault: PyAV 19 asks a decoder that FFmpeg could not open for no more.
UNDECODABLE = (av.FFmpegError, ValueError)

# Titles and tags need not be UTF-8: from 19 on they are never refused, before they are where nothing else is said.
_TAGS: Mapping[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


# Bytes of address space without which no file is opened: FFmpeg may end the process where it runs out of memory there.
_TO_OPEN = 16 << 20


def open_container(source: Any, **options: Any) -> InputContainer:
    """What `av.open` gives for reading, with tags of any encoding. Raises OSError where memory is short."""
    with mmap.mmap(-1, _TO_OPEN):  # no page of it is touched
        pass
    container: InputContainer = av.open(source, **options, **_TAGS)
    return container


def bytes_of(container: InputContainer) -> int:
    """How large the file is; 0 where that is not known. PyAV then gives a value below 0 before version 19, and None
    from there on.
    """
    size: int | None = container.size
    return max(size or 0, 0)


def listed_frames(stream: VideoStream) -> Sequence["IndexEntry"]:
    """The frames that the file lists, undecoded; none with PyAV 16, which does not tell."""
    listed: Sequence[IndexEntry] = getattr(stream, "index_entries", ())
    return listed


def interpolation(kind: Interpolation) -> int:
    """swscale's flags for a resize by `kind` that keeps chroma at full width."""
    return int(kind.value) | FULL_CHROMA


def unexpected(name: object, error: Exception) -> VideoError:
    """What to raise for one of UNEXPECTED that came while the video called `name` was read."""
    return VideoError(
        f"{name} cannot be read: PyAV {av.__version__} raised {type(error).__name__}: {error}",
        fix="where other videos fail so too, install a PyAV that tubelet knows: pip install 'av>=16,<20'",
    )


def refuse_shortage(name: object, error: BaseException) -> None:
    """Raise the error of a shortage where FFmpeg's is one, and return where it is not.

    A lack of memory, threads or files is no fault of the video called `name`.
    """
    if not isinstance(error, av.FFmpegError | OSError):
        return
    if error.errno in FILES_ERRNOS:
        raise too_many_files(f"{name} cannot be opened") from error
    if error.errno in MEMORY_ERRNOS:
        raise VideoOutOfMemory(
            f"{name} cannot be read: FFmpeg gets no memory or threads for it ({error.strerror})",
            fix="free memory, or allow this process more; where there is plenty, the file is damaged and asks for "
            "too much",
        ) from error


def hide_secrets(error: av.FFmpegError) -> None:
    """Take passwords out of the URL that an error of FFmpeg names: a traceback would show it."""
    error.args = tuple(redacted_url(part) if isinstance(part, str) else part for part in error.args)


@contextmanager
def pyav(name: object) -> Iterator[None]:
    """A block of calls to PyAV about the video called `name`, which raises FFmpeg's errors and VideoError alone."""
    try:
        yield
    except av.FFmpegError as error:
        hide_secrets(error)
        refuse_shortage(name, error)
        raise
    except VideoError:
        raise
    except UNEXPECTED as error:
        raise unexpected(name, error) from error
