"""An adapter file's card, read without torch, which takes seconds to import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adaptformer import array_file


def card(path: Path) -> dict[str, Any]:
    """Return an adapter file's metadata. Raises UserError for a file that was altered or is damaged."""
    return array_file.read_metadata(path, "train again: `adaptformer train`")
