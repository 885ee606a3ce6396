"""Merging: what an export with `--merge` made of a model, and how far that is from the model as published."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Merging:
    """Tokens that are alike become one in each layer: another function of the same weights.

    A bundle's reference, and all that is compared with torch, is of the merged model.

    removed:      tokens that each layer merges into others, or as many as it can
    tokens:       how many enter each layer
    narrowest:    the smallest difference in likeness that decided on a merge, over the reference clips, in float32.
                  Rounding that is larger may decide otherwise
    compared_on:  the clips on which the merged model was held against the unmerged one, in words
    cosine:       between the logits of the two on those clips, at the least
    same_label:   the share of those clips to which both give the same best label; None where logits rank no labels
    """

    removed: int
    tokens: tuple[int, ...]
    narrowest: float
    compared_on: str
    cosine: float
    same_label: float | None

    def describe(self) -> str:
        """Say what the model does otherwise than the published one, in a line."""
        return (
            f"{self.removed} token{'s' * (self.removed > 1)} a layer: {self.tokens[0]} enter the first, "
            f"{self.tokens[-1]} the last; not the published function"
        )

    def distance(self) -> str:
        """Say how far the merged model is from the unmerged one, in a line."""
        labels = "" if self.same_label is None else f", the same best label in {self.same_label:.1%}"
        return f"beside the unmerged model on {self.compared_on}: cosine {self.cosine:.6f} at the least{labels}"

    def caution(self) -> str:
        """Say how narrow the choices were that the reference depends on, in a line."""
        return (
            f"the narrowest choice between two merges on the reference clips was by {self.narrowest:.1e}; where an "
            "engine's rounding is larger, it may choose otherwise, and another number of tokens may be clearer"
        )

    def lines(self) -> tuple[str, ...]:
        return self.describe(), self.distance(), self.caution()

    def problems(self) -> Iterator[str]:
        """Yield what of it no export can have written, in words."""
        if self.removed < 1:
            yield f"removed must be 1 or more, got {self.removed}"
        pairs = zip(self.tokens, self.tokens[1:], strict=False)
        if not self.tokens or self.tokens[-1] < 1 or any(before < after for before, after in pairs):
            yield "tokens must be numbers above 0 that do not grow"
        if not self.narrowest >= 0:
            yield f"narrowest must be 0 or more, got {self.narrowest}"
        if not -1.000001 <= self.cosine <= 1.000001 or not 0 <= (self.same_label or 0) <= 1:
            yield "cosine must be from -1 to 1, and same_label a share"
