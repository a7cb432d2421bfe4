"""Known data sets, from small archives of the original layouts on the loopback address."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import http.server
import importlib
import io
import json
import pickle
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from picture_fixtures import data_params
from PIL import Image
from scipy.io import savemat

from adaptformer.base.errors import UserError
from adaptformer.curation.importing import known_data_sets
from adaptformer.curation.importing.importing import import_folder
from adaptformer.model.torchvision_ops import import_torchvision

Picture = Callable[..., bytes]
PARAMS = data_params()
NUMBERS = np.random.default_rng(0)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def archive(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def mat(**arrays: Any) -> bytes:
    file = io.BytesIO()
    savemat(file, arrays)
    return file.getvalue()


class Site:
    """A folder that is served, and how often each file was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url, self.asked = folder, "", []

    def put(self, name: str, content: bytes) -> str:
        (self.folder / name).write_bytes(content)
        return md5(content)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    served = Site(folder)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            super().do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}/"
    yield served
    server.shutdown()
    server.server_close()


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("torchvision.datasets.utils._is_remote_location_available", lambda: False, raising=False)
    import_torchvision()
    return importlib.import_module("torchvision.datasets")


def cifar_part(count: int, classes: int, key: str = "labels") -> tuple[bytes, np.ndarray, list[int]]:
    pixels = NUMBERS.integers(0, 256, (count, 3072), dtype=np.uint8)
    labels = [i % classes for i in range(count)]
    content = {"batch_label": "a part", key: labels, "data": pixels, "filenames": [f"{i}.png" for i in range(count)]}
    return pickle.dumps(content, protocol=2), pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def imported(listed: Path, tmp_path: Path) -> pd.DataFrame:
    import_folder(listed, tmp_path / "data", PARAMS, replace=False)
    paths = [path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*.*")]
    return pd.DataFrame([path.split("/") for path in sorted(paths)], columns=["split", "label", "name"])


@contextlib.contextmanager
def cifar10(site: Site, datasets: Any, monkeypatch: pytest.MonkeyPatch, *, change: Callable[[bytes], bytes] = bytes):
    """CIFAR-10 of two training parts of 12 images and 6 test images."""
    parts = {
        name: cifar_part(count, 3) for name, count in (("data_batch_1", 12), ("data_batch_2", 12), ("test_batch", 6))
    }
    meta = pickle.dumps({"label_names": ["airplane", "automobile", "bird"], "num_vis": 3072}, protocol=2)
    members = {name: change(content) for name, (content, _, _) in parts.items()} | {"batches.meta": meta}
    content = archive({f"cifar-10-batches-py/{name}": member for name, member in members.items()})
    for name, value in {
        "url": site.url + "cifar-10-python.tar.gz",
        "tgz_md5": site.put("cifar-10-python.tar.gz", content),
        "train_list": [["data_batch_1", ""], ["data_batch_2", ""]],
        "test_list": [["test_batch", ""]],
    }.items():
        monkeypatch.setattr(datasets.CIFAR10, name, value)
    yield parts


def test_cifar10_has_its_pixels_names_and_splits(
    site: Site, datasets: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with cifar10(site, datasets, monkeypatch) as parts:
        listed = known_data_sets.get("cifar10", tmp_path / "downloads")
    table = pd.read_csv(listed)
    assert table.groupby(["split", "label"]).size().to_dict() == {
        **{("train", name): 8 for name in ("airplane", "automobile", "bird")},
        **{("test", name): 2 for name in ("airplane", "automobile", "bird")},
    }
    of_train = table[table["split"] == "train"].reset_index(drop=True)
    for row, (pixels, label) in {0: (parts["data_batch_1"][1][0], 0), 13: (parts["data_batch_2"][1][1], 1)}.items():
        np.testing.assert_array_equal(np.asarray(Image.open(of_train["path"][row])), pixels)
        assert of_train["label"][row] == ["airplane", "automobile", "bird"][label]
    found = imported(listed, tmp_path)
    assert found["split"].value_counts().to_dict() == {"train": 18, "validation": 6, "test": 6}
    known_data_sets.remove(tmp_path / "downloads")
    assert not (tmp_path / "downloads").exists()


def test_cifar100_has_fine_labels(site: Site, datasets: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    members = {name: cifar_part(8, 4, "fine_labels")[0] for name in ("train", "test")}
    members["meta"] = pickle.dumps({"fine_label_names": ["apple", "bear", "crab", "rose"]}, protocol=2)
    content = archive({f"cifar-100-python/{name}": member for name, member in members.items()})
    monkeypatch.setattr(datasets.CIFAR100, "url", site.url + "cifar-100-python.tar.gz")
    monkeypatch.setattr(datasets.CIFAR100, "tgz_md5", site.put("cifar-100-python.tar.gz", content))
    table = pd.read_csv(known_data_sets.get("cifar100", tmp_path / "downloads"))
    assert table.groupby("split")["label"].apply(lambda labels: sorted(set(labels))).to_dict() == {
        "test": ["apple", "bear", "crab", "rose"],
        "train": ["apple", "bear", "crab", "rose"],
    }


class Harmful:
    def __reduce__(self) -> Any:
        return print, ("this code must not run",)


def test_a_pickle_that_would_run_code_is_refused(
    site: Site, datasets: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def harmful(_content: bytes) -> bytes:
        return pickle.dumps({"data": Harmful(), "labels": []}, protocol=2)

    with (
        cifar10(site, datasets, monkeypatch, change=harmful),
        pytest.raises(UserError, match=r"CIFAR-10 could not be downloaded: data_batch_1 .*print is not allowed"),
    ):
        known_data_sets.get("cifar10", tmp_path / "downloads")
    assert "must not run" not in capsys.readouterr().out


def test_svhn_has_the_digits_as_names(
    site: Site, datasets: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pixels = {split: NUMBERS.integers(0, 256, (32, 32, 3, 6), dtype=np.uint8) for split in ("train", "test")}
    published = {
        split: [site.url + f"{split}_32x32.mat", f"{split}_32x32.mat",
                site.put(f"{split}_32x32.mat", mat(X=values, y=np.array([[10], [1], [2], [10], [1], [2]])))]
        for split, values in pixels.items()
    }  # fmt: skip
    monkeypatch.setattr(datasets.SVHN, "split_list", published)
    table = pd.read_csv(known_data_sets.get("svhn", tmp_path / "downloads"), dtype=str)
    assert list(table["label"]) == ["0", "1", "2"] * 4
    np.testing.assert_array_equal(np.asarray(Image.open(table["path"][4])), pixels["train"][..., 4])
    np.testing.assert_array_equal(np.asarray(Image.open(table["path"][7])), pixels["test"][..., 1])


def test_fashion_mnist_is_grey_and_a_slash_in_a_name_becomes_a_word(
    site: Site, datasets: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    resources, pixels = [], NUMBERS.integers(0, 256, (2, 4, 28, 28), dtype=np.uint8)
    labels = np.array([0, 9, 0, 9], np.uint8)
    for kind, images in zip(("train", "t10k"), pixels, strict=True):
        for name, magic, array in (
            ("images-idx3", 2051, images),
            ("labels-idx1", 2049, labels),
        ):
            header = struct.pack(f">{1 + array.ndim}i", magic, *array.shape)
            file = f"{kind}-{name}-ubyte.gz"
            resources.append((file, site.put(file, gzip.compress(header + array.tobytes()))))
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [site.url])
    monkeypatch.setattr(datasets.FashionMNIST, "resources", resources)
    listed = known_data_sets.get("fashion-mnist", tmp_path / "downloads")
    table = pd.read_csv(listed)
    assert list(table["label"]) == ["T-shirt or top", "Ankle boot"] * 4
    np.testing.assert_array_equal(np.asarray(Image.open(table["path"][5])), pixels[1, 1])
    assert set(imported(listed, tmp_path)["label"]) == {"T-shirt or top", "Ankle boot"}


def test_food101_keeps_the_bytes_of_its_photos(
    site: Site, datasets: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, picture: Picture
) -> None:
    photos = {f"food-101/images/{label}/{i}.jpg": picture(10 * n + i, format="JPEG")
              for n, label in enumerate(("pizza", "apple_pie")) for i in range(5)}  # fmt: skip
    meta = {
        f"food-101/meta/{split}.json": json.dumps(
            {label: [f"{label}/{i}" for i in numbers] for label in ("pizza", "apple_pie")}
        ).encode()
        for split, numbers in (("train", range(4)), ("test", [4]))
    }
    monkeypatch.setattr(datasets.Food101, "_URL", site.url + "food-101.tar.gz")
    monkeypatch.setattr(datasets.Food101, "_MD5", site.put("food-101.tar.gz", archive(photos | meta)))
    listed = known_data_sets.get("food101", tmp_path / "downloads")
    imported(listed, tmp_path)
    assert (tmp_path / "data/test/pizza/4.jpg").read_bytes() == photos["food-101/images/pizza/4.jpg"]
    assert len(list((tmp_path / "data").rglob("*.jpg"))) == 10


@pytest.fixture
def flowers(site: Site, datasets: Any, monkeypatch: pytest.MonkeyPatch, picture: Picture) -> dict[str, bytes]:
    photos = {f"jpg/image_{i:05}.jpg": picture(i, format="JPEG") for i in range(1, 10)}
    monkeypatch.setattr(datasets.Flowers102, "_download_url_prefix", site.url)
    files = {
        "image": ("102flowers.tgz", archive(photos)),
        "label": ("imagelabels.mat", mat(labels=np.array([[1, 1, 1, 2, 2, 2, 102, 102, 102]]))),
        "setid": ("setid.mat", mat(trnid=[[1, 4, 7]], valid=[[2, 5, 8]], tstid=[[3, 6, 9]])),
    }
    published = {kind: (name, site.put(name, content)) for kind, (name, content) in files.items()}
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", published)
    return photos


def test_flowers102_has_its_three_splits_and_names(flowers: dict[str, bytes], tmp_path: Path) -> None:
    found = imported(known_data_sets.get("flowers102", tmp_path / "downloads"), tmp_path)
    assert sorted(found["split"]) == ["test"] * 3 + ["train"] * 3 + ["validation"] * 3
    assert set(found["label"]) == {"pink primrose", "hard-leaved pocket orchid", "blackberry lily"}
    third = tmp_path / "data/test/pink primrose/image_00003.jpg"
    assert third.read_bytes() == flowers["jpg/image_00003.jpg"]


@pytest.mark.usefixtures("flowers")
def test_what_was_unpacked_in_part_is_unpacked_again_without_another_download(site: Site, tmp_path: Path) -> None:
    downloads = tmp_path / "downloads"
    known_data_sets.get("flowers102", downloads)
    (downloads / "flowers-102/jpg/image_00003.jpg").unlink()  # as a kill may leave it
    (downloads / "images.csv").unlink()
    asked = len(site.asked)
    table = pd.read_csv(known_data_sets.get("flowers102", downloads))
    assert all(Path(path).is_file() for path in table["path"])
    assert len(site.asked) == asked


@pytest.mark.usefixtures("flowers")
def test_a_download_that_was_cut_off_is_made_again(site: Site, tmp_path: Path) -> None:
    archive_there = tmp_path / "downloads/flowers-102/102flowers.tgz"
    archive_there.parent.mkdir(parents=True)
    archive_there.write_bytes((site.folder / "102flowers.tgz").read_bytes()[:100])
    assert len(pd.read_csv(known_data_sets.get("flowers102", tmp_path / "downloads"))) == 9


@pytest.mark.usefixtures("flowers")
def test_other_bytes_than_those_published_are_refused(site: Site, tmp_path: Path) -> None:
    (site.folder / "102flowers.tgz").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"Flowers-102 could not be downloaded: File not found or corrupted"):
        known_data_sets.get("flowers102", tmp_path / "downloads")


@pytest.mark.usefixtures("flowers")
def test_a_server_that_has_nothing_is_one_line(site: Site, tmp_path: Path) -> None:
    (site.folder / "setid.mat").unlink()
    with pytest.raises(UserError, match=r"Flowers-102 could not be downloaded: .*[Nn]ot found"):
        known_data_sets.get("flowers102", tmp_path / "downloads")


def test_imagenets_labelled_validation_images_are_the_test_split(tree: Any, tmp_path: Path) -> None:
    classes = ("n01440764", "n01443537")
    folder = tree(
        {f"train/{label}/{label}_{i}.JPEG": 10 * n + i for n, label in enumerate(classes) for i in range(8)}
        | {f"val/{label}/ILSVRC2012_val_{n}.JPEG": 100 + n for n, label in enumerate(classes)},
        "imagenet",
    )
    found = imported(known_data_sets.imagenet(folder, tmp_path / "downloads"), tmp_path)
    assert found.groupby("split").size().to_dict() == {"test": 2, "train": 12, "validation": 4}
    assert set(found["label"]) == set(classes)


def test_imagenets_flat_validation_folder_is_refused(tree: Any, tmp_path: Path) -> None:
    folder = tree({"train/n01440764/1.JPEG": 1, "val/ILSVRC2012_val_1.JPEG": 2}, "imagenet")
    with pytest.raises(UserError, match="imagenet/val holds no class folders"):
        known_data_sets.imagenet(folder, tmp_path / "downloads")


def test_the_command_knows_the_same_names() -> None:
    from adaptformer.cli import data

    assert tuple(known_data_sets.KNOWN) == data.KNOWN
