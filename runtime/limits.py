"""Limits: how far from torch's answers is near enough. Those of each precision are in runtime/precisions.py."""

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Limit(Protocol):
    """How far logits may be from torch's, and which labels must agree.

    Logits are float64 (B, K), without NaN or infinity. `top` is how many of the best labels are looked at: none of an
    output whose columns are no labels. `direction` is whether a row of them has a direction that means something.
    """

    @property
    def direction(self) -> bool: ...

    @property
    def top(self) -> int: ...

    def unranked(self) -> "Limit":
        """The same limit for outputs that hold no logits of labels."""
        ...

    def of_size(self, torch_values: NDArray[np.float64], /) -> "Limit":
        """The same limit in proportion to these values."""
        ...

    def excess(self, got: NDArray[np.float64], torch_logits: NDArray[np.float64]) -> float:
        """How much of the limit is used up: 1 or less is within it."""
        ...

    def same_labels(self, got: NDArray[np.float64], torch_logits: NDArray[np.float64]) -> bool: ...


@dataclass(frozen=True)
class ElementLimit:
    """The limit for a graph in float32.

    |difference| <= absolute + relative * |torch| for each logit. The best `top` are the same labels in the same order.
    """

    absolute: float
    relative: float
    top: int = 5
    direction: ClassVar[bool] = True

    def __str__(self) -> str:
        if self.top == 0:
            return f"{self.absolute:g} x the root mean square + {self.relative:g} x |torch|"
        return f"{self.absolute:g} + {self.relative:g} x |torch|, top-{self.top} equal"

    def unranked(self) -> "ElementLimit":
        return replace(self, top=0)

    def of_size(self, torch_values: NDArray[np.float64], /) -> "ElementLimit":
        """The absolute part is meant for logits, which are about as large as 1. It is multiplied by the root mean
        square of the values. Otherwise attention weights of 1 / N would agree with anything.
        """
        size = float(np.sqrt(np.mean(torch_values**2)))
        return replace(self, absolute=self.absolute * (size or 1))

    def share(self) -> float:
        """How far a value may be off, as a share of its size."""
        return self.absolute + self.relative

    def excess(self, got: NDArray[np.float64], torch_logits: NDArray[np.float64]) -> float:
        allowed = self.absolute + self.relative * np.abs(torch_logits)
        return float((np.abs(got - torch_logits) / allowed).max())

    def same_labels(self, got: NDArray[np.float64], torch_logits: NDArray[np.float64]) -> bool:
        best = [np.argsort(-logits, axis=1, kind="stable")[:, : self.top] for logits in (got, torch_logits)]
        return bool((best[0] == best[1]).all())


@dataclass(frozen=True)
class CosineLimit:
    """The limit for a graph in lower precision.

    It is on the cosine between logits and torch's for each clip. torch's margin is that between its best two logits.
    Where it is larger than the limit lets logits move apart, the best label must be the same.

    The cosine stands for a root mean square difference of |torch| * sqrt(2 * (1 - cosine) / K). Two logits move apart
    by up to twice as much. Measured differences cannot take the place of this. A margin of more than twice the largest
    of them never changes the best label.
    """

    cosine: float
    top: int = 1
    direction: ClassVar[bool] = True

    def __str__(self) -> str:
        best = ", top-1 equal where torch's margin is clear" if self.top else ""
        return f"cosine {self.cosine:g}{best}"

    def unranked(self) -> "CosineLimit":
        return replace(self, top=0)

    def of_size(self, _: NDArray[np.float64], /) -> "CosineLimit":
        return self  # an angle has no size

    def share(self) -> float:
        """How far values that keep this cosine are off, as a share of their root mean square."""
        return float(np.sqrt(2 * (1 - self.cosine)))

    def excess(self, got: NDArray[np.float64], torch_logits: NDArray[np.float64]) -> float:
        return float((1 - cosines(got, torch_logits).min()) / (1 - self.cosine))

    def same_labels(self, got: NDArray[np.float64], torch_logits: NDArray[np.float64]) -> bool:
        labels = torch_logits.shape[1]
        if labels == 1 or not self.top:
            return True
        second, first = np.sort(torch_logits, axis=1)[:, -2:].T  # (B,) each
        movement = np.linalg.norm(torch_logits, axis=1) * np.sqrt(2 * (1 - self.cosine) / labels)
        clear = first - second > 2 * movement
        return bool((got.argmax(axis=1) == torch_logits.argmax(axis=1))[clear].all())


@dataclass(frozen=True)
class ValueLimit:
    """The limit on the values of a regression: |difference| <= share * size for each of them.

    A value counts as it is, not beside others. The cosine of one value is 1 whatever it is, and that of several says
    nothing of their size.

    share: how far a value may be off. sizes: K root mean squares of torch's values over the reference clips. others:
    the limit on other outputs of the graph.
    """

    share: float
    sizes: tuple[float, ...]
    others: Limit
    top: int = 0
    direction: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"{self.share:.2g} x the root mean square of each value over the reference clips"

    def unranked(self) -> Limit:
        return self.others

    def of_size(self, _: NDArray[np.float64], /) -> "ValueLimit":
        return self  # it has the sizes of all clips

    def excess(self, got: NDArray[np.float64], torch_logits: NDArray[np.float64]) -> float:
        sizes = np.array([size or 1 for size in self.sizes])  # (K,)
        return float((np.abs(got - torch_logits) / (self.share * sizes)).max())

    def same_labels(self, _: NDArray[np.float64], __: NDArray[np.float64]) -> bool:
        return True


def limit_on(limit: ElementLimit | CosineLimit, *, ranked: bool, values: NDArray[np.float32] | None = None) -> Limit:
    """Choose the limit on what a graph gives.

    Args:
        limit: of its precision, which is meant for logits of labels.
        ranked: whether logits are those of labels, of which the best must be the same.
        values: of a regression, float32 (clips, K): what torch gives for the reference clips.

    Returns:
        The limit on logits; what it holds for other outputs is its `unranked`.
    """
    if values is None:
        return limit if ranked else limit.unranked()
    sizes = np.sqrt(np.mean(values.astype(np.float64) ** 2, axis=0))  # (K,)
    return ValueLimit(limit.share(), tuple(sizes.tolist()), limit.unranked())


def cosines(got: NDArray[np.float64], torch_logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,), row by row; two rows of zeros agree, one row of zeros agrees with nothing."""
    lengths = np.linalg.norm(got, axis=1) * np.linalg.norm(torch_logits, axis=1)
    values: NDArray[np.float64] = (got == torch_logits).all(axis=1).astype(np.float64)
    np.divide((got * torch_logits).sum(axis=1), lengths, out=values, where=lengths > 0)
    return values
