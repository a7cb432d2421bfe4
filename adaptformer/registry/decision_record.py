"""Records of the gate's decisions, kept with the version that they judge, for programs and for people."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.gate.decision import Decision
from adaptformer.tracking import mlflow_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


TEST_DIGEST = "gate.test_digest"
"""Tag of a version: the digest of the test images that its decision is based on (Candidate.test_digest)."""

MARK = "**The gate:**"
"""Follows the sentence in the gate's part of a version's description: MLflow's list shows the beginning."""


@dataclass(frozen=True)
class Kept:
    """The place of a kept decision: the sha256 of its JSON, and the address of its page within MLflow's pages."""

    sha256: str
    link: str


def earlier_looks(client: MlflowClient, name: str, version: str, test_digest: str) -> int:
    """Return how many other versions were compared with a champion on the test images of this digest."""
    decided = client.search_model_versions(
        f"name = {mlflow_store.quoted(name)} and tag.`{TEST_DIGEST}` = '{test_digest}'"
    )
    return sum(str(other.version) != version and other.tags.get("gate.champion") != "none" for other in decided)


def keep(
    client: MlflowClient, name: str, decision: Decision, page: str, test_digest: str, *, who: str, why: str
) -> Kept:
    """Keep a decision with its version: JSON and page as files of its run, the table and the sentence as tags.

    The version's description, which MLflow's pages show, holds the sentence and a link to the page.
    """
    version = decision.challenger
    registered = client.get_model_version(name, version)
    run_id = registered.run_id
    if run_id is None:
        raise UserError(f"{name} version {version} belongs to no MLflow run", "choose a version of this project")
    run = client.get_run(run_id).info
    when = files.utc_now()
    folder = f"decisions/{when.replace(':', '')}"
    content = json.dumps({**decision.to_dict(), "who": who, "why": why, "when": when}, indent=2, ensure_ascii=False)
    client.log_text(run.run_id, content, f"{folder}/decision.json")
    client.log_text(run.run_id, page, f"{folder}/decision.html")
    kept = Kept(files.sha256_text(content), mlflow_store.page_of(run, f"{folder}/decision.html"))
    tags = {
        "gate.decision": "passed" if decision.promoted else "refused",
        "gate.sentence": decision.sentence,
        "gate.champion": decision.champion or "none",
        TEST_DIGEST: test_digest,
        "gate.checks": files.canonical_json(decision.to_dict()["checks"]),
        "gate.page": f"{folder}/decision.html",
        "gate.sha256": kept.sha256,
        "gate.when": when,
        "gate.who": who,
    }
    _describe(client, registered, decision.sentence, f"[the decision, with images]({kept.link})")
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    return kept


def read(client: MlflowClient, name: str, version: str, sha256: str) -> tuple[Decision, str, Kept]:
    """Return the decision that is kept with a version, its page, and its place.

    Raises UserError if the decision does not have this `sha256`.
    """
    model_version = client.get_model_version(name, version)
    run_id = str(model_version.run_id)
    path = str(model_version.tags.get("gate.page", ""))
    with tempfile.TemporaryDirectory() as folder:
        texts = [
            Path(client.download_artifacts(run_id, place, folder)).read_bytes().decode()
            for place in (f"{path.rpartition('/')[0]}/decision.json", path)
        ]
    if files.sha256_text(texts[0]) != sha256:
        raise UserError(
            f"the decision about version {version} of {name} is not the one that promoted it",
            "see `adaptformer history`; the version stays in use",
        )
    content = json.loads(texts[0])
    known = {one.name for one in dataclasses.fields(Decision)}
    decision = TypeAdapter(Decision).validate_python({key: content[key] for key in content if key in known})
    return decision, texts[1], Kept(sha256, mlflow_store.page_of(client.get_run(run_id).info, path))


def overtaken(client: MlflowClient, name: str, version: str, cause: str) -> None:
    """Record with a version that it passed the gate, but was not promoted because another move came first."""
    registered = client.get_model_version(name, version)
    sentence = f"It passed the gate, but was not put to use: {cause}"
    _describe(client, registered, sentence, "passed, but overtaken")
    client.set_model_version_tag(name, version, "gate.decision", "overtaken")
    client.set_model_version_tag(name, version, "gate.sentence", sentence)


def _describe(client: MlflowClient, version: ModelVersion, sentence: str, more: str) -> None:
    """Put the gate's text at the end of a version's description, in place of an earlier one; other text stays.

    The earlier text begins with its sentence, which is a tag, or with the mark. Call this before the tag changes.
    """
    own = version.description or ""
    for begin in (version.tags.get("gate.sentence"), sentence, MARK):
        own = own.partition(begin)[0] if begin else own
    text = f"{own.rstrip()}\n\n{sentence}\n\n{MARK} {more}".lstrip()
    client.update_model_version(version.name, str(version.version), text)
