"""The card of a backbone: where it comes from, its licence, its hashes and its normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

COMMERCIAL_USE = {"mit": True, "apache-2.0": True, "cc-by-nc-4.0": False}
"""Whether a licence of weights allows commercial use, for the licences known here."""


def allows_commercial_use(licence: str) -> bool | None:
    """Tell whether a licence of weights allows commercial use; None for one that is not known here."""
    return COMMERCIAL_USE.get(licence.lower())


@dataclass(frozen=True)
class BackboneCard:
    """What is known of a backbone: origin, licence, hashes, and the normalisation that it was pretrained with.

    `sha256` is over the translated encoder tensors (`tensor_file.content_hash`), `source_sha256` over their file.
    """

    model: str
    origin: str
    licence: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    note: str
    parameters: int
    sha256: str
    source_sha256: str

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> BackboneCard:
        """Return the card of its JSON form (`dataclasses.asdict`)."""
        return cls(**{**content, "mean": tuple(content["mean"]), "std": tuple(content["std"])})
