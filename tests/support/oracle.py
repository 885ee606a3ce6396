"""Libraries that the tests' environment cannot hold beside its own, asked in processes of their own.

scripts/install_oracles.py puts each into a folder of the environment: two versions of Pillow, the client of
Triton, and the Python part of torchvision, whose compiled part only loads beside a torch for CUDA.
"""

import atexit
import functools
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(sys.prefix) / "oracles"

Library = Literal["pillow-12", "pillow-13", "torchvision", "tritonclient"]


class Oracle:
    """A process that sees one of the libraries, and calls the functions of oracle_process.py for us."""

    def __init__(self, library: Library) -> None:
        folder = FOLDER / library
        if not folder.is_dir():
            raise RuntimeError(f"{folder} is missing: {sys.executable} scripts/install_oracles.py {library}")
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("oracle_process.py"), library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(folder)},
        )

    def ask(self, function: str, *arguments: Any) -> Any:
        """What the function returns. Raises RuntimeError with what it raises."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump((function, arguments), self._process.stdin)
        self._process.stdin.flush()
        answer, error = pickle.load(self._process.stdout)
        if error is not None:
            raise RuntimeError(error)
        return answer

    def close(self) -> None:
        self._process.communicate()


@functools.cache
def oracle(library: Library) -> Oracle:
    """The process for a library, started at its first use; it ends with this one."""
    started = Oracle(library)
    atexit.register(started.close)
    return started
