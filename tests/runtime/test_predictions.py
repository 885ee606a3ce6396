import numpy as np
import torch

from tubelet.runtime.predictions import Prediction, sigmoid, softmax, top_predictions

LOGITS = np.array([[-3.0, 0.0, 2.5, 2.5], [1000.0, -1000.0, 0.0, 999.0]], np.float32)


def test_softmax_is_torchs_and_does_not_overflow() -> None:
    assert softmax(LOGITS).dtype == np.float32
    np.testing.assert_allclose(softmax(LOGITS), torch.from_numpy(LOGITS).softmax(-1).numpy(), atol=1e-7)


def test_sigmoid_is_torchs_and_does_not_overflow() -> None:
    assert sigmoid(LOGITS).dtype == np.float32
    np.testing.assert_allclose(sigmoid(LOGITS), torch.from_numpy(LOGITS).sigmoid().numpy(), atol=1e-7)


def test_top_predictions_are_sorted_and_ties_keep_the_order_of_labels() -> None:
    scores = np.array([0.25, 0.5, 0.0, 0.25], np.float32)
    assert top_predictions(scores, "abcd", 3) == [("b", 0.5), ("a", 0.25), ("d", 0.25)]
    assert isinstance(top_predictions(scores, "abcd", 1)[0], Prediction)
    assert len(top_predictions(scores, "abcd", 9)) == 4
