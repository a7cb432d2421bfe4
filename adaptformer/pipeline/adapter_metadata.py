"""Metadata of an adapter file, read without torch, whose import takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adaptformer.base import array_file


def card(path: Path) -> dict[str, Any]:
    """Return an adapter file's metadata. Raises UserError if the file was altered or is damaged."""
    return array_file.read_metadata(path, "train again: `adaptformer train`")
