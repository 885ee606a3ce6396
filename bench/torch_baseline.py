"""The checkpoint in torch, measured as a bundle is, in the process of subject.py.

Its settings and its answers are those of worker.py. The baselines are the very modules that bundles are exported from.
So they too leave out of the last layer what no classifier reads. For ViViT that is a few percent less work than in
transformers, which transformers_baseline.py measures.

    torch-eager     attention step by step, its scores in memory, as attn_implementation="eager" of transformers does
    torch-sdpa      torch's fused attention, as attn_implementation="sdpa"
    torch-bf16      the same, weights and everything else in bfloat16
    torch-compiled  the same in float32, through torch.compile
"""

from typing import Any

import torch
from torch import nn

from ..exporter.checkpoint.load import load_checkpoint
from ..exporter.checkpoint.overrides import Overrides
from ..exporter.families.attention import attend_with, eager_attention
from ..runtime.bundle.bundle import Bundle
from .baseline import ready
from .worker import Loaded, Settings


def load_baseline(values: dict[str, Any]) -> Loaded:
    settings = Settings(**values)
    torch.set_num_threads(settings.threads)
    bundle = Bundle.open(settings.bundle)
    overrides = Overrides.from_json(bundle.overrides)  # so that it is the model that the bundle holds
    loaded = load_checkpoint(settings.model or "", task=bundle.task, overrides=overrides, report=lambda _: None).model
    if bundle.merging is not None:
        loaded.merge(bundle.merging.removed)
    model: nn.Module = loaded
    dtype = torch.float32
    match settings.engine:
        case "torch-eager":
            attend_with(model, eager_attention)
        case "torch-bf16":
            dtype = torch.bfloat16
            model = model.to(dtype)
        case "torch-compiled":
            model.compile()
    return ready(settings, model, dtype)
