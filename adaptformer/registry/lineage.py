"""Lineage, read from the registry: which versions have seen an image, and what a version was made from."""

from __future__ import annotations

import re
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from adaptformer.base import files, text_table
from adaptformer.base.errors import UserError
from adaptformer.data import manifest as manifests
from adaptformer.data.layout import SPLITS
from adaptformer.registry import alias_journal, versions
from adaptformer.tracking import mlflow_store
from adaptformer.tracking.mlflow_run import DATA_TAG
from adaptformer.tracking.run_files import MODEL_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAGS = {
    "backbone": "backbone.model",
    "its sha256": "backbone.sha256",
    "its licence": "backbone.licence",
    "presets": "presets",
    "overrides": "overrides",
    "Prefect run": "prefect.flow_run_id",
}
"""Tags of a version, by the names shown to people."""
MEANING = {"train": "trained on", "validation": "chose the epoch", "test": "only judged"}
"""How a version used an image, by the image's split."""
UNCOMMITTED = {"true": ", with changes that were not committed"}
GATE_CHECKS = "gate.checks"
"""The table of checks as JSON; people read it on the page that `gate.page` names."""


@dataclass(frozen=True)
class Sighting:
    """A row with an image in the manifest of a version; an image under several paths has several rows."""

    model: str
    version: str
    aliases: tuple[str, ...]
    split: str
    label: str
    path: str


@dataclass(frozen=True)
class Sightings:
    """All sightings of an image, the number of versions searched, and the versions without a manifest."""

    sha256: str
    models: tuple[str, ...]
    sightings: tuple[Sighting, ...]
    searched: int
    unknown: tuple[str, ...]

    @property
    def text(self) -> str:
        """A table of the versions that have seen the image, and how they used it."""
        lines = [f"image sha256 {self.sha256}"]
        if self.sightings:
            headers = ("model", "version", "aliases", "split", "meaning", "label", "path")
            rows = [
                (one.model, one.version, ", ".join(one.aliases), one.split, MEANING[one.split], one.label, one.path)
                for one in self.sightings
            ]
            lines.append(text_table.aligned(rows, headers))
        else:
            lines.append(
                f"no version of {', '.join(self.models) or 'any model'} has seen it ({self.searched} searched)"
            )
        if self.unknown:
            lines.append(f"unknown, because no manifest is kept: {', '.join(self.unknown)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Origin:
    """Origin of a version as pairs of name and value, and the moves that made it champion or replaced it."""

    model: str
    version: str
    facts: tuple[tuple[str, str], ...]
    moves: tuple[str, ...]

    @property
    def text(self) -> str:
        """The facts as aligned lines, and then the moves."""
        lines = [f"{self.model} version {self.version}", textwrap.indent(text_table.aligned(self.facts), "  ")]
        return "\n".join([*lines, *(f"  moved: {sentence}" for sentence in self.moves)])


def image(what: str) -> str | None:
    """Return the sha256 of the image that `what` names, by its file or by the sha256 itself.

    Return None if it names no image, but perhaps a version or an alias. Raises UserError for a path without a file.
    """
    path = Path(what).expanduser()
    if path.is_file():
        return files.sha256_file(path)
    if re.fullmatch("[0-9a-fA-F]{64}", what):
        return what.lower()
    if path.is_dir() or "/" in what or path.suffix:
        fault = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{what} {fault}", "name an image file, the sha256 of one, a version such as 3, or an alias")
    return None


def models() -> list[str]:
    """Return the names of all registered models without the journals."""
    import mlflow

    names = {registered.name for registered in mlflow.search_registered_models()}
    return sorted(names - {alias_journal.history_name(name) for name in names})


def who_saw(client: MlflowClient, names: Sequence[str], sha256: str) -> Sightings:
    """Search the manifest of every version of the models for an image, by the sha256 of its file."""
    sightings: list[Sighting] = []
    unknown = []
    searched = 0
    with tempfile.TemporaryDirectory() as temporary:
        read: dict[str, pd.DataFrame] = {}
        for name in names:
            versions.require_model(client, name)
            aliases = _aliases(client, name)
            for version in mlflow_store.versions_of(client, name):
                number = str(version.version)
                manifest = _manifest(client, version, Path(temporary), read)
                if manifest is None:
                    unknown.append(f"{name} {number}")
                    continue
                searched += 1
                for row in manifest[manifest["sha256"] == sha256].itertuples():
                    named = tuple(aliases.get(number, ()))
                    sightings.append(Sighting(name, number, named, str(row.split), str(row.label), str(row.path)))
    return Sightings(sha256, tuple(names), tuple(sightings), searched, tuple(unknown))


def origin(client: MlflowClient, name: str, which: str) -> Origin:
    """Return the origin of a version, given by its number or an alias. Raises UserError if there is no such version."""
    versions.require_model(client, name)
    aliases = _aliases(client, name)
    number = next((version for version, named in aliases.items() if which in named), which)
    if not number.isdigit():
        have = ", ".join(sorted(alias for named in aliases.values() for alias in named)) or "none"
        raise UserError(f"there is no file {which}, and {name} has no alias {which}", f"its aliases: {have}")
    versions.require_version(client, name, number)
    version = client.get_model_version(name, number)
    facts = _facts(client, version, aliases.get(number, []))
    sentences = [
        move.sentence
        for move in alias_journal.valid(alias_journal.read(client, name))
        if move.before.champion != move.after.champion and number in {move.before.champion, move.after.champion}
    ]
    return Origin(name, number, tuple((what, value) for what, value in facts if value), tuple(sentences))


def _facts(client: MlflowClient, version: Any, aliases: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of name and value, "" if the version has no such value."""
    tags = version.tags
    with tempfile.TemporaryDirectory() as temporary:
        manifest = _manifest(client, version, Path(temporary), {})
    yield "aliases", ", ".join(aliases)
    yield "git commit", tags.get("git.commit", "") + UNCOMMITTED.get(tags.get("git.dirty"), "")
    yield "data", tags.get(DATA_TAG, "")
    counts = [] if manifest is None else [f"{len(manifests.rows(manifest, split))} {split}" for split in SPLITS]
    yield "images", ", ".join(counts) or "no manifest is kept"
    yield from ((name, tags.get(tag, "")) for name, tag in TAGS.items())
    top1 = client.get_run(version.run_id).data.metrics.get("test_top1") if version.run_id else None
    yield "MLflow run", version.run_id or ""
    yield "top1", "" if top1 is None else f"{top1:.4f}"
    yield "model sha256", tags.get(MODEL_TAG, "")
    yield from ((key, tags[key]) for key in sorted(tags) if key.startswith("gate.") and key != GATE_CHECKS)


def _manifest(client: MlflowClient, version: Any, into: Path, read: dict[str, pd.DataFrame]) -> pd.DataFrame | None:
    """Return a version's manifest, None if its run has none; one that is in `read` is not downloaded again."""
    key = version.tags.get("manifest.sha256") or f"run {version.run_id}"
    if key not in read:
        path = versions.evidence(client, version, "manifest", into)
        if path is None:
            return None
        read[key] = manifests.read_stored(path, manifests.REGISTER)
    return read[key]


def _aliases(client: MlflowClient, name: str) -> dict[str, list[str]]:
    """Return the aliases of each version that has one."""
    aliases: dict[str, list[str]] = {}
    for alias, version in sorted(client.get_registered_model(name).aliases.items()):
        aliases.setdefault(str(version), []).append(alias)
    return aliases
