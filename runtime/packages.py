"""Which distributions matter to tubelet, and which of them are installed. Nothing is imported to see it."""

# ONNX Runtime's TensorRT for RTX.
PLUGIN_PACKAGE = "onnxruntime-ep-nv-tensorrt-rtx-cu13"

# Distributions that matter, each with the extra of tubelet that brings it (None: always installed).
PACKAGES: dict[str, str | None] = {
    "tubelet": None,
    "numpy": None,
    "av": None,
    "click": None,
    "onnxruntime": "cpu",
    "onnxruntime-gpu": None,
    "openvino": "openvino",
    "huggingface_hub": "hub",
    "starlette": "serve",
    "uvicorn": "serve",
    "torch": "export",
    "onnx": "export",
    "onnxscript": "export",
    "safetensors": "export",
    "tensorrt": "tensorrt",
    "tensorrt-rtx-cu13": "rtx",
    PLUGIN_PACKAGE: "rtx-ort",
    "cuda-bindings": "tensorrt",
}


def installed_version(distribution: str) -> str | None:
    """Its version, None where it is not installed."""
    from importlib import metadata  # with all of email and zipfile, which a start has no need of

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
