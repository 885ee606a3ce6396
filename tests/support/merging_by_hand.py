"""Token merging token by token, in loops and float64, from the weights of a checkpoint.

It shares no code with the exporter's, which works on whole batches. From the paper (arXiv:2210.09461, section 3):
tokens are halved by turns, each of the first half takes its most similar of the second, the most similar pairs are
averaged by their sizes, and attention counts a token as often as its size says.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tubelet.exporter.families.config import ACTIVATIONS
from tubelet.exporter.families.model import Model


@dataclass
class ByHand:
    """A classifier's answer for one clip, and what was decided on the way.

    counts: tokens that enter each layer; gaps: how far each choice was from going another way
    """

    logits: Tensor
    counts: list[int] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


def merge_by_hand(
    tokens: list[Tensor], sizes: list[int], metric: list[Tensor], removed: int, *, first_stays: bool, gaps: list[float]
) -> tuple[list[Tensor], list[int]]:
    """The tokens that are left, those of the first half that stay in front, each half in its own order."""
    first_half = [i for i in range(0, len(tokens), 2) if not (first_stays and i == 0)]
    second_half = list(range(1, len(tokens), 2))
    if not second_half:
        return tokens, sizes
    best: dict[int, tuple[float, int]] = {}
    for i in first_half:
        likenesses = [float(torch.dot(metric[i], metric[j]) / metric[i].norm() / metric[j].norm()) for j in second_half]
        largest = max(likenesses)
        best[i] = (largest, second_half[likenesses.index(largest)])
    by_likeness = sorted(first_half, key=lambda i: -best[i][0])
    count = min(removed, (len(tokens) - first_stays) // 2)
    leaving = by_likeness[:count]
    if 0 < count < len(by_likeness):
        gaps.append(best[by_likeness[count - 1]][0] - best[by_likeness[count]][0])
    stands_for: dict[int, list[int]] = {j: [j] for j in second_half}
    for i in leaving:
        others = sorted(
            float(torch.dot(metric[i], metric[j]) / metric[i].norm() / metric[j].norm()) for j in second_half
        )
        if len(others) > 1:
            gaps.append(others[-1] - others[-2])
        stands_for[best[i][1]].append(i)
    left = [(tokens[i], sizes[i]) for i in range(0, len(tokens), 2) if i not in leaving]
    for j in second_half:
        group = stands_for[j]
        total = sum(sizes[i] for i in group)
        mean = sum((sizes[i] * tokens[i] for i in group), torch.zeros_like(tokens[j])) / total
        left.append((mean, total))
    return [token for token, _ in left], [size for _, size in left]


def classify_by_hand(model: Model, embedded: Tensor, removed: int) -> ByHand:
    """embedded: (N, D), what enters the first layer. `model` is a classifier of ViViT or VideoMAE, unmerged."""
    weights = {name.split(".", 1)[1]: value.double() for name, value in model.state_dict().items() if "encoder" in name}
    heads = {name: value.double() for name, value in model.state_dict().items()}
    config = model.config
    width = config.hidden_size // config.num_attention_heads
    reads_mean = model.readout == "mean"
    tokens, sizes = list(embedded.double()), [1] * len(embedded)
    found = ByHand(torch.empty(0))
    for number in range(config.num_hidden_layers):
        found.counts.append(len(tokens))
        layer = {
            name.removeprefix(f"encoder.layer.{number}."): value
            for name, value in weights.items()
            if name.startswith(f"encoder.layer.{number}.")
        }
        normed = [_norm(token, layer, "layernorm_before", config.layer_norm_eps) for token in tokens]
        query, key, value = (
            [layer[f"attention.attention.{name}.weight"] @ token + _bias(layer, name) for token in normed]
            for name in ("query", "key", "value")
        )
        attended = []
        for i in range(len(tokens)):
            parts = []
            for head in range(config.num_attention_heads):
                mine = slice(head * width, (head + 1) * width)
                scores = [float(torch.dot(query[i][mine], other[mine])) / math.sqrt(width) for other in key]
                shares = [size * math.exp(score) for size, score in zip(sizes, scores, strict=True)]
                total = sum(shares)
                zero = torch.zeros(width, dtype=torch.float64)
                parts.append(sum((s / total * v[mine] for s, v in zip(shares, value, strict=True)), zero))
            out = layer["attention.output.dense.weight"] @ torch.cat(parts) + layer["attention.output.dense.bias"]
            attended.append(tokens[i] + out)
        tokens = attended
        if reads_mean or number < config.num_hidden_layers - 1:
            metric = [other.reshape(config.num_attention_heads, width).mean(0) for other in key]
            tokens, sizes = merge_by_hand(tokens, sizes, metric, removed, first_stays=not reads_mean, gaps=found.gaps)
        tokens = [token + _mlp(token, layer, config.hidden_act, config.layer_norm_eps) for token in tokens]
    if reads_mean:
        pooled = sum((s * t for s, t in zip(sizes, tokens, strict=True)), torch.zeros_like(tokens[0])) / sum(sizes)
        pooled = _norm(pooled, heads, "fc_norm", 1e-5)
    else:
        prefix = next(name for name in heads if name.endswith(".layernorm.weight")).removesuffix(".weight")
        pooled = _norm(tokens[0], heads, prefix, config.layer_norm_eps)
    found.logits = heads["classifier.weight"] @ pooled + heads["classifier.bias"]
    return found


def _norm(token: Tensor, weights: dict[str, Tensor], name: str, eps: float) -> Tensor:
    centred = token - token.mean()
    return centred / torch.sqrt((centred**2).mean() + eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _bias(layer: dict[str, Tensor], name: str) -> Tensor | float:
    """ViViT's, or VideoMAE's, whose keys have none."""
    for stored in (f"attention.attention.{name}.bias", f"attention.attention.{name[0]}_bias"):
        if stored in layer:
            return layer[stored]
    return 0.0


def _mlp(token: Tensor, layer: dict[str, Tensor], activation: str, eps: float) -> Tensor:
    normed = _norm(token, layer, "layernorm_after", eps)
    hidden = ACTIVATIONS[activation](layer["intermediate.dense.weight"] @ normed + layer["intermediate.dense.bias"])
    return layer["output.dense.weight"] @ hidden + layer["output.dense.bias"]
