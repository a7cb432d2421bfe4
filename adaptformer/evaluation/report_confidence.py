"""The report's section about confidence: calibration, and accuracy against coverage."""

from __future__ import annotations

from adaptformer import html_page
from adaptformer.evaluation import calibration
from adaptformer.evaluation.calibration import Bin, Coverage
from adaptformer.evaluation.metrics import Evaluation

_SHARES = (1.0, 0.95, 0.9, 0.8, 0.5)
"""Of the images, as many as are answered in the table of coverage."""


def section(evaluation: Evaluation, drawing: bytes) -> str:
    """Return the section as HTML, with the drawing (PNG) of both curves."""
    confidence, correct = evaluation.confidence, evaluation.correct
    words = (
        f"Confidence is the probability of the predicted class. On average it is "
        f"{html_page.percent(confidence.mean())}, "
        f"and {html_page.percent(correct.mean())} of the predictions are right. The expected calibration error, "
        f"{html_page.percent(evaluation.ece)}, is the mean distance between the two over {calibration.BINS} bins of "
        "confidence (Guo et al., 2017)."
    )
    return "".join(
        [
            html_page.note(words),
            html_page.figure(
                drawing,
                "Two diagrams: accuracy at each confidence; accuracy of the most confident images.",
                "The tables below have the numbers.",
            ),
            _covered(calibration.coverage(confidence, correct)),
            _bins(calibration.reliability(confidence, correct)),
        ]
    )


def _covered(curve: Coverage) -> str:
    points = dict.fromkeys(curve.at(share) for share in _SHARES)  # with few thresholds several are the same
    rows = [
        (html_page.percent(curve.share[i]), html_page.percent(curve.threshold[i]), html_page.percent(curve.accuracy[i]))
        for i in points
    ]
    columns = ["answered", "from a confidence of", "top-1 of these"]
    return html_page.table(columns, rows, "if only the most confident images are answered")


def _bins(bins: list[Bin]) -> str:
    rows = [
        (
            html_page.between(part.low, part.high),
            part.images,
            html_page.percent(part.confidence),
            html_page.percent(part.accuracy.value),
            html_page.between(part.accuracy.low, part.accuracy.high),
        )
        for part in bins
        if part.images
    ]
    columns = ["confidence", "test images", "mean confidence", "top-1", "95 % interval"]
    return html_page.table(columns, rows, "calibration, bin by bin")
