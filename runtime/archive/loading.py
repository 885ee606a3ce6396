"""What a model is loaded from and with, as it travels to the processes that load it."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..backends import DEFAULT_BACKEND
from ..bundle.bundle import Bundle
from ..classifier import VideoClassifier
from ..load import load
from ..progress import Progress, silent
from ..reading import Reading
from ..tuning.auto import settle


@dataclass(frozen=True)
class Loading:
    """The arguments of `load` for a classifier; see there."""

    bundle: Path | str
    backend: str = DEFAULT_BACKEND
    precision: str | None = None
    threads: int | None = None
    reading: Reading = field(default_factory=Reading)

    def settled(self, *, say: Progress = silent) -> "Loading":
        """The same with nothing left open: what is loaded where the backend is "auto". Raises what `settle` does."""
        found = settle(self.bundle, self.backend, self.precision, self.threads, say=say)
        return replace(self, bundle=found.path, backend=found.backend, precision=found.precision, threads=found.threads)

    def load(self) -> VideoClassifier:
        return load(
            self.bundle,
            backend=self.backend,
            precision=self.precision,
            threads=self.threads,
            reading=self.reading,
        )

    def described(self, bundle: Bundle) -> dict[str, Any]:
        """What of it makes answers what they are, as JSON has it. It is settled."""
        return {
            "sha256 of the bundle": bundle.sha256,
            "backend": self.backend,
            "precision": self.precision,
            **asdict(self.reading),
        }
