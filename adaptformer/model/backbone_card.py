"""The card of a backbone: where it comes from, its licence, its hashes and its normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from adaptformer import schema

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

    __pydantic_config__: ClassVar[ConfigDict] = schema.STRICT

    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]
    origin: str
    licence: str
    mean: schema.Means
    std: schema.Deviations
    note: str
    parameters: schema.Count
    sha256: schema.Sha256
    source_sha256: schema.Sha256

    @classmethod
    def from_dict(cls, content: object) -> BackboneCard:
        """Return the card of its JSON form (`dataclasses.asdict`). Raises ValueError, one line, for any other."""
        return schema.parse(cls, content)
