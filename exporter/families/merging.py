"""Token merging (ToMe: Bolya et al. 2023, arXiv:2210.09461): in each layer, tokens that are alike become one.

Between attention and MLP every other token, A, finds the one most like it among the rest, B. The pairs most alike are
merged: what is left is the mean of all the tokens that it stands for. From then on a key counts as often as it stands
for tokens. So does a token in the mean that a classifier reads. Nothing is trained. It is another function of the same
weights, nearer to the published one the fewer tokens are merged.

After facebookresearch/ToMe (tome/merge.py, tome/patch/timm.py), in all but one thing. There, tokens of A that are kept
lie in the order of their similarity where there is no class token. Here they always stay in their own order. A close
call is then about one token, and not about the order of all.

Axes: B batch, N tokens, R of them merged, D width, d width of a head.
"""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...runtime.bundle.bundle import Readout
from .attention import Attention
from .transformer import Encoder, Layer, States, gather_tokens

# Rows of this length or less are taken for rows of it, as `torch.nn.functional.normalize` does.
SHORTEST = 1e-12
# Two cosines are no further apart.
FARTHEST = 2.0


def most_removed(tokens: int, *, first_stays: bool) -> int:
    """How many of so many tokens can be merged at once: half of them, the first aside where it stays."""
    return (tokens - first_stays) // 2


def tokens_by_layer(tokens: int, removed: int, layers: int, *, first_stays: bool) -> tuple[int, ...]:
    """Count the tokens that enter each layer, of which `tokens` enter the first."""
    counts = [tokens]
    for _ in range(layers - 1):
        counts.append(counts[-1] - min(removed, most_removed(counts[-1], first_stays=first_stays)))
    return tuple(counts)


class Merged(NamedTuple):
    """tokens: float32 (B, N, D); sizes: float32 (B, N, 1), how many each of them stands for."""

    tokens: Tensor
    sizes: Tensor


class Choice(NamedTuple):
    """What is merged into what: numbers of tokens of A and B, int64. A is without the first token where that stays.

    merged:  (B, R) of A, the most alike first
    into:    (B, R) of B, the one that each of those is merged into
    kept:    (B, A - R) of A, rising
    """

    merged: Tensor
    into: Tensor
    kept: Tensor


class Merge(nn.Module):
    """Merges `removed` tokens into others, or as many as can be. The first of equals is taken."""

    def __init__(self, removed: int, *, first_stays: bool) -> None:
        super().__init__()
        self.removed = removed
        self.first_stays = first_stays

    def forward(self, tokens: Tensor, sizes: Tensor | None, metric: Tensor) -> Merged:
        """Merge tokens (B, N, D) of sizes (B, N, 1), or of size 1 each, by the likeness of metric (B, N, d)."""
        if sizes is not None and not self._count(metric):  # few tokens are left, or one
            return Merged(tokens, sizes)
        choice = self.choose(metric)
        # Sums over the tokens that each stands for, and in the last column how many those are.
        sums = F.pad(tokens, (0, 1), value=1.0) if sizes is None else torch.cat([tokens * sizes, sizes], dim=2)
        first, a, b = self._parts(sums)  # (B, 0 or 1, D + 1), (B, A, D + 1), (B, B, D + 1)
        # 1 where a token of B takes one of A in: TensorRT's parser reads no scattering that adds.
        numbers = torch.arange(b.shape[1], device=b.device)[:, None]  # (B, 1)
        takes = (numbers == choice.into.unsqueeze(1)).to(b.dtype)  # (B, R) -> (B, B, R)
        b = b + torch.matmul(takes, gather_tokens(a, choice.merged))
        parts = [gather_tokens(a, choice.kept), b]
        sums = torch.cat([first, *parts] if self.first_stays else parts, dim=1)  # (B, N - R, D + 1)
        sizes = sums[:, :, -1:]
        return Merged(sums[:, :, :-1] / sizes, sizes)

    def choose(self, metric: Tensor) -> Choice:
        """Choose what is merged by the rows of metric (B, N, d)."""
        likeness = self.likeness(metric)  # (B, A, B)
        removed = self._count(metric)
        order = likeness.amax(2).sort(dim=1, descending=True, stable=True).indices  # (B, A)
        merged = order[:, :removed]
        into = likeness.argmax(2).gather(1, merged)
        # As the integers that they are: in bfloat16, which OpenVINO makes of floats, a number above 256 is another one.
        kept = order[:, removed:].sort(dim=1, stable=True).values
        return Choice(merged, into, kept)

    def likeness(self, metric: Tensor) -> Tensor:
        """The cosine of each row of A with each row of B, (B, A, B)."""
        length = (metric * metric).sum(2, keepdim=True).sqrt()  # (B, N, 1)
        _, a, b = self._parts(metric / length.clamp_min(SHORTEST))
        return torch.matmul(a, b.transpose(1, 2))

    def narrowest(self, metric: Tensor) -> float:
        """How far the likeness of two tokens was apart where it was closest and decided something.

        That is between the last pair that is merged and the first that is not. It is also between the best and the
        second best partner of a token that is merged. Rounding that is smaller leads to the same choice. It is
        FARTHEST where there was nothing to choose.
        """
        removed = self._count(metric)
        if not removed:
            return FARTHEST
        likeness = self.likeness(metric)
        best = likeness.amax(2).sort(dim=1, descending=True, stable=True)
        gaps = [best.values[:, removed - 1 : removed] - best.values[:, removed : removed + 1]]  # none where all merge
        if likeness.shape[2] > 1:
            two = likeness.topk(2, dim=2).values  # (B, A, 2)
            gaps.append((two[:, :, 0] - two[:, :, 1]).gather(1, best.indices[:, :removed]))
        return min((float(gap.min()) for gap in gaps if gap.numel()), default=FARTHEST)

    def _parts(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (B, N, ...) as the first, where that stays, those of A, and those of B."""
        return rows[:, :1], rows[:, 2 * self.first_stays :: 2], rows[:, 1::2]

    def _count(self, metric: Tensor) -> int:
        return min(self.removed, most_removed(metric.shape[1], first_stays=self.first_stays))


class MergingEncoder(Encoder):
    """The layers of an encoder, each of which merges tokens between its attention and its MLP."""

    def __init__(self, encoder: Encoder, removed: int, readout: Readout) -> None:
        """Take over the layers of `encoder`.

        Args:
            encoder: whose layers are taken, weights and names included.
            removed: tokens that each layer merges, or as many as it can.
            readout: what the answer is read from. Where that is one token, the first, it is never merged.
        """
        nn.Module.__init__(self)
        self.layer = encoder.layer
        self.reads_mean = readout == "mean"
        self.merge = nn.ModuleList(Merge(removed, first_stays=not self.reads_mean) for _ in self.layer)

    def forward(self, x: Tensor, *, first_only: bool = False) -> Tensor:
        """(B, N, D) to (B, M, D), the merged tokens; or to (B, 1, D), the first token alone.

        For a mean each token is multiplied by its size beside the average one: the mean over them is then that over all
        tokens of the clip.
        """
        total, sizes = x.shape[1], None
        *before, _ = layers = list(zip(self.layer, self.merge, strict=True))
        for layer, merge in before if first_only else layers:
            x, key = _attend(cast(Layer, layer), x, sizes)
            x, sizes = cast(Merge, merge)(x, sizes, key)
            x = cast(Layer, layer).feed_forward(x)
        if first_only:  # of the last layer one token is read, which is never merged
            last = cast(Layer, self.layer[-1])
            x, _ = _attend(last, x, sizes, first_only=True)
            return last.feed_forward(x)
        if self.reads_mean and sizes is not None:
            x = x * (sizes * (x.shape[1] / total))
        return x

    def states(self, x: Tensor) -> States:
        raise NotImplementedError("merged tokens are of no one tubelet, and what is on their way is not given")


def _attend(layer: Layer, x: Tensor, sizes: Tensor | None, *, first_only: bool = False) -> tuple[Tensor, Tensor]:
    """The attention of a layer: (B, N, D) to x + attention(norm(x)), or to that of the first token alone, (B, 1, D).

    Beside it the mean over heads of the keys, (B, N, d), by which tokens are alike.
    """
    attention: Attention = layer.attention
    asking = tokens = layer.layernorm_before(x)
    if first_only:
        x, asking = x[:, :1], tokens[:, :1]  # (B, N, D) -> (B, 1, D)
    query, key, value = attention.attention(asking, tokens)
    context, _ = attention.attended(query, key, value, None if sizes is None else sizes.squeeze(2))
    heads = torch.unflatten(key, 2, (attention.num_heads, -1))  # (B, N, D) -> (B, N, h, d)
    return x + layer.dropout(attention.output(context)), heads.mean(2)
