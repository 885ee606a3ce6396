"""Put video transformers into production: a checkpoint becomes a bundle, which classifies videos without torch.

    import tubelet

    with tubelet.load("artifacts/vivit-b-16x2-kinetics400") as model:
        for label, score in model.classify("archery.mp4"):
            print(f"{score:6.1%}  {label}")

Each name is imported when it is first asked for, so that `import tubelet` loads neither numpy nor an engine. `export`
needs torch, which it imports when it is called.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see; _DEFINED_IN says the same to Python
    from .exporter.front_door import export
    from .exporter.options import ExportOptions
    from .preprocess.errors import (
        BackendError,
        BundleError,
        CheckpointError,
        HubError,
        HubUnreachable,
        MissingExtra,
        NotAvailable,
        NotWritten,
        OutOfBounds,
        OutOfMemory,
        ParityError,
        TooManyFiles,
        TubeletError,
        VideoError,
        VideoOutOfMemory,
    )
    from .preprocess.frames import Frames
    from .runtime.bundle.bundle import Bundle
    from .runtime.classifier import Classification, VideoClassifier
    from .runtime.encoder import VideoEncoder
    from .runtime.load import load
    from .runtime.masked import MaskedVideoModel
    from .runtime.model import VideoModel
    from .runtime.predictions import Prediction, Value
    from .runtime.proof.check import check
    from .runtime.reading import Reading
    from .runtime.stream.answers import Event, SourceChange, Window
    from .runtime.stream.events import EventRule, find_events
    from .runtime.stream.watching import Watching

    __version__: str

# Where each name is defined, below this package.
_DEFINED_IN = {
    "BackendError": "preprocess.errors",
    "Bundle": "runtime.bundle.bundle",
    "BundleError": "preprocess.errors",
    "CheckpointError": "preprocess.errors",
    "Classification": "runtime.classifier",
    "Event": "runtime.stream.answers",
    "EventRule": "runtime.stream.events",
    "ExportOptions": "exporter.options",
    "Frames": "preprocess.frames",
    "HubError": "preprocess.errors",
    "HubUnreachable": "preprocess.errors",
    "MaskedVideoModel": "runtime.masked",
    "MissingExtra": "preprocess.errors",
    "NotAvailable": "preprocess.errors",
    "NotWritten": "preprocess.errors",
    "OutOfBounds": "preprocess.errors",
    "OutOfMemory": "preprocess.errors",
    "ParityError": "preprocess.errors",
    "Prediction": "runtime.predictions",
    "Reading": "runtime.reading",
    "SourceChange": "runtime.stream.answers",
    "TooManyFiles": "preprocess.errors",
    "TubeletError": "preprocess.errors",
    "Value": "runtime.predictions",
    "VideoClassifier": "runtime.classifier",
    "VideoEncoder": "runtime.encoder",
    "VideoError": "preprocess.errors",
    "VideoModel": "runtime.model",
    "VideoOutOfMemory": "preprocess.errors",
    "Watching": "runtime.stream.watching",
    "Window": "runtime.stream.answers",
    "check": "runtime.proof.check",
    "export": "exporter.front_door",
    "find_events": "runtime.stream.events",
    "load": "runtime.load",
}

__all__ = [
    "BackendError",
    "Bundle",
    "BundleError",
    "CheckpointError",
    "Classification",
    "Event",
    "EventRule",
    "ExportOptions",
    "Frames",
    "HubError",
    "HubUnreachable",
    "MaskedVideoModel",
    "MissingExtra",
    "NotAvailable",
    "NotWritten",
    "OutOfBounds",
    "OutOfMemory",
    "ParityError",
    "Prediction",
    "Reading",
    "SourceChange",
    "TooManyFiles",
    "TubeletError",
    "Value",
    "VideoClassifier",
    "VideoEncoder",
    "VideoError",
    "VideoModel",
    "VideoOutOfMemory",
    "Watching",
    "Window",
    "__version__",
    "check",
    "export",
    "find_events",
    "load",
]


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for (PEP 562); it is then an ordinary attribute."""
    value: Any
    if name == "__version__":
        from importlib.metadata import version

        value = version("tubelet")  # as pyproject.toml states it
    elif name in _DEFINED_IN:
        value = getattr(import_module(f".{_DEFINED_IN[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
