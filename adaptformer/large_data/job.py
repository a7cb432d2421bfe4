"""The folder of a check, and its preparation before the first part is examined.

    check.json                description of the check; written after parts/ and the backbone
    parts/00000000.parquet    the locations of each part
    backbone.safetensors      only if features are wanted
    facts/00000000.parquet    facts about a part's images (facts.py), written as a whole
    copies/                   intermediate files of the search for near duplicates (cells.py), removed at the end
    near_duplicates.parquet   pairs of images that seem to show the same photo
    findings.csv              the findings, one per line
    timing.json               the time and memory used

Each file is verified when it is read back, by the checksum in it or beside it (`.sha256`); an altered one is computed
again. All processes use the same path of the folder, so it is on this machine or on a shared file system.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptformer.base import files, integrity, names
from adaptformer.base.errors import UserError
from adaptformer.batch_prediction.job import digest, parquet
from adaptformer.data import storage
from adaptformer.data.contract import ImageContract
from adaptformer.large_data import sources

if TYPE_CHECKING:
    from adaptformer.config.params import ImageParams
    from adaptformer.config.run_folder import RunFolder

DESCRIPTION, BACKBONE, LOCK = "check.json", "backbone.safetensors", ".lock"
COPIES, NEAR_DUPLICATES, FINDINGS, TIMING = "copies", "near_duplicates.parquet", "findings.csv", "timing.json"
LOCATION = "location"
"""The column of a part's list."""


@dataclass(frozen=True)
class Features:
    """The wanted features: those of the backbone in `path`, with an image contract as JSON."""

    path: Path
    contract: str


@dataclass(frozen=True)
class Check:
    """The description of a check: the images of `sources`, in `parts` parts.

    `inputs` is the hash of the parts' lists; `backbone` is the hash of the backbone file whose features are wanted, and
    `contract` its image contract as JSON; both are empty if no features are wanted.
    """

    folder: str
    sources: tuple[str, ...]
    backbone: str
    contract: str
    parts: int
    inputs: str

    def part(self, number: int) -> Path:
        """Return the file that lists the locations of a part."""
        return Path(self.folder, f"parts/{number:08d}.parquet")

    def facts(self, number: int) -> Path:
        """Return the file with the facts about a part's images."""
        return Path(self.folder, f"facts/{number:08d}.parquet")

    def file(self, name: str) -> Path:
        """Return another file of the folder."""
        return Path(self.folder, name)


def features_of(folder: RunFolder, image: ImageParams) -> Features:
    """Return the description of the features of a run's backbone. Raises UserError if it was not fetched."""
    from adaptformer.model import backbone_file  # imports torch, which processes without features do not need

    if not folder.backbone.is_file():
        raise UserError(f"{folder.backbone} does not exist", "run `adaptformer fetch` first")
    card = backbone_file.read_card(folder.backbone)
    contract = ImageContract(**image.model_dump(), mean=card.mean, std=card.std)
    return Features(folder.backbone, files.canonical_json(dataclasses.asdict(contract)))


def prepare(folder: Path, given: Sequence[str], features: Features | None) -> Check:
    """Return the check in `folder`: the existing one, or a new one, whose locations are listed now.

    Raises UserError if the folder holds another check, a damaged one or other files, and for sources without images.
    """
    wanted: dict[str, Any] = {
        "sources": tuple(storage.absolute(source) for source in given),
        "backbone": files.sha256_file(features.path) if features else "",
        "contract": features.contract if features else "",
    }
    description = folder / DESCRIPTION
    if description.is_file():
        there = _described(description)
        there["sources"] = tuple(there["sources"])
        if other := [name for name, value in wanted.items() if there[name] != value]:
            raise UserError(
                f"{folder} holds another check, with other {', '.join(other)}",
                "give another folder, or move this one away",
            )
        check = Check(str(folder.resolve()), **there)
        lists = [check.part(number) for number in range(check.parts)]
        if not all(path.is_file() for path in lists) or digest(map(files.sha256_file, lists)) != check.inputs:
            raise lists_changed(check)
        return check
    listed = folder / "parts"
    if strange := next((path for path in folder.glob("*") if path.name not in {"parts", BACKBONE, LOCK}), None):
        raise UserError(f"{folder} holds other files, such as {strange}", "give a folder that does not exist yet")
    hashes = []
    for part in sources.parts(wanted["sources"]):
        content = parquet({LOCATION: [names.storable(place) for place in part]}, {})
        hashes.append(hashlib.sha256(content).hexdigest())
        files.write_bytes(listed / f"{len(hashes) - 1:08d}.parquet", content)
    if features:
        files.write_bytes(folder / BACKBONE, features.path.read_bytes())
    check = Check(str(folder.resolve()), **wanted, parts=len(hashes), inputs=digest(hashes))
    described = {name: value for name, value in dataclasses.asdict(check).items() if name != "folder"}
    integrity.write_record(description, described)
    return check


def _described(path: Path) -> dict[str, Any]:
    """Return the description of a check. Raises UserError for a damaged one."""
    with contextlib.suppress(OSError, ValueError):
        there: dict[str, Any] = json.loads(path.read_bytes())
        # Checks of earlier versions have no checksum; their keys must then match exactly.
        if there.keys() == {field.name for field in dataclasses.fields(Check)} - {"folder"}:
            return there
    return integrity.read_record(path, "bring it back from a copy, or give another folder")


def lists_changed(check: Check) -> UserError:
    """Return the error for lists of parts that have changed since the check was made."""
    return UserError(
        f"the lists in {check.folder}/parts/ have changed", "bring them back from a copy, or give another folder"
    )
