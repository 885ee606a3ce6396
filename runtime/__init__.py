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
from .bundle import Bundle
from .classifier import VideoClassifier, load
from .predictions import Prediction

__all__ = [
    "BackendError",
    "Bundle",
    "BundleError",
    "CheckpointError",
    "Frames",
    "MissingExtra",
    "ParityError",
    "Prediction",
    "TubeletError",
    "VideoClassifier",
    "VideoError",
    "load",
]
