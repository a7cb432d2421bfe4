"""The values of a run outside of a checkout: the defaults of params.yaml, a backbone's, and those of the call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptformer import presets as presets_by_name
from adaptformer.api.backbone_names import backbone_overrides
from adaptformer.base.errors import UserError
from adaptformer.config import params
from adaptformer.config.params import Params, ParamsFile
from adaptformer.project import sources


def defaults() -> Path:
    """Return the file with the default of every value: that of the installed package, or of the checkout."""
    return sources.source("params.yaml")


@dataclass(frozen=True)
class Values:
    """The values of a call: the file of defaults, what the backbone and presets say instead, and what the call says."""

    file: ParamsFile
    chosen: Mapping[str, object]
    given: Mapping[str, object]

    def params(self, decided: Mapping[str, object] | None = None) -> Params:
        """Return the params; `decided` are values that an import found, which those of the call replace.

        Raises UserError for a key that does not exist and a value that is not allowed.
        """
        return self.file.replaced({**self.chosen, **(decided or {}), **self.given})


def resolved(
    backbone: str | None = None,
    epochs: int | None = None,
    overrides: Mapping[str, object] | None = None,
    presets: Sequence[str] = (),
) -> Values:
    """Return the values of a call: the defaults, then those of its backbone, its presets, and its own.

    Raises UserError for an unknown backbone or preset, and for epochs that are given twice.
    """
    given = dict(overrides or {})
    if backbone is not None and backbone.startswith("file:") and "backbone.model" not in given:
        raise UserError(
            f"the backbone {backbone} is a file, which does not tell its architecture",
            "give it as well, by its name in timm: backbone.model=vit_base_patch16_224.mae",
        )
    if epochs is not None and given.setdefault("training.epochs", epochs) != epochs:
        raise UserError(
            f"epochs={epochs} and training.epochs={given['training.epochs']} contradict each other", "give one of them"
        )
    of_backbone = {} if backbone is None else backbone_overrides(backbone)
    return Values(params.read(defaults()), {**of_backbone, **presets_by_name.overlay(presets)}, given)
