"""Checkpoints that are preconfigured by name. The module does not import torch, so listing them is fast.

A test compares licence, normalisation, image size and address with timm, if timm states them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adaptformer.base import text_table
from adaptformer.base.errors import UserError
from adaptformer.model.backbone_card import COMMERCIAL_USE

Triple = tuple[float, float, float]

_IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF: tuple[Triple, Triple] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_MAE = "https://dl.fbaipublicfiles.com/mae/pretrain/"
_THIRD_PARTY = "sha256 from third parties' pointers; the publisher prints only the first digits of the md5: "
_ON_THE_HUB = "give backbone.sha256 of its model.safetensors, as the hub shows it, or pin hub:ID@REVISION"


@dataclass(frozen=True)
class Entry:
    """A checkpoint that `backbone.checkpoint` may name by `id`; `backbone.model` must then be `model`.

    `source` is an address, `hub:ID@REVISION`, or a file of this package. `sha256` is that of the file, None if it is
    not published: the user must then give it. `size` is in bytes, None if unknown. `image_size` is the side in
    pretraining, in pixels.
    """

    id: str
    model: str
    patch: int
    image_size: int
    normalisation: tuple[Triple, Triple]
    licence: str
    parameters: int
    source: str
    sha256: str | None
    size: int | None
    note: str

    @property
    def commercial_use(self) -> bool:
        """Whether the licence of the weights allows commercial use."""
        return COMMERCIAL_USE[self.licence.lower()]


def _hub(
    identifier: str, model: str, patch: int, image_size: int, normalisation: tuple[Triple, Triple], parameters: int
) -> Entry:
    """Return an Apache-2.0 entry of timm's hub, at `main`: its revisions could not be looked up during development."""
    source = f"hub:timm/{model}@main"
    return Entry(
        identifier, model, patch, image_size, normalisation,
        "apache-2.0", parameters, source, None, None, _ON_THE_HUB,
    )  # fmt: skip


ENTRIES = (
    Entry(
        "bundled", "vit_nano_patch4_32", 4, 32, ((0.4913, 0.4821, 0.4465), (0.2452, 0.2428, 0.2606)),
        "MIT", 682_272, "vit_nano_patch4_32.safetensors",
        "d7f1afd2ded1d7d0ac6ea633b6dde5530fa133ae11dbc4fb0b2ffe8ac541d042", 2_736_432,
        "MAE-pretrained by this project on CIFAR-10",
    ),
    Entry(
        "mae_vit_base", "vit_base_patch16_224.mae", 16, 224, _IMAGENET,
        "cc-by-nc-4.0", 85_798_656, _MAE + "mae_pretrain_vit_base.pth",
        "aec5f0b68e5f3193a00b07bc65a37440db549c15b36b8bea242606cc40c4bc5d", 343_249_461, _THIRD_PARTY + "8cad7c",
    ),
    Entry(
        "mae_vit_large", "vit_large_patch16_224.mae", 16, 224, _IMAGENET,
        "cc-by-nc-4.0", 303_301_632, _MAE + "mae_pretrain_vit_large.pth",
        "d2ceff4892889d0c0f5418fa8bcb02e6a25a37fc3bdc0619c3cacd7d3d05c39f", 1_213_314_565, _THIRD_PARTY + "b8b06e",
    ),
    Entry(
        "mae_vit_huge", "vit_huge_patch14_224.mae", 14, 224, _IMAGENET,
        "cc-by-nc-4.0", 630_764_800, _MAE + "mae_pretrain_vit_huge.pth",
        None, None, "sha256 not known, give backbone.sha256; the publisher prints the first digits of the md5: 9bdbb0",
    ),
    _hub("augreg_vit_tiny", "vit_tiny_patch16_224.augreg_in21k", 16, 224, _HALF, 5_524_416),
    _hub("augreg_vit_small", "vit_small_patch16_224.augreg_in21k", 16, 224, _HALF, 21_665_664),
    _hub("augreg_vit_base", "vit_base_patch16_224.augreg_in21k", 16, 224, _HALF, 85_798_656),
    _hub("dinov2_vit_small", "vit_small_patch14_reg4_dinov2.lvd142m", 14, 518, _IMAGENET, 22_057_344),
    _hub("dinov2_vit_base", "vit_base_patch14_reg4_dinov2.lvd142m", 14, 518, _IMAGENET, 86_582_016),
)  # fmt: skip


def find(identifier: str) -> Entry | None:
    """Return the entry with this id, None if there is none."""
    return next((entry for entry in ENTRIES if entry.id == identifier), None)


def allow(licence: str, allowed: Sequence[str], what: str) -> None:
    """Raise UserError, which names an alternative, unless `licence` is among `allowed`, ignoring case."""
    accepted = {name.lower() for name in allowed}
    if licence.lower() in accepted:
        return
    # Prefer a licence that allows commercial use, then the largest model.
    instead = ""
    if others := [entry for entry in ENTRIES if entry.licence.lower() in accepted]:
        other = max(others, key=lambda entry: (entry.commercial_use, entry.parameters))
        instead = f", or take {other.id} ({other.licence}) with backbone.model = {other.model}"
    raise UserError(
        f"{what} has the licence {licence}, which backbone.allowed_licences does not list",
        f"add {licence.lower()} to backbone.allowed_licences if its terms suit you{instead}",
    )


def table() -> str:
    """Return a text table of the entries, with a line of headings, followed by their notes."""
    headers = ("id", "backbone.model", "parameters", "patch", "pixels", "mean", "std", "licence", "commercial", "file")
    rows = [
        (
            entry.id,
            entry.model,
            f"{entry.parameters / 1e6:.1f} M",
            str(entry.patch),
            str(entry.image_size),
            *(" ".join(f"{value:g}" for value in triple) for triple in entry.normalisation),
            entry.licence,
            "yes" if entry.commercial_use else "no",
            "-" if entry.size is None else f"{entry.size / 1e6:.0f} MB",
        )
        for entry in ENTRIES
    ]
    notes = [f"{entry.id}: {entry.note}" for entry in ENTRIES]
    return "\n".join([text_table.aligned(rows, headers), "", *notes])
