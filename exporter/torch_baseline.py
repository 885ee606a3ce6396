"""The checkpoint in torch, measured as a bundle is: python -m tubelet.exporter.torch_baseline SETTINGS

What it is told and what it answers: runtime/bench/child.py. The baselines are the very modules that bundles are
exported from, so they too leave out of the last layer what no classifier reads; a few percent less work for ViViT than
in transformers.

    torch-eager     attention step by step, its scores in memory, as attn_implementation="eager" of transformers does
    torch-sdpa      torch's fused attention, as attn_implementation="sdpa"
    torch-bf16      the same, weights and everything else in bfloat16
    torch-compiled  the same in float32, through torch.compile
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..preprocess.errors import BackendError, CheckpointError
from ..runtime.bench.child import Loaded, Settings, serve, stage_times
from ..runtime.bundle import Bundle
from .checkpoint import Checkpoint, load_checkpoint
from .models.attention import attend_with, eager_attention
from .overrides import Overrides


def _check_heads(checkpoint: Checkpoint, bundle: Bundle) -> None:
    """Raises CheckpointError where the bundle was exported with another number of heads: no shape of a weight shows it,
    but attention multiplies matrices as wide as a head."""
    config = checkpoint.config
    if config.hidden_size // config.num_attention_heads not in {product.inner for product in bundle.products}:
        raise CheckpointError(
            f"{checkpoint.source.model_id} has {config.num_attention_heads} attention heads, and {bundle.path} was "
            "exported with another number",
            fix="give --model a folder whose config.json has the number that the bundle's notes say: tubelet info",
        )


def load_baseline(values: dict[str, Any]) -> Loaded:
    settings = Settings(**values)
    torch.set_num_threads(settings.threads)
    bundle = Bundle.open(settings.bundle)
    # The bundle may be of another size than the checkpoint.
    overrides = Overrides(bundle.spec.size, bundle.spec.num_frames)
    checkpoint = load_checkpoint(settings.model or "", overrides=overrides, report=lambda _: None)
    _check_heads(checkpoint, bundle)
    model: nn.Module = checkpoint.model
    dtype = torch.float32
    match settings.engine:
        case "torch-eager":
            attend_with(model, eager_attention)
        case "torch-bf16":
            dtype = torch.bfloat16
            model = model.to(dtype)
        case "torch-compiled":
            model.compile()

    def infer(pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            with torch.inference_mode():
                logits: NDArray[np.float32] = model(torch.from_numpy(pixel_values).to(dtype)).float().numpy()
        except RuntimeError as error:  # what the compiler raises too
            raise BackendError(f"{settings.engine} failed: {error}") from error
        return logits

    inputs = np.load(settings.inputs)
    spec = replace(bundle.spec, layout="TCHW")
    return Loaded(run=lambda: infer(inputs), stages=lambda: stage_times(infer, bundle, spec, settings))


if __name__ == "__main__":
    serve(load_baseline)
