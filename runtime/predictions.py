"""Logits -> predictions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..preprocess.spec import Averages
from .bundle.bundle import ProblemType


class Prediction(NamedTuple):
    """A label and its score, from 0 to 1."""

    label: str
    score: float


class Value(NamedTuple):
    """What a regression says of a label: the logit as it is, in the units of the model's training."""

    label: str
    value: float


# What a model says of one video: labels by score, high to low; or the values of a regression, in the order of labels.
Answer = list[Prediction] | list[Value]


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn logits (..., K) into scores that sum to 1, float32.

    The largest logit is subtracted first, so that no exponential overflows.
    """
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores: NDArray[np.float32] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return scores


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn each logit (..., K) into a score of its own, float32, for models of several labels a video.

    1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2, and tanh does not overflow.
    """
    scores: NDArray[np.float32] = (np.float32(1) + np.tanh(logits * np.float32(0.5))) * np.float32(0.5)
    return scores


def merge_views(logits: NDArray[np.float32], averages: Averages, problem_type: ProblemType) -> NDArray[np.float32]:
    """Turn the logits of the views of one video into its scores.

    Models of several labels a video score each label on its own. The values of a regression are averaged as they are.

    Args:
        logits: float32 (views, K).
        averages: what the published evaluation averages over views, `Evaluation.averages`.
        problem_type: what the model was trained for.

    Returns:
        float32 (K,).
    """
    if problem_type == "regression":
        values: NDArray[np.float32] = logits.mean(axis=0)
        return values
    score = sigmoid if problem_type == "multi_label_classification" else softmax
    if averages == "logits":
        return score(logits.mean(axis=0))
    averaged: NDArray[np.float32] = score(logits).mean(axis=0)
    return averaged


def top_predictions(scores: NDArray[np.float32], labels: Sequence[str], top_k: int) -> list[Prediction]:
    """Take the `top_k` best of scores (K,), high to low; all K where top_k is larger. Equal scores keep label order."""
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [Prediction(labels[index], float(scores[index])) for index in order]


def answer(
    logits: NDArray[np.float32], averages: Averages, problem_type: ProblemType, labels: Sequence[str], top_k: int
) -> Answer:
    """Turn the logits of the views of one video, (views, K), into what is said of it.

    Args:
        logits: float32 (views, K).
        averages: what is averaged over views; see `merge_views`.
        problem_type: what the model was trained for.
        labels: K names.
        top_k: how many of the best labels. A regression gives all of its values, for none is better than another.

    Returns:
        Predictions, high to low, or the values of a regression, in the order of labels.
    """
    scores = merge_views(logits, averages, problem_type)
    if problem_type == "regression":
        return [Value(label, float(value)) for label, value in zip(labels, scores, strict=True)]
    return top_predictions(scores, labels, top_k)
