"""The checkpoint in transformers, measured as a bundle is, in the process of subject.py.

    torch-transformers  the class of transformers with its default attention: torch's fused one, or the eager one of a
                        class that has no other, as TimeSformer's
    torch-int8          the same, its linear layers with torch's dynamic 8 bits

It is what most people run. Unlike torch-sdpa (torch_baseline.py) it imports transformers and computes every token of
the last layer. It also takes ViViT's activation function step by step. Nothing else of tubelet needs transformers.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from ..preprocess.errors import CheckpointError
from .baseline import ready
from .worker import Loaded, Settings


def load_baseline(values: dict[str, Any]) -> Loaded:
    settings = Settings(**values)
    torch.set_num_threads(settings.threads)
    model = from_pretrained(settings.model or "")
    if settings.engine == "torch-int8":
        model = _in_8_bits(model)
    return ready(settings, lambda pixel_values: model(pixel_values).logits)


def _in_8_bits(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():  # torch points to torchao, whose 8 bits are for GPUs and compiled graphs
        warnings.simplefilter("ignore", DeprecationWarning)
        quantize: Any = torch.ao.quantization.quantize_dynamic
        quantized: nn.Module = quantize(model, {nn.Linear}, dtype=torch.qint8)
    return quantized


def split_revision(checkpoint: str) -> tuple[str, str]:
    """The name and the revision in `owner/name@revision`; a folder has none but "main"."""
    if Path(checkpoint).is_dir() or "@" not in checkpoint:
        return checkpoint, "main"
    name, _, revision = checkpoint.partition("@")
    return name, revision


def from_pretrained(checkpoint: str) -> Any:
    """checkpoint: a folder, or owner/name, perhaps @revision, on the Hub. Raises CheckpointError where transformers
    does not load it."""
    name, revision = split_revision(checkpoint)
    try:
        model = transformers.AutoModelForVideoClassification.from_pretrained(
            name, revision=revision, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        raise CheckpointError(f"transformers does not load {checkpoint}: {error}") from error
    return model.eval()
