"""The small text files of a checkpoint: configs, labels, the index of shards.

They come from anyone, so what is read of them is bounded. A pipe or a device would never end. JSON that is nested
without end would use up the stack of whoever walks over it.
"""

import json
from pathlib import Path
from typing import Any

from ...preprocess.errors import CheckpointError
from ...preprocess.small_files import read_small_file

_DEEPEST = 32  # levels of JSON; configs of transformers have three
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_small_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 where it begins with that byte order mark.

    Args:
        path: A regular file of at most MOST_BYTES.

    Returns:
        The text, without a byte order mark.

    Raises:
        CheckpointError: For anything else than such a file, and for a Git LFS pointer.
        FileNotFoundError: Where there is nothing.
    """
    content = read_small_file(path, CheckpointError)
    refuse_lfs_pointer(path, content)
    try:
        return content.decode("utf-16" if content.startswith(_UTF16_MARKS) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not text in UTF-8: {error}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        CheckpointError: Where it is no JSON, is nested more than 32 levels deep, or `read_small_text` refuses it.
        FileNotFoundError: Where there is nothing.
    """
    return parse_json(read_small_text(path), path)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file; raises CheckpointError where there is none."""
    try:
        content = read_json(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} has no {path.name}, so it is not a checkpoint") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def parse_json(text: str, path: Path) -> Any:
    """Parse the text of a JSON file; `path` is for the message of the CheckpointError."""
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise CheckpointError(f"{path} is nested more than {_DEEPEST} levels deep") from error
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    level = [content]
    for _ in range(_DEEPEST):
        inner = [value for outer in level for value in _values(outer)]
        if not inner:
            return content
        level = inner
    raise CheckpointError(f"{path} is nested more than {_DEEPEST} levels deep")


def _values(content: Any) -> list[Any]:
    if isinstance(content, dict):
        return list(content.values())
    return content if isinstance(content, list) else []


def refuse_lfs_pointer(path: Path, start: bytes) -> None:
    """Raise CheckpointError where the first bytes of a file are those of a Git LFS pointer."""
    if start.startswith(_LFS_POINTER):
        raise CheckpointError(
            f"{path} is a Git LFS pointer: it stands for the file, which was not downloaded",
            fix=f"run `git lfs pull` in {path.parent}",
        )
