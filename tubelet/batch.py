"""Bundles in engines for tables of any size: `Classifier`, for Ray Data, Daft and Spark."""

from .serve.batch.classifier import Classifier

__all__ = ["Classifier"]
