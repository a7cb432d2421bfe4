"""The catalogue: exact checkpoint files by name. The module does not import torch, so listing them is fast.

None of these files could be downloaded during development. Revisions, hashes and sizes come from public projects that
pin them; a note names each that fewer than two independent projects state. A test compares licence, normalisation,
image size and repository with timm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adaptformer.backbones import download, hub
from adaptformer.base import text_table
from adaptformer.base.errors import UserError
from adaptformer.model.backbone_card import COMMERCIAL_USE, UNKNOWN

Triple = tuple[float, float, float]

_IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF: tuple[Triple, Triple] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_MAE = "https://dl.fbaipublicfiles.com/mae/pretrain/"


@dataclass(frozen=True)
class Entry:
    """A checkpoint that `backbone.checkpoint` may name by `id`; `backbone.model` must then be `model`.

    `source` is an address, `hub:REPOSITORY@COMMIT`, or a file of this package; `sha256` is that of the file, `size` its
    bytes, None if unknown. `image_size` is the side in pretraining, in pixels.
    """

    id: str
    model: str
    patch: int
    image_size: int
    normalisation: tuple[Triple, Triple]
    licence: str
    parameters: int
    source: str
    sha256: str
    size: int | None
    note: str = ""

    @property
    def commercial_use(self) -> bool:
        """Whether the licence of the weights allows commercial use."""
        return COMMERCIAL_USE[self.licence.lower()]

    @property
    def cached(self) -> bool:
        """Whether the file is on this machine, so that `fetch` downloads nothing."""
        if hub.is_address(self.source):
            return hub.cached(hub.parsed(self.source)) is not None
        return "://" not in self.source or download.cached(self.source, self.sha256).is_file()


ENTRIES = (
    Entry(
        "bundled", "vit_nano_patch4_32", 4, 32, ((0.4913, 0.4821, 0.4465), (0.2452, 0.2428, 0.2606)),
        "MIT", 682_272, "vit_nano_patch4_32.safetensors",
        "d7f1afd2ded1d7d0ac6ea633b6dde5530fa133ae11dbc4fb0b2ffe8ac541d042", 2_736_432,
        "MAE-pretrained by this project on CIFAR-10",
    ),
    Entry(
        "augreg_vit_tiny", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", 16, 224, _HALF, "apache-2.0", 5_524_416,
        "hub:timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k@7d3afdd0cf93ad84d986eb2d6bcc5812ebd0b106",
        "fecf81b492bd13ee7a5297cb74d1d417aac8bf7e1b7d96aed89c4691984587ed", None,
    ),
    Entry(
        "augreg_vit_small", "vit_small_patch16_224.augreg_in21k_ft_in1k", 16, 224, _HALF, "apache-2.0", 21_665_664,
        "hub:timm/vit_small_patch16_224.augreg_in21k_ft_in1k@7e2c55630205e1266030f18370f4c6ed1a514b52",
        "79c03c635cdfd798a364a9d8c4e5c0b7255b975ea2c9616046d4f77ab01435aa", 88_216_496,
    ),
    Entry(
        "augreg_vit_base", "vit_base_patch16_224.augreg2_in21k_ft_in1k", 16, 224, _HALF, "apache-2.0", 85_798_656,
        "hub:timm/vit_base_patch16_224.augreg2_in21k_ft_in1k@063c6c38a5d8510b2e57df480445e94b231dad2c",
        "32aa17d6e17b43500f531d5f6dc9bc93e56ed8841b8a75682e1bb295d722405b", 346_284_714,
    ),
    Entry(
        "dinov2_vit_small", "vit_small_patch14_dinov2.lvd142m", 14, 518, _IMAGENET, "apache-2.0", 22_056_192,
        "hub:timm/vit_small_patch14_dinov2.lvd142m@4610ca143709d58a633b6397a74412c2c3842454",
        "04d27f3400d059fc0cfd7d17dd1909a75bf3ea8fb3eeb48b97cb99e57ee20081", 88_240_510,
    ),
    Entry(
        "dinov2_vit_base", "vit_base_patch14_dinov2.lvd142m", 14, 518, _IMAGENET, "apache-2.0", 86_579_712,
        "hub:timm/vit_base_patch14_dinov2.lvd142m@4685c99dabffe5affac90bd99dbffd25801ae58d",
        "55cbb5d887b336d430e649c277b85a1429e724871f9d02ac16203235886d8c7b", 346_334_872,
    ),
    Entry(
        "dinov2_registers_vit_base", "vit_base_patch14_reg4_dinov2.lvd142m", 14, 518, _IMAGENET, "apache-2.0",
        86_582_016, "hub:timm/vit_base_patch14_reg4_dinov2.lvd142m@3b06466a5548c52b8b98822e1390987695fcbf82",
        "c24ecfb4a1d8ca79193f6b9efcffc461872a09ddac43a0931357e4802931a006", 346_344_168,
        "four register tokens; one project alone states the revision",
    ),
    Entry(
        "dinov2_vit_large", "vit_large_patch14_dinov2.lvd142m", 14, 518, _IMAGENET, "apache-2.0", 304_367_616,
        "hub:timm/vit_large_patch14_dinov2.lvd142m@4741e1cafbf45415e77074bb0cb42dba76c8684a",
        "0424a5d1b515278cba3c6640ccbeaacc41de59d3a93df0dd5e494285eea2b355", 1_217_502_758,
    ),
    Entry(
        "mae_vit_base", "vit_base_patch16_224.mae", 16, 224, _IMAGENET, "cc-by-nc-4.0", 85_798_656,
        _MAE + "mae_pretrain_vit_base.pth",
        "aec5f0b68e5f3193a00b07bc65a37440db549c15b36b8bea242606cc40c4bc5d", 343_249_461,
        "the publisher prints the first digits of the md5: 8cad7c",
    ),
    Entry(
        "mae_vit_base_hub", "vit_base_patch16_224.mae", 16, 224, _IMAGENET, "cc-by-nc-4.0", 85_798_656,
        "hub:facebook/vit-mae-base@25b184bea5538bf5c4c852c79d221195fdd2778d",
        "479dcef4bd5df06259399027b789f21e9d9a1b79f37155a64176d55bc26fdae8", 447_670_680,
        "with the decoder; its page says Apache-2.0, but the authors' own terms are CC-BY-NC-4.0",
    ),
    Entry(
        "mae_vit_large", "vit_large_patch16_224.mae", 16, 224, _IMAGENET, "cc-by-nc-4.0", 303_301_632,
        _MAE + "mae_pretrain_vit_large.pth",
        "d2ceff4892889d0c0f5418fa8bcb02e6a25a37fc3bdc0619c3cacd7d3d05c39f", 1_213_314_565,
        "not confirmed: one project alone states the sha256; the publisher prints the first digits of the md5: b8b06e",
    ),
)  # fmt: skip


def find(identifier: str) -> Entry | None:
    """Return the entry with this id, None if there is none."""
    return next((entry for entry in ENTRIES if entry.id == identifier), None)


def of_file(sha256: str | None) -> Entry | None:
    """Return the entry whose file has this hash, None if there is none."""
    return next((entry for entry in ENTRIES if entry.sha256 == sha256), None)


def of_repository(repository: str) -> Entry | None:
    """Return an entry whose file lies in this repository of the hub, None if there is none."""
    of_hub = (entry for entry in ENTRIES if hub.is_address(entry.source))
    return next((entry for entry in of_hub if hub.parsed(entry.source).repository == repository), None)


def allow(licence: str, allowed: Sequence[str], what: str) -> None:
    """Raise UserError, which names an alternative, unless `licence` is among `allowed`, ignoring case."""
    accepted = {name.lower() for name in allowed}
    if licence.lower() in accepted:
        return
    if licence == UNKNOWN:
        raise UserError(
            f"the licence of {what} is unknown, which backbone.allowed_licences does not list",
            "set backbone.licence to the licence that the publisher of these weights states, such as apache-2.0",
        )
    # Prefer a licence that allows commercial use, then the largest model of at most a ViT-B's size.
    instead = ""
    if others := [entry for entry in ENTRIES if entry.licence.lower() in accepted]:
        other = max(others, key=lambda entry: (entry.commercial_use, entry.parameters < 1e8, entry.parameters))
        instead = f", or take {other.id} ({other.licence}) with backbone.model = {other.model}"
    raise UserError(
        f"{what} has the licence {licence}, which backbone.allowed_licences does not list",
        f"add {licence.lower()} to backbone.allowed_licences if its terms suit you{instead}",
    )


def table() -> str:
    """Return a text table of the entries, with a line of headings, followed by their notes."""
    headers = (
        "id", "backbone.model", "parameters", "patch", "pixels", "mean", "std",
        "licence", "commercial", "size", "cached",
    )  # fmt: skip
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
            "-" if entry.size is None else f"{entry.size / 1e6:,.0f} MB",
            "yes" if entry.cached else "no",
        )
        for entry in ENTRIES
    ]
    notes = [f"{entry.id}: {entry.note}" for entry in ENTRIES if entry.note]
    return "\n".join([text_table.aligned(rows, headers), "", *notes])
