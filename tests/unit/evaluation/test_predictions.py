from __future__ import annotations

import mite
import numpy as np

from adaptformer.data.labelled import LabelledImages
from adaptformer.evaluation import predictions
from adaptformer.evaluation.metrics import Evaluation


def test_predictions_tell_each_image_apart() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]], np.float32))
    labels = np.array([1, 2])
    images = LabelledImages(np.empty((2, 8, 8, 3), np.uint8), labels, ["test/b/1.png", "test/c/2.png"], ["ab", "cd"])
    table = predictions.table(images, Evaluation(logits, labels), mite.CLASSES)
    assert list(table) == ["path", "sha256", "label", "predicted", "confidence", "probability_of_label"]
    assert table.to_numpy().tolist() == [
        ["test/b/1.png", "ab", "blue", "amber", 0.7, 0.2],
        ["test/c/2.png", "cd", "coral", "coral", 0.5, 0.5],
    ]
