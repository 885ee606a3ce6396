"""What bundles are compared with, by name: the checkpoint in torch, and what other tools make of it. Needs no torch."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Baseline:
    """The checkpoint as it is compared with.

    Attributes:
        precision: what it computes in.
        packages: what must be installed for it.
        extra: of tubelet, which brings them.
        made: the ending of the file that another tool makes of the checkpoint, which is then measured. None where torch
            itself is.
        modules: whose modules torch runs: those that the bundle was exported from, or those of transformers.
    """

    precision: str
    packages: tuple[str, ...] = ("torch", "safetensors")
    extra: str = "cpu,export"
    made: str | None = None
    modules: Literal["tubelet", "transformers"] = "tubelet"


def is_made(engine: str) -> bool:
    """Whether an engine, by its name, is what another tool makes of the checkpoint."""
    return engine in BASELINES and BASELINES[engine].made is not None


def is_of_transformers(engine: str) -> bool:
    """Whether an engine, by its name, is the model of transformers in torch."""
    return engine in BASELINES and BASELINES[engine].modules == "transformers"


TRANSFORMERS = "torch-transformers"

_COMPARED = ("torch", "safetensors", "transformers")
_EXPORTERS = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")

BASELINES = {
    "torch-eager": Baseline("fp32"),
    "torch-sdpa": Baseline("fp32"),
    "torch-bf16": Baseline("bf16"),
    "torch-compiled": Baseline("fp32"),
    TRANSFORMERS: Baseline("fp32", _COMPARED, "compare", modules="transformers"),
    "torch-int8": Baseline("int8", _COMPARED, "compare", modules="transformers"),
    "transformers-onnx": Baseline("fp32", _EXPORTERS, "compare", ".onnx"),
    "transformers-onnx-fused": Baseline("fp32", _EXPORTERS, "compare", ".onnx"),
    "transformers-onnx-int8": Baseline("int8", _EXPORTERS, "compare", ".onnx"),
    "openvino-convert": Baseline("fp32", ("torch", "transformers", "openvino"), "compare,openvino", ".xml"),
    "openvino-nncf": Baseline("int8", ("torch", "transformers", "openvino", "nncf"), "compare,nncf", ".xml"),
}
