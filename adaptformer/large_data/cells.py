"""Search for near duplicates among very many images, in memory that hardly grows with their number.

As in validation/near_duplicates.py, pairs of similar pictures are proposed, and confirmed by alignment. But not all
pictures are compared with each other: the signatures are clustered into cells of about CELL similar ones (k-means), and
each view of a picture is compared only with the signatures in the PROBES cells nearest to it. Up to CELL * PROBES
images, every pair is compared; beyond that a pair may be missed, and the time grows linearly, not quadratically.

Pictures and signatures are in files. Memory holds a block of pictures, a part of a cell, and about ten bytes for each
image and each proposed pair.

Shapes: M pictures, s their side, V views, K cells, B pictures of a block, P proposed pairs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from adaptformer.base import array_file, files, integrity
from adaptformer.base.errors import UserError
from adaptformer.data.reading import SIDE
from adaptformer.large_data.rows import Rows
from adaptformer.validation import alignment, likeness
from adaptformer.validation.likeness import LEAST, NEAREST

log = logging.getLogger("adaptformer")

CELL, PROBES = 2000, 16
BLOCK = 16_384
"""Pictures that are compared in one go; the pairs that they propose are then written to a file."""
PAIRS = 8192
"""Pairs that are aligned in one go."""
_LEARN = 50
"""Signatures per cell that the cells are fitted to."""
_AT_ONCE = (1024, 2048)  # views and pictures
_COLUMNS = ("row", "column", "view", "cosine")
_SIGNATURE = 54
_INDEX = "index.json"


@dataclass(frozen=True)
class Index:
    """The pictures, and their signatures sorted by cell, with the number of the picture of each (`members` [M]).

    The signatures of cell k are at `starts[k]` to `starts[k + 1]`, with `members` ascending within a cell; `centres`
    [K, 54] are the centres of the cells.
    """

    pictures: Rows
    signatures: Rows
    members: NDArray[np.int64]
    starts: NDArray[np.int64]
    centres: Tensor


def prepare(folder: Path, pictures: Iterable[NDArray[np.uint8]]) -> Index:
    """Return the index of pictures, given in blocks [B, s, s, 3]; build it in `folder` unless it is intact there."""
    stored = Rows(folder / "pictures", (SIDE, SIDE, 3), np.uint8)
    ordered = Rows(folder / "signatures", (_SIGNATURE,), np.float32)
    arrays = folder / "cells.safetensors"
    kept = _kept(folder, arrays) if (folder / _INDEX).is_file() else None
    if kept is None:
        (folder / _INDEX).unlink(missing_ok=True)  # the files that it describes are about to change
        folder.mkdir(parents=True, exist_ok=True)
        unordered = Rows(folder / "unordered", (_SIGNATURE,), np.float32)
        for leftover in (folder / "pictures", folder / "signatures", folder / "unordered"):
            leftover.write_bytes(b"")
        for block in pictures:
            stored.append(block)
            unordered.append(likeness.signatures(_images(block)).numpy())
        centres = _centres(unordered)
        cells = np.concatenate(
            [np.zeros(0, np.int64)]
            + [_nearest(torch.from_numpy(unordered.part(start, start + BLOCK)), centres, 1)[:, 0].numpy()
               for start in range(0, len(unordered), BLOCK)]
        )  # fmt: skip
        members = np.argsort(cells, kind="stable")
        for start in range(0, len(members), BLOCK):
            ordered.append(unordered.at(members[start : start + BLOCK]))
        starts = np.searchsorted(cells[members], np.arange(len(centres) + 1))
        kept = {"members": members, "starts": starts, "centres": centres.numpy()}
        array_file.write(arrays, kept, {})
        (folder / "unordered").unlink()
        integrity.write_record(folder / _INDEX, _rows_of(folder))
    return Index(stored, ordered, kept["members"], kept["starts"], torch.from_numpy(kept["centres"]))


def _rows_of(folder: Path) -> dict[str, str]:
    """Return the hashes of an index's row files, which have no checksums of their own."""
    return {name: files.sha256_file(folder / name) for name in ("pictures", "signatures")}


def _kept(folder: Path, arrays: Path) -> dict[str, NDArray[Any]] | None:
    """Return the arrays of an existing index; None if it is damaged or of an older version."""
    try:
        kept = array_file.read(arrays, "")[0]
        if integrity.read_record(folder / _INDEX, "") != _rows_of(folder):
            raise integrity.altered(folder, "")
    except (OSError, UserError) as error:
        log.warning("the index of pictures is built again: %s", getattr(error, "cause", error))
        return None
    return kept


def _images(block: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(block).permute(0, 3, 1, 2)


def _centres(signatures: Rows) -> Tensor:
    count = max(1, round(len(signatures) / CELL))
    if count <= PROBES:  # every cell would be searched anyway
        return torch.zeros(1, _SIGNATURE)
    chosen = np.unique(np.linspace(0, len(signatures) - 1, min(len(signatures), _LEARN * count)).astype(np.int64))
    learnt = MiniBatchKMeans(count, random_state=0, n_init=1, batch_size=8192).fit(signatures.at(chosen))
    return torch.from_numpy(learnt.cluster_centers_.astype(np.float32))


def _nearest(signatures: Tensor, centres: Tensor, count: int) -> Tensor:
    """Return the numbers [N, count] of the cells nearest to each signature [N, 54]."""
    half = centres.square().sum(1) / 2
    found = [(part @ centres.T - half).topk(min(count, len(centres)), dim=1).indices for part in signatures.split(4096)]
    return torch.cat(found)


def blocks(index: Index) -> range:
    """Return the number of the first picture of each block."""
    return range(0, len(index.members), BLOCK)


def propose(index: Index, folder: Path, start: int) -> Path:
    """Write the pairs that the pictures of a block propose, unless the file is intact already, and return the file.

    Its columns are those that `likeness.nearest` takes.
    """
    path = folder / f"proposed/{start:010d}.parquet"
    if not integrity.is_intact(path):
        images = _images(index.pictures.part(start, start + BLOCK))
        with files.replacing(path) as beside:
            _proposed(index, images, start).to_parquet(beside, index=False)
        integrity.write_beside(path)
    return path


def proposals(paths: Iterable[Path]) -> pd.DataFrame:
    """Return the distinct pairs that all blocks propose, in the form that `likeness.proposals` takes."""
    nothing = pd.DataFrame({name: np.zeros(0) for name in _COLUMNS})
    return likeness.nearest(pd.concat([nothing, *map(pd.read_parquet, paths)], ignore_index=True))


def confirm(index: Index, folder: Path, pairs: pd.DataFrame, start: int) -> Path:
    """Write the agreement of up to PAIRS pairs from `start` on, unless the file is intact already, and return the file.

    Its columns are `agreement` and `fits` (alignment.agreements).
    """
    path = folder / f"confirmed/{start:010d}.parquet"
    if not integrity.is_intact(path):
        part = pairs[start : start + PAIRS]
        involved = np.unique(part[["first", "second"]].to_numpy())
        within = {name: np.searchsorted(involved, part[name]) for name in ("first", "second")}
        proposed = likeness.proposals(part.assign(**within))
        agreement, fits = alignment.agreements(index.pictures.at(involved), proposed)
        with files.replacing(path) as beside:
            pd.DataFrame({"agreement": agreement, "fits": fits}).to_parquet(beside, index=False)
        integrity.write_beside(path)
    return path


def confirmed(pairs: pd.DataFrame, paths: Iterable[Path]) -> NDArray[np.int64]:
    """Return those pairs [P, 2] of pictures that show the same photo; `paths` are all files that `confirm` wrote.

    The agreement that details must have is estimated from all pairs.
    """
    tables = [pd.read_parquet(path) for path in paths]
    if not tables:
        return np.zeros((0, 2), np.int64)
    table = pd.concat(tables, ignore_index=True)
    same = (table["fits"] & (table["agreement"] >= alignment.bound(table["agreement"].to_numpy()))).to_numpy()
    return pairs.loc[same, ["first", "second"]].to_numpy()


def _proposed(index: Index, images: Tensor, start: int) -> pd.DataFrame:
    """Return for each picture of a block [B, 3, s, s] the NEAREST pictures before and after it, by their best views."""
    viewed = torch.cat([likeness.signatures(images, transform) for transform in likeness.view_transforms()])
    near = _nearest(viewed, index.centres, PROBES)
    query = torch.arange(len(viewed)).repeat_interleave(near.shape[1])
    by_cell = near.flatten().argsort(stable=True)
    bounds = torch.searchsorted(near.flatten()[by_cell], torch.arange(len(index.centres) + 1))
    found: list[Tensor] = []
    for cell, (low, high) in enumerate(zip(index.starts, index.starts[1:], strict=False)):
        asking = query[by_cell[bounds[cell] : bounds[cell + 1]]]
        for column in range(int(low), int(high), _AT_ONCE[1]):
            stop = min(column + _AT_ONCE[1], int(high))
            others = torch.from_numpy(index.signatures.part(column, stop))
            members = torch.from_numpy(index.members[column:stop])
            for rows in asking.split(_AT_ONCE[0]):
                cosines = viewed[rows] @ others.T
                some = cosines.amax(dim=1) >= LEAST
                if some.any():
                    own, view = start + rows[some] % len(images), rows[some] // len(images)
                    found.extend(_best(cosines[some], own, view, members))
    columns = torch.cat(found, dim=1).numpy() if found else np.zeros((len(_COLUMNS), 0))
    table = pd.DataFrame(dict(zip(_COLUMNS, columns, strict=True))).astype(dict.fromkeys(_COLUMNS[:3], "int64"))
    ordered = table.sort_values(["cosine", *_COLUMNS[:3]], ascending=[False, True, True, True], ignore_index=True)
    best_views = ordered.drop_duplicates(["row", "column"])
    after = best_views["column"] > best_views["row"]
    return best_views[best_views.groupby(["row", after]).cumcount() < NEAREST].sort_values(["row", "column"])


def _best(cosines: Tensor, own: Tensor, view: Tensor, members: Tensor) -> Iterator[Tensor]:
    """Yield the columns row, column, view, cosine [4, P] of the NEAREST `members` [N] before and after each `own` [R].

    `own` and `members` are numbers of pictures; `cosines` [R, N] are those between the `view` [R] of `own` and the
    members.
    """
    for side in (members < own[:, None], members > own[:, None]):
        best = cosines.masked_fill(~side, -1.0).topk(min(NEAREST, len(members)), dim=1)
        kept = best.values >= LEAST
        columns = (own[:, None].expand_as(kept), members[best.indices], view[:, None].expand_as(kept), best.values)
        yield torch.stack([column[kept].double() for column in columns])
