"""Files of the Hugging Face hub, where timm's weights lie."""

from __future__ import annotations

import re
from pathlib import Path

from adaptformer.errors import UserError

PREFIX = "hub:"
_FILE = "model.safetensors"


def parse(checkpoint: str) -> tuple[str, str]:
    """Return repository and revision of `hub:ID@REVISION`; an ID without an owner is timm's."""
    name, _, revision = checkpoint.removeprefix(PREFIX).partition("@")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or not re.fullmatch(r"[\w.-]+", revision):
        raise UserError(
            f"backbone.checkpoint = {checkpoint} is no pinned hub address",
            f"write {PREFIX}ID@REVISION, where REVISION is the commit's 40 hexadecimal digits",
        )
    return (name if "/" in name else f"timm/{name}"), revision


def is_pinned(revision: str) -> bool:
    """Return whether a revision is a commit, which cannot change, and not a branch or tag."""
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def fetch(repository: str, revision: str) -> Path:
    """Return the path of the repository's safetensors file in the hub's own cache, downloaded if need be.

    Raises UserError without a network, in offline mode, and for files that the hub lacks or withholds. The hub
    was not reachable where this was developed: tests replace the download itself.
    """
    from huggingface_hub import errors, hf_hub_download

    where = f"{repository}@{revision}"
    try:
        return Path(hf_hub_download(repository, _FILE, revision=revision))
    except errors.GatedRepoError as error:
        raise UserError(
            f"the hub gives {where} only to those who accepted its terms", "accept them there, then `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"the hub has no {repository}", "correct the id in backbone.checkpoint") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{repository} has no revision {revision}", "take one from its history on the hub") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise UserError(
            f"the hub cannot be reached for {where}, and its cache here does not hold it",
            "check the network and HF_HUB_OFFLINE; or get the file elsewhere and set backbone.checkpoint to its path",
        ) from error
    except errors.EntryNotFoundError as error:
        raise UserError(f"{where} has no {_FILE}", "choose a repository that has one, as timm's do") from error
    except Exception as error:  # its HTTP library's own, which change between versions
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"{where} could not be fetched from the hub: {reason}", "run the same command again") from error
