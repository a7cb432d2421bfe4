"""The folder of a check, and its preparation before the first part is examined.

    check.json                description of the check; written after parts/ and the backbone
    parts/00000000.parquet    the locations of each part
    backbone.safetensors      only if features are wanted
    facts/00000000.parquet    facts about a part's images (facts.py), written as a whole
    copies/                   intermediate files of the search for near duplicates (stored_index.py), removed at the end
    near_duplicates.parquet   pairs of images that seem to show the same photo
    findings.csv              the findings, one per line
    timing.json               the time and memory used

Each file is verified when it is read back, by the checksum in it or beside it (`.sha256`); an altered one is computed
again. All processes use the same path of the folder, so it is on this machine or on a shared file system.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.curation.sharded_checks import located_images
from adaptformer.data import storage
from adaptformer.data.preprocessing import ImageContract
from adaptformer.sharding import job_folder

if TYPE_CHECKING:
    from adaptformer.config.params import ImageParams
    from adaptformer.config.run_folder import RunFolder

BACKBONE = "backbone.safetensors"
COPIES, NEAR_DUPLICATES, FINDINGS, TIMING = "copies", "near_duplicates.parquet", "findings.csv", "timing.json"


@dataclass(frozen=True)
class Features:
    """The wanted features: those of the backbone in `path`, with an image contract as JSON."""

    path: Path
    contract: str


@dataclass(frozen=True, kw_only=True)
class Check(job_folder.Job):
    """The description of a check, whose shards are called parts.

    `backbone` is the hash of the backbone file whose features are wanted, and `contract` its image contract as JSON;
    both are empty if no features are wanted.
    """

    backbone: str
    contract: str

    kind: ClassVar[str] = "another check"
    description: ClassVar[str] = "check.json"
    lists: ClassVar[str] = "parts"
    column: ClassVar[str] = "location"
    stored_names: ClassVar[Mapping[str, str]] = {"shards": "parts"}

    def facts(self, number: int) -> Path:
        """Return the file with the facts about a part's images."""
        return Path(self.file(f"facts/{number:08d}.parquet"))


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

    Raises UserError as `job_folder.Job.prepare` does, and for sources without images.
    """
    absolute = [storage.absolute(source) for source in given]
    copied = {BACKBONE: features.path} if features else {}
    backbone, contract = (files.sha256_file(features.path), features.contract) if features else ("", "")
    place, parts = storage.absolute(str(folder)), located_images.parts(absolute)
    return Check.prepare(place, absolute, parts, copied, backbone=backbone, contract=contract)
