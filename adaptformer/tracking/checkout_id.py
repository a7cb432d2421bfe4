"""The identity of this checkout: an id that it keeps when it is moved, and that no copy or clone of it has.

Records of runs on servers name its run folders by it. A path would not do: a move changes it, and two machines often
have checkouts at the same path.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import uuid
from pathlib import Path
from typing import Any

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.config.run_folder import RunFolder
from adaptformer.tracking.locations import root

log = logging.getLogger("adaptformer")

FILE = ".checkout.json"
"""The file in the root of a checkout, ignored by git, that holds the id and the folder for which it was made."""


def identity() -> str:
    """Return the id of the checkout; write the file if there is none, or if it was copied here with the checkout.

    If the file cannot be written, the id is a new one each time: no other record is then taken for the checkout's.
    """
    file = root() / FILE
    present = _folder(root())
    if (known := _known(file, present)) is not None:
        return known
    made = uuid.uuid4().hex
    try:
        files.write_json(file, {"id": made, **present})
    except UserError as error:
        log.warning("a later run cannot find this one if it is killed: %s (fix: %s)", error.cause, error.remedy)
        return made
    # Of two processes that write at the same time, the last one decides.
    return _known(file, present) or made


def place_of(folder: RunFolder) -> str:
    """Return the text by which records name one of the checkout's run folders: the id and the folder's path in it."""
    return f"{identity()}/{folder.root.as_posix()}"


def _folder(path: Path) -> dict[str, Any]:
    about = path.stat()
    return {"inode": about.st_ino, "device": about.st_dev, "host": socket.gethostname(), "path": str(path)}


def _known(file: Path, present: dict[str, Any]) -> str | None:
    """Return the id in a file if it was made for the `present` folder, else None.

    A copy on the same disk has another inode. Copies elsewhere have equal inodes by chance only, or if each is the root
    of a disk. So of device, host and path two must agree as well, not all three: a move changes the path, another
    container may have another host name, and devices may get other numbers when a machine starts.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("inode") != present["inode"]:
        return None
    alike = sum(content.get(key) == present[key] for key in ("device", "host", "path"))
    recorded_id = content.get("id")
    return (
        recorded_id
        if alike >= 2 and isinstance(recorded_id, str) and re.fullmatch(r"[0-9a-f]{32}", recorded_id)
        else None
    )
