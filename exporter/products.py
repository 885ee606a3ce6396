"""The matrix products that one clip takes: what a model costs, whoever computes it."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..runtime.bundle import MatrixProduct
from .models.transformer import Attention
from .models.videomae import VideoMAEForVideoClassification
from .models.vivit import VivitForVideoClassification

aten = torch.ops.aten


def eager_attention(query: Tensor, key: Tensor, value: Tensor, *, num_heads: int, scale: float) -> Tensor:
    """softmax(scale * query key^T) value for each head, step by step: the scores (B, h, M, N) are written to memory, as
    transformers' attn_implementation="eager" does. Shapes as in `Attend`."""

    def split(x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (num_heads, -1)).transpose(1, 2)  # (B, N, D) -> (B, h, N, D / h)

    scores = torch.matmul(split(query), split(key).transpose(2, 3)) * scale  # (B, h, M, N)
    context = torch.matmul(scores.softmax(dim=-1), split(value))
    return context.transpose(1, 2).flatten(2)  # (B, h, M, D / h) -> (B, M, D)


def attend_with(model: nn.Module, attend: Callable[..., Tensor]) -> None:
    """Puts `attend` in the place of the attention of every layer."""
    for module in model.modules():
        if isinstance(module, Attention):
            module.attend = attend


class _ProductCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Takes down the shapes of every matrix product that is computed while it is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[tuple[int, int, int]] = Counter()  # of (rows, inner, columns)

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        operator = function.overloadpacket
        if operator is aten.mm or operator is aten.addmm:
            left, right = args[-2:]
            self.counts[left.shape[0], left.shape[1], right.shape[1]] += 1
        elif operator is aten.bmm:
            left, right = args
            self.counts[left.shape[1], left.shape[2], right.shape[2]] += left.shape[0]
        elif operator is aten.convolution:
            weight = args[1]  # (outputs, channels, T, H, W)
            positions = result[0, 0].numel()
            self.counts[positions, weight[0].numel(), weight.shape[0]] += 1
        return result


def matrix_products(model: VivitForVideoClassification | VideoMAEForVideoClassification) -> tuple[MatrixProduct, ...]:
    """Every product that `model` computes for one clip, the heaviest kind first; a convolution counts as the product
    that it is of patches and kernels.

    Nothing is computed: a model of the same config is run on the meta device, where tensors have shapes only.
    """
    with torch.device("meta"):
        twin = type(model)(model.config).to("meta").eval()  # type: ignore[arg-type]  # each with its own config
        attend_with(twin, eager_attention)
        clip = torch.empty((1, *model.config.clip_shape))
        with torch.no_grad(), _ProductCounter() as counter:
            twin(clip)
    products = [MatrixProduct(rows, inner, columns, times) for (rows, inner, columns), times in counter.counts.items()]
    return tuple(sorted(products, key=lambda product: product.macs, reverse=True))
