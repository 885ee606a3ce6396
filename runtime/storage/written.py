"""Files that are there whole or not at all, and what the system refuses in words.

    with written_file(path) as beside:      # a path of the same name in a scratch folder beside it
        beside.write_text(text)             # takes the place of what lies at `path` when the block ends well

Contents reach the disk before they take their place. What was not finished goes with its folder (see scratch.py).
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...preprocess.errors import NotWritten
from ..progress import Progress, silent
from .scratch import WRITER, name_of, scratch
from .sync import sync_file, sync_folder

_FIXES = {
    errno.ENOSPC: "free some space there, or choose another folder",
    errno.EDQUOT: "free some of your quota there, or choose another folder",
    errno.EFBIG: "raise the limit on the size of files, or choose another folder",
    errno.EROFS: "choose a folder on a file system that is not read-only",
    errno.EACCES: "choose another folder, or have yourself given the right to write in it",
    errno.EPERM: "choose another folder, or have yourself given the right to write in it",
}

# Said by NumPy's tofile, by which onnx_ir and np.save write: a write failed, and the errno that says why is lost.
_REASON_LOST = re.compile(r"\d+ requested and \d+ written|problem writing element \d+ to file")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what the system refuses while `path` is written into NotWritten, which names it.

    Errors about other files pass. A full disk names none, and is about what is being written.
    """
    try:
        yield
    except NotWritten:
        raise
    except OSError as error:
        if _REASON_LOST.fullmatch(str(error)):
            raise NotWritten(f"{_shown(path)} cannot be written: {error}", fix=_FIXES[errno.ENOSPC]) from error
        if error.errno is None or not _is_about(error, path):
            raise
        where = "" if error.filename is None or _lies_in_scratch(error, path) else f" ({error.filename})"
        raise NotWritten(
            f"{_shown(path)} cannot be written: {error.strerror}{where}",
            fix=_FIXES.get(error.errno, "choose another folder"),
            errno=error.errno,
        ) from error


def _shown(path: Path) -> Path:
    """The path that a user knows: what a scratch folder is for, where `path` lies in one."""
    for folder in path.parents:
        name = name_of(folder)
        if name is not None and (folder / WRITER).exists():
            return _shown(folder.parent / name)
    return path


def _is_about(error: OSError, path: Path) -> bool:
    if error.filename is None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
    named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else path
    return named.is_relative_to(path) or named in path.parents or _lies_in_scratch(error, path)


def _lies_in_scratch(error: OSError, path: Path) -> bool:
    return os.fsdecode(error.filename).startswith(os.fspath(path.parent / f".{path.name}."))


@contextmanager
def written_file(path: Path, *, follow_link: bool = False, say: Progress = silent) -> Iterator[Path]:
    """Give a path to write a file to. The file takes its place at `path` when the block ends well, and is gone when
    not.

    Args:
        path: where the file goes.
        follow_link: whether a link at `path` stays, and what it points to is replaced. Otherwise the link is.
        say: called with what a user should keep.

    Raises:
        NotWritten: where the system refuses it, and for a device or a pipe, which a file would replace. What lay at
            `path` then still does.
    """
    target = path.resolve() if follow_link else path
    if target.exists() and not target.is_symlink() and not (target.is_file() or target.is_dir()):
        raise NotWritten(f"{target} is no file: it would be replaced by one", fix="choose another name")
    with naming(target), scratch(target.parent, target.name, say=say) as folder:
        beside = folder / path.name
        yield beside
        sync_file(beside)
        beside.replace(target)
        sync_folder(target.parent)
