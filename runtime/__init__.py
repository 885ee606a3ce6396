"""Runs bundles: numpy, PyAV and an engine, never torch."""

from ..preprocess.errors import (
    BackendError,
    BundleError,
    CheckpointError,
    MissingExtra,
    ParityError,
    TubeletError,
    VideoError,
)
from ..preprocess.frames import Frames
from .bundle.bundle import Bundle
from .classifier import VideoClassifier
from .encoder import VideoEncoder
from .load import load
from .masked import MaskedVideoModel
from .model import VideoModel
from .predictions import Prediction, Value

__all__ = [
    "BackendError",
    "Bundle",
    "BundleError",
    "CheckpointError",
    "Frames",
    "MaskedVideoModel",
    "MissingExtra",
    "ParityError",
    "Prediction",
    "TubeletError",
    "Value",
    "VideoClassifier",
    "VideoEncoder",
    "VideoError",
    "VideoModel",
    "load",
]
