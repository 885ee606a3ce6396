"""What a model is loaded from and with, as it travels to the processes that load it."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..backends import DEFAULT_BACKEND
from ..bundle.bundle import Bundle
from ..classifier import VideoClassifier
from ..load import load
from ..reading import Reading


@dataclass(frozen=True)
class Loading:
    """The arguments of `load` for a classifier; see there."""

    bundle: Path | str
    backend: str = DEFAULT_BACKEND
    precision: str = "fp32"
    threads: int | None = None
    reading: Reading = field(default_factory=Reading)

    def load(self) -> VideoClassifier:
        return load(
            self.bundle,
            backend=self.backend,
            precision=self.precision,
            threads=self.threads,
            reading=self.reading,
        )

    def described(self, bundle: Bundle) -> dict[str, Any]:
        """What of it makes answers what they are, as JSON has it."""
        return {
            "sha256 of the bundle": bundle.sha256,
            "backend": self.backend,
            "precision": self.precision,
            **asdict(self.reading),
        }
