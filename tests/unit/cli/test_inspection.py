from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import mite
import pytest
from small_project import adaptformer

from adaptformer.cli import inspection
from adaptformer.model import adapter_file, backbone, classifier


def test_inspect_shows_the_content_of_an_adapter_file(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    path = Path("artifacts/adapter.safetensors")
    assert adaptformer("inspect", str(path)) == 0
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    card = mite.adapter_card()
    assert shown["file"].startswith(f"{path}, {path.stat().st_size:,} bytes")
    assert shown["classes"] == f"{len(mite.CLASSES)}: {', '.join(mite.CLASSES)}"
    assert shown["bottlenecks"] == "4"
    assert shown["placement"] == "parallel"
    assert re.fullmatch(r"[\d,]+ of adapters, [\d,]+ of the head, [\d,]+ of BatchNorm statistics", shown["stored"])
    assert shown["trained"].startswith(f"{card.trained:,} parameters, {card.trained_share:.2%} ")
    assert shown["backbone"].startswith(f"{mite.MODEL}, sha256 {card.backbone.sha256}")
    assert shown["licence"] == card.backbone.licence
    assert shown["image"].startswith(f"{mite.SIDE} x {mite.SIDE}, crop")


WIDTH, CLASSES = mite.WIDTH, len(mite.CLASSES)
LINEAR = CLASSES * WIDTH + CLASSES
STATISTICS = 2 * WIDTH + 1  # mean, variance, number of batches


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"bottlenecks": [4, 2], "scale": "learned"},
            {"adapters": mite.DEPTH * (2 * WIDTH * 6 + 6 + 2 * WIDTH + 2), "the head": 2 * WIDTH + LINEAR},
        ),
        ({"method": "vpt", "pooling": "token"}, {"prompts": mite.DEPTH * 3 * WIDTH, "the head": LINEAR}),
        ({"method": "linear", "pooling": "token"}, {"the head": LINEAR}),
        (
            {"method": "full", "pooling": "token"},
            {"the backbone": sum(tensor.numel() for tensor in mite.encoder().values()), "the head": LINEAR},
        ),
    ],
    ids=lambda value: value.get("method", "adaptformer"),
)
def test_inspect_counts_the_stored_parameters_of_each_method(
    tmp_path: Path, settings: dict[str, Any], expected: dict[str, int]
) -> None:
    path, card = tmp_path / "adapter.safetensors", mite.adapter_card(**settings)
    adapter_file.write(path, mite.model(**settings), card)
    stored = inspection.stored(*adapter_file.read(path))
    assert stored == {**expected, "BatchNorm statistics": STATISTICS}
    assert sum(stored.values()) - STATISTICS == card.trained


def test_both_heads_of_a_distilled_model_count_as_head(tmp_path: Path) -> None:
    name, settings = "deit_tiny_distilled_patch16_224", {"pooling": "token", "bottlenecks": [4]}
    encoder = backbone.build(name).state_dict()
    model = classifier.build(name, encoder, mite.settings(**settings), image_size=16, classes=3, seed=0)
    card = dataclasses.replace(
        mite.adapter_card(**settings),
        backbone=mite.backbone_card(model=name),
        image=dataclasses.replace(mite.CONTRACT, size=16),
    )
    path = tmp_path / "adapter.safetensors"
    adapter_file.write(path, model, card)
    assert inspection.stored(*adapter_file.read(path)) == {
        "adapters": 12 * (2 * 192 * 4 + 4 + 192),
        "the head": 2 * (3 * 192 + 3),
        "BatchNorm statistics": 2 * (2 * 192 + 1),
    }


def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backbone = tmp_path / "mite.safetensors"
    mite.write_backbone(backbone)
    for path, cause in (
        (tmp_path / "none.safetensors", "does not exist"),
        (backbone, "is no adapter file"),
        (Path(__file__), "is damaged"),
    ):
        assert adaptformer("inspect", str(path)) == 1
        assert cause in capsys.readouterr().err
