from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from adaptformer.base.errors import UserError
from adaptformer.data import storage


@pytest.fixture(params=["path", "url"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "path":
        return str(tmp_path / "store")
    return f"memory://{tmp_path.name}/store"


def test_what_is_written_is_read_and_listed(folder: str) -> None:
    for name in ("b/2.png", "b/1.png", "a/x/3.png", ".hidden/4.png", "b/.5.png", "Thumbs.db"):
        storage.write(storage.join(folder, name), name.encode())
    listed = list(storage.walk(folder))
    contents = [storage.read(place) for place in listed]
    assert sorted(contents) == [b"a/x/3.png", b"b/1.png", b"b/2.png"]
    assert contents.index(b"b/1.png") < contents.index(b"b/2.png")
    assert all(place.endswith(f"/store/{content.decode()}") for place, content in zip(listed, contents, strict=True))
    with storage.opened(storage.join(folder, "a/x/3.png")) as file:
        assert file.read(3) == b"a/x"


def test_a_file_is_there_as_soon_as_it_is_written(folder: str) -> None:
    place = storage.join(folder, "file")
    assert not storage.is_file(place)
    storage.write(place, b"1")
    assert storage.is_file(place)
    assert not storage.is_file(folder)


def test_a_missing_file_is_missing(folder: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read(storage.join(folder, "none"))
    with pytest.raises(UserError, match=r"cannot use .*none: it does not exist"), storage.user_errors("none"):
        storage.read(storage.join(folder, "none"))


def test_names_in_a_list_count_from_its_folder() -> None:
    assert storage.resolve("s3://b/lists/a.csv", "x/1.png") == "s3://b/lists/x/1.png"
    assert storage.resolve("s3://b/lists/a.csv", "s3://c/1.png") == "s3://c/1.png"
    assert storage.resolve("lists/a.csv", "1.png") == "lists/1.png"
    assert storage.resolve("a.csv", "1.png") == "./1.png"
    assert storage.resolve("lists/a.csv", "/photos/1.png") == "/photos/1.png"


def test_a_location_means_the_same_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("photos/a") == str(tmp_path / "photos/a")
    assert storage.absolute("s3://photos/a") == "s3://photos/a"


def test_a_store_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(UserError, match="Install s3fs") as caught:
        storage.read("s3://bucket/a.png")
    assert "adaptformer[s3]" in caught.value.remedy
