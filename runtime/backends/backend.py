"""The protocol that every engine is behind."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import BackendError
from ..bundle.parity_report import ParityReport


class Backend(Protocol):
    """An engine with one graph loaded; a context manager.

    Any number of threads may call `infer` and `run` at once, each for its own answer. A call that begins after `close`
    raises BackendError; one that runs then gives its answer.
    """

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """batch (B, ...) of the graph's one input -> its first output, such as logits float32 (B, K). The caller owns
        it.

        Raises BackendError where the engine fails.
        """
        ...

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Everything that the graph takes, (B, ...) each by name -> what it gives, float32 (B, ...) each by name. The
        caller owns it.

        Raises BackendError where the engine fails, and where it runs nothing but graphs of one input and one output.
        """
        raise BackendError(
            f"this engine runs graphs of one input and one output; {', '.join(inputs)} were given for all outputs",
            fix="take --backend onnxruntime or openvino",
        )

    @property
    def caution(self) -> str | None:
        """What whoever takes its answers should be told once, such as that nobody has checked them here."""
        return None

    def note_check(self, report: ParityReport) -> None:  # noqa: ARG002
        """Take note of a check of this very engine, where it was kept without one."""
        return None

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
