"""An adapter file's card, read without torch, which takes seconds to import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open


def card(path: Path) -> dict[str, Any]:
    """Return an adapter file's metadata."""
    with safe_open(path, framework="np") as file:
        content: dict[str, Any] = json.loads(file.metadata()["adaptformer"])
    return content
