"""The baselines in torch that bundles are compared with, by name. Nothing here needs torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Baseline:
    """The checkpoint in torch, as it is compared with.

    Attributes:
        precision: what it computes in.
        packages: what must be installed for it.
        extra: of tubelet, which brings them.
    """

    precision: str
    packages: tuple[str, ...] = ("torch", "safetensors")
    extra: str = "cpu,export"


TRANSFORMERS = "torch-transformers"

BASELINES = {
    "torch-eager": Baseline("fp32"),
    "torch-sdpa": Baseline("fp32"),
    "torch-bf16": Baseline("bf16"),
    "torch-compiled": Baseline("fp32"),
    TRANSFORMERS: Baseline("fp32", ("torch", "safetensors", "transformers"), "compare"),
}
