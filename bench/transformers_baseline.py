"""The checkpoint in transformers, measured as a bundle is, in the process of subject.py.

    torch-transformers  the class of transformers with its default attention: torch's fused one, or the eager one of a
                        class that has no other, as TimeSformer's

It is what most people run. Unlike torch-sdpa (torch_baseline.py) it imports transformers and computes every token of
the last layer. It also takes ViViT's activation function step by step. Nothing else of tubelet needs transformers.
"""

from pathlib import Path
from typing import Any

import torch
import transformers

from ..preprocess.errors import CheckpointError
from .baseline import ready
from .worker import Loaded, Settings


def load_baseline(values: dict[str, Any]) -> Loaded:
    settings = Settings(**values)
    torch.set_num_threads(settings.threads)
    model = from_pretrained(settings.model or "")
    return ready(settings, lambda pixel_values: model(pixel_values).logits)


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
