"""The protocol that every engine is behind."""

from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray


class Backend(Protocol):
    """An engine with one graph loaded. A context manager; nothing may be called after `close`."""

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """batch (B, ...) of the graph's one input -> logits float32 (B, K), which the caller owns.

        Raises BackendError where the engine fails.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
