"""Classes and files that a spreadsheet would take for formulas go through all of our CSV files and come back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from adaptformer.base import csv_file
from adaptformer.batch_prediction import inputs
from adaptformer.config.params import load
from adaptformer.curation.importing import csv_list, relabelling
from adaptformer.curation.labels import ranking
from adaptformer.data import manifest
from adaptformer.monitoring import label_next

Tree = Callable[..., Path]
PARAMS = load(Path(__file__).resolve().parents[4] / "params.yaml").data
CLASSES = ("=cmd|' 'A0", "-1", "'@x")
IMAGES = {f"{split}/{label}/+{i}.png": 10 * n + i + (50 if split == "test" else 0)
          for split in ("train", "test") for n, label in enumerate(CLASSES) for i in range(4)}  # fmt: skip


def test_the_manifest_keeps_them(tree: Tree, tmp_path: Path) -> None:
    table, _ = manifest.scan(tree(IMAGES), manifest.ValidationShare(0.25, 0))
    path = tmp_path / "manifest.csv"
    manifest.write_manifest(path, table)
    assert manifest.read_manifest(path).equals(table)
    assert manifest.class_names(table) == sorted(CLASSES)
    assert ",'=cmd" in path.read_text()


def test_relabelling_takes_the_apostrophes_off(tree: Tree, tmp_path: Path) -> None:
    data, answers, journal = tree(IMAGES), tmp_path / "labels.csv", tmp_path / "relabelled.csv"
    table = pd.DataFrame(dict.fromkeys(ranking.COLUMNS, ""), index=[0])
    table = table.assign(path="train/-1/+0.png", label="-1", new_label=CLASSES[0])
    ranking.write(answers, table)
    assert f"'{CLASSES[0]}" in answers.read_text()
    assert ranking.with_answers(table.assign(new_label=""), answers)[0]["new_label"].tolist() == [CLASSES[0]]
    assert relabelling.relabel(answers, data, PARAMS, journal).changed == {("-1", CLASSES[0]): 1}
    assert relabelling.undo(data, journal)
    assert (data / "train/-1/+0.png").is_file()


def test_a_list_to_import_takes_the_apostrophes_off(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(csv_file.text(pd.DataFrame({"path": ["=a.png", "b.png"], "label": [CLASSES[0], "-1"]})))
    images = csv_list.images_of(path).images
    assert [(image.path.name, image.label) for image in images] == [("=a.png", CLASSES[0]), ("b.png", "-1")]


def test_what_to_label_next_is_a_list_of_images(tmp_path: Path) -> None:
    table = pd.DataFrame({"path": ["=a.png"], "label_next": [1]})
    path = tmp_path / "next.csv"
    path.write_text(label_next.to_complete(table, tmp_path))
    assert list(inputs.locations([str(path)])) == [str(tmp_path / "=a.png")]
