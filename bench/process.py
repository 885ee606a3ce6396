"""The near end of a measured process: starts it, asks it, ends it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from ..preprocess.errors import (
    BackendError,
    BundleError,
    CheckpointError,
    MissingExtra,
    NotAvailable,
    TubeletError,
    VideoError,
)

# What a process may report; whatever else it is, an engine could not be started or failed.
_ERRORS: dict[str, type[TubeletError]] = {
    error.__name__: error for error in (BackendError, BundleError, CheckpointError, NotAvailable, VideoError)
}
_ERRORS[MissingExtra.__name__] = NotAvailable  # a package is not on this machine either
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LAST_LINES = 5


class Process:
    """A subject that is loaded, has answered once, and waits.

    load_ms, cold_start_ms: from the start of the process until then; logits: its first answer, (B, K).
    """

    load_ms: float
    cold_start_ms: float
    logits: NDArray[np.float64]

    def __init__(self, name: str, worker: subprocess.Popen[str], errors: IO[str]) -> None:
        self.name = name
        self._worker = worker
        self._requests, self._answers = cast(IO[str], worker.stdin), cast(IO[str], worker.stdout)
        self._errors = errors

    @property
    def pid(self) -> int:
        """Its number, by which the system tells what it holds."""
        return self._worker.pid

    def run(self, seconds: float) -> tuple[float, ...]:
        """Run it for at least so long, at least once; ms of each run."""
        return tuple(self.ask(f"run {seconds}")["ms"])

    def stages(self) -> dict[str, float]:
        """Take a batch through every stage; ms of each."""
        taken: dict[str, float] = self.ask("stages")["ms"]
        return taken

    def peak_memory_mb(self) -> float | None:
        peak: float | None = self.ask("memory")["mb"]
        return peak

    def ask(self, request: str) -> dict[str, Any]:
        """Ask for what worker.py answers. Raises as `receive` does."""
        # Where it has ended meanwhile, what it left to be read says why. A buffer would be written again as it closes.
        with suppress(BrokenPipeError):
            os.write(self._requests.fileno(), f"{request}\n".encode())
        return self.receive()

    def receive(self) -> dict[str, Any]:
        """Its next answer. Raises what it reports, and BackendError where it ended without a word."""
        line = self._answers.readline()
        if not line:
            raise self._ended()
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            kind = _ERRORS.get(message["error"], BackendError)
            raise kind(message["message"], fix=message["fix"])
        return message

    def _ended(self) -> BackendError:
        """How it ended, and its last words."""
        code = self._worker.wait()
        self._errors.seek(0)
        words = "\n".join(self._errors.read().splitlines()[-_LAST_LINES:])
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return BackendError(
            f"{self.name} {how}:\n{words}" if words else f"{self.name} {how}",
            # The system says by a signal that there is no memory left; who raised something has said what.
            fix="fewer clips at once, where it ran out of memory" if code < 0 else None,
        )


@contextmanager
def start(module: ModuleType, settings: str, *, name: str, threads: int) -> Iterator[Process]:
    """A process of `module`, loaded, its first answer given; gone when the context is left, however that is."""
    environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads))
    with tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter_ns()
        # -P: what is imported is what is installed, whatever lies in the working directory.
        with subprocess.Popen(
            [sys.executable, "-P", "-m", module.__name__, settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            text=True,
        ) as worker:
            try:
                process = Process(name, worker, errors)
                process.receive()
                process.load_ms = (time.perf_counter_ns() - started) / 1e6
                first = process.receive()
                process.cold_start_ms = (time.perf_counter_ns() - started) / 1e6
                process.logits = np.array(first["logits"])
                yield process
            finally:
                worker.kill()
