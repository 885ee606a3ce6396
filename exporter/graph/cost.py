"""The matrix products that one clip takes: what a model costs, whoever computes it."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ...runtime.bundle.files import MatrixProduct
from ..families.attention import attend_with, eager_attention
from .tasks import ExportedModel, mask

aten = torch.ops.aten


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


def matrix_products(asked: ExportedModel) -> tuple[MatrixProduct, ...]:
    """Count every product that the model takes for one clip, the heaviest kind first.

    A convolution counts as the product of patches and kernels that it is. Nothing is computed: a model of the same
    config is run on the meta device, where tensors have shapes only.
    """
    run = _without_values(asked)
    with _ProductCounter() as counter:
        run()
    products = [MatrixProduct(rows, inner, columns, times) for (rows, inner, columns), times in counter.counts.items()]
    return tuple(sorted(products, key=lambda product: product.macs, reverse=True))


def attention_bytes(asked: ExportedModel) -> int:
    """Count the bytes of the attention weights that the model gives of one clip, all layers and heads, in float32."""
    outputs = zip(asked.names, _without_values(asked)(), strict=True)
    return sum(4 * output.numel() for name, output in outputs if name in asked.model.attention_names)


def _without_values(asked: ExportedModel) -> Callable[[], tuple[Tensor, ...]]:
    """Make a model of the same config, folded as a graph is. It gives its outputs of one clip on the meta device."""
    model = asked.model
    with torch.device("meta"):
        twin = ExportedModel(model.twin(), asked.names).to("meta").eval()
        twin.model.fold()
        attend_with(twin, eager_attention)
        clip = torch.empty((1, *model.config.clip_shape))
    indices = [torch.from_numpy(array).to("meta") for array in mask(model, seed=0).values()]

    def run() -> tuple[Tensor, ...]:
        with torch.device("meta"), torch.no_grad():
            outputs: tuple[Tensor, ...] = twin(clip, *indices)
        return outputs

    return run
