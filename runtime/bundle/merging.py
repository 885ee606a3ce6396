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
    moved:        how far torch's own answer moves on a reference clip where close choices fall otherwise, at the most.
                  It is a share of the root mean square of its values; None where nobody looked
    moved_elsewhere: likewise, on any clip that was drawn when the export looked for steady ones
    compared_on:  the clips on which the merged model was held against the unmerged one, in words
    cosine:       between the logits of the two on those clips, at the least; None where logits rank no labels
    same_label:   the share of those clips to which both give the same best label; None likewise
    farthest:     where they rank none: the largest difference of a value, as a share of its root mean square
    """

    removed: int
    tokens: tuple[int, ...]
    narrowest: float
    moved: float | None
    moved_elsewhere: float | None
    compared_on: str
    cosine: float | None
    same_label: float | None
    farthest: float | None

    def describe(self) -> str:
        """Say what the model does otherwise than the published one, in a line."""
        return (
            f"{self.removed} token{'s' * (self.removed > 1)} a layer: {self.tokens[0]} enter the first, "
            f"{self.tokens[-1]} the last; not the published function"
        )

    def distance(self) -> str:
        """Say how far the merged model is from the unmerged one, in a line."""
        parts = []
        if self.cosine is not None:
            parts.append(f"cosine {self.cosine:.6f} at the least")
        if self.same_label is not None:
            parts.append(f"the same best label in {self.same_label:.1%}")
        if self.farthest is not None:
            parts.append(f"values are off by {self.farthest:.1%} of their root mean square at the most")
        return f"beside the unmerged model on {self.compared_on}: {', '.join(parts)}"

    def caution(self) -> str:
        """Say what rounding may do to a choice between two merges, in a line."""
        closest = f"the narrowest choice between two merges on the reference clips was by {self.narrowest:.1e}"
        if not self.moved and not self.moved_elsewhere:
            return f"{closest}; where an engine's rounding is larger, it may choose otherwise"
        return (
            f"{closest}; where an engine's rounding is larger, it may choose otherwise, and torch's own logits then "
            f"move by {self.moved:.1e} of their root mean square, on other clips by {self.moved_elsewhere:.1e}"
        )

    def note(self) -> str:
        """Say beside figures of a bundle that they are those of a model that merges tokens, in a line."""
        return f"the bundle merges {self.describe()}; {self.distance()}"

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
        if (self.moved is None) != (self.moved_elsewhere is None):
            yield "moved and moved_elsewhere must both be there, or both null"
        for name, moved in (("moved", self.moved), ("moved_elsewhere", self.moved_elsewhere)):
            if not (moved or 0) >= 0:
                yield f"{name} must be 0 or more, got {moved}"
        if not -1.000001 <= (self.cosine or 0) <= 1.000001 or not 0 <= (self.same_label or 0) <= 1:
            yield "cosine must be from -1 to 1, and same_label a share"
        if (self.cosine is None) == (self.farthest is None):
            yield "one of cosine and farthest must be there, and the other null"
        if not (self.farthest or 0) >= 0:
            yield f"farthest must be 0 or more, got {self.farthest}"
