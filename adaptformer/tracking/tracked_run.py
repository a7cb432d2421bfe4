"""One tracked run, from its beginning to its end, and its name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from adaptformer import files
from adaptformer.params import Params
from adaptformer.run_folder import RunFolder
from adaptformer.tracking import dvc_repository
from adaptformer.tracking.git import git_state
from adaptformer.tracking.tracker import Tracker


def name(params: Params) -> str:
    """Return the name of a run that begins now: the model's and the commit's."""
    return f"{params.registry.model}-{git_state().short}"


@contextlib.contextmanager
def tracked(
    params: Params, changed: Mapping[str, Any], folder: RunFolder, tags: Mapping[str, str]
) -> Iterator[Tracker]:
    """Yield the tracker of a run in `folder`, and close its MLflow run as the body ends: finished, failed or killed.

    `changed` are the values, by dotted key, in which `params` differ from params.yaml. Those of `tags`
    that are not empty join the lineage.
    """
    lineage = {
        "data.dvc": dvc_repository.data_digest() or "none",
        **git_state().tags,
        **{key: value for key, value in tags.items() if value},
    }
    if changed:
        lineage["overrides"] = files.canonical_json(dict(changed))
    tracker = Tracker(name(params), params, lineage, folder)
    tracker.upload_waiting()
    try:
        yield tracker
    except Exception:
        tracker.finish("FAILED")
        raise
    except BaseException:
        tracker.finish("KILLED")
        raise
    tracker.finish("FINISHED")
