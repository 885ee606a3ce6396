"""Files that are small when they are what they should be: manifests, configs, labels, the index of shards.

They come from anyone, so what is read of them is bounded: a pipe or a device would never end.
"""

import stat
from pathlib import Path

from .errors import TubeletError

MOST_BYTES = 16 << 20  # a config.json or a manifest that names 20,000 labels has 1 MB


def read_small_file(path: Path, error: type[TubeletError]) -> bytes:
    """Read a regular file of at most MOST_BYTES.

    Args:
        path: The file.
        error: What is raised for anything else.

    Raises:
        error: For a folder, a pipe or a device, a file that is larger, and one that cannot be read.
        FileNotFoundError: Where there is nothing.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait for its other end
            raise error(f"{path} must be a regular file, and is a folder, a pipe or a device")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise
    except error:
        raise
    except (OSError, ValueError) as cause:  # ValueError: a NUL in the name
        raise error(f"{path} cannot be read: {cause}") from cause
    if len(content) > MOST_BYTES:
        raise error(f"{path} is larger than {MOST_BYTES >> 20} MB, which no file of its kind is")
    return content
