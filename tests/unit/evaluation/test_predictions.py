from __future__ import annotations

import mite
import numpy as np
import pandas as pd

from adaptformer.data.labelled import LabelledImages
from adaptformer.evaluation import predictions
from adaptformer.evaluation.metrics import Evaluation


def test_predictions_tell_each_image_apart() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]], np.float32))
    labels = np.array([1, 2])
    pixels = np.full((2, 8, 8, 3), 10, np.uint8)
    pixels[1], pixels[1, :4] = 200, 201
    images = LabelledImages(pixels, labels, ["test/b/ann__1.png", "test/c/2.png"], ["ab", "cd"])
    rows = pd.DataFrame({"width": [30, 40], "height": [20, 10]})
    table = predictions.table(images, Evaluation(logits, labels), mite.CLASSES, rows, "/([a-z]+)__")
    assert list(table) == [
        "path", "sha256", "label", "predicted", "confidence", "probability_of_label", "width", "height", "brightness",
        "group",
    ]  # fmt: skip
    assert table.to_numpy().tolist() == [
        ["test/b/ann__1.png", "ab", "blue", "amber", 0.7, 0.2, 30, 20, 10.0, "ann"],
        ["test/c/2.png", "cd", "coral", "coral", 0.5, 0.5, 40, 10, 200.5, ""],
    ]
