"""CSV files that people and programs change: manifest, lists, labels, findings, predictions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from hostile import bytes_of, ends_well
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adaptformer.base import csv_file
from adaptformer.base.errors import UserError
from adaptformer.batch_prediction import inputs
from adaptformer.config import params
from adaptformer.curation.importing import csv_list, relabelling
from adaptformer.curation.labels import ranking
from adaptformer.data import manifest as manifests
from adaptformer.registry import version_evidence

PARAMS = params.load(Path(__file__).resolve().parents[2] / "params.yaml")
PIECES = [
    b",", b",,", b"\n", b"\r", b"\r\n", b'"', b'""', b'"\n', b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b";", b"\t",
    b"'", b"'=1", b"=1", b"-1", b"NA", b"nan", b"1e999", b"9" * 30, b"true", b"..", b".", b"/", b"//",
    b"../../x", b"~", b"|",
    b"\x1b[2J", "é".encode(), "\u202e".encode(), "\u200c".encode(), b"\\", b"C:\\x", b"train", b"test", b"x" * 300,
    b"path,label\n", b"split", b" ", b"\n\n\n", b"s3://x/y", b"http://[::1", b"file:///x", b"::", b"%00",
]  # fmt: skip
MANIFEST = csv_file.text(
    pd.DataFrame(
        [
            (f"{split}/{label}/{number}.png", label, split, 32, 32, "RGB", 99, f"{number:064x}")
            for number, (split, label) in enumerate([("train", "a"), ("train", "=b"), ("test", "a"), ("test", "=b")])
        ],
        columns=list(manifests.COLUMNS),
    )
).encode()
LIST = b"path,label,split,group\na/1.png,cat,train,g1\na/2.png,dog,test,g2\nb.png,cat,validation,\n"
LABELS = b"path,label,looks_like,new_label\ntrain/a/0.png,a,b,b\ntrain/b/1.png,b,a,\ntest/a/2.png,a,b,b\n"
PREDICTIONS = (
    b"path,sha256,label,predicted,confidence,probability_of_label,width,height,brightness,group\n"
    b"test/a/2.png,ab,a,b,0.7,0.2,30,20,10.0,ann\ntest/b/4.png,cd,b,b,0.9,0.9,10,10,nan,\n"
)
JOURNAL = b"number,before,after\n1,train/a/0.png,train/b/0.png\n2,train/b/1.png,train/a/1.png\n"


def raw(seed: bytes) -> st.SearchStrategy[bytes]:
    return bytes_of([seed], PIECES) | st.lists(st.sampled_from([*PIECES, seed[:20]]), max_size=12).map(b"".join)


@given(raw(MANIFEST))
def test_any_table_is_read_or_refused(folder: Path, content: bytes) -> None:
    path = folder / "table.csv"
    path.write_bytes(content)

    def read() -> pd.DataFrame | None:
        try:
            return csv_file.read(path)
        except ValueError:
            return None

    found = ends_well(read)
    if isinstance(found, pd.DataFrame):
        again = folder / "again.csv"
        again.write_bytes(csv_file.text(found).encode())
        if list(found) != [""]:  # a lone empty name is an empty line
            assert csv_file.read(again).equals(found)


@given(raw(MANIFEST))
def test_any_manifest_is_read_or_refused(folder: Path, content: bytes) -> None:
    path = folder / "manifest.csv"
    path.write_bytes(content)
    found = ends_well(lambda: manifests.read_manifest(path))
    if isinstance(found, pd.DataFrame):
        manifests.class_names(found)
        manifests.write_manifest(path, found)
        assert manifests.read_manifest(path).equals(found)


@given(raw(LIST))
def test_any_list_of_images_to_import_is_read_or_refused(folder: Path, content: bytes) -> None:
    path = folder / "list.csv"
    path.write_bytes(content)
    ends_well(lambda: csv_list.images_of(path))


@given(raw(LIST))
def test_any_list_of_images_to_predict_is_read_or_refused(folder: Path, content: bytes) -> None:
    path = folder / "predict.csv"
    path.write_bytes(content)
    ends_well(lambda: list(inputs.locations([str(path)])))


@given(raw(PREDICTIONS))
def test_any_predictions_of_a_registered_version_are_read_or_refused(folder: Path, content: bytes) -> None:
    path = folder / "predictions.csv"
    path.write_bytes(content)
    found = ends_well(lambda: version_evidence.read_predictions(path))
    if isinstance(found, pd.DataFrame):
        assert found["confidence"].dtype == "float64"


@given(raw(LABELS))
def test_any_labels_of_a_person_are_read_or_refused(folder: Path, content: bytes) -> None:
    path = folder / "labels.csv"
    path.write_bytes(content)
    ranked = pd.DataFrame({"path": ["train/a/0.png", "=x"], "label": ["a", "b"], "new_label": ""}, dtype="str")
    ends_well(lambda: ranking.with_answers(ranked, path))


@pytest.fixture(scope="module")
def images(folder: Path) -> Path:
    """Three tiny images of two classes."""
    data = folder / "original"
    for number, place in enumerate(["train/a/0.png", "train/b/1.png", "train/a/3.png", "test/a/2.png", "test/b/4.png"]):
        (data / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(data / place)
    return data


@given(raw(LABELS), raw(JOURNAL), st.booleans())
def test_any_list_of_new_labels_is_applied_or_refused(
    folder: Path, images: Path, content: bytes, moved: bytes, back: bool
) -> None:
    data, source, journal = folder / "data", folder / "new.csv", folder / "journal.csv"
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(images, data)
    source.write_bytes(content)
    journal.write_bytes(moved if back else JOURNAL)
    before = sorted(path.read_bytes() for path in data.rglob("*.png"))
    if back:
        ends_well(lambda: relabelling.undo(data, journal))
    else:
        found = ends_well(lambda: relabelling.relabel(source, data, PARAMS.data, journal))
        assert isinstance(found, relabelling.Relabelling | UserError)
    assert sorted(path.read_bytes() for path in data.rglob("*.png")) == before
