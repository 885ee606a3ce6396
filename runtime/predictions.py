"""Logits -> predictions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..preprocess.spec import Averages
from .bundle import ProblemType


class Prediction(NamedTuple):
    """A label and its score, from 0 to 1."""

    label: str
    score: float


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 (..., K) -> float32 (..., K) that sum to 1. The largest logit is subtracted first, so that no
    exponential overflows."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores: NDArray[np.float32] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return scores


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 (..., K) -> float32 (..., K), each label on its own, for models of several labels a video.

    1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2, and tanh does not overflow.
    """
    scores: NDArray[np.float32] = (np.float32(1) + np.tanh(logits * np.float32(0.5))) * np.float32(0.5)
    return scores


def merge_views(logits: NDArray[np.float32], averages: Averages, problem_type: ProblemType) -> NDArray[np.float32]:
    """Turn the logits of the views of one video, (views, K), into its scores (K,).

    averages: what the published evaluation averages over views, `Evaluation.averages`. Models of several labels a
    video score each label on its own.
    """
    score = sigmoid if problem_type == "multi_label_classification" else softmax
    if averages == "logits":
        return score(logits.mean(axis=0))
    averaged: NDArray[np.float32] = score(logits).mean(axis=0)
    return averaged


def top_predictions(scores: NDArray[np.float32], labels: Sequence[str], top_k: int) -> list[Prediction]:
    """The `top_k` best of scores (K,), high to low; all K where top_k is larger; equal scores keep label order."""
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [Prediction(labels[index], float(scores[index])) for index in order]
