"""The model card: what a model is, what it was made from and how well it does, in Markdown as model hubs show it.

It states what the files of a run say and nothing else, so equal results give equal text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import yaml

from adaptformer import text_table
from adaptformer.data.contract import ImageContract
from adaptformer.evaluation.metrics import Evaluation
from adaptformer.evaluation.scores import NAMES
from adaptformer.html_page import between, percent
from adaptformer.model.adapter_file import AdapterCard
from adaptformer.model.backbone_card import BackboneCard, allows_commercial_use
from adaptformer.params import TuningParams

_LISTED = 100
"""Class names that are written out."""
_WEAKEST = 5
_HUB = "hub:"
_RESIZING = {
    "crop": "the shorter side is resized to {0} pixels, then the centre of {0} × {0} is kept",
    "pad": "the longer side is resized to {0} pixels, then black bars make it {0} × {0}",
    "squash": "both sides are resized to {0} pixels, whatever their ratio",
}


def text(evaluation: Evaluation, card: AdapterCard, images: Mapping[str, int], tuning: TuningParams) -> str:
    """Return the card; `images` are the numbers of images of each split, `tuning` is how the model was trained."""
    parts = [
        f"---\n{_front_matter(card)}---",
        f"# {card.backbone.model}, adapted to {len(card.classes):,} classes",
        _what(card),
        _use(evaluation, card),
        _results(evaluation),
        _weakest(evaluation, card.classes),
        _confidence(evaluation),
        _data(card.classes, images),
        _training(card, tuning),
        _backbone(card.backbone),
        _running(card.image),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(card: AdapterCard) -> str:
    backbone, licence = card.backbone, card.backbone.licence.lower()
    known = licence == "unknown" or allows_commercial_use(licence) is not None
    content = {
        "license": licence if known else "other",
        **({} if known else {"license_name": card.backbone.licence}),
        "base_model": backbone.origin.removeprefix(_HUB).partition("@")[0]
        if backbone.origin.startswith(_HUB)
        else backbone.model,
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "vision-transformer", str(card.adapter["method"]), "onnx"],
        "metrics": ["accuracy", "f1"],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _what(card: AdapterCard) -> str:
    return (
        f"A Vision Transformer, `{card.backbone.model}`, adapted to {len(card.classes):,} classes of images with the "
        f"method `{card.adapter['method']}`: {card.trained:,} parameters were trained, the head included, which is "
        f"{percent(card.trained_share)} of the backbone's {card.backbone.parameters:,}."
    )


def _use(evaluation: Evaluation, card: AdapterCard) -> str:
    lines = ["It classifies one image as one of its classes, and is meant for images like those it was trained on."]
    limits = [
        "It knows no other classes: an image that shows none of them gets one of them all the same.",
        f"All figures below come from the {len(evaluation.labels):,} images of the test split; they say nothing about "
        "images of another origin.",
    ]
    counts = evaluation.confusion.sum(axis=1)
    untested = [name for name, count in zip(card.classes, counts, strict=True) if not count]
    if untested:
        limits.append(f"Without test images, hence not judged: {_names(untested)}.")
    if allows_commercial_use(card.backbone.licence) is False:
        limits.append("No commercial use: see the backbone's licence.")
    return _section("Intended use and limits", "\n".join([*lines, "", *(f"- {limit}" for limit in limits)]))


def _results(evaluation: Evaluation) -> str:
    rows: list[tuple[str, str, str]] = [
        (NAMES[metric], percent(score.value), between(score.low, score.high))
        for metric, score in evaluation.scores.items()
    ]
    rows += [("top-5", percent(evaluation.top(5)), ""), ("cross-entropy", f"{evaluation.loss:.4f}", "")]
    return _section("Results on the test split", _table(["", "value", "95 % interval (bootstrap)"], rows))


def _weakest(evaluation: Evaluation, classes: Sequence[str]) -> str:
    counts = evaluation.confusion.sum(axis=1)
    judged = [
        (share.value, name, int(count), share)
        for name, count, share in zip(classes, counts, evaluation.per_class, strict=True)
        if count
    ]
    weakest = sorted(judged, key=lambda row: row[:2])[:_WEAKEST]
    rows = [(name, str(count), percent(value), between(share.low, share.high)) for value, name, count, share in weakest]
    return _section("Weakest classes", _table(["class", "test images", "top-1", "95 % interval (Wilson)"], rows))


def _confidence(evaluation: Evaluation) -> str:
    return _section(
        "Calibration",
        f"Mean confidence on the test split is {percent(evaluation.confidence.mean())}, top-1 "
        f"{percent(evaluation.top(1))}. The expected calibration error (15 bins; Guo et al., 2017) is "
        f"{percent(evaluation.ece)}.",
    )


def _data(classes: Sequence[str], images: Mapping[str, int]) -> str:
    table = _table(["split", "images"], [(split, f"{count:,}") for split, count in images.items()])
    return _section("Data", f"{table}\n\n{len(classes):,} classes: {_names(classes)}.")


def _training(card: AdapterCard, tuning: TuningParams) -> str:
    settings = {"adapter": dict(card.adapter), "tuning": tuning.model_dump(mode="json")}
    written = yaml.safe_dump(settings, default_flow_style=None, allow_unicode=True)
    chosen = f"epoch {card.epoch} was chosen, by `{tuning.selection_metric}` on the validation split"
    return _section("Training", f"Trained in {card.precision}; {chosen}. As in params.yaml:\n\n```yaml\n{written}```")


def _backbone(backbone: BackboneCard) -> str:
    use = {
        True: "It allows commercial use.",
        False: "It does not allow commercial use, of this model either, which contains the weights.",
        None: "Whether it allows commercial use is not known here: read its terms.",
    }[allows_commercial_use(backbone.licence)]
    rows = [
        ("architecture", backbone.model),
        ("origin", backbone.origin),
        ("parameters", f"{backbone.parameters:,}"),
        ("licence", backbone.licence),
        ("sha256 of the encoder", backbone.sha256),
        ("sha256 of the file", backbone.source_sha256),
        ("note", backbone.note),
    ]
    return _section("Backbone", f"{_table(['', 'value'], rows)}\n\nThe licence is that of the weights. {use}")


def _running(contract: ImageContract) -> str:
    size, stored = contract.size, contract.stored_size
    kept = "" if size == stored else f"; the model sees the centre of {size} × {size}"
    return _section(
        "How to run",
        "With adaptformer, which needs no PyTorch for it (`--csv` for a file instead of a table):\n\n"
        "```console\n$ adaptformer predict --model model.onnx PATH...\n```\n\n"
        f"Elsewhere: `model.onnx` takes RGB images, uint8, batch × {size} × {size} × 3, and gives logits. Class names "
        "and the following are in its metadata under `adaptformer`.\n\n"
        "- Decoding: turned as EXIF says, transparency on white, grey and CMYK to RGB.\n"
        f"- Resizing, {contract.interpolation}: {_RESIZING[contract.resize].format(stored)}{kept}.\n"
        f"- Normalisation, of values from 0 to 1, is in the file: mean {_triple(contract.mean)}, standard deviation "
        f"{_triple(contract.std)}.",
    )


def _triple(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(text_table.escaped(name) for name in names[:_LISTED]) + more


def _section(heading: str, body: str) -> str:
    return f"## {heading}\n\n{body}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return text_table.markdown([[text_table.escaped(cell) for cell in row] for row in rows], columns).rstrip()
