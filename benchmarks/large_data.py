"""A check of very many small images in tar shards: images/s, memory, and the share of planted copies that are found.

`python -m benchmarks.large_data --images 1000000` writes the shards to a temporary folder (or to `--folder`, which is
kept and reused) and runs `adaptformer data check`. One image in a hundred is a copy of an earlier one: the same bytes,
mirrored, cropped to 84 % of the area, turned by 8 degrees or compressed again. One in twenty has the coarse fields of
another image, so that the two look similar; any pair that is found besides the copies is wrong.

`--against FOLDER` instead compares two searches among a folder's images: all with all, and only within the nearest
cells. It counts the images with a copy that both find, not the pairs, because the cells do not name all pairs among
many copies of one image.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps

from adaptformer.base import files, text_table
from adaptformer.curation.checks import ivf_index, near_duplicates
from adaptformer.data import thread_map
from adaptformer.data.image_facts import small_picture
from benchmarks.measuring import machine

SIDE, IN_A_SHARD, CLASSES = 48, 10_000, 10
KINDS = ("same bytes", "mirrored", "cropped", "turned", "compressed")


def original(number: int) -> Image.Image:
    """Return the image of a number: coarse fields of colour, which some images share, below finer ones."""
    alike = number - number % 2 if number % 40 < 2 else number
    fields = np.random.default_rng([alike, 2]).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    coarse = Image.fromarray(fields).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    details = np.random.default_rng([number, 3]).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    fine = Image.fromarray(details).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return Image.blend(coarse, fine, 0.35)


def copied(number: int) -> tuple[int, str] | None:
    """Return the original of an image and the kind of copy, or None if the image is an original itself."""
    if number % 100 != 99:
        return None
    source = int(np.random.default_rng([number, 1]).integers(0, number))
    return (source - 1 if source % 100 == 99 else source), KINDS[number // 100 % len(KINDS)]


def encoded(number: int) -> bytes:
    """Return the image of a number as JPEG."""
    copy = copied(number)
    image, quality = original(copy[0] if copy else number), 90
    if copy and copy[1] == "mirrored":
        image = ImageOps.mirror(image)
    elif copy and copy[1] == "cropped":
        image = image.crop((2, 2, SIDE - 2, SIDE - 2))
    elif copy and copy[1] == "turned":
        image = image.rotate(8, Image.Resampling.BICUBIC)
    elif copy and copy[1] == "compressed":
        quality = 60
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def write_shard(folder: Path, images: int, shard: int) -> None:
    """Write a shard if it is missing; every tenth shard belongs to the test split."""
    path = folder / f"{'test' if shard % 10 == 9 else 'train'}-{shard:05}.tar"
    if path.is_file():
        return
    with files.replacing(path) as new_file, tarfile.open(new_file, "w") as archive:
        for number in range(shard * IN_A_SHARD, min((shard + 1) * IN_A_SHARD, images)):
            content = encoded(number)
            member = tarfile.TarInfo(f"class{number % CLASSES}/{number:09}.jpg")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def number_of(path: str) -> int:
    """Return the number of an image by its path."""
    return int(path.rpartition("/")[2].removesuffix(".jpg"))


def pairs_found(folder: Path) -> set[tuple[int, int]]:
    """Return the pairs that a check has found, by the images' numbers."""
    found = set()
    for part in pd.read_csv(folder / "findings.csv", chunksize=100_000, dtype="str", keep_default_na=False):
        pairs = part[part["other"] != ""]
        for path, other in zip(pairs["path"], pairs["other"], strict=True):
            found.add((min(number_of(path), number_of(other)), max(number_of(path), number_of(other))))
    return found


def checked(images: int, given: Path | None, *, features: bool) -> None:
    """Check synthetic images and print the cost and the findings."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given or Path(temporary)) / f"shards-{images}"
        began = time.perf_counter()
        with multiprocessing.get_context("spawn").Pool(thread_map.cores()) as pool:
            pool.map(partial(write_shard, folder, images), range(-(-images // IN_A_SHARD)), chunksize=1)
        print(f"{images:,} images written in {time.perf_counter() - began:.0f} s", flush=True)
        into = Path(temporary) / "check"
        words = ["data", "check", f"{folder}/*.tar", "--output", str(into), *(["--features"] if features else [])]
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "adaptformer", *words], check=True)
        seconds = time.perf_counter() - began
        timing = json.loads((into / "timing.json").read_text())
        rows = [
            *[(f"{part}, s", f"{spent:.0f}") for part, spent in timing["seconds"].items()],
            ("in all, s", f"{seconds:.0f}"),
            ("images/s in all", f"{images / seconds:,.0f}"),
            ("peak MB of the command", f"{timing['peak_memory_mb']:,.0f}"),
            ("peak MB of an examining process", f"{timing['peak_memory_mb_of_a_process_examining']:,.0f}"),
        ]
        # Two copies of one image are copies of each other, too.
        of = {number: copied(number) for number in range(images)}
        group = {number: copy[0] if copy else number for number, copy in of.items()}
        pairs = pairs_found(into)
        touched = {number for pair in pairs for number in pair}
        planted: Counter[str] = Counter(copy[1] for copy in of.values() if copy)
        hit = Counter(copy[1] for number, copy in of.items() if copy and number in touched)
        rows += [(f"found of the copies: {kind}", f"{hit[kind]:,} of {planted[kind]:,}") for kind in KINDS]
        wrong = sum(group[first] != group[second] for first, second in pairs)
        rows.append(("pairs found, wrong ones among them", f"{len(pairs):,}, {wrong:,}"))
        print(text_table.aligned(rows, ("what", "figure")))


def against(folder: Path, limit: int, probes: Sequence[int]) -> None:
    """Compare the search in cells with the comparison of all with all, on a folder's images."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})[:limit]
    pictures = np.stack([small_picture(np.asarray(Image.open(path).convert("RGB"))) for path in paths])
    torch.set_num_threads(thread_map.cores())
    rows = []
    began = time.perf_counter()
    ivf_index.PROBES = len(pictures)  # one cell, which is compared with itself
    everything = {(int(a), int(b)) for a, b in near_duplicates.pairs(pictures)}
    rows.append(("all with all", f"{time.perf_counter() - began:.0f}", f"{len(everything):,}", "1"))
    for count in probes:
        ivf_index.PROBES = count
        began = time.perf_counter()
        index = ivf_index.build(pictures)
        found_pairs = {(int(a), int(b)) for a, b in near_duplicates.search(index, lambda _name, step: step())}
        there, here = ({number for pair in pairs for number in pair} for pairs in (everything, found_pairs))
        share = len(here & there) / max(len(there), 1)
        name = f"{count} of {len(index.centres)} cells"
        rows.append((name, f"{time.perf_counter() - began:.0f}", f"{len(found_pairs):,}", f"{share:.3f}"))
    print(text_table.aligned(rows, (f"{len(paths):,} images", "s", "pairs", "share of the images that have a copy")))


def main() -> None:
    """Run the benchmark that the options choose."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="folder for the shards")
    parser.add_argument("--features", action="store_true", help="also embed the images, by the backbone in artifacts/")
    parser.add_argument("--against", type=Path, metavar="FOLDER")
    parser.add_argument("--limit", type=int, default=1_000_000, help="images of FOLDER at most")
    parser.add_argument(
        "--probes", type=int, nargs="+", default=[ivf_index.PROBES], help="cells compared for each view"
    )
    parser.add_argument("--cell", type=int, default=ivf_index.CELL, help="images per cell")
    given = parser.parse_args()
    ivf_index.CELL = given.cell
    print(machine())
    if given.against:
        against(given.against, given.limit, given.probes)
    else:
        checked(given.images, given.folder, features=given.features)


if __name__ == "__main__":
    main()
