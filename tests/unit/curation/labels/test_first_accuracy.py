"""The first accuracy that `adaptformer validate` prints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_project
from numpy.typing import NDArray
from small_project import adaptformer, run_stages

from adaptformer.base import integrity
from adaptformer.config import params
from adaptformer.config.run_folder import RunFolder
from adaptformer.curation.labels import first_accuracy, probe
from adaptformer.data import manifest
from adaptformer.model.embedding import Embedding

FETCH = "`adaptformer fetch`, then `adaptformer validate` tells how far the frozen backbone alone gets"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(small_project.write(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("blank_pictures")
def test_validate_tells_it_once_the_backbone_is_there(
    project: Path, capsys: pytest.CaptureFixture[str], embedded: list[int]
) -> None:
    run_stages("validate")
    assert capsys.readouterr().out == f"{FETCH}\n"
    run_stages("fetch", "validate")
    printed = capsys.readouterr().out
    told = re.fullmatch(
        r"before any training: (\d+) nearest neighbours ([\d.]+)%, linear probe ([\d.]+)% of (\d+) validation images, "
        r"from (\d+) training images; took [\d.]+ s for the features, then [\d.]+ s\n",
        printed,
    )
    assert told, printed
    neighbours, _, _, validation, train = told.groups()
    assert int(validation) + int(train) == 21 == sum(embedded)
    assert neighbours == train
    assert not list((project / "artifacts/cache").glob("*.npy"))  # training caches other images
    run_stages("validate")
    assert sum(embedded) == 21  # no image is embedded twice
    assert adaptformer("data", "label-errors") == 0
    assert sum(embedded) == 21 + 9  # those of the test split


def test_the_figures_are_the_probes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stages("validate", "fetch")
    given: list[tuple[tuple[int, ...], list[str], list[str]]] = []

    def judged(features: NDArray[np.float32], labels: list[str], splits: list[str]) -> dict[str, float]:
        given.append((features.shape, labels, splits))
        return {"something": 0.25}

    monkeypatch.setattr(probe, "first_accuracies", judged)
    told = first_accuracy.text(params.load(), RunFolder())
    assert told.startswith("before any training: something 25.0% of ")
    ((count, _), labels, splits), *_ = given
    assert count == len(labels) == len(splits) == 21
    assert set(splits) == {"train", "validation"}


def test_without_validation_images_there_is_nothing_to_tell(project: Path) -> None:
    run_stages("validate", "fetch")
    path = project / "artifacts/manifest.csv"
    path.write_text(path.read_text().replace(",validation,", ",test,"))
    integrity.write_beside(path)
    assert first_accuracy.text(params.load(), RunFolder()).startswith("no first accuracy: it needs validation images")


def test_a_part_of_a_large_set_has_to_do(project: Path, monkeypatch: pytest.MonkeyPatch, embedded: list[int]) -> None:
    run_stages("validate", "fetch")
    monkeypatch.setattr(first_accuracy, "_FIRST", 3)
    monkeypatch.setattr(first_accuracy, "_MOST", 15)
    monkeypatch.setattr(first_accuracy, "_FEWEST", 1)
    asked: list[list[str]] = []
    of_data = Embedding.of_data

    def noting(itself: Embedding, table: pd.DataFrame, *rest: Any) -> NDArray[np.float32]:
        asked.append(list(table["sha256"]))
        return of_data(itself, table, *rest)

    monkeypatch.setattr(Embedding, "of_data", noting)
    first_accuracy.text(params.load(), RunFolder(), seconds=1e-9)
    assert sum(embedded) == 3
    told = first_accuracy.text(params.load(), RunFolder(), seconds=1e6)
    assert sum(embedded) == 15
    # By their hashes, so of all classes and splits, whatever the order of the files.
    table = manifest.read_manifest(RunFolder().manifest)
    assert asked[-1] == sorted(table.loc[table["split"] != "test", "sha256"])[:15]
    assert "training images (a part of 21 images); took " in told
    monkeypatch.setattr(first_accuracy, "_FEWEST", 20)
    told = first_accuracy.text(params.load(), RunFolder(), seconds=1e-9)
    assert told == "no first accuracy: 0 s suffice for too few images; `adaptformer data label-errors` takes all"
    assert sum(embedded) == 15
