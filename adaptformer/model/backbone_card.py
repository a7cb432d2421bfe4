"""The card of a backbone: its origin, licence, hashes and normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from adaptformer.base import schema

COMMERCIAL_USE = {"mit": True, "apache-2.0": True, "cc-by-nc-4.0": False}
"""Known licences of weights, and whether each allows commercial use."""

UNKNOWN = "unknown"
"""The licence of weights for which nobody states one. It is never guessed from the name of an architecture."""


def allows_commercial_use(licence: str) -> bool | None:
    """Return whether a licence of weights allows commercial use, or None for a licence that is not listed here."""
    return COMMERCIAL_USE.get(licence.lower())


@dataclass(frozen=True)
class BackboneCard:
    """Metadata of a backbone: origin, licence, hashes, and the normalisation used in its pretraining.

    `sha256` is that of the translated encoder tensors (`tensor_file.content_hash`), `source_sha256` that of their file.
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
        """Parse a card from its JSON form (`dataclasses.asdict`). Raises ValueError (one line) for other content."""
        return schema.parse(cls, content)
