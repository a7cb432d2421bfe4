"""Data that DVC keeps as links into a cache outside of the checkout (`dvc config cache.type symlink`)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import small_project
from PIL import Image

from adaptformer.base.files import sha256_file


@pytest.fixture
def linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose images are links to read-only files of a cache, as DVC makes them."""
    root = small_project.write(tmp_path / "project")
    for number, image in enumerate(sorted((root / "data").rglob("*.png"))):
        digest = sha256_file(image)[:31] + str(number % 10)
        stored = tmp_path / "cache/files/md5" / digest[:2] / digest[2:]
        stored.parent.mkdir(parents=True, exist_ok=True)
        image.rename(stored)
        stored.chmod(0o444)
        image.symlink_to(stored)
    monkeypatch.chdir(root)
    return root


def test_links_into_a_cache_outside_are_validated_trained_on_and_grow(linked: Path, tmp_path: Path) -> None:
    stored = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    small_project.run_stages("validate")
    labels = sorted(path.name for path in Path("data/train").iterdir())
    more = tmp_path / "more" / labels[0]
    more.mkdir(parents=True)
    Image.new("RGB", (10, 10), (1, 250, 3)).save(more / "new.png")
    assert small_project.adaptformer("data", "import", str(tmp_path / "more"), "--add") == 0
    old = [path for path in Path("data").rglob("*.png") if path.is_symlink()]
    assert len(old) == len(stored)
    assert len([path for path in Path("data").rglob("*.png") if not path.is_symlink()]) == 1
    moved = sorted(path for path in old if path.parent.name == labels[0])[0]
    rows = tmp_path / "labels.csv"
    rows.write_text(f"path,label,new_label\n{moved.relative_to('data')},{labels[0]},{labels[1]}\n")
    assert small_project.adaptformer("data", "relabel", str(rows)) == 0
    assert not moved.exists()
    found = list(Path("data").glob(f"{moved.parent.parent.name}/{labels[1]}/*"))
    assert any(path.read_bytes() in stored.values() for path in found)
    small_project.run_stages("validate")
    assert {path: path.read_bytes() for path in stored} == stored


def test_links_into_a_cache_are_imported_as_files_of_their_own(linked: Path, tmp_path: Path) -> None:
    source = (linked / "data").rename(tmp_path / "source")
    assert small_project.adaptformer("data", "import", str(source)) == 0
    images = list(Path("data").rglob("*.png"))
    assert len(images) == len(list(source.rglob("*.png")))
    shutil.rmtree(tmp_path / "cache")
    assert all(path.is_file() and not path.is_symlink() for path in images)
    small_project.run_stages("validate")
