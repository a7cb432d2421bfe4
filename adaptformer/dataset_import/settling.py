"""The look at data/ before every command that reads it; it costs two names where no change was interrupted."""

from __future__ import annotations

from pathlib import Path

from adaptformer.run_folder import RunFolder


def settle(data: Path | None = None) -> None:
    """Complete or take back a change of data/ whose command was killed (`replacement.settle`)."""
    folder = RunFolder().data if data is None else data
    target = folder.resolve()
    if target.exists() and not target.with_name(f".{target.name}.change.json").exists():
        return
    from adaptformer.dataset_import import replacement  # with what reads params.yaml, which takes a while

    replacement.settle(folder)
