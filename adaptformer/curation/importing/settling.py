"""The check of data/ before every command that reads it. It only tests three paths if no change was interrupted."""

from __future__ import annotations

from pathlib import Path

from adaptformer.config.run_folder import RunFolder


def settle(data: Path | None = None) -> None:
    """Complete or revert a change of data/ whose command was killed (`replacement.settle`)."""
    folder = RunFolder().data if data is None else data
    target = folder.resolve()
    left = [target.with_name(f".{target.name}.{what}") for what in ("change.json", "new")]
    if target.exists() and not any(path.exists() for path in left):
        return
    from adaptformer.curation.importing import replacement  # imports the reader of params.yaml, which takes a while

    replacement.settle(folder)
