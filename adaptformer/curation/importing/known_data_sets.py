"""Known data sets with their official splits, downloaded with torchvision's addresses, md5 sums and readers.

CIFAR's files are pickles. torchvision would run code in them; here they are read without running code.
"""

from __future__ import annotations

import gzip
import os
import pickle
import shutil
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from adaptformer.base import csv_file, files, progress
from adaptformer.base.errors import UserError
from adaptformer.curation.importing.listing import SPLIT_NAMES
from adaptformer.model.torchvision_ops import import_torchvision

Row = tuple[Path, str, str]
"""An image's file, class and split: a row of the CSV list."""

_ARCHIVES = (".gz", ".mat", ".tgz")


@dataclass(frozen=True)
class Known:
    """A data set: its title, its download size in megabytes, and a function from a download folder to its rows."""

    title: str
    megabytes: int
    rows: Callable[[Path], Iterable[Row]]


def get(name: str, downloads: Path) -> Path:
    """Download a known data set and return a CSV file for `importing.import_folder`: path, label and split.

    All files are in the folder `downloads`. Archives that an interrupted call has downloaded completely are used again.
    Raises UserError if the download fails.
    """
    known = KNOWN[name]
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # torchvision's bar; a log would get a line each tenth of a second
    downloads.mkdir(parents=True, exist_ok=True)
    _remove_unpacked(downloads)
    try:
        rows = list(known.rows(downloads))
    except (OSError, RuntimeError, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise UserError(
            f"{known.title} could not be downloaded: {reason}",
            f"check the network and that {known.megabytes:,} MB fit on the disk, then run the same command again",
        ) from error
    return _listed(rows, downloads)


def imagenet(folder: Path, downloads: Path) -> Path:
    """Return such a CSV file about ImageNet-1k, unpacked from its publisher's archives to train/WNID/ and val/WNID/.

    The validation images are the test split, because they are the only labelled images outside train. Raises UserError
    for a folder of another form.
    """
    rows: list[Row] = []
    for name, split in (("train", "train"), ("val", "test")):
        classes = sorted(path for path in (folder / name).glob("n*") if path.is_dir())
        if not classes:
            raise UserError(
                f"{folder / name} holds no class folders such as n01440764",
                "unpack each class's archive into a folder of its name, and sort the validation images by class",
            )
        rows += [(path.resolve(), place.name, split) for place in classes for path in sorted(place.iterdir())]
    downloads.mkdir(parents=True, exist_ok=True)
    return _listed(rows, downloads)


def _listed(rows: Sequence[Row], downloads: Path) -> Path:
    listing = [(path.resolve().as_posix(), label, split) for path, label, split in rows]
    table = pd.DataFrame.from_records(listing, columns=["path", "label", "split"])
    listed = downloads / "images.csv"
    files.write_text(listed, csv_file.text(table))
    return listed


def _remove_unpacked(downloads: Path) -> None:
    """Remove everything but the archives, because torchvision does not check whether unpacked files are complete."""
    for path in sorted(downloads.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        elif path.is_file() and path.suffix not in _ARCHIVES:
            path.unlink()


def remove(downloads: Path) -> None:
    """Remove a data set's downloads once data/ holds the images."""
    shutil.rmtree(downloads, ignore_errors=True)


def _datasets() -> Any:
    import_torchvision()
    from torchvision import datasets

    return datasets


class _Arrays(pickle.Unpickler):
    """Reads NumPy arrays, bytes and plain containers, and refuses everything else, because it could run code."""

    _ALLOWED = frozenset(
        {
            ("_codecs", "encode"),
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """Return the object that a pickle names if it is allowed. Raises UnpicklingError for any other."""
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return super().find_class(module, name)


def _unpickled(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _Arrays(file, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError) as error:
        raise RuntimeError(f"{path.name} is not as published: {error}") from error


def _cifar(kind: str) -> Callable[[Path], Iterator[Row]]:
    def rows(downloads: Path) -> Iterator[Row]:
        published = getattr(_datasets(), kind)
        from torchvision.datasets.utils import download_and_extract_archive

        download_and_extract_archive(
            published.url, str(downloads), filename=published.filename, md5=published.tgz_md5, remove_finished=False
        )
        folder = downloads / published.base_folder
        classes = _unpickled(folder / published.meta["filename"])[published.meta["key"]]
        for split, parts in (("train", published.train_list), ("test", published.test_list)):
            content = [_unpickled(folder / part) for part, _ in parts]
            pixels = np.concatenate([part["data"] for part in content]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            labels = [label for part in content for label in part["labels" if "labels" in part else "fine_labels"]]
            yield from _written(pixels, labels, classes, split, downloads)

    return rows


def _svhn(downloads: Path) -> Iterator[Row]:
    for split in ("train", "test"):
        published = _datasets().SVHN(str(downloads), split, download=True)
        digits = [str(digit) for digit in range(10)]
        yield from _written(published.data.transpose(0, 2, 3, 1), published.labels.tolist(), digits, split, downloads)


def _fashion(downloads: Path) -> Iterator[Row]:
    for split in ("train", "test"):
        published = _datasets().FashionMNIST(str(downloads), train=split == "train", download=True)
        pixels, labels = published.data.numpy(), published.targets.tolist()
        yield from _written(pixels, labels, published.classes, split, downloads)


def _photos(kind: str, splits: Sequence[str]) -> Callable[[Path], Iterator[Row]]:
    """Return a function to the rows of a data set of image files, which are used unchanged."""

    def rows(downloads: Path) -> Iterator[Row]:
        for split in splits:
            published = getattr(_datasets(), kind)(str(downloads), split, download=True)
            for path, label in zip(published._image_files, published._labels, strict=True):
                yield Path(path), published.classes[label], SPLIT_NAMES[split]

    return rows


def _written(pixels: Any, labels: Sequence[int], classes: Sequence[str], split: str, downloads: Path) -> Iterator[Row]:
    """Write images [N, H, W(, 3)] as PNG files and yield their rows."""
    folder = downloads / "images" / split
    folder.mkdir(parents=True, exist_ok=True)
    for index, label in enumerate(progress.steps(labels, f"writing {split}", len(labels), "images")):
        path = folder / f"{index:05}.png"
        Image.fromarray(np.ascontiguousarray(pixels[index])).save(path)
        yield path, classes[label].replace("/", " or "), split


KNOWN = {
    "cifar10": Known("CIFAR-10", 170, _cifar("CIFAR10")),
    "cifar100": Known("CIFAR-100", 169, _cifar("CIFAR100")),
    "fashion-mnist": Known("Fashion-MNIST", 31, _fashion),
    "flowers102": Known("Flowers-102", 345, _photos("Flowers102", ("train", "val", "test"))),
    "food101": Known("Food-101", 4_996, _photos("Food101", ("train", "test"))),
    "svhn": Known("SVHN", 246, _svhn),
}
"""The data sets by name; a preset for one of them has the same name."""
