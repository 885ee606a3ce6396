"""What a checkpoint is exported for: which class of the family, and which of its outputs.

    video-classification   logits (B, K)
    feature-extraction     last_hidden_state (B, N, D), and pooler_output (B, P) where the checkpoint has a pooler: the
                           dense layer of a ViViT, or the norm of the mean token of a VideoMAE
    masked-modeling        logits (B, M, P): the pixels of masked tubelets, from tokens `visible` and `masked`

Any of them may give more, as the outputs of those names of transformers. These are hidden_states.0 to hidden_states.L,
(B, N, D) each, and attentions.0 to attentions.L-1, (B, h, N, N) each.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ...preprocess.errors import CheckpointError
from ...runtime.bundle.files import Extra
from ...runtime.tokens import Grid, masked_tokens, tube_mask
from ..families.attention import attend_with, eager_attention, sdpa_attention
from ..families.model import Model
from .sharing import sharing_weights

MASK_RATIO = 0.9  # of the tokens: what the published models were pretrained with


def output_names(model: Model, extras: Sequence[Extra] = ()) -> tuple[str, ...]:
    """Name what an export of `model` gives: what its task is for, then the extras.

    Raises:
        CheckpointError: for extras of a model that merges tokens.
    """
    if extras and model.removed:
        raise CheckpointError(
            f"{' and '.join(extras)} of a model that merges tokens are of no one tubelet each, so they are not given",
            fix="leave --outputs away, or --merge",
        )
    names = list(model.output_names)
    if "hidden_states" in extras:
        names += [f"hidden_states.{i}" for i in range(model.config.num_hidden_layers + 1)]
    if "attentions" in extras:
        names += model.attention_names
    return tuple(names)


class ExportedModel(nn.Module):
    """A model that gives its outputs by name: forward returns those of `names`, in their order.

    Its modules are its own, its weights those of `model`, which stays as it is. Attention weights are only there in the
    eager form: attention is eager where they are asked for, and fused everywhere else, however `model` attends.
    """

    def __init__(self, model: Model, names: Sequence[str]) -> None:
        super().__init__()
        self.model = sharing_weights(model)
        self.names = tuple(names)
        attend_with(self.model, sdpa_attention)
        if any("attentions." in name for name in names):
            attend_with(self.model.encoding, eager_attention)

    def forward(self, pixel_values: Tensor, *indices: Tensor) -> tuple[Tensor, ...]:
        """float32 (B, T, C, H, W); for masked modeling also int64 token numbers, visible (B, V) and masked (B, M)."""
        if len(self.names) == 1:
            return (self.model(pixel_values, *indices),)  # which leaves out what it is not asked for
        outputs = self.model.outputs(pixel_values, *indices)
        return tuple(outputs[name] for name in self.names)


def exported_model(model: Model, extras: Sequence[Extra] = ()) -> ExportedModel:
    """Make what an export of `model` with these extras computes."""
    return ExportedModel(model, output_names(model, extras)).eval()


def mask(model: Model, *, seed: int, batch: int = 1) -> dict[str, NDArray[np.int64]]:
    """Draw what the graph of `model` takes beside clips.

    For masked modeling that is a tube mask, which hides MASK_RATIO of the tokens; else it is nothing.

    Args:
        model: the model.
        seed: what the mask is drawn from.
        batch: clips.

    Returns:
        int64 (batch, ...) by name.

    Raises:
        CheckpointError: for a clip with too few tokens for such a mask, or one that is not whole tubelets.
    """
    if not model.input_names:
        return {}
    config = model.config
    sides = zip((config.num_frames, *config.image_size), config.tubelet, strict=True)
    if any(side % step for side, step in sides):
        raise CheckpointError(
            f"clips of {config.num_frames} frames of {config.image_size[0]}x{config.image_size[1]} are not whole "
            f"tubelets of {'x'.join(map(str, config.tubelet))}, so what is hidden could not be drawn",
            fix="choose a size that they divide with --image-size and --num-frames",
        )
    try:
        grid = Grid(*config.grid)
        return tube_mask(grid, masked_tokens(grid, MASK_RATIO), seed=seed, batch=batch)._asdict()
    except ValueError as error:
        raise CheckpointError(f"clips of this model cannot be masked: {error}") from error
