"""What every module that a checkpoint becomes says of itself, so that an export need not know its class."""

from collections.abc import Callable, Collection
from typing import ClassVar, Self

from torch import Tensor, nn

from ...preprocess.errors import CheckpointError
from ...runtime.bundle.bundle import Readout, TokenOrder
from .config import TransformerConfig


class Model(nn.Module):
    """A model of one family for one task, in plain torch.

    `forward` gives what the task is for, `outputs` everything, by name. Both take clips, float32 (B, T, C, H, W), and
    behind them what `input_names` lists.
    """

    config: TransformerConfig
    # Takes the arguments of `forward`: the outputs of `output_names`, and the encoder's `States`.
    outputs: Callable[..., dict[str, Tensor]]
    # Why tokens of the model cannot be merged, where they cannot.
    unmerged_because: ClassVar[str] = "it gives a row for each token, and a merged token is of no one tubelet"
    removed: int = 0  # tokens that each layer merges into others

    @classmethod
    def of_weights(cls, config: TransformerConfig, _names: Collection[str]) -> "Model":
        """Build the module for weights of these names; some parts, such as a pooler, show in nothing else."""
        return cls(config)

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def output_names(self) -> tuple[str, ...]:
        """What the task is for, the primary output first."""
        return ("logits",)

    @property
    def input_names(self) -> tuple[str, ...]:
        """What the model takes beside clips: nothing, or the token numbers `visible` and `masked`."""
        return ()

    @property
    def readout(self) -> Readout:
        """From which tokens the answer is read."""
        raise NotImplementedError

    @property
    def token_order(self) -> TokenOrder:
        """How the tokens of tubelets lie among `outputs`."""
        return "slice-by-slice"

    @property
    def norm_pix_loss(self) -> bool | None:
        """Whether pixels are drawn normalised within each tubelet; None for a model that draws none."""
        return None

    @property
    def attention_names(self) -> tuple[str, ...]:
        """What `outputs` calls the attention weights of each layer, the first layer first."""
        return tuple(f"attentions.{i}" for i in range(self.config.num_hidden_layers))

    @property
    def encoding(self) -> nn.Module:
        """The part whose attention weights are among `outputs`."""
        return self

    def merge(self, removed: int) -> None:
        """Have each layer merge `removed` tokens into others, in place; see merging.py.

        It is another function of the same weights then.

        Raises:
            CheckpointError: where the model's tokens cannot be merged, with the reason.
        """
        raise CheckpointError(
            f"{type(self).__name__} cannot merge {removed} tokens a layer: {self.unmerged_because}",
            fix="leave --merge away",
        )

    def fold(self) -> None:
        """Join or sort weights, in place, for the same function in less time: a graph is made of them, and torch's
        answers are not.

        The parameters are not those of a checkpoint then.
        """

    def twin(self) -> Self:
        """Build another module of the same config and part, with weights of its own."""
        built = self.of_weights(self.config, self.state_dict().keys())
        if not isinstance(built, type(self)):
            raise TypeError(f"{type(self).__name__}.of_weights built a {type(built).__name__}")
        if self.removed:
            built.merge(self.removed)
        return built
